"""What a one-class method is."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import FloatArray

LEAST = 2
"""Training images that every method needs."""


class FittedOneClass(Protocol):
    """A one-class method after training.

    Contract: `score` takes ``(m, d) float32`` features of the encoder that it was fitted on, and
    returns ``(m,) float64``, finite: the greater, the more like the training images. Scores of
    two methods are not on one scale. A row's score does not depend on the other rows, up to
    rounding.
    """

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """How much each row is like the training images."""


class OneClass(Protocol):
    """Something that learns what one kind of image looks like, from such images alone.

    Contract: `fit` takes ``(n, d) float32`` features, n >= 2, each a row of any length (methods
    that want unit length see to it themselves), and is a pure function of them and the
    generator.
    """

    def fit(self, features: FloatArray, rng: np.random.Generator) -> FittedOneClass:
        """Learn from images of one kind.

        Args:
            features: ``(n, d) float32``.
            rng: for every draw.

        Raises:
            DataError: fewer than two images, or features that are misshapen or not finite.
        """


def check(features: FloatArray) -> None:
    """Refuse features that no one-class method can learn from.

    Raises:
        DataError: fewer than two images, or features that are misshapen or not finite.
    """
    if features.ndim != 2 or len(features) < LEAST:
        raise DataError(
            f"Features of the shape {features.shape}, expected (n, d) with {LEAST} images or "
            "more of one kind. Add medical images to the training folder."
        )
    if not np.isfinite(features).all():
        raise DataError(
            "Training features have values that are not finite. Run: medfocus cache verify, "
            "then embed again."
        )
