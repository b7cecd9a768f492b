"""A run's course: epochs until a held-out part gets no better, each kept on disk.

Where the subset is large enough for a part that is held out, the weights of the best epoch are the
answer. Where it is not, the folds of a cross-validation are trained side by side, the epoch of the
least loss over all of them is the number, and all of the subset is trained so long.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from medfocus_pipeline.seeding import generator
from medfocus_pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from medfocus_pipeline.tuning.members import Member, Passed, diverged, mean_passed
from medfocus_pipeline.tuning.trainer import Trainer
from medfocus_pipeline.tuning.validation import Part, balanced_loss, choosing_parts
from medfocus_pipeline.types import JSON

if TYPE_CHECKING:
    from torch import Tensor

_SAVE_EVERY = 5.0
"""Seconds; epochs of a small subset are over sooner than a file is flushed."""

_SAVE_SHARE = 0.02
"""Of the time that checkpoints may take: those of a large network are long in writing."""

COLUMNS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
"""Of a course's curves, an entry an epoch."""

_CHOOSE, _WHOLE, _DONE = "choose", "whole", "done"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known after an epoch.

    Attributes:
        number: from 1.
        of: at most.
        loss: of the training pictures.
        validation: `balanced_loss` of what is held out; nan where nothing is.
    """

    number: int
    of: int
    loss: float
    validation: float


Told: TypeAlias = Callable[[Epoch], None]
"""Is told of each epoch that judges, of those before a kill again; what it raises ends the course,
which the next call goes on with."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What a course came to.

    Attributes:
        tensors: what was trained, by name.
        epochs: that it was trained for.
        loss: least `balanced_loss` of what was held out; nan where nothing was.
        held_out: images that chose the epoch; 0 where none did.
        folds: of the cross-validation; 0 where one part was held out, or none.
        curves: name of `COLUMNS` -> its values, an epoch each.
    """

    tensors: "Mapping[str, Tensor]"
    epochs: int
    loss: float
    held_out: int
    folds: int
    curves: Mapping[str, Sequence[float]]


def learn(trainer: Trainer, path: Path, *, recipe: JSON, told: Told = lambda _: None) -> Learned:
    """Train to the end, from the last checkpoint if there is one; done already, it is read.

    Args:
        trainer: of the subset.
        path: of the checkpoint.
        recipe: what determines the numbers; a checkpoint of another one is refused.
        told: of each epoch.

    Raises:
        ConfigError: the checkpoint is of another model, or of other settings.
        DataError: nothing can be held out, see `choosing_parts`; or the training diverged.
    """
    course = _Course(trainer, path, recipe, told)
    course.retell()
    course.choose()
    course.train_whole()
    return course.learned()


class _Course:
    def __init__(self, trainer: Trainer, path: Path, recipe: JSON, told: Told) -> None:
        self._trainer, self._path, self._recipe, self._told = trainer, path, recipe, told
        subset, config = trainer.subset, trainer.config
        rng = generator("finetune parts", *subset.seed)
        self._parts: list[Part] = choosing_parts(subset.labels, subset.groups, config, rng)
        self._state: dict[str, Any] = load_checkpoint(path, recipe=recipe) or {
            "phase": _CHOOSE,
            "epoch": 0,
            "members": [],
            "curves": {name: [] for name in COLUMNS},
            "best": {"epoch": 0, "loss": float("inf"), "tensors": {}},
        }
        self._saved, self._took = time.monotonic(), 0.0

    @property
    def _judged(self) -> bool:
        return len(self._parts[0].held_out) > 0

    @property
    def _several(self) -> bool:
        return len(self._parts) > 1

    def retell(self) -> None:
        """Tell of the epochs that the checkpoint has."""
        for number in range(len(self._state["curves"]["train_loss"])):
            self._tell(number)

    def choose(self) -> None:
        """Epochs until the held-out images get no better; all of them where none are held out."""
        state, config = self._state, self._trainer.config
        if state["phase"] != _CHOOSE:
            return
        members = self._members([part.train for part in self._parts])
        while state["epoch"] < config.epochs and not self._over():
            number = state["epoch"]
            passed, found = [], []
            for member, part in zip(members, self._parts, strict=True):
                passed.append(self._trainer.epoch(member, number))
                if self._judged:
                    found.append(self._trainer.probabilities(part.held_out))
            self._note(mean_passed(passed), found, members)
            self._tell(number)
        self._next(_WHOLE if self._several else _DONE)

    def train_whole(self) -> None:
        """All of the subset, as long as cross-validation chose."""
        state, trainer = self._state, self._trainer
        if state["phase"] != _WHOLE:
            return
        [member] = self._members([np.arange(len(trainer.subset.labels))])
        while state["epoch"] < state["best"]["epoch"]:
            number = state["epoch"]
            passed = trainer.epoch(member, number)
            state["epoch"] = number + 1
            state["members"] = [_described(member)]
            self._save()
            self._told(
                Epoch(number + 1, state["best"]["epoch"], passed.loss, state["best"]["loss"])
            )
        state["best"]["tensors"] = dict(member.tensors)
        self._next(_DONE)

    def learned(self) -> Learned:
        """The answer, of a course that is over."""
        best = self._state["best"]
        held_out = sum(len(part.held_out) for part in self._parts)
        return Learned(
            best["tensors"],
            best["epoch"],
            best["loss"] if self._judged else float("nan"),
            held_out,
            len(self._parts) if self._several else 0,
            self._state["curves"],
        )

    def _over(self) -> bool:
        waited: int = self._state["epoch"] - self._state["best"]["epoch"]
        return self._judged and waited >= self._trainer.config.patience

    def _members(self, rows: Sequence[Any]) -> list[Member]:
        """The trainings as the checkpoint has them, or new ones."""
        kept = self._state["members"]
        if kept:
            return [
                Member(own, one["tensors"], one["optimizer"])
                for own, one in zip(rows, kept, strict=True)
            ]
        return [self._trainer.begin(own) for own in rows]

    def _note(self, passed: Passed, found: Sequence[Any], members: Sequence[Member]) -> None:
        """An epoch is over: its curves, whether it is the best, its checkpoint."""
        state, labels = self._state, self._trainer.subset.labels
        state["epoch"] += 1
        loss = accuracy = float("nan")
        if found:
            rows = np.concatenate([part.held_out for part in self._parts])
            answers = np.concatenate(found)
            loss = balanced_loss(answers, labels[rows])
            accuracy = float((answers.argmax(axis=1) == labels[rows]).mean())
            if not np.isfinite(loss):
                raise diverged(state["epoch"], self._trainer.config)
        row = (passed.loss, passed.accuracy, loss, accuracy)
        for name, value in zip(COLUMNS, row, strict=True):
            state["curves"][name].append(value)
        best = state["best"]
        if not found or loss < best["loss"]:
            best |= {"epoch": state["epoch"], "loss": loss}
            best["tensors"] = {} if self._several else dict(members[0].tensors)
        state["members"] = [_described(one) for one in members]
        self._save()

    def _tell(self, number: int) -> None:
        curves = self._state["curves"]
        self._told(
            Epoch(
                number + 1,
                self._trainer.config.epochs,
                curves["train_loss"][number],
                curves["validation_loss"][number],
            )
        )

    def _next(self, phase: str) -> None:
        self._state |= {"phase": phase, "epoch": 0, "members": []}
        self._save(now=True)

    def _save(self, *, now: bool = False) -> None:
        started = time.monotonic()
        if now or started - self._saved >= max(_SAVE_EVERY, self._took / _SAVE_SHARE):
            save_checkpoint(self._path, {**self._state, "recipe": self._recipe})
            self._saved = time.monotonic()
            self._took = self._saved - started


def _described(member: Member) -> dict[str, Any]:
    return {"tensors": member.tensors, "optimizer": member.optimizer}
