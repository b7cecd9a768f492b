"""What goes into an exported folder of a fine-tuned run: its weights, read and checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medfocus_pipeline import __version__
from medfocus_pipeline.classifier.model_card import Measured
from medfocus_pipeline.classifier.novelty import Familiar
from medfocus_pipeline.classifier.pack import Pack
from medfocus_pipeline.classifier.pack_config import PackConfig, anchored
from medfocus_pipeline.config import LinearConfig, Runtime
from medfocus_pipeline.embedding import needs_masks
from medfocus_pipeline.errors import ConfigError, DamagedError, StoreError
from medfocus_pipeline.evaluation.statistics import Result, budget_of
from medfocus_pipeline.heads.saved import save
from medfocus_pipeline.model_record import Model
from medfocus_pipeline.project.finetuning import Finetuning
from medfocus_pipeline.project.packing import (
    TOLERANCE,
    anchored_masks,
    measured,
    model_of,
    stored_answers,
    trained_on,
)
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.tuned_results import kept_runs, tuning_of
from medfocus_pipeline.sealed import present
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.segmenters import prompted
from medfocus_pipeline.tuning.fitting import folder_of
from medfocus_pipeline.tuning.kept import (
    Kept,
    embedded,
    layer_of,
    read_kept,
    restore,
)
from medfocus_pipeline.tuning.network import NETWORK
from medfocus_pipeline.tuning.tuned_runs import TunedRun
from medfocus_pipeline.types import FeaturePart

_LEFT_OUT = {"curves", "search"}
"""Of what was chosen, too long for a card."""


@dataclass(frozen=True, slots=True, eq=False)
class TunedPack:
    """A fine-tuned run, ready to be written.

    Attributes:
        run: itself.
        measured: what it and those of other seeds were measured to do.
    """

    pack: Pack
    run: TunedRun
    measured: Measured


def tuned_row(project: Project, rows: Sequence[Result]) -> Result:
    """The one fine-tuned run among some results.

    Raises:
        ConfigError: there is none, or there are several.
    """
    if not rows:
        raise ConfigError(
            f"{project.name} has no fine-tuned run of that kind. Train one: medfocus finetune "
            f"{project.name}; what there is: medfocus export {project.name} --list"
        )
    if len(rows) > 1:
        said = "\n".join(f"  {one['encoder']}, {one['focus']}, {one['chosen']}" for one in rows)
        raise ConfigError(
            f"{project.name} has {len(rows)} fine-tuned runs of that kind, of different encoders "
            f"or settings; name the focus, or another fraction or seed:\n{said}"
        )
    return rows[0]


def pack_tuned(project: Project, own: Result, known: Sequence[Result]) -> TunedPack:
    """Everything that the folder holds but its model card.

    Args:
        own: result of the run.
        known: all results.

    Raises:
        DamagedError: the weights are missing, or were changed.
        StoreError: the run is of other settings than now, or does not give its predictions again.
    """
    folder = project.context.folder / "tuning"
    try:
        kept, tensors = read_kept(folder_of(folder, own["run_key"]))
    except DamagedError as error:
        here = present(folder_of(folder, own["run_key"]))
        first = (
            "Run: medfocus cache verify --repair" if here else f"Remove {project.results_folder}"
        )
        raise DamagedError(
            f"The fine-tuned weights cannot be used: {error}. {first}, then run: make finetune"
        ) from error
    tuning, run = _found(project, kept, own)
    with tuning.material(Runtime()) as material:
        table, pictures = material.table, material.pictures
        encoder = material.load()
        restore(encoder, kept.run, tensors, label=tuning.label)
        said = json.loads(own["chosen"])
        chosen = {name: value for name, value in said.items() if name not in _LEFT_OUT}
        layer = layer_of(tensors, chosen)
        again = layer.predict_proba(embedded(encoder, pictures.plain(table.test)))
        away = float(np.abs(again - stored_answers(project, table, run.key)).max())
        if away > TOLERANCE:
            raise StoreError(
                f"The fine-tuned run does not give the stored predictions again (probabilities "
                f"differ by up to {away:.1e}): they were made on another machine or with other "
                f"packages. Remove {folder} and {project.results_folder}, then run: make finetune"
            )
        images = embedded(encoder, pictures.plain(table.train[run.subset]))
    familiar = Familiar.of(images, generator("familiar", run.subset_key))
    head = save(layer)
    config = PackConfig(
        **_stage_one(project, tuning),
        medfocus=__version__,
        dataset=table.dataset,
        title=project.dataset.card.title,
        classes=table.classes,
        phrases=project.dataset.phrases,
        views=("identity",),
        head=LinearConfig(),
        head_kind=head.kind,
        head_settings=head.settings,
        temperature=None,
        tuned=kept.run,
        neighbour=familiar.neighbour,
        threshold=familiar.threshold,
        run=trained_on(table, run),
    )
    network = {name: array for name, array in tensors.items() if name.startswith(NETWORK)}
    figures = measured(project, own, _seeds(project, kept, own, known))
    return TunedPack(Pack(config, head, None, familiar, network=network), run, figures)


def _stage_one(project: Project, tuning: Finetuning) -> dict[str, Any]:
    """Of a pack's configuration what the pictures and the encoder are."""
    embed, part = tuning.pictures.embed, (FeaturePart(tuning.config.run.focus),)
    found = tuning.pictures.locate()
    masked = needs_masks(embed)
    masks = prompted(project.context.masks, project.dataset.phrases)
    return {
        "masks": anchored_masks(masks) if masked else None,
        "roi": embed.roi,
        "fit": embed.fit,
        "parts": part,
        "familiar_parts": part,
        "encoder": anchored(tuning.encoder),
        "segmenter": model_of(found.masks) if masked and found.masks else None,
        "encoder_model": Model.of(found.weights.identity),
    }


def _found(project: Project, kept: Kept, own: Result) -> tuple[Finetuning, TunedRun]:
    """The run as it is planned with the settings of today.

    Raises:
        StoreError: images, weights or masks are others now.
    """
    tuning = replace(tuning_of(project, kept, [own]), download=True)
    for run in tuning.runs():
        if run.key == own["run_key"]:
            return tuning, run
    raise StoreError(
        f"The fine-tuned run {own['run_key'][:8]} is of other images, weights or masks than "
        f"{project.name} has now. Run: make finetune DATASET={project.name}"
    )


def _seeds(project: Project, kept: Kept, own: Result, known: Sequence[Result]) -> list[Result]:
    """Results that differ from the run's in the seed alone."""
    of_own = (budget_of(own), own["dataset"])
    alike = [row for row in known if (budget_of(row), row["dataset"]) == of_own]
    changes = {"key": kept.key, "run": kept.run}
    return [
        row for other, row in kept_runs(project, alike) if other.model_copy(update=changes) == kept
    ]
