"""Healthy heads in MRI slices, drawn from the ovals of the tables in `brain_planes`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.datasets.phantoms import canvas
from medfocus_pipeline.datasets.phantoms.brain_planes import Anatomy, Oval
from medfocus_pipeline.datasets.phantoms.canvas import Frame, Window
from medfocus_pipeline.datasets.phantoms.painting import pick
from medfocus_pipeline.datasets.phantoms.shapes import ellipse
from medfocus_pipeline.datasets.phantoms.textures import enlarged, noise
from medfocus_pipeline.types import FloatArray, Mask

_SPECKS = ("vessel", "fluid", "bone", "oedema", "gland")


def depth(frame: Frame, ovals: Sequence[Oval]) -> FloatArray:
    """About how far inside the union of ovals a pixel is, in coordinates; negative outside."""
    deepest = np.full(frame.x.shape, -np.inf, np.float32)
    for x, y, rx, ry, turn in ovals:
        field = ellipse(frame, (x, y), (rx, ry), angle=turn)
        field *= math.sqrt(rx * ry)
        np.maximum(deepest, field, out=deepest)
    return deepest


def stamp(
    picture: FloatArray,
    frame: Frame,
    painted: Sequence[tuple[Oval, float]],
    *,
    blur: float = 0.015,
) -> list[tuple[Window, FloatArray]]:
    """Draw ovals into a picture, one over the other; returns where, and how much of each is there.

    Args:
        picture: ``(s, s) float32``, changed in place.
        frame: its coordinates.
        painted: the ovals, and how bright each is.
        blur: how far their borders reach, in coordinates.
    """
    squares = [(x, y, max(rx, ry) + 2 * blur) for (x, y, rx, ry, _), _ in painted]
    drawn = []
    for there, (oval, value) in zip(canvas.windows(frame, squares), painted, strict=True):
        x, y, rx, ry, turn = oval
        field = ellipse(frame.within(there), (x, y), (rx, ry), angle=turn)
        amount = canvas.edge(field, blur / min(rx, ry))
        canvas.mix(picture, there, amount, value)
        drawn.append((there, amount))
    return drawn


def varied(
    rng: np.random.Generator, ovals: Sequence[Oval], *, scale: float = 1.0, spread: float = 0.12
) -> list[Oval]:
    """The ovals, each a little moved, resized and turned; `scale` is for their widths."""
    spreads = np.array((0.1, 0.1, 1, 1, 0.6)) * spread
    changes = (rng.standard_normal((len(ovals), len(spreads))) * spreads).tolist()
    return [
        (x + dx, y + dy, rx * scale * math.exp(wider), ry * math.exp(taller), turn + more)
        for (x, y, rx, ry, turn), (dx, dy, wider, taller, more) in zip(ovals, changes, strict=True)
    ]


def organs(
    rng: np.random.Generator, anatomy: Anatomy, table: Sequence[tuple[str, Sequence[Oval]]]
) -> list[tuple[Oval, float]]:
    """A table's ovals, a little varied, and how bright each is."""
    return [
        (oval, anatomy.tissues[tissue]) for tissue, usual in table for oval in varied(rng, usual)
    ]


def _lookup(field: FloatArray, knots: Sequence[float], values: Sequence[float]) -> FloatArray:
    """Piecewise linear function of a field."""
    low, high = knots[0], knots[-1]
    table = np.interp(np.linspace(low, high, 256), knots, values).astype(np.float32)
    steps = field - np.float32(low)
    steps *= 255 / (high - low)
    return table.take(steps.astype(np.intp), mode="clip")


def _shell(
    rng: np.random.Generator, anatomy: Anatomy, frame: Frame, head: FloatArray, folds: FloatArray
) -> FloatArray:
    """Everything around the brain: scalp, face, sinuses, eyes."""
    tissues, scalp = anatomy.tissues, anatomy.scalp
    fat, muscle = tissues["fat"], tissues["muscle"]
    skin = (fat + muscle) / 2
    picture = _lookup(
        head,
        (-0.012, 0.0, 0.02, scalp, scalp + 0.03, 0.4),
        (tissues["air"], skin, fat, fat, muscle, muscle),
    )
    strands = folds * (head > scalp)
    strands *= 0.25
    strands += 1
    picture *= strands
    stamp(picture, frame, organs(rng, anatomy, anatomy.plane.outside), blur=0.02)
    return picture


