"""The results table and its writers."""

import csv
import io
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from medfocus_pipeline.report.formats import comma_separated, latex, markdown
from medfocus_pipeline.report.score_table import ResultsTable, TableCell, TableRow

FIVE, ALL = ("fraction", 5.0), ("fraction", 100.0)


def cell(mean: float, *, mark: str = "") -> TableCell:
    return TableCell(
        mean=mean,
        spread=0.0123,
        low=mean - 0.01,
        high=mean + 0.01,
        clean=mean - 0.1,
        clean_spread=0.02,
        runs=10,
        mark=mark,
    )


def table() -> ResultsTable:
    return ResultsTable(
        title="brain_set & co",
        budgets=[FIVE, ALL],
        rows=[
            TableRow(
                label="linear on original",
                cells={FIVE: cell(0.5), ALL: cell(0.875)},
                group="paper",
                area=0.7,
                paper={5.0: 68.57},
                method="CLIP",
                clean=(9, 10),
            ),
            TableRow(label="fusion", cells={ALL: cell(0.9, mark=" ▲")}, group="ours", clean=(9, 9)),
            TableRow(label="coop", note="needs a dual encoder", group="ours"),
        ],
        notes=["about marks"],
    )


def test_ours_and_the_papers_stand_side_by_side() -> None:
    assert table().header() == ["accuracy, %", "5 %", "100 %", "area", "paper 5 %"]
    rows = [cells for _, cells in table().texts()]
    assert rows[0] == ["linear on original", "50.0 ± 1.2", "87.5 ± 1.2", "0.700", "68.57"]


def test_a_clean_row_is_there_only_where_test_images_leak() -> None:
    labels = [cells[0] for _, cells in table().texts()]
    assert labels == [
        "linear on original",
        "  clean (9 of 10 test images)",
        "fusion",
        "coop",
    ]


def test_a_row_that_cannot_run_says_why_in_its_cells() -> None:
    assert table().texts()[-1][1] == ["coop", "needs a dual encoder", "", "", ""]


def test_a_missing_budget_is_a_dash_and_a_mark_stands_behind_its_cell() -> None:
    assert table().texts()[2][1] == ["fusion", "-", "90.0 ± 1.2 ▲", "", ""]


def test_every_row_has_as_many_cells_as_the_header() -> None:
    assert {len(cells) for _, cells in table().texts()} == {len(table().header())}


def test_markdown_has_a_table_for_each_group() -> None:
    text = markdown(table())
    assert text.count("| accuracy, % |") == 2
    assert "**ours**" in text
    assert "about marks" in text


def test_csv_has_every_number_in_full_and_nothing_where_there_is_none() -> None:
    rows = list(csv.DictReader(io.StringIO(comma_separated(table()))))
    assert len(rows) == 6
    assert rows[0]["mean"] == "50.0"
    assert rows[0]["paper"] == "68.57"
    assert rows[1]["low"] == "86.5"
    assert rows[2]["mean"] == ""
    assert rows[5]["note"] == "needs a dual encoder"


def test_a_table_without_a_run_is_a_csv_with_its_header() -> None:
    text = comma_separated(ResultsTable("t", [], [TableRow("linear", {}, note="none")]))
    assert text == comma_separated(table()).splitlines(keepends=True)[0]
    assert text.startswith("group,row,budget,mean,spread,low,high,clean_mean,clean_spread,runs,")


def test_an_undefined_interval_is_empty_in_csv() -> None:
    one = TableCell(0.5, 0.0, math.nan, math.nan, math.nan, math.nan, 1)
    rows = comma_separated(ResultsTable("t", [ALL], [TableRow("linear", {ALL: one})]))
    assert rows.splitlines()[1].startswith(",linear,100 %,50.0,0.0,,,,,1,")


def test_latex_escapes_what_a_name_may_hold() -> None:
    lines = [TableRow("a_b & 50 % {x} \\ ~^", {ALL: cell(0.5)})]
    text = latex(ResultsTable("t", [ALL], lines))
    assert r"a\_b \& 50 \% \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{}" in text
    assert r"$\pm$" in text
    assert text.count(r"\\") == 2


def intervals() -> ResultsTable:
    entry_ = replace(cell(0.875, mark=" ▲"), spread=0.0, test_low=0.753, test_high=0.941)
    lines = [replace(line, cells={ALL: entry_}) for line in table().rows[:2]]
    return replace(table(), rows=lines, majority=("notumor_<é漢>", 0.97))


def test_the_interval_of_the_test_set_and_the_majority_stand_in_every_table() -> None:
    text = markdown(intervals())
    assert "100 %, 95 % interval" in text
    assert "| 87.5 ± 0.0 ▲ | 75.3 to 94.1 |" in text
    assert "| always notumor_<é漢> | 97.0 | 97.0 |" in text
    assert {len(cells) for _, cells in intervals().texts()} == {len(intervals().header())}
    row = list(csv.DictReader(io.StringIO(comma_separated(intervals()))))[1]
    assert (row["test_low"], row["test_high"]) == ("75.3", "94.1")


def test_latex_marks_the_best_and_has_caption_label_and_group_titles() -> None:
    text = latex(intervals())
    assert text.isascii() or "é" in text
    assert r"\textbf{87.5 $\pm$ 0.0 $^\uparrow$}" in text
    for part in (r"\caption{brain\_set \& co.", r"\label{tab:brain-set-co}", r"\textit{ours}"):
        assert part in text


def test_latex_compiles(tmp_path: Path) -> None:
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("no pdflatex here: apt-get install texlive-latex-recommended")
    notes = ["▲ better, ▼ worse … ± λ < > | ~ ^ \\ 100 % #1 $x$ {a} ≥ “quoted” é漢"]
    body = latex(replace(intervals(), notes=notes))
    packages = r"\usepackage[utf8]{inputenc}\usepackage{booktabs,graphicx}"
    source = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "table.tex").write_text(source, encoding="utf-8")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
