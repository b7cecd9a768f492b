"""The figures: what is drawn, in which colours, and that no name is taken for a formula."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from medfocus_pipeline.report.colours import COLOURS, HEAT, MARKS, SERIES, series
from medfocus_pipeline.report.content import Report
from medfocus_pipeline.report.curves import NARROW, WIDE, curves, draw_accuracy
from medfocus_pipeline.report.drawing import as_markup, as_png, as_svg, shown
from medfocus_pipeline.report.figures import (
    draw,
    draw_confusion,
    draw_map,
    draw_recalls,
    draw_reliability,
)
from medfocus_pipeline.report.score_table import ResultsTable, TableRow
from tests.report import reports

PNG = b"\x89PNG\r\n\x1a\n"
GROUNDS = ("page", "card", "well")
WORDS = ("ink", "muted", "accent", "warn", "good", "bad")


@pytest.fixture(scope="module")
def report() -> Report:
    return reports.report()


def texts(svg: str) -> str:
    return " | ".join(text for text in ET.fromstring(svg).itertext() if text.strip())


def luminance(colour: str) -> float:
    channels = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def mixed(colour: str, ground: str, share: float) -> str:
    pairs = [(int(colour[n : n + 2], 16), int(ground[n : n + 2], 16)) for n in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


@pytest.mark.parametrize("tone", [0, 1], ids=["light", "dark"])
def test_words_have_a_contrast_of_4_5_and_series_of_3(tone: int) -> None:
    for ground in GROUNDS:
        for word in WORDS:
            assert contrast(COLOURS[word][tone], COLOURS[ground][tone]) >= 4.5, (word, ground)
    for number in range(1, SERIES + 1):
        assert contrast(COLOURS[f"series-{number}"][tone], COLOURS["card"][tone]) >= 3
        assert contrast(COLOURS[f"series-{number}"][tone], COLOURS["page"][tone]) >= 3


@pytest.mark.parametrize("tone", [0, 1], ids=["light", "dark"])
def test_words_can_be_read_on_the_heat_and_on_a_pressed_button(tone: int) -> None:
    ink, card = COLOURS["ink"][tone], COLOURS["card"][tone]
    for name in ("series-1", "series-2"):
        for share in np.linspace(0, HEAT, 12):
            assert contrast(ink, mixed(COLOURS[name][tone], card, float(share))) >= 4.5
    assert contrast(card, COLOURS["accent"][tone]) >= 4.5


def test_no_two_light_colours_are_equal() -> None:
    assert len({tone.light for tone in COLOURS.values()}) == len(COLOURS)


def test_sixty_four_series_look_different() -> None:
    assert len({series(number) for number in range(SERIES * len(MARKS))}) == 64


def test_every_figure_is_drawn_as_png_and_svg(report: Report) -> None:
    drawn = draw(report)
    assert next(iter(drawn)) == "accuracy"
    assert {name.split("-")[0] for name in drawn} == {
        "accuracy",
        "confusion",
        "reliability",
        "recall",
        "map",
        "learning",
    }
    assert "confusion-2-linear-on-original" in drawn
    assert as_png(drawn["map-1-clip-vit-b-16-on-segmented"]).startswith(PNG)
    assert as_svg(drawn["recall-2-linear-on-original"]) == as_svg(
        draw_recalls(report.cells[1], report.classes)
    )


def test_a_bare_report_still_has_an_empty_accuracy_figure() -> None:
    drawn = draw(reports.bare_report())
    assert list(drawn) == ["accuracy"]
    assert as_png(drawn["accuracy"]).startswith(PNG)


def test_matplotlib_is_left_as_it_was(report: Report) -> None:
    before = dict(mpl.rcParams)
    as_svg(draw_accuracy(report.table))
    assert dict(mpl.rcParams) == before


def test_the_curves_have_lines_bands_and_the_papers_hollow_points(report: Report) -> None:
    svg = as_svg(draw_accuracy(report.table))
    parts = set(re.findall(r'id="(curve-\d+-\w+)"', svg))
    # 0 is in the paper only; 3 is not in the paper; the row without any number is not drawn.
    assert parts == {
        "curve-0-paper",
        *(f"curve-1-{part}" for part in ("line", "band", "paper")),
        *(f"curve-2-{part}" for part in ("line", "band", "paper")),
        *(f"curve-3-{part}" for part in ("line", "band")),
        *(f"curve-4-{part}" for part in ("line", "band")),
    }
    hollow = svg[svg.index('id="curve-1-paper"') :]
    assert "fill: #ffffff" in hollow[: hollow.index("/>", hollow.index("<use"))]


def test_the_papers_methods_and_the_best_rows_stand_in_front() -> None:
    def row(number: int, method: str = "") -> TableRow:
        entries = {reports.BUDGETS[2]: reports.entry(number / 100)}
        return TableRow(f"row {number}", entries, method=method)

    rows = [row(number, "CLIP" if number == 1 else "") for number in range(1, 13)]
    drawn = curves(ResultsTable("t", reports.BUDGETS, rows))
    front = [curve.row.label for curve in drawn if curve.strong]
    assert front == ["row 1", *(f"row {number}" for number in range(6, 13))]
    assert len({curve.colour for curve in drawn if curve.strong}) == 8
    table = ResultsTable("t", reports.BUDGETS, rows)
    assert "4 more rows" in texts(as_svg(draw_accuracy(table)))


def test_percents_and_shots_have_a_panel_each() -> None:
    shots = [("shots", 1.0), ("shots", 16.0)]
    entries = {budget: reports.entry(0.5) for budget in [*reports.BUDGETS, *shots]}
    table = ResultsTable("t", [*reports.BUDGETS, *shots], [TableRow("row", entries)])
    for size in (WIDE, NARROW):
        figure = draw_accuracy(table, size=size, legend=False)
        labels = [one.get_xlabel() for one in figure.axes]
        assert labels == ["training images used, %", "training images a class"]


def test_an_undefined_interval_leaves_out_the_band_only() -> None:
    one = replace(reports.entry(0.5, runs=1), low=reports.NAN, high=reports.NAN)
    table = ResultsTable(
        "t", reports.BUDGETS, [TableRow("row", dict.fromkeys(reports.BUDGETS, one))]
    )
    assert 'id="curve-0-line"' in as_svg(draw_accuracy(table))


def test_a_name_is_drawn_as_it_is_and_never_as_a_formula(report: Report) -> None:
    cell = reports.cell("a <b> & $x$", reports.HOSTILE)
    for figure in (
        draw_confusion(cell, reports.HOSTILE),
        draw_recalls(cell, reports.HOSTILE),
        draw_map(reports.embedding_map(reports.HOSTILE), reports.HOSTILE),
    ):
        said = texts(as_svg(figure))
        assert "<script>alert(1)</script>" in said
        assert "$\\frac{1}{2}$" in said
        assert "{{7*7}}" in said
    assert "a <b> & $x$" in texts(as_svg(draw_confusion(cell, reports.HOSTILE)))


def test_odd_names_do_not_disturb_a_figure() -> None:
    names = ["_hidden", "", "tab\tline\nend\x00", "肿瘤", "x" * 90]
    cell = reports.cell("_label", names)
    for figure in (
        draw_confusion(cell, names),
        draw_map(reports.embedding_map(names), names),
    ):
        said = texts(as_svg(figure))
        assert "_hidden" in said
        assert "肿瘤" in said
        assert "x" * 39 + "…" in said
        assert as_png(figure).startswith(PNG)
    assert "\n" not in shown("a\nb")


def test_markup_has_the_pages_colours_and_ids_of_its_own(report: Report) -> None:
    markup = as_markup(draw_accuracy(report.table, size=NARROW, legend=False), name="small")
    root = ET.fromstring(markup.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    ids = {one.get("id") for one in root.iter() if one.get("id")}
    assert all(name.startswith("small-") for name in ids)
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', markup)
    assert used
    assert set(used) <= ids
    assert not re.search(r"#[0-9a-f]{6}\b", markup), "a colour that does not follow the theme"
    assert "var(--series-1)" in markup
    assert "<style" not in markup


def test_a_reliability_diagram_without_an_answer_is_empty(report: Report) -> None:
    empty = [replace(one, count=0) for one in report.cells[0].bins]
    figure = draw_reliability(replace(report.cells[0], bins=empty))
    assert "confidence, %" in texts(as_svg(figure))
