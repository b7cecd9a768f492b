"""The rows of `make reproduce` that are fine-tuned networks."""

from collections.abc import Sequence
from dataclasses import dataclass

from medfocus_pipeline.config import EncoderConfig, TimmConfig
from medfocus_pipeline.config.gate import EFFICIENTNET_B0, RESNET18
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.errors import ConfigError, did_you_mean

SWIN = TimmConfig(model="swin_base_patch4_window7_224.ms_in22k_ft_in1k")

BACKBONES = (
    ("resnet", "ResNet-50", TimmConfig(model="resnet50.a1_in1k"), "ResNet", "He et al. 2016"),
    (
        *("res2net", "Res2Net-50", TimmConfig(model="res2net50_26w_4s.in1k")),
        *("Res2Net", "Gao et al. 2021, TPAMI"),
    ),
    (
        *("vit", "ViT-B/16", TimmConfig(model="vit_base_patch16_224.augreg2_in21k_ft_in1k")),
        *("ViT", "Dosovitskiy et al. 2021"),
    ),
    ("swin", "Swin-B", SWIN, "Swin", "Liu et al. 2021"),
)
"""Name, label, network, the paper's name, source."""

_OTHERS = (
    ("resnet18", "ResNet-18", RESNET18, "", "He et al. 2016"),
    ("efficientnet-b0", "EfficientNet-B0", EFFICIENTNET_B0, "", "Tan and Le 2019"),
)
"""What ultrasound classifiers are held against."""

TUNED = "finetune:"
"""Begins the names of rows that are fine-tuned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedRow:
    """One row of a network that is trained on each subset, not a head on its features.

    Attributes:
        name: what ``--rows`` calls it.
        label: what the table calls it.
        encoder: where training begins.
        run: how it is trained.
        method: the paper's name of it; empty if it is another's baseline.
        source: where it is from.
    """

    name: str
    label: str
    encoder: EncoderConfig
    run: FinetuneConfig
    method: str = ""
    source: str


def tuned_rows() -> list[TunedRow]:
    """The paper's four networks, and the two that ultrasound classifiers are held against.

    They train for long without a GPU, so that `reproduce` trains those that are named.
    """
    run = FinetuneConfig(trained="all", fit="crop", learning_rate=1e-4, augmentation="medical")
    return [
        TunedRow(
            name=f"{TUNED}{name}",
            label=f"{label}, fine-tuned",
            encoder=encoder,
            run=run,
            method=method,
            source=source,
        )
        for name, label, encoder, method, source in (*BACKBONES, *_OTHERS)
    ]


def split_names(names: Sequence[str] | None) -> tuple[list[str] | None, list[TunedRow]]:
    """Names of rows that are heads, and the rows that are fine-tuned; ``finetune`` is all of these.

    Raises:
        ConfigError: there is no such network.
    """
    if names is None:
        return None, []
    known = {row.name: row for row in tuned_rows()}
    asked = [name for name in names if name.startswith(TUNED.rstrip(":"))]
    wanted = list(known) if TUNED.rstrip(":") in asked else asked
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            f"There is no row {', '.join(unknown)}.{did_you_mean(unknown[0], known)} Fine-tuned "
            f"rows: {', '.join(known)}; others: medfocus finetune --model."
        )
    return [name for name in names if name not in asked], [known[name] for name in wanted]
