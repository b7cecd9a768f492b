"""The pictures of one image in a report, with what was measured on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.masks.focus import focus
from medfocus_pipeline.masks.roi import choose_roi, iou
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.regions import Region, Regions
from medfocus_pipeline.report.content import Picture, Tile
from medfocus_pipeline.report.outlines import (
    BEST,
    LINE,
    SIDE,
    THUMBNAIL,
    coloured,
    encoded,
    fitted,
    outlined,
    with_region,
)
from medfocus_pipeline.types import Candidates, FocusMode, Roi

Drawn = TypeVar("Drawn")

LEGEND = "Orange outlines the region, light blue an annotation where somebody drew one."


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles by image id, each drawn once; and plain pictures of images.

    Attributes:
        regions: None where no focus mode has a region.
        here: whether the data folder is on this machine.
        on_image: called after each image that was drawn.
        unread: images that were there at the scan and cannot be read now, by path.
    """

    dataset: Dataset
    labels: Mapping[str, str]
    regions: Regions | None
    here: bool
    on_image: Callable[[], None]
    unread: dict[str, str] = field(default_factory=dict)
    _drawn: dict[str, Tile | None] = field(default_factory=dict)

    def tile(self, image_id: str) -> Tile | None:
        """The image with its region and facts; None if it cannot be read."""
        if image_id not in self._drawn:
            self._drawn[image_id] = self._tried(image_id, self._tile)
            self.on_image()
        return self._drawn[image_id]

    def as_read(self, image_id: str, modes: Sequence[FocusMode]) -> Tile | None:
        """The image as a row read it: plain, with its region, and in each of its focus modes.

        Args:
            modes: those that can be drawn; ``original`` is the plain image.
        """

        def draw(id_: str) -> Tile:
            name = self.dataset.files[id_]
            if self.regions is None:
                return self._tile(id_)
            region = self.regions.read(id_)
            pictures = {"image": encoded(region.image, alt=f"image {name}")}
            pictures["region"] = _outlined(region, name)
            for mode in modes:
                pictures |= _focused(region, name, mode) if mode != "original" else {}
            return Tile(name, self.labels[id_], pictures, facts(region))

        self.on_image()
        return self._tried(image_id, draw)

    def plain(self, image_id: str) -> Picture | None:
        """The image alone; None if it cannot be read."""

        def draw(id_: str) -> Picture:
            return encoded(self.dataset.read(id_), alt=f"image {self.dataset.files[id_]}")

        self.on_image()
        return self._tried(image_id, draw)

    def thumbnail(self, image_id: str) -> Picture | None:
        """The same, very small."""

        def draw(id_: str) -> Picture:
            alt = self.dataset.files[id_]
            return encoded(self.dataset.read(id_), alt=alt, side=THUMBNAIL)

        return self._tried(image_id, draw)

    def _tried(self, image_id: str, draw: Callable[[str], Drawn]) -> Drawn | None:
        if not self.here or image_id not in self.dataset.files:
            return None
        try:
            return draw(image_id)
        except DataError as error:
            self.unread[self.dataset.files[image_id]] = str(error)
            return None

    def _tile(self, image_id: str) -> Tile:
        name = self.dataset.files[image_id]
        if self.regions is None:
            picture = encoded(self.dataset.read(image_id), alt=f"image {name}")
            return Tile(name, self.labels[image_id], {"image": picture})
        region, mode = self.regions.read(image_id), self.regions.config.focus
        shown, folded = pictures(region, name, mode)
        return Tile(name, self.labels[image_id], shown, facts(region), folded=folded)


def facts(region: Region) -> dict[str, str]:
    """What a reader is told of a region; values in words."""
    found = {"ROI area": percent(float(region.roi.mask.mean()))}
    if region.roi.fallback:
        found["fallback"] = "the whole image"
    elif len(region.candidates):
        found["score"] = f"{_score(region.candidates, region.roi):.2f}"
    found["candidates"] = str(len(region.candidates))
    if region.annotation is not None and region.annotation.any():
        found["IoU"] = f"{iou(region.roi.mask, region.annotation):.2f}"
    return found


def percent(share: float) -> str:
    """``12 %``, with a decimal below ten."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def pictures(
    region: Region, name: str, mode: FocusMode
) -> tuple[dict[str, Picture], dict[str, Picture]]:
    """What is shown, and what is folded: all candidates, where there are more than the best."""
    image, count = fitted(region.image, SIDE), len(region.candidates)

    def drawn(number: int) -> Picture:
        masks = coloured(region.candidates.masks[:number])
        picture = outlined(image, masks, width=LINE)
        return encoded(picture, alt=f"{number} candidates on image {name}")

    heading = f"best {BEST} of {count} candidates" if count > BEST else "candidates"
    shown = {
        "region": _outlined(region, name),
        heading: drawn(min(count, BEST)),
        **_focused(region, name, mode),
    }
    return shown, {f"all {count} candidates": drawn(count)} if count > BEST else {}


def _outlined(region: Region, name: str) -> Picture:
    picture = with_region(fitted(region.image, SIDE), region.roi.mask, region.annotation)
    annotated = region.annotation is not None and region.annotation.any()
    what = ", and the annotation" if annotated else ""
    return encoded(picture, alt=f"image {name} with its region outlined{what}")


def _focused(region: Region, name: str, mode: FocusMode) -> dict[str, Picture]:
    picture = fitted(focus(region.image, region.roi, mode), SIDE)
    return {mode: encoded(picture, alt=f"image {name} as the encoder saw it, {mode}")}


def _score(candidates: Candidates, roi: Roi) -> float:
    """Of the candidate that is the ROI; of several together, of the one most like it."""
    size = (roi.mask.shape[0], roi.mask.shape[1])
    likeness = [
        iou(choose_roi(candidates[index], "best", size=size).mask, roi.mask)
        for index in range(len(candidates))
    ]
    return float(candidates.score[int(np.argmax(likeness))])
