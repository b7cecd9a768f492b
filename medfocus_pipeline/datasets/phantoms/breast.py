"""Breast ultrasound: layers of tissue under the probe, speckle, shadows, and a mass.

A benign mass is a smooth oval, wider than tall; a malignant one is irregular, taller than wide,
with a shadow below; normal tissue has none. What the lesions are told by overlaps more as the
difficulty rises.
"""

from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.datasets.phantoms import breast_tissue, canvas, shapes, textures
from medfocus_pipeline.datasets.phantoms.canvas import Frame
from medfocus_pipeline.datasets.phantoms.exposure import expose
from medfocus_pipeline.datasets.phantoms.painting import Phantom, compose
from medfocus_pipeline.types import FloatArray

CLASSES = ("benign", "malignant", "normal")

_MODALITIES = (
    "a breast ultrasound image",
    "a breast ultrasound",
    "a sonogram of the breast",
    "an ultrasound scan of the breast",
    "a B-mode breast sonogram",
    "a breast sonography picture",
)
_FINDINGS = {
    "benign": (
        "a benign breast lesion",
        "a benign mass",
        "a fibroadenoma",
        "a benign nodule",
        "a smooth benign tumor",
        "a probably benign breast mass",
    ),
    "malignant": (
        "a malignant breast tumor",
        "a malignant mass",
        "a breast cancer",
        "an invasive carcinoma",
        "a suspicious malignant lesion",
        "a breast carcinoma",
    ),
    "normal": (
        "normal breast tissue without a lesion",
        "normal breast tissue",
        "a healthy breast",
        "no lesion",
        "no mass, normal tissue",
        "unremarkable tissue",
    ),
}


_SPICULATED = 0.02
"""Spikes, see `shapes.blob`, from which on a mass grows into the tissue around it."""


@dataclass(frozen=True, slots=True)
class _Mass:
    """A mass as it was decided.

    Attributes:
        centre: (x, y).
        radii: half width and half height.
        angle: turn, in radians.
        wobble: see `shapes.blob`.
        spikes: see `shapes.blob`.
        contrast: brightness against the tissue around, usually negative.
        rim: brightness of the border against the tissue.
        behind: brightness below: negative is a shadow, positive an enhancement.
        mottle: spread of the texture inside.
        margin: how blurred the border is.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    wobble: float
    spikes: float
    contrast: float
    rim: float
    behind: float
    mottle: float
    margin: float

    @property
    def outline(self) -> float:
        """Where the mass's field is cut: its echogenic rim counts, if it grows into the tissue.

        That is how BI-RADS has a mass measured.
        """
        return -self.margin / 2 if self.spikes > _SPICULATED else 0.0


def paint(rng: np.random.Generator, label: str, size: int, difficulty: float) -> Phantom:
    """One breast ultrasound; see `phantom.draw`."""
    frame = canvas.posed(rng, size, turn=0.05, shift=0.1, bend=0.05)
    echo = breast_tissue.draw(rng, frame)
    mass = _mass(rng, malignant=label == "malignant", difficulty=difficulty)
    lesion = np.zeros((size, size), np.bool_)
    if label != "normal":
        echo, field = _add(rng, echo, frame, mass)
        lesion = canvas.whole(field > mass.outline)
    echo, seen = breast_tissue.scan(rng, echo)
    lesion &= seen
    return Phantom(
        image=expose(rng, echo, grain=0.01),
        label=label,
        lesion=lesion,
        parts=lesion[None] if lesion.any() else np.zeros((0, size, size), np.bool_),
        caption=_caption(rng, label, mass),
    )


def _mass(rng: np.random.Generator, *, malignant: bool, difficulty: float) -> _Mass:
    """What the mass is like; the classes overlap by a share that grows with the difficulty."""

    def told(benign: float, cancer: float, spread: float) -> float:
        alike = rng.random() < 0.45 * difficulty
        mean = (benign + cancer) / 2 if alike else cancer if malignant else benign
        return float(rng.normal(mean, spread))

    area = float(np.exp(rng.uniform(np.log(0.01), np.log(0.28))))
    aspect = float(np.exp(told(0.45, -0.25, 0.14)))
    radius = 2 * float(np.sqrt(area / np.pi))
    faint = 1.35 - 0.75 * difficulty
    bright = rng.random() < 0.06
    return _Mass(
        centre=(rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.35)),
        radii=(radius * aspect**0.5, radius / aspect**0.5),
        angle=told(0.0, 0.0, 0.25),
        wobble=abs(told(0.03, 0.16, 0.03)),
        spikes=max(0.0, told(0.0, 0.05, 0.015)),
        contrast=faint * rng.uniform(0.08, 0.32) * (1 if bright else -1),
        rim=faint * rng.uniform(-0.02, 0.12),
        behind=float(told(0.07, -0.16, 0.06)),
        mottle=max(0.01, told(0.02, 0.05, 0.015)),
        margin=max(0.04, told(0.1, 0.22, 0.06)),
    )


def _add(
    rng: np.random.Generator, echo: FloatArray, frame: Frame, mass: _Mass
) -> tuple[FloatArray, FloatArray]:
    """The tissue with the mass in it, and the mass's field (positive inside)."""
    field = shapes.blob(
        *(rng, frame, mass.centre, mass.radii),
        angle=mass.angle,
        wobble=mass.wobble,
        lobes=int(rng.integers(3, 8)),
        spikes=mass.spikes,
    )
    inside = canvas.edge(field, mass.margin)
    halo = canvas.edge(field + np.float32(0.22), 0.2)
    halo -= canvas.edge(field, 0.1)
    np.maximum(halo, 0, out=halo)
    halo *= mass.rim
    # Sound comes from above: what a mass takes or leaves shows in all that lies below it.
    below = np.maximum.accumulate(inside, axis=0)
    below *= 1 - inside
    below = textures.blur(below, 0.03)
    fade = frame.y - np.float32(mass.centre[1])
    np.maximum(fade, 0, out=fade)
    fade *= -rng.uniform(0.2, 1.2)
    below *= np.exp(fade, out=fade)
    below *= mass.behind
    echo = echo + below
    echo += halo
    own = textures.noise(rng, frame.size, grain=0.12, octaves=2, spread=mass.mottle)
    around = _median(echo[field > 0])
    own += around + mass.contrast
    # Some of what was there shows through, as in a mass that grew into the tissue.
    own += 0.3 * (echo - around)
    if mass.spikes > _SPICULATED and rng.random() < 0.5:
        own[textures.noise(rng, frame.size, grain=0.04) > 2.4] += 0.35
    canvas.mix(echo, canvas.EVERYWHERE, inside, own)
    return echo, field


def _median(values: FloatArray) -> float:
    """As `np.median`, but the upper one of an even number; that of usual tissue without any."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle]) if len(values) else 0.4


def _caption(rng: np.random.Generator, label: str, mass: _Mass) -> str:
    wide = mass.radii[0] > mass.radii[1]
    details = [
        "wider than tall" if wide else "taller than wide",
        "irregular with spiculated margins" if mass.wobble > 0.09 else "oval with smooth margins",
        "with a shadow below" if mass.behind < 0 else "with enhancement below",
        "bright" if mass.contrast > 0 else "dark",
        "large" if mass.radii[0] * mass.radii[1] > 0.07 else "small",
    ]
    return compose(
        rng,
        modalities=_MODALITIES,
        findings=_FINDINGS[label],
        details=[] if label == "normal" else details,
    )
