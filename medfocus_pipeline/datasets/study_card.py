"""Studies: which domains are compared, where their data are, and what their classes are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.datasets.card import alternatives, card_folder, check_name, yaml_names
from medfocus_pipeline.datasets.checked_yaml import load_checked
from medfocus_pipeline.datasets.names import fold
from medfocus_pipeline.errors import ConfigError, did_you_mean

SEVERAL = "+"
"""Between the names of several sources that are used at once."""


def _described(value: object) -> object:
    """A domain without settings of its own, or with its data alone."""
    return {} if value is None else {"data": value} if isinstance(value, str) else value


def _domain_name(value: str) -> str:
    if not value or set(value) & set(f"{SEVERAL},/") or value == OTHERS:
        raise ValueError(f"expected a name without '{SEVERAL}', ',' and '/', got {value!r}")
    return value


class DomainCard(Frozen):
    """One domain: a data set, or what one of its CSV's column `domain` calls so.

    Attributes:
        dataset: its name; empty is the domain's.
        data: its images, relative to the study's file; None is where they were last, or
            ``data/<dataset>``.
        domain: the value of the column; None is all of the data set.
    """

    dataset: str = ""
    data: Path | None = None
    domain: str | None = None


ClassNames = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(alternatives),
    Field(min_length=1),
]

DomainName = Annotated[str, AfterValidator(_domain_name)]


class StudyCard(Frozen):
    """What a study compares; ``docs/domains.md`` describes every key for users.

    Attributes:
        title: what is asked.
        phantoms: kind of the drawings that stand for domains whose data are not there.
        classes: shared name -> what the domains call it, without regard to case.
        domains: by name, in the order of the matrix.
    """

    title: str = ""
    phantoms: Literal["chest"] | None = None
    classes: dict[str, ClassNames] = Field(min_length=1)
    domains: dict[DomainName, Annotated[DomainCard, BeforeValidator(_described)]] = Field(
        min_length=1
    )

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if len(classes) < 2:
            raise ValueError(f"expected two classes or more, got {', '.join(classes)}")
        seen: dict[str, str] = {}
        for shared, names in classes.items():
            for name in {fold(text) for text in (shared, *names)}:
                if seen.setdefault(name, shared) != shared:
                    raise ValueError(f"{seen[name]!r} and {shared!r} both stand for {name!r}")
        return classes

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        domains = values.get("domains") if isinstance(values, dict) else None
        if isinstance(domains, Sequence) and not isinstance(domains, str):
            return {**values, "domains": dict.fromkeys(map(str, domains))}
        return values

    @property
    def class_index(self) -> dict[str, int]:
        """Case folded class name of a domain -> index of the shared class."""
        return {
            fold(text): index
            for index, (shared, names) in enumerate(self.classes.items())
            for text in (shared, *names)
        }

    def dataset_of(self, name: str) -> str:
        """The data set of a domain."""
        return self.domains[name].dataset or name


def find_study(name: str) -> tuple[str, Path, StudyCard]:
    """A study by its name, from ``data/`` or those that come with MedFocus, or by its file.

    Returns:
        Its name, its file, and what it says.

    Raises:
        ConfigError: there is none, it is wrong, or it has one domain.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        name = check_name(path.stem)
    else:
        places = [folder / f"{check_name(name)}.yaml" for folder in _folders()]
        path = next((place for place in places if place.is_file()), Path())
    if not path.is_file():
        known = known_studies()
        raise ConfigError(
            f"There is no study {name!r}.{did_you_mean(name, known)} Known studies: "
            f"{', '.join(known) or 'none'}. One of your own is a file with domains and classes "
            "(docs/domains.md): make adapt STUDY=mine.yaml"
        )
    card = load_checked(path, StudyCard, kind="Study")
    if len(card.domains) < 2:
        raise ConfigError(
            f"The study {name!r} has one domain, {next(iter(card.domains))!r}; expected two or "
            f"more. Add another one to domains in {path}."
        )
    return name, path, card


def names_study(name: str, *, cache: Path) -> bool:
    """Whether a name, or a file, is a study's, and not that of a data set which is here too."""
    if name.endswith((".yaml", ".yml")):
        return True
    here = (cache / name / "manifest.parquet").exists() or Path("data", name).exists()
    return not here and name in known_studies()


def known_studies() -> list[str]:
    """Names of the studies in ``data/`` and of those that come with MedFocus, sorted."""
    return yaml_names(_folders(), studies=True)


def _folders() -> list[Path]:
    return [Path("data"), card_folder()]


OTHERS = "others"
"""Stands for all domains but the target."""


def chosen_pairs(
    card: StudyCard, sources: Sequence[str] | None, targets: Sequence[str] | None
) -> list[tuple[tuple[str, ...], str]]:
    """Every source -> target pair, each once, without those where they overlap.

    Args:
        sources: such as ``kermany``, ``kermany+rsna`` (both at once) or ``others``; None is each
            domain alone.
        targets: None is every domain.

    Raises:
        ConfigError: there is no such domain, or every target is also the source.
    """
    wanted = list(card.domains) if sources is None else list(sources)
    aims = list(card.domains) if targets is None else list(targets)
    alone = [(text, tuple(dict.fromkeys(text.split(SEVERAL)))) for text in wanted]
    named = [part for text, parts in alone if text != OTHERS for part in parts]
    for part in [*named, *aims]:
        if part not in card.domains:
            raise ConfigError(
                f"The study has no domain {part!r}.{did_you_mean(part, card.domains)} Choose "
                f"of its domains: {', '.join(card.domains)}; as a source also {OTHERS}."
            )
    found = []
    for text, parts in alone:
        for target in aims:
            others = tuple(name for name in card.domains if name != target)
            whole = others if text == OTHERS else parts
            if target not in whole:
                found.append((whole, target))
    if not found:
        raise ConfigError(
            f"The target {', '.join(aims)} is also the source. Name another one of "
            f"{', '.join(card.domains)}: TARGET=…"
        )
    return list(dict.fromkeys(found))
