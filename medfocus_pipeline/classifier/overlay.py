"""A picture of an answer: the image with its ROI, beside it the heat map."""

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from medfocus_pipeline.classifier.answer import Explanation
from medfocus_pipeline.report.outlines import ROI, Colour, fitted, outlined
from medfocus_pipeline.types import FloatArray, Image

_PANEL, _GAP, _LINE = 448, 12, 24
"""Sides of a panel and of what is between, and height of a line of text, in pixels."""

_PAPER: Colour = (255, 255, 255)
_INK: Colour = (25, 25, 25)
_WARNING: Colour = (150, 60, 0)

_SCALE = np.array(
    [(60, 0, 90), (150, 20, 110), (220, 60, 60), (250, 140, 20), (255, 230, 90)], np.float32
)
"""Of the heat, from none to most: brighter throughout, so that it survives grey printing."""

_COVER = 0.65
"""How much the hottest place covers the image."""

_LEGEND = (
    "right: how much a place spoke for the answer, the one that did most is 1; "
    "research use only, not a medical device"
)

_BAR, _TICKS = 14, (0, 0.25, 0.5, 0.75, 1)
"""Height of the scale in pixels, and its numbers."""

_GREY = 128
"""Of the picture that the scale lies over."""


def draw(image: Image, explanation: Explanation, *, name: str) -> Image:
    """The image with its ROI, the same under the heat map, and what was answered.

    Args:
        image: ``(h, w, 3) uint8`` RGB.
        explanation: of it.
        name: of the image, for the first line.

    Returns:
        ``(H, 932, 3) uint8`` RGB.
    """
    picture = fitted(image, _PANEL)
    height, width = picture.shape[:2]
    answer = explanation.answer
    roi = [] if answer.roi.mask.all() else [(answer.roi.mask, ROI)]
    hot = heated(picture, explanation.heat)
    lines = _lines(explanation, name)
    top = _GAP + len(lines) * _LINE + _GAP
    below = _GAP + _BAR + _LINE
    sheet = PIL.Image.new("RGB", (2 * _PANEL + 3 * _GAP, top + height + below + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for number, (text, colour) in enumerate(lines):
        pen.text((_GAP, _GAP + number * _LINE), text, fill=colour, font=font)
    for column, panel in enumerate((picture, hot)):
        left = _GAP + column * (_PANEL + _GAP) + (_PANEL - width) // 2
        sheet.paste(PIL.Image.fromarray(outlined(panel, roi, width=3)), (left, top))
    left = 2 * _GAP + _PANEL
    sheet.paste(PIL.Image.fromarray(scale(_PANEL)), (left, top + height + _GAP))
    for tick in _TICKS:
        text = f"{tick:g}"
        place = left + tick * (_PANEL - font.getlength(text))
        pen.text((place, top + height + _GAP + _BAR), text, fill=_INK, font=font)
    return np.asarray(sheet)


def scale(width: int) -> Image:
    """The colours of heat from 0 to 1 over a grey picture, ``(14, width, 3) uint8``."""
    ramp = np.tile(np.linspace(0, 1, width, dtype=np.float32), (_BAR, 1))
    return heated(np.full((_BAR, width, 3), _GREY, np.uint8), ramp)


def heated(picture: Image, heat: FloatArray) -> Image:
    """A picture under a heat map.

    Args:
        picture: ``(h, w, 3) uint8``.
        heat: ``(h', w') float32`` in [0, 1], stretched over it.

    Returns:
        ``(h, w, 3) uint8``; where the heat is 0, the picture as it is.
    """
    size = (picture.shape[1], picture.shape[0])
    stretched = PIL.Image.fromarray(heat).resize(size, PIL.Image.Resampling.BILINEAR)
    amount = np.clip(np.asarray(stretched), 0, 1)
    steps = np.linspace(0, 1, len(_SCALE))
    colours = np.stack([np.interp(amount, steps, channel) for channel in _SCALE.T], axis=-1)
    cover = _COVER * np.sqrt(amount)[..., None]
    mixed: Image = np.rint(picture * (1 - cover) + colours * cover).astype(np.uint8)
    return mixed


def _lines(explanation: Explanation, name: str) -> list[tuple[str, Colour]]:
    answer = explanation.answer
    order = np.argsort(-answer.probabilities)[:3]
    shares = ", ".join(f"{answer.classes[k]} {100 * answer.probabilities[k]:.1f} %" for k in order)
    lines = [(_drawable(name, 100), _INK), (_drawable(shares, 100), _INK)]
    if answer.unfamiliar:
        lines.append(("unlike the training images: do not trust the answer", _WARNING))
    if answer.roi.fallback:
        lines.append(("no region was found, the whole image was looked at", _WARNING))
    lines.append((_LEGEND, _INK))
    return lines


def _drawable(text: str, length: int) -> str:
    """What the font can draw, cut short."""
    line = " ".join(text.split()).encode("ascii", "replace").decode()
    return line if len(line) <= length else f"{line[: length - 3]}..."
