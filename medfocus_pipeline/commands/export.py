"""``medfocus export``: one fitted run as a folder that needs no cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medfocus_pipeline.classifier.model_card import Measured, card_text
from medfocus_pipeline.classifier.novelty import parts_of
from medfocus_pipeline.classifier.pack import Pack, write_pack
from medfocus_pipeline.commands.output import bar, say
from medfocus_pipeline.config import ProbeConfig, ProbeRow
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.errors import ConfigError, StoreError, counted
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.runs import PlannedRun
from medfocus_pipeline.evaluation.scores import read_scored
from medfocus_pipeline.evaluation.statistics import Result, budget_of
from medfocus_pipeline.evaluation.sweep import held_out_accuracy
from medfocus_pipeline.features import FeatureTable, focus_modes
from medfocus_pipeline.heads.table import HEADS
from medfocus_pipeline.project.packing import (
    FittedRun,
    check_packable,
    fitted,
    measured,
    pack,
)
from medfocus_pipeline.project.plans import Plan, features, plan
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import check_embedded
from medfocus_pipeline.project.tuned_packing import pack_tuned, tuned_row
from medfocus_pipeline.project.tuned_results import FINETUNE
from medfocus_pipeline.report.score_table import heading
from medfocus_pipeline.reproduction import MEDFOCUS, OWN
from medfocus_pipeline.types import join_parts


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


def list_rows(context: Context) -> None:
    """Print the rows that can be exported, each with its accuracy on the test images."""
    rows = read_scored(context.folder / "results", ["accuracy"]).to_pylist()
    for row in sorted(rows, key=lambda row: (row["head"], row["focus"], budget_of(row))):
        if row["seed"] == 0:
            kind, amount = budget_of(row)
            of = f"--head {row['head']} --focus {row['focus']} --{kind} {amount:g}"
            say(f"{100 * row['accuracy']:5.1f} % of {row['n_test']:,}  {of}")
    if not rows:
        say(f"{context.dataset} has no result yet. Fit some: medfocus probe {context.dataset}")


def run(context: Context, wanted: Wanted, *, out: Path | None) -> None:
    """Fit the run again, check it against what was stored, write the folder.

    Args:
        out: folder; None is one in the data set's part of the cache.

    Raises:
        ConfigError: there is no such run, or more than one and no way to rank them; the message
            lists them.
        StoreError: the run does not give the stored predictions again.
    """
    project = Project.of(context, progress=bar)
    known = results.read(project.results_folder).to_pylist()
    if wanted.head == FINETUNE:
        _run_tuned(project, known, wanted, out)
        return
    if wanted.head == OWN:
        wanted = replace(wanted, head="linear", focus=join_parts(MEDFOCUS))
    fitting = _fitting(context, known, wanted)
    found = _best(project, _found(project, known, fitting))
    check_packable(found.plan)
    table = _features(project, found.plan)
    looks = _looks(project, table, found)
    packed = pack(project, table, looks, found, fitted(project, table, found))
    figures = measured(project, found.own, found.rows)
    what = f"{found.plan.label}, {_told(wanted.budget, wanted.seed)}"
    _write(packed, figures, project.dataset.card, out or _folder(context, found.run), what)


def _run_tuned(project: Project, known: Sequence[Result], wanted: Wanted, out: Path | None) -> None:
    """The same for a fine-tuned network: its weights are read, not trained again."""
    same = (FINETUNE, wanted.budget, wanted.seed)
    rows = [row for row in known if (row["head"], budget_of(row), row["seed"]) == same]
    own = tuned_row(project, [row for row in rows if wanted.focus in {None, row["focus"]}])
    found = pack_tuned(project, own, known)
    what = f"{found.pack.config.method} on {wanted.focus or own['focus']}, {own['encoder']}"
    folder = out or _folder(project.context, found.run)
    _write(found.pack, found.measured, project.dataset.card, folder, what)


def _write(packed: Pack, figures: Measured, card: Card, folder: Path, what: str) -> None:
    write_pack(packed, card_text(packed.config, card, figures), folder)
    accuracy = figures.scores["accuracy"].own
    say(f"export: {what}")
    say(f"accuracy on {counted(figures.test_images, 'test image')}: {accuracy:.3f}, as stored")
    say(f"classifier: {folder}")


def _features(project: Project, one: Plan) -> FeatureTable:
    check_embedded(one.context, one.places)
    return features(project.dataset, project.split(), one)


def _best(project: Project, runs: Sequence[FittedRun]) -> FittedRun:
    """The run that cross-validation on its training images ranks first; no test image is seen."""
    if len(runs) == 1:
        return runs[0]
    shares = []
    with bar("ranking rows by cross-validation", len(runs)) as advance:
        for one in runs:
            shares.append(held_out_accuracy(_features(project, one.plan), one.run))
            advance(1)
    if np.isnan(shares).any():
        lines = "\n".join(
            f"  --head {one.run.head.name} --focus {join_parts(one.plan.row.focus)}" for one in runs
        )
        raise ConfigError(
            f"More than one row of {project.name} fits, and its training images are too few "
            f"to rank them; name one:\n{lines}"
        )
    order = sorted(range(len(runs)), key=lambda n: -shares[n])
    say("rows by cross-validation on the training images; the first is taken:")
    for n in order:
        say(f"  {100 * shares[n]:5.1f} %  {runs[n].plan.label}")
    return runs[order[0]]


def _fitting(context: Context, known: Sequence[Result], wanted: Wanted) -> list[Wanted]:
    """The rows that fit, each with its head and focus."""
    kind, amount = wanted.budget
    rows = [row for row in known if row[kind] == amount and row["seed"] == wanted.seed]
    pairs = sorted({(row["head"], row["focus"]) for row in rows})
    fitting = [
        (head, focus)
        for head, focus in pairs
        if wanted.head in {None, head} and wanted.focus in {None, focus}
    ]
    if fitting:
        return [replace(wanted, head=head, focus=focus) for head, focus in fitting]
    if not pairs:
        raise ConfigError(
            f"{context.dataset} has no result with {_told(wanted.budget, wanted.seed)}. "
            f"Known are {_budgets(known)}. Fit it: medfocus probe {context.dataset}"
        )
    lines = "\n".join(f"  --head {head} --focus {focus}" for head, focus in pairs)
    asked = ", ".join(one for one in (wanted.head, wanted.focus) if one)
    raise ConfigError(
        f"{context.dataset} has no result of {asked} with {_told(wanted.budget, wanted.seed)}; "
        f"there are:\n{lines}"
    )


def _found(project: Project, known: Sequence[Result], wanted: Sequence[Wanted]) -> list[FittedRun]:
    """The runs of some rows; of several, those of other settings than now are left out."""
    found, stale = [], None
    for one in wanted:
        try:
            found.append(_find(project, known, one))
        except StoreError as error:
            stale = error
    if stale and not found:
        raise stale
    return found


def _find(project: Project, known: Sequence[Result], wanted: Wanted) -> FittedRun:
    """The run of the row, with the settings that it was fitted with."""
    rows = {row["run_key"]: row for row in known}
    seeds = 1 + max(row["seed"] for row in known)
    for probe_row in _configured(project.context, wanted):
        one = _planned(project, probe_row, wanted.budget, seeds=seeds)
        for candidate in one.runs:
            if candidate.seed == wanted.seed and candidate.key in rows:
                done = [rows[run.key] for run in one.runs if run.key in rows]
                return FittedRun(one, candidate, one.runs, done)
    raise StoreError(
        f"The results of {wanted.head} on {wanted.focus} are of other settings, images or "
        f"another version of MedFocus than {project.name} has now. Fit them again: "
        f"medfocus probe {project.name} --row {wanted.head}:{wanted.focus}"
    )


def _configured(context: Context, wanted: Wanted) -> list[ProbeRow]:
    """What the row may have been fitted with: as configured last, by the profile, by default."""
    default = {"head": {"name": wanted.head}, "focus": (wanted.focus or "").split("+")}
    rows = [*context.probe.rows, *context.profile.probe.rows]
    same = [row for row in rows if (row.head.name, row.parts) == (wanted.head, wanted.focus)]
    if wanted.head in HEADS or ":" in (wanted.head or ""):
        same.append(ProbeRow.model_validate(default))
    return [row for n, row in enumerate(same) if row not in same[:n]]


def _planned(project: Project, row: ProbeRow, budget: Budget, *, seeds: int) -> Plan:
    """The runs of a row at one budget; its focus modes need not be those embedded last."""
    kind, amount = budget
    embed, probe = project.context.embed, project.context.probe
    modes = dict.fromkeys([*embed.focus, *focus_modes(row.focus)])
    own = project.aside(embed.model_copy(update={"focus": tuple(modes)}))
    config = ProbeConfig(
        rows=(row,),
        fractions=(amount,) if kind == "fraction" else (),
        shots=(int(amount),) if kind == "shots" else (),
        seeds=seeds,
        split_seed=probe.split_seed,
        test_share=probe.test_share,
    )
    stores = own.embeddings().locate()
    [one] = plan(own.context, own.dataset, stores, own.split(config), config)
    return one


def _looks(project: Project, table: FeatureTable, found: FittedRun) -> FeatureTable:
    """The features by which an image is familiar: also of whole images, if they are embedded."""
    row, seeds = found.plan.row, found.run.seed + 1
    parts = parts_of(row.focus)
    if parts == row.focus:
        return table
    shown = row.model_copy(update={"focus": parts})
    whole = _planned(project, shown, found.run.budget, seeds=seeds)
    try:
        check_embedded(whole.context, whole.places)
    except StoreError:
        modes = dict.fromkeys(["original", *project.context.embed.focus])
        say(
            "unfamiliar images are told by the region alone: whole images are not embedded. "
            f"Better: medfocus embed {project.name} --focus {','.join(modes)}"
        )
        return table
    return features(project.dataset, project.split(), whole)


def _folder(context: Context, run: PlannedRun) -> Path:
    kind, amount = run.budget
    size = f"{amount:g}-shots" if kind == "shots" else f"{amount:g}-percent"
    name = f"{run.head.name}-{'+'.join(run.focus)}-{size}-seed-{run.seed}"
    return context.folder / "models" / name


def _told(budget: Budget, seed: int) -> str:
    return f"{heading(budget)} and seed {seed}"


def _budgets(known: Sequence[Result]) -> str:
    """The budgets that have results, for a message."""
    budgets = {budget_of(row) for row in known}
    return ", ".join(heading(budget) for budget in sorted(budgets)) or "none"
