"""``medfocus gate``: medical or not, every method in one table."""

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from medfocus_pipeline.commands import phantom
from medfocus_pipeline.commands.doctor import lack
from medfocus_pipeline.commands.output import bar, say, say_filled, say_sections
from medfocus_pipeline.commands.scan import open_project
from medfocus_pipeline.commands.tuned import watching
from medfocus_pipeline.config import GateConfig, Runtime
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet
from medfocus_pipeline.datasets.phantoms.phantom import MIXED
from medfocus_pipeline.errors import ImageError, counted
from medfocus_pipeline.evaluation.gate_reports import SIDES, TEST, MethodReport, best, compare
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.gate_networks import GateNetwork, name_of
from medfocus_pipeline.project.gate_table import GateTable, fill, gate_table, methods, write_scores
from medfocus_pipeline.project.gating import gate_folder
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import encoder_label
from medfocus_pipeline.report.content import Gallery, Tile
from medfocus_pipeline.report.gate import GateReport, sections, write_gate
from medfocus_pipeline.report.outlines import encoded

DRAWN = phantom.name_of(MIXED)

_TRAIN, _TEST = 240, 120
"""Phantoms that are drawn where there are none; as many to choose on as to test."""

_ERRORS = 24
"""Test images that are shown."""


def run(
    context: Context, config: GateConfig, runtime: Runtime, *, medical: str | None, workers: int
) -> None:
    """Embed what is missing, fit every method, print and write the table.

    Args:
        medical: name of the medical class; None is the one that is called so.
        workers: processes that draw.
    """
    if context.dataset == DRAWN and not context.data.exists():
        phantoms = PhantomSet(kind=MIXED)
        phantom.run(phantoms, context.data, train=_TRAIN, test=_TEST, workers=workers, force=False)
    context = context.gated(False, ())  # which would leave one of the sides out
    project = open_project(context)
    context.remember(card=project.dataset.card_path)
    asked, filled = fill(project, config, runtime)
    for one in filled:
        say_filled(one)
    table = gate_table(asked, config, medical=medical)
    lines = methods(table, config, project.dataset.card.gate)
    started = time.monotonic()
    with bar("fitting", len(lines)) as advance:
        reports = compare(table.data, lines, seed=config.seed, on_method=lambda: advance(1))
    networks, lacking = _networks(project, config, table, runtime, medical=medical)
    reports += networks
    say(f"gate: {counted(len(reports), 'method')} fitted in {time.monotonic() - started:.1f} s")
    report = gate_report(context, project.dataset, table, reports, lacking=lacking)
    say_sections(report.title, sections(report), report.notes)
    say(f"errors of {report.best.name}: {report.errors.note}")
    folder = gate_folder(context)
    written = write_scores(folder, table, reports)
    page, *_ = write_gate(report, folder)
    say(f"scores: {written}")
    say(f"tables and curves: {folder}; open in a browser: {page}")


def _networks(
    project: Project,
    config: GateConfig,
    table: GateTable,
    runtime: Runtime,
    *,
    medical: str | None,
) -> tuple[list[MethodReport], dict[str, str]]:
    """The lines of fine-tuned networks; and of others why they are missing."""
    reports, lacking = [], {}
    for encoder in config.networks:
        reason = lack(encoder, project.context.hashes())
        if reason:
            lacking[name_of(encoder)] = reason
            continue
        network = GateNetwork.of(project, encoder, config, medical=medical)
        say_filled(network.tuning.pictures.fill(runtime))
        with watching(network.tuning) as watch:
            reports.append(network.report(table, runtime, watch=watch))
    return reports, lacking


def gate_report(
    context: Context,
    dataset: Dataset,
    table: GateTable,
    reports: Sequence[MethodReport],
    *,
    errors: int = _ERRORS,
    lacking: Mapping[str, str] = MappingProxyType({}),
) -> GateReport:
    """What is shown of a table.

    Args:
        errors: images that are shown at most.
        lacking: name of a method that cannot run here -> why.
    """
    chosen = best(reports)
    encoder = encoder_label(context.embed.encoder)
    return GateReport(
        title=f"{dataset.card.title}: {encoder}",
        methods=reports,
        best=chosen,
        notes=[*_notes(context, chosen), *(f"{name}: {why}" for name, why in lacking.items())],
        lacking=list(lacking),
        errors=_errors(dataset, table, chosen, errors),
    )


def _notes(context: Context, chosen: MethodReport) -> list[str]:
    notes = [
        "P, R, F1: precision, recall and F1 of a class, then their averages, plain (macro) and by "
        "support (weighted). AUROC and AP: areas under the ROC and precision-recall curves, "
        "medical is positive.",
        f"Thresholds are chosen on {chosen.chosen_on}: the midpoint of two scores with the "
        "greatest balanced accuracy. No test image chooses anything.",
        f"The pictures are errors of {chosen.name}, which errs least where thresholds are chosen.",
    ]
    if context.dataset.startswith("phantom-"):
        notes.append(
            "Both sides are drawn, so this says little of photographs: a boundary between drawings "
            "lets most of them through (docs/gate.md)."
        )
    if context.embed.encoder.name == "lite-clip":
        notes.append(
            "lite-clip learned the words of drawn brain, breast and lung images alone: its "
            "zero-shot lines say nothing of other modalities."
        )
    return notes


def _errors(dataset: Dataset, table: GateTable, chosen: MethodReport, count: int) -> Gallery:
    """The test images that a method takes for the other side, the farthest off first."""
    rows = table.data.splits[TEST]
    wrong = rows[chosen.predicted[rows] != table.data.medical[rows]].tolist()
    wrong.sort(key=lambda row: -abs(chosen.scores[row] - chosen.threshold))
    tiles = [
        _tile(dataset, table, chosen, row)
        for row in wrong[:count]
        if table.image_ids[row] in dataset.files
    ]
    note = (
        f"{len(wrong):,} of {len(rows):,} test images, the farthest from the threshold first"
        f"{f'; {len(tiles)} are shown' if len(wrong) > len(tiles) else ''}."
    )
    return Gallery(f"Errors of {chosen.name}", note, tiles)


def _tile(dataset: Dataset, table: GateTable, chosen: MethodReport, row: int) -> Tile:
    image_id = table.image_ids[row]
    name = dataset.files[image_id]
    try:
        pictures = {"image": encoded(dataset.read(image_id), alt=f"image {name}")}
    except ImageError:
        pictures = {}  # it was embedded elsewhere
    facts = {"score": f"{chosen.scores[row]:.4g}", "threshold": f"{chosen.threshold:.4g}"}
    true, predicted = (
        SIDES[int(not medical)] for medical in (table.data.medical[row], chosen.predicted[row])
    )
    return Tile(name, true, pictures, facts, predicted=predicted)
