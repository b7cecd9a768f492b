"""The model that the training of sam2-lite starts from."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.sam import sam2

if TYPE_CHECKING:
    from torch import Generator, Tensor

_LIKENESS = 1.6
"""Gain of the projections whose queries and keys are alike at first."""

_SCALES = (0.3, 1.6)
"""Least and greatest of the frequencies of a place, in units of the package's one scale."""


def initial_model(seed: int) -> Any:
    """A `SAM2Base` of size `lite` with the weights that the training starts from.

    Its trunk is random, too: `sam.sam2_lite.load_trunk` loads it.

    Raises:
        ConfigError: the sam2 package is not there.
    """
    import torch

    model = sam2.random_model("lite", seed=seed)
    rng = torch.Generator().manual_seed(seed)
    transformer = model.sam_mask_decoder.transformer
    _attend_to_alike(transformer.final_attn_token_to_image, rng)
    for layer in transformer.layers:
        _attend_to_alike(layer.cross_attn_token_to_image, rng)
        _attend_to_alike(layer.cross_attn_image_to_token, rng)
    # The package draws all frequencies at one scale; a small image needs coarse and fine ones.
    frequencies = model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    coarse, fine = _SCALES
    frequencies *= torch.logspace(math.log10(coarse), math.log10(fine), frequencies.shape[1])
    return model


def _attend_to_alike(attention: Any, rng: "Generator") -> None:
    """Equal projections of queries and keys, so that a click finds its place in the image.

    It then does so from the first step on; independent projections take most of a run to learn it.
    """
    from torch import nn

    query, key = attention.q_proj, attention.k_proj
    nn.init.orthogonal_(query.weight.detach(), gain=_LIKENESS, generator=rng)
    key.weight.detach().copy_(query.weight.detach())
    for projection in (query, key):
        projection.bias.detach().zero_()


def attend_exactly(model: Any) -> None:
    """Attention in float32 also under autocast: its backward pass in bfloat16 is slow on a CPU."""
    for module in model.sam_mask_decoder.transformer.modules():
        if hasattr(module, "q_proj"):
            module.forward = partial(_attend, module)


def _attend(attention: Any, q: "Tensor", k: "Tensor", v: "Tensor") -> "Tensor":
    """What `sam2.modeling.sam.transformer.Attention.forward` computes."""
    import torch
    from torch.nn import functional

    projections = (attention.q_proj(q), attention.k_proj(k), attention.v_proj(v))
    q, k, v = (
        x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2).float() for x in projections
    )
    with torch.autocast("cpu", enabled=False):
        read = functional.scaled_dot_product_attention(q, k, v)
    result: Tensor = attention.out_proj(read.transpose(1, 2).flatten(2))
    return result
