"""A folder of phantoms: which ones are in it, where each lies, and the card that says so."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.datasets.card import Card, ClassCard, find_card
from medfocus_pipeline.datasets.phantoms.machines import MACHINES
from medfocus_pipeline.datasets.phantoms.phantom import CHEST, CLASSES, MASKLESS, MIXED, PICTURES
from medfocus_pipeline.errors import ConfigError, DataError

SETTINGS = "phantom.json"
CARD = "card.yaml"
CAPTIONS = "captions.parquet"

_MASK = "{stem}_mask.png"
"""Beside each image, as in BUSI, and as there black where there is no lesion."""
_OURS = re.compile(r"\d{8}(_mask)?\.png")

FIRST_TEST = 60_000_000
"""Index of the first test phantom: a multiple of every number of classes, above all training."""

FIRST_VALIDATION = FIRST_TEST // 2
"""Index of the first phantom to choose on, likewise; only `MIXED` has some."""

_SOURCE, _LICENCE = "drawn by MedFocus, not clinical", "CC0 1.0"
_HEADER = (
    "# Written by MedFocus, whose phantoms are drawings: nothing in this folder is clinical.\n"
)


class PhantomSet(Frozen):
    """What decides every phantom of a set, however many there are: kept in ``phantom.json``.

    Attributes:
        kind: one of `phantom.CLASSES`.
        machine: of `machines.MACHINES`, that all of the set are shown by.
        difficulty: 0 (plain to see) to 1 (barely there).
        size: side of the square images, in pixels.
    """

    kind: str
    seed: int = Field(default=0, ge=0, lt=2**63)
    difficulty: float = Field(default=0.5, ge=0, le=1)
    size: int = Field(default=224, ge=32, le=4096)
    machine: str | None = None


def by_machines(phantoms: PhantomSet, count: int) -> list[PhantomSet]:
    """One disease as several machines show it: a set a machine, none with another's bodies.

    Raises:
        ConfigError: of a kind that no machine shows, or more than there are machines.
    """
    if phantoms.kind != CHEST or count > len(MACHINES):
        raise ConfigError(
            f"Domains are drawn of {CHEST}, by {len(MACHINES)} machines at most "
            f"({', '.join(MACHINES)}); got {count} of {phantoms.kind}. "
            f"Run: medfocus phantom {CHEST} --domains {len(MACHINES)}"
        )
    first = phantoms.seed * len(MACHINES)
    return [
        phantoms.model_copy(update={"machine": machine, "seed": first + number})
        for number, machine in enumerate(list(MACHINES)[:count])
    ]


@dataclass(frozen=True, slots=True)
class Place:
    """One phantom of a set.

    Attributes:
        path: of its image, relative to the folder, with forward slashes.
        split: ``train``, ``validation`` or ``test``; empty without an official split.
        label: its class.
        index: what `phantom.draw` takes; the file is named after it.
    """

    path: str
    split: str
    label: str
    index: int


def files(kind: str, path: str) -> tuple[str, ...]:
    """The files of a phantom: its image and, of a medical kind, its mask."""
    if kind in MASKLESS:
        return (path,)
    folder, _, name = path.rpartition("/")
    return path, f"{folder}/{_MASK.format(stem=name.removesuffix('.png'))}"


def places(kind: str, *, train: int, test: int) -> list[Place]:
    """The phantoms of a set, classes in turn; a larger set begins with those of a smaller one.

    Without an official split they are ``train + test`` in all, and the split is drawn later. Where
    the card keeps a validation split, it is as large as the test split.

    Raises:
        ConfigError: no such kind, or not a number of images.
    """
    card = card_of(kind)
    if min(train, test) < 0 or not 0 < train + test <= FIRST_TEST // 2:
        raise ConfigError(
            f"Expected at least one image and no number below 0, got {train:,} to train and "
            f"{test:,} to test. For example: --train 400 --test 200"
        )
    ranges = {"train": range(train), "test": range(FIRST_TEST, FIRST_TEST + test)}
    if card.use_validation == "keep":
        ranges["validation"] = range(FIRST_VALIDATION, FIRST_VALIDATION + test)
    if not card.splits:
        ranges = {"": range(train + test)}
    names = CLASSES[kind]
    outer: dict[str, str] = {split: f"{folders[0]}/" for split, folders in card.splits.items()}
    outer["validation"] = "validation/"
    return [
        Place(f"{outer.get(split, '')}{label}/{index:08d}.png", split, label, index)
        for split, indices in ranges.items()
        for index in indices
        for label in (names[index % len(names)],)
    ]


def card_of(kind: str) -> Card:
    """The card of a phantom set: classes, prompts and layout of the card of its name.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in CLASSES:
        raise ConfigError(f"No phantoms of kind {kind!r}; choose one of: {', '.join(CLASSES)}.")
    if kind == MIXED:
        return _shipped(f"phantom-{MIXED}")
    if kind == PICTURES:
        return Card(
            title="Phantom pictures",
            modality="picture",
            source=_SOURCE,
            licence=_LICENCE,
            classes=tuple(ClassCard(name=name, prompt=f"a {name}") for name in CLASSES[kind]),
        )
    original = _shipped("lungs" if kind == CHEST else kind)
    prompts = {item.name: item.prompt for item in original.classes}
    if kind == CHEST:
        prompts = {"Normal": "healthy lungs", "Pneumonia": "pneumonia"}
    return Card(
        title=f"Phantom {kind} ({original.modality})",
        modality=original.modality,
        source=_SOURCE,
        licence=_LICENCE,
        splits={split: names[:1] for split, names in original.splits.items()},
        classes=tuple(ClassCard(name=name, prompt=text) for name, text in prompts.items()),
        templates=original.templates,
        annotation=_MASK,
        roi=original.roi,
    )


