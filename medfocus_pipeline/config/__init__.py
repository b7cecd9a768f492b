"""One frozen configuration per stage. What stands here changes numbers, so it is in the key.

How a stage runs (device, batch size, workers) is in `Runtime` and never in a key.
"""

from medfocus_pipeline.config.base import (
    Frozen,
    Runtime,
    problems,
)
from medfocus_pipeline.config.heads import (
    ClipAdapterConfig,
    CoCoOpConfig,
    CoOpConfig,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    LpPlusPlusConfig,
    MlpConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
)
from medfocus_pipeline.config.plugin import (
    EncoderPluginConfig,
    HeadPluginConfig,
    PluginConfig,
    SegmenterPluginConfig,
    installed,
)
from medfocus_pipeline.config.probe import (
    ProbeConfig,
    ProbeRow,
)
from medfocus_pipeline.config.stage_one import (
    ClipConfig,
    EfficientNetLiteConfig,
    EmbedConfig,
    EncoderConfig,
    FeaturesConfig,
    LiteClipConfig,
    MasksConfig,
    MedClipConfig,
    MedSamConfig,
    OpenClipConfig,
    Sam2Config,
    SamAdapterConfig,
    SamConfig,
    SegmenterConfig,
    ThresholdConfig,
    TimmConfig,
    VisionConfig,
)

__all__ = [
    "ClipAdapterConfig",
    "ClipConfig",
    "CoCoOpConfig",
    "CoOpConfig",
    "EfficientNetLiteConfig",
    "EmbedConfig",
    "EncoderConfig",
    "EncoderPluginConfig",
    "FeaturesConfig",
    "Frozen",
    "FusionConfig",
    "HeadConfig",
    "HeadPluginConfig",
    "LinearConfig",
    "LiteClipConfig",
    "LpPlusPlusConfig",
    "MasksConfig",
    "MedClipConfig",
    "MedSamConfig",
    "MlpConfig",
    "OpenClipConfig",
    "PluginConfig",
    "ProbeConfig",
    "ProbeRow",
    "Runtime",
    "Sam2Config",
    "SamAdapterConfig",
    "SamConfig",
    "SegmenterConfig",
    "SegmenterPluginConfig",
    "ThresholdConfig",
    "TimmConfig",
    "TipAdapterConfig",
    "TipAdapterFConfig",
    "VisionConfig",
    "ZeroShotConfig",
    "installed",
    "problems",
]
