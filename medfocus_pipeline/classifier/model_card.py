"""The model card of an exported run: what it is, what it was measured to do, what it is not for."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medfocus_pipeline.classifier.pack_config import PackConfig
from medfocus_pipeline.evaluation.diagnostics import Recall
from medfocus_pipeline.evaluation.intervals import Interval
from medfocus_pipeline.evaluation.metrics import label
from medfocus_pipeline.types import JSON, join_parts

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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the training images are from, as the data set's card says.

    Attributes:
        modality: ``brain MRI``.
        source, licence, citation: empty where the card says nothing.
    """

    modality: str
    source: str
    licence: str
    citation: str


def card_text(config: PackConfig, origin: Origin, measured: Measured) -> str:
    """The card, as Markdown; names from a data set are escaped."""
    title = f"{plain(config.title)}: {config.method} on {join_parts(config.parts)}"
    sections = [
        _FRONT,
        f"# {title}",
        f"**{NOTICE}**",
        _what(config, origin),
        _figures(measured),
        _recalls(config, measured),
        _limits(config, measured),
        _use(config),
    ]
    return "\n\n".join(sections) + "\n"


def plain(text: str) -> str:
    """A text in one line that neither Markdown nor HTML read as their own."""
    line = html.escape(" ".join(text.split()), quote=False)
    for mark in "\\`*_[]|#":
        line = line.replace(mark, f"\\{mark}")
    return line


_FRONT = """---
library_name: medfocus
pipeline_tag: image-classification
tags: [medical-imaging, few-shot, research-use-only]
---"""


def _what(config: PackConfig, origin: Origin) -> str:
    run = config.run
    amount = f"{run.shots} images a class" if run.shots else f"{run.fraction:g} % of them"
    rows = {
        "data set": f"{plain(config.title)} ({plain(origin.modality)})",
        "source": plain(origin.source),
        "licence of the data set": plain(origin.licence) or "not stated on its card",
        "citation": plain(origin.citation),
        "classes": ", ".join(map(plain, config.classes)),
        "training images": f"{run.images:,} ({amount}, seed {run.seed})",
        "encoder": plain(config.encoder_model.id),
        "segmenter": plain(config.segmenter.id) if config.segmenter else "none",
        "ROI rule": config.roi if config.segmenter else "none",
        "focus": join_parts(config.parts),
        "head": f"{config.method}, chosen on training data: {_chosen(config.head_settings)}",
        "run": f"{run.key[:12]}, MedFocus {config.medfocus}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value]
    return "\n".join(["## What it is", "", "| | |", "| --- | --- |", *lines])


def _chosen(settings: JSON) -> str:
    chosen = settings.get("chosen") or {}
    return ", ".join(f"{name} {value}" for name, value in chosen.items()) or "nothing"


def _figures(measured: Measured) -> str:
    lines = [
        f"| {label(name)} | {_number(score.own)} | {_number(score.mean)} | "
        f"{_span(score.interval)} |"
        for name, score in measured.scores.items()
    ]
    how = (
        "bootstrap over patients" if measured.by_patient else "Wilson, images taken as independent"
    )
    images = f"{measured.test_images:,} test images, {measured.clean_images:,} of them clean"
    return "\n".join(
        [
            "## What it was measured to do",
            "",
            f"On {images} (clean: neither their bytes nor their pixels are among the training "
            f"images). The means are over {measured.seeds} seeds of the same training, this run "
            "among them; their 95 % intervals cover the seeds, not the choice of test images. That "
            f"leaves an accuracy of {_span(measured.tested)} open (95 %, {how}).",
            "",
            "| | this run | mean | 95 % interval |",
            "| --- | --- | --- | --- |",
            *lines,
        ]
    )


def _recalls(config: PackConfig, measured: Measured) -> str:
    lines = [
        f"| {plain(name)} | {recall.images:,} | {_number(recall.mean)} | {_number(recall.spread)} |"
        for name, recall in zip(config.classes, measured.recalls, strict=True)
    ]
    return "\n".join(
        [
            "| class | test images | recall | deviation over seeds |",
            "| --- | --- | --- | --- |",
            *lines,
        ]
    )


def _limits(config: PackConfig, measured: Measured) -> str:
    worst = min(
        (pair for pair in zip(measured.recalls, config.classes, strict=True) if pair[0].images),
        key=lambda pair: pair[0].mean,
        default=None,
    )
    lines = [
        f"It knows {len(config.classes)} classes and gives each image to one of them, also an "
        "image of something else.",
        "It learned from one data set. Another scanner, protocol, population or way of cutting "
        "images out may halve these figures; nobody has measured it.",
        f"`unfamiliar` marks images farther from the training images than {config.threshold:.4f} "
        "in the encoder's space. By construction it also marks about 1 in 100 of the same kind, "
        "and it does not see everything that is wrong with an image.",
        "A heat map shows what this model used. It is no outline of a finding.",
        "Probabilities are those of the head, not of a disease in a patient.",
    ]
    if config.gate is not None:
        how = (
            "what is unlike the images of the data set"
            if config.gate.settings.kind == "own"
            else "what fits the phrases of other pictures better than those of medical images"
        )
        lines[0] = (
            f"It knows {len(config.classes)} classes. Before it answers, a gate refuses {how}; "
            "whatever passes is given to one of the classes."
        )
    if worst:
        lines.insert(1, f"Of its classes it misses {plain(worst[1])} most.")
    return "\n".join(["## Limits", "", *(f"- {line}" for line in lines)])


def _use(config: PackConfig) -> str:
    models = [config.encoder_model, *([config.segmenter] if config.segmenter else [])]
    files = [
        f"- {plain(model.id)}{f' at {model.revision}' if model.revision else ''}: "
        + (", ".join(f"{name} `{digest}`" for name, digest in sorted(model.files.items())) or "-")
        for model in models
    ]
    return "\n".join(
        [
            "## Use",
            "",
            "    medfocus predict IMAGE... --from THIS_FOLDER",
            "    medfocus explain IMAGE... --from THIS_FOLDER --out out",
            "",
            "The models below are not in the folder. Their files are checked by SHA-256, and "
            "others are refused.",
            "",
            *files,
        ]
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _span(interval: Interval | None) -> str:
    return "-" if interval is None else f"{max(interval.low, 0):.3f} to {min(interval.high, 1):.3f}"
