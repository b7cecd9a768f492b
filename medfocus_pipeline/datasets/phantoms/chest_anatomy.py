"""A chest X-ray without a disease, and where its lungs and heart are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.phantoms import chest_shadows as shadows
from medfocus_pipeline.datasets.phantoms.canvas import Frame, edge, flat, posed
from medfocus_pipeline.datasets.phantoms.chest_build import Build, build, outline
from medfocus_pipeline.datasets.phantoms.textures import enlarged, noise
from medfocus_pipeline.types import FloatArray, Mask

_COARSE = 128
"""Pictures larger than this have their soft shadows painted at half size, to save time."""


@dataclass(frozen=True, slots=True)
class Chest:
    """A drawn chest without a lesion; s is the picture's side, c that of its soft shadows.

    Attributes:
        size: s.
        build: what was drawn.
        frame: coordinates of ``(c, c)`` pixels.
        depth: ``(c, c) float32``, 0 at the mediastinum to 1 at the chest wall.
        height: ``(c, c) float32``, 0 at the apex to 1 at the diaphragm.
        within: ``(c, c) bool``, the lungs.
        picture: ``(s, s) float32``, brightness.
        air: ``(s, s) float32``, 1 in the lungs, 0 outside, soft in between.
        vessels: ``(s, s) float32``, branching lines from the hila, 0 to 1.
        lungs: ``(2, s, s) bool``, right and left.
        heart: ``(s, s) bool``, heart and mediastinum.
    """

    size: int
    build: Build
    frame: Frame
    depth: FloatArray
    height: FloatArray
    within: Mask
    picture: FloatArray
    air: FloatArray
    vessels: FloatArray
    lungs: NDArray[np.bool_]
    heart: Mask


def draw(rng: np.random.Generator, size: int) -> Chest:
    """A chest of any age, posture and exposure; `size` is the picture's side, in pixels."""
    frame = posed(rng, size, turn=0.04, zoom=0.09, stretch=0.07, shift=0.05, bend=0)
    coarse = _resampled(frame, (size + 1) // 2) if size > _COARSE else frame
    body = build(rng)
    at = outline(body, coarse)
    middle = at.inner - at.width
    field = np.minimum(np.minimum(at.wall, -middle), at.floor)
    core = np.minimum(np.minimum(middle, at.floor), coarse.y - body.apex - 0.2)
    vessels = shadows.vessels(rng, frame, body.apex + rng.normal(0.7, 0.04))
    lucency, marks, dense = rng.uniform((0.26, 0.1, 0.14), (0.4, 0.28, 0.26)).tolist()
    soft = shadows.body(rng, body, at) + shadows.bones(rng, body, at)
    soft += dense * edge(middle, 0.03) * edge(coarse.y - body.apex - 0.15, 0.15)
    haze = 1 + noise(rng, coarse.size, grain=0.25, octaves=2, spread=0.12)
    soft -= lucency * haze * edge(field, 0.02)
    field = enlarged(field, size)
    air, inside, right = edge(field, 0.02), field > 0, frame.x <= 0
    marked = air * vessels
    marked *= marks
    marked += enlarged(soft, size)
    reach = coarse.y - body.apex
    return Chest(
        size=size,
        build=body,
        frame=coarse,
        depth=np.clip(-middle / np.maximum(at.wall - middle, 0.05), 0, 1),
        height=np.clip(reach / np.maximum(at.floor + reach, 0.1), 0, 1),
        within=(at.wall > 0) & (middle < 0) & (at.floor > 0),
        picture=marked,
        air=air,
        vessels=vessels,
        lungs=np.stack([inside & right, inside & ~right]),
        heart=enlarged(core, size) > 0,
    )


def _resampled(frame: Frame, size: int) -> Frame:
    """The same pose at another size; only for poses that do not bend."""
    plain, span = flat(size), 2 - 2 / frame.size
    x, y = (
        (field[0, -1] - field[0, 0]) / np.float32(span) * plain.x
        + (field[-1, 0] - field[0, 0]) / np.float32(span) * plain.y
        + (field[0, 0] + field[-1, -1]) / 2
        for field in (frame.x, frame.y)
    )
    return Frame(x, y)
