"""Segmenters of other packages, tried with one image before they are used."""

import numpy as np

from medfocus_pipeline import plugins
from medfocus_pipeline.config import MasksConfig, Runtime, SegmenterPluginConfig
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.types import Candidates
from medfocus_pipeline.weights import Weights


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> Segmenter:
    """The plug-in's segmenter, on its device.

    Raises:
        ConfigError: it does not keep to the contract of `Segmenter`.
    """
    del weights  # the factory knows its files
    config = masks.segmenter_of(SegmenterPluginConfig)
    given = {
        "device": resolve_device(runtime.device),
        "max_candidates": masks.max_candidates,
        "frame": masks.frame,
    }
    segmenter: Segmenter = plugins.make(config, Segmenter, given)
    found = segmenter.segment([np.zeros((48, 64, 3), np.uint8)])
    if len(found) != 1 or not isinstance(found[0], Candidates):
        raise plugins.wrong(
            config,
            got=f"{[type(one).__name__ for one in found]} for one image",
            expected="one Candidates for each image",
        )
    side = masks.frame
    if found[0].masks.shape[1:] != (side, side) or len(found[0]) > masks.max_candidates:
        raise plugins.wrong(
            config,
            got=f"masks {found[0].masks.shape}",
            expected=f"(k, {side}, {side}), k at most {masks.max_candidates}",
        )
    return segmenter
