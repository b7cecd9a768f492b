"""Opacities of a chest X-ray: what is decided about them, and how they look.

Every finding is the same few numbers (where, how much, how dense, what texture), so that classes
differ only in how these are distributed, and overlap the more the harder the picture should be.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFilter

from medfocus_pipeline.datasets.phantoms.canvas import edge
from medfocus_pipeline.datasets.phantoms.chest_anatomy import Chest
from medfocus_pipeline.datasets.phantoms.chest_build import LEFT, RIGHT
from medfocus_pipeline.datasets.phantoms.chest_shadows import pixels
from medfocus_pipeline.datasets.phantoms.shapes import blob
from medfocus_pipeline.datasets.phantoms.textures import enlarged, noise
from medfocus_pipeline.types import FloatArray

COVID, VIRAL, BACTERIAL, TUBERCULOSIS = "covid", "viral", "bacterial", "tuberculosis"
"""Causes of a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the lungs.

    Attributes:
        outward: pull of the opacities to the chest wall; to the hila below 0.
        downward: pull to the diaphragm; to the apices below 0.
        leftward: pull to the patient's left lung, to the right below 0; about 0 is bilateral.
        share: part of the lungs' area that they cover, 0 to 1.
        density: brightness that they add.
        net: 0 (ground glass) to 1 (reticular lines).
        fissure: height that bounds them, 0 to 1; None without.
        above: whether they lie above the fissure.
        cavities: number of rings with a dark centre.
        nodules: number of small round spots.
    """

    outward: float
    downward: float
    leftward: float
    share: float
    density: float
    net: float
    fissure: float | None = None
    above: bool = False
    cavities: int = 0
    nodules: int = 0


@dataclass(frozen=True, slots=True)
class Opacity:
    """A drawn finding.

    Attributes:
        added: ``(s, s) float32``, what it adds to the brightness.
        extent: ``(s, s) float32``, how much of it is there, 0 to 1; its outline is at the half.
        depth: where it lies on average, 0 at the mediastinum to 1 at the chest wall.
        height: the same from 0 at the apex to 1 at the diaphragm.
    """

    added: FloatArray
    extent: FloatArray
    depth: float
    height: float


def decide(rng: np.random.Generator, cause: str, difficulty: float) -> Finding:
    """A finding as the cause brings it about, more or less typical.

    Args:
        rng: of the illness, apart from that of the body.
        cause: one of the constants above.
        difficulty: 0 to 1; how much the causes resemble each other, and how faint they are.
    """
    loose = 0.2 + 0.4 * difficulty
    out, down, left, net = rng.normal(0, loose, 4).tolist()
    density = (0.56 - 0.44 * difficulty) * float(np.exp(rng.normal(0, 0.2)))
    odd, one = bool(rng.random() < 0.2 * difficulty), float(rng.choice([-3.0, 3.0]))
    if cause == COVID:
        side = 0.6 * one if odd else 0.5 * left
        where = (1.6 + 0.8 * out, 1.0 + 0.7 * down, side)
        return Finding(*where, rng.uniform(0.2, 0.5), density, _share(0.15 + 0.25 * net))
    if cause == VIRAL:
        share = rng.uniform(0.2, 0.5) if odd else rng.uniform(0.5, 0.85)
        where = (-1.2 + 0.8 * out, 0.1 + 0.7 * down, 0.4 * left)
        return Finding(*where, share, 0.75 * density, _share(0.85 + 0.35 * net))
    if cause == BACTERIAL:
        return _lobar(rng, 1.15 * density, (0.5 * out, 0.5 * down, one), odd=odd)
    return Finding(
        0.4 * out,
        -2.2 + 0.8 * down,
        0.6 * one if rng.random() < 0.7 else 0.5 * left,
        rng.uniform(0.1, 0.25),
        density,
        _share(0.3 + 0.2 * net),
        cavities=0 if odd else int(rng.integers(1, 3)),
        nodules=int(rng.integers(4, 25)),
    )


def _lobar(
    rng: np.random.Generator, density: float, where: tuple[float, float, float], *, odd: bool
) -> Finding:
    """One lobe or most of it; oddly, patches that no fissure bounds."""
    above, fissure = bool(rng.random() < 0.4), rng.uniform(0.42, 0.56)
    share = rng.uniform(0.17, 0.27) if above else rng.uniform(0.2, 0.4)
    if odd:
        return Finding(where[0], where[1], 0.2 * where[2], share, density, 0.1)
    return Finding(*where, share, density, 0.05, fissure=fissure, above=above)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def opacity(rng: np.random.Generator, chest: Chest, finding: Finding) -> Opacity:
    """The finding in the lungs."""
    extent = _extent(rng, chest, finding)
    side = chest.frame.size
    haze = 1 + 0.25 * noise(rng, side, grain=0.12, octaves=2)
    added = extent * ((1 - 0.6 * finding.net) * haze + finding.net * _net(rng, side))
    if finding.nodules:
        dots = _nodules(rng, chest, finding)
        added, extent = added + 0.6 * dots, np.maximum(extent, dots)
    for _ in range(finding.cavities):
        added, extent = _cavity(rng, chest, finding, added, extent)
    there = (extent > 0.5) & chest.within
    added, extent = enlarged(added, chest.size), enlarged(extent, chest.size)
    if finding.fissure is not None:
        added = added - 0.35 * extent * chest.vessels
    added *= chest.air
    added *= finding.density
    extent *= chest.air
    return Opacity(
        added,
        extent,
        float(chest.depth[there].mean()),
        float(chest.height[there].mean()),
    )


def _net(rng: np.random.Generator, side: int) -> FloatArray:
    """A net of lines, 0 to about 1: where a random field is about zero."""
    field = noise(rng, side, grain=float(rng.uniform(0.035, 0.07)), octaves=2)
    # Here and there only: a net of even strength looks woven.
    return np.clip(1 - 1.3 * np.abs(field), 0, None) * (0.7 + 0.3 * noise(rng, side, grain=0.2))


def _extent(rng: np.random.Generator, chest: Chest, finding: Finding) -> FloatArray:
    """How hazy it is, ``(c, c) float32``: the likeliest places, as many as the share asks for."""
    score = 0.8 * noise(rng, chest.frame.size, grain=0.4, octaves=3)
    score += 2 * finding.outward * chest.depth + 2 * finding.downward * chest.height
    score += 0.5 * finding.leftward * np.sign(chest.frame.x)
    inside = chest.within
    wanted = finding.share * np.count_nonzero(inside)
    limit = np.ones_like(score)
    if finding.fissure is not None:
        slope, crisp = rng.normal(0.1, 0.1), finding.above or rng.random() < 0.5
        below = chest.height - slope * chest.depth - finding.fissure
        limit = edge(-below if finding.above else below, 0.012 if crisp else 0.08)
        limit *= (chest.frame.x > 0) == (finding.leftward > 0)
        inside = inside & (limit > 0.5)
    found = score[inside]
    return edge(score - _quantile(found, 1 - min(1.0, wanted / len(found))), 0.5) * limit


def _quantile(values: FloatArray, share: float) -> np.float32:
    """As `np.quantile`, in a part of the time."""
    below, beyond = divmod(share * (len(values) - 1), 1)
    ranked = np.partition(values, int(below))
    low, high = ranked[int(below)], ranked[int(below) + 1 :].min(initial=np.inf)
    return np.float32(low + beyond * (high - low) if beyond else low)


def _cavity(
    rng: np.random.Generator,
    chest: Chest,
    finding: Finding,
    added: FloatArray,
    extent: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """A ring with a dark centre, over what is there."""
    centre = chest.build.place(_side(rng, finding), rng.uniform(0.3, 0.75), rng.uniform(0.15, 0.4))
    radius, wall = rng.uniform(0.07, 0.15), rng.uniform(0.25, 0.5)
    radii = (radius, radius * rng.uniform(0.75, 1.2))
    field = blob(rng, chest.frame, centre, radii, wobble=0.12)
    ring, hole = edge(field, 0.12), edge(field - wall, 0.1)
    added = np.maximum(added, 1.3 * ring) * (1 - 0.95 * hole)
    return added, np.maximum(extent, edge(field, 0.05))


def _nodules(rng: np.random.Generator, chest: Chest, finding: Finding) -> FloatArray:
    """Small round spots, ``(c, c) float32`` from 0 to 1."""
    size = chest.frame.size
    layer = PillowImage.new("L", (size, size))
    pen = ImageDraw.Draw(layer)
    places, looks = [], []
    for _ in range(finding.nodules):
        height = rng.beta(1.5, 1.5 + max(0.0, -finding.downward))
        places.append(chest.build.place(_side(rng, finding), rng.uniform(0.1, 0.9), height))
        looks.append((rng.uniform(0.007, 0.022) * size, round(255 * rng.uniform(0.6, 1))))
    centres = pixels(chest.frame, np.array(places)).tolist()
    for (x, y), (r, fill) in zip(centres, looks, strict=True):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    soft = layer.filter(ImageFilter.BoxBlur(size / 150))
    return np.asarray(soft, dtype=np.float32) * np.float32(1 / 255)


def _side(rng: np.random.Generator, finding: Finding) -> int:
    return LEFT if rng.random() < 1 / (1 + np.exp(-2 * finding.leftward)) else RIGHT
