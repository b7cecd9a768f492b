"""``medfocus predict`` and ``medfocus explain``: images through an exported classifier."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from medfocus_pipeline.classifier import Answer, Classifier, Explanation
from medfocus_pipeline.classifier.card import NOTICE
from medfocus_pipeline.classifier.explanation import HeatMethod
from medfocus_pipeline.classifier.overlay import draw
from medfocus_pipeline.datasets.readers import EXTENSIONS, decode
from medfocus_pipeline.errors import ConfigError, ImageError
from medfocus_pipeline.report.sheet import write_png
from medfocus_pipeline.types import JSON, Image
from stages.progress import Advance, bar, out, say

_AT_ONCE = 16
"""Images in memory together."""

_READERS = 2


@dataclass(frozen=True, slots=True)
class Source:
    """One file that was asked for.

    Attributes:
        path: of the file.
        name: what its overlay is called, unique among all, without the ending.
    """

    path: Path
    name: str


@dataclass(slots=True)
class Said:
    """What came of the files, in their order.

    Attributes:
        answers: path, answer, and the overlay if one was drawn.
        problems: path -> why it could not be read.
    """

    answers: list[tuple[Path, Answer, Path | None]] = field(default_factory=list)
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
        classifier: loaded.
        paths: files, and folders whose images are taken with those of all folders below.
        as_json: one JSON document instead of a table.
        overlay: folder of the pictures with heat maps; None draws none.
        method: of the heat maps; None is what suits the encoder.
        strict: one unreadable file makes the exit code 1.

    Returns:
        1 if no file could be read, or `strict` and some could not, else 0.
    """
    sources = find(paths)
    said = Said()
    with bar("classifying", len(sources)) as advance:
        for some in _read(sources, said, advance):
            _classify(classifier, some, said, overlay=overlay, method=method)
    if as_json:
        typer.echo(json.dumps(_document(classifier, said), indent=2))
    else:
        _show(said, overlay)
    return int(not said.answers or (strict and bool(said.problems)))


def find(paths: Sequence[Path]) -> list[Source]:
    """The files that are meant, each once; what does not exist is kept, and fails when read.

    Raises:
        ConfigError: a folder has no image.
    """
    files: dict[Path, str] = {}
    for path in paths:
        if not path.is_dir():
            files.setdefault(path, path.name)
            continue
        inside = sorted(one for one in path.rglob("*") if _is_image(one, path))
        if not inside:
            raise ConfigError(
                f"{path} has no image. Expected are files that end in "
                f"{', '.join(sorted(EXTENSIONS))}; a file of another name is named itself."
            )
        for one in inside:
            files.setdefault(one, "_".join(one.relative_to(path).parts))
    counts: dict[str, int] = {}
    sources = []
    for path, name in files.items():
        number = counts[name] = counts.get(name, 0) + 1
        sources.append(Source(path, name if number == 1 else f"{name}-{number}"))
    return sources


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.name.lower().endswith(tuple(EXTENSIONS)) and path.is_file()


def _read(
    sources: Sequence[Source], said: Said, advance: Advance
) -> Iterator[list[tuple[Source, Image]]]:
    """Batches of images, read ahead by one; what cannot be read goes to `said`."""
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        groups = [sources[n : n + _AT_ONCE] for n in range(0, len(sources), _AT_ONCE)]
        ahead = [(groups[0], [pool.submit(_open, one) for one in groups[0]])] if groups else []
        for number in range(len(groups)):
            group, pending = ahead.pop()
            if number + 1 < len(groups):
                following = groups[number + 1]
                ahead.append((following, [pool.submit(_open, one) for one in following]))
            opened = [(one, future.result()) for one, future in zip(group, pending, strict=True)]
            for one, found in opened:
                if isinstance(found, str):
                    said.problems[str(one.path)] = found
            good = [(one, found) for one, found in opened if not isinstance(found, str)]
            if good:
                yield good
            advance(len(group))


def _open(source: Source) -> Image | str:
    """The image, or why there is none."""
    try:
        return decode(source.path).pixels
    except ImageError as error:
        return str(error)


def _classify(
    classifier: Classifier,
    some: Sequence[tuple[Source, Image]],
    said: Said,
    *,
    overlay: Path | None,
    method: HeatMethod | None,
) -> None:
    images = [image for _, image in some]
    if overlay is None:
        answers = classifier.predict(images)
        said.answers += [
            (source.path, answer, None) for (source, _), answer in zip(some, answers, strict=True)
        ]
        return
    explained = classifier.explain(images, method=method)
    for (source, image), explanation in zip(some, explained, strict=True):
        picture = _draw(overlay, source, image, explanation)
        said.answers.append((source.path, explanation.answer, picture))


def _draw(folder: Path, source: Source, image: Image, explanation: Explanation) -> Path:
    path = folder / f"{source.name}.png"
    write_png(draw(image, explanation, name=source.path.name), path)
    return path


def _document(classifier: Classifier, said: Said) -> JSON:
    config = classifier.config
    return {
        "notice": NOTICE,
        "classifier": {
            "dataset": config.dataset,
            "classes": list(config.classes),
            "head": config.head.name,
            "focus": list(config.parts),
            "run": config.run.key,
            "threshold": config.threshold,
        },
        "images": [_entry(*one) for one in said.answers],
        "problems": [{"path": path, "problem": why} for path, why in said.problems.items()],
    }


def _entry(path: Path, answer: Answer, overlay: Path | None) -> JSON:
    entry: JSON = {
        "path": str(path),
        "predicted": answer.label,
        "probabilities": dict(zip(answer.classes, answer.probabilities.tolist(), strict=True)),
        "roi": {"box": list(answer.box), "area": round(answer.area, 6)},
        "fallback": answer.roi.fallback,
        "unfamiliar": answer.unfamiliar,
        "distance": answer.distance,
        "threshold": answer.threshold,
    }
    return entry if overlay is None else {**entry, "overlay": str(overlay)}


def _show(said: Said, overlay: Path | None) -> None:
    table = Table("image", "answer", "", "next", "", "ROI (x0, y0, x1, y1)", "area", "", box=None)
    for path, answer, _ in said.answers:
        first, second = (-answer.probabilities).argsort()[:2]
        cells = [
            str(path),
            answer.classes[first],
            _percent(answer.probabilities[first]),
            answer.classes[second],
            _percent(answer.probabilities[second]),
            ", ".join(map(str, answer.box)),
            _percent(answer.area),
            "; ".join(_remarks(answer)),
        ]
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    if said.answers:
        out.print(table)
    if said.problems:
        say(f"{len(said.problems):,} files could not be read:")
        for name, why in said.problems.items():
            say(f"  {name!r} {why}")
    if overlay is not None and said.answers:
        say(f"pictures: {overlay}")
    if any(answer.unfamiliar for _, answer, _ in said.answers):
        say(
            "unfamiliar: farther from the training images than 99 % of them are from each other; "
            "the answer means little"
        )
    say(NOTICE)


def _remarks(answer: Answer) -> list[str]:
    remarks = []
    if answer.unfamiliar:
        remarks.append(f"unfamiliar ({answer.distance:.3f} > {answer.threshold:.3f})")
    if answer.roi.fallback:
        remarks.append("no region found: the whole image")
    return remarks


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _printable(text: str) -> str:
    """Names of files may be anything, and terminals obey what they print."""
    return "".join(one if one.isprintable() else "�" for one in text)
