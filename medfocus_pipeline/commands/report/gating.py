"""The report's chapter on the gate: its table of methods, and what it left out of the data set."""

from functools import partial

from medfocus_pipeline.commands.gate import gate_report
from medfocus_pipeline.datasets.readers import decode, picture_place
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.gate_scores import read_scores
from medfocus_pipeline.project.gating import gate_folder
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.report.content import Chapter, Drawing, Gallery, Section, Tile
from medfocus_pipeline.report.gate import CAPTION, draw_curves, sections
from medfocus_pipeline.report.pictures import encoded


def gate_chapter(context: Context, dataset: Dataset, *, errors: int) -> list[Chapter]:
    """What the gate found; none where no gate looked at the images.

    Args:
        errors: images that each gallery shows at most.

    Raises:
        DamagedError: the written scores were changed.
    """
    notes, drawings = list[str](), list[Drawing]()
    tables, galleries = list[Section](), list[Gallery]()
    if dataset.manifest.gate:
        refused = _refused(context, dataset, errors)
        notes.append(
            f"The gate looked at {len(dataset.manifest.gate_scores):,} images before anything else."
        )
        galleries.append(refused)
    read = read_scores(gate_folder(context))
    if read is not None:
        report = gate_report(context, dataset, *read, errors=errors)
        notes += report.notes
        drawings.append(Drawing("gate-curves", CAPTION, partial(draw_curves, report.methods)))
        tables += sections(report)
        galleries.append(report.errors)
    if not notes:
        return []
    return [Chapter("gate", "Medical or not", notes, drawings, tables, galleries)]


def _refused(context: Context, dataset: Dataset, count: int) -> Gallery:
    """What looks like no medical image, the least like one first."""
    manifest = dataset.manifest
    scores, modalities = manifest.refused, manifest.strings("looks_like")
    names = dict(zip(manifest.paths, manifest.strings("class_name"), strict=True))
    likes = dict(zip(manifest.paths, modalities, strict=True))
    tiles = []
    for path, score in list(scores.items())[:count]:
        facts = {"score": f"{score:.2f}", "kept": "no" if path in dataset.problems else "yes"}
        facts |= {"looks like": likes[path]} if likes[path] else {}
        try:
            picture = decode(*picture_place(context.data / path)).pixels
            pictures = {"image": encoded(picture, alt=f"image {path}")}
        except (OSError, ImageError):
            pictures = {}  # the images are elsewhere
        tiles.append(Tile(path, names[path] or "no class", pictures, facts))
    note = f"{len(scores):,} images, the lowest score first"
    return Gallery("No medical images", f"{note}; {len(tiles):,} are shown.", tiles)