def _tissue(anatomy: Anatomy, brain: FloatArray, folds: FloatArray) -> FloatArray:
    """Sulci, cortex and white matter by depth; where `folds` crosses zero is a sulcus."""
    fluid, grey, white = (anatomy.tissues[name] for name in ("fluid", "grey", "white"))
    deeper = brain - np.float32(0.1)
    np.maximum(deeper, 0, out=deeper)
    deeper *= 0.3
    layer = np.abs(folds)
    layer *= 0.1
    layer += deeper
    np.minimum(layer, brain, out=layer)
    sulcus = 0.018 * anatomy.folds
    return _lookup(
        layer,
        (-0.004, 0.5 * sulcus, 1.5 * sulcus, 0.035 + sulcus, 0.06 + sulcus, 0.2),
        (fluid, fluid, grey, grey, white, white),
    )


def _skull(anatomy: Anatomy, brain: FloatArray) -> FloatArray:
    """Bone, marrow, bone and fluid by depth."""
    skull, bone, fluid = anatomy.skull, anatomy.tissues["bone"], anatomy.tissues["fluid"]
    marrow = bone + 0.25 * anatomy.tissues["fat"]
    return _lookup(
        brain,
        (-skull - 0.01, -0.75 * skull, -0.55 * skull, -0.4 * skull, -0.2 * skull, -0.005, 0.012),
        (bone, bone, marrow, marrow, bone, bone, fluid),
    )


def _folia(
    rng: np.random.Generator,
    picture: FloatArray,
    frame: Frame,
    anatomy: Anatomy,
    folds: FloatArray,
) -> None:
    """The cerebellum's fine leaves."""
    rate, curve, bend = rng.uniform((70, -1.5, 0.5), (130, 1.5, 1.5))
    grey, fluid = anatomy.tissues["grey"], anatomy.tissues["fluid"]
    squares = [(x, y, max(rx, ry) + 0.03) for x, y, rx, ry, _ in anatomy.plane.folia]
    for there, oval in zip(canvas.windows(frame, squares), anatomy.plane.folia, strict=True):
        x, y, rx, ry, turn = oval
        near = frame.within(there)
        field = ellipse(near, (x, y), (rx, ry), angle=turn)
        dx, dy = near.x - np.float32(x), near.y - np.float32(y)
        phase = np.float32(rate) * (dy + np.float32(curve) * dx * dx)
        waves = np.sin(phase + np.float32(bend) * folds[there])
        leaves = np.float32(grey) + np.float32(0.2 * (fluid - grey)) * waves
        canvas.mix(picture, there, canvas.edge(field, 0.1), leaves)


def _fissures(picture: FloatArray, frame: Frame, anatomy: Anatomy) -> None:
    """The gap between the hemispheres."""
    spans = [((top + bottom) / 2, (bottom - top) / 2) for top, bottom in anatomy.plane.fissures]
    squares = [(0.0, middle, half + 0.05) for middle, half in spans]
    for there, (middle, half) in zip(canvas.windows(frame, squares), spans, strict=True):
        near = frame.within(there)
        thin = np.float32(0.012 + 0.006 * anatomy.folds) - np.abs(near.x)
        amount = canvas.edge(thin, 0.012)
        amount *= canvas.edge(half - np.abs(near.y - np.float32(middle)), 0.05)
        canvas.mix(picture, there, amount, anatomy.tissues["fluid"])


def _cavities(
    rng: np.random.Generator, picture: FloatArray, frame: Frame, anatomy: Anatomy
) -> Mask:
    """Fissures, nuclei and ventricles; returns the ventricles, ``(s, s) bool``."""
    _fissures(picture, frame, anatomy)
    stamp(picture, frame, organs(rng, anatomy, anatomy.plane.inside), blur=0.025)
    ventricles = np.zeros(picture.shape, np.bool_)
    fluid = anatomy.tissues["fluid"]
    ovals = varied(rng, anatomy.plane.ventricles, scale=anatomy.ventricles)
    for there, amount in stamp(picture, frame, [(oval, fluid) for oval in ovals]):
        ventricles[there] |= amount > 0.5
    return ventricles


