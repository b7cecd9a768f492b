"""Medical or not, of a project: its features, splits and phrases, and what was said of them.

The methods themselves are in `evaluation.gate_reports`; what each said of every image is written
down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.config import GateConfig, Pooling, ProbeRow, Runtime
from medfocus_pipeline.datasets.card import ClassCard
from medfocus_pipeline.datasets.gate_prompts import GatePrompts
from medfocus_pipeline.datasets.manifest_columns import VALIDATION as KEPT
from medfocus_pipeline.datasets.names import fold
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.evaluation.gate_methods import (
    Method,
    linear_method,
    one_class_method,
    zero_shot_method,
)
from medfocus_pipeline.evaluation.gate_reports import (
    SIDES,
    TEST,
    TRAIN,
    VALIDATION,
    GateData,
    MethodReport,
    reported,
)
from medfocus_pipeline.features import FeatureTable, focus_modes, rows_of
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.gate.zero_shot import ZeroShot
from medfocus_pipeline.project.filling import Filled
from medfocus_pipeline.project.plans import features
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.sealed import present
from medfocus_pipeline.sealed_tables import read_table, write_table
from medfocus_pipeline.types import IntArray

SCORES = "gate.parquet"


@dataclass(frozen=True, slots=True, eq=False)
class GateTable:
    """All that the methods need.

    Attributes:
        data: features and splits.
        image_ids: of its images.
        zero_shot: None without a text tower.
    """

    data: GateData
    image_ids: tuple[str, ...]
    zero_shot: ZeroShot | None


def fill(project: Project, config: GateConfig, runtime: Runtime) -> tuple[Project, list[Filled]]:
    """Embed the images and phrases that have no embeddings yet.

    It is not remembered as what the project was last run with.

    Returns:
        The project as the gate sees it, with the parts that it asks for and its phrases for
        classes, so that the usual text store holds them; and what was computed.
    """
    regions = any(part.in_region for part in config.focus)
    changes = {"focus": tuple(focus_modes(config.focus)), "roi_parts": regions}
    embed = project.context.embed.model_copy(update=changes)
    card, prompts = project.dataset.card, project.dataset.card.gate
    classes = tuple(ClassCard(name=one, prompt=one) for one in dict.fromkeys(prompts.phrases))
    card = card.model_copy(update={"classes": classes, "templates": prompts.templates})
    asked = project.aside(embed, dataset=replace(project.dataset, card=card))
    return asked, asked.embeddings().fill(runtime)


@dataclass(frozen=True, slots=True, eq=False)
class AllImages:
    """Rows of a manifest that the methods see.

    Attributes:
        both: those to train on, and all others.
        parts: train, validation where there is one, and test.
    """

    both: Split
    parts: Mapping[str, IntArray]


def all_images(project: Project) -> AllImages:
    """The images of a project by split, those that are kept to choose by among them.

    Raises:
        DataError: the data set cannot be split.
    """
    manifest, split = project.dataset.manifest, project.split()
    every = np.array(manifest.strings("split"))
    kept = manifest.usable[every[manifest.usable] == KEPT]
    both = Split(split.train, np.sort(np.concatenate([split.test, kept])), split.official)
    parts = {TRAIN: split.train, VALIDATION: kept, TEST: split.test}
    return AllImages(both, {name: rows for name, rows in parts.items() if len(rows)})


def gate_table(project: Project, config: GateConfig, *, medical: str | None) -> GateTable:
    """The features of both sides, by split.

    Args:
        project: from `fill`.
        config: of the table.
        medical: name of the medical class; None is the one that is called so.

    Raises:
        ConfigError: no class is called so, or there are not two.
        DataError: the data set cannot be split.
        StoreError: some embeddings are missing.
    """
    dataset = project.dataset
    manifest = dataset.manifest
    index = medical_class(manifest.classes, medical)
    images = all_images(project)
    probe = project.context.probe.model_copy(update={"rows": (ProbeRow(focus=config.focus),)})
    [plan] = project.plans(probe)
    if plan.note:
        raise ConfigError(f"{plan.label} {plan.note}. Name other --parts, or another --profile.")
    table = features(dataset, images.both, plan)
    rows = rows_of(images.both)
    splits = {name: np.flatnonzero(np.isin(rows, part)) for name, part in images.parts.items()}
    data = GateData(table.features, table.labels == index, splits, table.groups)
    return GateTable(data, table.image_ids, _zero_shot(dataset.card.gate, table))


def methods(table: GateTable, config: GateConfig, prompts: GatePrompts) -> list[Method]:
    """The lines of the table that learn from features; fine-tuned networks: `gate_networks`."""
    found = []
    if table.zero_shot is not None:
        poolings: Sequence[Pooling] = list(dict.fromkeys([prompts.pooling, *config.pooling]))
        found += [zero_shot_method(replace(table.zero_shot, pooling=one)) for one in poolings]
    found += [one_class_method(one) for one in config.one_class]
    if config.linear is not None:
        found.append(linear_method(config.linear))
    return found


def medical_class(classes: Sequence[str], medical: str | None) -> int:
    """Index of the medical class, of two.

    Raises:
        ConfigError: no class is called so, or there are not two.
    """
    wanted = fold(medical or SIDES[0])
    found = [n for n, name in enumerate(classes) if fold(name) == wanted]
    if len(classes) != 2 or len(found) != 1:
        raise ConfigError(
            f"The gate compares medical images with others: expected two classes, one of them "
            f"called {medical or SIDES[0]!r}, got {', '.join(map(repr, classes))}. Name the "
            "medical one: --medical NAME; or draw some: medfocus phantom mixed"
        )
    return found[0]


def _zero_shot(prompts: GatePrompts, table: FeatureTable) -> ZeroShot | None:
    if table.text is None or table.temperature is None:
        return None
    # The same phrase may be listed twice; the card has it once.
    place = {phrase: n for n, phrase in enumerate(dict.fromkeys(prompts.phrases))}
    texts = table.text[[place[phrase] for phrase in prompts.phrases]]
    return ZeroShot.of(texts, table.temperature, prompts, prompts.pooling)


def write_scores(folder: Path, table: GateTable, reports: Sequence[MethodReport]) -> Path:
    """Write a row for every method and image.

    Raises:
        StoreError: the disk is full or read-only.
    """
    data, count = table.data, len(table.image_ids)
    split = np.full(count, "", np.object_)
    for name, rows in data.splits.items():
        split[rows] = name
    written = pa.concat_tables(
        pa.table(
            {
                "method": [one.name] * count,
                "image_id": list(table.image_ids),
                "split": split,
                "medical": data.medical,
                "score": one.scores,
                "predicted_medical": one.predicted,
                "threshold": [one.threshold] * count,
                "learns_from": [one.learns_from] * count,
                "chosen_on": [one.chosen_on] * count,
            }
        )
        for one in reports
    )
    with disk_errors(folder):
        write_table(folder / SCORES, written, owner=SCORES)
    return folder / SCORES


def read_scores(folder: Path) -> tuple[GateTable, list[MethodReport]] | None:
    """The table as it was written, without features; None where there is none.

    Raises:
        DamagedError: it was changed, or is of another version.
    """
    if not present(folder / SCORES):
        return None
    written = read_table(folder / SCORES, owner=SCORES)
    if "chosen_on" not in written.column_names:
        return None  # of an earlier version, which kept no thresholds
    count = len(written) // len(set(written["method"].to_pylist()))
    first = written.slice(0, count)
    splits = np.array(first["split"].to_pylist())
    parts = {name: np.flatnonzero(splits == name) for name in (TRAIN, VALIDATION, TEST)}
    medical = np.array(first["medical"].to_pylist(), np.bool_)
    data = GateData(
        np.empty((0, 0, 0), np.float32),
        medical,
        {name: rows for name, rows in parts.items() if len(rows)},
    )
    reports = []
    for start in range(0, len(written), count):
        own = written.slice(start, count)
        facts = own.slice(0, 1).to_pylist()[0]
        scores = np.array(own["score"].to_pylist(), np.float64)
        told = (facts["method"], facts["learns_from"], scores)
        reports.append(
            reported(data, *told, threshold=facts["threshold"], chosen_on=facts["chosen_on"])
        )
    return GateTable(data, tuple(first["image_id"].to_pylist()), None), reports
