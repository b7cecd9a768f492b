"""SAM-Adapter (Chen et al. 2023, "SAM Fails to Segment Anything?"): a SAM with adapters.

Before every block i of the frozen image encoder, a prompt is added to its tokens:
``P_i = MLP_up(GELU(MLP_tune_i(F_pe + F_hfc)))``. F_pe is a linear map of the patch embeddings,
F_hfc a patch embedding of the image without its low frequencies; every block has a MLP_tune of
its own, MLP_up is shared. The mask decoder is trained with them and gets no prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.sam.sam_model import decode

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER, DECODER = "adapter.", "mask_decoder."
"""What the names of the tensors that are trained begin with."""


@dataclass(frozen=True, slots=True)
class AdaptedSam:
    """A SAM whose image encoder has adapters.

    Attributes:
        model: a `SamModel`.
        layers: of the adapters, from `adapter_layers`.
        low_frequencies: share of the image's spectrum, around its centre, that the
            high-frequency components lack.
    """

    model: Any
    layers: Any
    low_frequencies: float

    def answer(self, pixels: "Tensor") -> "tuple[Tensor, Tensor]":
        """The one mask of each image.

        Args:
            pixels: ``(n, 3, s, s) float32``, squeezed and normalised (`pixels`).

        Returns:
            Logits ``(n, m, m)`` and predicted IoU ``(n,)``, both float32, the latter not clipped to
            [0, 1]; m is `mask_side`.
        """
        encoder = self.model.vision_encoder
        tokens = encoder.patch_embed(pixels)
        prompts = self._prompts(pixels, tokens)
        if encoder.pos_embed is not None:
            tokens = tokens + encoder.pos_embed
        for block, prompt in zip(encoder.layers, prompts, strict=True):
            tokens = block(tokens + prompt)
        logits, scores = decode(self.model, encoder.neck(tokens), several=False)
        return logits[:, 0], scores[:, 0]

    def freeze(self) -> None:
        """Leaves gradients to what is trained alone."""
        self.model.requires_grad_(False)
        for weight in self.trained().values():
            weight.requires_grad_(True)

    def trained(self) -> "dict[str, Tensor]":
        """Name -> tensor of the adapters and of the mask decoder, not copied."""
        return {
            **{ADAPTER + name: tensor for name, tensor in self.layers.named_parameters()},
            **{
                DECODER + name: tensor
                for name, tensor in self.model.mask_decoder.named_parameters()
            },
        }

    def _prompts(self, pixels: "Tensor", tokens: "Tensor") -> "Iterator[Tensor]":
        """``(n, g, g, d)`` for each block."""
        from torch.nn import functional

        layers = self.layers
        sharp = layers["frequencies"](high_frequencies(pixels, self.low_frequencies))
        features = layers["embedding"](tokens) + sharp.permute(0, 2, 3, 1)
        for tune in layers["tune"]:
            yield layers["up"](functional.gelu(tune(features)))


def adapter_layers(model: Any, *, reduction: int, seed: int) -> Any:
    """New adapters for a `SamModel`, on the CPU.

    The shared map is zero at first (which is ours), so that an untrained adapter leaves SAM as
    it is; the others are drawn from a normal distribution.

    Args:
        model: the SAM.
        reduction: how many times narrower than the encoder's tokens the adapters are, at most
            its width.
        seed: of the initial weights; torch's global state is left as it was.
    """
    import torch
    from torch import nn

    vision = model.config.vision_config
    wide, patch = int(vision.hidden_size), int(vision.patch_size)
    narrow = max(1, wide // reduction)
    with torch.random.fork_rng(devices=[]):  # the layers' own initial weights are replaced
        layers = nn.ModuleDict(
            {
                "embedding": nn.Linear(wide, narrow),
                "frequencies": nn.Conv2d(3, narrow, kernel_size=patch, stride=patch),
                "tune": nn.ModuleList(
                    nn.Linear(narrow, narrow) for _ in range(int(vision.num_hidden_layers))
                ),
                "up": nn.Linear(narrow, wide),
            }
        )
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in layers.named_parameters():
            if name.startswith("up.") or weight.dim() == 1:
                weight.zero_()
            else:
                weight.normal_(std=weight[0].numel() ** -0.5, generator=rng)
    return layers


def high_frequencies(pixels: "Tensor", share: float) -> "Tensor":
    """An image without its low frequencies, and without sign.

    Args:
        pixels: ``(n, 3, s, s) float32``.
        share: of the spectrum's area, the square around its centre that is taken out.

    Returns:
        ``(n, 3, s, s) float32`` of 0 and more.
    """
    import torch

    frequencies = torch.fft.fftfreq(pixels.shape[-1], device=pixels.device).abs()
    low = frequencies < share**0.5 / 2
    spectrum = torch.fft.fft2(pixels).masked_fill(low[:, None] & low, 0)
    sharp: Tensor = torch.fft.ifft2(spectrum).real.abs()
    return sharp
