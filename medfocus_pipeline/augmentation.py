"""Random changes of a picture: `trivial_augment` and `medical`.

A change is drawn from a generator, and is then a pure function: the picture and the cover of its
ROI move alike, and the same generator always gives the same pixels, on every thread.

>>> import numpy as np
>>> picture = np.zeros((32, 32, 3), np.uint8)
>>> draw("medical", np.random.default_rng(0)).picture(picture).shape
(32, 32, 3)
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.types import Augmentation, FloatArray, Image

ROTATION, SHIFT, SCALE = 10.0, 0.05, 1.1
"""Of `medical`, the most: degrees, share of the side, factor (and its inverse)."""

GAMMA, CONTRAST, NOISE = 1.25, 1.2, 0.03
"""Of `medical`, the most: exponent and factor (and their inverses), deviation as share of white."""


def _as_it_is(picture: Image) -> Image:
    return picture


@dataclass(frozen=True, slots=True)
class Change:
    """One drawn change.

    Attributes:
        move: ``(h, w, 3) uint8`` -> the same shape: what happens to places.
        shade: the same shape: what happens to brightness and colour, afterwards.
    """

    move: Callable[[Image], Image] = _as_it_is
    shade: Callable[[Image], Image] = _as_it_is

    def picture(self, picture: Image) -> Image:
        """A picture ``(h, w, 3) uint8`` RGB, changed; the given one stays as it is."""
        return self.shade(self.move(picture))

    def cover(self, cover: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is covered of the picture, ``(h, w) uint8``, moved like it."""
        return self.move(np.repeat(cover[..., None], 3, axis=2))[..., 0]


def draw(name: Augmentation, rng: np.random.Generator) -> Change:
    """Draw a change.

    - ``trivial_augment``: one of 14 operations at one of 31 strengths, each as likely as another
      (Müller and Hutter 2021, "TrivialAugment", the wide space; operations of torchvision v2).
    - ``medical``: a little of everything that differs between two exposures of one patient:
      rotation, shift, scale, gamma, contrast and noise, and no flip: up stays up, and the heart
      on its side.

    Args:
        name: one of `AUGMENTATIONS`.
        rng: what it is drawn from.

    Raises:
        ConfigError: there is no such augmentation.
    """
    if name not in AUGMENTATIONS:
        near = did_you_mean(name, AUGMENTATIONS)
        raise ConfigError(
            f"No augmentation {name!r}; choose one of: {', '.join(AUGMENTATIONS)}.{near}"
        )
    return AUGMENTATIONS[name](rng)


class Operation(NamedTuple):
    """One of TrivialAugment's.

    Attributes:
        apply: torchvision's functional, the picture as ``(3, h, w)`` tensor, and the strength.
        weakest, strongest: ends of the 31 strengths; they are equal where it has none.
        signed: whether it goes both ways.
        moves: whether it changes places.
    """

    apply: Callable[[Any, Any, float], Any]
    weakest: float = 0.0
    strongest: float = 0.0
    signed: bool = False
    moves: bool = False


def _shear(functional: Any, x: Any, tangents: tuple[float, float]) -> Any:
    angles = [math.degrees(math.atan(tangent)) for tangent in tangents]
    return functional.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=angles, center=[0, 0])


def _translate(functional: Any, x: Any, pixels: tuple[float, float]) -> Any:
    whole = [int(length) for length in pixels]
    return functional.affine(x, angle=0.0, translate=whole, scale=1.0, shear=[0.0, 0.0])


OPERATIONS: Mapping[str, Operation] = {
    "Identity": Operation(lambda _, x, __: x),
    "ShearX": Operation(lambda f, x, s: _shear(f, x, (s, 0)), 0, 0.99, signed=True, moves=True),
    "ShearY": Operation(lambda f, x, s: _shear(f, x, (0, s)), 0, 0.99, signed=True, moves=True),
    "TranslateX": Operation(
        lambda f, x, s: _translate(f, x, (s, 0)), 0, 32, signed=True, moves=True
    ),
    "TranslateY": Operation(
        lambda f, x, s: _translate(f, x, (0, s)), 0, 32, signed=True, moves=True
    ),
    "Rotate": Operation(lambda f, x, s: f.rotate(x, angle=s), 0, 135, signed=True, moves=True),
    "Brightness": Operation(lambda f, x, s: f.adjust_brightness(x, 1 + s), 0, 0.99, signed=True),
    "Color": Operation(lambda f, x, s: f.adjust_saturation(x, 1 + s), 0, 0.99, signed=True),
    "Contrast": Operation(lambda f, x, s: f.adjust_contrast(x, 1 + s), 0, 0.99, signed=True),
    "Sharpness": Operation(lambda f, x, s: f.adjust_sharpness(x, 1 + s), 0, 0.99, signed=True),
    "Posterize": Operation(lambda f, x, s: f.posterize(x, bits=round(s)), 8, 2),
    "Solarize": Operation(lambda f, x, s: f.solarize(x, threshold=255 * s), 1, 0),
    "AutoContrast": Operation(lambda f, x, _: f.autocontrast(x)),
    "Equalize": Operation(lambda f, x, _: f.equalize(x)),
}
"""TrivialAugment's wide space, named and ordered as torchvision's `TrivialAugmentWide`."""

