"""SAM 2's mask decoder for many prompts on one image: its weights, its results, less work.

The package's decoder (`sam2.modeling.sam.mask_decoder`) copies the n image tokens for every
prompt and projects them ten times over. Here a product with the image is reordered so that the
projection falls on the few prompt tokens instead, ``(x W^T) q = x (W^T q)``; what does not
depend on the prompt is multiplied once for all of them; and a mask is drawn only after its
predicted IoU is known. Nothing is approximated: the results differ by rounding.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """One encoded image as the decoder reads it, n = g * g tokens in row-major order.

    Attributes:
        tokens: ``(n, c)``, the coarsest level, a token for 16 x 16 pixels.
        half: ``(n, 4, c / 4)``, the next level, the 2 x 2 cells of each token.
        quarter: ``(n, 4, 4, c / 8)``, the finest level, the 2 x 2 cells of each of those.
    """

    tokens: "Tensor"
    half: "Tensor"
    quarter: "Tensor"


@dataclass(frozen=True, slots=True)
class Sketches:
    """Masks of p prompts, judged but not yet drawn.

    Attributes:
        image: ``(p, n, c)``, the image's tokens after they attended to the prompt's.
        masks: ``(p, 3, c / 8)``, the weights that turn pixels into each mask's logits.
        score: ``(p, 3) float32``, predicted IoU.
    """

    image: "Tensor"
    masks: "Tensor"
    score: "Tensor"

    def __getitem__(self, index: "Tensor") -> "Sketches":
        """The sketches of some of the prompts."""
        return Sketches(self.image[index], self.masks[index], self.score[index])


class PromptDecoder:
    """The mask decoder of a `SAM2Base` that uses high-resolution features, as all sizes do.

    Args:
        model: the `SAM2Base`, on its device, in evaluation mode.
        dtype: of the image's side of the arithmetic; the prompts' side stays float32.
    """

    def __init__(self, model: Any, *, dtype: "torch.dtype") -> None:
        self._decoder = model.sam_mask_decoder
        self._dtype = dtype
        position = model.sam_prompt_encoder.get_dense_pe()
        self._position = position[0].flatten(1).mT.contiguous().to(dtype)
        self._no_mask = model.sam_prompt_encoder.no_mask_embed.weight

    def image_tokens(self, levels: list["Tensor"]) -> ImageTokens:
        """Arranges one image's feature maps for `attend` and `draw`.

        Args:
            levels: ``(c / 8, 4g, 4g)``, ``(c / 4, 2g, 2g)`` and ``(c, g, g)``, as
                `SAM2Base.forward_image` projects them.
        """
        quarter, half, whole = (level.to(self._dtype) for level in levels)
        side = whole.shape[-1]
        quarter = quarter.reshape(-1, side, 2, 2, side, 2, 2).permute(1, 4, 2, 5, 3, 6, 0)
        half = half.reshape(-1, side, 2, side, 2).permute(1, 3, 2, 4, 0)
        return ImageTokens(
            tokens=whole.flatten(1).mT.contiguous() + self._no_mask.to(self._dtype),
            half=half.flatten(2, 3).flatten(0, 1).contiguous(),
            quarter=quarter.flatten(4, 5).flatten(2, 3).flatten(0, 1).contiguous(),
        )

    def attend(self, image: ImageTokens, prompts: "Tensor") -> Sketches:
        """Lets prompts and image attend to each other (SAM's two-way transformer).

        Args:
            image: from `image_tokens`.
            prompts: ``(p, t, c) float32``, sparse prompt embeddings.
        """
        import torch

        decoder, transformer = self._decoder, self._decoder.transformer
        own = [decoder.iou_token.weight, decoder.mask_tokens.weight]
        if decoder.pred_obj_scores:
            own.insert(0, decoder.obj_score_token.weight)
        own_tokens = torch.cat(own).expand(len(prompts), -1, -1)
        start = torch.cat([own_tokens, prompts], dim=1)

        tokens, pixels = start, image.tokens
        for layer in transformer.layers:
            if layer.skip_first_layer_pe:
                tokens = layer.norm1(layer.self_attn(tokens, tokens, tokens))
            else:
                query = tokens + start
                tokens = layer.norm1(tokens + layer.self_attn(query, query, tokens))
            placed = pixels + self._position
            read = _read(layer.cross_attn_token_to_image, tokens + start, placed, pixels)
            tokens = layer.norm2(tokens + read)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            pixels = _write(layer.cross_attn_image_to_token, tokens + start, tokens, placed, pixels)
            pixels = _normalise(pixels, layer.norm4)
        read = _read(
            transformer.final_attn_token_to_image, tokens + start, pixels + self._position, pixels
        )
        tokens = transformer.norm_final_attn(tokens + read)

        iou_token, *mask_tokens = tokens[:, len(own) - 2 :].unbind(1)[: 1 + decoder.num_mask_tokens]
        score = decoder.iou_prediction_head(iou_token)
        networks = decoder.output_hypernetworks_mlps
        masks = [network(token) for network, token in zip(networks, mask_tokens, strict=True)]
        # Mask 0 is for prompts of several points; a single point means one of the other three.
        return Sketches(image=pixels, masks=torch.stack(masks[1:], dim=1), score=score[:, 1:])

    def draw(self, image: ImageTokens, sketches: Sketches) -> "Tensor":
        """The masks' logits at a quarter of the model's image size, ``(p, 3, 4g, 4g) float32``."""
        from torch.nn import functional

        first, norm, activation, second, _ = self._decoder.output_upscaling
        cells = _upscale(sketches.image, first, image.half)
        cells = activation(_normalise(cells, norm))
        cells = functional.gelu(_upscale(cells, second, image.quarter))
        logits = cells.flatten(1, 3) @ sketches.masks.mT.to(cells.dtype)
        count, _, masks = logits.shape
        side = math.isqrt(len(image.tokens))
        logits = logits.view(count, side, side, 2, 2, 2, 2, masks).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return logits.reshape(count, masks, 4 * side, 4 * side).float()


def _read(attention: Any, queries: "Tensor", placed: "Tensor", pixels: "Tensor") -> "Tensor":
    """Prompt tokens attend to image tokens.

    Args:
        attention: the module with its four projections.
        queries: ``(p, t, c) float32``.
        placed: ``(n, c)`` or ``(p, n, c)``, the image tokens with their position: the keys.
        pixels: the same without position: the values.

    Returns:
        ``(p, t, c) float32``.
    """
    import torch

    heads = attention.num_heads
    query = attention.q_proj(queries).view(*queries.shape[:2], heads, -1)
    query = query / math.sqrt(query.shape[-1])
    # The keys' bias adds the same to all scores of a query, which softmax ignores.
    query = torch.einsum("pthd,hdc->phtc", query, _by_head(attention.k_proj.weight, heads))
    weights = (query.flatten(1, 2).to(placed.dtype) @ placed.mT).softmax(-1)
    value = (weights @ pixels).to(queries.dtype).view_as(query)
    value = torch.einsum("phtc,hdc->pthd", value, _by_head(attention.v_proj.weight, heads))
    read: Tensor = attention.out_proj(value.flatten(2) + attention.v_proj.bias)
    return read


def _write(
    attention: Any, keys: "Tensor", values: "Tensor", placed: "Tensor", pixels: "Tensor"
) -> "Tensor":
    """Image tokens attend to prompt tokens, and what they find is added to them.

    Args:
        attention: the module with its four projections.
        keys: ``(p, t, c) float32``.
        values: ``(p, t, c) float32``.
        placed: ``(n, c)`` or ``(p, n, c)``, the image tokens with their position: the queries.
        pixels: the same without position: what is added to.

    Returns:
        ``(p, n, c)``.
    """
    import torch

    heads = attention.num_heads
    key = attention.k_proj(keys).view(*keys.shape[:2], heads, -1)
    key = key / math.sqrt(key.shape[-1])
    bias = torch.einsum("pthd,hd->pht", key, _by_head(attention.q_proj.bias, heads))
    key = torch.einsum("pthd,hdc->phtc", key, _by_head(attention.q_proj.weight, heads))
    value = attention.v_proj(values).view(*values.shape[:2], heads, -1)
    value = torch.einsum("pthd,hdc->phtc", value, _by_head(attention.out_proj.weight.mT, heads))
    # Each head's weights sum to 1, so its share of the output's bias can ride on its values.
    value = value + attention.out_proj.bias / heads

    dtype = placed.dtype
    scores = key.flatten(1, 2).to(dtype) @ placed.mT
    scores = scores.view(*bias.shape, -1) + bias.unsqueeze(-1).to(dtype)
    weights = scores.softmax(2).flatten(1, 2)
    pixels = pixels.expand(len(keys), -1, -1)
    return torch.baddbmm(pixels, weights.mT, value.flatten(1, 2).to(dtype))


def _by_head(weight: "Tensor", heads: int) -> "Tensor":
    """``(heads, d, ...)``, the rows of a projection head by head."""
    return weight.reshape(heads, -1, *weight.shape[1:])


def _upscale(cells: "Tensor", layer: Any, finer: "Tensor") -> "Tensor":
    """A transposed convolution of 2 x 2, stride 2, as a matrix product, plus a finer level.

    Args:
        cells: ``(..., c)``.
        layer: the `ConvTranspose2d`.
        finer: ``(..., 4, c')``, added to the result.

    Returns:
        ``(..., 4, c')``: the 2 x 2 cells of each cell.
    """
    weight = layer.weight.permute(0, 2, 3, 1).flatten(1).to(cells.dtype)
    upscaled: Tensor = (cells @ weight).view(*cells.shape[:-1], *finer.shape[-2:])
    upscaled += finer + layer.bias.to(cells.dtype)
    return upscaled


def _normalise(x: "Tensor", norm: Any) -> "Tensor":
    """Layer normalisation over the last axis, in the type of `x`."""
    from torch.nn import functional

    weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
    normal: Tensor = functional.layer_norm(x, x.shape[-1:], weight, bias, norm.eps)
    return normal
