"""What a head is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import JSON, FloatArray, IntArray

if TYPE_CHECKING:
    from medfocus_pipeline.encoders.prompt_tower import PromptSource


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Cached features of one training subset.

    Attributes:
        features: ``(n, v, d) float32``, v views of n images; each focus mode's part is
            L2-normalised before the parts are joined along d.
        labels: ``(n,) int64`` in 0 .. n_classes - 1; a class may be absent.
        n_classes: number of classes of the data set, K.
        text: ``(K, d_text) float32``, L2-normalised class texts; None if the encoder has
            no text tower.
        temperature: of the softmax over cosines that the encoder was trained with; None
            without a text tower.
        prompts: the text tower itself and the classes' phrases, for heads that learn what
            they feed to it; None without a text tower, or where no head asks for it.
        groups: ``(n,) int64``; images of one group (a patient, equal bytes or pixels) are never
            on both sides of a fold. None is each image for itself.
    """

    features: FloatArray
    labels: IntArray
    n_classes: int
    text: FloatArray | None
    temperature: float | None = None
    prompts: "PromptSource | None" = None
    groups: IntArray | None = None


class FittedHead(Protocol):
    """A head after training.

    Contract: `predict_proba` takes ``(m, v, d) float32`` features of the same encoder and
    views, and returns ``(m, K) float64``, rows summing to 1: the mean over views, of each
    image by itself.
    `chosen` says what was selected on training data (C, lambda), for the results table.
    """

    @property
    def chosen(self) -> JSON:
        """What was selected on training data alone."""

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """Class probabilities."""


Fitted_co = TypeVar("Fitted_co", bound=FittedHead, covariant=True)


class Head(Protocol):
    """Something trained on cached features.

    Contract: `fit` sees training data only, makes every choice inside it, and is a pure
    function of the training set and the generator.
    """

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> FittedHead:
        """Train on one subset.

        Raises:
            DataError: the subset cannot train this head (fewer than two classes).
        """


@runtime_checkable
class ManyHead(Head, Protocol[Fitted_co]):
    """A head whose runs train side by side, one batch dimension for all of them.

    Contract: `fit_many` gives what `fit` gives for each set, up to rounding. Sets of one call
    have the same number of classes, views and dimensions; their numbers of images may differ
    by a few (one budget, several seeds).
    """

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> Fitted_co:
        """Train on one subset."""
        return self.fit_many([train], [rng])[0]

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> Sequence[Fitted_co]:
        """Train on several subsets at once, with one generator for each of them.

        Raises:
            DataError: a subset cannot train this head.
        """
