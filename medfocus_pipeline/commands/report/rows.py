"""The rows of a report: those of probe, and those of reproduce once some were fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medfocus_pipeline import reproduction
from medfocus_pipeline.commands.reproduce import lacking, probe_row, sources
from medfocus_pipeline.commands.results_table import Shown, build
from medfocus_pipeline.commands.train_adapter import default_adapter
from medfocus_pipeline.datasets.splits import Budget, Split
from medfocus_pipeline.errors import MedFocusError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.sweep import PlannedRun
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.plans import Plan, plan
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Stores, encoder_label, locate_stores
from medfocus_pipeline.project.tuned_results import TunedNetwork
from medfocus_pipeline.report.content import RowTags
from medfocus_pipeline.report.table import Entry, ResultsTable
from medfocus_pipeline.reproduction import Row
from medfocus_pipeline.types import join_parts

REFERENCE = "linear on original"
"""Label of the row that the others are tested against."""

OURS = "MedFocusCLIP"
"""What the paper calls its own method."""

_NOT_RUN = "not run"
_PROBED = "further rows of probe"
_TUNED = "fine-tuned"


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """One row at the largest budget of the table.

    Attributes:
        label: of the table's line.
        method: what the paper calls it; may be empty.
        runs: of the budget, all with a result.
        embed_keys: of the stores that its features are from.
    """

    label: str
    method: str
    focus: str
    budget: Budget
    entry: Entry
    clean: tuple[int, int]
    runs: Sequence[PlannedRun]
    embed_keys: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The table, and what its lines are.

    Attributes:
        tags: label -> what the line is filtered by.
        standings: rows that have the largest budget, the highest accuracy first.
        reproduced: whether some rows of reproduce were fitted.
        lacking: label -> which weights are missing here.
        unfinished: label -> how many of its runs have a result.
        left_out: rows of reproduce that nobody asked for yet.
    """

    table: ResultsTable
    tags: Mapping[str, RowTags]
    standings: Sequence[Standing]
    reproduced: bool
    lacking: Mapping[str, str]
    unfinished: Mapping[str, str]
    left_out: int

    def reference(self) -> Standing | None:
        """The row that the others are held against, if it has the largest budget."""
        return next((one for one in self.standings if one.label == REFERENCE), None)

    def ours(self) -> Standing | None:
        """The paper's method."""
        return next((one for one in self.standings if one.method == OURS), None)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A row to be shown, whether it was fitted or not.

    Attributes:
        planned: number of its runs, with a result or without.
        lack: which weights are missing here; empty if none are.
        embed_keys: of its stores.
    """

    shown: Shown
    tags: RowTags
    planned: int
    lack: str = ""
    embed_keys: Sequence[str] = ()


def gather_rows(
    context: Context,
    dataset: Dataset,
    stores: Stores,
    split: Split,
    networks: Sequence[TunedNetwork] = (),
) -> Rows:
    """Every row that has a result, and those of the paper that have none.

    Args:
        networks: that were fine-tuned.

    Raises:
        StoreError: no row has a result.
    """
    folder = context.folder / "results"
    keys = set(results.read(folder)["run_key"].to_pylist())
    probed = [
        _found(one.label, one, keys, method=one.paper)
        for one in plan(context, dataset, stores, split, context.probe)
    ]
    known = {run.key for one in probed for run in one.shown.runs}
    reproduced = _reproduced(context, dataset, split, keys)
    more = [run for one in reproduced for run in one.shown.runs if run.key not in known]
    found, left_out = _joined(probed, reproduced) if more else (probed, 0)
    found = [*found, *map(_tuned, networks)]
    if not any(one.shown.runs for one in found):
        raise StoreError(
            f"No row of {context.dataset} has a result yet. Run: make probe "
            f"DATASET={context.dataset}"
        )
    table = build(
        f"{dataset.card.title}: {encoder_label(context.embed.encoder)}",
        [one.shown for one in found],
        folder,
        paper=dataset.card.paper,
        reference=REFERENCE,
        classes=dataset.manifest.classes,
        patients=dataset.manifest.patients,
    )
    pairs = list(zip((line.label for line in table.lines), found, strict=True))
    return Rows(
        table,
        {label: one.tags for label, one in pairs},
        _standings(table, found),
        reproduced=bool(more),
        lacking={label: one.lack for label, one in pairs if one.lack},
        unfinished={
            label: f"{len(one.shown.runs):,} of {one.planned:,} runs"
            for label, one in pairs
            if one.shown.runs and len(one.shown.runs) < one.planned
        },
        left_out=left_out,
    )


def _found(
    label: str,
    one: Plan,
    keys: set[str],
    *,
    method: str,
    group: str = "",
    lack: str = "",
) -> _Found:
    runs = [run for run in one.runs if run.key in keys]
    note = "" if runs else one.note or ("needs weights" if lack else _NOT_RUN)
    detail = ""
    if runs and len(runs) < len(one.runs):
        detail = f"{len(runs):,} of {len(one.runs):,} runs have a result"
    shown = Shown(label, runs, note, detail, group, method)
    tags = RowTags(one.row.head.name, one.row.parts)
    keys_of = [key.partition("/")[0] for key in one.keys.embed_keys]
    return _Found(shown, tags, len(one.runs), "" if runs or one.note else lack, keys_of)


def _tuned(one: TunedNetwork) -> _Found:
    """A fine-tuned network; the paper's have its names."""
    config = one.tuning.config
    row = next(
        (
            row
            for row in reproduction.tuned_rows()
            if (row.encoder, row.run) == (one.tuning.encoder, config.run)
        ),
        None,
    )
    label, method = (row.label, row.method) if row else (one.label, "")
    note = "" if one.runs else "needs weights" if one.lack else "of other images"
    shown = Shown(label, one.runs, note, "", _TUNED, method)
    tags = RowTags(config.run.name, config.run.focus)
    return _Found(shown, tags, len(one.runs), one.lack)


