"""Pictures that are not medical at all: textures, shapes, gradients and scenes of primitives.

They teach a segmenter that objects come in every form and contrast, and a gate what to refuse.
"""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.phantoms import canvas, shapes, textures
from medfocus_pipeline.datasets.phantoms.canvas import Frame
from medfocus_pipeline.datasets.phantoms.exposure import levels
from medfocus_pipeline.datasets.phantoms.painting import Phantom, compose
from medfocus_pipeline.types import FloatArray, Image

CLASSES = ("gradient", "scene", "shapes", "texture")

_MODALITIES = (
    "a computer-generated picture",
    "a drawn image",
    "an abstract picture",
    "a synthetic image",
    "a picture that is not medical",
)
_FINDINGS = {
    "gradient": ("a colour gradient", "a smooth gradient", "slowly changing colours"),
    "scene": ("a scene of objects", "several objects on a background", "a cluttered scene"),
    "shapes": ("simple shapes", "geometric shapes", "plain figures"),
    "texture": ("a texture", "a repeating pattern", "a material surface"),
}
_LEAST_AREA = 0.002
"""Share of the picture below which an object is left out of the parts."""


def paint(rng: np.random.Generator, label: str, size: int, difficulty: float) -> Phantom:
    """One picture; see `phantom.draw`. The difficulty lowers the objects' contrast."""
    frame = canvas.posed(rng, size, turn=0.3, bend=0.0)
    ground = _colours(rng, _fill(rng, frame, label))
    count = {"gradient": 0, "texture": int(rng.integers(0, 3))}.get(label, int(rng.integers(2, 7)))
    picture, parts = _place(rng, ground, frame, count, plain=label == "shapes", faint=difficulty)
    if rng.random() < 0.4:
        picture = picture.mean(axis=0, keepdims=True)
    if rng.random() < 0.3:
        picture = np.stack([textures.blur(channel, 0.012) for channel in picture])
    grain = rng.choice([0.0, 0.02, 0.06])
    dots = rng.standard_normal((size, size), np.float32)
    dots *= np.float32(grain)
    picture += dots
    return Phantom(
        image=_bytes(picture),
        label=label,
        lesion=np.zeros((size, size), np.bool_),
        parts=parts,
        caption=compose(
            rng,
            modalities=_MODALITIES,
            findings=_FINDINGS[label],
            details=[f"with {len(parts)} objects"] if len(parts) > 1 else [],
        ),
    )


def _fill(rng: np.random.Generator, frame: Frame, label: str) -> FloatArray:
    """A background of one channel, 0 to 1."""
    size = frame.size
    slope, angle = rng.uniform(0.05, 0.5), rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + slope * (frame.x * np.float32(np.cos(angle)) + frame.y * np.float32(np.sin(angle)))
    if label == "gradient":
        return np.clip(ramp + 0.1 * textures.noise(rng, size, grain=1.5), 0, 1)
    if label == "shapes" and rng.random() < 0.6:
        return np.full((size, size), rng.uniform(0, 1), np.float32)
    return np.clip(0.5 * ramp + 0.25 + rng.uniform(0.05, 0.3) * _texture(rng, frame), 0, 1)


def _texture(rng: np.random.Generator, frame: Frame) -> FloatArray:
    """Stripes, checks, grain or marble, about -1 to 1."""
    size, kind = frame.size, rng.integers(4)
    angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 40)
    along = frame.x * np.float32(np.cos(angle)) + frame.y * np.float32(np.sin(angle))
    if kind == 0:
        pattern = np.sin(along * np.float32(waves))
    elif kind == 1:
        across = frame.y * np.float32(np.cos(angle)) - frame.x * np.float32(np.sin(angle))
        pattern = np.sign(np.sin(along * np.float32(waves)) * np.sin(across * np.float32(waves)))
    else:
        pattern = textures.noise(rng, size, grain=float(np.exp(rng.uniform(-4, -0.5))), octaves=2)
    if kind == 3:
        pattern = np.sin(np.float32(waves / 4) * (along + np.float32(0.6) * pattern))
    return np.asarray(np.clip(pattern, -1.5, 1.5), np.float32)


def _colours(rng: np.random.Generator, channel: FloatArray) -> FloatArray:
    """A channel in two random colours, ``(3, s, s) float32``."""
    dark, light = np.sort(rng.uniform(0, 1, (2, 3, 1, 1)).astype(np.float32), axis=0)
    coloured: FloatArray = dark + channel * (light - dark)
    return coloured


def _place(
    rng: np.random.Generator,
    picture: FloatArray,
    frame: Frame,
    count: int,
    *,
    plain: bool,
    faint: float,
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Objects on a background, each over the earlier ones, and the parts of them that show.

    The picture is changed in place.
    """
    visible: list[NDArray[np.bool_]] = []
    for _ in range(count):
        field = _figure(rng, frame, plain=plain)
        alpha = canvas.edge(field, 0.02 if plain else float(rng.choice([0.02, 0.08, 0.25])))
        there = canvas.bounds(alpha > 0)
        own = _colours(rng, _fill(rng, frame, "shapes" if plain else "texture")[there])
        alpha = alpha[there] * np.float32(rng.uniform(1 - 0.7 * faint, 1))
        canvas.mix(picture, there, alpha, own)
        inside = field > 0
        visible = [part & ~inside for part in visible] + [inside]
    parts = [canvas.whole(part) for part in visible if part.any()]
    kept = [part for part in parts if part.mean() > _LEAST_AREA]
    empty = np.zeros((0, frame.size, frame.size), np.bool_)
    return picture, np.stack(kept) if kept else empty


def _figure(rng: np.random.Generator, frame: Frame, *, plain: bool) -> FloatArray:
    """A random ellipse, box or blob, positive inside."""
    centre = tuple(rng.uniform(-0.75, 0.75, 2))
    size = np.exp(rng.uniform(np.log(0.07), np.log(0.6)))
    radii = tuple(size * np.exp(rng.normal(0, 0.3, 2)))
    angle = rng.uniform(0, np.pi)
    kind = rng.integers(3)
    if kind == 0:
        return shapes.ellipse(frame, centre, radii, angle=angle)
    if kind == 1:
        u, v = (np.abs(side) for side in shapes.turned(frame, centre, radii, angle=angle))
        np.maximum(u, v, out=u)
        return np.subtract(1, u, out=u)
    wobble = 0.1 if plain else rng.uniform(0.05, 0.3)
    return shapes.blob(
        rng, frame, centre, radii, angle=angle, wobble=wobble, spikes=rng.choice([0.0, 0.05])
    )


def _bytes(picture: FloatArray) -> Image:
    """One or three channels as 8 bits in three, ``(s, s, 3) uint8``; the picture is used up."""
    channels = list(levels(np.clip(picture, 0, 1, out=picture)))
    return np.stack(channels * (3 // len(channels)), axis=2)
