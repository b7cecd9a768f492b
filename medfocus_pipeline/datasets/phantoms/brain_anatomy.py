"""Healthy heads in MRI slices, drawn from the tables in `brain_planes`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.datasets.phantoms import canvas
from medfocus_pipeline.datasets.phantoms.brain_planes import Anatomy, Oval
from medfocus_pipeline.datasets.phantoms.canvas import Frame
from medfocus_pipeline.types import FloatArray, Mask


def depth(frame: Frame, ovals: Sequence[Oval]) -> FloatArray:
    """About how far inside the union of ovals a pixel is, in coordinates; negative outside."""
    fields = [
        canvas.ellipse(frame, (x, y), (rx, ry), angle=turn) * np.float32(np.sqrt(rx * ry))
        for x, y, rx, ry, turn in ovals
    ]
    deepest: FloatArray = np.maximum.reduce(fields)
    return deepest


def outline(frame: Frame, ovals: Sequence[Oval]) -> FloatArray:
    """`depth` of the whole picture; from every other pixel, as it is smooth."""
    from PIL import Image as PillowImage

    coarse = depth(Frame(frame.x[::2, ::2], frame.y[::2, ::2]), ovals)
    side = (frame.size, frame.size)
    grown = PillowImage.fromarray(coarse).resize(side, PillowImage.Resampling.BILINEAR)
    return np.asarray(grown)


def window(
    frame: Frame, centre: tuple[float, float], reach: float
) -> tuple[tuple[slice, slice], Frame]:
    """The pixels that are nearer to a point than `reach` along x and y, and their coordinates."""
    step = max(1, frame.size // 48)
    near = np.abs(frame.x[::step, ::step] - np.float32(centre[0])) < reach
    near &= np.abs(frame.y[::step, ::step] - np.float32(centre[1])) < reach
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if len(rows) == 0:
        rows = columns = np.zeros(1, np.int64)
    there = tuple(
        slice(max(0, (int(line[0]) - 1) * step), (int(line[-1]) + 2) * step)
        for line in (rows, columns)
    )
    return (there[0], there[1]), Frame(frame.x[there], frame.y[there])


def stamp(
    picture: FloatArray, frame: Frame, oval: Oval, value: float, *, blur: float = 0.015
) -> tuple[tuple[slice, slice], FloatArray]:
    """Draw an oval into a picture; returns where, and how much of it is there.

    Args:
        picture: ``(s, s) float32``, changed in place.
        frame: its coordinates.
        oval: the shape.
        value: its brightness.
        blur: how far its border reaches, in coordinates.
    """
    x, y, rx, ry, turn = oval
    there, near = window(frame, (x, y), max(rx, ry) + 2 * blur)
    field = canvas.ellipse(near, (x, y), (rx, ry), angle=turn) * np.float32(min(rx, ry))
    amount = canvas.edge(field, blur)
    picture[there] += amount * (np.float32(value) - picture[there])
    return there, amount


def _varied(
    rng: np.random.Generator, ovals: Sequence[Oval], *, scale: float = 1.0, spread: float = 0.12
) -> list[Oval]:
    """The ovals, each a little moved, resized and turned; `scale` is for their widths."""
    spreads = (0.1 * spread, 0.1 * spread, spread, spread, 0.6 * spread)
    changes = rng.normal(0, spreads, (len(ovals), len(spreads))).tolist()
    return [
        (x + dx, y + dy, rx * scale * np.exp(wider), ry * np.exp(taller), turn + more)
        for (x, y, rx, ry, turn), (dx, dy, wider, taller, more) in zip(ovals, changes, strict=True)
    ]


def _lookup(field: FloatArray, knots: Sequence[float], values: Sequence[float]) -> FloatArray:
    """Piecewise linear function of a field."""
    low, high = knots[0], knots[-1]
    table = np.interp(np.linspace(low, high, 256), knots, values).astype(np.float32)
    steps = ((field - np.float32(low)) * np.float32(255 / (high - low))).astype(np.int32)
    return table.take(steps, mode="clip")


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
    picture *= 1 + np.float32(0.25) * folds * (head > scalp)
    for tissue, ovals in anatomy.plane.outside:
        for oval in _varied(rng, ovals):
            stamp(picture, frame, oval, tissues[tissue], blur=0.02)
    return picture


def _tissue(anatomy: Anatomy, brain: FloatArray, folds: FloatArray) -> FloatArray:
    """Sulci, cortex and white matter by depth; where `folds` crosses zero is a sulcus."""
    fluid, grey, white = (anatomy.tissues[name] for name in ("fluid", "grey", "white"))
    deeper = np.float32(0.3) * np.maximum(brain - np.float32(0.1), 0)
    layer = np.minimum(np.float32(0.1) * np.abs(folds) + deeper, brain)
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
    for x, y, rx, ry, turn in anatomy.plane.folia:
        there, near = window(frame, (x, y), max(rx, ry) + 0.03)
        field = canvas.ellipse(near, (x, y), (rx, ry), angle=turn)
        dx, dy = near.x - np.float32(x), near.y - np.float32(y)
        phase = np.float32(rate) * (dy + np.float32(curve) * dx * dx)
        waves = np.sin(phase + np.float32(bend) * folds[there])
        leaves = np.float32(grey) + np.float32(0.2 * (fluid - grey)) * waves
        picture[there] += canvas.edge(field, 0.1) * (leaves - picture[there])


def _fissures(picture: FloatArray, frame: Frame, anatomy: Anatomy) -> None:
    """The gap between the hemispheres."""
    fluid = np.float32(anatomy.tissues["fluid"])
    for top, bottom in anatomy.plane.fissures:
        middle, half = (top + bottom) / 2, (bottom - top) / 2
        there, near = window(frame, (0.0, middle), half + 0.05)
        thin = np.float32(0.012 + 0.006 * anatomy.folds) - np.abs(near.x)
        amount = canvas.edge(thin, 0.012) * canvas.edge(half - np.abs(near.y - middle), 0.05)
        picture[there] += amount * (fluid - picture[there])


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
    plane, tissues = anatomy.plane, anatomy.tissues
    head, brain = (
        outline(outer, _varied(rng, plane.head, spread=0.03)),
        outline(outer, _varied(rng, plane.brain, spread=0.03)),
    )
    folds = canvas.noise(rng, outer.size, grain=float(rng.uniform(0.06, 0.11)))
    inside = _tissue(anatomy, brain, folds)
    _folia(rng, inside, inner, anatomy, folds)
    _fissures(inside, inner, anatomy)
    for tissue, ovals in plane.inside:
        for oval in _varied(rng, ovals):
            stamp(inside, inner, oval, tissues[tissue], blur=0.025)
    ventricles = np.zeros_like(inside)
    for oval in _varied(rng, plane.ventricles, scale=anatomy.ventricles):
        there, amount = stamp(inside, inner, oval, tissues["fluid"])
        ventricles[there] = np.maximum(ventricles[there], amount)
    picture = _shell(rng, anatomy, outer, head, folds)
    bony = canvas.edge(brain + np.float32(anatomy.skull), 0.012)
    if anatomy.stripped:
        head, bony = brain, canvas.edge(brain, 0.012)
        picture[...] = tissues["air"]
    picture += bony * (_skull(anatomy, brain) - picture)
    picture += canvas.edge(brain - np.float32(0.006), 0.01) * (inside - picture)
    _gland(rng, picture, inner, anatomy)
    picture *= 1 + np.float32(0.05) * canvas.noise(rng, outer.size, grain=0.25, octaves=2)
    return Slice(picture, brain, head > 0, (ventricles > 0.5) & (brain > 0))


def _gland(rng: np.random.Generator, picture: FloatArray, frame: Frame, anatomy: Anatomy) -> None:
    """The healthy pituitary gland between the carotid arteries."""
    x, y = anatomy.plane.sella
    sizes = rng.uniform(0.018, 0.034, 4).tolist()
    gland, tissue = (x, y, sizes[0], sizes[1], 0.0), anatomy.tissues["gland"]
    stamp(picture, frame, gland, tissue)
    if anatomy.plane.view != "sagittal":
        for side, radius in zip((-0.085, 0.085), sizes[2:], strict=True):
            artery = (x + side, y, radius, radius, 0.0)
            stamp(picture, frame, artery, anatomy.tissues["vessel"])


def places(rng: np.random.Generator, anatomy: Anatomy) -> tuple[FloatArray, FloatArray]:
    """Random points of the brain ``(n, 2) float32`` and how deep they are ``(n,) float32``."""
    points = rng.uniform((-0.75, -0.8), (0.75, 0.8), (96, 2)).astype(np.float32)
    frame = Frame(points[None, :, 0], points[None, :, 1])
    far = depth(frame, anatomy.plane.brain)[0]
    return points[far > 0.02], far[far > 0.02]


def specks(rng: np.random.Generator, picture: FloatArray, frame: Frame, anatomy: Anatomy) -> None:
    """Vessels, calcified spots, lacunes and cysts, which say nothing about the class."""
    points, _ = places(rng, anatomy)
    for x, y in points[: rng.poisson(2)].tolist():
        tissue = str(rng.choice(("vessel", "fluid", "bone", "oedema", "gland")))
        radius, narrow = rng.uniform((0.012, 0.4), (0.035, 1)).tolist()
        if rng.random() < 0.06:
            radius, tissue = float(rng.uniform(0.06, 0.12)), "fluid"
        oval = (x, y, radius, radius * narrow, float(rng.uniform(0, np.pi)))
        stamp(picture, frame, oval, anatomy.tissues[tissue])
    for top, bottom in () if anatomy.stripped else anatomy.plane.fissures:
        sinus = (0.0, top if top < 0 else bottom, 0.03, 0.02, 0.0)
        stamp(picture, frame, sinus, anatomy.tissues["vessel"])
