"""Small source and target domains with the look of cached features."""

import numpy as np

from medfocus_pipeline.adaptation import Task
from medfocus_pipeline.types import IntArray


def shifted(
    *,
    images: int = 60,
    dim: int = 12,
    views: int = 2,
    sources: int = 1,
    shift: float = 2.0,
    positives: float = 0.5,
    seed: int = 0,
) -> tuple[Task, IntArray]:
    """Two classes along one axis; each domain is moved along another, the target farthest.

    Returns:
        The task, and the labels of its test images.
    """
    rng = np.random.default_rng(seed)

    def domain(count: int, *, move: float, share: float) -> tuple[np.ndarray, IntArray]:
        labels = (rng.permutation(count) < share * count).astype(np.int64)
        pictures = rng.normal(size=(count, 1, dim))
        pictures[:, 0, 0] += 3 * labels - 1.5 + 0.6 * move
        pictures[:, 0, 1] += move
        noise = 0.2 * rng.normal(size=(count, views, dim))
        return (pictures + noise).astype(np.float32), labels

    parts = [domain(images, move=shift * one / 4, share=0.5) for one in range(sources)]
    target, _ = domain(images, move=shift, share=positives)
    test, truth = domain(4 * images, move=shift, share=positives)
    labels = np.concatenate([one for _, one in parts])
    task = Task(
        source=np.concatenate([one for one, _ in parts]),
        labels=labels,
        domains=np.repeat(np.arange(sources), images),
        groups=np.arange(len(labels)),
        target=target,
        test=test[:, 0],
        classes=2,
    )
    return task, truth


def quarters(task: Task, *, seeds: int = 2) -> list[IntArray]:
    """For each seed, three quarters of the source's rows."""
    n = len(task.labels)
    return [
        np.sort(np.random.default_rng(seed).permutation(n)[: 3 * n // 4]) for seed in range(seeds)
    ]
