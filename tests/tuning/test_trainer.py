"""The training loop, held against torch alone."""

import math
from pathlib import Path

import numpy as np
import torch

from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.tuning.batches import epoch_batches
from medfocus_pipeline.tuning.members import Subset
from medfocus_pipeline.tuning.network import build
from medfocus_pipeline.tuning.sources import Source
from medfocus_pipeline.tuning.trainer import Trainer
from tests.tuning.materials import material, table_of

CONFIG = FinetuneConfig(
    trained="all",
    start="zero",
    epochs=3,
    batch_size=4,
    learning_rate=1e-3,
    weight_decay=0.1,
    label_smoothing=0.1,
    clip=0.5,
)
SEED = ("subset", 0)


def trainer(folder: Path, config: FinetuneConfig = CONFIG) -> Trainer:
    given = material(folder)
    rows = given.table.train
    network = build(given.load(), config, classes=2, label="vit")
    source = Source(given.pictures, network, rows, config)
    subset = Subset(source, given.table.labels[rows], None, 2, SEED)
    return Trainer(network, subset, config, at_once=None)


def by_hand(folder: Path, *, epochs: int) -> dict[str, torch.Tensor]:
    """AdamW with a group for each parameter, along a cosine, the gradient clipped."""
    made = trainer(folder)
    network, subset = made.network, made.subset
    groups = [
        {
            "params": [one],
            "share": network.rates[name],
            "weight_decay": CONFIG.weight_decay if one.ndim > 1 else 0.0,
        }
        for name, one in network.parameters().items()
    ]
    optimizer = torch.optim.AdamW(groups, lr=CONFIG.learning_rate, fused=False, foreach=False)
    for number in range(epochs):
        rng = generator("finetune epoch", *SEED, number)
        batches = epoch_batches(subset.labels, balance="none", batch_size=4, rng=rng)
        for place, batch in enumerate(batches):
            along = (number + place / len(batches)) / CONFIG.epochs
            for group in optimizer.param_groups:
                falling = 0.5 * (1 + math.cos(math.pi * along))
                group["lr"] = CONFIG.learning_rate * group["share"] * falling
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                network.logits(subset.source.plain(batch)),
                torch.from_numpy(subset.labels[batch]),
                label_smoothing=CONFIG.label_smoothing,
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(network.parameters().values()), CONFIG.clip)
            optimizer.step()
    return {name: one.detach().clone() for name, one in network.parameters().items()}


def test_epochs_do_what_torch_alone_does(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    member = made.begin(np.arange(len(table_of().train)))
    before = dict(member.tensors)
    for number in range(2):
        made.epoch(member, number)
    expected = by_hand(tmp_path, epochs=2)
    assert set(member.tensors) == set(expected)
    assert any(not torch.equal(before[name], one) for name, one in expected.items())
    for name, one in expected.items():
        torch.testing.assert_close(member.tensors[name], one, rtol=1e-4, atol=1e-6)
