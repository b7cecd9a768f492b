"""Runs both halves of stage one on made-up pictures; prints its peak memory in MiB.

Usage: python -m tests.peak_memory FOLDER ROWS
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medfocus_pipeline import embedding, segmentation
from medfocus_pipeline.config import EmbedConfig, MasksConfig, ThresholdConfig
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.opening import create
from medfocus_pipeline.types import Candidates, Image, ModelIdentity
from tests.fakes import FakeEncoder, candidates

IDENTITY = ModelIdentity("fake")
MASKS = MasksConfig(segmenter=ThresholdConfig(), max_candidates=2, frame=16)
EMBED = EmbedConfig(focus="segmented", views=("identity",))
SHARD_ROWS = 1000
BATCH_SIZE = 100
SIZE = (32, 32)
FOUND = candidates(np.ones((2, 16, 16), np.bool_), size=SIZE)


class Segmenter:
    """Finds the same in every image."""

    batch_size = BATCH_SIZE

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        return [FOUND] * len(images)


def read(image_id: str) -> Image:
    return np.full((*SIZE, 3), int(image_id) % 256, np.uint8)


def run(folder: Path, rows: int) -> None:
    ids = [f"{number:064d}" for number in range(rows)]
    made = segmentation.recipe(MASKS, IDENTITY)
    specs = segmentation.array_specs(MASKS)
    masks = create(folder / "masks", made, specs, shard_rows=SHARD_ROWS)
    fill(masks, ids, segmentation.job(Segmenter(), MASKS, read, batch_size=None, workers=1))
    encoder = FakeEncoder(batch_size=BATCH_SIZE, token_grid=None)
    made = embedding.recipe(EMBED, IDENTITY, masks=masks.key, prompts=())
    specs = embedding.array_specs(EMBED, encoder)
    store = create(folder / "embeddings", made, specs, shard_rows=SHARD_ROWS)
    reader = segmentation.MaskReader(masks)
    fill(store, ids, embedding.job(encoder, EMBED, read, reader, batch_size=None, workers=1))


def peak() -> float:
    """High-water mark of this process; ``ru_maxrss`` would also count the one that forked it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [kibibytes] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kibibytes) / 1024


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"{peak()}\n")
