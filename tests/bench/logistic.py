"""The batched logistic regression beside a loop over scikit-learn's."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from threadpoolctl import threadpool_limits

from medfocus_pipeline.datasets.subsets import nested_subsets
from medfocus_pipeline.heads.common import softmax
from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.heads.logistic import solve
from medfocus_pipeline.heads.row_space import RowSpace
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import JSON, FloatArray, IntArray
from medfocus_pipeline.vectors import normalise

_CLASSES = 4
_DIM = 512
_FRACTIONS = (5.0, 10.0, 20.0, 50.0, 100.0)
_TOLERANCE = 1e-5
_DEFAULT, _EQUAL = 1e-4, 1e-9
"""scikit-learn's own tolerance, and one with which its probabilities too are good to 1e-4: with
its own they are not even good to a tenth at a great C."""

_SAMPLE = slice(1, None, 4)
"""Values of C that scikit-learn's loop runs for; the hardest is left out."""

Clock = Callable[[], float]


def measure(
    *, images: int, seeds: int, values: int, threads: int, clock: Clock = time.perf_counter
) -> JSON:
    """Fits per second of both on 5 fractions of the same features, and how they differ.

    Both in turn on each subset; scikit-learn's loop on those of the first seed alone, for every
    fourth C. 100 % is the same subset for every seed: solved for each of them in
    ``fits_per_second``, and once, as a sweep does, in ``shared_fits_per_second``.
    ``difference`` is the greatest between probabilities of all images.

    Args:
        images: n, all of them training images.
        seeds: for each fraction.
        values: of C, from 0.1 to 10,000.
        threads: of BLAS and OpenMP.
        clock: in seconds.
    """
    cs = np.geomspace(0.1, 1e4, values).tolist()
    features, labels = _features(images)
    seconds, whole = 0.0, 0.0
    loops = {"default": Loop(_DEFAULT), "equal": Loop(_EQUAL)}
    import_module("sklearn.linear_model")  # only libraries that are loaded can be limited
    with threadpool_limits(threads):
        for seed in range(seeds):
            for fraction, subset in _subsets(labels, seed):
                rows, truth = features[subset], labels[subset]
                started = clock()
                weights = _batched(rows, truth, cs)
                took = clock() - started
                seconds += took
                whole += took if fraction == 100 else 0.0
                for loop in loops.values() if seed == 0 else ():
                    loop.run(rows, truth, cs[_SAMPLE], weights[_SAMPLE], features, clock)
    fits = seeds * len(_FRACTIONS) * values
    rate, shared = fits / seconds, fits / (seconds - whole * (seeds - 1) / seeds)
    figures: JSON = {
        "images": images,
        "fits": fits,
        "fits_per_second": rate,
        "shared_fits_per_second": shared,
    }
    for name, loop in loops.items():
        alone = loop.fits / loop.seconds
        figures[f"sklearn_{name}"] = {
            "fits_per_second": alone,
            "ratio": rate / alone,
            "shared_ratio": shared / alone,
            "difference": loop.difference,
        }
    return figures


def _subsets(labels: IntArray, seed: int) -> Iterator[tuple[float, IntArray]]:
    ids = tuple(f"{number:06d}" for number in range(len(labels)))
    drawn = nested_subsets(ids, labels, fractions=_FRACTIONS, shots=(), seed=seed)
    yield from zip(_FRACTIONS, drawn.values(), strict=True)


def _batched(rows: FloatArray, labels: IntArray, cs: list[float]) -> list[tuple[Matrix, Matrix]]:
    """Weights and intercepts for each C, one after the other, as the heads choose theirs."""
    space = RowSpace.of(rows[:, None])
    fits = [solve(space.rows[:, 0], labels, c, tolerance=_TOLERANCE) for c in cs]
    return [space.restore(one.coef[0], one.intercept[0]) for one in fits]


@dataclass(slots=True)
class Loop:
    """A loop over scikit-learn's fits: how many, how long, and how far ours are from them."""

    tolerance: float
    fits: int = 0
    seconds: float = 0.0
    difference: float = 0.0

    def run(
        self,
        rows: FloatArray,
        labels: IntArray,
        cs: list[float],
        ours: list[tuple[Matrix, Matrix]],
        features: FloatArray,
        clock: Clock,
    ) -> None:
        """Fit each C on one subset and compare the probabilities of all images."""
        from sklearn.linear_model import LogisticRegression

        wide, everything = rows.astype(np.float64), features.astype(np.float64)
        for c, (coef, intercept) in zip(cs, ours, strict=True):
            model = LogisticRegression(C=c, tol=self.tolerance, max_iter=100_000)
            started = clock()
            model.fit(wide, labels)
            self.seconds += clock() - started
            self.fits += 1
            off = model.predict_proba(everything) - softmax(everything @ coef.T + intercept)
            self.difference = max(self.difference, float(np.abs(off).max()))


def _features(images: int) -> tuple[FloatArray, IntArray]:
    """Unit vectors with a common part and variances that fall off, as an encoder's do."""
    rng = generator("bench logistic", images)
    labels = np.arange(images, dtype=np.int64) % _CLASSES
    spread = np.arange(1, _DIM + 1) ** -0.7
    axes, _ = np.linalg.qr(rng.normal(size=(_DIM, _DIM)))
    centres = 0.2 * spread * rng.normal(size=(_CLASSES, _DIM))
    noise = spread * rng.normal(size=(images, _DIM))
    return normalise(((centres[labels] + noise) @ axes + 2 * axes[0]).astype(np.float32)), labels
