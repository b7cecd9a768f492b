"""Painter of frontal chest X-rays: the classes of the cards covid and lungs, and of pneumonia."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms import (
    canvas,
    chest_anatomy,
    chest_findings,
    chest_shadows,
)
from medfocus_pipeline.datasets.phantoms.chest_anatomy import Chest
from medfocus_pipeline.datasets.phantoms.chest_findings import (
    BACTERIAL,
    COVID,
    TUBERCULOSIS,
    VIRAL,
    Finding,
    Opacity,
)
from medfocus_pipeline.datasets.phantoms.exposure import expose
from medfocus_pipeline.datasets.phantoms.painting import Phantom, compose
from medfocus_pipeline.types import Mask

_HEALTHY = "healthy"
_CAUSES = {
    "Bacterial Pneumonia": BACTERIAL,
    "Corona Virus Disease": COVID,
    "Covid": COVID,
    "Normal": _HEALTHY,
    "Tuberculosis": TUBERCULOSIS,
    "Viral Pneumonia": VIRAL,
}

COVID_CLASSES = ("Covid", "Normal", "Viral Pneumonia")
LUNGS_CLASSES = tuple(label for label in _CAUSES if label != "Covid")
CHEST_CLASSES = ("Normal", "Pneumonia")

_SMALLEST = 0.0015
"""Smallest piece that is an outline of its own, as a share of the picture."""

_MODALITIES = (
    "a chest X-ray",
    "a frontal chest radiograph",
    "a chest radiograph",
    "a portable AP chest X-ray",
    "a PA chest film",
    "an X-ray of the lungs",
    "a plain film of the thorax",
)

_NAMES = {
    _HEALTHY: (
        "healthy lungs",
        "clear lungs",
        "a normal chest",
        "no acute cardiopulmonary disease",
        "lungs without opacities",
        "a normal finding",
    ),
    COVID: (
        "COVID-19 pneumonia",
        "COVID-19",
        "SARS-CoV-2 infection",
        "coronavirus pneumonia",
        "corona virus disease",
        "COVID pneumonia with ground-glass opacities",
    ),
    VIRAL: (
        "viral pneumonia",
        "a viral lung infection",
        "interstitial viral pneumonia",
        "viral pneumonitis",
        "a viral lower respiratory infection",
    ),
    BACTERIAL: (
        "bacterial pneumonia",
        "a bacterial lung infection",
        "lobar pneumonia",
        "pneumococcal pneumonia",
        "bacterial consolidation",
    ),
    TUBERCULOSIS: (
        "tuberculosis",
        "pulmonary tuberculosis",
        "lung TB",
        "active tuberculosis",
        "a mycobacterial infection of the lungs",
    ),
}


def paint(rng: np.random.Generator, label: str, size: int, difficulty: float) -> Phantom:
    """A chest X-ray of one of `COVID_CLASSES` or `LUNGS_CLASSES`; see `phantom.draw`."""
    return _paint(rng, label, _CAUSES[label], size, difficulty)


def paint_chest(rng: np.random.Generator, label: str, size: int, difficulty: float) -> Phantom:
    """A chest X-ray of one of `CHEST_CLASSES`: a pneumonia is viral or bacterial."""
    cause = VIRAL if rng.random() < 0.5 else BACTERIAL
    return _paint(rng, label, _HEALTHY if label == "Normal" else cause, size, difficulty)


def _paint(
    rng: np.random.Generator, label: str, cause: str, size: int, difficulty: float
) -> Phantom:
    # Three streams: the same body and the same exposure, whatever the class.
    body, illness, scanner = rng.spawn(3)
    chest = chest_anatomy.draw(body, size)
    picture, lesion = chest.picture, np.zeros((size, size), np.bool_)
    details = ["no opacities"]
    if cause != _HEALTHY:
        finding = chest_findings.decide(illness, cause, difficulty)
        drawn = chest_findings.opacity(illness, chest, finding)
        picture = picture + drawn.added
        lesion = ndimage.binary_fill_holes(drawn.extent > 0.5)
        details = _details(chest, finding, drawn, lesion)
    # Film saturates softly: beyond three quarters, half as much.
    picture = np.minimum(picture, 0.5 * picture + 0.375)
    picture = chest_shadows.devices(scanner, picture)
    image = expose(scanner, picture, grain=0.01 + 0.03 * difficulty)
    caption = compose(scanner, modalities=_MODALITIES, findings=_NAMES[cause], details=details)
    return Phantom(image, label, lesion, _parts(chest, lesion), caption)


def _parts(chest: Chest, lesion: Mask) -> NDArray[np.bool_]:
    """Each piece of the lesion, each lung, the heart, both lungs."""
    pieces = []
    if lesion.any():
        pieces = canvas.pieces(lesion, _SMALLEST * lesion.size) or [lesion]
    right, left = chest.lungs
    return np.stack([*pieces, right, left, chest.heart, right | left])


def _details(chest: Chest, finding: Finding, drawn: Opacity, lesion: Mask) -> list[str]:
    """What is seen of the opacities, most telling first."""
    right, left = (int(np.count_nonzero(lesion & lung)) for lung in chest.lungs)
    if min(right, left) > 0.25 * max(right, left):
        side = "in both lungs"
    else:
        side = "in the right lung" if right > left else "in the left lung"
    words = [_texture(finding), side]
    zone = (drawn.height > 0.45) + (drawn.height > 0.62)
    if zone != 1:
        words.append("in the upper zones" if zone == 0 else "in the lower zones")
    if drawn.depth > 0.62 or drawn.depth < 0.42:
        words.append("peripheral" if drawn.depth > 0.62 else "perihilar")
    if finding.share > 0.5:
        words.append("diffuse")
    return words


def _texture(finding: Finding) -> str:
    if finding.cavities:
        return "a cavity with a dark centre" if finding.cavities == 1 else "ring-shaped cavities"
    if finding.nodules:
        return "small nodules"
    if finding.fissure is not None:
        return "dense consolidation of one lobe"
    return "reticular opacities" if finding.net > 0.5 else "hazy ground-glass opacities"
