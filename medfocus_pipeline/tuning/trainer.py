"""The training loop: epoch by epoch, every one a pure function of the state before it.

Order, balance and augmentation of an epoch come from generators that are named after the run and
the epoch, so that a run that was killed goes on from its last checkpoint to the same numbers.

The trainings in steps (`training.loop`) draw their batches anew and average over processes; what
both do is backward, clip and step.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.heads.common import softmax
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.schedule import cosine
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.job import is_out_of_memory, log
from medfocus_pipeline.tuning.batches import class_weights, epoch_batches
from medfocus_pipeline.tuning.members import Member, Passed, Subset, diverged
from medfocus_pipeline.tuning.network import LAYER, Network
from medfocus_pipeline.types import IntArray

if TYPE_CHECKING:
    from accelerate.optimizer import AcceleratedOptimizer
    from torch import Tensor

_ABSENT = -30.0
"""Intercept of a class without a training image."""


class Trainer:
    """Trains a network's parts on a subset, member by member.

    The library accelerate runs the backward pass, clips and steps; the encoder's own precision
    is its autocast, and bfloat16 needs no scaling of gradients.

    Args:
        network: what is trained; its state is that of the member that was trained last.
        subset: what it learns from.
        config: how.
        at_once: images in memory at most; halved where memory runs out. A batch of more is
            accumulated.
    """

    def __init__(
        self, network: Network, subset: Subset, config: FinetuneConfig, *, at_once: int | None
    ) -> None:
        from accelerate import Accelerator

        self.network, self.subset, self.config = network, subset, config
        self._at_once = min(at_once or config.batch_size, config.batch_size)
        self._accelerator = Accelerator(cpu=network.device.type == "cpu")
        self._parameters = network.parameters()
        self._optimizer = self._made_optimizer()  # accelerate keeps all that it prepares
        self._unused = self._optimizer.state_dict()
        self.initial = self._copied()

    def begin(self, rows: IntArray) -> Member:
        """A training before its first epoch.

        The layer starts as a linear probe of the network as it is, so that training does not
        first tear apart what the network knows (Kumar et al. 2022, "Fine-tuning can distort
        pretrained features", LP-FT).
        """
        import torch

        self.load(self.initial)
        tensors = dict(self.initial)
        if self.config.start == "probe":
            labels = self.subset.labels[rows]
            features = np.concatenate(
                [self.subset.source.embeddings(some).numpy() for some in self._pieces(rows)]
            )
            groups = None if self.subset.groups is None else self.subset.groups[rows]
            train = TrainingSet(
                features[:, None], labels, self.subset.classes, text=None, groups=groups
            )
            probe = LinearHead(LinearConfig()).fit(
                train, generator("finetune probe", *self.subset.seed)
            )
            intercept = np.maximum(probe.intercept, _ABSENT)
            tensors[f"{LAYER}weight"] = torch.from_numpy(probe.coef.astype(np.float32))
            tensors[f"{LAYER}bias"] = torch.from_numpy(intercept.astype(np.float32))
        return Member(rows, tensors, {})

    def _copied(self) -> "dict[str, Tensor]":
        return {name: one.detach().cpu().clone() for name, one in self._parameters.items()}

    def load(self, tensors: "Mapping[str, Tensor]") -> None:
        """Put trained tensors into the network.

        Raises:
            KeyError: one is missing.
        """
        import torch

        with torch.no_grad():
            for name, one in self._parameters.items():
                one.copy_(tensors[name])

    def epoch(self, member: Member, number: int) -> Passed:
        """Train a member for one epoch; where memory runs out, again with smaller pieces.

        Raises:
            DivergedError: the loss is not finite.
        """
        while True:
            try:
                return self._epoch(member, number)
            except (RuntimeError, MemoryError) as error:
                if self._at_once == 1 or not is_out_of_memory(error):
                    raise
            self._at_once //= 2
            log.warning("Out of memory: going on with %d images at once.", self._at_once)

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """``(n, K)`` of the subset's pictures as they are, by the network as it is now."""
        import torch

        found = []
        for some in self._pieces(rows):
            with torch.no_grad():
                logits = self.network.logits(self.subset.source.plain(some))
            found.append(softmax(logits.double().cpu().numpy()))
        return np.concatenate(found)

    def _pieces(self, rows: IntArray) -> Iterator[IntArray]:
        for start in range(0, len(rows), self._at_once):
            yield rows[start : start + self._at_once]

    def _epoch(self, member: Member, number: int) -> Passed:
        import torch

        self.load(member.tensors)
        # torch would go on in the very tensors, and an epoch may have to be done again.
        self._optimizer.load_state_dict(copy.deepcopy(member.optimizer or self._unused))
        self._optimizer.zero_grad()
        labels = self.subset.labels[member.rows]
        batches = epoch_batches(
            labels,
            balance=self.config.balance,
            batch_size=self.config.batch_size,
            rng=generator("finetune epoch", *self.subset.seed, number),
        )
        weights = torch.from_numpy(
            class_weights(labels, classes=self.subset.classes, balance=self.config.balance)
        ).to(self.network.device)
        loss, right, seen = 0.0, 0, 0
        for place, batch in enumerate(batches):
            self._set_rates((number + place / len(batches)) / self.config.epochs)
            found, correct = self._update(member.rows[batch], weights, number)
            if not math.isfinite(found):
                raise diverged(number + 1, self.config)
            loss, right, seen = loss + found * len(batch), right + correct, seen + len(batch)
        member.tensors = self._copied()
        member.optimizer = self._optimizer.state_dict()
        return Passed(loss / seen, right / seen)

    def _update(self, batch: IntArray, weights: "Tensor", number: int) -> tuple[float, int]:
        """One step on a batch: its loss, and how many images were right."""
        import torch

        total = float(weights[torch.from_numpy(self.subset.labels[batch])].sum())
        loss, right = 0.0, 0
        for some in self._pieces(batch):
            inputs = self.subset.source.drawn(some, epoch=number)
            labels = torch.from_numpy(self.subset.labels[some]).to(self.network.device)
            logits = self.network.logits(inputs)
            part = (
                torch.nn.functional.cross_entropy(
                    logits,
                    labels,
                    weight=weights,
                    label_smoothing=self.config.label_smoothing,
                    reduction="sum",
                )
                / total
            )
            self._accelerator.backward(part)
            loss += float(part.detach())
            right += int((logits.detach().argmax(dim=1) == labels).sum())
        self._accelerator.clip_grad_norm_(list(self._parameters.values()), self.config.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss, right

    def _made_optimizer(self) -> "AcceleratedOptimizer":
        from torch.optim import Adam, AdamW

        adam = self.config.optimizer == "adam"
        made = (Adam if adam else AdamW)(
            self._groups(decayed=not adam), lr=self.config.learning_rate, fused=True
        )
        optimizer: AcceleratedOptimizer = self._accelerator.prepare_optimizer(made)
        return optimizer

    def _groups(self, *, decayed: bool) -> list[dict[str, Any]]:
        """What is trained, by its share of the rate and the weight decay: a step each."""
        groups: dict[tuple[float, float], list[Any]] = {}
        for name, one in self._parameters.items():
            matrix = one.ndim > 1  # or a kernel; biases and norms are not pulled to zero
            decay = self.config.weight_decay if decayed and matrix else 0.0
            groups.setdefault((self.network.rates[name], decay), []).append(one)
        return [
            {"params": parameters, "share": share, "weight_decay": decay}
            for (share, decay), parameters in groups.items()
        ]

    def _set_rates(self, progress: float) -> None:
        """The learning rate of a moment, `progress` in [0, 1] of all epochs."""
        factor = cosine(progress, 1) if self.config.schedule == "cosine" else 1.0
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["share"] * factor
