"""What names of files and folders mean: splits, patients, equal class names."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

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
_ENDING = r"([^/])\.[^./]+$"
"""Of a file's name, with the character before it; read alike by ``re`` and RE2."""


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


def without_ending(path: str) -> str:
    """A path without the ending of its file's name; ``.nii.gz`` goes whole."""
    return re.sub(_ENDING, r"\1", path.removesuffix(".gz"))


def file_names(paths: pa.StringArray) -> pa.StringArray:
    """The last part of each path."""
    return pc.replace_substring_regex(paths, "(?s)^.*/", "")


def without_endings(paths: pa.StringArray) -> pa.StringArray:
    """As `without_ending`, of each path."""
    bare = pc.replace_substring_regex(paths, r"\.gz$", "")
    return pc.replace_substring_regex(bare, _ENDING, r"\1")


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
