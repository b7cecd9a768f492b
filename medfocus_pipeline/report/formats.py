"""The results table as Markdown, LaTeX, CSV and records."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from medfocus_pipeline.report.score_table import ResultsTable, TableCell, heading, percent_of
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


def markdown(table: ResultsTable) -> str:
    """The table as Markdown, one heading a group."""
    head = table.header()
    ruler = ["---", *["---:"] * (len(head) - 1)]
    text, group = [f"### {table.title}", ""], None
    for name, cells in table.texts():
        if name != group:
            text += [*([""] if group is not None else []), *([f"**{name}**", ""] if name else [])]
            text += [pipes(head), pipes(ruler)]
            group = name
        text.append(pipes([cell.strip() for cell in cells]))
    notes = (f"{note}\n" for note in (*table.notes, *table.details))
    return "\n".join([*text, "", *notes])


def latex(table: ResultsTable) -> str:
    r"""The table as a LaTeX ``table*`` with caption and label (packages booktabs, graphicx).

    The best mean of each budget is bold; a group has its title over all columns. It compiles
    with pdfLaTeX: what its fonts lack is spelled out.
    """
    head = table.header()
    best = {
        place: max((row.cells[one].mean for row in table.rows if one in row.cells), default=0)
        for place, one in enumerate(table.budgets, 1)
    }
    lines = [r"% \usepackage{booktabs,graphicx}", r"\begin{table*}", r"\centering"]
    lines += [rf"\caption{{{tex(' '.join([f'{table.title}.', *table.notes, *table.details]))}}}"]
    lines += [rf"\label{{tab:{_label(table.title)}}}", r"\resizebox{\textwidth}{!}{%"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    lines += [ampersands(map(tex, head)), r"\midrule"]
    group = ""
    for name, cells in table.texts():
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
        {"group": row.group, "row": row.label, "budget": heading(budget)}
        | _numbers(row.cells.get(budget, _NOTHING))
        | {
            "area": rounded(row.area, 6),
            "method": row.method,
            "paper": row.paper.get(percent_of(budget)),
            "note": row.note,
        }
        for row in table.rows
        for budget in table.budgets
    ]


def comma_separated(table: ResultsTable) -> str:
    """The records as CSV."""
    columns = ["group", "row", "budget", *_numbers(_NOTHING), "area", "method", "paper", "note"]
    return csv_text(columns, [[one[name] for name in columns] for one in records(table)])


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, its lines ended as Unix ends them."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


_NOTHING = TableCell(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, runs=0)


def _numbers(entry: TableCell) -> JSON:
    def percent(share: float) -> float | None:
        return rounded(100 * share, 4)

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


def rounded(value: float | None, digits: int) -> float | None:
    """A number as JSON and CSV have it; None where it is not known."""
    return None if value is None or math.isnan(value) else round(value, digits)


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
