"""Features of a study's domains: what each has to be embedded in, and the table of all."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medfocus_pipeline.adaptation import METHODS
from medfocus_pipeline.config import FeaturesConfig, ProbeConfig, ProbeRow
from medfocus_pipeline.config.adaptation import AdaptConfig
from medfocus_pipeline.datasets.manifest_columns import SYNTHETIC
from medfocus_pipeline.datasets.splits import connected
from medfocus_pipeline.datasets.twins import list_files, seen_elsewhere
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.evaluation.transfer import DomainTable
from medfocus_pipeline.features import FeatureTable, focus_modes, join
from medfocus_pipeline.profiles import EmbedPlan
from medfocus_pipeline.project.domains import Domain, Joined
from medfocus_pipeline.project.located import incomplete
from medfocus_pipeline.project.plans import plan
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import check_embedded, encoder_label
from medfocus_pipeline.types import FloatArray


def embedding_of(context: Context) -> EmbedPlan:
    """How the next `embed` would embed the images."""
    return context.profile.embed if context.reset else context.embed


def embed_plan(project: Project, config: AdaptConfig) -> EmbedPlan:
    """The project's own where it was embedded so; else of the focus modes of the study alone.

    Augmented views are of these focus modes alone anyway, and only where a method takes them.

    Raises:
        ConfigError: augmented views are asked for of features of a file.
    """
    own = embedding_of(project.context)
    chosen = own.model_copy(update={"views": own.fixed_views})
    needed = tuple(focus_modes(config.focus))
    if any(map(incomplete, project.embeddings_of(chosen).locate().embeddings)):
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
    embed = embed_plan(project, config)
    context = project.context.aside(embed)
    stores = project.embeddings_of(embed).locate()
    row = ProbeConfig(rows=(ProbeRow(focus=config.focus),), fractions=(100.0,), seeds=1)
    dataset = replace(project.dataset, manifest=domain.manifest)
    found, modes = [], len(set(embed.focus))
    for first in range(0, len(stores.embeddings), modes):
        some = replace(stores, embeddings=stores.embeddings[first : first + modes])
        [one] = plan(context, dataset, some, domain.split, row)
        if one.note:
            raise ConfigError(
                f"The domain {domain.name}: {one.label} {one.note}. Name another --profile, or "
                "other features: --set focus=[original]"
            )
        filled = check_embedded(context, one.places)
        found.append(join(domain.manifest, domain.split, filled, text=None, keys=one.keys))
    return found


def domain_table(
    name: str, joined: Joined, domains: Sequence[Domain], config: AdaptConfig, distance: int
) -> DomainTable:
    """Features of all domains' images.

    Test images that a training image of any domain shows too are left out.

    Args:
        name: of the study.
        joined: the images of the domains.
        distance: bits in which the perceptual hashes of one picture may differ.

    Raises:
        ConfigError: the domains are of different encoders or views, or lack a part of the
            features.
        DataError: no clean test image of a class is left in a domain.
        StoreError: some embeddings are missing.
    """
    check_encoders(name, domains)
    joins = [_features(one, config) for one in domains]
    tables, drawn = [one[0] for one in joins], [one[1] for one in joins if len(one) > 1]
    _check_views(name, domains, tables)
    features = np.concatenate([one.features for one in tables])
    plain = features.shape[1]
    if len(drawn) < len(tables) or len({one.features.shape[1] for one in drawn}) > 1:
        drawn = []
    else:
        features = np.concatenate(
            [features, np.concatenate([one.features for one in drawn])], axis=1
        )
    keys, drawn_keys = (tuple(one.keys.embed_keys for one in some) for some in (tables, drawn))
    data = DomainTable(
        table=_table(name, joined, tables[0], features, distance),
        names=tuple(one.name for one in domains),
        domains=joined.domains,
        synthetic=np.array([s == SYNTHETIC for s in joined.manifest.strings("split")], np.bool_),
        plain=plain,
        keys=keys,
        augmented_keys=drawn_keys,
    )
    _check_tested(data)
    return data


def _table(
    name: str, joined: Joined, like: FeatureTable, features: FloatArray, distance: int
) -> FeatureTable:
    """The joined images; of the test images those that no training image of any domain shows."""
    manifest = joined.manifest
    files = list_files(manifest, joined.split, joined.fingerprints)
    seen = seen_elsewhere(files, joined.domains, distance=distance)
    test = joined.split.test[~seen[joined.split.test]]
    return replace(
        like,
        dataset=name,
        image_ids=tuple(manifest.image_ids),
        paths=tuple(manifest.paths),
        labels=manifest.labels,
        classes=manifest.classes,
        features=features,
        text=None,
        train=joined.split.train,
        test=test,
        clean=np.ones(len(test), np.bool_),
        groups=connected([files.ids, files.pixels, manifest.strings("group")]),
    )


def check_encoders(name: str, domains: Sequence[Domain]) -> None:
    """Refuse domains whose features mean different things.

    Raises:
        ConfigError: with the domain and both encoders.
    """
    first, *others = [(one.name, one.project.context) for one in domains]
    for domain, context in others:
        if embedding_of(context).encoder != embedding_of(first[1]).encoder:
            labels = [encoder_label(embedding_of(one).encoder) for one in (first[1], context)]
            raise ConfigError(
                f"The domain {domain} is embedded with {labels[1]}, and {first[0]} with "
                f"{labels[0]}: their features cannot be compared. Name one profile for all: "
                f"make adapt STUDY={name} PROFILE={first[1].profile_name}"
            )


def _check_views(name: str, domains: Sequence[Domain], tables: Sequence[FeatureTable]) -> None:
    """Refuse domains of which an image has more views, or features, than in the others."""
    if len({one.features.shape[1:] for one in tables}) == 1:
        return
    views = [
        f"{domain.name} in {', '.join(embedding_of(domain.project.context).fixed_views)}"
        for domain in domains
    ]
    raise ConfigError(
        f"The domains of {name} are embedded in different views: {'; '.join(views)}. Name one "
        f"profile for all: make adapt STUDY={name} "
        f"PROFILE={domains[0].project.context.profile_name}"
    )


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
