"""Fine-tuned runs that have a result, by network and by training, and what stands beside them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medfocus_pipeline import encoders
from medfocus_pipeline.config import (
    EncoderConfig,
    Frozen,
    ProbeConfig,
    ProbeRow,
    ZeroShotConfig,
)
from medfocus_pipeline.config.tuning import RECIPES, FinetuneConfig, SearchConfig, TuningConfig
from medfocus_pipeline.errors import MedFocusError, StoreError
from medfocus_pipeline.evaluation.statistics import Result, budget_of
from medfocus_pipeline.project.finetuning import Finetuning
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.tuning.fitting import folder_of
from medfocus_pipeline.tuning.kept import Kept, read_description
from medfocus_pipeline.tuning.tuned_runs import TunedRun
from medfocus_pipeline.types import JSON, FeaturePart

FINETUNE = FinetuneConfig().name
"""What the results call such a run."""

REFERENCE = "linear on original.levels"
"""Label of the row that the fine-tuned ones are tested against."""

_USUAL = "few-shot"


@dataclass(frozen=True, slots=True, eq=False)
class TunedNetwork:
    """Runs that differ in subset and seed alone.

    Attributes:
        tuning: what they are.
        runs: those that have a result, as they are planned with the settings of today.
        chosen: by key of the run, what was selected on its training images and how it went.
        lack: why nobody can say which results are of today; empty if somebody can.
    """

    tuning: Finetuning
    runs: Sequence[TunedRun]
    chosen: Mapping[str, JSON]
    lack: str

    @property
    def label(self) -> str:
        """Of its line: ``finetune:efficientnet-lite0, balance sampler``."""
        config = self.tuning.config
        return ", ".join([f"finetune:{self.tuning.label}", *differences(config.run, config.search)])


def tuned_networks(project: Project, known: Sequence[Result]) -> list[TunedNetwork]:
    """The fine-tuned networks among some results; nothing is downloaded.

    Args:
        known: rows of `results.RESULTS`.
    """
    groups: dict[str, list[tuple[Kept, Result]]] = {}
    for kept, row in kept_runs(project, known):
        parts = (kept.encoder, kept.planned, kept.search)
        groups.setdefault("\n".join(one.model_dump_json() for one in parts), []).append((kept, row))
    return [_network(project, own) for own in groups.values()]


def tuning_of(project: Project, kept: Kept, rows: Sequence[Result]) -> Finetuning:
    """What some runs that were trained alike are: over their subsets, with their seeds.

    Args:
        kept: of one of them.
        rows: their results.
    """
    budgets = {budget_of(row) for row in rows}
    config = TuningConfig(
        run=kept.planned,
        search=kept.search,
        fractions=tuple(sorted(float(size) for kind, size in budgets if kind == "fraction")),
        shots=tuple(sorted(int(size) for kind, size in budgets if kind == "shots")),
        seeds=1 + max(row["seed"] for row in rows),
    )
    return Finetuning(project, kept.encoder, config, download=False)


def differences(run: FinetuneConfig, search: SearchConfig) -> list[str]:
    """In which a training is not the usual one, in words.

    >>> differences(FinetuneConfig(balance="sampler"), SearchConfig(trials=8))
    ['balance sampler', '8 trials']
    """
    recipe = min(RECIPES, key=lambda name: len(list(_changes(run, RECIPES[name]))))
    named = [] if recipe == _USUAL else [f"recipe {recipe}"]
    trials = [f"{search.trials} trials"] if search.trials else []
    usual = SearchConfig(trials=search.trials)
    return [*named, *_changes(run, RECIPES[recipe]), *trials, *_changes(search, usual)]


def _changes(now: Frozen, before: Frozen) -> Iterator[str]:
    for name in type(now).model_fields:
        value = getattr(now, name)
        if value != getattr(before, name):
            listed = "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
            yield f"{name.replace('_', ' ')} {listed}"


def kept_runs(project: Project, known: Sequence[Result]) -> Iterator[tuple[Kept, Result]]:
    """The fine-tuned runs among some results whose weights are kept, and what is known of them."""
    folder = project.context.folder / "tuning"
    for row in known:
        if row["head"] != FINETUNE:
            continue
        try:
            yield read_description(folder_of(folder, row["run_key"])), row
        except StoreError:
            continue  # the weights were removed: nobody knows any more how they came about


def _network(project: Project, own: Sequence[tuple[Kept, Result]]) -> TunedNetwork:
    rows = {row["run_key"]: row for _, row in own}
    tuning = tuning_of(project, own[0][0], [*rows.values()])
    try:
        runs, lack = [run for run in tuning.runs() if run.key in rows], ""
    except MedFocusError as error:
        runs, lack = [], str(error)
    return TunedNetwork(
        tuning, runs, {r.key: json.loads(rows[r.key]["chosen"]) for r in runs}, lack
    )


def beside(
    project: Project, encoder: EncoderConfig, config: TuningConfig
) -> tuple[Project, ProbeConfig]:
    """Linear probes, and zero-shot, on whole images and the same subsets.

    Returns:
        The project as they see it, which is not remembered as what it was last run with; and the
        rows.
    """
    context = project.context
    embed = context.profile.embed.model_copy(
        update={"encoder": encoder, "focus": ("original",), "roi_parts": False}
    )
    own = project.aside(embed)
    parts = [FeaturePart("original", "levels"), FeaturePart("original")]
    rows = [ProbeRow(focus=(part,)) for part in parts]
    if encoders.has_text(encoder):
        rows.append(ProbeRow(head=ZeroShotConfig(), focus=(parts[1],)))
    probe = ProbeConfig(
        rows=tuple(rows),
        fractions=config.fractions,
        shots=config.shots,
        seeds=config.seeds,
        split_seed=context.probe.split_seed,
        test_share=context.probe.test_share,
    )
    return own, probe
