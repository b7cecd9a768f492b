"""``medfocus adapt``: from domain to domain, every method, one matrix."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from medfocus_pipeline.commands import phantom
from medfocus_pipeline.commands.audit import write
from medfocus_pipeline.commands.output import bar, say, say_filled, say_sections
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.config.adaptation import AdaptConfig
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet, by_machines
from medfocus_pipeline.datasets.study_card import chosen_pairs, find_study
from medfocus_pipeline.errors import counted
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.matrix import build_matrix
from medfocus_pipeline.project.study import Adapted, Study
from medfocus_pipeline.report.matrix import sections, write_matrix

_TRAIN, _TEST = 320, 160
"""Phantoms of each machine that are drawn where there are none."""


def run(
    name: str,
    config: AdaptConfig,
    *,
    cache: Path,
    profile: str | None,
    sources: Sequence[str] | None,
    targets: Sequence[str] | None,
    runtime: Runtime,
    workers: int,
) -> None:
    """Embed and fit what is missing, print and write the matrix.

    Args:
        name: of the study, or its file.
        sources, targets: names of domains; None is every one.
        workers: processes that fit.
    """
    started = time.monotonic()
    _, _, card = find_study(name)
    chosen_pairs(card, sources, targets)  # before anything is drawn or embedded
    if card.phantoms:
        draw(workers)
    study = Study.open(name, profile=profile, cache=cache, progress=bar)
    runtime = runtime.model_copy(update={"engine": study.engine})
    for filled in study.fill(config, runtime):
        say_filled(filled)
    done = study.adapt(config, sources=sources, targets=targets, workers=workers)
    runs = sum(len(one.keys) for one in done.transfers)
    said = f"all {counted(runs, 'run is', 'runs are')} done"
    said = f"{counted(done.fitted, 'run')} fitted" if done.fitted else said
    rest = "" if done.fitted else ", nothing to do"
    say(f"adapt: {said}{rest}, {time.monotonic() - started:.0f} s in all")
    write(study.folder, done.found, done.twins)
    matrix = build_matrix(
        study.card.title or study.name,
        done.transfers,
        runs=results.read(study.results_folder, "adaptation"),
        predictions=results.read(study.results_folder, "predictions"),
        notes=[
            *_read_so(config),
            *left_out(study),
            *_shared(study, done),
            *_without_views(study, config, done),
        ],
    )
    say_sections(matrix.title, sections(matrix), matrix.notes)
    page, *_ = write_matrix(matrix, study.folder / "report")
    say(f"results: {study.results_folder / 'adaptation.parquet'}")
    say(f"tables and picture: {page.parent}; open in a browser: {page}")


def draw(workers: int) -> None:
    """The phantoms of every machine, as far as they are not there."""
    for one in by_machines(PhantomSet(kind="chest"), 3):
        folder = phantom.folder_of(one, None)
        if not folder.exists():
            phantom.run(one, folder, train=_TRAIN, test=_TEST, workers=workers, force=False)


def left_out(study: Study) -> list[str]:
    """Images of classes that the study does not name, a line a domain."""
    return [
        f"{domain.name}: {counted(sum(domain.left_out.values()), 'image')} left out, of "
        f"{', '.join(f'{name} ({count:,})' for name, count in sorted(domain.left_out.items()))}, "
        "which no class of the study names."
        for domain in study.domains
        if domain.left_out
    ]


def _shared(study: Study, done: Adapted) -> list[str]:
    """What is in two domains, and what became of the test sets."""
    between: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in done.twins.to_pylist():
        place = tuple(row[f"{side}_path"].partition("/")[0] for side in ("first", "second"))
        if place[0] != place[1]:
            between.setdefault((min(place), max(place)), []).append(row)
    notes = []
    for (one, other), rows in sorted(between.items()):
        labels = sum(row["first_label"] != row["second_label"] for row in rows)
        contrary = f", {labels:,} under two classes" if labels else ""
        notes.append(
            f"{one} and {other} share {counted(len(rows), 'picture')} (equal bytes or pixels, or "
            f"nearly equal by their hashes){contrary}: {study.folder / 'audit.parquet'}."
        )
    removed = done.tested - len(done.data.table.test)
    if removed:
        notes.append(
            f"{removed:,} of {done.tested:,} test images show what some domain trains on, and are "
            "not tested."
        )
    return notes


def _without_views(study: Study, config: AdaptConfig, done: Adapted) -> list[str]:
    """Methods that have no row for want of augmented views, and how to get it."""
    fitted = {one.method.name for one in done.transfers}
    return [
        f"{method.name} is left out: the domains have no augmented views. To embed some and fit "
        f"it, with an encoder of images: make adapt STUDY={study.name} "
        "AUGMENT=trivial_augment,medical"
        for method in config.methods
        if method.name not in fitted
    ]


def _read_so(config: AdaptConfig) -> list[str]:
    return [
        f"In percent: mean ± standard deviation over {config.seeds} seeds, each on "
        f"{config.fraction:g} % of the source's training images; in brackets the 95 % interval "
        "that the number of the target's test images leaves open.",
        "No label of a target chooses or trains anything, but of the row oracle: source-only on "
        "the target's own labels, an upper bound.",
        "▲ better, ▼ worse than source-only in accuracy: McNemar's test over all answers and over "
        "images, and Student's paired test over seeds, each below .05 after Holm's correction "
        "over the whole matrix.",
        "Proxy A-distance, 0 (a domain classifier guesses) to 2 (it never errs): of the features "
        "in the row source, of what the method's classifier sees in the others.",
    ]
