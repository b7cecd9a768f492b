"""The page as a reader meets it: in Debian's Chromium, on a desk and on a telephone."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, sync_playwright

from medfocus_pipeline.report.content import Chapter, Drawing, Section
from medfocus_pipeline.report.page import render, render_study
from tests.report import reports

DESK, PHONE = (1440, 900), (360, 780)
NAMES = ("chromium", "chromium-browser", "google-chrome")

# Elements that stick out of the window, but for those inside a box that scrolls.
WIDER = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (box.width === 0 || box.left < -500 || (box.right <= innerWidth + 0.5 && box.left >= -0.5))
    return false;
  for (let up = one; up; up = up.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return false;
  return true;
}).map((one) => one.outerHTML.slice(0, 120))"""

# Boxes that are narrower than what they hold, whether it is cut off, sticks out or is scrolled to,
# and boxes that cut off what is below. Drawings have sizes of their own.
CLIPPED = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const style = getComputedStyle(one);
  if (!one.checkVisibility() || style.display === "inline" || one.closest("svg")) return false;
  return one.scrollWidth > one.clientWidth + 1
    || (style.overflowY !== "visible" && one.scrollHeight > one.clientHeight + 1);
}).map((one) => `${one.className || one.tagName} ${one.scrollWidth} in ${one.clientWidth}`)"""

# Cells of tables of which a part lies outside the table's own card or window.
CUT_OFF = """() => [...document.querySelectorAll("th, td")].filter((one) => {
  const box = one.getBoundingClientRect();
  const around = one.closest(".card, section").getBoundingClientRect();
  return one.checkVisibility() && box.width > 0
    && (box.left < around.left - 1 || box.right > Math.min(around.right, innerWidth) + 1);
}).map((one) => one.textContent)"""


FOCUSED = """() => { const one = document.activeElement;
  return one.id || one.getAttribute("class") || one.outerHTML.slice(0, 60); }"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail(f"no {', '.join(NAMES)} was found. Install one: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    tame = reports.report()
    made = {
        "tame": tame,
        "hostile": reports.report(reports.HOSTILE, names=reports.HOSTILE),
        "bare": reports.bare_report(),
        "many": reports.report([f"class {n} of very many" for n in range(16)]),
        "blind": replace(tame, maps=[replace(tame.maps[0], thumbnails=[])], cells=[]),
    }
    paths = {name: folder / f"{name}.html" for name in made}
    for name, report in made.items():
        paths[name].write_text(render(report), encoding="utf-8")
    return paths


class Window:
    """A page in a window of its own, and what it did that it should not."""

    def __init__(self, browser: Browser, path: Path, size: tuple[int, int], scheme: str) -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(5000)
        self.address = path.as_uri()
        self.problems: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.page.on("request", self._request)
        self.page.goto(self.address)

    def _console(self, message: ConsoleMessage) -> None:
        self.problems.append(message.text)

    def _request(self, request: Request) -> None:
        if request.url != self.address and not request.url.startswith("data:"):
            self.problems.append(request.url)


@pytest.fixture
def opened(browser: Browser, files: dict[str, Path]) -> Iterator["Opener"]:
    opener = Opener(browser, files)
    yield opener
    opener.close()


class Opener:
    """Opens pages; closing it checks that none of them complained or asked the network."""

    def __init__(self, browser: Browser, files: dict[str, Path]) -> None:
        self.browser, self.files = browser, files
        self.windows: list[Window] = []

    def __call__(
        self, name: str = "tame", size: tuple[int, int] = DESK, scheme: str = "light"
    ) -> Page:
        self.windows.append(Window(self.browser, self.files[name], size, scheme))
        return self.windows[-1].page

    def close(self) -> None:
        problems = [problem for window in self.windows for problem in window.problems]
        for window in self.windows:
            window.context.close()
        assert problems == []


def rows(page: Page) -> list[str]:
    """Labels of the rows of the results table that can be seen, from the top."""
    return page.locator("#results-table tbody.line:visible tr:first-child th bdi").all_inner_texts()


def header(page: Page, name: str) -> Locator:
    return page.locator("#results-table").get_by_role("button", name=name, exact=True)


def sorting(page: Page) -> list[str]:
    return [
        one.get_attribute("aria-sort") or ""
        for one in page.locator("#results-table th[aria-sort]").all()
    ]


ORDER = [row.label for row in reports.table().rows]


