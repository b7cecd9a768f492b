"""The lines of the gate's table: what each method is fitted on, and how it scores images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import LinearConfig, OneClassConfig, Pooling
from medfocus_pipeline.gate import ONE_CLASS, make_one_class
from medfocus_pipeline.gate.zero_shot import ZeroShot
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.table import make_head
from medfocus_pipeline.types import FloatArray, IntArray

Scorer = Callable[[FloatArray], NDArray[np.float64]]
"""``(m, v, D) float32`` features -> ``(m,) float64``, greater is more medical."""


@dataclass(frozen=True, slots=True)
class Method:
    """One line of the table.

    Attributes:
        name: of the line.
        learns_from: ``nothing``, ``medical images`` or ``both sides``.
        fit: training images, and which are medical -> what scores images.
    """

    name: str
    learns_from: str
    fit: Callable[[FloatArray, NDArray[np.bool_], IntArray | None, np.random.Generator], Scorer]


def zero_shot_method(gate: ZeroShot) -> Method:
    """Phrases against phrases."""
    return Method(
        f"zero-shot, {_POOLED[gate.pooling]}",
        "nothing",
        lambda *_: lambda features: gate.score(features.mean(axis=1)),
    )


_POOLED: dict[Pooling, str] = {
    "best": "best phrase",
    "mean": "mean of phrases",
    "sum": "sum over phrases",
}


def one_class_method(config: OneClassConfig) -> Method:
    """Something that sees medical images alone."""

    def fit(
        features: FloatArray,
        medical: NDArray[np.bool_],
        groups: IntArray | None,  # noqa: ARG001 (every method has it)
        rng: np.random.Generator,
    ) -> Scorer:
        fitted = make_one_class(config).fit(features[medical].mean(axis=1), rng)
        return lambda rows: fitted.score(rows.mean(axis=1))

    return Method(ONE_CLASS[config.name].what, "medical images", fit)


def linear_method(config: LinearConfig) -> Method:
    """Logistic regression on both sides."""

    def fit(
        features: FloatArray,
        medical: NDArray[np.bool_],
        groups: IntArray | None,
        rng: np.random.Generator,
    ) -> Scorer:
        train = TrainingSet(features, medical.astype(np.int64), 2, text=None, groups=groups)
        fitted = make_head(config).fit(train, rng)
        return lambda rows: fitted.predict_proba(rows)[:, 1]

    return Method("linear probe", "both sides", fit)