def _reproduced(context: Context, dataset: Dataset, split: Split, keys: set[str]) -> list[_Found]:
    """The rows of reproduce, in the table's order."""
    rows = reproduction.rows(default_adapter(context))
    found: dict[str, _Found] = {}
    for source in sources(context, rows):
        lack = lacking(source.context)
        config = context.profile.probe.model_copy(
            update={"rows": tuple(map(probe_row, source.rows))}
        )
        try:
            configs = source.context.embed.configs(auto=dataset.card.roi)
            stores = locate_stores(source.context, dataset, configs)
            plans = plan(source.context, dataset, stores, split, config)
        except MedFocusError as error:
            found |= {row.name: _without(row, lack or str(error)) for row in source.rows}
            continue
        for row, one in zip(source.rows, plans, strict=True):
            found[row.name] = _found(
                row.label, one, keys, method=row.method, group=row.group, lack=lack
            )
    return [found[row.name] for row in rows]


def _without(row: Row, lack: str) -> _Found:
    shown = Shown(row.label, [], "needs weights", "", row.group, row.method)
    return _Found(shown, RowTags(row.head.name, join_parts(row.focus)), 0, lack)


def _joined(probed: Sequence[_Found], reproduced: Sequence[_Found]) -> tuple[list[_Found], int]:
    """Both, each row once, without those that nobody asked for; and how many these are."""
    kept = [
        one
        for one in reproduced
        if one.shown.note != _NOT_RUN or one.shown.group == reproduction.PAPER
    ]
    known = {run.key for one in kept for run in one.shown.runs}
    others = [
        replace(one, shown=replace(one.shown, group=_PROBED))
        for one in probed
        if one.shown.runs and known.isdisjoint(run.key for run in one.shown.runs)
    ]
    return [*kept, *others], len(reproduced) - len(kept)


def _standings(table: ResultsTable, found: Sequence[_Found]) -> list[Standing]:
    sizes = {run.budget: len(run.subset) for one in found for run in one.shown.runs}
    largest = max(sizes, key=lambda budget: sizes[budget])
    standings = [
        Standing(
            line.label,
            one.shown.method,
            one.tags.focus,
            largest,
            line.entries[largest],
            line.clean,
            [run for run in one.shown.runs if run.budget == largest],
            one.embed_keys,
        )
        for line, one in zip(table.lines, found, strict=True)
        if largest in line.entries
    ]
    return sorted(standings, key=lambda one: -one.entry.mean)
