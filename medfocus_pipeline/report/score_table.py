"""The results table in the paper's layout, ours and the paper's side by side, for any writer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation.runs import PlannedRun

NEEDS_WEIGHTS = "needs weights"
"""Note of a row whose model is not on this machine."""


@dataclass(frozen=True, slots=True)
class TableCell:
    """One row at one budget, over seeds; all but `runs` in [0, 1].

    Attributes:
        mean, spread: of the accuracy; standard deviation (ddof 1).
        low, high: 95 % t-interval of the mean.
        clean, clean_spread: on the clean test images; nan without any.
        runs: number of seeds.
        test_low, test_high: 95 % interval that the number of test images leaves open, see
            `intervals.wilson_interval`.
        p_value: of the difference to the reference row, Holm-corrected; nan where there is none.
        mark: of that difference; empty where there is none worth one.
    """

    mean: float
    spread: float
    low: float
    high: float
    clean: float
    clean_spread: float
    runs: int
    p_value: float = math.nan
    test_low: float = math.nan
    test_high: float = math.nan
    mark: str = ""

    @property
    def text(self) -> str:
        """``83.1 ± 0.8`` in percent, with its mark."""
        return f"{100 * self.mean:.1f} ± {100 * self.spread:.1f}{self.mark}"

    @property
    def test_text(self) -> str:
        """``75.3 to 94.1``, the interval of the test set in percent; empty if it is not known."""
        if math.isnan(self.test_low):
            return ""
        return f"{100 * self.test_low:.1f} to {100 * self.test_high:.1f}"

    @property
    def clean_text(self) -> str:
        """The same on the clean test images; ``-`` without any."""
        if math.isnan(self.clean):
            return "-"
        return f"{100 * self.clean:.1f} ± {100 * self.clean_spread:.1f}"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of the table, from what is planned to what was measured.

    Attributes:
        cells: budget -> what was measured; none where `note` says why, in a word or two, and
            `detail` in full.
        runs: those of them that have a result.
        group: heading that rows of one kind stand under; may be empty.
        head, focus: what the row is filtered by: ``fusion``, ``original+segmented``.
        planned: number of its runs, with a result or without.
        embed_keys: of the stores that its features are from.
        area: area under the learning curve, in [0, 1]; None if it is not measured.
        paper: percent of the training images -> the paper's accuracy, in percent.
        method: what the paper calls it; empty if it is not in the paper.
        clean: clean test images, and all of them.
    """

    label: str
    cells: Mapping[Budget, TableCell] = field(default_factory=dict)
    runs: Sequence[PlannedRun] = ()
    note: str = ""
    detail: str = ""
    group: str = ""
    head: str = ""
    focus: str = ""
    planned: int = 0
    embed_keys: Sequence[str] = ()
    area: float | None = None
    paper: Mapping[float, float] = field(default_factory=dict)
    method: str = ""
    clean: tuple[int, int] = (0, 0)

    @property
    def leaks(self) -> bool:
        """Whether some test images are also among the training images."""
        return self.clean[0] < self.clean[1]


@dataclass(frozen=True, slots=True)
class ResultsTable:
    """Rows over budgets.

    Attributes:
        title: what was measured, on what.
        majority: the most frequent class of the test images, and its share in [0, 1]: what always
            answering it gives.
        notes: lines below the table: what the marks mean, where the numbers are from.
    """

    title: str
    budgets: Sequence[Budget]
    rows: Sequence[TableRow]
    notes: Sequence[str] = ()
    majority: tuple[str, float] | None = None

    @property
    def details(self) -> list[str]:
        """Why rows have no numbers, or not all of them."""
        return [f"{row.label}: {row.detail}" for row in self.rows if row.detail]

    @property
    def interval_budget(self) -> Budget | None:
        """The last budget, whose interval of the test set has a column; None without any."""
        known = [
            budget
            for budget in self.budgets
            if any(row.cells[budget].test_text for row in self.rows if budget in row.cells)
        ]
        return known[-1] if known else None

    @property
    def paper_budgets(self) -> list[Budget]:
        """Budgets that the paper has a number for in any row."""
        known = {percent for row in self.rows for percent in row.paper}
        return [budget for budget in self.budgets if percent_of(budget) in known]

    @property
    def has_areas(self) -> bool:
        """Whether any row has a learning-curve area."""
        return any(row.area is not None for row in self.rows)

    def header(self) -> list[str]:
        """Names of the columns."""
        areas = ["area"] if self.has_areas else []
        papers = [f"paper {heading(budget)}" for budget in self.paper_budgets]
        last = self.interval_budget
        intervals = [f"{heading(last)}, 95 % interval"] if last else []
        return ["accuracy, %", *map(heading, self.budgets), *intervals, *areas, *papers]

    def texts(self) -> list[tuple[str, list[str]]]:
        """(group, cells as text) of each row, a clean one below where test images leak."""
        found = []
        for row in self.rows:
            found.append((row.group, self._row(row)))
            clean = self.clean_texts(row)
            if clean:
                label = f"  clean ({row.clean[0]} of {row.clean[1]} test images)"
                found.append((row.group, [label, *clean]))
        if self.majority and self.budgets:
            name, share = self.majority
            group = found[-1][0] if found else ""
            cells = [f"{100 * share:.1f}" for _ in self.budgets]
            found.append((group, [f"always {name}", *cells]))
        width = len(self.header())
        return [(group, cells + [""] * (width - len(cells))) for group, cells in found]

    def _row(self, row: TableRow) -> list[str]:
        ours = [_text(row, budget, row.note or "-") for budget in self.budgets]
        if row.note:
            ours = [row.note, *[""] * (len(ours) - 1)]
        areas = [] if not self.has_areas else ["" if row.area is None else f"{row.area:.3f}"]
        papers = [row.paper.get(percent_of(budget)) for budget in self.paper_budgets]
        shown = ["" if value is None else f"{value:.2f}" for value in papers]
        last = self.interval_budget
        entry = row.cells.get(last) if last else None
        intervals = [entry.test_text if entry else ""] if last else []
        return [row.label, *ours, *intervals, *areas, *shown]

    def clean_texts(self, row: TableRow) -> list[str]:
        """Accuracies on the clean test images, one a budget; none where no test image leaks."""
        cells = [row.cells.get(budget) for budget in self.budgets]
        return [one.clean_text if one else "-" for one in cells] if row.leaks and row.cells else []


def heading(budget: Budget) -> str:
    """``5 %`` or ``4 shots``."""
    kind, amount = budget
    return f"{amount:g} %" if kind == "fraction" else f"{amount:g} shots"


def percent_of(budget: Budget) -> float:
    """Percent of the training images; -1, which no paper has, for shots."""
    kind, amount = budget
    return amount if kind == "fraction" else -1.0


def _text(row: TableRow, budget: Budget, missing: str) -> str:
    return row.cells[budget].text if budget in row.cells else missing
