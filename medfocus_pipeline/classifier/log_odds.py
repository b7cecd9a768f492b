"""The log-odds that a head gives a class; see `explanation`."""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.types import FloatArray


def log_odds(head: FittedHead, rows: FloatArray, predicted: int) -> NDArray[np.float64]:
    """The module's o, ``(m,)``; 1 - p_c is summed from the other classes, which is exact."""
    probabilities = head.predict_proba(rows)
    others = np.delete(probabilities, predicted, axis=1).sum(axis=1)
    tiny = np.finfo(np.float64).tiny
    own = np.maximum(probabilities[:, predicted], tiny)
    odds: NDArray[np.float64] = np.log(own) - np.log(np.maximum(others, tiny))
    return odds
