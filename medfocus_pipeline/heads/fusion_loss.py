"""The paper's loss, L = lambda L_c + (1 - lambda) L_e (MedFocusCLIP, section III-B)."""

from typing import TYPE_CHECKING

from medfocus_pipeline.heads.fusion_mix import Weights, fuse_inside, keys, queries

if TYPE_CHECKING:
    from torch import Tensor


def loss(
    weights: Weights,
    x: "Tensor",
    length: "Tensor",
    labels: "Tensor",
    *,
    mix: "Tensor",
    variant: str,
    temperature: float,
) -> "Tensor":
    """L of each of several trainings, ``(...)``.

    L_e is the cross-entropy of C(M); L_c contrasts M with the class texts. Both read M in the
    space of B.

    Args:
        weights: of F and C.
        x: ``(..., b, w)``, I B.
        length: ``(..., b)``, |I|.
        labels: ``(..., b) int64``.
        mix: ``(...)``, lambda.
        variant: of F.
        temperature: of its attention and of L_c.
    """
    key = keys(weights)
    fused = fuse_inside(weights, key, x, length, variant=variant, temperature=temperature)
    contrastive = contrast(queries(weights, fused) @ key.mT / temperature, labels)
    entropy = cross_entropy(fused @ weights["head"] + weights["bias"], labels)
    return mix * contrastive + (1 - mix) * entropy


def cross_entropy(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Mean over the batch, ``(...)``, for logits ``(..., b, K)`` and labels ``(..., b)``."""
    true = logits.log_softmax(dim=-1).gather(-1, labels[..., None])
    return -true[..., 0].mean(dim=-1)


def contrast(similarity: "Tensor", labels: "Tensor") -> "Tensor":
    """Symmetric contrastive loss of images and class texts, several images to a text, ``(...)``.

    The mean of CLIP's two directions (Radford et al. 2021, figure 3): image to text, a softmax
    over the K texts; text to image, a softmax over the batch, averaged over the images of the
    class inside the sum (Khosla et al. 2020, "Supervised Contrastive Learning", equation 2),
    then over the classes that the batch has.

    Args:
        similarity: ``(..., b, K)``, divided by the temperature.
        labels: ``(..., b) int64``.
    """
    from torch.nn.functional import one_hot

    positives = one_hot(labels, similarity.shape[-1]).to(similarity.dtype)
    counts = positives.sum(dim=-2)
    per_text = -(positives * similarity.log_softmax(dim=-2)).sum(dim=-2) / counts.clamp_min(1)
    to_images = per_text.sum(dim=-1) / (counts > 0).sum(dim=-1)
    return (cross_entropy(similarity, labels) + to_images) / 2
