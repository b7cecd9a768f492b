"""How the report's figures look, and what they are saved as."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.report.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Size = tuple[float, float]
"""Width and height in inches."""

LONGEST = 40
"""Letters of a name in a figure."""

_DOTS = 160
"""Of a PNG, an inch."""

INK, MUTED, RULE, CARD, ACCENT, BAD = (
    COLOURS[name].light for name in ("ink", "muted", "rule", "card", "accent", "bad")
)
"""As a figure is drawn; on the page they are its variables."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medfocus",
    # A class may be called $x$: that is a name, not a formula.
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "axes.unicode_minus": True,
}


def as_svg(figure: "Figure") -> str:
    """A figure as an SVG file, with text as text; the same bytes each time."""
    return _saved(figure, "svg").decode()


def as_png(figure: "Figure") -> bytes:
    """A figure as a PNG file at 160 dots an inch."""
    return _saved(figure, "png")


def as_markup(figure: "Figure", *, name: str) -> str:
    """A figure as an ``<svg>`` element of a page, in the page's own colours.

    Args:
        figure: loses its background; save it as a file before.
        name: set before every id in it, for a page has more than one figure.

    Returns:
        The element: without prologue, without a background, and hidden from screen readers,
        which the page gives the same in words.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = as_svg(figure)
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', body)
    inner = body[body.index(">") + 1 :]
    inner = re.sub(r"<metadata>.*?</metadata>|<style[ >].*?</style>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<!--.*?-->\s*", "", inner, flags=re.DOTALL)
    inner = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", inner)
    inner = re.sub(r'style="[^"]*"', lambda found: _in_variables(found[0]), inner)
    view = box[1] if box else "0 0 1 1"
    return f'<svg viewBox="{view}" aria-hidden="true" focusable="false">{inner}'


def _in_variables(style: str) -> str:
    """A style with the page's variables in place of the light colours."""
    for name, tone in COLOURS.items():
        style = style.replace(tone.light, f"var(--{name})")
    return style


def _saved(figure: "Figure", kind: str) -> bytes:
    file = io.BytesIO()
    # The same bytes for the same report: no date.
    metadata = {"Date": None} if kind == "svg" else {}
    with styled(), warnings.catch_warnings():
        # A name in a script that matplotlib's font lacks: the page has it in the reader's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format=kind, dpi=_DOTS, metadata=metadata)
    return file.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the report's style; matplotlib's settings are as before when it is over."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def new_figure(size: Size) -> "Figure":
    """An empty figure that belongs to no window and no global list."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained", facecolor=CARD)


def shown(name: str) -> str:
    """A name that is fit to be drawn: no control characters, not too long, never empty.

    A leading underscore would tell matplotlib to leave it out of a legend.
    """
    plain = printable(name)
    short = plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
    return f" {short}" if short.startswith("_") else short or " "


def shortened(name: str, length: int) -> str:
    """A name of at most `length` letters, cut in the middle: its ends are what identifies it."""
    if len(name) <= length:
        return name
    front = (length - 1) // 2
    return f"{name[:front]}…{name[len(name) - (length - 1 - front) :]}"


def printable(text: str) -> str:
    """Without control characters: names of files may be anything, and terminals obey them."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
