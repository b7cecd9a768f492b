"""What names of files and folders mean: splits, annotation masks, equal class names."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from medfocus_pipeline.errors import DataError

_SPLIT = re.compile(
    r"(?:^|[\W_\d])(?:(?P<train>train(?:ing)?)|(?P<test>test(?:ing)?)|"
    r"(?P<validation>val(?:id(?:ation)?)?)|(?P<fold>fold))(?:set|data|images?)?(?:$|[\W_\d])"
)
_NNUNET = {
    "imagestr": "train",
    "imagests": "test",
    "labelstr": "annotation",
    "labelsts": "annotation",
}
_MASK = re.compile(
    r"(?P<image>.+?)[ _.-]+(?:masks?|seg|segmentation|gt|groundtruth|roi)(?:[ _-]?\d+)?$", re.I
)
_MASK_FOLDERS = frozenset(
    (
        *("mask", "masks", "seg", "segmentation", "segmentations", "annotation", "annotations"),
        *("groundtruth", "ground_truth", "labels", "labelstr", "labelsts"),
    )
)


MAY_BE_MASK = (
    r"(?i)[ _.-](mask|seg|gt|groundtruth|roi)[^/]*$|(^|/)(" + "|".join(sorted(_MASK_FOLDERS)) + ")/"
)
"""RE2 that finds all paths, and more, that `masks_of` may call masks."""


def fold(name: str) -> str:
    """A label or folder name as it is compared: composed, stripped, without case."""
    return clean(name).casefold()


def clean(name: str) -> str:
    """A label as it is kept: composed (NFC), without blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def split_side(name: str) -> str:
    """What a folder's or a CSV's name of a split means.

    Returns:
        "train", "test", "validation", "fold" (of a cross-validation), or "" for no split.
        ``seg_train``, ``train_data``, ``trainset`` and nnU-Net's ``imagesTr`` are known.
    """
    # Words run together are told apart by their capitals: TrainImages.
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", clean(name))
    folded = fold(name)
    if folded in _NNUNET:
        return _NNUNET[folded]
    match = _SPLIT.search(fold(spaced))
    return match.lastgroup or "" if match else ""


def check_class_names(names: Iterable[str]) -> list[str]:
    """Class names cleaned and sorted, each once.

    Raises:
        DataError: two differ in case or width alone, or one looks like a split.
    """
    distinct = sorted({clean(name) for name in names} - {""})
    seen: dict[str, str] = {}
    for name in distinct:
        alike = seen.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if alike != name:
            raise DataError(
                f"The classes {alike!r} and {name!r} differ in case or width alone. Give them "
                "one name, or name both in a card: folders (data/README.md)."
            )
    split = [name for name in distinct if split_side(name)]
    if split:
        raise DataError(
            f"The class {', '.join(map(repr, split))} looks like a split, not a class. Expected "
            "train/<class>/<image> and test/<class>/<image>; name the folders in a card under "
            "splits, or, if it is a class, under classes (data/README.md)."
        )
    return distinct


def masks_of(paths: Sequence[str]) -> dict[str, str]:
    """Annotation masks by their names: path of the mask -> path of the image it belongs to.

    A mask is called like another image with ``_mask``, ``_mask_1``, ``_seg`` … behind its stem
    (BUSI), or like one below a folder beside ``masks`` (COVID-19 Radiography).
    """
    by_stem = {without_ending(path): path for path in reversed(paths)}
    found: dict[str, str] = {}
    for path in paths:
        pure = PurePosixPath(without_ending(path))
        match = _MASK.match(pure.name)
        image = by_stem.get(str(pure.with_name(match["image"]))) if match else None
        image = image or _beside(pure, by_stem)
        if image and image != path:
            found[path] = image
    return found


def _beside(mask: PurePosixPath, by_stem: Mapping[str, str]) -> str | None:
    """The image of a mask that lies below a folder of masks."""
    match = _MASK.match(mask.name)
    stems = [mask.name, f"{mask.name}_0000", *([match["image"]] if match else [])]
    *folders, _ = mask.parts
    places = (
        "/".join([*folders[:n], *instead, *folders[n + 1 :], stem])
        for n, folder in enumerate(folders)
        if folder.casefold() in _MASK_FOLDERS
        for instead in ((), ("images",), ("image",), ("imagesTr",), ("imagesTs",))
        for stem in stems
    )
    return next((by_stem[place] for place in places if place in by_stem), None)


def without_ending(path: str) -> str:
    """A path without the ending of its file's name."""
    pure = PurePosixPath(path.removesuffix(".gz"))
    return str(pure.with_suffix("")) if pure.stem else path


def stem_of(path: str) -> str:
    """The name of a path's file without its ending."""
    return without_ending(path).rpartition("/")[2]


def patient_folders(below: Sequence[tuple[int, tuple[str, ...]]]) -> list[str]:
    """The patient of each file where folders between class and image say it, else empty.

    The first level at which every class has two folders or more is taken for the patients.
    Fewer than five names that are the same in every class are views or batches.

    Args:
        below: class index and folders below the class of each file.
    """
    none = [""] * len(below)
    for depth in range(min((len(folders) for _, folders in below), default=0)):
        names: dict[int, set[str]] = {}
        for index, folders in below:
            names.setdefault(index, set()).add(folders[depth])
        if all(len(some) < 2 for some in names.values()):
            continue
        sets = list(names.values())
        shared = len(sets) > 1 and all(some == sets[0] for some in sets) and len(sets[0]) < 5
        if shared or any(len(some) < 2 for some in sets):
            return none
        return [folders[depth] for _, folders in below]
    return none
