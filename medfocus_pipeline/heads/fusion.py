"""The paper's multimodal fusion M = F(T, I), then logistic regression on the frozen M.

MedFocusCLIP, section III-B: F fuses the image features I with the class texts T, a linear
head C classifies M, and both train under L = lambda L_c + (1 - lambda) L_e. The paper leaves
F open; here it is attention of the image over the class texts and a gated residual:

    q = unit(I P)                      the image in a space that it shares with
    k = unit(T R)                      the class texts
    c = softmax(q k^T / tau) k         the texts, weighted by their likeness to the image
    g = sigmoid([q, c] G + b)          a gate that the image and the texts open
    M = |I| unit(I + (g * c) O)        O = 0 at first: M begins as I

F sees the texts of all classes, never the one of the true class.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.heads.linear import FittedLinear, RowSpace, check, choose_c, fit_rows
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import JSON, FloatArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

Weights: TypeAlias = "dict[str, Tensor]"
"""``image (D, w)``, ``texts (w', w)``, ``gate (2w, w)``, ``open (w,)``, ``out (w, D)``, all
float32 and divided by the square root of their inputs when used, ``classes (K, w')`` the class
texts, and ``head (D, K)``, ``bias (K,)`` of C."""


@dataclass(frozen=True, slots=True)
class FusionHead:
    """F and C trained by AdamW on all views of the images, then `config.classifier` on M.

    The classifier's C is chosen by cross-validation on I, not on M: F has seen the labels of
    every training image, so that M of a held-out fold would flatter a great C. M has the
    length of I, so that one C means the same for both.

    Without class texts, the class embeddings are learned with the rest and start from the
    mean feature of each class; ``chosen["text"]`` then says "learned", else "encoder".
    """

    config: FusionConfig

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> "FittedFusion":
        """Choose C, train F and C(M), freeze F, fit logistic regression on M."""
        check(train)
        space = RowSpace.of(train.features)
        c = choose_c(space.rows, train.labels, config=self.config.classifier, rng=rng)
        weights = train_fusion(train, config=self.config, rng=rng)
        frozen = {name: tensor.detach().numpy() for name, tensor in weights.items()}
        fused = fuse(frozen, train.features, temperature=self.config.temperature)
        linear = fit_rows(
            RowSpace.of(fused),
            TrainingSet(fused, train.labels, train.n_classes, train.text),
            c=c,
        )
        chosen = {"C": c, "text": "learned" if train.text is None else "encoder"}
        return FittedFusion(frozen, self.config.temperature, linear, chosen)


@dataclass(frozen=True, slots=True)
class FittedFusion:
    """A frozen F and the classifier of its M.

    Attributes:
        weights: the arrays of `Weights`.
        temperature: tau of the attention.
        linear: logistic regression on M.
        chosen: ``{"C": ..., "text": "encoder" | "learned"}``.
    """

    weights: dict[str, FloatArray]
    temperature: float
    linear: FittedLinear
    chosen: JSON

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        return self.linear.predict_proba(
            fuse(self.weights, features, temperature=self.temperature)
        )


def fuse(
    weights: dict[str, FloatArray], features: FloatArray, *, temperature: float
) -> FloatArray:
    """M for ``(n, v, D) float32`` features, of the same shape and dtype."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    with torch.inference_mode():
        flat = torch.from_numpy(features.reshape(-1, features.shape[-1]))
        fused: FloatArray = forward(tensors, flat, temperature=temperature).numpy()
    return fused.reshape(features.shape)


def forward(weights: "Weights", images: "Tensor", *, temperature: float) -> "Tensor":
    """M = F(T, I), ``(b, D)``, for image features ``(b, D)``; the module says how."""
    import torch

    query = project(images, weights["image"])
    key = project(weights["classes"], weights["texts"])
    context = torch.softmax(query @ key.T / temperature, dim=1) @ key
    gate = torch.sigmoid(linear(torch.cat([query, context], 1), weights["gate"]) + weights["open"])
    fused = images + linear(gate * context, weights["out"])
    length = images.norm(dim=1, keepdim=True) / fused.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return fused * length


def linear(inputs: "Tensor", weight: "Tensor") -> "Tensor":
    """``inputs @ weight`` scaled by its fan-in, so that one learning rate suits every width."""
    return inputs @ weight / math.sqrt(len(weight))


def project(inputs: "Tensor", weight: "Tensor") -> "Tensor":
    """Unit vectors in the shared space."""
    from torch.nn.functional import normalize

    return normalize(linear(inputs, weight), dim=1)


def train_fusion(
    train: TrainingSet, *, config: FusionConfig, rng: np.random.Generator
) -> "Weights":
    """Train F and C by minibatches of views: AdamW, learning rate falling along a cosine."""
    import torch

    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    weights = initial(train, width=config.width, generator=generator)
    views = train.features.shape[1]
    images = torch.from_numpy(train.features.reshape(-1, train.features.shape[-1]))
    labels = torch.from_numpy(np.repeat(train.labels, views))
    learned = [
        tensor.requires_grad_()
        for name, tensor in weights.items()
        if name != "classes" or train.text is None
    ]
    optimiser = torch.optim.AdamW(
        learned, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * math.ceil(len(images) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    for _ in range(config.epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in order.split(config.batch_size):
            optimiser.zero_grad()
            loss(weights, images[batch], labels[batch], config=config).backward()
            optimiser.step()
            schedule.step()
    return weights


def initial(train: TrainingSet, *, width: int, generator: "Generator") -> "Weights":
    """Weights with which F is the identity and attention is the zero-shot classifier.

    A dual encoder puts images and texts in one space, so both begin with one projection,
    which keeps the span of the texts: q k^T is then the cosine that CLIP classifies by.
    Joined focus modes are each in that space; their mean is projected.
    """
    import torch

    dim, k = train.features.shape[2], train.n_classes
    classes = torch.from_numpy(class_means(train) if train.text is None else train.text.copy())
    shared = torch.cat([classes.T, random((classes.shape[1], width), generator)], dim=1)
    basis = torch.linalg.qr(shared).Q[:, :width]
    width = basis.shape[1]
    if dim % len(basis) == 0:
        image = basis.repeat(dim // len(basis), 1)
    else:
        image = torch.linalg.qr(random((dim, width), generator)).Q
    return {
        "image": image * math.sqrt(dim),
        "texts": basis * math.sqrt(len(basis)),
        "classes": classes,
        "gate": random((2 * width, width), generator),
        "open": torch.zeros(width),
        "out": torch.zeros(width, dim),
        "head": torch.zeros(dim, k),
        "bias": torch.zeros(k),
    }


def random(shape: tuple[int, int], generator: "Generator") -> "Tensor":
    """Standard normal numbers."""
    import torch

    return torch.randn(shape, generator=generator)


def class_means(train: TrainingSet) -> FloatArray:
    """``(K, D) float32``, L2-normalised mean feature of each class; zeros without images."""
    means = np.zeros((train.n_classes, train.features.shape[2]), dtype=np.float32)
    for label in np.unique(train.labels):
        means[label] = train.features[train.labels == label].mean(axis=(0, 1))
    length = np.linalg.norm(means, axis=1, keepdims=True)
    return np.divide(means, length, out=means, where=length > 0)


def loss(weights: "Weights", images: "Tensor", labels: "Tensor", *, config: FusionConfig) -> Any:
    """L = lambda L_c + (1 - lambda) L_e (MedFocusCLIP, section III-B).

    L_e is the cross-entropy of C(M), L_c contrasts M with the class texts.
    """
    from torch.nn.functional import cross_entropy

    fused = forward(weights, images, temperature=config.temperature)
    logits = fused @ weights["head"] + weights["bias"]
    similarity = project(fused, weights["image"]) @ project(weights["classes"], weights["texts"]).T
    contrastive = contrast(similarity / config.temperature, labels)
    return config.loss_mix * contrastive + (1 - config.loss_mix) * cross_entropy(logits, labels)


def contrast(similarity: "Tensor", labels: "Tensor") -> "Tensor":
    """Symmetric contrastive loss of images and class texts, several images to a text.

    The mean of CLIP's two directions (Radford et al. 2021, figure 3): image to text, a softmax
    over the K texts; text to image, a softmax over the batch, averaged over the images of the
    class inside the sum (Khosla et al. 2020, "Supervised Contrastive Learning", equation 2),
    then over the classes that the batch has.

    Args:
        similarity: ``(b, K)``, divided by the temperature.
        labels: ``(b,) int64``.
    """
    from torch.nn.functional import cross_entropy, one_hot

    positives = one_hot(labels, similarity.shape[1]).to(similarity.dtype)
    counts = positives.sum(dim=0)
    per_text = -(positives * similarity.log_softmax(dim=0)).sum(dim=0) / counts.clamp_min(1)
    to_images = per_text.sum() / (counts > 0).sum()
    return (cross_entropy(similarity, labels) + to_images) / 2
