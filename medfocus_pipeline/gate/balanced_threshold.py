"""From which score on an image is taken for a medical one."""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import DataError


def balanced_threshold(scores: NDArray[np.float64], medical: NDArray[np.bool_]) -> float:
    """The midpoint between two neighbouring scores with the greatest balanced accuracy.

    An image is medical where its score is above. Of equally good midpoints the one in the widest
    gap is taken, and the middle one of gaps as wide. All scores equal: that score.

    Args:
        scores: ``(n,) float64``, greater is more medical.
        medical: ``(n,) bool``, the truth.

    Raises:
        DataError: one side has no image.
    """
    if medical.all() or not medical.any():
        raise DataError(
            "A threshold is chosen on images of both sides, and here are "
            f"{int(medical.sum())} medical ones of {len(medical)}. Add images of the other side "
            "to the validation folder, or leave the folder out."
        )
    order = np.argsort(scores, kind="stable")
    ordered, truth = scores[order], medical[order]
    below_other = np.cumsum(~truth)[:-1] / (~truth).sum()
    above_medical = 1 - np.cumsum(truth)[:-1] / truth.sum()
    gaps = np.diff(ordered)
    accuracy = np.where(gaps > 0, below_other + above_medical, -1)
    if not len(accuracy) or accuracy.max() < 0:
        return float(ordered[0])
    best = np.flatnonzero(np.isclose(accuracy, accuracy.max(), rtol=0, atol=1e-12))
    widest = best[np.isclose(gaps[best], gaps[best].max())]
    n = int(widest[len(widest) // 2])
    return float((ordered[n] + ordered[n + 1]) / 2)
