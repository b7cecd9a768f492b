"""``medfocus reproduce``: every row of the paper's table for a data set, in one command."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medfocus_pipeline import reproduction
from medfocus_pipeline.commands import diagnosis, embed, masks
from medfocus_pipeline.commands.doctor import lack
from medfocus_pipeline.commands.output import bar, say
from medfocus_pipeline.commands.results_table import build, show, write
from medfocus_pipeline.commands.scan import open_dataset
from medfocus_pipeline.commands.train_adapter import default_adapter
from medfocus_pipeline.commands.tuned import say_estimate, watching
from medfocus_pipeline.config import ProbeConfig, ProbeRow, Runtime
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.errors import counted
from medfocus_pipeline.features import focus_modes
from medfocus_pipeline.project.dataset import Dataset, split_of
from medfocus_pipeline.project.finetuning import Finetuning
from medfocus_pipeline.project.fits import fit_missing
from medfocus_pipeline.project.located import incomplete
from medfocus_pipeline.project.plans import Plan, has_region, plan
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Stores, encoder_label, locate_masks, locate_stores
from medfocus_pipeline.report.score_table import NEEDS_WEIGHTS, TableRow
from medfocus_pipeline.reproduction import Row, TunedRow
from medfocus_pipeline.types import join_parts


@dataclass(frozen=True, slots=True)
class Source:
    """Rows whose features come from one segmenter, ROI rule and encoder.

    Attributes:
        context: with the settings of these stages.
        rows: what is fitted on the features.
    """

    context: Context
    rows: list[Row]

    def lacking(self) -> str:
        """Which weights are missing here and what to type; empty if nothing is."""
        context = self.context
        segmenters = [context.masks.segmenter] if context.embed.needs_masks else []
        hashes = context.hashes()
        reasons = [lack(config, hashes) for config in (context.embed.encoder, *segmenters)]
        return next((reason for reason in reasons if reason), "")

    def plans(
        self, dataset: Dataset, stores: Stores, split: Split, config: ProbeConfig
    ) -> dict[str, Plan]:
        """Name of a row -> its runs, over the subsets of a configuration with whatever rows."""
        rows = tuple(ProbeRow(head=row.head, focus=row.focus) for row in self.rows)
        own = config.model_copy(update={"rows": rows})
        made = plan(self.context, dataset, stores, split, own)
        return {row.name: one for row, one in zip(self.rows, made, strict=True)}


def run(
    context: Context,
    *,
    names: Sequence[str] | None,
    seeds: int | None,
    runtime: Runtime,
    workers: int,
) -> int:
    """Run the stages that are missing, fit what is missing, print and write the table.

    Args:
        names: rows, see `reproduction.rows`; None is all of them.
        seeds: number of them; None is the profile's.
        workers: processes that fit.

    Returns:
        1 if no row can run on this machine, else 0.
    """
    started = time.monotonic()
    dataset = open_dataset(context, images_needed=False)
    known = reproduction.rows(default_adapter(context))
    heads, networks = reproduction.split_names(names)
    rows = reproduction.chosen(known, heads)
    context.remember(card=dataset.card_path)
    config = context.profile.probe  # its rows are those of each source
    if seeds is not None:
        config = config.model_copy(update={"seeds": seeds})
    split = split_of(dataset, config)
    plans: dict[str, Plan] = {}
    notes: dict[str, str] = {}
    for source in sources(context, rows):
        reason = source.lacking()
        if reason:
            notes |= {row.name: reason for row in source.rows}
            continue
        stores = _stage_one(source.context, dataset, runtime)
        plans |= source.plans(dataset, stores, split, config)
    folder = context.folder / "results"
    count = fit_missing(dataset, split, list(plans.values()), folder, workers=workers, progress=bar)
    trained, tuned = _tuned(context, dataset, networks, config, runtime)
    count += trained
    minutes = (time.monotonic() - started) / 60
    done = f"{counted(count, 'run')} fitted, {minutes:.1f} min in all"
    say(f"reproduce: {done if count else 'everything is done, nothing to do'}")
    reference = next((row.label for row in rows if row.name == reproduction.REFERENCE), None)
    shown = [
        without(row, notes[row.name]) if row.name in notes else _row(row, plans[row.name])
        for row in rows
    ]
    shown += tuned
    _report(context, dataset, shown, reference)
    return int(not any(one.runs for one in shown))


def _tuned(
    context: Context,
    dataset: Dataset,
    networks: Sequence[TunedRow],
    config: ProbeConfig,
    runtime: Runtime,
) -> tuple[int, list[TableRow]]:
    """How many runs were trained, and the rows of fine-tuned networks."""
    settings = context.settings.model_copy(update={"probe": None})  # the profile's split
    own = replace(context, settings=settings, passing=True)
    count, shown = 0, []
    for row in networks:
        line = TableRow(row.label, group=reproduction.PAPER, method=row.method)
        reason = lack(row.encoder, context.hashes())
        if reason:
            shown.append(replace(line, note=NEEDS_WEIGHTS, detail=reason))
            continue
        tuning = Finetuning(
            Project(own, dataset, progress=bar),
            row.encoder,
            TuningConfig(
                run=row.run, fractions=config.fractions, shots=config.shots, seeds=config.seeds
            ),
        )
        tuning.pictures.fill(runtime)
        say_estimate(tuning, runtime)
        with watching(tuning) as watch:
            count += tuning.fit(runtime, watch=watch)
        shown.append(replace(line, runs=tuning.runs()))
    return count, shown


def sources(context: Context, rows: Sequence[Row]) -> list[Source]:
    """Rows by what their features come from, the focus modes of each together."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        masked = has_region(row.focus)
        masks = (row.segmenter, row.roi) if masked else (None, None)
        key = (row.encoder, row.fit, *masks)
        groups.setdefault(key, []).append(row)
    return [Source(_context(context, own), own) for own in groups.values()]