@pytest.mark.parametrize("name", ["tame", "hostile", "bare"])
def test_nothing_is_wider_than_the_window(opened: Opener, tmp_path: Path, name: str) -> None:
    page = opened(name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for width, height in (DESK, PHONE):
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
            assert page.evaluate(WIDER) == []
            assert page.evaluate("document.documentElement.scrollWidth") == width
            if name == "tame":
                shot = page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
                assert len(shot) > 5000


@pytest.mark.parametrize("width", [400, 1280, 1920])
@pytest.mark.parametrize("name", ["tame", "hostile", "bare", "many"])
def test_no_element_is_clipped(opened: Opener, name: str, width: int) -> None:
    page = opened(name, (width, 900))
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    clipped, cut = page.evaluate(CLIPPED), page.evaluate(CUT_OFF)
    if (name, width) == ("many", 400):  # sixteen columns of numbers are scrolled to
        assert {one.split()[0] for one in clipped} == {"scroll"}
        assert page.locator(".scroll:not([tabindex='0'])").count() == 0
        return
    assert clipped == []
    assert cut == []


@pytest.mark.parametrize("width", [400, 1280, 1920])
@pytest.mark.parametrize("columns", [4, 16])
def test_what_is_wide_on_a_studys_page_is_scrolled_to_and_the_page_is_not(
    opened: Opener, files: dict[str, Path], columns: int, width: int
) -> None:
    title = "A name without any space in it: " + "pneumonia_" * 12
    header = ["target", *(f"hospital {n}" for n in range(columns))]
    rows = [[f"from {name}", *["87.5 ± 10.0 %"] * columns] for name in header]
    drawing = Drawing("wide", title, Figure)
    study = Chapter("wide", title, [title], [drawing], [Section(title, header, rows)])
    drawn = '<svg viewBox="0 0 1800 600"><rect width="1800" height="600"/></svg>'
    page = render_study(study, [drawn])
    files["study"] = files["tame"].with_name(f"study-{columns}.html")
    files["study"].write_text(page, encoding="utf-8")
    shown = opened("study", (width, 900))
    assert shown.evaluate(WIDER) == []
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    clipped = {one.split()[0] for one in shown.evaluate(CLIPPED)}
    assert clipped <= {"wide"}
    assert clipped == set() or (width, columns) != (1920, 4)
    assert shown.locator(".wide:has(table):not([tabindex='0'])").count() == 0


def test_the_summary_is_above_the_fold(opened: Opener) -> None:
    page = opened()
    for part in (".research >> nth=0", ".lead", ".warnings", "#summary .figures"):
        box = page.locator(part).bounding_box()
        assert box
        assert box["y"] + box["height"] <= DESK[1]
    page = opened(size=PHONE)
    box = page.locator(".warnings").bounding_box()
    assert box
    assert box["y"] + box["height"] <= PHONE[1]


def test_no_name_runs_as_a_script(opened: Opener) -> None:
    page = opened("hostile")
    page.locator(".plane").focus()
    page.keyboard.press("ArrowRight")
    for button in page.locator("[data-class], [data-curve]").all():
        button.click()
    page.emulate_media(media="print")
    assert page.locator("script").count() == 2
    assert page.locator("img[src='x']").count() == 0
    assert page.get_by_text("{{7*7}}").count() > 0


def test_a_header_sorts_the_table_and_notes_stay_last(opened: Opener) -> None:
    page = opened()
    assert rows(page) == ORDER
    header(page, "100 %").click()
    best = [ORDER[n] for n in (3, 2, 1, 4)]
    assert rows(page) == [*best, ORDER[0], ORDER[5]]
    assert sorting(page) == ["descending"]
    header(page, "100 %").click()
    assert rows(page) == [*reversed(best), ORDER[0], ORDER[5]]
    assert sorting(page) == ["ascending"]
    header(page, "100 %").click()
    assert rows(page) == ORDER
    assert sorting(page) == []


def test_a_clean_row_stays_below_its_row(opened: Opener) -> None:
    page = opened()
    header(page, "area").click()
    said = page.locator("#results-table tbody.line tr:visible").all_inner_texts()
    place = next(n for n, text in enumerate(said) if text.startswith("linear on original"))
    assert said[place + 1].startswith("clean: 310 of 394")
    assert "77.0 ± 1.5" in said[place + 1]


def test_a_column_of_the_paper_and_the_names_can_be_sorted_by_the_keyboard(opened: Opener) -> None:
    page = opened()
    header(page, "paper 100 %").focus()
    page.keyboard.press("Enter")
    assert rows(page)[:3] == [ORDER[2], ORDER[1], ORDER[0]]
    header(page, "method").focus()
    page.keyboard.press("Space")
    assert rows(page) == sorted(ORDER, key=str.lower)
    assert page.locator("#results-table .group:visible").count() == 0


def test_filters_leave_what_they_say_and_hide_empty_groups(opened: Opener) -> None:
    page = opened()
    page.get_by_label("head").select_option("fusion")
    assert rows(page) == [ORDER[2], ORDER[3]]
    assert page.get_by_role("status").inner_text() == "2 of 6 rows"
    page.get_by_label("focus mode").select_option("original+segmented")
    assert rows(page) == [ORDER[3]]
    assert page.locator("#results-table .group:visible").inner_text().strip() == "other methods"
    header(page, "5 %").click()
    assert rows(page) == [ORDER[3]]
    page.get_by_label("focus mode").select_option("")
    page.get_by_label("head").select_option("")
    assert sorted(rows(page)) == sorted(ORDER)


def test_the_map_shows_the_image_under_the_pointer(opened: Opener) -> None:
    page = opened()
    shown = page.locator(".shown")
    assert not shown.locator("img").is_visible()
    page.locator(".plane g").nth(7).hover(force=True)
    map_ = reports.embedding_map(reports.CLASSES)
    name = shown.locator(".name").inner_text()
    assert name in map_.names
    place = list(map_.names).index(name)
    side = {"test": "test", "train": "training"}[map_.sides[place]]
    said = f"{reports.CLASSES[map_.labels[place]]}, {side} image"
    assert shown.locator(".label").inner_text() == said
    assert shown.locator("img").evaluate("(one) => one.decode().then(() => one.naturalWidth)") == 48


def test_the_map_goes_from_image_to_image_by_the_arrow_keys(opened: Opener) -> None:
    page = opened()
    page.locator("#maps input").last.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.classList.contains('plane')")
    name = page.locator(".shown .name")
    seen = {name.inner_text()}
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
        seen.add(name.inner_text())
    assert len(seen) >= 3
    assert page.locator(".ring.there").count() == 1


def test_a_map_without_thumbnails_still_says_which_image_it_is(opened: Opener) -> None:
    page = opened("blind")
    page.locator(".plane").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".shown .name").inner_text().startswith("Training/")
    assert not page.locator(".shown img").is_visible()


