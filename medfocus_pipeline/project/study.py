"""A study: several domains, each a project with its own stores, joined where they are compared."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.adaptation import METHODS
from medfocus_pipeline.config import (
    AdaptConfig,
    EngineConfig,
    FeaturesConfig,
    ProbeConfig,
    ProbeRow,
    Runtime,
)
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.audit import Audit, AuditConfig, audit, pair_table
from medfocus_pipeline.datasets.manifest import SYNTHETIC, Manifest
from medfocus_pipeline.datasets.names import fold
from medfocus_pipeline.datasets.similarity import Fingerprints
from medfocus_pipeline.datasets.splits import Split, connected
from medfocus_pipeline.datasets.study import StudyCard, chosen_pairs, find_study
from medfocus_pipeline.datasets.twins import list_files, seen_elsewhere
from medfocus_pipeline.devices import cores
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.evaluation.transfer import DomainTable, Transfer, plan_transfers
from medfocus_pipeline.features import FeatureTable, focus_modes, join
from medfocus_pipeline.profiles import EmbedPlan
from medfocus_pipeline.project.filling import Filled
from medfocus_pipeline.project.fingerprints import known_fingerprints
from medfocus_pipeline.project.plans import plan, split_of
from medfocus_pipeline.project.progress import Progress, silent
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context, open_context
from medfocus_pipeline.project.stores import check_embedded, encoder_label
from medfocus_pipeline.project.transfers import fit_transfers
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


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """What adapting came to.

    Attributes:
        data: the features; its test images are clean.
        transfers: all that was planned.
        fitted: number of runs that had no result yet.
        found, twins: of the audit across domains.
        tested: test images, clean or not.
    """

    data: DomainTable
    transfers: Sequence[Transfer]
    fitted: int
    found: Audit
    twins: pa.Table
    tested: int


class Study:
    """Domains that are compared with one another.

    Attributes:
        name: of the study.
        card: what its file says.
        domains: in the order of the card.
        folder: ``<cache>/<study>``, where results and report are.
        progress: of long work.
    """

    def __init__(
        self,
        name: str,
        card: StudyCard,
        domains: Sequence[Domain],
        folder: Path,
        progress: Progress = silent,
    ) -> None:
        self.name = name
        self.card = card
        self.domains = list(domains)
        self.folder = folder
        self.progress = progress

    @classmethod
    def open(
        cls,
        name: str,
        *,
        profile: str | None = None,
        cache: str | Path = "cache",
        progress: Progress = silent,
    ) -> "Study":
        """Open every domain of a study, as a command opens a data set.

        Args:
            name: of the study, or its YAML file.
            profile: of all domains; None is what each was last used with.
            cache: where stores and results are.
            progress: of long work.

        Raises:
            ConfigError: there is no such study, or its classes and domains do not fit.
            DataError: the images of a domain are not there, or lack a class.
        """
        name, path, card = find_study(name)
        contexts = {
            domain: open_context(
                card.dataset_of(domain),
                data=path.parent / one.data.expanduser() if one.data else None,
                cache=Path(cache),
                profile=profile,
            )
            for domain, one in card.domains.items()
        }
        _check_distinct(card, contexts)
        projects: dict[tuple[str, Path], Project] = {}
        for context in contexts.values():
            place = (context.dataset, context.data)
            if place not in projects:
                projects[place] = Project.of(context, progress=progress)
        own = {domain: projects[one.dataset, one.data] for domain, one in contexts.items()}
        _check_classes(name, path, card, {domain: _counts(own, card, domain) for domain in own})
        domains = [_domain(domain, project, card) for domain, project in own.items()]
        return cls(name, card, domains, Path(cache).expanduser() / name, progress)

    @property
    def engine(self) -> EngineConfig:
        """What distributes the work: that of the first domain's profile, which is all domains'."""
        return self.domains[0].project.context.profile.engine

    @property
    def results_folder(self) -> Path:
        """Where results, predictions and subsets are."""
        return self.folder / "results"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the shared classes."""
        return tuple(self.card.classes)

    def fill(self, config: AdaptConfig, runtime: Runtime | None = None) -> list[Filled]:
        """Compute the masks and embeddings that a domain lacks; nothing is embedded twice.

        Raises:
            ConfigError: the domains are of different encoders.
            DataError, StoreError, WeightsError: as `Embeddings.fill`.
        """
        self._check_encoders()
        filled = []
        for project in self._projects():
            embed = _embed_plan(project, config)
            if project.context.data.exists():
                project.context.remember()
            if embed.needs_masks and project.embeddings_of(embed).locate().masks:
                done = project.masks.fill(runtime, progress=self.progress)
                filled += [done] if done else []
            # Augmented views are the study's alone, and what the domain has of them stays known.
            drawn = {*embed.augmentations, *_embed(project.context).augmentations}
            filled += project.embeddings_of(embed).fill(
                runtime, progress=self.progress, remember=not drawn
            )
        return filled

    def adapt(
        self,
        config: AdaptConfig | None = None,
        *,
        sources: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        workers: int | None = None,
    ) -> Adapted:
        """Fit every method that has no result yet, from every source to every target.

        Args:
            config: methods, seeds, fraction and features.
            sources: domains, such as ``north``, ``north+south`` (both at once) or ``others``;
                None is each of them.
            targets: domains; None is each of them.
            workers: processes that fit; None is the cores.

        Raises:
            ConfigError: there is no such domain, or every target is also the source.
            DataError: no clean test image of a class is left in a domain.
            StoreError: some embeddings are missing.
        """
        config, thresholds = config or AdaptConfig(), AuditConfig()
        wanted = chosen_pairs(self.card, sources, targets)
        joined = self.joined()
        found, twins = self.audit(joined, thresholds)
        data = self.table(config, joined, thresholds)
        transfers = plan_transfers(data, config, wanted)
        count = fit_transfers(
            data,
            transfers,
            self.results_folder,
            workers=workers or cores(),
            engine=self.engine,
            progress=self.progress,
        )
        return Adapted(data, transfers, count, found, twins, len(joined.split.test))

    def joined(self) -> Joined:
        """The images of all domains, with what they are known by.

        Raises:
            StoreError: the disk is full.
        """
        known: dict[str, Fingerprints] = {}
        for project in self._projects():
            fingerprints, late, _ = known_fingerprints(
                project.context, project.dataset, self.progress
            )
            project.leave_out(late)
            known |= fingerprints
        tables = [_rows_of(one) for one in self.domains]
        lengths = [len(table) for table in tables]
        domains = np.repeat(np.arange(len(tables)), lengths)
        sides = np.concatenate([np.isin(d.manifest.usable, d.split.test) for d in self.domains])
        split = Split(np.flatnonzero(~sides), np.flatnonzero(sides), official=True)
        rows = [[row[name] for name in manifests.ROW.names] for table in tables for row in table]
        manifest = manifests.build(rows, name=self.name, classes=self.classes, from_card=True)
        return Joined(manifest, domains, split, known)

    def audit(self, joined: Joined, config: AuditConfig) -> tuple[Audit, pa.Table]:
        """Which pictures are in two domains, or on both sides of a split, and their pairs."""
        found = audit(
            joined.manifest, joined.split, joined.fingerprints, embeddings={}, config=config
        )
        return found, pair_table(found, joined.manifest)

    def table(self, config: AdaptConfig, joined: Joined, audited: AuditConfig) -> DomainTable:
        """Features of all domains' images.

        Test images that a training image of any domain shows too are left out.

        Raises:
            ConfigError: the domains are of different encoders, or lack a part of the features.
            DataError: no clean test image of a class is left in a domain.
            StoreError: some embeddings are missing.
        """
        self._check_encoders()
        joins = [_features(one, config) for one in self.domains]
        tables, drawn = [one[0] for one in joins], [one[1] for one in joins if len(one) > 1]
        features = np.concatenate([one.features for one in tables])
        plain = features.shape[1]
        if len(drawn) < len(tables) or len({one.features.shape[1] for one in drawn}) > 1:
            drawn = []
        else:
            features = np.concatenate(
                [features, np.concatenate([one.features for one in drawn])], axis=1
            )
        manifest, files = (
            joined.manifest,
            list_files(joined.manifest, joined.split, joined.fingerprints),
        )
        seen = seen_elsewhere(files, joined.domains, distance=audited.distance)
        test = joined.split.test[~seen[joined.split.test]]
        groups = [files.ids, files.pixels, manifest.strings("group")]
        table = replace(
            tables[0],
            dataset=self.name,
            image_ids=tuple(manifest.image_ids),
            paths=tuple(manifest.paths),
            labels=manifest.labels,
            classes=self.classes,
            features=features,
            text=None,
            train=joined.split.train,
            test=test,
            clean=np.ones(len(test), np.bool_),
            groups=connected(groups),
        )
        made = np.array([split == SYNTHETIC for split in manifest.strings("split")], np.bool_)
        names = tuple(one.name for one in self.domains)
        keys, drawn_keys = (tuple(one.keys.embed_keys for one in some) for some in (tables, drawn))
        data = DomainTable(table, names, joined.domains, made, plain, keys, drawn_keys)
        _check_tested(data)
        return data

    def _projects(self) -> Iterator[Project]:
        """Each once."""
        yield from {id(one.project): one.project for one in self.domains}.values()

    def _check_encoders(self) -> None:
        """Refuse domains whose features mean different things."""
        plans = {one.name: one.project.context for one in self.domains}
        first, *others = plans.items()
        for name, context in others:
            if _embed(context).encoder != _embed(first[1]).encoder:
                labels = [encoder_label(_embed(one).encoder) for one in (first[1], context)]
                raise ConfigError(
                    f"The domain {name} is embedded with {labels[1]}, and {first[0]} with "
                    f"{labels[0]}: their features cannot be compared. Name one profile for all: "
                    f"make adapt STUDY={self.name} PROFILE={first[1].profile_name}"
                )


