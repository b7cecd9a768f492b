"""Hyper-parameters of a run, searched inside its subset by Optuna: TPE, median pruning.

A trial is a whole course, judged by what the subset holds out. Its checkpoint is kept until the
search is over, so that the best trial need not be trained again, and a killed search goes on in
the middle of a trial: each draw has a generator of its own, named after trial and parameter.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from medfocus_pipeline.config.tuning import FinetuneConfig, SearchConfig
from medfocus_pipeline.errors import DataError, StoreError
from medfocus_pipeline.files import write_bytes
from medfocus_pipeline.sealed import present, read_bytes
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.tuning.course import Epoch, Learned, Told
from medfocus_pipeline.tuning.members import DivergedError
from medfocus_pipeline.types import JSON

if TYPE_CHECKING:
    from optuna import Study, Trial

JOURNAL = "journal.log"
"""File of a search in the run's folder."""

_SEAL = "journal.sha256"
"""Length and SHA-256 of what the journal had after the last trial that is over; it grows behind."""

Attempt: TypeAlias = Callable[[FinetuneConfig, int, Told], Learned]
"""Configuration, number of the trial and who is told of each epoch -> what it learned."""

_STARTUP = 3
"""Trials that are drawn at random and never pruned."""

_DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search came to.

    Attributes:
        config: of the best trial.
        number: of that trial.
        trials: a row each: state, validation loss, epochs and parameters.
        importance: parameter -> its share in what makes trials differ (Watanabe et al. 2023,
            PED-ANOVA); empty of too few trials.
        diverged: how many trials were pruned because their loss was no number any more.
    """

    config: FinetuneConfig
    number: int
    trials: list[JSON]
    importance: dict[str, float]
    diverged: int

    def as_json(self) -> JSON:
        """For a results row."""
        return {
            "trials": self.trials,
            "importance": self.importance,
            "diverged": self.diverged,
            "best": self.number,
        }


def search(
    folder: Path,
    config: FinetuneConfig,
    space: SearchConfig,
    attempt: Attempt,
    *,
    seed: tuple[int | str, ...],
    told: Told = lambda _: None,
) -> Searched:
    """Try as many configurations as asked for; those of an earlier, killed search count.

    Args:
        folder: of the journal.
        config: what is not searched.
        space: what is.
        attempt: trains one.
        seed: words that name the run's generators.
        told: of each epoch of each trial.

    Raises:
        DataError: every trial diverged.
        StoreError: the journal of an earlier search was changed.
    """
    study = _open(folder)
    while True:
        trial = _next(study, space.trials)
        if trial is None:
            break
        _try(study, trial, suggested(trial, config, space, seed), attempt, told)
        _seal(folder)
    return _summed(study, config)


def suggested(
    trial: "Trial", config: FinetuneConfig, space: SearchConfig, seed: tuple[int | str, ...]
) -> FinetuneConfig:
    """The configuration of a trial; what it has drawn before a kill stays."""
    from optuna.samplers import TPESampler

    def sampler(name: str) -> None:
        number = int(generator("finetune search", *seed, trial.number, name).integers(2**31))
        trial.study.sampler = TPESampler(seed=number, n_startup_trials=_STARTUP)

    values: dict[str, Any] = {}
    for name in ("learning_rate", "weight_decay", "label_smoothing"):
        sampler(name)
        low, high = getattr(space, name)
        values[name] = trial.suggest_float(name, low, high, log=name != "label_smoothing")
    for name in ("trained", "balance", "augmentation"):
        sampler(name)
        values[name] = trial.suggest_categorical(name, getattr(space, name))
    return config.model_copy(update=values)


def _open(folder: Path) -> "Study":
    import optuna
    from optuna.pruners import MedianPruner
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    changed = StoreError(
        f"{folder / JOURNAL} is not what was written there. Remove {folder}, then run the same "
        "command again: it searches anew"
    )
    if present(folder / _SEAL) and not _is_sealed(folder):
        raise changed
    try:
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        return optuna.create_study(
            storage=storage,
            study_name="finetune",
            direction="minimize",
            load_if_exists=True,
            pruner=MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=2),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise changed from error


def _is_sealed(folder: Path) -> bool:
    said = read_bytes(folder / _SEAL).split()
    length = int(said[0]) if said and said[0].isdigit() else -1
    return said == _sealing((folder / JOURNAL).read_bytes()[:length])


def _seal(folder: Path) -> None:
    """Note what the journal has now."""
    said = _sealing((folder / JOURNAL).read_bytes())
    write_bytes(folder / _SEAL, b" ".join(said))


def _sealing(content: bytes) -> list[bytes]:
    return [str(len(content)).encode(), hashlib.sha256(content).hexdigest().encode()]


def _next(study: "Study", count: int) -> "Trial | None":
    """The trial that a kill broke off, or a new one; None after so many."""
    from optuna import Trial
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    for one in trials:
        if one.state == TrialState.RUNNING:
            return Trial(study, one._trial_id)
    return study.ask() if len(trials) < count else None


def _try(
    study: "Study", trial: "Trial", config: FinetuneConfig, attempt: Attempt, told: Told
) -> None:
    from optuna import TrialPruned
    from optuna.trial import TrialState

    known = study.get_trials(deepcopy=False)[trial.number].intermediate_values

    def judged(epoch: Epoch) -> None:
        told(epoch)
        if epoch.number not in known:  # a course that goes on tells of its epochs again
            trial.report(epoch.validation, epoch.number)
        if trial.should_prune():
            raise TrialPruned

    try:
        learned = attempt(config, trial.number, judged)
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except DivergedError:
        trial.set_user_attr(_DIVERGED, True)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        trial.set_user_attr("epochs", learned.epochs)
        study.tell(trial, learned.loss)


def _summed(study: "Study", config: FinetuneConfig) -> Searched:
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    diverged = sum(_DIVERGED in one.user_attrs for one in trials)
    if not any(one.state == TrialState.COMPLETE for one in trials):
        raise DataError(
            f"All {len(trials)} trials diverged ({diverged}) or were broken off, so that none can "
            "be taken. Search lower rates: --set search.learning_rate=[1e-6,1e-4]"
        )
    best = study.best_trial
    rows = [
        {
            "trial": one.number,
            "state": _DIVERGED if _DIVERGED in one.user_attrs else one.state.name.lower(),
            "validation_loss": None if one.value is None else round(one.value, 4),
            "epochs": one.user_attrs.get("epochs", len(one.intermediate_values)),
            **one.params,
        }
        for one in trials
    ]
    chosen = config.model_copy(update=best.params)
    return Searched(chosen, best.number, rows, _importance(study), diverged)


def _importance(study: "Study") -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters that some trials lack: none do
        try:
            evaluator = PedAnovaImportanceEvaluator()
            found = get_param_importances(study, evaluator=evaluator)
        except (ValueError, RuntimeError):  # too few trials, or all alike
            return {}
    return {name: round(float(share), 3) for name, share in found.items()}