def _context(context: Context, rows: Sequence[Row]) -> Context:
    first, profile = rows[0], context.profile
    modes = focus_modes(part for row in rows for part in row.focus)
    # Of the profile's own encoder `original` is embedded beside the masks, whatever rows are asked
    # for: so a row has one key, and whole images are embedded once.
    own = first.encoder is None and first.fit is None
    regions = own and profile.embed.roi_parts is not False
    changes: dict[str, object] = {"focus": tuple(modes), "roi_parts": regions}
    named = {"fit": first.fit, "encoder": first.encoder, "roi": first.roi}
    changes |= {name: value for name, value in named.items() if value}
    segmenter = {"segmenter": first.segmenter} if first.segmenter else {}
    return context.aside(
        profile.embed.model_copy(update=changes), masks=profile.masks.model_copy(update=segmenter)
    )


def _stage_one(context: Context, dataset: Dataset, runtime: Runtime) -> Stores:
    """The stores of these settings, made where they are missing."""
    if context.embed.needs_masks:
        place = locate_masks(context, dataset, context.masks)
        if incomplete(place):
            masks.run(context, context.masks, runtime, strict=False)
    configs = context.embed.configs(auto=dataset.card.roi)
    stores = locate_stores(context, dataset, configs)
    if any(map(incomplete, stores.all())):
        embed.run(context, context.embed, runtime, strict=False)
        stores = locate_stores(context, dataset, configs)
    return stores


def without(row: Row, lack: str) -> TableRow:
    """A row that cannot run here, and why."""
    return TableRow(
        row.label,
        note=NEEDS_WEIGHTS,
        detail=lack,
        group=row.group,
        head=row.head.name,
        focus=join_parts(row.focus),
        method=row.method,
    )


def _row(row: Row, one: Plan) -> TableRow:
    return TableRow(row.label, runs=one.runs, note=one.note, group=row.group, method=row.method)


def _report(
    context: Context, dataset: Dataset, shown: Sequence[TableRow], reference: str | None
) -> None:
    title = (
        f"{dataset.card.title}, profile {context.profile_name}: "
        f"{encoder_label(context.profile.embed.encoder)}"
    )
    folder = context.folder / "results"
    table = build(title, shown, folder, dataset, reference=reference)
    show(table)
    lines = {one.label: one.runs for one in shown}
    measured = diagnosis.write(folder, lines, classes=dataset.manifest.classes)
    for path in (*write(table, folder), measured):
        say(f"written: {path}")
