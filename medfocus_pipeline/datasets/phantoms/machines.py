"""Machines that take chest X-rays: one disease, drawn in the manner of several hospitals.

What differs is what differs between real ones: how much of the body is on the picture, the curve
from dose to brightness, scatter, grain, sharpening, letters, and pictures that are stored inverted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms.exposure import font, levels
from medfocus_pipeline.datasets.phantoms.painting import Phantom
from medfocus_pipeline.types import FloatArray, Image, Mask


@dataclass(frozen=True, slots=True)
class Machine:
    """How a machine shows a body.

    Attributes:
        zoom: side of the body's picture over side of the machine's; below 1 there is a border.
        border: brightness around the body's picture.
        slope: contrast at the middle of the curve, 1 is a straight line (Hurter and Driffield's
            curve of a film is steep in the middle and flat at its ends).
        exposure: brightness that the middle of the curve is moved by.
        scatter: share of the light that comes from all around.
        sharpening: of edges, as digital detectors do.
        grain: spread of the noise.
        grain_size: of the noise, in pixels of 224.
        letters: burnt into the upper left corner.
        plate: the letters are on a dark plate.
        inverted: share of the pictures that are stored inverted, as DICOM's MONOCHROME1 is.
    """

    zoom: float = 1.0
    border: float = 0.0
    slope: float = 1.0
    exposure: float = 0.0
    scatter: float = 0.0
    sharpening: float = 0.0
    grain: float = 0.0
    grain_size: float = 0.0
    letters: str = ""
    plate: bool = False
    inverted: float = 0.0


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "digital": Machine(sharpening=0.6, letters="L DR"),
        "film": Machine(
            zoom=0.86,
            border=0.95,
            slope=1.7,
            exposure=0.02,
            grain=0.03,
            grain_size=1.2,
            letters="ST. ANNA 04-11",
            plate=True,
        ),
        "portable": Machine(
            zoom=1.18,
            slope=0.7,
            exposure=-0.08,
            scatter=0.45,
            grain=0.06,
            letters="AP PORTABLE",
            inverted=0.2,
        ),
    }
)
"""The machines, in the order in which they become domains."""


def seen_by(machine: Machine, rng: np.random.Generator, phantom: Phantom) -> Phantom:
    """A phantom as a machine shows it; what lies outside its picture is lost."""
    picture = phantom.image[..., 0].astype(np.float32) / np.float32(255)
    picture = _placed(picture, machine.zoom, fill=machine.border)
    return replace(
        phantom,
        image=_exposed(machine, rng, picture),
        lesion=_mask_placed(phantom.lesion, machine.zoom),
        parts=_kept(phantom, machine.zoom),
    )


def _kept(phantom: Phantom, zoom: float) -> NDArray[np.bool_]:
    """The outlines that are still on the picture."""
    placed = [_mask_placed(part, zoom) for part in phantom.parts]
    return np.array([part for part in placed if part.any()], np.bool_).reshape(
        -1, *phantom.lesion.shape
    )


def _mask_placed(mask: Mask, zoom: float) -> Mask:
    return _placed(mask.astype(np.float32), zoom, fill=0) > 0.5


def _placed(picture: FloatArray, zoom: float, *, fill: float) -> FloatArray:
    """Zoomed about the middle, ``(s, s) float32``."""
    shift = (len(picture) - 1) / 2 * (1 - 1 / zoom)
    placed: FloatArray = np.empty_like(picture)
    ndimage.affine_transform(
        picture, [1 / zoom] * 2, shift, output=placed, order=1, mode="constant", cval=fill
    )
    return placed


def _exposed(machine: Machine, rng: np.random.Generator, picture: FloatArray) -> Image:
    size = len(picture)
    unit = size / 224
    around = ndimage.gaussian_filter(picture, 24 * unit)
    picture = picture + machine.scatter * (around - picture)
    picture += machine.sharpening * (picture - ndimage.gaussian_filter(picture, 2 * unit))
    picture = _curve(picture + machine.exposure + rng.normal(0, 0.03), machine.slope)
    if machine.grain:
        dots = ndimage.gaussian_filter(
            rng.standard_normal((size, size), np.float32), machine.grain_size * unit
        )
        picture += machine.grain / dots.std() * dots
    if rng.random() < machine.inverted:
        picture = 1 - picture
    _write(machine, picture)
    return np.stack([levels(np.clip(picture, 0, 1))] * 3, axis=2)


def _curve(picture: FloatArray, slope: float) -> FloatArray:
    """From dose to brightness, 0 to 1: straight below a slope of 1, else steep in the middle."""
    if slope <= 1:
        straight: FloatArray = 0.5 + slope * (picture - 0.5)
        return straight
    steep: FloatArray = 1 / (1 + np.exp(-4 * slope * (picture - 0.5)))
    return steep


def _write(machine: Machine, picture: FloatArray) -> None:
    """Burn the machine's letters in, in place."""
    size = len(picture)
    height = max(6, size // 18)
    layer = PillowImage.new("L", (size, size))
    ImageDraw.Draw(layer).text((0.02 * size, 0.015 * size), machine.letters, 255, font(height))
    burnt = np.asarray(layer, dtype=np.float32) / 255
    box = layer.getbbox()
    if machine.plate and box:
        width = box[2]
        picture[: int(1.6 * height), : width + height // 2] = 1 - machine.border
    np.maximum(picture, 0.95 * burnt, out=picture)