def _embed(context: Context) -> EmbedPlan:
    return context.profile.embed if context.reset else context.embed


def _embed_plan(project: Project, config: AdaptConfig) -> EmbedPlan:
    """The project's own where it was embedded so; else of the focus modes of the study alone.

    Augmented views are of these focus modes alone anyway, and only where a method takes them.

    Raises:
        ConfigError: augmented views are asked for of features of a file.
    """
    own = _embed(project.context)
    chosen = own.model_copy(update={"views": own.fixed_views})
    needed = tuple(focus_modes(config.focus))
    if any(place.incomplete for place in project.embeddings_of(chosen).locate().embeddings):
        in_region = any(part.in_region for part in config.focus)
        chosen = chosen.model_copy(update={"focus": needed, "roi_parts": in_region or None})
    drawn = config.augment or own.augmentations
    if not drawn or not any(METHODS[method.name].augmented for method in config.methods):
        return chosen
    if isinstance(own.encoder, FeaturesConfig):
        raise ConfigError(
            f"The features of {project.name} are of a file, so there are no augmented views of "
            "its images. Leave --augment out, or name an encoder: --profile offline"
        )
    changes = {
        "focus": needed,
        "roi_parts": chosen.in_region,
        "views": (*chosen.fixed_views, *dict.fromkeys(drawn)),
        "copies": config.copies if config.augment else own.copies,
    }
    return chosen.model_copy(update=changes)


