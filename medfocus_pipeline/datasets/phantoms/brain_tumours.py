"""Tumours of the brain: where they grow and how they look, and how they are drawn."""

from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.datasets.phantoms import canvas
from medfocus_pipeline.datasets.phantoms.brain_anatomy import Slice, places
from medfocus_pipeline.datasets.phantoms.brain_planes import Anatomy
from medfocus_pipeline.datasets.phantoms.canvas import Frame
from medfocus_pipeline.datasets.phantoms.shapes import blob
from medfocus_pipeline.datasets.phantoms.textures import noise
from medfocus_pipeline.types import FloatArray, Mask

_KINDS = ("glioma", "meningioma", "pituitary")

_LOOKS = {
    "radius": ((0.22, 0.34), (0.18, 0.29), (0.11, 0.18)),
    "aspect": ((0.6, 1.0), (0.8, 1.0), (0.7, 1.0)),
    "wobble": ((0.16, 0.3), (0.02, 0.08), (0.03, 0.12)),
    "spikes": ((0.02, 0.08), (0.0, 0.02), (0.0, 0.03)),
    "border": ((0.1, 0.25), (0.04, 0.1), (0.06, 0.14)),
    "texture": ((0.2, 0.4), (0.02, 0.08), (0.03, 0.12)),
    "core": ((0.3, 0.8), (0.0, 0.1), (0.0, 0.1)),
    "halo": ((0.6, 1.0), (0.0, 0.2), (0.5, 1.0)),
    "push": ((0.1, 0.5), (0.0, 0.3), (0.0, 0.15)),
}
"""Trait -> lowest and highest of each of `_KINDS`.

Lengths are in coordinates, the others are shares of the radius (wobble, spikes, border, core) or of
the brightness (texture, halo, push).
"""


@dataclass(frozen=True, slots=True)
class Tumour:
    """What was decided about a tumour.

    Attributes:
        centre: (x, y), in the head's coordinates.
        angle: turn, in radians.
        strength: how much of its own brightness shows, about 0.2 to 1.
        tail: whether the dura beside it thickens.
        bed: the tissue around it.
        outside: how far it may grow beyond the brain, in coordinates.
        radius: of its longer axis, in coordinates.
        aspect: shorter over longer axis.
        wobble, spikes: how irregular its outline is.
        border: how far its border reaches, as a share of the radius.
        texture: spread of its brightness.
        core: radius of its dead core over its own.
        halo: how plain its bed is.
        push: how far it pushes what is around it.
    """

    centre: tuple[float, float]
    angle: float
    strength: float
    tail: bool
    bed: str
    outside: float
    radius: float
    aspect: float
    wobble: float
    spikes: float
    border: float
    texture: float
    core: float
    halo: float
    push: float


def plan(rng: np.random.Generator, anatomy: Anatomy, label: str, difficulty: float) -> Tumour:
    """Decide about one of `_KINDS`; the harder, the fainter, and the more alike they are."""
    look = place = label
    if rng.random() < 0.12 * difficulty:
        other = str(rng.choice([name for name in _KINDS if name != label]))
        look, place = (other, place) if rng.random() < 0.5 else (look, other)
    looks = np.array(list(_LOOKS.values()))
    low, high = looks[:, _KINDS.index(look)].T
    average = looks.mean(axis=2).mean(axis=1)
    mixed = float(rng.uniform(0, 0.6)) * difficulty**2
    traits = rng.uniform(low, high) * (1 - mixed) + average * mixed
    values = dict(zip(_LOOKS, traits.tolist(), strict=True))
    strength = (1.0 - 0.75 * difficulty**3) * float(rng.uniform(0.85, 1.15))
    return Tumour(
        centre=_place(rng, anatomy, place, values["radius"]),
        angle=float(rng.uniform(0, np.pi)),
        strength=min(1.0, strength),
        tail=look == "meningioma" and bool(rng.random() < 0.5),
        bed="fluid" if look == "pituitary" else "oedema",
        outside=0.1 if place == "pituitary" else 0.005,
        **values,
    )


