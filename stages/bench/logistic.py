"""The batched logistic regression beside a loop over scikit-learn's."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from medfocus_pipeline.datasets.splits import nested_subsets
from medfocus_pipeline.features import normalise
from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.heads.linear import RowSpace, softmax
from medfocus_pipeline.heads.logistic import solve
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import JSON, FloatArray, IntArray

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


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """Training images of one fraction and seed, ``(n, d) float32`` and ``(n,) int64``."""

    fraction: float
    features: FloatArray
    labels: IntArray


def measure(
    *, images: int, seeds: int, values: int, threads: int, clock: Clock = time.perf_counter
) -> JSON:
    """Fits per second of both on 5 fractions of the same features, and how they differ.

    scikit-learn's loop runs on all subsets of the first seed, for every fourth C. 100 % is the
    same subset for every seed: solved for each of them in ``fits_per_second``, and once, as a
    sweep does, in ``shared_fits_per_second``. Differences are those of the probabilities of
    all images, the greatest.

    Args:
        images: n, all of them training images.
        seeds: for each fraction.
        values: of C, from 0.1 to 10,000.
        threads: of BLAS and OpenMP.
        clock: in seconds.
    """
    cs = np.geomspace(0.1, 1e4, values).tolist()
    features, labels = _features(images)
    with threadpool_limits(threads):
        ours, seconds, whole = _batched(features, labels, cs, seeds=seeds, clock=clock)
        loops = {
            name: _loop(features, labels, cs[_SAMPLE], tolerance=tolerance, clock=clock)
            for name, tolerance in (("default", _DEFAULT), ("equal", _EQUAL))
        }
    fits = seeds * len(_FRACTIONS) * values
    rate, shared = fits / seconds, fits / (seconds - whole * (seeds - 1) / seeds)
    figures: JSON = {
        "images": images,
        "fits": fits,
        "threads": threads,
        "fits_per_second": rate,
        "shared_fits_per_second": shared,
    }
    for name, (probabilities, loop_rate) in loops.items():
        figures[f"sklearn_{name}"] = {
            "fits_per_second": loop_rate,
            "ratio": rate / loop_rate,
            "shared_ratio": shared / loop_rate,
            "difference": float(np.abs(probabilities - ours[:, _SAMPLE]).max()),
        }
    return figures


def _subsets(features: FloatArray, labels: IntArray, seed: int) -> Iterator[Subset]:
    ids = tuple(f"{number:06d}" for number in range(len(labels)))
    drawn = nested_subsets(ids, labels, fractions=_FRACTIONS, shots=(), seed=seed)
    for fraction, rows in zip(_FRACTIONS, drawn.values(), strict=True):
        yield Subset(fraction, features[rows], labels[rows])


def _batched(
    features: FloatArray, labels: IntArray, cs: list[float], *, seeds: int, clock: Clock
) -> tuple[Matrix, float, float]:
    """Probabilities of the first seed's fits, ``(5, C, n, K)``; seconds of all, and of 100 %."""
    found, seconds, whole = [], 0.0, 0.0
    for seed in range(seeds):
        for subset in _subsets(features, labels, seed):
            started = clock()
            space = RowSpace.of(subset.features[:, None])
            fits = solve(space.rows[:, 0], subset.labels, cs, tolerance=_TOLERANCE)
            weights = [
                space.restore(fits.coef[place, 0], fits.intercept[place, 0])
                for place in range(len(cs))
            ]
            took = clock() - started
            seconds += took
            whole += took if subset.fraction == 100 else 0.0
            if seed == 0:
                found += [softmax(features @ coef.T + intercept) for coef, intercept in weights]
    return _by_subset(found), seconds, whole


def _loop(
    features: FloatArray, labels: IntArray, cs: list[float], *, tolerance: float, clock: Clock
) -> tuple[Matrix, float]:
    """Probabilities of the first seed's fits, ``(5, C, n, K)``, and fits per second."""
    from sklearn.linear_model import LogisticRegression

    found, seconds = [], 0.0
    for subset in _subsets(features, labels, 0):
        rows = subset.features.astype(np.float64)
        for c in cs:
            started = clock()
            model = LogisticRegression(C=c, tol=tolerance, max_iter=100_000)
            model.fit(rows, subset.labels)
            seconds += clock() - started
            found.append(model.predict_proba(features.astype(np.float64)))
    return _by_subset(found), len(found) / seconds


def _by_subset(found: list[Matrix]) -> Matrix:
    stacked = np.stack(found)
    return stacked.reshape(len(_FRACTIONS), -1, *stacked.shape[1:])


def _features(images: int) -> tuple[FloatArray, IntArray]:
    """Unit vectors with a common part and variances that fall off, as an encoder's do."""
    rng = generator("bench logistic", images)
    labels = np.arange(images, dtype=np.int64) % _CLASSES
    spread = np.arange(1, _DIM + 1) ** -0.7
    axes, _ = np.linalg.qr(rng.normal(size=(_DIM, _DIM)))
    centres = 0.2 * spread * rng.normal(size=(_CLASSES, _DIM))
    noise = spread * rng.normal(size=(images, _DIM))
    return normalise(((centres[labels] + noise) @ axes + 2 * axes[0]).astype(np.float32)), labels
