"""The paper's multimodal fusion M = F(T, I), then logistic regression on the frozen M.

MedFocusCLIP, section III-B: F fuses the image features I with the class texts T, a linear
head C classifies M, and both train under L = lambda L_c + (1 - lambda) L_e. The paper leaves
F open; here it is attention of the image over the class texts and a gated residual, in one
space of w dimensions that image and texts share:

    x = (I - mean I) B, t = (T - mean T) B    B: (D, w), orthonormal and fixed
    q = unit(x P), k = unit(t R)              P = R = 1 at first
    c = softmax(q k^T / tau) k                the texts, weighted by their likeness to the image
    g = sigmoid([q, c] G + b)                 a gate that image and texts open
    M = |I| unit(I + (tanh(s) * g * c) B^T)   s = 0 at first

So M begins as I, and the attention as the zero-shot classifier (means over the training
images and over the classes are taken off, because the cosines of a dual encoder differ little
beside what they have in common). tanh(s) (Alayrac et al. 2022, "Flamingo", section 2.2) opens
the residual gently and bounds it, so that I is never drowned. F sees the texts of all
classes, never the one of the true class.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.linear import FittedLinear, RowSpace, check, choose_c, fit_rows
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.types import JSON, FloatArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

TINY = 1e-12
"""Keeps the length of an all-zero feature from dividing by zero."""

Weights: TypeAlias = "dict[str, Tensor]"
"""Of F: ``basis (D, w)`` B, ``origin (w,)`` (mean I) B, ``texts (K, w)`` t, ``image (w, w)`` P,
``text (w, w)`` R, ``gate (2w, w)`` G, ``open (w,)`` b, ``strength (w,)`` s; of C, which reads M
in the space of B: ``head (w, K)``, ``bias (K,)``. All float32. P, R and G stand multiplied by
the square root of their inputs, so that one learning rate suits every width."""


@dataclass(frozen=True, slots=True)
class FusionHead:
    """F and C trained by AdamW on all views of the images, then `config.classifier` on M.

    The classifier's C is chosen by cross-validation on I, not on M: F has seen the labels of
    every training image, so that M of a held-out fold would flatter a great C. M has the
    length of I, so that one C means the same for both.

    Without class texts, class embeddings are learned with the rest and start from the mean
    feature of each class; ``chosen["text"]`` then says "learned", else "encoder".
    """

    config: FusionConfig

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> "FittedFusion":
        """Choose C, train F and C(M), freeze F, fit logistic regression on M."""
        check(train)
        temperature = self.config.temperature
        with single_threaded("sklearn.linear_model", "torch"):
            rows = RowSpace.of(train.features).rows
            c = choose_c(rows, train.labels, config=self.config.classifier, rng=rng)
            weights = train_fusion(train, config=self.config, rng=rng)
            frozen = {name: tensor.detach().numpy() for name, tensor in weights.items()}
            fused = fuse(frozen, train.features, temperature=temperature)
            if not np.isfinite(fused).all():
                raise DataError(
                    "The fusion's training diverged: M has values that are not finite. Use a "
                    f"learning_rate below {self.config.learning_rate:g}."
                )
            classifier = fit_rows(RowSpace.of(fused), replace(train, features=fused), c=c)
        chosen = {"C": c, "text": "learned" if train.text is None else "encoder"}
        return FittedFusion(frozen, temperature, classifier, chosen)


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
        with single_threaded("torch"):
            fused = fuse(self.weights, features, temperature=self.temperature)
        return self.linear.predict_proba(fused)


def fuse(weights: dict[str, FloatArray], features: FloatArray, *, temperature: float) -> FloatArray:
    """M for ``(n, v, D) float32`` features, of the same shape and dtype."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    basis = tensors["basis"]
    with torch.inference_mode():
        images = torch.tensor(features.reshape(-1, len(basis)))
        fused = images + residual(tensors, images @ basis, temperature=temperature) @ basis.T
        length = images.norm(dim=1, keepdim=True)
        fused *= length / fused.norm(dim=1, keepdim=True).clamp_min(TINY)
    array: FloatArray = fused.numpy()
    return array.reshape(features.shape)


def residual(weights: "Weights", x: "Tensor", *, temperature: float) -> "Tensor":
    """``tanh(s) * g * c`` of the module's formula, ``(b, w)``, for ``I B``, ``(b, w)``."""
    import torch

    query, key = align(weights, x)
    context = torch.softmax(query @ key.T / temperature, dim=1) @ key
    gate = linear(torch.cat([query, context], dim=1), weights["gate"]) + weights["open"]
    return torch.tanh(weights["strength"]) * torch.sigmoid(gate) * context


