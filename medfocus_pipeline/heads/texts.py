"""Class texts in the space of the features, for heads that read images and texts as one.

A dual encoder puts images and texts in one space. Where m focus modes are joined, each part of
an image's feature is in that space, and a class's vector is its text m times: the cosine of the
two is then the mean of the parts' cosines.
"""

from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import FloatArray
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

    A dual encoder puts images and texts in one space; where focus modes are joined, each part
    of a feature is in that space, and so is each part of a class's vector.

    Raises:
        DataError: `dim` is no multiple of d_text.
    """
    if dim % text.shape[1]:
        raise DataError(
            f"Image features have {dim} dimensions and class texts {text.shape[1]}, "
            "expected a multiple: both come from one dual encoder. Embed both with the same one."
        )
    return normalise(np.tile(text, (1, dim // text.shape[1])))
