"""What F of the paper's fusion M = F(T, I) is: image features and class texts to M.

MedFocusCLIP (section III-B) leaves F open. Here it adds to the image what the class texts
say, in one space of w dimensions that image and texts share:

    x = (I - mean I) B, t = (T - mean T) B    B: (D, w), orthonormal and fixed
    q = unit(x P), k = unit(t R)              P = R = 1 at first
    a = softmax(q k^T / tau)                  the zero-shot classifier, at first
    M = |I| unit(I + (tanh(s) * f) B^T)       s = 0 at first

(Means over the training images and over the classes are taken off, because the cosines of a
dual encoder differ little beside what they have in common.) tanh(s) (Alayrac et al. 2022,
"Flamingo", section 2.2) opens the residual gently and bounds it. The variants differ in f:

    attention     f = sigmoid([q, a k] G + b) * a k    texts weighted by likeness, behind a gate
    concat        f = [q, a k] G + b                   one map of both, no gate
    gated         f = sigmoid([q, a k] G + b) * a k    with P = R = 1 in f: the texts stay
                                                       weighted as by the zero-shot classifier
    similarity    f = (q k^T / tau) V                  the K cosines, mapped back; V = unit(t)
                                                       at first

So M begins as I whatever the variant. F sees the texts of all classes, never the one of the
true class. The gate is the elementwise one of gated multimodal units (Arevalo et al. 2017).
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

TINY = 1e-12
"""Keeps the length of an all-zero feature from dividing by zero."""

Weights: TypeAlias = "dict[str, Tensor]"
"""Of F: ``origin (1, w)`` (mean I) B, ``texts (K, w)`` t, ``image (w, w)`` P, ``text (w, w)`` R,
``strength (1, w)`` s, and what the variant has of ``map_image (w, w)`` and ``map_text (w, w)``,
the halves of G, ``shift (1, w)`` b and ``back (K, w)`` V; of C, which reads M in the space of
B: ``head (w, K)``, ``bias (1, K)``.
All float32. P, R, G and V stand multiplied by the square root of their inputs, so that one
learning rate suits every width (of what P and R give, only the direction is read). Where several
trainings run side by side, each tensor has one more dimension in front."""

Mix: TypeAlias = "Callable[[Weights, Tensor, Tensor, float], Tensor]"
"""f, ``(..., b, w)``, of weights, k, I B ``(..., b, w)`` and tau."""


def attention(weights: Weights, key: "Tensor", x: "Tensor", temperature: float) -> "Tensor":
    """The class texts, weighted by their likeness to the image, behind a learned gate."""
    query = queries(weights, x)
    share = likeness(query, key, temperature)
    return joint(weights, query, share, key).sigmoid() * (share @ key)


def concat(weights: Weights, key: "Tensor", x: "Tensor", temperature: float) -> "Tensor":
    """One learned map of image and texts, the latter weighted by likeness."""
    query = queries(weights, x)
    return joint(weights, query, likeness(query, key, temperature), key)


def gated(weights: Weights, _: "Tensor", x: "Tensor", temperature: float) -> "Tensor":
    """The class texts, weighted as by the zero-shot classifier, behind a learned gate."""
    query, key = unit(x - weights["origin"]), unit(weights["texts"])
    share = likeness(query, key, temperature)
    return joint(weights, query, share, key).sigmoid() * (share @ key)


def similarity(weights: Weights, key: "Tensor", x: "Tensor", temperature: float) -> "Tensor":
    """The cosines to the class texts, mapped back into the space."""
    cosine = queries(weights, x) @ key.mT
    return cosine @ weights["back"] / (temperature * math.sqrt(key.shape[-2]))


VARIANTS: dict[str, Mix] = {
    "attention": attention,
    "concat": concat,
    "gated": gated,
    "similarity": similarity,
}


def queries(weights: Weights, x: "Tensor") -> "Tensor":
    """Unit vectors q, ``(..., b, w)``, of images ``I B``."""
    return unit((x - weights["origin"]) @ weights["image"])


def keys(weights: Weights) -> "Tensor":
    """Unit vectors k, ``(..., K, w)``, of the class texts."""
    return unit(weights["texts"] @ weights["text"])


def unit(vectors: "Tensor") -> "Tensor":
    """Vectors of length 1; those of length 0 stay. Its gradient costs less than `normalize`'s."""
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + TINY).rsqrt()


def likeness(query: "Tensor", key: "Tensor", temperature: float) -> "Tensor":
    """The module's a, ``(..., b, K)``."""
    return (query @ key.mT / temperature).softmax(dim=-1)


def joint(weights: Weights, query: "Tensor", share: "Tensor", key: "Tensor") -> "Tensor":
    """``[q, a k] G + b``; a is narrower than a k, so that k G comes first."""
    mapped = query @ weights["map_image"] + share @ (key @ weights["map_text"])
    return mapped / math.sqrt(2 * query.shape[-1]) + weights["shift"]


def initial(texts: "Tensor", origin: "Tensor", *, variant: str, generator: "Generator") -> Weights:
    """Weights with which F is the identity and a the zero-shot classifier.

    Args:
        texts: ``(K, w)``, t.
        origin: ``(1, w)``, (mean I) B.
        variant: a key of `VARIANTS`.
        generator: draws G.
    """
    import torch

    n_classes, width = texts.shape
    weights = {
        "origin": origin,
        "texts": texts,
        "image": torch.eye(width) * math.sqrt(width),
        "text": torch.eye(width) * math.sqrt(width),
        "strength": torch.zeros(1, width),
        "head": torch.zeros(width, n_classes),
        "bias": torch.zeros(1, n_classes),
    }
    if variant == "similarity":
        return weights | {"back": unit(texts) * math.sqrt(n_classes)}
    return weights | {
        "map_image": torch.randn((width, width), generator=generator),
        "map_text": torch.randn((width, width), generator=generator),
        "shift": torch.zeros(1, width),
    }


def residual(weights: Weights, key: "Tensor", x: "Tensor", config: FusionConfig) -> "Tensor":
    """``tanh(s) * f`` of the module's formula, ``(..., b, w)``, for k and ``I B``."""
    mixed = VARIANTS[config.variant](weights, key, x, config.temperature)
    return weights["strength"].tanh() * mixed


def fuse_inside(
    weights: Weights, key: "Tensor", x: "Tensor", length: "Tensor", config: FusionConfig
) -> "Tensor":
    """M B, ``(..., b, w)``, of k, ``I B``, ``(..., b, w)``, and ``|I|``, ``(..., b)``.

    Outside the space of B, M is I but for its length, so that the norm that M has before it
    gets that of I follows from I B and |I| alone.
    """
    moved = x + residual(weights, key, x, config)
    squared = length**2 - x.square().sum(dim=-1) + moved.square().sum(dim=-1)
    return moved * (length / squared.clamp_min(TINY).sqrt())[..., None]


def fuse(
    weights: dict[str, FloatArray], basis: FloatArray, features: FloatArray, config: FusionConfig
) -> FloatArray:
    """M for ``(n, v, D) float32`` features, of the same shape and dtype; `basis` is B."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    shared = torch.from_numpy(basis)
    with torch.inference_mode():
        images = torch.tensor(features.reshape(-1, len(basis)))
        x, key = images @ shared, keys(tensors)
        fused = images + residual(tensors, key, x, config) @ shared.T
        length = images.norm(dim=1, keepdim=True)
        fused *= length / fused.norm(dim=1, keepdim=True).clamp_min(TINY)
    array: FloatArray = fused.numpy()
    return array.reshape(features.shape)
