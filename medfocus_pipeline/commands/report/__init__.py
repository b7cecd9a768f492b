"""``medfocus report``: one page about a data set, for a doctor and for a reviewer."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from medfocus_pipeline.commands.output import bar, human, say
from medfocus_pipeline.commands.report.cells import Wrong, cells, surest_mistakes
from medfocus_pipeline.commands.report.chapters import finetuning_chapter, gate_chapter
from medfocus_pipeline.commands.report.duplicates import duplicates
from medfocus_pipeline.commands.report.gallery import (
    Survey,
    class_galleries,
    label_indices,
    survey,
    worst_galleries,
)
from medfocus_pipeline.commands.report.maps import embedding_maps
from medfocus_pipeline.commands.report.opened import Opened, open_report
from medfocus_pipeline.commands.report.provenance import provenance
from medfocus_pipeline.commands.report.summary import summarise
from medfocus_pipeline.commands.report.tiles import LEGEND, Tiles
from medfocus_pipeline.features import focus_modes
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import encoder_label, masks_label
from medfocus_pipeline.report.content import Gallery, Report, Tile
from medfocus_pipeline.report.page import write_page
from medfocus_pipeline.report.sampling import DEFAULT, Share, share
from medfocus_pipeline.report.score_table import TableRow, heading
from medfocus_pipeline.types import FeaturePart, FocusMode

_CANDIDATES = "Candidates have a colour each, the best one orange."
_NO_IMAGES = "The images are not on this machine, so there are no pictures of them."


def run(context: Context, *, out: Path | None = None, images: int = DEFAULT) -> None:
    """Gather what the stages before have made, and write the page.

    Args:
        out: folder of the report; None is ``report`` in the data set's part of the cache.

    Raises:
        StoreError: a stage has not run yet, a store is corrupt, or the disk is full.
    """
    folder = out or context.folder / "report"
    report = gather(context, images=images)
    with bar("drawing the page", 1) as advance:
        files = write_page(report, folder, cached=out is None)
        advance(1)
    say(f"report: {len(report.table.rows):,} rows, {human(files[0].stat().st_size)}")
    say(f"page: {files[0]}")


def gather(context: Context, *, images: int = DEFAULT) -> Report:
    """Everything that the page shows.

    Args:
        images: how many images all galleries together may show.

    Raises:
        StoreError: a stage has not run yet, or a store is corrupt.
    """
    opened = open_report(context)
    shares, dataset = share(images), opened.dataset
    labels = label_indices(dataset)
    names = {id_: dataset.manifest.classes[index] for id_, index in labels.items()}
    found = survey(opened)
    with bar("drawing images", images) as advance:
        tiles = Tiles(dataset, names, opened.regions, opened.here, lambda: advance(1))
        galleries = _galleries(opened, found, tiles, shares)
        mistakes = _mistakes(opened, tiles, count=shares.mistakes)
        pairs = duplicates(opened.measured, tiles, count=shares.pairs)
    maps = embedding_maps(opened, tiles, points=shares.points)
    return Report(
        title=dataset.card.title,
        subtitle=_subtitle(opened),
        classes=dataset.manifest.classes,
        summary=summarise(opened, found, tiles.unread),
        table=opened.rows.table,
        cells=cells(opened),
        galleries=galleries,
        mistakes=mistakes,
        maps=maps,
        duplicates=pairs,
        provenance=provenance(opened),
        chapters=[
            *finetuning_chapter(opened),
            *gate_chapter(context, dataset, errors=shares.mistakes),
        ],
    )


def _galleries(opened: Opened, survey: Survey, tiles: Tiles, shares: Share) -> list[Gallery]:
    if not opened.here:
        return [Gallery("Images", _NO_IMAGES, [])]
    found = class_galleries(opened.dataset, tiles, shares)
    if not opened.regions or not found:
        return found
    found[0] = replace(found[0], note=f"{found[0].note} {LEGEND} {_CANDIDATES}")
    return [*found, *worst_galleries(survey, tiles, shares)]


def _mistakes(opened: Opened, tiles: Tiles, *, count: int) -> Gallery:
    """The surest wrong answers of the best row's first seed."""
    best, classes = opened.rows.ranked[0], opened.dataset.manifest.classes
    runs = opened.rows.runs(best)
    wrong, tested = surest_mistakes(opened.context.folder / "results", runs)
    modes = _modes(opened, best)
    tried = [_mistake(tiles, one, classes, modes) for one in wrong[:count]]
    shown = [tile for tile in tried if tile is not None]
    seed = min(run.seed for run in runs)
    notes = [
        f"{best.label} with {heading(opened.rows.budget)}, seed {seed}: {len(wrong):,} images of "
        f"{tested:,} tested are wrong, {len(shown):,} of them, the most confident, are shown."
    ]
    if not opened.here:
        notes.append(_NO_IMAGES)
    elif opened.regions and modes:
        notes.append(LEGEND)
    elif opened.regions:
        whole = best.focus.startswith("original") and "+" not in best.focus
        what = "saw the whole images" if whole else "has other regions"
        notes.append(
            f"The row {what}; outlined is, for orientation, the region that the rule "
            f"{opened.config.roi} chose."
        )
    return Gallery("The most confident mistakes", " ".join(notes), shown)


def _modes(opened: Opened, best: TableRow) -> list[FocusMode]:
    """Focus modes of a row that its regions can be drawn for: those of the settings used last."""
    configs = opened.context.embed.configs(auto=opened.dataset.card.roi)
    keys = opened.stores.keys()
    if not set(best.embed_keys) <= keys:
        return []
    modes = focus_modes(map(FeaturePart.parse, best.focus.split("+")))
    return [one.focus for one in configs if one.focus in modes and one.focus != "original"]


def _mistake(
    tiles: Tiles, one: Wrong, classes: Sequence[str], modes: Sequence[FocusMode]
) -> Tile | None:
    """The tile of a wrong answer; without pictures where the images are not here."""
    if len(one.probabilities) != len(classes):
        return None  # a class came or went since
    tile = tiles.as_read(one.image_id, modes) or Tile(one.path, classes[one.label], {})
    return replace(
        tile,
        name=one.path,
        label=classes[one.label],
        probabilities=dict(zip(classes, one.probabilities, strict=True)),
        predicted=classes[one.predicted],
    )


def _subtitle(opened: Opened) -> str:
    context = opened.context
    profile = Path(context.profile_name).stem
    parts = [f"profile {profile}", encoder_label(opened.config.encoder)]
    if opened.masked:
        parts.append(masks_label(context.masks))
    today = datetime.now(UTC)
    return " · ".join([*parts, f"{today.day} {today:%B %Y}"])
