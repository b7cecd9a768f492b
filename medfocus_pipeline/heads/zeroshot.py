"""Zero-shot classification (Radford et al. 2021, "CLIP", section 3.1): labels are not read."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import ZeroShotConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import mean_probabilities, view_rows
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.texts import Texts
from medfocus_pipeline.types import JSON, FloatArray
from medfocus_pipeline.vectors import normalise


@dataclass(frozen=True, slots=True)
class ZeroShotHead:
    """Cosine of image and class text, softmax at the encoder's temperature, mean over views."""

    config: ZeroShotConfig

    def fit(
        self,
        train: TrainingSet,
        rng: np.random.Generator,  # noqa: ARG002 (the protocol has it)
    ) -> "FittedZeroShot":
        """Keep the class texts; neither labels nor images nor `rng` have a say."""
        return FittedZeroShot(Texts.of(train, head="zeroshot"))


@dataclass(frozen=True, slots=True)
class FittedZeroShot:
    """The class texts.

    Attributes:
        texts: of the data set's classes.
        chosen: empty.
    """

    texts: Texts
    chosen: JSON = field(default_factory=dict)

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        with single_threaded():
            logits = self.texts.zero_shot(normalise(view_rows(features)))
        return mean_probabilities(logits, views=features.shape[1])
