"""The table of segmenters: one entry a family, with the models that users name."""

from functools import partial
from pathlib import Path

from medfocus_pipeline.config import (
    Frozen,
    MedSamConfig,
    Sam2Config,
    Sam3Config,
    SamAdapterConfig,
    SamConfig,
    SegmenterPluginConfig,
    ThresholdConfig,
)
from medfocus_pipeline.plugins import find_plugin, plugin_name
from medfocus_pipeline.sam import sam2
from medfocus_pipeline.sam.sam_model import FILES
from medfocus_pipeline.segmenters import (
    medsam,
    plugin,
    sam,
    sam2_segmenter,
    sam3,
    sam_adapter,
    threshold,
)
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights
from medfocus_pipeline.zoo import Model, ModelEntry, hub_finder, hub_id, hub_label

_sam = partial(Model, licence="Apache-2.0", side=1024, pixels="squeezed")

_SAM_PARAMETERS = {
    "facebook/sam-vit-base": 93.7,
    "facebook/sam-vit-large": 312.3,
    "facebook/sam-vit-huge": 641.1,
}
"""Millions, as the authors give them."""


def _no_weights(config: ThresholdConfig, hashes: FileHashes, *, download: bool) -> Weights:
    del hashes, download
    return Weights(identity=ModelIdentity(id=config.name), paths={})


def _grid(config: Sam2Config | SamConfig) -> str:
    return f"{config.points_per_side}x{config.points_per_side}"


SEGMENTERS: dict[type[Frozen], ModelEntry[Segmenter]] = {
    Sam2Config: ModelEntry(
        what="SAM 2.1 or MedSAM2 on a grid of points; lite comes along",
        package="sam2",
        identify=sam2.model_id,
        find=sam2.find_weights,
        load=sam2_segmenter.load,
        label=lambda config: f"sam2-{config.size}-{_grid(config)}",
        settled=sam2.settled,
        prefix="facebook/sam2",
        models=(
            _sam(Sam2Config(size="lite"), side=256),
            *(
                _sam(Sam2Config(size=size), parameters=parameters)
                for size, parameters in sam2.PARAMETERS.items()
            ),
            _sam(
                Sam2Config(size="medsam2"),
                licence="CC BY-SA 4.0",
                side=512,
                pixels="bicubic, squeezed",
                parameters=sam2.PARAMETERS["tiny"],
                note="--size medsam2; its authors prompt with boxes",
            ),
        ),
    ),
    SamConfig: ModelEntry(
        what="the first SAM on a grid of points",
        package="transformers",
        identify=hub_id,
        find=hub_finder(*FILES),
        load=sam.load,
        label=lambda config: f"{hub_label(config)}-{_grid(config)}",
        settled=lambda config: config.model_copy(update={"model": ""}),
        prefix="facebook/sam",
        models=tuple(
            _sam(SamConfig(model=model), pixels="letterboxed", parameters=parameters)
            for model, parameters in _SAM_PARAMETERS.items()
        ),
    ),
    MedSamConfig: ModelEntry(
        what="SAM taught on medical images, prompted with boxes",
        package="transformers",
        identify=hub_id,
        find=hub_finder(*FILES),
        load=medsam.load,
        label=lambda config: f"{hub_label(config)}-{config.box}",
        settled=lambda config: config.model_copy(update={"model": ""}),
        models=(_sam(MedSamConfig(), parameters=93.7),),
    ),
    Sam3Config: ModelEntry(
        what="SAM 3, prompted with the phrases of the card's classes",
        package="transformers",
        identify=hub_id,
        find=hub_finder(*sam3.FILES, optional=sam3.OPTIONAL),
        load=sam3.load,
        label=hub_label,
        settled=lambda config: config.model_copy(update={"model": ""}),
        models=(_sam(Sam3Config(), licence="SAM License", side=1008, parameters=848, gated=True),),
    ),
    SamAdapterConfig: ModelEntry(
        what="SAM with an adapter that medfocus train-adapter made",
        package="transformers",
        identify=lambda _: sam_adapter.ID,
        find=sam_adapter.find_weights,
        load=sam_adapter.load,
        label=lambda _: sam_adapter.ID,
        settled=lambda config: config.model_copy(update={"model": None, "adapter": Path()}),
    ),
    ThresholdConfig: ModelEntry(
        what="Otsu's threshold, learns nothing",
        identify=lambda config: config.name,
        find=_no_weights,
        load=threshold.load,
        label=lambda config: config.name,
        models=(Model(ThresholdConfig(), "ours"),),
    ),
    SegmenterPluginConfig: ModelEntry(
        what="a segmenter of another package, docs/extending.md",
        identify=plugin_name,
        find=find_plugin,
        load=plugin.load,
        label=plugin_name,
    ),
}
"""By the type of their configuration."""
