"""What goes into an exported folder: the run fitted again, its models, its figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import __version__
from medfocus_pipeline.classifier.model_card import Measured, Score
from medfocus_pipeline.classifier.novelty import Familiar
from medfocus_pipeline.classifier.pack import Pack
from medfocus_pipeline.classifier.pack_config import PackConfig, TrainedOn, anchored
from medfocus_pipeline.config import FeaturesConfig, MasksConfig, PluginConfig
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.diagnostics import accuracy_interval, class_recalls
from medfocus_pipeline.evaluation.intervals import t_interval
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.evaluation.predictions import of_runs, read_predictions
from medfocus_pipeline.evaluation.runs import PlannedRun, Run, to_fit
from medfocus_pipeline.evaluation.scores import ALL, scored
from medfocus_pipeline.evaluation.statistics import Result
from medfocus_pipeline.evaluation.sweep import fit, predict
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.heads.saved import Saved, load, save
from medfocus_pipeline.model_record import Model
from medfocus_pipeline.project.gating import saved_gate
from medfocus_pipeline.project.located import opened, opened_of
from medfocus_pipeline.project.plans import Plan, has_region
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.segmenters import prompted
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import FeaturePart, ModelIdentity

TOLERANCE = 1e-5
"""Of the probabilities that the exported head gives, against those that the run stored."""


@dataclass(frozen=True, slots=True)
class FittedRun:
    """A run that has a result.

    Attributes:
        plan: of its row of the table.
        run: itself.
        beside: all runs of the row that were planned, of every seed.
        rows: results of those of its budget, one a seed.
    """

    plan: Plan
    run: Run
    beside: Sequence[Run]
    rows: Sequence[Result]

    @property
    def own(self) -> Result:
        """The run's result."""
        return next(row for row in self.rows if row["run_key"] == self.run.key)


def check_packable(one: Plan) -> None:
    """Refuse what a folder cannot hold or what could not look at a new image.

    Raises:
        ConfigError: the row has a plug-in, or features of a file.
    """
    if isinstance(one.context.embed.encoder, FeaturesConfig):
        raise ConfigError(
            f"{one.label} is fitted on features of a file, which says nothing of new images, so "
            "there is nothing to predict with. Embed with an encoder: medfocus models list."
        )
    masked = [one.context.masks.segmenter] if has_region(one.row.focus) else []
    for config in (one.row.head, one.context.embed.encoder, *masked):
        if isinstance(config, PluginConfig):
            raise ConfigError(
                f"{one.label} uses the plug-in {config.name}, and a classifier's folder has no "
                "code in it. Export a row of MedFocus's own: medfocus heads list, models list."
            )


def fitted(project: Project, table: FeatureTable, found: FittedRun) -> Saved:
    """The head, taken apart; put together again it gives the stored predictions.

    First the run alone, then beside those that the sweep trained it with: what such a training
    gives may depend on them by rounding.

    Raises:
        StoreError: it does not.
    """
    stored = stored_answers(project, table, found.run.key)
    others = {run.key for run in found.beside} - {found.run.key}
    away = np.inf
    for together in ([found.run], to_fit(found.beside, others)):
        place = [run.key for run in together].index(found.run.key)
        saved = save(fit(table, together)[place])
        again = predict(load(saved, prompts=table.prompts), table)
        away = float(np.abs(again - stored).max())
        if away <= TOLERANCE:
            return saved
    raise StoreError(
        f"{found.plan.label} does not give the stored predictions again (probabilities differ by "
        f"up to {away:.1e}): they were made on another machine or with other packages. Remove "
        f"{project.results_folder} and run: medfocus probe {project.name}"
    )


def stored_answers(project: Project, table: FeatureTable, key: str) -> NDArray[np.float64]:
    """The run's probabilities of the test images, ``(n_test, K)``, in the table's order."""
    rows = results.predictions_of(project.results_folder, key)
    answers = {(row["image_id"], row["class_index"]): row["probabilities"] for row in rows}
    try:
        return np.array(
            [answers[table.image_ids[row], int(table.labels[row])] for row in table.test]
        )
    except KeyError:
        raise StoreError(
            f"The stored predictions of {project.name} lack some of its test images. Remove "
            f"{project.results_folder} and run: medfocus probe {project.name}"
        ) from None


