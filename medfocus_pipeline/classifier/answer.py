"""What a classifier says of one image, and why."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.classifier.explanation import HeatMethod
from medfocus_pipeline.gate.gate import NOT_A_MEDICAL_IMAGE, Verdict
from medfocus_pipeline.types import FloatArray, Roi


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a classifier says about one image.

    Attributes:
        classes: names of the K classes.
        probabilities: ``(K,) float64`` in [0, 1], sum 1.
        predicted: index of the greatest.
        roi: the region that was looked at, ``roi.mask`` ``(h, w) bool``; ``roi.fallback`` says
            that none was found and it is the whole image. A head that looks at whole images
            alone has all of the image, and no fallback.
        distance: to the training images, in [0, 2], see `novelty`.
        threshold: of that distance.
        seen: share of the ROI, in [0, 1], that the encoder saw of it.
        gate: what the gate says of the image; None where the folder has none.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    predicted: int
    roi: Roi
    distance: float
    threshold: float
    seen: float = 1.0
    gate: Verdict | None = None

    @property
    def label(self) -> str:
        """Name of the predicted class, or that the gate takes it for no medical image."""
        return NOT_A_MEDICAL_IMAGE if self.refused else self.classes[self.predicted]

    @property
    def refused(self) -> bool:
        """Whether the gate takes it for no medical image; the probabilities mean nothing then."""
        return self.gate is not None and not self.gate.medical

    @property
    def unfamiliar(self) -> bool:
        """Farther from the training images than 99 % of them are from each other.

        The probabilities of such an image mean little: a head knows its classes only.
        """
        return self.distance > self.threshold

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Of the ROI: XYXY in pixels, x1 and y1 exclusive."""
        columns, rows = (np.flatnonzero(self.roi.mask.any(axis=axis)) for axis in (0, 1))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def area(self) -> float:
        """Share of the image that the ROI covers, in (0, 1]."""
        return float(self.roi.mask.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """An answer, and where in the image it comes from.

    Attributes:
        answer: as `Classifier.predict` gives it.
        heat: ``(h, w) float32`` in [0, 1]: how much the place speaks for the predicted class,
            as a share of the place that does most; all 0 if none does. It shows what this
            model used, not where a finding is.
        method: ``tokens`` or ``occlusion``, see `explanation`.
    """

    answer: Answer
    heat: FloatArray
    method: HeatMethod
