"""Brain MRI: gliomas infiltrate, meningiomas sit on the dura, pituitary tumours in the midline."""

import numpy as np

from medfocus_pipeline.datasets.phantoms import (
    brain_anatomy,
    brain_planes,
    brain_tumours,
    canvas,
    textures,
)
from medfocus_pipeline.datasets.phantoms.brain_planes import Anatomy
from medfocus_pipeline.datasets.phantoms.brain_tumours import Tumour
from medfocus_pipeline.datasets.phantoms.canvas import Frame
from medfocus_pipeline.datasets.phantoms.exposure import expose
from medfocus_pipeline.datasets.phantoms.painting import Phantom, compose, pick
from medfocus_pipeline.types import Mask

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
"""In the order of the card."""

_FINDINGS = {
    "glioma": (
        "a glioma tumor",
        "a glioma",
        "glioma",
        "a high-grade glioma",
        "an infiltrating glial tumor",
        "an intra-axial glial neoplasm",
        "glioblastoma, a kind of glioma",
    ),
    "meningioma": (
        "a meningioma tumor",
        "a meningioma",
        "meningioma",
        "an extra-axial dural-based tumor, a meningioma",
        "a tumor of the meninges",
        "a meningeal mass",
    ),
    "notumor": (
        "a healthy brain without a tumor",
        "no tumor",
        "a normal brain",
        "no intracranial mass",
        "a healthy brain",
        "no evidence of a tumor",
        "normal findings",
    ),
    "pituitary": (
        "a pituitary tumor",
        "a pituitary adenoma",
        "pituitary tumor",
        "a tumor of the pituitary gland",
        "a sellar mass, a pituitary adenoma",
        "a pituitary macroadenoma",
    ),
}

_SEQUENCES = {
    "T1": ("T1-weighted", "T1"),
    "T1 with contrast": ("contrast-enhanced T1-weighted", "post-contrast T1", "gadolinium T1"),
    "T2": ("T2-weighted", "T2"),
    "FLAIR": ("FLAIR", "T2 FLAIR"),
}


def paint(rng: np.random.Generator, label: str, size: int, difficulty: float) -> Phantom:
    """One brain MRI; see `phantom.draw`."""
    # Streams of their own: one seed shows the same head with each tumour and without.
    heads, tumours, scanner, words = rng.spawn(4)
    anatomy = brain_planes.plan(heads)
    outer = inner = _pose(heads, anatomy, size)
    tumour = None
    if label != "notumor":
        tumour = brain_tumours.plan(tumours, anatomy, label, difficulty)
        inner = brain_tumours.pushed(outer, tumour)
    head = brain_anatomy.draw(heads, anatomy, outer, inner)
    brain_anatomy.specks(heads, head.picture, inner, anatomy)
    lesion = core = np.zeros((size, size), np.bool_)
    if tumour is not None:
        lesion, core = brain_tumours.draw(tumours, anatomy, head, outer, tumour)
    picture = head.picture
    if scanner.random() < 0.2:
        picture = textures.blur(picture, float(scanner.uniform(0.004, 0.012)))
    grain = 0.01 + 0.03 * difficulty * float(scanner.random())
    brain = (head.depth > 0) | lesion
    return Phantom(
        image=expose(scanner, picture, grain=grain, spread=0.12),
        label=label,
        lesion=lesion,
        parts=_parts(lesion, (core, head.head, brain, head.ventricles & ~lesion)),
        caption=_caption(words, anatomy, label, tumour),
    )


def _pose(rng: np.random.Generator, anatomy: Anatomy, size: int) -> Frame:
    """Coordinates; a sagittal head may look to either side."""
    frame = canvas.posed(rng, size, turn=0.08, zoom=0.06, stretch=0.06, shift=0.04, bend=0.025)
    far = np.float32(rng.uniform(0.98, 1.15))
    sign = -1 if anatomy.plane.view == "sagittal" and rng.random() < 0.5 else 1
    return Frame(frame.x * (sign * far), frame.y * far)


def _parts(lesion: Mask, others: tuple[Mask, ...]) -> Mask:
    """The lesion as one piece, then the others that can be seen, ``(p, s, s) bool``."""
    least = 0.0015 * lesion.size
    parts = [part for part in others if np.count_nonzero(part) >= least]
    if lesion.any():
        parts.insert(0, canvas.whole(lesion))
    return np.stack(parts)


def _caption(rng: np.random.Generator, anatomy: Anatomy, label: str, tumour: Tumour | None) -> str:
    view, weighting = anatomy.plane.view, pick(rng, _SEQUENCES[anatomy.sequence])
    article = "an" if view == "axial" else "a"
    modalities = (
        "a brain MRI",
        "a brain MRI slice",
        "a head MRI",
        "an MRI scan of the brain",
        f"{article} {view} brain MRI",
        f"{article} {view} {weighting} MRI of the head",
    )
    details = [f"{view} view", weighting] if tumour is None else _details(rng, anatomy, tumour)
    return compose(rng, modalities=modalities, findings=_FINDINGS[label], details=details)


def _details(rng: np.random.Generator, anatomy: Anatomy, tumour: Tumour) -> list[str]:
    """What is seen of a tumour, most telling first."""
    details = []
    x, y = tumour.centre
    if tumour.core > 0.35:
        details.append(pick(rng, ("ring-shaped with a dead core", "necrotic in the middle")))
    elif tumour.texture < 0.1:
        details.append(pick(rng, ("homogeneous", "evenly bright")))
    if tumour.wobble > 0.12:
        details.append(pick(rng, ("irregular", "with ill-defined margins", "infiltrating")))
    else:
        details.append(pick(rng, ("round", "well-defined", "sharply bordered")))
    if tumour.tail:
        details.append("with a dural tail")
    if tumour.halo > 0.5 and tumour.bed == "oedema":
        details.append(pick(rng, ("with surrounding oedema", "perilesional edema")))
    if anatomy.plane.view != "sagittal" and abs(x) > 0.1:
        details.append("on the left of the image" if x < 0 else "on the right of the image")
    elif np.hypot(x - anatomy.plane.sella[0], y - anatomy.plane.sella[1]) < 0.1:
        details.append(pick(rng, ("in the midline", "in the sellar region")))
    details.append("large" if tumour.radius > 0.18 else "small" if tumour.radius < 0.1 else "")
    return [detail for detail in details if detail]
