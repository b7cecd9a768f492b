"""``medfocus audit``: the same picture on both sides of the split, or under two labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from medfocus_pipeline.commands.output import bar, say, say_columns, say_json, say_problems
from medfocus_pipeline.commands.scan import open_dataset
from medfocus_pipeline.datasets.audit import (
    Audit,
    AuditConfig,
    audit,
    pair_table,
    patients_warning,
    summary,
)
from medfocus_pipeline.datasets.series import series_warning
from medfocus_pipeline.datasets.similarity import HASH_BITS
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.embedded import plain_rows
from medfocus_pipeline.errors import DamagedError, DataError, MedFocusError, counted
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.project.dataset import Dataset, split_of
from medfocus_pipeline.project.fingerprints import known_fingerprints
from medfocus_pipeline.project.located import Open
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import locate_stores
from medfocus_pipeline.project.study import Study
from medfocus_pipeline.report.drawing import printable
from medfocus_pipeline.sealed import present, read_json, write_json
from medfocus_pipeline.sealed_tables import read_table, write_table
from medfocus_pipeline.types import JSON, FloatArray

PAIRS, COUNTS = "audit.parquet", "audit.json"

_SHOWN = 5
"""Patients and groups of copies that are named; the JSON names them all."""

_SIDES = {"train": "training", "test": "test", "": "no split"}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """An audit and what it was made from.

    Attributes:
        dataset: without the images that turned out unreadable.
        pairs: see `audit.PAIRS`.
        lacking: why embeddings were not compared; empty if they were.
        notes: what else was not compared.
    """

    dataset: Dataset
    found: Audit
    pairs: pa.Table
    lacking: str
    notes: list[str]


def run(context: Context, config: AuditConfig, *, strict: bool, as_json: bool = False) -> int:
    """Compare all images with one another, print what was found, and write it down.

    Returns:
        1 if `strict` and the sides share bytes, pixels or a patient, else 0.

    Raises:
        StoreError: the disk is full, or an embedding store is corrupt.
    """
    dataset = open_dataset(context, images_needed=False)
    measured = measure(context, dataset, config)
    dataset, found, pairs = measured.dataset, measured.found, measured.pairs
    context.remember(card=dataset.card_path)
    write(context.folder, found, pairs)
    for note in measured.notes:
        say(note)
    lacking = f"embedding: not compared, {measured.lacking}" if measured.lacking else ""
    _print(found, pairs, lacking, as_json=as_json)
    for warning in (patients_warning(dataset.manifest), series_warning(found.series)):
        if warning:
            say(warning)
    say_problems(dataset.problems)
    say(f"pairs: {context.folder / PAIRS}, counts: {context.folder / COUNTS}")
    return int(strict and bool(found.leaked or found.patients))


def run_study(study: Study, config: AuditConfig, *, strict: bool, as_json: bool = False) -> int:
    """Compare all images of all domains of a study, as `run` does; what is written is the study's.

    Raises:
        StoreError: the disk is full.
    """
    found, pairs = study.audit(study.joined(), config)
    write(study.folder, found, pairs)
    _print(found, pairs, "embedding: not compared between domains", as_json=as_json)
    say(f"pairs: {study.folder / PAIRS}, counts: {study.folder / COUNTS}")
    return int(strict and bool(found.leaked or found.patients))


def measure(context: Context, dataset: Dataset, config: AuditConfig) -> Measured:
    """Compare all images with one another; hashes of images that were not seen yet are kept.

    Raises:
        StoreError: the disk is full, or an embedding store is corrupt.
    """
    fingerprints, late, notes = known_fingerprints(context, dataset, bar)
    dataset = dataset.without(context, late)
    embeddings, lacking = _embeddings(context, dataset)
    split = _split(context, dataset)
    found = audit(dataset.manifest, split, fingerprints, embeddings=embeddings, config=config)
    return Measured(dataset, found, pair_table(found, dataset.manifest), lacking, notes)


def _embeddings(context: Context, dataset: Dataset) -> tuple[dict[str, FloatArray], str]:
    """Image id -> embedding of the whole picture, or why there are none."""
    configs = context.embed.configs(auto=dataset.card.roi)
    whole = [config for config in configs if config.focus == "original"]
    if not whole:
        return {}, "the focus original is not among the embeddings"
    try:
        [place] = locate_stores(context, dataset, whole[:1]).embeddings
    except MedFocusError as error:
        return {}, str(error)  # the other kinds need no encoder
    if not isinstance(place, Open):
        return {}, f"there are none yet of {place.label}"
    return plain_rows(place.store), ""


def _split(context: Context, dataset: Dataset) -> Split | str:
    """The split that `probe` uses, or why there is none."""
    try:
        return split_of(dataset, context.probe)
    except DataError as error:
        return str(error)


def write(folder: Path, found: Audit, pairs: pa.Table) -> None:
    """Writes ``audit.parquet`` and ``audit.json``.

    Raises:
        StoreError: the disk is full.
    """
    described: JSON = summary(found, pairs)
    with disk_errors(folder):
        write_table(folder / PAIRS, pairs, owner=PAIRS)
        write_json(folder / COUNTS, described, owner=COUNTS)


def read_pairs(folder: Path) -> pa.Table:
    """The pairs that the last audit found.

    Raises:
        DamagedError: they are missing, or were changed.
        AccessError: they cannot be read now.
    """
    return read_table(folder / PAIRS, owner=PAIRS)


def thresholds(folder: Path) -> AuditConfig | None:
    """Those of the last audit; None if there was none.

    Raises:
        DamagedError: its file was changed.
        AccessError: it cannot be read now.
    """
    if not present(folder / COUNTS):
        return None
    try:
        described = read_json(folder / COUNTS, owner=COUNTS)
        return AuditConfig.model_validate(described["thresholds"])
    except (DamagedError, KeyError, ValueError) as error:
        raise DamagedError(f"{error}. Run: medfocus audit, which writes it anew.") from error


def _print(found: Audit, pairs: pa.Table, lacking: str, *, as_json: bool) -> None:
    """Prints what was found, and what is to be said if embeddings were not compared."""
    if as_json:
        say_json(summary(found, pairs))
    config = found.config
    meaning = {
        "bytes": "equal files",
        "pixels": "equal pixels, other bytes",
        "perceptual": f"hash: at most {config.distance} of {HASH_BITS} bits differ",
        "embedding": f"cosine at least {config.cosine:g}",
    }
    headings = ("images", "pairs", "across the split", "two labels", "test images concerned")
    examples, rows = _examples(pairs), []
    for one in found.findings:
        counts = (one.compared, one.pairs, one.across_splits, one.across_labels, one.test_images)
        numbers = [f"{count:,}" for count in counts]
        rows.append((meaning[one.kind], *numbers, printable(examples.get(one.kind, "-"))))
    split = found.split if found.split in {"official", "drawn"} else f"none: {found.split}"
    say(f"{found.dataset}: split {split}")
    say_columns(("same picture", *headings, "example"), rows)
    if lacking:
        say(lacking)
    _print_rest(found)


def _examples(pairs: pa.Table) -> Mapping[str, str]:
    """Kind -> its first pair."""
    kinds = pairs["kind"].to_pylist()
    rows = {kind: pairs.slice(kinds.index(kind), 1).to_pylist()[0] for kind in dict.fromkeys(kinds)}
    return {kind: f"{row['first_path']} ~ {row['second_path']}" for kind, row in rows.items()}


def _print_rest(found: Audit) -> None:
    counts = [
        (printable(name), *(f"{classes[name]:,}" for classes in found.balance.values()))
        for name in next(iter(found.balance.values()), {})
    ]
    say_columns(("files", *(_SIDES[side] for side in found.balance)), counts)
    if found.repeated:
        files = sum(map(len, found.repeated))
        equal = counted(files, "training file is", "training files are")
        say(f"{equal} byte-equal to another training file:")
        for group in found.repeated[:_SHOWN]:
            say(f"  {' = '.join(map(repr, group[:_SHOWN]))}{' …' if len(group) > _SHOWN else ''}")
    if found.patients:
        names = ", ".join(map(repr, found.patients[:_SHOWN]))
        more = " …" if len(found.patients) > _SHOWN else ""
        patients = counted(len(found.patients), "patient is", "patients are")
        say(f"{patients} on both sides of the split: {names}{more}")
    _print_gate(found)
    tested = sum(found.balance.get("test", {}).values())
    if found.leaked:
        say(
            f"{found.leaked:,} of {tested:,} test images are also among the training images, by "
            "bytes or pixels; accuracies on the clean ones leave them out"
        )
    elif tested:
        say(f"no test image of {tested:,} was found in training, by bytes or pixels")


def _print_gate(found: Audit) -> None:
    """What of a labelled set looks like no medical image, left out or kept."""
    if found.not_medical is None:
        say(f"no gate looked at the images: medfocus scan {found.dataset} --gate")
        return
    end = ":" if found.not_medical else ""
    files = counted(len(found.not_medical), "labelled file looks", "labelled files look")
    say(f"{files} like no medical image{end}")
    for path, score in list(found.not_medical.items())[:_SHOWN]:
        say(f"  {path!r} score {score:.2f}")
    if len(found.not_medical) > _SHOWN:
        say(f"  … all of them: {COUNTS}")
