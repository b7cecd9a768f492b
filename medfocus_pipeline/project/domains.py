"""The domains of a study: which images of a data set, under which of the shared classes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import ROW, VALIDATION
from medfocus_pipeline.datasets.names import fold
from medfocus_pipeline.datasets.similarity import Fingerprints
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.datasets.study_card import StudyCard
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.project.dataset import split_of
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.types import IntArray

_ELSEWHERE, _UNNAMED = "is of another domain", "is of a class that the study does not name"
_CHOOSES = "is of the validation split, in which a study has no use"


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain of a study.

    Attributes:
        project: whose stores its images are in; domains of one data set share it.
        manifest: the data set's, with the study's classes; rows that are not the domain's, or of
            no class of the study, are unusable.
        split: rows that are for training, and for testing.
        left_out: class -> images of it that the study has no class for.
    """

    name: str
    project: Project
    manifest: Manifest
    split: Split
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The images of all domains, one below another.

    Attributes:
        manifest: usable images; a path begins with the name of the domain.
        domains: ``(n,) int64``, of each row.
        split: rows of the manifest.
        fingerprints: image id -> what it is known by.
    """

    manifest: Manifest
    domains: IntArray
    split: Split
    fingerprints: Mapping[str, Fingerprints]


def check_distinct(card: StudyCard, contexts: Mapping[str, Context]) -> None:
    """Refuse a domain that is another one too, or part of it."""
    seen: dict[Path, list[str]] = {}
    for name, context in contexts.items():
        for other in seen.setdefault(context.data, []):
            values = {card.domains[one].domain for one in (name, other)}
            if len(values) == 1 or None in values:
                raise ConfigError(
                    f"The domains {other} and {name} are the same images, {context.data}: a target "
                    "cannot also be the source. Give each data of its own, or a value of the "
                    "column domain."
                )
        seen[context.data].append(name)


def check_classes(
    name: str, path: Path, card: StudyCard, counts: Mapping[str, Counter[str]]
) -> None:
    """Refuse domains whose classes do not meet, and mappings that name nothing."""
    index = card.class_index
    found = {
        one: {index[fold(text)] for text in own if fold(text) in index}
        for one, own in counts.items()
    }
    said = "; ".join(f"{one} has {', '.join(sorted(own))}" for one, own in counts.items())
    for place, (shared, texts) in enumerate(card.classes.items()):
        if not any(place in own for own in found.values()):
            raise ConfigError(
                f"The class {shared!r} of the study {name} stands for {'|'.join(texts)}, which no "
                f"domain has: {said}. Name one of these in {path}."
            )
    for one, own in found.items():
        missing = [shared for place, shared in enumerate(card.classes) if place not in own]
        if len(missing) == len(card.classes):
            raise ConfigError(
                f"The classes of the study {name} and of its domain {one} do not meet: it has "
                f"{', '.join(sorted(counts[one])) or 'no image'}. Name its classes in {path}."
            )
        if missing:
            raise DataError(
                f"The domain {one} has no image of {', '.join(map(repr, missing))}, only of "
                f"{', '.join(sorted(counts[one]))}. Add some, name what it calls them in {path}, "
                "or take the domain out."
            )


def open_domain(name: str, project: Project, card: StudyCard) -> Domain:
    """The domain's rows of the data set, its classes renamed, and their split."""
    manifest, wanted = project.dataset.manifest, card.domains[name].domain
    classes, left_out, rows = tuple(card.classes), Counter[str](), []
    for row in manifest.table.to_pylist():
        index = card.class_index.get(fold(row["class_name"]), -1)
        own = wanted in (None, row["domain"])
        if own and index < 0 and not row["problem"]:
            left_out[row["class_name"]] += 1
        problem = row["problem"] or (_ELSEWHERE if not own else _UNNAMED if index < 0 else "")
        if not problem and row["split"] == VALIDATION:
            problem = _CHOOSES
        shared = classes[index] if index >= 0 else ""
        row |= {"class_index": index, "class_name": shared, "problem": problem}
        rows.append([row[name] for name in ROW.names])
    own_manifest = manifests.build(rows, name=name, classes=classes, from_card=True)
    dataset = replace(project.dataset, manifest=own_manifest)
    split = split_of(dataset, project.context.probe)
    return Domain(name, project, own_manifest, split, dict(left_out))


def usable_rows(domain: Domain) -> list[dict[str, object]]:
    """The usable rows of a domain, paths and patients with its name before them."""
    dataset = domain.project.name
    return [
        {
            **row,
            "path": f"{domain.name}/{row['path']}",
            "group": f"{dataset}/{row['group']}" if row["group"] else "",
            "domain": domain.name,
        }
        for row in domain.manifest.table.take(domain.manifest.usable).to_pylist()
    ]


def class_counts(projects: Mapping[str, Project], card: StudyCard, name: str) -> Counter[str]:
    """Class of the data set -> usable images of the domain.

    Raises:
        ConfigError: the data set has no such value in its column domain.
    """
    manifest = projects[name].dataset.manifest
    domain, values = card.domains[name].domain, manifest.strings("domain")
    if domain is not None and domain not in values:
        known = ", ".join(sorted({*values} - {""})) or "nothing: is it a CSV with that column?"
        raise ConfigError(
            f"The domain {name} is to be {domain!r} in the column domain of {manifest.name}, which "
            f"has {known}. Name one of its values in the study, or leave domain out."
        )
    names = manifest.strings("class_name")
    return Counter(names[row] for row in manifest.usable if domain in (None, values[row]))