def test_the_map_changes_its_layout_and_keeps_to_one_class(opened: Opener) -> None:
    page = opened()
    places = (
        "() => [...document.querySelectorAll('.plane g')].map((g) => g.getAttribute('transform'))"
    )
    before = page.evaluate(places)
    page.get_by_label("t-SNE").check()
    assert page.evaluate(places) != before
    page.get_by_label("PCA").check()
    assert page.evaluate(places) == before
    page.locator("[data-class='1']").click()
    assert page.locator(".plane g:not(.off)").count() == 15
    assert page.locator("[data-class='1']").get_attribute("aria-pressed") == "true"


def test_a_name_in_the_legend_brings_its_line_to_the_front(opened: Opener) -> None:
    page = opened()
    page.locator("[data-curve='2']").click()
    assert page.locator(".wide [id$='curve-2-line'].on").count() == 1
    assert page.locator(".wide [id$='curve-1-line'].off").count() == 1
    page.locator("[data-curve='2']").click()
    page.mouse.move(0, 0)
    assert page.locator(".curves .off, .curves .on").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_the_button_is_pressed(opened: Opener, scheme: str) -> None:
    page = opened(scheme=scheme)
    ground = "() => getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    button = page.get_by_role("button", name="Dark")
    assert button.get_attribute("aria-pressed") == str(scheme == "dark").lower()
    button.click()
    after = page.evaluate(ground)
    assert {before, after} == {"rgb(245, 246, 243)", "rgb(17, 23, 27)"}
    page.reload()
    assert page.evaluate(ground) == after


def test_the_keyboard_reaches_every_control(opened: Opener) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    box = page.locator(".skip").bounding_box()
    assert box
    assert box["x"] >= 0
    reached: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    for wanted in ("theme", "filter-head", "filter-focus", "plane", "scroll card flush"):
        assert wanted in reached
    said = " ".join(reached)
    for wanted in ("#accuracy", "data-curve", "data-class", "<summary", "download="):
        assert wanted in said
    page.locator("#theme").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_it_prints_in_light_with_everything_open(opened: Opener, tmp_path: Path) -> None:
    page = opened(scheme="dark")
    closed = page.locator("details:not([open])").count()
    assert closed >= 2
    content = page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 4
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 38, 43)"
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == closed


def test_without_a_script_everything_can_be_read(browser: Browser, files: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["tame"].as_uri())
    assert page.locator("#results-table tbody.line:visible").count() == 6
    assert page.locator(".controls:visible, #theme:visible, .shown:visible").count() == 0
    assert page.locator(".plane g:visible").count() == 60
    context.close()


def test_the_table_can_be_saved_from_the_page(opened: Opener, tmp_path: Path) -> None:
    page = opened()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "tables.csv"
    assert "linear on original" in Path(download.value.path()).read_text(encoding="utf-8")
