"""Dataset cards: what a data set is, how its folder is laid out, what its classes are called."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.datasets.checked_yaml import load_checked
from medfocus_pipeline.datasets.gate_prompts import GatePrompts
from medfocus_pipeline.datasets.names import fold
from medfocus_pipeline.datasets.reading import Column
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import RoiRule

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def alternatives(value: object) -> object:
    """``a | b`` as a list of names; other values as they are."""
    return [part.strip() for part in value.split("|")] if isinstance(value, str) else value


def _folder_name(value: str) -> str:
    if not value or value in {".", ".."} or "/" in value:
        raise ValueError(f"expected the name of one folder, got {value!r}")
    return value


def _inner_folder(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"expected a folder inside the data folder, got {value!r}")
    return value


def _template(value: str) -> str:
    if value.count("{}") != 1:
        raise ValueError(f"expected one {{}} for the class, got {value!r}")
    return value


def _patient_pattern(value: str) -> str:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if pattern.groups != 1 and "patient" not in pattern.groupindex:
        raise ValueError(f"expected one group, or one named patient; got {pattern.groups}")
    return value


def _mask_pattern(value: str) -> str:
    path = PurePosixPath(value)
    wild = re.search(r"[*?\[]", str(path.parent))
    if "{stem}" not in path.name or path.is_absolute() or wild:
        raise ValueError(f"expected a relative path whose file name has {{stem}}, got {value!r}")
    if path.name in {"{stem}.*", "{stem}*", "*{stem}*"} and str(path.parent) == ".":
        raise ValueError(f"would take the images themselves for masks: {value!r}")
    return value


FolderNames = Annotated[
    tuple[Annotated[str, AfterValidator(_folder_name)], ...], BeforeValidator(alternatives)
]
"""Alternative names of one folder, the first that exists wins: ``Training|train`` or a list."""

Percent = Annotated[float, Field(gt=0, le=100)]

Volumes: TypeAlias = Literal["middle", "all", "refuse"]


class ClassCard(Frozen):
    """One class.

    Attributes:
        name: as the paper writes it.
        prompt: noun phrase that takes the place of ``{}`` in the templates.
        folders: names that the class's folder may have besides `name`.
    """

    name: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    folders: FolderNames = ()

    @property
    def labels(self) -> frozenset[str]:
        """What stands for the class in a path or a CSV, case folded."""
        return frozenset(fold(text) for text in (self.name, *self.folders))


def _file_template(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"expected a path inside the data folder, got {value!r}")
    if not re.search(r"\{[^{}]+\}", value):
        raise ValueError(f"expected the name of a column in braces, as {{id}}.png, got {value!r}")
    return value


class Listing(Frozen):
    """The CSV of a collection that names its images in columns of its own.

    Attributes:
        file: its name in the data folder.
        path: of an image, from the folder, with names of columns in braces.
    """

    file: Annotated[str, AfterValidator(_folder_name)]
    path: Annotated[str, AfterValidator(_file_template)]


class Card(Frozen):
    """What a data set is; ``data/README.md`` describes every key for users.

    Attributes:
        roots: sub-folders that may hold the layout; the first that fits wins.
        splits: folder names of the official ``train`` and ``test`` split; empty without one.
        classes: in the order of the class index.
        synthetic: folders of class folders whose images somebody made: they train, whatever the
            split, and never test.
        listing: the CSV that a collection comes with; None without one.
        templates: prompts with one ``{}``; empty takes defaults made from `modality`.
        exclude: globs, matched from the right of the relative path, of files to leave out.
        patient: regex searched in the relative path; its group is the patient.
        annotation: where the masks of an image are, relative to its folder, with ``{stem}``.
        keep_masks: files that are called like annotation masks are images all the same.
        use_validation: what a validation split is for: `none` leaves it out, `train` makes its
            images training images, in which choices are made by cross-validation, `keep` has it
            as a split of its own, on which the gate chooses its threshold; never test.
        columns: of a CSV, what they are called there, as ``label: Finding Labels``.
        volumes: what is seen of a file with several pictures (slices, frames, pages): the middle
            one (of pages the first), all as images of one group, or none.
        roi: the ROI rule that `auto` stands for, as one rule need not serve every modality.
        test_share: share of the test split where there is no official one.
        gate: what zero-shot tells medical images from others by.
        paper: method -> percent of the training images -> accuracy in percent.
    """

    title: str = Field(min_length=1)
    modality: str = Field(default="medical image", min_length=1)
    source: str = ""
    licence: str = ""
    citation: str = ""
    roots: tuple[Annotated[str, AfterValidator(_inner_folder)], ...] = Field(
        default=(".",), min_length=1
    )
    splits: dict[Literal["train", "test"], FolderNames] = Field(default_factory=dict)
    classes: tuple[ClassCard, ...] = Field(min_length=1)
    synthetic: FolderNames = ()
    listing: Listing | None = None
    templates: tuple[Annotated[str, AfterValidator(_template)], ...] = ()
    exclude: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    patient: Annotated[str, AfterValidator(_patient_pattern)] | None = None
    annotation: Annotated[str, AfterValidator(_mask_pattern)] | None = None
    keep_masks: bool = False
    use_validation: Literal["none", "train", "keep"] = "none"
    columns: dict[Column, str] = Field(default_factory=dict)
    volumes: Volumes = "middle"
    roi: RoiRule = "salient"
    test_share: float | None = Field(default=None, gt=0, lt=1)
    gate: GatePrompts = GatePrompts()
    paper: dict[str, dict[Percent, Percent]] = Field(default_factory=dict)

    @field_validator("splits")
    @classmethod
    def _both_splits(cls, splits: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if splits and len(splits) != 2:
            raise ValueError(f"expected train and test, or neither; got {', '.join(splits)}")
        return splits

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[ClassCard, ...]) -> tuple[ClassCard, ...]:
        labels = [label for item in classes for label in item.labels]
        shared = sorted({label for label in labels if labels.count(label) > 1})
        if shared:
            raise ValueError(f"two classes share the name or folder {', '.join(map(repr, shared))}")
        return classes

    @property
    def class_index(self) -> dict[str, int]:
        """Case folded folder name or label -> class index."""
        return {label: n for n, item in enumerate(self.classes) for label in item.labels}

    def prompts(self) -> list[list[str]]:
        """The texts of each class, one for every template."""
        templates = self.templates or (
            f"{self.modality} of {{}}.",
            f"{self.modality} showing {{}}.",
            "a medical image of {}.",
        )
        return [[text.replace("{}", item.prompt) for text in templates] for item in self.classes]

    def patient_of(self, path: str) -> str:
        """The patient that a relative path names; empty when it names none."""
        match = re.search(self.patient, path) if self.patient else None
        if match is None:
            return ""
        return match["patient" if "patient" in match.re.groupindex else 1] or ""


def plain_card(title: str, classes: Sequence[str]) -> Card:
    """The card of a data set that has none: names are prompts, underscores read as spaces."""
    return Card(
        title=title,
        classes=tuple(
            ClassCard(name=name, prompt=" ".join(name.replace("_", " ").split()) or name)
            for name in classes
        ),
    )


def load_card(path: Path) -> Card:
    """Read a card.

    Raises:
        ConfigError: all problems of the file, each with its line and key.
    """
    return load_checked(path, Card, kind="Card")


def card_folder() -> Path:
    """Where the cards that come with MedFocus are: in the wheel, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "cards"
    return packaged if packaged.is_dir() else package.parent / "data"


def known_cards() -> list[str]:
    """Names of the cards that come with MedFocus, sorted."""
    return yaml_names([card_folder()], studies=False)


def yaml_names(folders: Sequence[Path], *, studies: bool) -> list[str]:
    """Names of the cards, or of the studies, which name domains and lie beside them; sorted."""

    def is_study(path: Path) -> bool:
        return any(line.startswith("domains:") for line in path.read_text("utf-8").splitlines())

    paths = (path for folder in folders for path in folder.glob("*.yaml"))
    return sorted({path.stem for path in paths if is_study(path) == studies})


def find_card(name: str) -> Card | None:
    """The card of a data set that comes with MedFocus, or None if it has none.

    Raises:
        ConfigError: the name is not usable.
    """
    path = card_folder() / f"{check_name(name)}.yaml"
    return load_card(path) if path.is_file() else None


def check_name(name: str) -> str:
    """Refuse a data set name that could not be a folder of the cache.

    Raises:
        ConfigError: anything but letters, digits, ``.``, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise ConfigError(
            f"{name!r} is no name for a data set: expected up to 100 letters, digits, '.', '_' "
            "or '-', the first a letter or digit. Choose another: DATASET=my-data"
        )
    return name
