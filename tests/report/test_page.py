"""The page as a file: self-contained, escaped, in order, and written whole."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.report import views
from medfocus_pipeline.report.page import render, write_page
from tests.report import reports

VOID = {"meta", "link", "img", "input", "wbr", "br"}


class Page(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return render(reports.report())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def hostile() -> str:
    return render(reports.report(reports.HOSTILE, names=reports.HOSTILE))


def addresses(page: Page) -> Iterator[str]:
    for _, attributes in page.found:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            if name in attributes:
                yield attributes[name]


def test_every_element_is_closed(page: Page) -> None:
    assert page.open == []
    assert page.found[0][0] == "html"
    assert page.all("html")[0]["lang"] == "en"


def test_it_points_at_itself_and_at_data_only(page: Page, text: str) -> None:
    links = {link for link in addresses(page) if not link.startswith(("#", "data:"))}
    assert links == {"https://example.org/brain"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_policy_forbids_all_but_the_pages_own_script(page: Page, text: str) -> None:
    [policy] = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_headings_go_down_one_level_at_a_time(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_every_reference_is_met(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {link[1:] for link in addresses(page) if link.startswith("#")}
    for name in ("aria-labelledby", "aria-describedby", "for"):
        wanted |= {attributes[name] for _, attributes in page.found if name in attributes}
    assert wanted <= set(ids)


def test_pictures_have_a_size_and_an_alternative_and_tables_a_caption(page: Page) -> None:
    pictures = [one for one in page.all("img") if "src" in one]
    assert len(pictures) == 4 * (6 + 4 + 1) + 4
    assert all(one["alt"] and one["width"] and one["height"] for one in pictures)
    assert len(page.all("table")) == len(page.all("caption")) == 3 + 2
    assert all("scope" in one for one in page.all("th"))


def test_what_a_reader_needs_first_comes_first(page: Page) -> None:
    said = " ".join("".join(page.text).split())
    said = said[said.rindex("Provenance Brain") :]
    places = [
        said.index(words)
        for words in (
            "Research use only. Not a medical device",
            "fusion on original+segmented is the best of 4 rows",
            "84 of 394 test images are also among the training images",
            "Accuracy against training data",
            "Results, ours and the paper's",
            "Errors by class",
            "Masks",
            "The 4 most confident of 47 wrong answers.",
            "Learning curves.",
            "finetune:one",
            "One of two.",
            "60 of 3,264 images",
            "84 pairs across the split",
            "make report DATASET=brain",
        )
    ]
    assert places == sorted(places)


def test_names_are_shown_as_they_are_and_never_obeyed(hostile: str) -> None:
    page = Page(hostile)
    assert page.open == []
    assert len(page.all("script")) == 2
    assert "x" not in {one.get("src") for one in page.all("img")}
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    said = "".join(page.text)
    for name in reports.HOSTILE:
        assert name in said
    assert "{{7*7}}" in said
    assert "49</script>" not in said


def test_names_in_the_data_of_the_maps_cannot_end_their_script(hostile: str) -> None:
    start = hostile.index('id="map-data">') + len('id="map-data">')
    data = hostile[start : hostile.index("</script>", start)]
    assert "<" not in data
    assert json.loads(data)["maps"][0]["names"][:4] == list(reports.HOSTILE)


def test_a_thumbnail_that_points_share_is_stored_once(text: str) -> None:
    data = views.map_data(reports.report().maps)
    assert len(data["pictures"]) == 7
    assert max(data["maps"][0]["pictures"]) == 6
    assert text.count(data["pictures"][3]) == 1


def test_pictures_grow_by_no_more_than_their_encoding(text: str) -> None:
    report = reports.report()
    tiles = [*(tile for one in report.galleries for tile in one.tiles), *report.mistakes.tiles]
    size = sum(len(one.content) for tile in tiles for one in tile.pictures.values())
    without = render(replace(report, galleries=[], mistakes=replace(report.mistakes, tiles=[])))
    assert len(text) - len(without) < 4 / 3 * size + 4000 * len(tiles)


def test_the_table_holds_both_sides_the_clean_rows_and_why_a_row_is_missing(page: Page) -> None:
    said = " ".join("".join(page.text).split())
    for words in ("69.0 ± 1.2", "92.00", "clean: 310 of 394", "needs weights"):
        assert words in said
    marked = [one for one in page.all("td") if "best" in one.get("class", "")]
    assert len(marked) == 3 + 1 + 3


def test_a_row_without_numbers_has_no_order(page: Page) -> None:
    rows = views.page_rows(reports.table())
    assert [value.order for value in rows[0].ours] == [None] * 3
    assert rows[1].ours[2].hint == "of the mean over seeds 78.0 to 82.0, 10 runs"
    assert views.choices(rows)["focus"] == ["original", "segmented", "original+segmented"]


def test_the_true_class_is_among_the_bars_however_improbable() -> None:
    classes = [f"class {number}" for number in range(9)]
    tile = reports.tile(0, classes)
    tile = replace(tile, probabilities=dict(tile.probabilities) | {tile.label: 0.0})
    shown = views.bars(tile)
    assert len(shown) == 5
    assert shown[-1].true
    assert shown[0].predicted


def test_a_map_fills_its_square_with_both_axes_at_one_scale() -> None:
    map_ = reports.embedding_map(reports.CLASSES)
    for points in map_.layouts.values():
        placed = views.coordinates(points)
        assert placed.min() >= 0
        assert placed.max() <= views.SIDE
        wide, high = points.max(axis=0) - points.min(axis=0)
        across, down = placed.max(axis=0) - placed.min(axis=0)
        assert across / down == pytest.approx(wide / high, rel=0.01)
    assert views.coordinates(map_.layouts["PCA"][:1]).tolist() == [[500, 500]]
    assert len(views.coordinates(map_.layouts["PCA"][:0])) == 0


def test_a_data_set_that_was_only_scanned_has_a_page() -> None:
    page = Page(render(reports.bare_report()))
    said = " ".join("".join(page.text).split())
    assert "Nothing was run yet." in said
    assert "No audit was run: medfocus audit chest" in said
    assert "#maps" not in addresses(page)


def test_a_link_is_made_of_an_address_only() -> None:
    values = {"a": "javascript:alert(1)", "b": "https://x.org/ y", "c": "https://x.org/\"'<"}
    page = Page(render(replace(reports.bare_report(), provenance={"Data set": values})))
    assert [one["href"] for one in page.all("a") if "rel" in one] == ["https://x.org/\"'<"]


def test_a_file_name_that_is_no_unicode_does_no_harm(tmp_path: Path) -> None:
    report = replace(reports.report(), title="bad \udcff name")
    page = render(report)
    assert "bad ? name" in page
    assert page.encode()


def test_everything_is_written_and_old_figures_are_removed(tmp_path: Path) -> None:
    old = tmp_path / "figures" / "confusion-9-gone.svg"
    notes = tmp_path / "figures" / "notes.txt"
    old.parent.mkdir()
    for path in (old, notes):
        path.write_text("mine")
    report = replace(reports.report(), cells=reports.report().cells[:1], maps=[])
    written = write_page(report, tmp_path, cached=True)
    assert written[0] == tmp_path / "index.html"
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    kinds = [
        "accuracy",
        "learning-one",
        *(f"{kind}-1-fusion-on-original-segmented" for kind in ("confusion", "reliability")),
        "recall-1-fusion-on-original-segmented",
    ]
    assert names == {
        "index.html",
        "tables.md",
        "tables.csv",
        "tables.tex",
        *(f"figures/{kind}.{suffix}" for kind in kinds for suffix in ("png", "svg")),
    }
    assert all(path.is_file() for path in written)
    assert not old.exists()
    assert notes.exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_writing_the_same_report_again_writes_nothing(tmp_path: Path) -> None:
    report = reports.bare_report()
    before = {path: path.stat().st_mtime_ns for path in write_page(report, tmp_path)}
    assert {path: path.stat().st_mtime_ns for path in write_page(report, tmp_path)} == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file")
    with pytest.raises(ConfigError, match="report is a file"):
        write_page(reports.bare_report(), tmp_path / "report")
