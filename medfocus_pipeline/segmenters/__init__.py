"""Segmenters: what proposes candidate masks. One module per model family, named in one table.

No torch here: which weights a segmenter has is known before anything heavy is imported.
"""

from collections.abc import Sequence

from medfocus_pipeline.config import MasksConfig, Runtime, Sam3Config, SegmenterConfig
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.segmenters.table import SEGMENTERS
from medfocus_pipeline.weights import Weights
from medfocus_pipeline.zoo import Families

__all__ = [
    "SEGMENTERS",
    "Segmenter",
    "find_weights",
    "label",
    "load_segmenter",
    "model_id",
    "need_weights",
    "prompted",
    "settled",
]


_FAMILIES: Families[SegmenterConfig, Segmenter] = Families(SEGMENTERS)
model_id = _FAMILIES.model_id
label = _FAMILIES.label
find_weights = _FAMILIES.find_weights
need_weights = _FAMILIES.need_weights


def settled(config: SegmenterConfig) -> SegmenterConfig:
    """The configuration with numbers where it left them to the segmenter.

    Hub ids and paths of the weights are left out: `ModelIdentity` says which they are.
    """
    found: SegmenterConfig = SEGMENTERS[type(config)].settled(config)
    return found


def prompted(masks: MasksConfig, phrases: Sequence[str]) -> MasksConfig:
    """The configuration with what is looked for, of a segmenter that is asked for phrases.

    Args:
        masks: unchanged if it names phrases itself, or its segmenter takes none.
        phrases: of the data set's classes.
    """
    segmenter = masks.segmenter
    if not isinstance(segmenter, Sam3Config) or segmenter.phrases:
        return masks
    asked = segmenter.model_copy(update={"phrases": tuple(phrases)})
    return masks.model_copy(update={"segmenter": asked})


def load_segmenter(masks: MasksConfig, weights: Weights, runtime: Runtime) -> Segmenter:
    """The segmenter, ready to run on its device.

    Args:
        masks: its configuration, with the frame and the number of candidates.
        weights: from `find_weights` of ``masks.segmenter``.
        runtime: device and compilation.

    Raises:
        ConfigError: the device or a package it needs is not there.
        WeightsError: the weights are corrupt or of another model.
    """
    return SEGMENTERS[type(masks.segmenter)].load(masks, weights, runtime)
