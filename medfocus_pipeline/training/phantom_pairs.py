"""Images of phantoms as features, with their captions: stage one, over phantoms, in its own stores.

Each phantom is embedded as it is and in one other focus mode, so that texts find focused
pictures too; its region of interest is then its lesion or any outline in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline import embedding
from medfocus_pipeline.columns import distinct
from medfocus_pipeline.config import EfficientNetLiteConfig, EmbedConfig, Runtime
from medfocus_pipeline.datasets.phantoms.painting import Phantom
from medfocus_pipeline.datasets.phantoms.phantom import CLASSES, KINDS, PICTURES, draw
from medfocus_pipeline.encoders import Encoder, load_encoder, need_weights
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.opening import create
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import FloatArray, FocusMode, Roi
from medfocus_pipeline.weights import FileHashes

SIZE = 224
"""Side of a phantom, in pixels: what the network sees, before its centre crop."""

_NETWORK = EfficientNetLiteConfig()

_TURNS = (*KINDS, *KINDS, PICTURES)
"""Kinds of the phantoms one after the other."""


@dataclass(frozen=True, slots=True)
class PhantomPlan:
    """Which phantoms are embedded, and how.

    Attributes:
        count: of all kinds together.
        seed: of the set.
        focus: modes besides `original`, shared out among the phantoms.
    """

    count: int
    seed: int
    focus: tuple[FocusMode, ...]

    def ids(self, mode: FocusMode) -> list[str]:
        """``kind/index`` of the phantoms that are embedded in a focus mode."""
        found: list[str] = []
        indices = dict.fromkeys(_TURNS, 0)
        for turn in range(self.count):
            kind = _TURNS[turn % len(_TURNS)]
            index, indices[kind] = indices[kind], indices[kind] + 1
            # Classes come in turn by index: a mode gets whole rounds of them.
            chosen = self.focus[index // len(CLASSES[kind]) % len(self.focus)]
            if mode in ("original", chosen):
                found.append(f"{kind}/{index}")
        return found


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of the training set.

    Attributes:
        kind: of the phantom.
        label: its class.
        caption: of what was drawn.
        feature: ``(d,) float32``, of the bare network.
    """

    kind: str
    label: str
    caption: str
    feature: FloatArray


def embed_phantoms(
    folder: Path, plan: PhantomPlan, *, workers: int, advance: Callable[[int], None]
) -> list[Pair]:
    """Embed what is not embedded yet, and read all of it.

    Args:
        folder: of the stores.
        plan: which phantoms.
        workers: threads that draw beside the network.
        advance: is told how many embeddings are there more.

    Raises:
        StoreError: the disk is full, or another process writes there.
        WeightsError: the network's package is not installed.
    """
    weights = need_weights(_NETWORK, FileHashes(), download=False)

    @cache
    def encoder() -> Encoder:
        return load_encoder(_NETWORK, weights, Runtime())

    drawn, pairs = drawn_digest(plan.seed), []
    for mode in ("original", *plan.focus):
        config = EmbedConfig(encoder=_NETWORK, focus=mode, views=("identity",))
        recipe = embedding.recipe(config, weights.identity, masks=None, prompts=())
        recipe = replace(recipe, upstream=drawn)
        path, ids = folder / recipe.folder(f"phantoms-{mode}"), plan.ids(mode)
        specs = [] if path.exists() else embedding.array_specs(config, encoder())
        with writing(path):
            store = create(path, recipe, specs, shard_rows=embedding.SHARD_ROWS)
            missing = store.survey(distinct(ids)).missing
            advance(len(ids) - len(missing))
            if len(missing):
                job = _job(encoder(), config, seed=plan.seed, workers=workers)
                fill(store, ids, job, on_rows=advance)
        pairs += _read(store, ids)
    return pairs


@cache
def drawn_digest(seed: int) -> str:
    """Changes when phantoms are drawn or described otherwise: a digest of the first of each class.

    Args:
        seed: of the set.
    """
    first = [(kind, index) for kind in (*KINDS, PICTURES) for index in range(len(CLASSES[kind]))]
    phantoms = [_draw(kind, index, seed=seed) for kind, index in first]
    return digest([[sha256(one.image.tobytes()).hexdigest(), one.caption] for one in phantoms])


def _draw(kind: str, index: int, *, seed: int) -> Phantom:
    """A phantom of any difficulty."""
    difficulty = float(generator("lite-clip difficulty", kind, seed, index).random())
    return draw(kind, seed, index, size=SIZE, difficulty=difficulty)


def _job(
    encoder: Encoder, config: EmbedConfig, *, seed: int, workers: int
) -> Job[tuple[Phantom, embedding.Prepared]]:
    """How to compute the rows of a store: draw, focus, embed."""

    def load(row: str) -> tuple[Phantom, embedding.Prepared]:
        kind, index = row.split("/")
        phantom = _draw(kind, int(index), seed=seed)
        roi = _roi(phantom, generator("lite-clip roi", kind, seed, int(index)))
        return phantom, embedding.prepare(phantom.image, roi, config, encoder)

    def compute(batch: Sequence[tuple[Phantom, embedding.Prepared]]) -> Block:
        block = embedding.encode([prepared for _, prepared in batch], encoder)
        columns = {
            "label": pa.array([phantom.label for phantom, _ in batch], pa.string()),
            "caption": pa.array([phantom.caption for phantom, _ in batch], pa.string()),
        }
        return Block(block.arrays, {**block.columns, **columns})

    return Job(load, compute, encoder.batch_size, workers)


def _roi(phantom: Phantom, rng: np.random.Generator) -> Roi | None:
    """The lesion, or as often any one of the outlines; None, the whole image, without either."""
    if phantom.lesion.any() and rng.random() < 0.5:
        return Roi(phantom.lesion, fallback=False)
    if len(phantom.parts) == 0:
        return None
    return Roi(phantom.parts[rng.integers(len(phantom.parts))], fallback=False)


def _read(store: Store, ids: Sequence[str]) -> list[Pair]:
    """The rows of some ids, in their order."""
    found: dict[str, Pair] = {}
    for part in store.index().parts.values():
        features = store.read(part, names=["pooled"])["pooled"][:, 0].astype(np.float32)
        labels, captions = (part.table[name].to_pylist() for name in ("label", "caption"))
        for row in zip(part.image_ids, labels, captions, features, strict=True):
            found[row[0]] = Pair(row[0].split("/")[0], *row[1:])
    return [found[row] for row in ids]
