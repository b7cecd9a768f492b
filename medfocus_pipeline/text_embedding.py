"""Stage one: embeddings of the class prompts."""

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from medfocus_pipeline.encoders.protocol import TextEncoder
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.opening import ArraySpec
from medfocus_pipeline.types import ModelIdentity

STAGE = "texts"
VERSION = 1
SHARD_ROWS = 256


def recipe(identity: ModelIdentity) -> Recipe:
    """What a text store is made from: any prompt can be a row of it."""
    return Recipe(STAGE, VERSION, {}, identity.as_json(), upstream=None)


def text_id(text: str) -> str:
    """SHA-256 of a prompt, the id of its row."""
    return hashlib.sha256(text.encode()).hexdigest()


def array_specs(dim: int) -> list[ArraySpec]:
    """Arrays of a text store."""
    return [ArraySpec("pooled", "float32", (dim,), ("feature",))]


def job(encoder: TextEncoder, texts: Sequence[str]) -> Job[str]:
    """How to compute the rows of a text store, one call at a time."""
    by_id = {text_id(text): text for text in texts}

    def compute(batch: Sequence[str]) -> Block:
        columns = {
            "text": pa.array(list(batch), pa.string()),
            "temperature": pa.array([encoder.temperature] * len(batch), pa.float32()),
        }
        return Block({"pooled": encoder.encode_text(batch)}, columns)

    return Job(by_id.__getitem__, compute, SHARD_ROWS, workers=1)
