"""Zero-shot classification (Radford et al. 2021, "CLIP", section 3.1): labels are not read.

A dual encoder puts images and texts in one space. Where m focus modes are joined, each part of
an image's feature is in that space, and a class's vector is its text m times: the cosine of the
two is then the mean of the parts' cosines.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import ZeroShotConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.common import mean_probabilities, view_rows
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import JSON, FloatArray
from medfocus_pipeline.vectors import normalise


@dataclass(frozen=True, slots=True)
class Texts:
    """Class texts of a dual encoder.

    Attributes:
        vectors: ``(K, D) float32``, L2-normalised, D the dimension of the image features.
        temperature: of the softmax over cosines, > 0.
    """

    vectors: FloatArray
    temperature: float

    @classmethod
    def of(cls, train: TrainingSet, *, head: str) -> "Texts":
        """The texts of a training set.

        Args:
            train: the set.
            head: who asks, for the message.

        Raises:
            DataError: the encoder has no text tower, or images and texts are not of one encoder.
        """
        if train.text is None or train.temperature is None:
            raise DataError(
                f"Head {head} needs a dual encoder (CLIP, SigLIP or lite-clip), but these features "
                "came without class texts. Embed with a dual encoder, or use a head that reads "
                "images alone, such as linear or mlp."
            )
        return cls(tiled(train.text, dim=train.features.shape[2]), train.temperature)

    def zero_shot(self, unit: FloatArray) -> FloatArray:
        """Logits of the zero-shot classifier, ``(..., K)``: cosines divided by the temperature.

        Args:
            unit: ``(..., D) float32``, L2-normalised.
        """
        logits: FloatArray = unit @ self.vectors.T / self.temperature
        return logits


def tiled(text: FloatArray, *, dim: int) -> FloatArray:
    """``(K, d_text)`` texts as ``(K, dim) float32``, L2-normalised: one copy for each part.

    Raises:
        DataError: `dim` is no multiple of d_text.
    """
    if dim % text.shape[1]:
        raise DataError(
            f"Image features have {dim} dimensions and class texts {text.shape[1]}, "
            "expected a multiple: both come from one dual encoder. Embed both with the same one."
        )
    return normalise(np.tile(text, (1, dim // text.shape[1])))


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