STRENGTHS = 31
"""Of each operation, from its weakest to its strongest in equal steps."""


def operate(picture: Image, name: str, strength: float) -> Image:
    """One of `OPERATIONS` on a picture, ``(h, w, 3) uint8`` -> the same shape."""
    import torch
    from torchvision.transforms.v2 import functional

    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    changed: Image = OPERATIONS[name].apply(functional, tensor, strength).numpy()
    return np.ascontiguousarray(changed.transpose(1, 2, 0))


def _trivial_augment(rng: np.random.Generator) -> Change:
    name = str(rng.choice(list(OPERATIONS)))
    one = OPERATIONS[name]
    share = float(rng.integers(STRENGTHS)) / (STRENGTHS - 1)
    strength = one.weakest + (one.strongest - one.weakest) * share
    if one.signed and rng.random() < 0.5:
        strength = -strength
    changed = partial(operate, name=name, strength=strength)
    return Change(move=changed) if one.moves else Change(shade=changed)


def _medical(rng: np.random.Generator) -> Change:
    angle, across, down = rng.uniform(-1, 1, 3) * (ROTATION, SHIFT, SHIFT)
    scale, gamma, contrast = np.array([SCALE, GAMMA, CONTRAST]) ** rng.uniform(-1, 1, 3)
    noise, seed = rng.uniform(0, NOISE), int(rng.integers(2**63))
    return Change(
        partial(moved, degrees=float(angle), shift=(float(across), float(down)), scale=scale),
        partial(shaded, gamma=gamma, contrast=contrast, noise=noise, seed=seed),
    )


AUGMENTATIONS: Mapping[Augmentation, Callable[[np.random.Generator], Change]] = {
    "trivial_augment": _trivial_augment,
    "medical": _medical,
}
"""By name."""


def moved(picture: Image, *, degrees: float, shift: tuple[float, float], scale: float) -> Image:
    """Rotated and scaled around its middle, then shifted; black comes in from outside.

    Args:
        picture: ``(h, w, 3) uint8``.
        degrees: clockwise.
        shift: shares of width and height, to the right and down.
        scale: above 1 enlarges.
    """
    height, width = picture.shape[:2]
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    middle = np.array([width / 2, height / 2])
    # Pillow wants the way back: from a place in the result to the one that it shows.
    back = np.array([[cosine, sine], [-sine, cosine]])
    offset = middle - back @ (middle + np.array(shift) * (width, height))
    rows = [(*row, part) for row, part in zip(back.tolist(), offset.tolist(), strict=True)]
    return np.asarray(
        Pillow.fromarray(picture).transform(
            (width, height),
            Pillow.Transform.AFFINE,
            [value for row in rows for value in row],
            resample=Pillow.Resampling.BILINEAR,
        )
    )


def shaded(picture: Image, *, gamma: float, contrast: float, noise: float, seed: int) -> Image:
    """Gamma, contrast around the mean, and the same normal noise in all three colours.

    Args:
        picture: ``(h, w, 3) uint8``.
        gamma: exponent of the brightness in [0, 1].
        contrast: factor of the distance to the mean.
        noise: standard deviation, in [0, 1].
        seed: of the noise.
    """
    curve = (np.arange(256, dtype=np.float32) / 255) ** np.float32(gamma)
    bright = curve[picture]
    mean = bright.mean()
    grain = np.random.default_rng(seed).standard_normal(picture.shape[:2], np.float32)[..., None]
    result: FloatArray = mean + np.float32(contrast) * (bright - mean) + np.float32(noise) * grain
    changed: Image = np.rint(255 * np.clip(result, 0, 1)).astype(np.uint8)
    return changed
