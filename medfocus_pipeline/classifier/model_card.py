"""The model card of an exported run: what it is, what it was measured to do, what it is not for."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import TYPE_CHECKING

from medfocus_pipeline.classifier.pack_config import PackConfig
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.evaluation.diagnostics import Recall
from medfocus_pipeline.evaluation.intervals import Interval
from medfocus_pipeline.evaluation.metrics import label
from medfocus_pipeline.types import join_parts

if TYPE_CHECKING:
    from jinja2 import Template

NOTICE = "Research use only. Not a medical device: not for diagnosis, triage or treatment."


@dataclass(frozen=True, slots=True)
class Score:
    """One figure.

    Attributes:
        own: of the exported run; nan where it is undefined.
        mean: over all seeds; nan likewise.
        interval: of the mean, 95 %; None where seeds say nothing.
    """

    own: float
    mean: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of runs that differ by seed alone, the exported one among them.

    Attributes:
        seeds: number of runs.
        test_images: of each.
        clean_images: of these, not among the training images by bytes or pixels.
        scores: name of a score -> figure.
        recalls: of the classes, over seeds, in the order of the classes.
        tested: of the accuracy, what the choice of the test images leaves open, 95 %.
        by_patient: this is a bootstrap over patients, else Wilson's.
    """

    seeds: int
    test_images: int
    clean_images: int
    scores: Mapping[str, Score]
    recalls: Sequence[Recall]
    tested: Interval
    by_patient: bool


def card_text(config: PackConfig, origin: Card, measured: Measured) -> str:
    """The card, as Markdown; `origin` is the data set's own, what it says is escaped."""
    recalls = list(zip(config.classes, measured.recalls, strict=True))
    tested = [(recall.mean, name) for name, recall in recalls if recall.images]
    return _template().render(
        config=config,
        run=config.run,
        origin=origin,
        measured=measured,
        notice=NOTICE,
        chosen=config.head_settings.get("chosen") or {},
        recalls=recalls,
        missed=min(tested, key=itemgetter(0))[1] if tested else None,
        models=[one for one in (config.encoder_model, config.segmenter) if one],
    )


def plain(text: str) -> str:
    """A text in one line that neither Markdown nor HTML read as their own."""
    line = html.escape(" ".join(text.split()), quote=False)
    for mark in "\\`*_[]|#":
        line = line.replace(mark, f"\\{mark}")
    return line


@cache
def _template() -> "Template":
    """Plain text: what a data set says is escaped by `plain`, for Markdown and HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters |= {
        "joined": join_parts,
        "label": label,
        "number": _number,
        "plain": plain,
        "span": _span,
    }
    text = files("medfocus_pipeline.classifier").joinpath("model_card.md.jinja")
    return environment.from_string(text.read_text(encoding="utf-8"))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _span(interval: Interval | None) -> str:
    return "-" if interval is None else f"{max(interval.low, 0):.3f} to {min(interval.high, 1):.3f}"
