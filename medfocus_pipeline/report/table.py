"""The results table in the paper's layout, ours and the paper's side by side, for any writer."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medfocus_pipeline.datasets.splits import Budget

_TEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One head at one budget, over seeds; all but `runs` in [0, 1].

    Attributes:
        mean, spread: of the accuracy; standard deviation (ddof 1).
        low, high: 95 % t-interval of the mean.
        clean, clean_spread: on the clean test images; nan without any.
        runs: number of seeds.
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
    mark: str = ""

    @property
    def text(self) -> str:
        """``83.1 ± 0.8`` in percent, with its mark."""
        return f"{100 * self.mean:.1f} ± {100 * self.spread:.1f}{self.mark}"

    @property
    def clean_text(self) -> str:
        """The same on the clean test images; ``-`` without any."""
        if math.isnan(self.clean):
            return "-"
        return f"{100 * self.clean:.1f} ± {100 * self.clean_spread:.1f}"


@dataclass(frozen=True, slots=True)
class Line:
    """One row.

    Attributes:
        group: heading that rows of one kind stand under; may be empty.
        note: why there are no entries, in a word or two.
        area: area under the learning curve, in [0, 1]; None if it is not measured.
        paper: percent of the training images -> the paper's accuracy, in percent.
        method: what the paper calls it; empty if it is not in the paper.
        clean: clean test images, and all of them.
    """

    label: str
    entries: Mapping[Budget, Entry] = field(default_factory=dict)
    group: str = ""
    note: str = ""
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
        notes: lines below the table: what the marks mean, where the numbers are from.
    """

    title: str
    budgets: Sequence[Budget]
    lines: Sequence[Line]
    notes: Sequence[str] = ()

    @property
    def paper_budgets(self) -> list[Budget]:
        """Budgets that the paper has a number for in any row."""
        known = {percent for line in self.lines for percent in line.paper}
        return [budget for budget in self.budgets if _percent(budget) in known]

    @property
    def has_areas(self) -> bool:
        """Whether any row has a learning-curve area."""
        return any(line.area is not None for line in self.lines)

    def header(self) -> list[str]:
        """Names of the columns."""
        areas = ["area"] if self.has_areas else []
        papers = [f"paper {heading(budget)}" for budget in self.paper_budgets]
        return ["accuracy, %", *map(heading, self.budgets), *areas, *papers]

    def rows(self) -> list[tuple[str, list[str]]]:
        """(group, cells as text) of each line, a clean one below where test images leak."""
        found = []
        for line in self.lines:
            found.append((line.group, self._row(line)))
            if line.leaks and line.entries:
                found.append((line.group, self._clean_row(line)))
        return found

    def _row(self, line: Line) -> list[str]:
        ours = [_text(line, budget, line.note or "-") for budget in self.budgets]
        if line.note:
            ours = [line.note, *[""] * (len(ours) - 1)]
        areas = [] if not self.has_areas else ["" if line.area is None else f"{line.area:.3f}"]
        papers = [line.paper.get(_percent(budget)) for budget in self.paper_budgets]
        shown = ["" if value is None else f"{value:.2f}" for value in papers]
        return [line.label, *ours, *areas, *shown]

    def _clean_row(self, line: Line) -> list[str]:
        label = f"  clean ({line.clean[0]} of {line.clean[1]} test images)"
        cells = [
            line.entries[budget].clean_text if budget in line.entries else "-"
            for budget in self.budgets
        ]
        return [label, *cells, *[""] * (len(self.header()) - 1 - len(cells))]


def heading(budget: Budget) -> str:
    """``5 %`` or ``4 shots``."""
    kind, amount = budget
    return f"{amount:g} %" if kind == "fraction" else f"{amount:g} shots"


def markdown(table: ResultsTable) -> str:
    """The table as Markdown, one heading a group."""
    head = table.header()
    ruler = ["---", *["---:"] * (len(head) - 1)]
    text, group = [f"### {table.title}", ""], None
    for name, cells in table.rows():
        if name != group:
            text += [*([""] if group is not None else []), *([f"**{name}**", ""] if name else [])]
            text += [_pipes(head), _pipes(ruler)]
            group = name
        text.append(_pipes([cell.strip() for cell in cells]))
    return "\n".join([*text, "", *(f"{note}\n" for note in table.notes)])


def latex(table: ResultsTable) -> str:
    """The table as a LaTeX ``tabular`` (package booktabs)."""
    head = table.header()
    lines = [f"% {note}" for note in (table.title, *table.notes)]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    lines += [_ampersands(head), r"\midrule"]
    group = table.lines[0].group if table.lines else ""
    for name, cells in table.rows():
        lines += [r"\midrule"] if name != group else []
        group = name
        lines.append(_ampersands([cell.strip() for cell in cells]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def comma_separated(table: ResultsTable) -> str:
    """One line a row and budget, every number in full; accuracies in percent."""
    columns = ["group", "row", "budget", "mean", "spread", "low", "high", "clean_mean"]
    columns += ["clean_spread", "runs", "p_value", "area", "method", "paper", "note"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for line in table.lines:
        for budget in table.budgets:
            entry = line.entries.get(budget)
            scores = _numbers(entry) if entry else [""] * 8
            area = "" if line.area is None else f"{line.area:.6f}"
            paper = line.paper.get(_percent(budget), "")
            place = [line.group, line.label, heading(budget)]
            writer.writerow([*place, *scores, area, line.method, paper, line.note])
    return file.getvalue()


def _numbers(entry: Entry) -> list[str]:
    shares = (entry.mean, entry.spread, entry.low, entry.high, entry.clean, entry.clean_spread)
    percents = ["" if math.isnan(share) else f"{100 * share:.4f}" for share in shares]
    p_value = "" if math.isnan(entry.p_value) else f"{entry.p_value:.4g}"
    return [*percents, str(entry.runs), p_value]


def _percent(budget: Budget) -> float:
    """Percent of the training images; -1, which no paper has, for shots."""
    kind, amount = budget
    return amount if kind == "fraction" else -1.0


def _text(line: Line, budget: Budget, missing: str) -> str:
    return line.entries[budget].text if budget in line.entries else missing


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _ampersands(cells: Sequence[str]) -> str:
    escaped = ("".join(_TEX.get(character, character) for character in cell) for cell in cells)
    return " & ".join(escaped) + r" \\"
