"""Small training sets with the look of cached features."""

from dataclasses import replace

import numpy as np

from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import FloatArray, IntArray
from medfocus_pipeline.vectors import normalise


def made_up(
    *,
    images: int = 36,
    views: int = 3,
    dim: int = 12,
    classes: int = 3,
    noise: float = 1.5,
    seed: int = 0,
) -> TrainingSet:
    """Classes around centres of their own; the views of an image lie close together."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % classes)
    centres = rng.normal(size=(classes, dim))
    pictures = centres[labels] + noise * rng.normal(size=(images, dim))
    features = pictures[:, None] + 0.3 * rng.normal(size=(images, views, dim))
    return TrainingSet(normalise(features.astype(np.float32)), labels, classes, None)


def dual_encoder(*, images: int, seed: int, dim: int = 128) -> TrainingSet:
    """Features of which the class texts tell more than a few labels do, as CLIP's are.

    Images and texts share a large common part; beside it, an image carries a little of its
    class text, and noise that lies mostly in a few directions.
    """
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(0)  # texts and noise are the same whatever the images
    texts, common = world.normal(size=(4, dim)), 2 * world.normal(size=dim)
    spread = np.linalg.qr(world.normal(size=(dim, dim)))[0] * np.exp(-np.arange(dim) / 30)
    labels = rng.permutation(np.arange(images) % 4)
    noise = 4 * rng.normal(size=(images, 1, dim)) + rng.normal(size=(images, 2, dim))
    features = common + 0.35 * texts[labels][:, None] + noise @ spread.T
    return TrainingSet(
        normalise(features.astype(np.float32)),
        labels,
        4,
        normalise((texts + common).astype(np.float32)),
    )


def take(train: TrainingSet, rows: IntArray) -> TrainingSet:
    return replace(train, features=train.features[rows], labels=train.labels[rows])


def separable(*, images: int = 24, classes: int = 3, views: int = 2, seed: int = 0) -> TrainingSet:
    """Each class on an axis of its own, with a little noise; its text is the axis."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % classes)
    axes = np.eye(classes, 8, dtype=np.float32)
    features = axes[labels][:, None] + 0.05 * rng.normal(size=(images, views, 8))
    return TrainingSet(normalise(features.astype(np.float32)), labels, classes, axes, 0.05)


def clip_like(*, images: int, seed: int, dim: int = 32) -> TrainingSet:
    """`dual_encoder` with a temperature."""
    return replace(dual_encoder(images=images, seed=seed, dim=dim), temperature=0.05)


def accuracy(probabilities: FloatArray, labels: IntArray) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())
