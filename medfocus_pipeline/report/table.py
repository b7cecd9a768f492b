"""The results table in the paper's layout, ours and the paper's side by side, for any writer."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from medfocus_pipeline.datasets.splits import Budget
from medfocus_pipeline.types import JSON

_TEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "▲": r"$^\uparrow$",
    "▼": r"$^\downarrow$",
    "…": r"\ldots{}",
    "λ": r"$\lambda$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One head at one budget, over seeds; all but `runs` in [0, 1].

    Attributes:
        mean, spread: of the accuracy; standard deviation (ddof 1).
        low, high: 95 % t-interval of the mean.
        clean, clean_spread: on the clean test images; nan without any.
        runs: number of seeds.
        test_low, test_high: 95 % interval that the number of test images leaves open, see
            `statistics.wilson_interval`.
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
        majority: the most frequent class of the test images, and its share in [0, 1]: what always
            answering it gives.
        notes: lines below the table: what the marks mean, where the numbers are from.
    """

    title: str
    budgets: Sequence[Budget]
    lines: Sequence[Line]
    notes: Sequence[str] = ()
    majority: tuple[str, float] | None = None

    @property
    def interval_budget(self) -> Budget | None:
        """The last budget, whose interval of the test set has a column; None without any."""
        known = [
            budget
            for budget in self.budgets
            if any(line.entries[budget].test_text for line in self.lines if budget in line.entries)
        ]
        return known[-1] if known else None

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
        last = self.interval_budget
        intervals = [f"{heading(last)}, 95 % interval"] if last else []
        return ["accuracy, %", *map(heading, self.budgets), *intervals, *areas, *papers]

    def rows(self) -> list[tuple[str, list[str]]]:
        """(group, cells as text) of each line, a clean one below where test images leak."""
        found = []
        for line in self.lines:
            found.append((line.group, self._row(line)))
            if line.leaks and line.entries:
                found.append((line.group, self._clean_row(line)))
        if self.majority and self.budgets:
            name, share = self.majority
            group = found[-1][0] if found else ""
            cells = [f"{100 * share:.1f}" for _ in self.budgets]
            rest = [""] * (len(self.header()) - 1 - len(cells))
            found.append((group, [f"always {name}", *cells, *rest]))
        return found

    def _row(self, line: Line) -> list[str]:
        ours = [_text(line, budget, line.note or "-") for budget in self.budgets]
        if line.note:
            ours = [line.note, *[""] * (len(ours) - 1)]
        areas = [] if not self.has_areas else ["" if line.area is None else f"{line.area:.3f}"]
        papers = [line.paper.get(_percent(budget)) for budget in self.paper_budgets]
        shown = ["" if value is None else f"{value:.2f}" for value in papers]
        last = self.interval_budget
        entry = line.entries.get(last) if last else None
        intervals = [entry.test_text if entry else ""] if last else []
        return [line.label, *ours, *intervals, *areas, *shown]

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
            text += [pipes(head), pipes(ruler)]
            group = name
        text.append(pipes([cell.strip() for cell in cells]))
    return "\n".join([*text, "", *(f"{note}\n" for note in table.notes)])


def latex(table: ResultsTable) -> str:
    r"""The table as a LaTeX ``table*`` with caption and label (packages booktabs, graphicx).

    The best mean of each budget is bold; a group has its title over all columns. It compiles
    with pdfLaTeX: what its fonts lack is spelled out.
    """
    head = table.header()
    best = {
        place: max(
            (line.entries[one].mean for line in table.lines if one in line.entries), default=0
        )
        for place, one in enumerate(table.budgets, 1)
    }
    lines = [r"% \usepackage{booktabs,graphicx}", r"\begin{table*}", r"\centering"]
    lines += [rf"\caption{{{tex(' '.join([f'{table.title}.', *table.notes]))}}}"]
    lines += [rf"\label{{tab:{_label(table.title)}}}", r"\resizebox{\textwidth}{!}{%"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    lines += [ampersands(map(tex, head)), r"\midrule"]
    group = ""
    for name, cells in table.rows():
        if name and name != group:
            lines += [r"\midrule"] if group else []
            lines.append(rf"\multicolumn{{{len(head)}}}{{l}}{{\textit{{{tex(name)}}}}} \\")
            group = name
        texts = [tex(cell.strip()) for cell in cells]
        for place, mean in best.items():
            if not cells[0].startswith(" ") and cells[place].startswith(f"{100 * mean:.1f} "):
                texts[place] = rf"\textbf{{{texts[place]}}}"
        lines.append(ampersands(texts))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])


def records(table: ResultsTable) -> list[JSON]:
    """One a row and budget, for programs; accuracies in percent, None where there is no number."""
    return [
        {"group": line.group, "row": line.label, "budget": heading(budget)}
        | _numbers(line.entries.get(budget, _NOTHING))
        | {
            "area": _rounded(line.area, 6),
            "method": line.method,
            "paper": line.paper.get(_percent(budget)),
            "note": line.note,
        }
        for line in table.lines
        for budget in table.budgets
    ]


def comma_separated(table: ResultsTable) -> str:
    """The records as CSV."""
    file = io.StringIO()
    columns = ["group", "row", "budget", *_numbers(_NOTHING), "area", "method", "paper", "note"]
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(table))
    return file.getvalue()


_NOTHING = Entry(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, runs=0)


def _numbers(entry: Entry) -> JSON:
    def percent(share: float) -> float | None:
        return _rounded(100 * share, 4)

    return {
        "mean": percent(entry.mean),
        "spread": percent(entry.spread),
        "low": percent(entry.low),
        "high": percent(entry.high),
        "clean_mean": percent(entry.clean),
        "clean_spread": percent(entry.clean_spread),
        "runs": entry.runs or None,
        "p_value": None if math.isnan(entry.p_value) else float(f"{entry.p_value:.4g}"),
        "test_low": percent(entry.test_low),
        "test_high": percent(entry.test_high),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or math.isnan(value) else round(value, digits)


def _percent(budget: Budget) -> float:
    """Percent of the training images; -1, which no paper has, for shots."""
    kind, amount = budget
    return amount if kind == "fraction" else -1.0


def _text(line: Line, budget: Budget, missing: str) -> str:
    return line.entries[budget].text if budget in line.entries else missing


def pipes(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def ampersands(cells: Iterable[str]) -> str:
    """A row of a LaTeX table."""
    return " & ".join(cells) + r" \\"


def tex(text: str) -> str:
    """A text that pdfLaTeX can set: letters its fonts lack become their base letter, or ``?``."""
    return "".join(_TEX.get(letter) or _set(letter) for letter in " ".join(text.split()))


def _set(letter: str) -> str:
    base = unicodedata.normalize("NFKD", letter)[0]
    if "\u00c0" <= letter <= "\u017f":
        return letter
    return base if base.isascii() and base.isprintable() else "?"


def _label(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "results"
