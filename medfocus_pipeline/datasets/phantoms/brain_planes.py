"""What a head in MRI is made of: planes as ovals, sequences as brightness, and a choice of them."""

from dataclasses import dataclass

import numpy as np

Oval = tuple[float, float, float, float, float]
"""x, y, radius along x, radius along y, turn in radians; in the head's coordinates."""

Stamp = tuple[str, tuple[Oval, ...]]
"""A tissue, and where it is."""


def _pair(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> tuple[Oval, Oval]:
    return (x, y, rx, ry, turn), (-x, y, rx, ry, -turn)


@dataclass(frozen=True, slots=True)
class Plane:
    """Where things are in one kind of slice.

    Attributes:
        view: "axial", "coronal" or "sagittal".
        head, brain: outlines, each the union of ovals.
        outside: tissues beyond the brain, in the order in which they are drawn.
        inside: tissues of the brain, likewise.
        folia: the cerebellum.
        ventricles: filled with fluid.
        fissures: (top, bottom) of the gap between the hemispheres, x = 0.
        sella: where the pituitary gland is.
    """

    view: str
    head: tuple[Oval, ...]
    brain: tuple[Oval, ...]
    outside: tuple[Stamp, ...]
    inside: tuple[Stamp, ...]
    folia: tuple[Oval, ...]
    ventricles: tuple[Oval, ...]
    fissures: tuple[tuple[float, float], ...]
    sella: tuple[float, float]


PLANES = {
    "base": Plane(
        view="axial",
        head=(
            (0, 0.08, 0.68, 0.72, 0),
            (0, -0.16, 0.58, 0.66, 0),
            (0, -0.84, 0.09, 0.1, 0),
            *_pair(0.69, 0.12, 0.05, 0.13, -0.2),
            *_pair(0.27, -0.55, 0.2, 0.23, -0.35),
        ),
        brain=(
            (0, 0.16, 0.57, 0.54, 0),
            (0, -0.22, 0.36, 0.26, 0),
            *_pair(0.29, -0.08, 0.26, 0.3, 0.2),
        ),
        outside=(
            ("fat", _pair(0.27, -0.56, 0.17, 0.2, -0.35)),
            ("fluid", _pair(0.29, -0.64, 0.11, 0.11)),
            ("muscle", _pair(0.22, -0.46, 0.02, 0.09, 0.3)),
            ("air", ((0, -0.62, 0.1, 0.17, 0), *_pair(0.52, 0.3, 0.06, 0.07))),
        ),
        inside=(
            ("bone", _pair(0.4, 0.17, 0.17, 0.035, -0.45)),
            ("fluid", ((0, -0.2, 0.13, 0.1, 0), *_pair(0.17, 0.06, 0.03, 0.12, 0.3))),
            ("white", ((0, 0.07, 0.15, 0.14, 0),)),
        ),
        folia=((0, 0.44, 0.42, 0.25, 0),),
        ventricles=((0, 0.24, 0.06, 0.035, 0), *_pair(0.34, 0.02, 0.03, 0.09, -0.5)),
        fissures=((-0.48, -0.28), (0.5, 0.7)),
        sella=(0, -0.2),
    ),
    "middle": Plane(
        view="axial",
        head=((0, 0.08, 0.68, 0.75, 0), (0, -0.12, 0.59, 0.74, 0)),
        brain=((0, 0.09, 0.59, 0.65, 0), (0, -0.1, 0.5, 0.65, 0)),
        outside=(),
        inside=(
            ("white", ((0, -0.36, 0.18, 0.04, 0), (0, 0.32, 0.2, 0.05, 0))),
            ("grey", (*_pair(0.22, -0.06, 0.07, 0.15, -0.3), *_pair(0.12, 0.1, 0.09, 0.1, -0.4))),
            ("fluid", ((0, -0.3, 0.06, 0.06, 0), *_pair(0.42, -0.04, 0.15, 0.018, 0.4))),
        ),
        folia=(),
        ventricles=(
            *_pair(0.1, -0.17, 0.045, 0.15, -0.3),
            *_pair(0.2, 0.3, 0.045, 0.17, -0.35),
            (0, 0.05, 0.02, 0.1, 0),
        ),
        fissures=((-0.8, -0.36), (0.4, 0.8)),
        sella=(0, -0.3),
    ),
    "coronal": Plane(
        view="coronal",
        head=((0, -0.16, 0.66, 0.74, 0), (0, 0.4, 0.52, 0.5, 0), (0, 0.95, 0.4, 0.4, 0)),
        brain=((0, -0.28, 0.56, 0.47, 0), *_pair(0.31, 0.04, 0.24, 0.24, -0.2)),
        outside=(
            ("air", ((0, 0.34, 0.11, 0.07, 0), *_pair(0.06, 0.6, 0.035, 0.15))),
            ("air", _pair(0.24, 0.58, 0.1, 0.13, 0.1)),
            ("fat", (*_pair(0.26, 0.38, 0.1, 0.05), *_pair(0.42, 0.62, 0.06, 0.16, 0.1))),
            ("muscle", ((0, 0.88, 0.2, 0.12, 0),)),
        ),
        inside=(
            ("white", ((0, -0.38, 0.2, 0.035, 0), *_pair(0.06, 0.02, 0.05, 0.12, 0.3))),
            ("grey", (*_pair(0.2, -0.13, 0.09, 0.11, 0.2), *_pair(0.27, 0.1, 0.05, 0.05))),
            ("fluid", ((0, 0.12, 0.14, 0.06, 0), *_pair(0.43, -0.08, 0.12, 0.02, 0.3))),
        ),
        folia=(),
        ventricles=(
            *_pair(0.1, -0.28, 0.04, 0.13, 0.7),
            (0, -0.06, 0.02, 0.08, 0),
            *_pair(0.3, 0.1, 0.04, 0.02, 0.3),
        ),
        fissures=((-0.76, -0.42),),
        sella=(0, 0.13),
    ),
    "sagittal": Plane(
        view="sagittal",
        head=(
            (0.02, -0.17, 0.83, 0.66, 0),
            (-0.42, 0.3, 0.38, 0.56, -0.1),
            (-0.1, 0.5, 0.4, 0.42, 0),
            (0.22, 0.75, 0.4, 0.7, 0.1),
            (-0.8, 0.26, 0.11, 0.14, 0.4),
        ),
        brain=(
            (0.02, -0.26, 0.71, 0.43, 0),
            (0.4, 0.14, 0.25, 0.2, 0.2),
            (0.15, 0.3, 0.08, 0.34, -0.2),
        ),
        outside=(
            ("air", ((-0.25, 0.27, 0.1, 0.07, 0.3), (-0.62, -0.02, 0.04, 0.09, 0.2))),
            ("air", ((-0.5, 0.4, 0.18, 0.05, 0.1), (-0.06, 0.62, 0.035, 0.24, -0.1))),
            ("muscle", ((-0.38, 0.62, 0.22, 0.11, 0.2), (0.6, 0.6, 0.08, 0.3, 0.1))),
            ("fat", ((0.24, 0.72, 0.06, 0.06, 0), (0.27, 0.88, 0.06, 0.06, 0))),
        ),
        inside=(
            ("fluid", ((0, -0.42, 0.36, 0.018, 0), (0.3, 0.0, 0.18, 0.02, -0.5))),
            ("white", ((0, -0.33, 0.32, 0.05, 0), (0.15, 0.26, 0.08, 0.28, -0.2))),
            ("grey", ((0.08, -0.1, 0.14, 0.08, 0.1),)),
            ("fluid", ((-0.08, 0.12, 0.15, 0.05, 0.1), (0.04, 0.2, 0.03, 0.14, -0.2))),
        ),
        folia=((0.4, 0.14, 0.22, 0.17, 0.2),),
        ventricles=((0.0, -0.23, 0.26, 0.055, 0.05), (0.25, 0.14, 0.035, 0.07, 0.3)),
        fissures=(),
        sella=(-0.11, 0.13),
    ),
}
"""The kinds of slices; every one of them passes the pituitary gland."""

SEQUENCES = {
    "T1": {"fat": 0.85, "bone": 0.08, "fluid": 0.14, "grey": 0.42, "white": 0.58},
    "T1 with contrast": {"fat": 0.82, "bone": 0.08, "fluid": 0.12, "grey": 0.36, "white": 0.44},
    "T2": {"fat": 0.6, "bone": 0.06, "fluid": 0.95, "grey": 0.56, "white": 0.38},
    "FLAIR": {"fat": 0.5, "bone": 0.07, "fluid": 0.1, "grey": 0.54, "white": 0.42},
}
"""Brightness of what every head has."""

FINDINGS = {
    "T1": {"solid": 0.78, "dead": 0.24, "oedema": 0.34, "vessel": 0.12, "gland": 0.55},
    "T1 with contrast": {"solid": 0.94, "dead": 0.16, "oedema": 0.27, "vessel": 0.7, "gland": 0.6},
    "T2": {"solid": 0.78, "dead": 0.96, "oedema": 0.72, "vessel": 0.08, "gland": 0.55},
    "FLAIR": {"solid": 0.8, "dead": 0.25, "oedema": 0.72, "vessel": 0.1, "gland": 0.55},
}
"""Brightness of tumours and what comes with them, and of vessels and glands."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What was decided about a head, whatever its class.

    Attributes:
        plane: where things are.
        sequence: one of `SEQUENCES`.
        tissues: tissue -> brightness, 0 to 1.
        ventricles: size of the ventricles over the usual.
        scalp, skull: their thickness, in coordinates.
        folds: how wide the sulci are.
        stripped: only the brain is left, as after a skull stripping program.
    """

    plane: Plane
    sequence: str
    tissues: dict[str, float]
    ventricles: float
    scalp: float
    skull: float
    folds: float
    stripped: bool


def plan(rng: np.random.Generator) -> Anatomy:
    """Decide about a head."""
    plane = str(rng.choice(list(PLANES), p=(0.35, 0.35, 0.15, 0.15)))
    sequence = str(rng.choice(list(SEQUENCES), p=(0.15, 0.63, 0.1, 0.12)))
    usual = {"air": 0.02, "muscle": 0.3, **SEQUENCES[sequence], **FINDINGS[sequence]}
    shift = rng.normal(0, 0.025, len(usual))
    tissues = {
        name: float(np.clip(value + change, 0.01, 1))
        for (name, value), change in zip(usual.items(), shift, strict=True)
    }
    return Anatomy(
        plane=PLANES[plane],
        sequence=sequence,
        tissues=tissues,
        ventricles=float(np.exp(rng.normal(0.05, 0.22))),
        scalp=float(rng.uniform(0.03, 0.1)),
        skull=float(rng.uniform(0.035, 0.075)),
        folds=float(rng.uniform(0.4, 1.4)),
        stripped=bool(rng.random() < 0.04),
    )
