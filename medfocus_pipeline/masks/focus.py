"""Focus modes and views: the picture that the encoder sees."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.types import FocusMode, Image, Mask, Roi, View

_COLOUR = np.array([30, 144, 255], dtype=np.uint16)
"""RGB of the overlaid segment: a blue that no grey or stained tissue has."""

_CROP_MARGIN = 0.1
"""Context kept on each side of the ROI's box, as a share of that side."""

_DIMMING = 0.3
"""What is left of the brightness outside the ROI."""

_EDGE = 0.1
"""What the centre crop cuts off at either end, as a share of that side."""

_Picture = TypeVar("_Picture", Image, Mask)


def focus(image: Image, roi: Roi, mode: FocusMode) -> Image:
    """The image with its ROI brought out.

    - ``original``: the image as it is.
    - ``segmented``: the image inside the ROI and black outside, x * m, the paper's equation.
    - ``overlay``: half the image and half a colour inside the ROI, the image outside.
    - ``mask``: the ROI white on black, the paper's ablation.
    - ``crop``: the ROI's box and a tenth of its sides around it, as far as the image goes.
    - ``dimmed``: the image inside the ROI and at 0.3 of its brightness outside.

    Args:
        image: ``(h, w, 3) uint8`` RGB; never changed.
        roi: of the same height and width.
        mode: one of the above.

    Returns:
        ``(h, w, 3) uint8`` RGB, smaller for ``crop``.

    Raises:
        ConfigError: no such mode.
    """
    if mode not in _MODES:
        near = did_you_mean(mode, _MODES)
        raise ConfigError(f"No focus mode {mode!r}; choose one of: {', '.join(_MODES)}.{near}")
    if image.shape[:2] != roi.mask.shape:
        raise ValueError(f"Image {image.shape} and ROI {roi.mask.shape} differ in size.")
    return _MODES[mode](image, roi.mask)


def focus_mask(roi: Roi, mode: FocusMode) -> Mask:
    """The ROI in the frame of the focused picture, which differs from the image's for ``crop``."""
    return roi.mask[_window(roi.mask)] if mode == "crop" else roi.mask


def view(picture: _Picture, name: View) -> _Picture:
    """One fixed rendition of a picture, or of a mask in its frame.

    - ``identity``: the picture as it is.
    - ``hflip``: mirrored left to right.
    - ``centre_crop``: the central 80 % of each side.

    Args:
        picture: ``(h, w, 3) uint8`` or ``(h, w) bool``; never changed.
        name: one of the above.

    Raises:
        ConfigError: no such view.
    """
    if name not in _VIEWS:
        near = did_you_mean(name, _VIEWS)
        raise ConfigError(f"No view {name!r}; choose one of: {', '.join(_VIEWS)}.{near}")
    return np.ascontiguousarray(_VIEWS[name](picture))


def _original(image: Image, mask: Mask) -> Image:  # noqa: ARG001
    return image


def _segmented(image: Image, mask: Mask) -> Image:
    return image * mask[..., None]


def _overlay(image: Image, mask: Mask) -> Image:
    blended = ((image + _COLOUR) // 2).astype(np.uint8)
    return np.where(mask[..., None], blended, image)


def _white(image: Image, mask: Mask) -> Image:
    return np.where(mask[..., None], np.full_like(image, 255), np.uint8(0))


def _crop(image: Image, mask: Mask) -> Image:
    return image[_window(mask)]


def _dimmed(image: Image, mask: Mask) -> Image:
    dim = np.rint(image * _DIMMING).astype(np.uint8)
    return np.where(mask[..., None], image, dim)


_MODES: dict[str, Callable[[Image, Mask], Image]] = {
    "original": _original,
    "segmented": _segmented,
    "overlay": _overlay,
    "mask": _white,
    "crop": _crop,
    "dimmed": _dimmed,
}


def _window(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns of the mask's box with its margin."""
    return _span(np.any(mask, axis=1)), _span(np.any(mask, axis=0))


def _span(line: Mask) -> slice:
    """From the first true value to the last, with a margin, inside the line."""
    first = int(line.argmax())
    end = len(line) - int(line[::-1].argmax())
    margin = math.ceil(_CROP_MARGIN * (end - first))
    return slice(max(first - margin, 0), min(end + margin, len(line)))


def _centre(length: int) -> slice:
    margin = int(_EDGE * length)
    return slice(margin, length - margin)


_VIEWS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "identity": lambda picture: picture,
    "hflip": lambda picture: picture[:, ::-1],
    "centre_crop": lambda picture: picture[_centre(picture.shape[0]), _centre(picture.shape[1])],
}
