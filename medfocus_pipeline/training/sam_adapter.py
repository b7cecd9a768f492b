"""Training SAM-Adapter (Chen et al. 2023) on images that have annotations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.sam.sam_model import load_sam
from medfocus_pipeline.segmenters.sam_adapter import AdapterMetadata, new_adapted, save_adapter
from medfocus_pipeline.tensors import tensors_sha256
from medfocus_pipeline.training.loop import LOG, Advance
from medfocus_pipeline.training.sam_adapter_data import Example, hold_out
from medfocus_pipeline.training.sam_adapter_run import SamAdapterSteps, SamAdapterTraining
from medfocus_pipeline.weights import Weights, model_name

__all__ = ["ADAPTER", "LOG", "SamAdapterTraining", "Trained", "train"]

ADAPTER = "sam_adapter.safetensors"
"""File of the trained weights in a training's folder."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training led to.

    Attributes:
        adapter: its file, as `segmenters.sam_adapter` loads it.
        images: how many it learned from.
        held_out: how many it was measured with.
        before, after: mean IoU with the held-out outlines, untrained and trained.
    """

    adapter: Path
    images: int
    held_out: int
    before: float
    after: float


def train(
    config: SamAdapterTraining,
    examples: Sequence[Example],
    weights: Weights,
    folder: Path,
    *,
    advance: Advance,
) -> Trained:
    """Trains an adapter, or goes on where an earlier call in that folder stopped.

    Args:
        config: how.
        examples: annotated training images; some of them are held out.
        weights: of the SAM, from `sam_model.find_sam`.
        folder: of the checkpoint, the log and the adapter.
        advance: is told how many steps are done more.

    Raises:
        ConfigError: `folder` has a training of another recipe, or the device is not there.
        DataError: there are too few examples.
        ImageError: an image cannot be read any more.
        WeightsError: the SAM's files are corrupt, or the training diverged.
    """
    learning, aside = hold_out(examples, share=config.held_out, seed=config.seed)
    recipe = config.recipe(weights, examples)
    sam = new_adapted(
        load_sam(weights),
        reduction=config.reduction,
        low_frequencies=config.low_frequencies,
        seed=config.seed,
    )
    sam.model.to(resolve_device(config.device))
    sam.layers.to(sam.model.device)
    sam.freeze()
    training = SamAdapterSteps(sam, config, learning, aside, recipe, folder)
    if not training.resume():
        training.measured()
    training.run(advance)
    path = folder / ADAPTER
    metadata = AdapterMetadata(
        base=model_name(config.model),
        base_sha256=tensors_sha256(weights.identity.files),
        reduction=config.reduction,
        low_frequencies=config.low_frequencies,
        trained={**recipe, "held_out_iou": training.held_out},
    )
    save_adapter(path, sam, metadata)
    return Trained(path, len(learning), len(aside), training.held_out[0], training.held_out[-1])
