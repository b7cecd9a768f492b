"""A sheet: one picture of what became of a few images, a row each, from candidates to answer."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont, PngImagePlugin

from medfocus_pipeline.files import disk_errors, replacing
from medfocus_pipeline.report.outlines import (
    ANNOTATION,
    BEST,
    LINE,
    ROI,
    Colour,
    coloured,
    fitted,
    outlined,
    with_region,
)
from medfocus_pipeline.types import Image, Mask

_PANEL, _ANSWER, _GAP = 216, 232, 12
"""Sides of the square that a picture is fitted into, of the last column, and of what is between."""

_HEADING, _FOOTER = 44, 40

_WIDTH = _GAP + 4 * (_PANEL + _GAP) + _ANSWER + _GAP

_LARGE, _SMALL = 20, 16
"""Heights of the letters, in pixels."""

_PAPER: Colour = (255, 255, 255)
_INK: Colour = (25, 25, 25)
_GREY: Colour = (105, 105, 105)
_RIGHT: Colour = (0, 120, 60)
_WRONG: Colour = (190, 20, 40)

_LIMIT = 600_000
"""Bytes of a file that a page shows without delay."""

_MARK = ("Software", "MedFocus")
"""In each file, so that a later run may replace it and nothing else."""

_STEPS = (1, 4, 8, 16)
"""Distances between the brightnesses of a file, tried in turn: noise is what a PNG is made of."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a head said about one image.

    Attributes:
        predicted: name of the class.
        probability: of that class, in [0, 1].
    """

    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a sheet.

    Attributes:
        image: ``(h, w, 3) uint8`` RGB.
        candidates: ``(k, S, S) bool``, best first, in the segmenter's square frame.
        roi: ``(h, w) bool``.
        annotation: ``(h, w) bool``; None if nobody drew one.
        focused: ``(h', w', 3) uint8``, what the encoder was given.
        label: name of the true class.
        answer: None if no head was asked.
    """

    image: Image
    candidates: NDArray[np.bool_]
    roi: Mask
    annotation: Mask | None
    focused: Image
    label: str
    answer: Answer | None


def draw_sheet(examples: Sequence[Example], *, rule: str, focus: str, source: str) -> Image:
    """The sheet of some examples, 1,168 pixels wide.

    Args:
        examples: at least one, from top to bottom.
        rule: the ROI rule, for the heading.
        focus: the focus mode, for the heading.
        source: what gave the answers, for the last line.

    Returns:
        ``(h, 1168, 3) uint8`` RGB.
    """
    height = _HEADING + len(examples) * (_PANEL + _GAP) + _FOOTER
    sheet = PIL.Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    most = max(len(example.candidates) for example in examples)
    candidates = f"best {BEST}" if most > BEST else "candidates"
    headings = ("image", candidates, f"ROI: {rule}", f"focus: {focus}", "answer")
    for column, text in enumerate(headings):
        draw.text((_left(column), _GAP), text, fill=_INK, font=_font(_LARGE))
    for row, example in enumerate(examples):
        top = _HEADING + row * (_PANEL + _GAP)
        for column, panel in enumerate(_panels(example)):
            down, right = ((_PANEL - side) // 2 for side in panel.shape[:2])
            sheet.paste(PIL.Image.fromarray(panel), (_left(column) + right, top + down))
        _write_answer(draw, example, (_left(4), top))
    annotated = any(example.annotation is not None for example in examples)
    _write_footer(draw, height - _FOOTER, annotated=annotated, source=source)
    return np.asarray(sheet)


def write_png(picture: Image, path: Path) -> None:
    """Write a picture as PNG, in fewer brightnesses if it would have more than 600 kB.

    Args:
        picture: ``(h, w, 3) uint8`` RGB.
        path: of the file; its folder is made.

    Raises:
        StoreError: the disk is full or read-only.
    """
    content = b""
    for step in _STEPS:
        content = _png(picture, step=step)
        if len(content) < _LIMIT:
            break
    with disk_errors(path.parent), replacing(path) as temporary:
        temporary.write_bytes(content)


def is_ours(path: Path) -> bool:
    """Whether a file is a picture that `write_png` wrote."""
    try:
        with PIL.Image.open(path) as picture:
            return picture.info.get(_MARK[0]) == _MARK[1]
    except (OSError, ValueError):
        return False


def _png(picture: Image, *, step: int) -> bytes:
    rounded = np.clip(np.rint(picture / step) * step, 0, 255).astype(np.uint8)
    file, mark = io.BytesIO(), PngImagePlugin.PngInfo()
    mark.add_text(*_MARK)
    picture_ = _with_palette(rounded) or PIL.Image.fromarray(rounded)
    picture_.save(file, format="PNG", pnginfo=mark)
    return file.getvalue()


def _with_palette(picture: Image) -> PIL.Image.Image | None:
    """The same picture at a byte a pixel, if it has no more than 256 colours."""
    packed = picture.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colours, places = np.unique(packed, return_inverse=True)
    if len(colours) > 256:
        return None
    image = PIL.Image.fromarray(places.reshape(packed.shape).astype(np.uint8))
    channels = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    image.putpalette(channels.astype(np.uint8).tobytes())
    return image


def _panels(example: Example) -> list[Image]:
    """The four pictures of a row, each fitted into the panel."""
    image = fitted(example.image, _PANEL)
    candidates = outlined(image, coloured(example.candidates[:BEST]), width=LINE)
    roi = with_region(image, example.roi, example.annotation)
    return [image, candidates, roi, fitted(example.focused, _PANEL)]


def _write_answer(draw: ImageDraw.ImageDraw, example: Example, place: tuple[int, int]) -> None:
    answer = example.answer
    if answer is None:
        lines = [("not probed yet", _SMALL, _GREY)]
    else:
        lines = [
            ("predicted", _SMALL, _GREY),
            *((text, _LARGE, _INK) for text in _wrapped(answer.predicted)),
            (f"{100 * answer.probability:.0f} %", _LARGE, _INK),
        ]
    lines.append(("true class", _SMALL, _GREY))
    lines += [(text, _LARGE, _INK) for text in _wrapped(example.label)]
    if answer is not None:
        right = answer.predicted == example.label
        lines.append(("right", _LARGE, _RIGHT) if right else ("wrong", _LARGE, _WRONG))
    left, top = place
    for text, size, colour in lines:
        draw.text((left, top), text, fill=colour, font=_font(size))
        top += size + 8


def _wrapped(text: str) -> list[str]:
    """Lines that fit into the last column, two at most."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or _font(_LARGE).getlength(longer) <= _ANSWER:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines[:2]


def _write_footer(draw: ImageDraw.ImageDraw, top: int, *, annotated: bool, source: str) -> None:
    """What the lines in the third column are, and what gave the answers."""
    left = float(_left(0))
    known = [("ROI", ROI), ("annotation", ANNOTATION)] if annotated else [("ROI", ROI)]
    font = _font(_SMALL)
    for text, colour in known:
        draw.rectangle((left, top + 8, left + 20, top + 12), fill=colour)
        draw.text((left + 26, top), text, fill=_GREY, font=font)
        left += 26 + font.getlength(text) + 20
    draw.text((left, top), source, fill=_GREY, font=font)


def _left(column: int) -> int:
    return _GAP + column * (_PANEL + _GAP)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType")
    return font
