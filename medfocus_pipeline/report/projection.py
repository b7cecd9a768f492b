"""Embeddings laid out in the plane, by PCA and by t-SNE."""

import numpy as np

from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.types import FloatArray

_PERPLEXITY = 30.0
_STEPS = 500
"""Half of the usual: so few points have settled by then."""

_FEWEST = 5
"""Images below which t-SNE has no neighbourhoods to keep."""


def layouts(features: FloatArray, *, seed: int = 0) -> dict[str, FloatArray]:
    """The same images laid out twice; the same features give the same maps.

    PCA keeps the two directions of greatest variance; t-SNE (van der Maaten and Hinton, JMLR
    2008) keeps who is near to whom, and starts from PCA.

    Args:
        features: ``(n, d) float32``, L2-normalised rows.
        seed: of t-SNE.

    Returns:
        ``PCA`` and, from five images on, ``t-SNE`` -> ``(n, 2) float32``.
    """
    # So few points gain nothing from more threads, which would change the last bits.
    with single_threaded("sklearn.manifold"):
        principal = _pca(features)
        if len(features) < _FEWEST:
            return {"PCA": principal}
        return {"PCA": principal, "t-SNE": _tsne(features, principal, seed)}


def perplexity(count: int) -> float:
    """Number of neighbours that t-SNE keeps of each of so many images: 30, or a third of them."""
    return min(_PERPLEXITY, (count - 1) / 3)


def explained(features: FloatArray, points: FloatArray) -> float:
    """Share of the features' variance that is along the axes of a PCA, in [0, 1].

    Args:
        features: ``(n, d) float32``.
        points: ``(n, 2) float32``, their PCA.
    """
    whole = float(features.var(axis=0, dtype=np.float64).sum())
    return float(points.var(axis=0, dtype=np.float64).sum()) / whole if whole else 1.0


def _pca(features: FloatArray) -> FloatArray:
    from sklearn.decomposition import PCA

    points = np.zeros((len(features), 2), np.float32)
    # Images that are all alike have no direction of variance: one point.
    if len(features) and np.ptp(features, axis=0).max() > 0:
        kept = min(2, *features.shape)
        points[:, :kept] = PCA(kept, svd_solver="covariance_eigh").fit_transform(features)
    return points


def _tsne(features: FloatArray, principal: FloatArray, seed: int) -> FloatArray:
    from sklearn.manifold import TSNE

    # As t-SNE's authors have it: small, so that the first steps can still sort the points.
    width = max(float(principal[:, 0].std()), float(np.finfo(np.float32).tiny))
    mapper = TSNE(
        perplexity=perplexity(len(features)),
        init=principal * np.float32(1e-4 / width),
        max_iter=_STEPS,
        random_state=seed,
    )
    return np.asarray(mapper.fit_transform(features), np.float32)