def _features(domain: Domain, config: AdaptConfig) -> list[FeatureTable]:
    """Of the fixed views, then of the augmented ones if there are any."""
    project = domain.project
    embed = _embed_plan(project, config)
    context = replace(
        project.context,
        settings=project.context.settings.model_copy(update={"embed": embed}),
        passing=True,
    )
    stores = project.embeddings_of(embed).locate()
    row = ProbeConfig(rows=(ProbeRow(focus=config.focus),), fractions=(100.0,), seeds=1)
    dataset = replace(project.dataset, manifest=domain.manifest)
    found, modes = [], len(set(embed.focus))
    for first in range(0, len(stores.embeddings), modes):
        some = replace(stores, embeddings=stores.embeddings[first : first + modes])
        [one] = plan(context, dataset, some, domain.split, row)
        if one.note:
            raise ConfigError(f"The domain {domain.name}: {one.label} {one.note}.")
        check_embedded(context, one.places)
        filled = [place.store for place in one.places if place.store]
        found.append(join(domain.manifest, domain.split, filled, text=None, keys=one.keys))
    return found


def _check_distinct(card: StudyCard, contexts: Mapping[str, Context]) -> None:
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


def _counts(projects: Mapping[str, Project], card: StudyCard, name: str) -> Counter[str]:
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
            f"has {known}."
        )
    names = manifest.strings("class_name")
    return Counter(names[row] for row in manifest.usable if domain in (None, values[row]))


def _check_classes(
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


def _domain(name: str, project: Project, card: StudyCard) -> Domain:
    """The domain's rows of the data set, its classes renamed, and their split."""
    manifest, wanted = project.dataset.manifest, card.domains[name].domain
    classes, left_out, rows = tuple(card.classes), Counter[str](), []
    for row in manifest.table.to_pylist():
        index = card.class_index.get(fold(row["class_name"]), -1)
        own = wanted in (None, row["domain"])
        if own and index < 0 and not row["problem"]:
            left_out[row["class_name"]] += 1
        problem = row["problem"] or (_ELSEWHERE if not own else _UNNAMED if index < 0 else "")
        if not problem and row["split"] == manifests.VALIDATION:
            problem = _CHOOSES
        shared = classes[index] if index >= 0 else ""
        row |= {"class_index": index, "class_name": shared, "problem": problem}
        rows.append([row[name] for name in manifests.ROW.names])
    own_manifest = manifests.build(rows, name=name, classes=classes, from_card=True)
    dataset = replace(project.dataset, manifest=own_manifest)
    split = split_of(dataset, project.context.probe)
    return Domain(name, project, own_manifest, split, dict(left_out))


def _rows_of(domain: Domain) -> list[dict[str, object]]:
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


def _check_tested(data: DomainTable) -> None:
    for name in data.names:
        tested = set(data.table.labels[data.test(name)].tolist())
        missing = [one for n, one in enumerate(data.table.classes) if n not in tested]
        if missing:
            raise DataError(
                f"The domain {name} has no test image of {', '.join(map(repr, missing))} that no "
                "domain trains on. Is it another domain's data under a second name? Add test "
                "images: medfocus adapt names what is in two domains."
            )
