"""The models that a pack names, found on this machine, checked, and loaded."""

from pathlib import Path
from typing import Any

from medfocus_pipeline import image_roi
from medfocus_pipeline.classifier.pack import Pack
from medfocus_pipeline.classifier.stage_one import StageOne
from medfocus_pipeline.config import EmbedConfig, Frozen, Runtime
from medfocus_pipeline.encoders import load_encoder
from medfocus_pipeline.model_record import found_again
from medfocus_pipeline.segmenters import find_weights, load_segmenter
from medfocus_pipeline.tuning.kept import restore
from medfocus_pipeline.weights import FileHashes, Weights, local_folder


def open_stage_one(pack: Pack, encoder: Weights, hashes: FileHashes, runtime: Runtime) -> StageOne:
    """Segmenter and encoder of a pack, ready to run.

    Args:
        pack: the classifier.
        encoder: its weights, those of the pack.
        hashes: memo of file hashes.
        runtime: device and batch size.

    Raises:
        ConfigError: the device is not there.
        WeightsError: weights are missing, corrupt, or not those of the pack.
    """
    config = pack.config
    segmenter = None
    if config.masks is not None and config.segmenter is not None:
        found = found_again(find_weights, config.masks.segmenter, config.segmenter, hashes)
        segmenter = load_segmenter(config.masks, found, runtime)
    loaded = load_encoder(config.encoder, encoder, runtime)
    if config.tuned is not None:
        restore(loaded, config.tuned, pack.network, label=config.encoder_model.id)
    similarity = None
    if config.roi == "text" and pack.texts is not None:
        similarity = image_roi.text_similarity(loaded, pack.texts, fit=config.fit)
    return StageOne(
        masks=config.masks,
        segmenter=segmenter,
        encoder=loaded,
        parts=(*config.parts, *config.familiar_parts),
        embed=EmbedConfig(
            encoder=config.encoder, roi=config.roi, fit=config.fit, views=config.views
        ),
        similarity=similarity,
        batch_size=runtime.batch_size,
        device=runtime.device,
    )


def anchored(config: Frozen) -> Any:
    """The same configuration with absolute paths, so that it means the same in every folder."""
    changes: dict[str, object] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Path):
            changes[name] = value.expanduser().resolve()
        elif name == "model" and value and (folder := local_folder(value)):
            changes[name] = str(folder.resolve())
    return config.model_copy(update=changes)
