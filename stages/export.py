"""``medfocus export``: one fitted run as a folder that needs no cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medfocus_pipeline import __version__
from medfocus_pipeline.classifier.card import SCORES, Measured, Origin, Score, card_text
from medfocus_pipeline.classifier.models import anchored
from medfocus_pipeline.classifier.novelty import Familiar
from medfocus_pipeline.classifier.pack import Model, Pack, PackConfig, TrainedOn, write_pack
from medfocus_pipeline.config import ProbeConfig, ProbeRow
from medfocus_pipeline.datasets.splits import Budget
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.diagnostics import class_recalls, read_answers
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.evaluation.statistics import t_interval
from medfocus_pipeline.evaluation.sweep import Run, fit, predict, to_fit
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.heads import names
from medfocus_pipeline.heads.saved import Saved, load, save
from medfocus_pipeline.report.table import heading
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import ModelIdentity
from stages.locate import locate_stores
from stages.planning import Plan, features, has_region, plan, split_of
from stages.probe import check_embedded
from stages.progress import say
from stages.scan import Dataset, open_dataset
from stages.settings import Context

TOLERANCE = 1e-5
"""Of the probabilities that the exported head gives, against those that the run stored."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which run is to be exported.

    Attributes:
        head: its name; None where there is only one.
        focus: focus modes, joined by ``+``; None likewise.
        budget: fraction or shots.
    """

    head: str | None
    focus: str | None
    budget: Budget
    seed: int


@dataclass(frozen=True, slots=True)
class Found:
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
    rows: Sequence[Row]


def run(context: Context, wanted: Wanted, *, out: Path | None) -> int:
    """Fit the run again, check it against what was stored, write the folder.

    Args:
        context: of the data set.
        wanted: which run.
        out: folder; None is one in the data set's part of the cache.

    Returns:
        0.

    Raises:
        ConfigError: more than one run is meant, or there is none; the message lists them.
        StoreError: the run does not give the stored predictions again.
    """
    dataset = open_dataset(context, images_needed=False)
    known = results.read(context.folder / "results").to_pylist()
    head, focus = _choose(context, known, wanted)
    found = _find(context, dataset, known, replace(wanted, head=head, focus=focus))
    check_embedded(found.plan)
    table = features(dataset, split_of(dataset, context.probe), found.plan)
    saved = _fitted(context, table, found)
    pack = _pack(dataset, table, found, saved)
    folder = out or context.folder / "models" / _name(found.run)
    origin = _origin(dataset)
    write_pack(pack, card_text(pack.config, origin, _measured(context, table, found)), folder)
    row = next(row for row in found.rows if row["run_key"] == found.run.key)
    say(f"export: {found.plan.label}, {_told(wanted.budget, wanted.seed)}")
    say(f"accuracy on {row['n_test']:,} test images: {row['accuracy']:.3f}, as stored")
    say(f"classifier: {folder}")
    return 0


def _choose(context: Context, known: Sequence[Row], wanted: Wanted) -> tuple[str, str]:
    """Head and focus of the one row that fits."""
    kind, amount = wanted.budget
    rows = [row for row in known if row[kind] == amount and row["seed"] == wanted.seed]
    pairs = sorted({(row["head"], row["focus"]) for row in rows})
    fitting = [
        (head, focus)
        for head, focus in pairs
        if wanted.head in {None, head} and wanted.focus in {None, focus}
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not pairs:
        raise ConfigError(
            f"{context.dataset} has no result with {_told(wanted.budget, wanted.seed)}. "
            f"Known are {_budgets(known)}. Fit it: medfocus probe {context.dataset}"
        )
    lines = "\n".join(f"  --head {head} --focus {focus}" for head, focus in fitting or pairs)
    if fitting:
        raise ConfigError(f"More than one row of {context.dataset} fits; name one:\n{lines}")
    asked = ", ".join(one for one in (wanted.head, wanted.focus) if one)
    raise ConfigError(
        f"{context.dataset} has no result of {asked} with {_told(wanted.budget, wanted.seed)}; "
        f"there are:\n{lines}"
    )


def _find(context: Context, dataset: Dataset, known: Sequence[Row], wanted: Wanted) -> Found:
    """The run of the row, with the settings that it was fitted with."""
    rows = {row["run_key"]: row for row in known}
    seeds = 1 + max(row["seed"] for row in known)
    for probe_row in _configured(context, wanted):
        one = _planned(context, dataset, probe_row, wanted.budget, seeds=seeds)
        for candidate in one.runs:
            if candidate.seed == wanted.seed and candidate.key in rows:
                measured = [rows[run.key] for run in one.runs if run.key in rows]
                return Found(one, candidate, one.runs, measured)
    raise StoreError(
        f"The results of {wanted.head} on {wanted.focus} are of other settings, images or "
        f"another version of MedFocus than {context.dataset} has now. Fit them again: "
        f"medfocus probe {context.dataset} --row {wanted.head}:{wanted.focus}"
    )


def _configured(context: Context, wanted: Wanted) -> list[ProbeRow]:
    """What the row may have been fitted with: as configured last, by the profile, by default."""
    default = {"head": {"name": wanted.head}, "focus": (wanted.focus or "").split("+")}
    rows = [*context.probe.rows, *context.profile.probe.rows]
    same = [
        row for row in rows if (row.head.name, "+".join(row.focus)) == (wanted.head, wanted.focus)
    ]
    if wanted.head in names():
        same.append(ProbeRow.model_validate(default))
    return [row for n, row in enumerate(same) if row not in same[:n]]


def _planned(
    context: Context, dataset: Dataset, row: ProbeRow, budget: Budget, *, seeds: int
) -> Plan:
    """The runs of a row at one budget; its focus modes need not be those embedded last."""
    kind, amount = budget
    modes = tuple(part for part in row.focus if part != "roi_pooled")
    embed = context.embed.model_copy(
        update={"focus": tuple(dict.fromkeys([*context.embed.focus, *modes]))}
    )
    own = replace(context, settings=context.settings.model_copy(update={"embed": embed}))
    config = ProbeConfig(
        rows=(row,),
        fractions=(amount,) if kind == "fraction" else (),
        shots=(int(amount),) if kind == "shots" else (),
        seeds=seeds,
        split_seed=context.probe.split_seed,
        test_share=context.probe.test_share,
    )
    stores = locate_stores(own, dataset, own.embed.configs(auto=dataset.card.roi))
    [one] = plan(own, dataset, stores, split_of(dataset, config), config)
    return one


def _fitted(context: Context, table: FeatureTable, found: Found) -> Saved:
    """The head, taken apart; put together again it gives the stored predictions.

    First the run alone, then beside those that the sweep trained it with: what such a training
    gives may depend on them by rounding.
    """
    stored = _stored(context, table, found.run)
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
        f"{context.folder / 'results'} and run: medfocus probe {context.dataset}"
    )


def _stored(context: Context, table: FeatureTable, run: Run) -> np.ndarray[Any, Any]:
    """The run's probabilities of the test images, ``(n_test, K)``, in the table's order."""
    predictions = results.read(context.folder / "results", "predictions")
    mine = [key == run.key for key in predictions["run_key"].to_pylist()]
    rows = predictions.filter(pa.array(mine, pa.bool_())).to_pylist()
    answers = {(row["image_id"], row["class_index"]): row["probabilities"] for row in rows}
    try:
        return np.array(
            [answers[table.image_ids[row], int(table.labels[row])] for row in table.test]
        )
    except KeyError:
        raise StoreError(
            f"The stored predictions of {context.dataset} lack some of its test images. Remove "
            f"{context.folder / 'results'} and run: medfocus probe {context.dataset}"
        ) from None


def _pack(dataset: Dataset, table: FeatureTable, found: Found, saved: Saved) -> Pack:
    context, row, run = found.plan.context, found.plan.row, found.run
    embed = context.embed.configs(auto=dataset.card.roi)[0]
    masked = has_region(row.focus)
    rows = table.train[run.subset]
    familiar = Familiar.of(table.features[rows], generator("familiar", run.subset_key))
    masks = found.plan.stores.masks
    kind, amount = run.budget
    config = PackConfig(
        medfocus=__version__,
        dataset=table.dataset,
        title=dataset.card.title,
        classes=table.classes,
        phrases=tuple(one.prompt for one in dataset.card.classes),
        masks=context.masks.model_copy(update={"segmenter": anchored(context.masks.segmenter)})
        if masked
        else None,
        roi=embed.roi,
        parts=row.focus,
        views=embed.views,
        encoder=anchored(embed.encoder),
        segmenter=_model(masks.store) if masked and masks and masks.store else None,
        encoder_model=_model(found.plan.places[0].store),
        head=row.head,
        head_kind=saved.kind,
        head_settings=saved.settings,
        temperature=table.temperature,
        neighbour=familiar.neighbour,
        threshold=familiar.threshold,
        run=TrainedOn(
            key=run.key,
            fraction=amount if kind == "fraction" else None,
            shots=int(amount) if kind == "shots" else None,
            seed=run.seed,
            images=len(run.subset),
            test_images=len(table.test),
        ),
    )
    return Pack(config, saved, table.text, familiar)


def _model(store: Store | None) -> Model:
    """The model that a store was made with, whatever weights this machine has now."""
    if store is None:
        raise ValueError("stores are checked first")
    made = store.recipe.model
    return Model.of(ModelIdentity(made["id"], store.revision, made["files"]))


def _origin(dataset: Dataset) -> Origin:
    card = dataset.card
    return Origin(card.modality, card.source, card.licence, card.citation)


def _measured(context: Context, table: FeatureTable, found: Found) -> Measured:
    own = next(row for row in found.rows if row["run_key"] == found.run.key)
    keys = [row["run_key"] for row in found.rows]
    answers = read_answers(results.read(context.folder / "results", "predictions"), keys)
    return Measured(
        seeds=len(found.rows),
        test_images=own["n_test"],
        clean_images=own["n_test_clean"],
        scores={name: _score(found.rows, own, name) for name in SCORES},
        recalls=class_recalls(list(answers.values()), n_classes=len(table.classes)),
    )


def _score(rows: Sequence[Row], own: Row, name: str) -> Score:
    values = np.array([NAN if row[name] is None else row[name] for row in rows])
    return Score(NAN if own[name] is None else own[name], float(values.mean()), t_interval(values))


def _name(run: Run) -> str:
    kind, amount = run.budget
    size = f"{amount:g}-shots" if kind == "shots" else f"{amount:g}-percent"
    return f"{run.head.name}-{'+'.join(run.focus)}-{size}-seed-{run.seed}"


def _told(budget: Budget, seed: int) -> str:
    return f"{heading(budget)} and seed {seed}"


def _budgets(known: Sequence[Row]) -> str:
    """The budgets that have results, for a message."""
    kinds = {
        (kind, row[kind])
        for row in known
        for kind in ("fraction", "shots")
        if row[kind] is not None
    }
    return ", ".join(heading(budget) for budget in sorted(kinds)) or "none"
