"""A study: several domains, each a project with its own stores, joined where they are compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.config import EngineConfig, Runtime
from medfocus_pipeline.config.adaptation import AdaptConfig
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.audit import Audit, AuditConfig, audit, pair_table
from medfocus_pipeline.datasets.manifest_columns import ROW
from medfocus_pipeline.datasets.similarity import Fingerprints
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.datasets.study_card import StudyCard, chosen_pairs, find_study
from medfocus_pipeline.devices import cores
from medfocus_pipeline.evaluation.transfer import DomainTable, Transfer, plan_transfers
from medfocus_pipeline.places import place
from medfocus_pipeline.project.domain_features import (
    check_encoders,
    domain_table,
    embed_plan,
    embedding_of,
)
from medfocus_pipeline.project.domains import (
    Domain,
    Joined,
    check_classes,
    check_distinct,
    class_counts,
    open_domain,
    usable_rows,
)
from medfocus_pipeline.project.filling import Filled
from medfocus_pipeline.project.fingerprints import known_fingerprints
from medfocus_pipeline.project.fits import fit_transfers
from medfocus_pipeline.project.progress import Progress, silent
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import open_context


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


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Domains that are compared with one another.

    Attributes:
        name: of the study.
        card: what its file says.
        domains: in the order of the card.
        folder: ``<cache>/<study>``, where results and report are.
        progress: of long work.
    """

    name: str
    card: StudyCard
    domains: list[Domain]
    folder: Path
    progress: Progress = silent

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
        folder = place(cache)
        contexts = {
            domain: open_context(
                card.dataset_of(domain),
                data=path.parent / place(one.data).expanduser() if one.data else None,
                cache=folder,
                profile=profile,
            )
            for domain, one in card.domains.items()
        }
        check_distinct(card, contexts)
        projects: dict[tuple[str, Path], Project] = {}
        for context in contexts.values():
            images = (context.dataset, context.data)
            if images not in projects:
                projects[images] = Project.of(context, progress=progress)
        own = {domain: projects[one.dataset, one.data] for domain, one in contexts.items()}
        check_classes(name, path, card, {domain: class_counts(own, card, domain) for domain in own})
        domains = [open_domain(domain, project, card) for domain, project in own.items()]
        return cls(name, card, domains, folder.expanduser() / name, progress)

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
        check_encoders(self.name, self.domains)
        filled = []
        for project in self._projects():
            embed = embed_plan(project, config)
            if project.context.data.exists():
                project.context.remember()
            if embed.needs_masks and project.embeddings_of(embed).locate().masks:
                done = project.masks.fill(runtime, progress=self.progress)
                filled += [done] if done else []
            # Augmented views are the study's alone, and what the domain has of them stays known.
            drawn = {*embed.augmentations, *embedding_of(project.context).augmentations}
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
        data = domain_table(self.name, joined, self.domains, config, thresholds.distance)
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
        tables = [usable_rows(one) for one in self.domains]
        lengths = [len(table) for table in tables]
        domains = np.repeat(np.arange(len(tables)), lengths)
        sides = np.concatenate([np.isin(d.manifest.usable, d.split.test) for d in self.domains])
        split = Split(np.flatnonzero(~sides), np.flatnonzero(sides), official=True)
        rows = [[row[name] for name in ROW.names] for table in tables for row in table]
        manifest = manifests.build(rows, name=self.name, classes=self.classes, from_card=True)
        return Joined(manifest, domains, split, known)

    def audit(self, joined: Joined, config: AuditConfig) -> tuple[Audit, pa.Table]:
        """Which pictures are in two domains, or on both sides of a split, and their pairs."""
        found = audit(
            joined.manifest, joined.split, joined.fingerprints, embeddings={}, config=config
        )
        return found, pair_table(found, joined.manifest)

    def _projects(self) -> Iterator[Project]:
        """Each once."""
        yield from {id(one.project): one.project for one in self.domains}.values()