def align(weights: "Weights", x: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Unit vectors q, ``(b, w)``, of the images ``I B`` and k, ``(K, w)``, of the class texts."""
    from torch.nn.functional import normalize

    query = linear(x - weights["origin"], weights["image"])
    return normalize(query, dim=1), normalize(linear(weights["texts"], weights["text"]), dim=1)


def linear(inputs: "Tensor", weight: "Tensor") -> "Tensor":
    """``inputs @ weight``, divided by the square root of the number of inputs."""
    return inputs @ weight / math.sqrt(len(weight))


def train_fusion(
    train: TrainingSet, *, config: FusionConfig, rng: np.random.Generator
) -> "Weights":
    """Train F and C by minibatches of views: AdamW, learning rate falling along a cosine."""
    import torch

    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    views = train.features.shape[1]
    images = torch.tensor(train.features.reshape(-1, train.features.shape[-1]))
    labels = torch.tensor(np.repeat(train.labels, views))
    weights = initial(train, images, width=config.width, generator=generator)
    fixed = {"basis", "origin"} if train.text is None else {"basis", "origin", "texts"}
    learned = [weights[name].requires_grad_() for name in sorted(weights.keys() - fixed)]
    optimiser = torch.optim.AdamW(
        learned, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * math.ceil(len(images) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    x, length = images @ weights["basis"], images.norm(dim=1)
    for _ in range(config.epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in torch.split(order, config.batch_size):
            optimiser.zero_grad()
            batch_loss = loss(weights, x[batch], length[batch], labels[batch], config=config)
            torch.autograd.backward(batch_loss)
            optimiser.step()
            schedule.step()
    return weights


def initial(
    train: TrainingSet, images: "Tensor", *, width: int, generator: "Generator"
) -> "Weights":
    """Weights with which F is the identity and its attention the zero-shot classifier."""
    import torch

    classes, origin = torch.from_numpy(class_vectors(train)), images.mean(dim=0)
    texts = classes - classes.mean(dim=0)
    basis = shared_basis(texts, images - origin, width=width, generator=generator)
    width = basis.shape[1]
    return {
        "basis": basis,
        "origin": origin @ basis,
        "texts": texts @ basis,
        "image": torch.eye(width) * math.sqrt(width),
        "text": torch.eye(width) * math.sqrt(width),
        "gate": torch.randn((2 * width, width), generator=generator),
        "open": torch.zeros(width),
        "strength": torch.zeros(width),
        "head": torch.zeros(width, train.n_classes),
        "bias": torch.zeros(train.n_classes),
    }


def shared_basis(
    texts: "Tensor", images: "Tensor", *, width: int, generator: "Generator"
) -> "Tensor":
    """B, ``(D, w)``: first the span of the class texts, then where the images mostly vary.

    The latter is the leading singular subspace of the rows, by randomised subspace iteration
    (Halko, Martinsson and Tropp 2011, algorithm 4.4). w is `width`, or D if that is smaller.
    """
    import torch

    sketch = torch.randn((images.shape[1], width), generator=generator)
    for _ in range(2):
        sketch = torch.linalg.qr(images.T @ (images @ sketch)).Q
    basis: Tensor = torch.linalg.qr(torch.cat([texts.T, sketch], dim=1)).Q
    return basis[:, :width].contiguous()


def class_vectors(train: TrainingSet) -> FloatArray:
    """``(K, D) float32``, L2-normalised: class texts, else class means, in the images' space.

    A dual encoder puts images and texts in one space; where focus modes are joined, each part
    of I is in that space, and so is each part of a class's vector. A class without images
    has the mean of all.

    Raises:
        DataError: images and texts are not of one dual encoder.
    """
    dim = train.features.shape[2]
    if train.text is None:
        vectors: FloatArray = np.tile(train.features.mean(axis=(0, 1)), (train.n_classes, 1))
        for label in np.unique(train.labels):
            vectors[label] = train.features[train.labels == label].mean(axis=(0, 1))
    elif dim % train.text.shape[1]:
        raise DataError(
            f"Image features have {dim} dimensions and class texts {train.text.shape[1]}, "
            "expected a multiple: both come from one dual encoder. Embed both with the same one."
        )
    else:
        vectors = np.tile(train.text, (1, dim // train.text.shape[1]))
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, length, out=vectors, where=length > 0)
    return vectors


def loss(
    weights: "Weights",
    x: "Tensor",
    length: "Tensor",
    labels: "Tensor",
    *,
    config: FusionConfig,
) -> "Tensor":
    """L = lambda L_c + (1 - lambda) L_e (MedFocusCLIP, section III-B).

    L_e is the cross-entropy of C(M); L_c contrasts M with the class texts. Both read M in the
    space of B, outside of which it is I but for its length: M B and the norm of M follow from
    x = I B and |I| alone.

    Args:
        weights: of F and C.
        x: ``(b, w)``, I B.
        length: ``(b,)``, |I|.
        labels: ``(b,) int64``.
        config: lambda and temperature.
    """
    from torch.nn.functional import cross_entropy

    moved = x + residual(weights, x, temperature=config.temperature)
    squared = length**2 - x.square().sum(dim=1) + moved.square().sum(dim=1)
    fused = moved * (length / squared.clamp_min(TINY).sqrt())[:, None]
    query, key = align(weights, fused)
    contrastive = contrast(query @ key.T / config.temperature, labels)
    logits = fused @ weights["head"] + weights["bias"]
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
