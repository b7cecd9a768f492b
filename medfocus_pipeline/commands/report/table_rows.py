"""The rows of a report: those of probe, and those of reproduce once some were fitted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medfocus_pipeline import reproduction
from medfocus_pipeline.commands.reproduce import sources, without
from medfocus_pipeline.commands.results_table import build
from medfocus_pipeline.commands.train_adapter import default_adapter
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.errors import MedFocusError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.runs import PlannedRun
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.plans import Plan, plan
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Stores, encoder_label, locate_stores
from medfocus_pipeline.project.tuned_results import TunedNetwork
from medfocus_pipeline.report.score_table import NEEDS_WEIGHTS, ResultsTable, TableCell, TableRow

REFERENCE = "linear on original"
"""Label of the row that the others are tested against."""

OURS = "MedFocusCLIP"
"""What the paper calls its own method."""

_NOT_RUN = "not run"
_PROBED = "further rows of probe"
_TUNED = "fine-tuned"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The table, and how far its rows are.

    Attributes:
        budget: the one with the most training images.
        ranked: rows that were measured there, the highest accuracy first.
        reproduced: whether some rows of reproduce were fitted.
        left_out: rows of reproduce that nobody asked for yet.
    """

    table: ResultsTable
    budget: Budget
    ranked: Sequence[TableRow]
    reproduced: bool
    left_out: int

    def reference(self) -> TableRow | None:
        """The row that the others are held against, if it is among the ranked."""
        return next((row for row in self.ranked if row.label == REFERENCE), None)

    def ours(self) -> TableRow | None:
        """The paper's method."""
        return next((row for row in self.ranked if row.method == OURS), None)

    def cell(self, row: TableRow) -> TableCell:
        """What a ranked row has."""
        return row.cells[self.budget]

    def runs(self, row: TableRow) -> list[PlannedRun]:
        """The runs of a ranked row, all with a result."""
        return [run for run in row.runs if run.budget == self.budget]

    def lacking(self) -> dict[str, str]:
        """Label -> which weights are missing here."""
        rows = self.table.rows
        return {row.label: row.detail for row in rows if row.note == NEEDS_WEIGHTS and row.detail}

    def unfinished(self) -> dict[str, str]:
        """Label -> how many of its runs have a result."""
        return {
            row.label: f"{len(row.runs):,} of {row.planned:,} runs"
            for row in self.table.rows
            if row.runs and len(row.runs) < row.planned
        }


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
        _row(one.label, one, keys, method=one.paper)
        for one in plan(context, dataset, stores, split, context.probe)
    ]
    known = {run.key for row in probed for run in row.runs}
    reproduced = _reproduced(context, dataset, split, keys)
    more = [run for row in reproduced for run in row.runs if run.key not in known]
    rows, left_out = _joined(probed, reproduced) if more else (probed, 0)
    rows = [*rows, *map(_tuned, networks)]
    if not any(row.runs for row in rows):
        raise StoreError(
            f"No row of {context.dataset} has a result yet. Run: make probe "
            f"DATASET={context.dataset}"
        )
    title = f"{dataset.card.title}: {encoder_label(context.embed.encoder)}"
    table = build(title, rows, folder, dataset, reference=REFERENCE)
    sizes = {run.budget: len(run.subset) for row in rows for run in row.runs}
    largest = max(sizes, key=lambda budget: sizes[budget])
    measured = [row for row in table.rows if largest in row.cells]
    ranked = sorted(measured, key=lambda row: -row.cells[largest].mean)
    return Rows(table, largest, ranked, reproduced=bool(more), left_out=left_out)


def _row(
    label: str,
    one: Plan,
    keys: set[str],
    *,
    method: str,
    group: str = "",
    lack: str = "",
) -> TableRow:
    runs = [run for run in one.runs if run.key in keys]
    note, detail = "", ""
    if not runs:
        note = one.note or (NEEDS_WEIGHTS if lack else _NOT_RUN)
        detail = "" if one.note else lack
    elif len(runs) < len(one.runs):
        detail = f"{len(runs):,} of {len(one.runs):,} runs have a result"
    return TableRow(
        label,
        runs=runs,
        note=note,
        detail=detail,
        group=group,
        head=one.row.head.name,
        focus=one.row.parts,
        planned=len(one.runs),
        embed_keys=[key.partition("/")[0] for key in one.keys.embed_keys],
        method=method,
    )


def _tuned(one: TunedNetwork) -> TableRow:
    """A fine-tuned network; the paper's have its names."""
    config = one.tuning.config
    rows = {(row.encoder, row.run): row for row in reproduction.tuned_rows()}
    row = rows.get((one.tuning.encoder, config.run))
    return TableRow(
        row.label if row else one.label,
        runs=one.runs,
        note="" if one.runs else NEEDS_WEIGHTS if one.lack else "of other images",
        detail="" if one.runs else one.lack,
        group=_TUNED,
        head=config.run.name,
        focus=config.run.focus,
        planned=len(one.runs),
        method=row.method if row else "",
    )


def _reproduced(context: Context, dataset: Dataset, split: Split, keys: set[str]) -> list[TableRow]:
    """The rows of reproduce, in the table's order."""
    rows = reproduction.rows(default_adapter(context))
    found: dict[str, TableRow] = {}
    for source in sources(context, rows):
        lack = source.lacking()
        try:
            configs = source.context.embed.configs(auto=dataset.card.roi)
            stores = locate_stores(source.context, dataset, configs)
            plans = source.plans(dataset, stores, split, context.profile.probe)
        except MedFocusError as error:
            found |= {row.name: without(row, lack or str(error)) for row in source.rows}
            continue
        for row in source.rows:
            found[row.name] = _row(
                row.label, plans[row.name], keys, method=row.method, group=row.group, lack=lack
            )
    return [found[row.name] for row in rows]


def _joined(
    probed: Sequence[TableRow], reproduced: Sequence[TableRow]
) -> tuple[list[TableRow], int]:
    """Both, each row once, without those that nobody asked for; and how many these are."""
    kept = [row for row in reproduced if row.note != _NOT_RUN or row.group == reproduction.PAPER]
    known = {run.key for row in kept for run in row.runs}
    others = [
        replace(row, group=_PROBED)
        for row in probed
        if row.runs and known.isdisjoint(run.key for run in row.runs)
    ]
    return [*kept, *others], len(reproduced) - len(kept)
