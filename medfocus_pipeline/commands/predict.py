"""``medfocus predict`` and ``medfocus explain``: images through an exported classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from rich.text import Text

from medfocus_pipeline.classifier import Answer, Classifier, Explanation
from medfocus_pipeline.classifier.explanation import HeatMethod
from medfocus_pipeline.classifier.model_card import NOTICE
from medfocus_pipeline.classifier.overlay import draw
from medfocus_pipeline.commands.image_files import Source, find, read
from medfocus_pipeline.commands.output import bar, out, say, say_json
from medfocus_pipeline.datasets.readers import Decoded, one_of_several
from medfocus_pipeline.embedding import LEAST_SEEN
from medfocus_pipeline.errors import counted
from medfocus_pipeline.files import claim
from medfocus_pipeline.report.drawing import printable
from medfocus_pipeline.report.sheet import write_png
from medfocus_pipeline.types import JSON, Image

_AT_ONCE = 16
"""Images in memory together."""


@dataclass(slots=True)
class Classified:
    """What came of the files, in their order.

    Attributes:
        answers: path, answer, the overlay if one was drawn, and which picture of a file with
            several was seen, as ``frame 3/5``.
        problems: path -> why it could not be read.
    """

    answers: list[tuple[Path, Answer, Path | None, str]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def run(
    classifier: Classifier,
    paths: Sequence[Path],
    *,
    as_json: bool,
    overlay: Path | None,
    method: HeatMethod | None,
    strict: bool,
) -> int:
    """Classify files, print what was said of each.

    Args:
        paths: files, and folders whose images are taken with those of all folders below.
        overlay: folder of the pictures with heat maps; None draws none.
        method: of the heat maps; None is what suits the encoder.

    Returns:
        1 if no file could be read, or `strict` and some could not, else 0.
    """
    sources = find(paths)
    if overlay is not None:
        claim(
            overlay,
            [f"{one.name}.png" for one in sources],
            inputs=[one.path for one in sources],
        )
    said = Classified()
    with bar("classifying", len(sources)) as advance:
        for count, some in read(sources, said.problems, at_once=_AT_ONCE):
            if some:
                _classify(classifier, some, said, overlay=overlay, method=method)
            advance(count)
    if as_json:
        say_json(_document(classifier, said))
    else:
        _show(said, overlay)
    return int(not said.answers or (strict and bool(said.problems)))


def _classify(
    classifier: Classifier,
    some: Sequence[tuple[Source, Decoded]],
    said: Classified,
    *,
    overlay: Path | None,
    method: HeatMethod | None,
) -> None:
    images = [one.pixels for _, one in some]
    if overlay is None:
        for (source, one), answer in zip(some, classifier.predict(images), strict=True):
            said.answers.append((source.path, answer, None, _place(one.mode)))
        return
    explained = classifier.explain(images, method=method)
    for (source, one), explanation in zip(some, explained, strict=True):
        picture = _draw(overlay, source, one.pixels, explanation)
        said.answers.append((source.path, explanation.answer, picture, _place(one.mode)))


def _place(mode: str) -> str:
    """Which of several pictures was seen, ``frame 3/5``; empty of a file with one."""
    found = one_of_several(mode)
    return f"{found[0]} {found[1]}/{found[2]}" if found else ""


def _draw(folder: Path, source: Source, image: Image, explanation: Explanation) -> Path:
    path = folder / f"{source.name}.png"
    write_png(draw(image, explanation, name=source.path.name), path)
    return path


def _document(classifier: Classifier, said: Classified) -> JSON:
    config = classifier.config
    return {
        "notice": NOTICE,
        "classifier": {
            "dataset": config.dataset,
            "classes": list(config.classes),
            "head": config.head.name,
            "focus": [str(part) for part in config.parts],
            "run": config.run.key,
            "threshold": config.threshold,
        },
        "images": [_entry(*one) for one in said.answers],
        "problems": [{"path": path, "problem": why} for path, why in said.problems.items()],
    }


def _entry(path: Path, answer: Answer, overlay: Path | None, place: str) -> JSON:
    entry: JSON = {
        "path": str(path),
        "seen": place or None,
        "predicted": answer.label,
        "gate_score": answer.gate.score if answer.gate else None,
        "looks_like": answer.gate.looks_like or None if answer.gate else None,
        "probabilities": dict(zip(answer.classes, answer.probabilities.tolist(), strict=True)),
        "roi": {"box": list(answer.box), "area": round(answer.area, 6)},
        "fallback": answer.roi.fallback,
        "roi_seen": round(answer.seen, 6),
        "unfamiliar": answer.unfamiliar,
        "distance": answer.distance,
        "threshold": answer.threshold,
    }
    return entry if overlay is None else {**entry, "overlay": str(overlay)}


def _show(said: Classified, overlay: Path | None) -> None:
    table = Table(box=None)
    table.add_column("image", overflow="fold")
    for name in ("answer", "", "next", "", "ROI (x0, y0, x1, y1)", "area", ""):
        table.add_column(name, overflow="fold")
    for path, answer, _, place in said.answers:
        cells = [
            str(path),
            *_classes(answer),
            ", ".join(map(str, answer.box)),
            _percent(answer.area),
            "; ".join(_remarks(answer, place)),
        ]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if said.answers:
        out.print(table)
    if said.problems:
        say(f"{counted(len(said.problems), 'file')} could not be read:")
        for name, why in said.problems.items():
            say(f"  {name!r} {why}")
    if overlay is not None and said.answers:
        say(f"pictures: {overlay}")
    if any(answer.unfamiliar for _, answer, _, _ in said.answers):
        say(
            "unfamiliar: farther from the training images than 99 % of them are from each other; "
            "the answer means little"
        )
    say(NOTICE)


def _classes(answer: Answer) -> list[str]:
    """The two most probable classes and how probable they are, or what the gate says."""
    if answer.refused:
        return [answer.label, "", "", ""]
    names = [answer.classes[n] for n in (-answer.probabilities).argsort()[:2]]
    shares = sorted(answer.probabilities, reverse=True)[:2]
    return [
        cell for name, share in zip(names, shares, strict=True) for cell in (name, _percent(share))
    ]


def _remarks(answer: Answer, place: str) -> list[str]:
    remarks = [f"{place} alone was seen"] if place else []
    if answer.refused and answer.gate is not None:
        remarks.append(f"gate score {answer.gate.score:.2f} < 0")
    if answer.gate is not None and answer.gate.looks_like and not answer.refused:
        remarks.append(f"looks like {answer.gate.looks_like}")
    if answer.unfamiliar:
        remarks.append(f"unfamiliar ({answer.distance:.3f} > {answer.threshold:.3f})")
    if answer.roi.fallback:
        remarks.append("no region found: the whole image")
    if answer.seen < LEAST_SEEN:
        remarks.append(f"the encoder sees {_percent(answer.seen)} of the region")
    return remarks


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
