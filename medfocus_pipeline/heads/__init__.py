"""Heads: what is trained on cached features."""

from medfocus_pipeline.config import FusionConfig, HeadConfig, LinearConfig
from medfocus_pipeline.heads.fusion import FusionHead
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.protocol import Head


def make_head(config: HeadConfig) -> Head:
    """The head that a configuration names."""
    match config:
        case LinearConfig():
            return LinearHead(config)
        case FusionConfig():
            return FusionHead(config)