@dataclass(frozen=True, slots=True)
class Slice:
    """A healthy head.

    Attributes:
        picture: ``(s, s) float32``, about 0 to 1.
        depth: ``(s, s) float32``, how far inside the brain, negative outside.
        head, ventricles: ``(s, s) bool``.
    """

    picture: FloatArray
    depth: FloatArray
    head: Mask
    ventricles: Mask


def draw(rng: np.random.Generator, anatomy: Anatomy, outer: Frame, inner: Frame) -> Slice:
    """Draw a healthy head.

    Args:
        rng: of the phantom.
        anatomy: the plan.
        outer: coordinates of skull and scalp.
        inner: coordinates of what is in the brain; they differ where a mass pushes it.
    """
    # Depths are smooth: every other pixel is enough.
    coarse = Frame(*(np.ascontiguousarray(field[::2, ::2]) for field in (outer.x, outer.y)))
    head, brain = (
        enlarged(depth(coarse, varied(rng, ovals, spread=0.03)), outer.size)
        for ovals in (anatomy.plane.head, anatomy.plane.brain)
    )
    skin = brain if anatomy.stripped else brain + np.float32(anatomy.skull)
    bony = canvas.edge(skin, 0.012)
    box = canvas.bounds(bony > 0)
    folds = noise(rng, outer.size, grain=float(rng.uniform(0.06, 0.11)))
    inside = np.zeros_like(brain)
    inside[box] = _tissue(anatomy, brain[box], folds[box])
    _folia(rng, inside, inner, anatomy, folds)
    ventricles = _cavities(rng, inside, inner, anatomy)
    picture = _shell(rng, anatomy, outer, head, folds)
    if anatomy.stripped:
        head = brain
        picture[...] = anatomy.tissues["air"]
    canvas.mix(picture, box, bony[box], _skull(anatomy, brain[box]))
    within = canvas.edge(brain[box] - np.float32(0.006), 0.01)
    canvas.mix(picture, box, within, inside[box])
    _gland(rng, picture, inner, anatomy)
    shading = noise(rng, outer.size, grain=0.25, octaves=2, spread=0.05)
    shading += 1
    picture *= shading
    return Slice(picture, brain, head > 0, ventricles & (brain > 0))


def _gland(rng: np.random.Generator, picture: FloatArray, frame: Frame, anatomy: Anatomy) -> None:
    """The healthy pituitary gland between the carotid arteries."""
    x, y = anatomy.plane.sella
    wide, high, *arteries = rng.uniform(0.018, 0.034, 4).tolist()
    painted = [((x, y, wide, high, 0.0), anatomy.tissues["gland"])]
    if anatomy.plane.view != "sagittal":
        for side, radius in zip((-0.085, 0.085), arteries, strict=True):
            painted.append(((x + side, y, radius, radius, 0.0), anatomy.tissues["vessel"]))
    stamp(picture, frame, painted)


def places(rng: np.random.Generator, anatomy: Anatomy) -> tuple[FloatArray, FloatArray]:
    """Random points of the brain ``(n, 2) float32`` and how deep they are ``(n,) float32``."""
    points = rng.uniform((-0.75, -0.8), (0.75, 0.8), (96, 2)).astype(np.float32)
    frame = Frame(points[None, :, 0], points[None, :, 1])
    far = depth(frame, anatomy.plane.brain)[0]
    return points[far > 0.02], far[far > 0.02]


def specks(rng: np.random.Generator, picture: FloatArray, frame: Frame, anatomy: Anatomy) -> None:
    """Vessels, calcified spots, lacunes and cysts, which say nothing about the class."""
    points, _ = places(rng, anatomy)
    painted = []
    for x, y in points[: rng.poisson(2)].tolist():
        tissue = pick(rng, _SPECKS)
        radius, narrow = rng.uniform((0.012, 0.4), (0.035, 1)).tolist()
        if rng.random() < 0.06:
            radius, tissue = float(rng.uniform(0.06, 0.12)), "fluid"
        oval = (x, y, radius, radius * narrow, float(rng.uniform(0, np.pi)))
        painted.append((oval, anatomy.tissues[tissue]))
    for top, bottom in () if anatomy.stripped else anatomy.plane.fissures:
        oval = (0.0, top if top < 0 else bottom, 0.03, 0.02, 0.0)
        painted.append((oval, anatomy.tissues["vessel"]))
    stamp(picture, frame, painted)
