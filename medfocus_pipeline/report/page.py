"""The report as one web page that needs nothing else, with its tables and figures beside it."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from medfocus_pipeline.files import claim, disk_errors, write_bytes, write_text
from medfocus_pipeline.report import views
from medfocus_pipeline.report.colours import COLOURS
from medfocus_pipeline.report.content import Chapter, Report
from medfocus_pipeline.report.curves import NARROW, WIDE, curves, draw_accuracy
from medfocus_pipeline.report.drawing import as_markup, as_png, as_svg
from medfocus_pipeline.report.figures import draw, draw_reliability
from medfocus_pipeline.report.formats import comma_separated, latex, markdown
from medfocus_pipeline.report.score_table import heading

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

_FIGURES = ("png", "svg")


def write_page(report: Report, folder: Path, *, cached: bool = False) -> list[Path]:
    """Writes a report: its tables, its figures, and last the page.

    ``tables.md``, ``tables.csv``, ``tables.tex``, ``figures/*.png``, ``figures/*.svg`` and
    ``index.html``; each is whole or absent, and is left alone if it is the same already.
    Figures that an earlier report left there are removed.

    Args:
        folder: of the report; it is made.
        cached: the folder is one of the cache, where all is ours.

    Returns:
        The files, the page first.

    Raises:
        ConfigError: the folder holds files that are not a report's.
        StoreError: the disk is full or read-only.
    """
    texts = {
        "tables.md": markdown(report.table),
        "tables.csv": comma_separated(report.table),
        "tables.tex": latex(report.table),
    }
    drawn: dict[str, bytes] = {}
    for name, figure in draw(report).items():
        drawn |= _pictures(name, figure)
    page = render(report)
    names = ["index.html", *texts, *(f"figures/{name}" for name in drawn)]
    if not cached:
        claim(folder, names)
    with disk_errors(folder):
        for name, text in texts.items():
            write_text(folder / name, _encodable(text))
        for name, content in drawn.items():
            write_bytes(folder / "figures" / name, content)
        write_text(folder / "index.html", page)
        for old in (folder / "figures").iterdir():
            if old.name not in drawn and old.suffix.removeprefix(".") in _FIGURES:
                old.unlink()
    return [folder / name for name in names]


def render(report: Report) -> str:
    """The page: one HTML document with its styles, script, data and pictures inside.

    It loads nothing: its content security policy forbids every address but ``data:`` ones, and
    every script but its own. Names of classes and files are shown as they are, never obeyed.
    """
    from markupsafe import Markup

    environment = _environment()
    script = _file("page.js")
    text = environment.get_template("page.html.jinja").render(
        report=report,
        rows=views.page_rows(report.table),
        curves=curves(report.table),
        drawings={name: Markup(text) for name, text in _drawings(report).items()},  # noqa: S704
        downloads=_downloads(report),
        colours=COLOURS,
        style=Markup(_file("page.css")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return _encodable(text)


def render_study(study: Chapter, drawings: Sequence[str]) -> str:
    """A chapter as a page of its own, which loads nothing either.

    Args:
        drawings: an ``<svg>`` element for each of the chapter's.
    """
    from markupsafe import Markup

    template = _environment().get_template("study.html.jinja")
    drawn = [Markup(text) for text in drawings]  # noqa: S704
    return _encodable(template.render(study=study, drawings=drawn, colours=COLOURS))


def write_study(study: Chapter, folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes ``index.html``, some texts, and each drawing as PNG and SVG; each whole or absent.

    Args:
        texts: name of a file -> what goes into it.

    Returns:
        The files, the page first.

    Raises:
        StoreError: the disk is full or read-only.
    """
    pictures: dict[str, bytes] = {}
    drawn = []
    for drawing in study.drawings:
        figure = drawing.draw()
        pictures |= _pictures(drawing.name, figure)
        drawn.append(as_markup(figure, name=drawing.name))
    texts = {"index.html": render_study(study, drawn), **texts}
    files = {name: text.encode() for name, text in texts.items()} | pictures
    with disk_errors(folder):
        for name, content in files.items():
            write_bytes(folder / name, content)
    return [folder / name for name in files]


def _pictures(name: str, figure: "Figure") -> dict[str, bytes]:
    """Name of a file -> its content, as PNG and as SVG."""
    return {f"{name}.png": as_png(figure), f"{name}.svg": as_svg(figure).encode()}


def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["heading"] = heading
    environment.filters["breakable"] = _breakable
    environment.globals["views"] = views
    return environment


def _drawings(report: Report) -> dict[str, str]:
    """The matplotlib figures of the page, as elements: curves in two widths, cells, chapters."""
    found = {}
    for name, size in (("wide", WIDE), ("narrow", NARROW)):
        figure = draw_accuracy(report.table, size=size, legend=False)
        found[name] = as_markup(figure, name=f"accuracy-{name}")
    for number, cell in enumerate(report.cells):
        figure = draw_reliability(cell, titled=False)
        found[f"reliability-{number}"] = as_markup(figure, name=f"reliability-{number}")
    for chapter in report.chapters:
        for drawing in chapter.drawings:
            found[drawing.name] = as_markup(drawing.draw(), name=drawing.name)
    return found


def _downloads(report: Report) -> Mapping[str, str]:
    """File name -> ``data:`` URI of the table: a page from a mail has no folder beside it."""
    texts = {
        "tables.csv": ("text/csv", comma_separated(report.table)),
        "tables.md": ("text/markdown", markdown(report.table)),
        "tables.tex": ("application/x-tex", latex(report.table)),
    }
    return {
        name: f"data:{kind};base64,{base64.b64encode(_encodable(text).encode()).decode()}"
        for name, (kind, text) in texts.items()
    }


@cache
def _file(name: str) -> str:
    """A file of the page that comes with the package."""
    return (files("medfocus_pipeline.report") / "page_files" / name).read_text(encoding="utf-8")


def _breakable(name: str) -> "Markup":
    """A name, escaped, that may go on in the next line behind a stroke, plus or underscore."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.findall(r"[^/+_]*[/+_]?", name))


def _encodable(text: str) -> str:
    """Without the halves of surrogate pairs that a file name may have, which UTF-8 has not."""
    return text.encode("utf-8", "replace").decode("utf-8")