def pack(
    project: Project, table: FeatureTable, looks: FeatureTable, found: FittedRun, saved: Saved
) -> Pack:
    """Everything that the folder holds but its model card.

    Args:
        project: whose card names the classes.
        table: the features that the run was fitted on.
        looks: those by which an image is familiar or not, of the same images.
        found: the run.
        saved: its head.
    """
    row, run, dataset = found.plan.row, found.run, project.dataset
    embed = found.plan.context.embed.configs(auto=dataset.card.roi)[0]
    masked = has_region(row.focus)
    masks = opened(found.plan.stores.masks) if masked else None
    images = looks.features[looks.train[run.subset]]
    familiar = Familiar.of(images, generator("familiar", run.subset_key))
    gate = saved_gate(found.plan.context)
    config = PackConfig(
        medfocus=__version__,
        dataset=table.dataset,
        title=dataset.card.title,
        classes=table.classes,
        phrases=dataset.phrases,
        masks=anchored_masks(prompted(found.plan.context.masks, dataset.phrases))
        if masked
        else None,
        roi=embed.roi,
        fit=embed.fit,
        parts=row.focus,
        familiar_parts=tuple(map(FeaturePart.parse, looks.keys.focus)),
        views=found.plan.context.embed.fixed_views,
        encoder=anchored(embed.encoder),
        segmenter=model_of(masks) if masks else None,
        encoder_model=model_of(opened_of(found.plan.places)[0]),
        head=row.head,
        head_kind=saved.kind,
        head_settings=saved.settings,
        temperature=table.temperature,
        neighbour=familiar.neighbour,
        threshold=familiar.threshold,
        run=trained_on(table, run),
        gate=gate.described if gate else None,
    )
    return Pack(config, saved, table.text, familiar, gate)


def anchored_masks(config: MasksConfig) -> MasksConfig:
    """The same with absolute paths."""
    return config.model_copy(update={"segmenter": anchored(config.segmenter)})


def trained_on(table: FeatureTable, run: PlannedRun) -> TrainedOn:
    """A run as a pack names it."""
    kind, amount = run.budget
    return TrainedOn(
        key=run.key,
        fraction=amount if kind == "fraction" else None,
        shots=int(amount) if kind == "shots" else None,
        seed=run.seed,
        images=len(run.subset),
        test_images=len(table.test),
    )


def model_of(store: Store) -> Model:
    """The model that a store was made with, whatever weights this machine has now."""
    made = store.recipe.model
    return Model.of(ModelIdentity(made["id"], store.revision, made["files"]))


def measured(project: Project, own: Result, runs: Sequence[Result]) -> Measured:
    """What a run and those of other seeds were measured to do.

    Args:
        own: the run's result.
        runs: results of all seeds, its own too.
    """
    keys = [row["run_key"] for row in runs]
    predictions = project.predictions()
    rows = scored(of_runs(results.read(project.results_folder), keys), predictions).to_pylist()
    answers = read_predictions(predictions, keys)
    patients = project.dataset.manifest.patients
    known = any(patients.values())
    return Measured(
        seeds=len(runs),
        test_images=own["n_test"],
        clean_images=own["n_test_clean"],
        scores={name: _score(rows, own["run_key"], name) for name in ALL},
        recalls=class_recalls(list(answers.values()), n_classes=len(project.classes)),
        tested=accuracy_interval(rows, predictions if known else None, patients),
        by_patient=known,
    )


def _score(rows: Sequence[Result], key: str, name: str) -> Score:
    values = {row["run_key"]: NAN if row[name] is None else row[name] for row in rows}
    seeds = np.array(list(values.values()))
    return Score(values[key], float(seeds.mean()), t_interval(seeds))
