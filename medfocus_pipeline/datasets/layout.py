"""Split and class of a file, from the folders it lies in."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, TypeAlias

from medfocus_pipeline.datasets.card import Card, plain_card
from medfocus_pipeline.datasets.manifest_columns import SYNTHETIC
from medfocus_pipeline.datasets.names import check_class_names, fold, split_side
from medfocus_pipeline.errors import DataError

_Parts: TypeAlias = tuple[str, ...]


class Place(NamedTuple):
    """Where a file belongs.

    Attributes:
        split: ``train``, ``test``, ``validation``, `SYNTHETIC`, or empty without an official split.
    """

    split: str
    class_index: int


def place_files(paths: Sequence[str], card: Card) -> list[Place | None]:
    """Split and class of each path; None for a file outside the card's layout.

    The first of the card's roots in which any file fits is taken. Folder names are compared
    without regard to case; below a class folder the depth is free.

    Args:
        paths: relative to the data folder, with forward slashes.
        card: of the data set.
    """
    parts = [tuple(path.split("/")) for path in paths]
    places: list[Place | None] = [None] * len(parts)
    for root in card.roots:
        places = _place_below(PurePosixPath(root).parts, parts, card)
        if any(places):
            break
    made = [_made(each, card) for each in parts]
    return [place if one is None else one for place, one in zip(places, made, strict=True)]


def _made(parts: _Parts, card: Card) -> Place | None:
    """The place of a file in one of the card's folders of synthetic images."""
    if len(parts) < 3 or fold(parts[0]) not in map(fold, card.synthetic):
        return None
    index = card.class_index.get(fold(parts[1]))
    return None if index is None else Place(SYNTHETIC, index)


def guess_card(paths: Sequence[str], title: str) -> Card:
    """A card for a folder without one: class folders, or split folders of class folders.

    Folders that only wrap another one are passed through, as archives often have one.

    Raises:
        DataError: no file lies in a class folder.
    """
    parts = [tuple(path.split("/")) for path in paths]
    root: _Parts = ()
    while True:
        below = [rest for rest in (_below(root, each) for each in parts) if len(rest) > 1]
        tops = sorted({rest[0] for rest in below})
        if len(tops) != 1 or all(len(rest) < 3 for rest in below):
            break
        root = (*root, tops[0])
    splits = _guess_splits(below)
    if splits:
        chosen = {names[0] for names in splits.values()}
        below = [rest[1:] for rest in below if rest[0] in chosen and len(rest) > 2]
    names = check_class_names(rest[0] for rest in below)
    if not names:
        raise DataError(
            f"No image of {title!r} lies in a class folder. Expected <class>/<image>, or "
            "train/<class>/<image> and test/<class>/<image>; or give a CSV with the columns "
            "path and label: DATA=images.csv"
        )
    return plain_card(title, names).model_copy(
        update={"splits": splits, "roots": ("/".join(root) or ".",)}
    )


def _guess_splits(below: Sequence[_Parts]) -> dict[str, tuple[str, ...]]:
    """Folders that mean a split: one of training and one of test, with classes below both."""
    found: dict[str, list[str]] = {"train": [], "test": [], "validation": []}
    for top in sorted({rest[0] for rest in below if len(rest) > 2}):
        if (side := split_side(top)) in found:
            found[side].append(top)
    train, test = found["train"], found["test"]
    several = train if len(train) > 1 else test if len(test) > 1 else []
    if train and (several or (found["validation"] and not test)):
        raise DataError(
            f"The folders {', '.join(map(repr, several or train + found['validation']))} look "
            "like splits, but not one of training and one of test (validation is never test). "
            "Name them in a card: splits: {train: …, test: …} (data/README.md)."
        )
    return {"train": (train[0],), "test": (test[0],)} if train and test else {}


def expected_layout(card: Card) -> str:
    """A card's layout in words, for messages: ``(Training or train)/(glioma …)/<image>``."""
    splits = ["|".join(names) for names in card.splits.values()]
    classes = " or ".join("|".join((item.name, *item.folders)) for item in card.classes)
    return "/".join(([f"({' or '.join(splits)})"] if splits else []) + [f"({classes})", "<image>"])


def folders_below(path: str, card: Card) -> tuple[str, ...]:
    """The folders between an image and the folder of its class."""
    parts = path.split("/")[:-1]
    first = next((n for n, part in enumerate(parts) if fold(part) in card.class_index), len(parts))
    return tuple(parts[first + 1 :])


def is_left_out(path: str, card: Card) -> bool:
    """Whether a file is excluded, or is another image's annotation."""
    pure = PurePosixPath(path)
    patterns = list(card.exclude)
    if card.annotation:
        parts = PurePosixPath(card.annotation.replace("{stem}", "*")).parts
        patterns.append("/".join(part for part in parts if part != ".."))
    return any(pure.match(pattern) for pattern in patterns)


def _place_below(root: _Parts, paths: Sequence[_Parts], card: Card) -> list[Place | None]:
    """Places of the files in one root; the first split folder that exists wins."""
    rests = [_below(root, parts) for parts in paths]
    tops = {fold(rest[0]) for rest in rests if len(rest) > 2}
    split_of: dict[str, str] = {}
    for split, names in card.splits.items():
        existing = [fold(name) for name in names if fold(name) in tops]
        split_of.update(dict.fromkeys(existing[:1], split))
    named = {fold(name) for names in card.splits.values() for name in names}
    for top in tops - named if card.splits else ():
        if split_side(top) == "validation":
            split_of[top] = "validation"
    class_index = card.class_index
    places: list[Place | None] = []
    for rest in rests:
        side = split_of.get(fold(rest[0]), "") if rest else ""
        inner = rest if not card.splits else rest[1:] if side else ()
        index = class_index.get(fold(inner[0])) if len(inner) > 1 else None
        places.append(None if index is None else Place(side, index))
    return places


def _below(root: _Parts, parts: _Parts) -> _Parts:
    """The parts of a path below a root; none if it is not below it."""
    return parts[len(root) :] if parts[: len(root)] == root else ()