def _place(
    rng: np.random.Generator, anatomy: Anatomy, label: str, radius: float
) -> tuple[float, float]:
    """Where a tumour of this class grows."""
    spans = anatomy.plane.fissures
    if label == "pituitary":
        x, y = anatomy.plane.sella + rng.normal(0, (0.015, 0.02))
        return float(x), float(y)
    if label == "meningioma" and spans and rng.random() < 0.25:
        top, bottom = spans[int(rng.integers(len(spans)))]
        side = float(rng.choice((-1, 1)))
        return side * 0.85 * radius, float(rng.uniform(top + 0.1, bottom))
    wanted = rng.uniform(0.45, 0.8) if label == "meningioma" else rng.uniform(1.0, 1.7)
    points, depth = places(rng, anatomy)
    x, y = points[np.abs(depth - wanted * radius).argmin()]
    return float(x), float(y)


def pushed(frame: Frame, tumour: Tumour) -> Frame:
    """Coordinates of what a tumour pushes away: it lies farther from the centre than before."""
    x, y = (np.float32(value) for value in tumour.centre)
    dx, dy = frame.x - x, frame.y - y
    near = dx * dx
    near += dy * dy
    near *= -0.25 / tumour.radius**2
    np.exp(near, out=near)
    near *= tumour.push
    dx *= near
    dy *= near
    return Frame(frame.x - dx, frame.y - dy)


def draw(
    rng: np.random.Generator, anatomy: Anatomy, head: Slice, frame: Frame, tumour: Tumour
) -> tuple[Mask, Mask]:
    """Draw a tumour into the head's picture, in place.

    Returns:
        Where it and its core ended up, ``(s, s) bool`` each; the core may be empty.
    """
    picture, tissues = head.picture, anatomy.tissues
    there = canvas.windows(frame, [(*tumour.centre, 1.9 * tumour.radius)])[0]
    field = blob(
        rng,
        frame.within(there),
        tumour.centre,
        (tumour.radius, tumour.radius * tumour.aspect),
        angle=tumour.angle,
        wobble=tumour.wobble,
        spikes=tumour.spikes,
    )
    rough = _grain(rng, frame.size, field.shape)
    within = canvas.edge(head.depth[there] + np.float32(tumour.outside), 0.01)
    below = picture[there]
    around = canvas.edge(field + np.float32(0.3) + np.float32(0.25) * rough, 0.3)
    if tumour.tail:
        dura = canvas.edge(np.float32(0.018) - np.abs(head.depth[there]), 0.01)
        below = below + _share(tumour.strength * around * dura, tissues["solid"], below)
    below = below + _share(
        tumour.strength * tumour.halo * around * within, tissues[tumour.bed], below
    )
    ragged = field + np.float32(0.6 * tumour.border) * rough
    amount = canvas.edge(ragged, tumour.border) * within
    dead = tumour.core if tumour.core > 0.3 else -1.0
    inner = canvas.edge(field - np.float32(1 - dead) + np.float32(0.12) * rough, 0.08)
    body = np.float32(tissues["solid"]) + np.float32(tumour.texture) * rough
    body = body + _share(inner, tissues["dead"], body)
    picture[there] = below + np.float32(tumour.strength) * amount * (body - below)
    lesion, core = (np.zeros(picture.shape, np.bool_) for _ in range(2))
    lesion[there] = amount >= min(0.5, float(amount.max()))
    core[there] = lesion[there] & (inner > 0.5)
    return lesion, core


def _share(amount: FloatArray, value: float, below: FloatArray) -> FloatArray:
    """What changes where a share of the brightness below becomes `value`."""
    change: FloatArray = amount.astype(np.float32, copy=False) * (np.float32(value) - below)
    return change


def _grain(rng: np.random.Generator, size: int, shape: tuple[int, ...]) -> FloatArray:
    """Noise for a window of the picture."""
    side = -(-max(shape) // 16) * 16
    return noise(rng, side, grain=0.07 * size / side, octaves=2)[: shape[0], : shape[1]]