def _shipped(name: str) -> Card:
    card = find_card(name)
    if card is None:
        raise ValueError(f"the card {name} comes with MedFocus")
    return card


def card_text(kind: str) -> str:
    """The card of a phantom set as a YAML file that `load_card` reads."""
    values = card_of(kind).model_dump(mode="json", exclude_defaults=True)
    return _HEADER + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def check_folder(folder: Path, phantoms: PhantomSet) -> bool:
    """Whether a folder holds this set already, perhaps in part; False if it has to be made.

    Raises:
        DataError: it holds something else, or phantoms of other settings.
    """
    elsewhere = "Name another folder with --data"
    if not (folder / SETTINGS).exists():
        if _is_taken(folder):
            raise DataError(f"{folder} is not empty and was not drawn by MedFocus. {elsewhere}.")
        return False
    try:
        known = PhantomSet.model_validate_json((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        raise DataError(
            f"{folder / SETTINGS} is damaged. {elsewhere}, or replace the phantoms there: "
            f"medfocus phantom {phantoms.kind} --force"
        ) from None
    was, now = known.model_dump(), phantoms.model_dump()
    other = [f"{name} {was[name]}, not {now[name]}" for name in was if was[name] != now[name]]
    if other:
        raise DataError(
            f"{folder} holds phantoms of {'; '.join(other)}. {elsewhere}, or replace them: "
            f"medfocus phantom {phantoms.kind} --force"
        )
    return True


def clear(folder: Path) -> None:
    """Remove the phantoms of a folder, with card and captions; other files stay.

    Raises:
        DataError: it was not drawn by MedFocus.
    """
    if not (folder / SETTINGS).exists():
        if _is_taken(folder):
            raise DataError(
                f"{folder} was not drawn by MedFocus, so nothing in it is replaced. "
                "Name another folder with --data."
            )
        return
    (folder / CAPTIONS).unlink(missing_ok=True)
    for path in list(folder.rglob("*.png")):
        if _OURS.fullmatch(path.name):
            path.unlink()
    # The settings go last: until then the folder is known as one of phantoms.
    for name in (CARD, SETTINGS):
        (folder / name).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _is_taken(folder: Path) -> bool:
    """Whether it is a file, or a folder in which something is not hidden."""
    if not folder.is_dir():
        return folder.exists()
    return any(not path.name.startswith(".") for path in folder.iterdir())
