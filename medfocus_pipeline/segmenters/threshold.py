"""Otsu's threshold and connected components: the baseline that learns nothing."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.config import MasksConfig, Runtime, ThresholdConfig
from medfocus_pipeline.masks.candidates import Limits, select
from medfocus_pipeline.types import Candidates, FloatArray, Image, Mask
from medfocus_pipeline.weights import Weights

_FLAT = 1.0
"""Range of grey values, of 255, up to which an image is constant."""

_SHIFT = 0.1
"""How far the threshold moves for `stability`, in standard deviations of the image."""

_SURROUNDINGS = 0.25
"""How far a component's surroundings reach, as a share of its box's longer side."""


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> "ThresholdSegmenter":  # noqa: ARG001
    """The segmenter; it has no weights and needs no device."""
    config = masks.segmenter_of(ThresholdConfig)
    return ThresholdSegmenter(config, max_candidates=masks.max_candidates, frame=masks.frame)


@dataclass(frozen=True, slots=True)
class ThresholdSegmenter:
    """Bright and dark components of the smoothed image; see `Segmenter` for the contract.

    Holes are filled. A component's score is the geometric mean of three numbers in [0, 1]:

    - contrast, ``d / (d + s)``: d the difference between its mean and that of its
      surroundings, s the sum of their standard deviations;
    - compactness: the share of its box that it fills;
    - 1 - contact: the share of the image's border that it does not touch.

    Its stability is its IoU with itself at a stricter and a laxer threshold, within its
    surroundings. There are no prompts that could disagree, so its support is 1.

    Attributes:
        config: smoothing and limits.
        max_candidates: K.
        frame: S, side of the square frame, in pixels.
    """

    config: ThresholdConfig
    max_candidates: int
    frame: int

    batch_size = 16

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        return [self._candidates(image) for image in images]

    def _candidates(self, image: Image) -> Candidates:
        config, side = self.config, self.frame
        grey = _square(image, side=side, smoothing=config.smoothing)
        found = list(_components(grey, min_area=config.min_area))
        return select(
            np.array([part.mask for part in found], dtype=np.bool_).reshape(-1, side, side),
            np.array([part.score for part in found], dtype=np.float32),
            np.array([part.stability for part in found], dtype=np.float32),
            image=image,
            limits=Limits(min_area=config.min_area, max_area=config.max_area),
            duplicate_iou=config.duplicate_iou,
            max_candidates=self.max_candidates,
        )


@dataclass(frozen=True, slots=True)
class _Component:
    mask: Mask
    score: float
    stability: float


def _square(image: Image, *, side: int, smoothing: float) -> FloatArray:
    """``(S, S) float32``, the grey image squeezed to the square frame and smoothed."""
    from PIL import Image as PillowImage
    from scipy.ndimage import gaussian_filter

    picture = PillowImage.fromarray(image).convert("L")
    picture = picture.resize((side, side), PillowImage.Resampling.BILINEAR)
    return gaussian_filter(np.asarray(picture, dtype=np.float32), smoothing)


def _components(grey: FloatArray, *, min_area: float) -> Iterator[_Component]:
    """The components above and below Otsu's threshold whose box is at least `min_area`."""
    from scipy.ndimage import binary_fill_holes, find_objects, label
    from skimage.filters import threshold_otsu

    if np.ptp(grey) <= _FLAT:
        return
    level = threshold_otsu(grey)  # type: ignore[no-untyped-call]
    unsure = np.abs(grey - level) <= _SHIFT * grey.std()
    for above in (grey > level, grey <= level):
        labels, _ = label(above)
        for index, box in enumerate(find_objects(labels), start=1):
            if labels[box].size < min_area * grey.size:
                continue
            mask = np.zeros(grey.shape, dtype=np.bool_)
            mask[box] = binary_fill_holes(labels[box] == index)
            around = _surroundings(box, shape=grey.shape)
            contrast = _contrast(grey[around], mask[around])
            compactness = mask[box].mean()
            score = (contrast * compactness * (1 - _contact(mask))) ** (1 / 3)
            yield _Component(mask, float(score), _stability(mask[around], unsure[around]))


def _surroundings(box: tuple[slice, ...], *, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box grown on each side, as far as the frame goes."""
    longer = max(part.stop - part.start for part in box)
    reach = math.ceil(_SURROUNDINGS * longer)
    return tuple(
        slice(max(part.start - reach, 0), min(part.stop + reach, end))
        for part, end in zip(box, shape, strict=True)
    )


def _contrast(grey: FloatArray, mask: Mask) -> float:
    """How far the mean inside is from that outside, in [0, 1]; 0 where nothing is outside."""
    inside, outside = grey[mask], grey[~mask]
    if outside.size == 0:
        return 0.0
    distance = abs(inside.mean() - outside.mean())
    return float(distance / (distance + inside.std() + outside.std()))


def _contact(mask: Mask) -> float:
    """Share of the frame's border that the mask touches."""
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(border.mean())


def _stability(mask: Mask, unsure: Mask) -> float:
    """IoU of the mask without its unsure pixels and the mask with those around it."""
    strict = np.count_nonzero(mask & ~unsure)
    lax = np.count_nonzero(mask | unsure)
    return strict / lax
