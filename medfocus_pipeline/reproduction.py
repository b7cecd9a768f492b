"""The rows of ``medfocus reproduce``: the paper's methods and ablations, and ours beside them."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from medfocus_pipeline.config import (
    ClipAdapterConfig,
    CoCoOpConfig,
    CoOpConfig,
    EncoderConfig,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    LpPlusPlusConfig,
    MedSamConfig,
    MlpConfig,
    SamAdapterConfig,
    SamConfig,
    SegmenterConfig,
    TimmConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
)
from medfocus_pipeline.config.gate import EFFICIENTNET_B0, RESNET18
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.types import FeaturePart, Fit, FocusMode, RoiRule

PAPER, METHODS, ABLATIONS = "the paper's rows", "other methods", "ablations"
"""Groups of rows, in the table's order."""

REFERENCE = "clip"
"""Name of the row that the others are tested against: `linear` on `original`."""

OWN = "medfocus"
"""Name and label of the row of MedFocus's own method, a linear head on these:"""

MEDFOCUS = (FeaturePart("original", "levels"), FeaturePart("original", "roi_levels"))
"""Features of MedFocus's own method: what the network makes of the whole image at every depth, and
the same where the region is."""

_OURS = "a variant of ours"

_SWIN = TimmConfig(model="swin_base_patch4_window7_224.ms_in22k_ft_in1k")

_BACKBONES = (
    ("resnet", "ResNet-50", TimmConfig(model="resnet50.a1_in1k"), "ResNet", "He et al. 2016"),
    (
        *("res2net", "Res2Net-50", TimmConfig(model="res2net50_26w_4s.in1k")),
        *("Res2Net", "Gao et al. 2021, TPAMI"),
    ),
    (
        *("vit", "ViT-B/16", TimmConfig(model="vit_base_patch16_224.augreg2_in21k_ft_in1k")),
        *("ViT", "Dosovitskiy et al. 2021"),
    ),
    ("swin", "Swin-B", _SWIN, "Swin", "Liu et al. 2021"),
)
"""Name, label, network, the paper's name, source."""

_OTHERS = (
    ("resnet18", "ResNet-18", RESNET18, "", "He et al. 2016"),
    ("efficientnet-b0", "EfficientNet-B0", EFFICIENTNET_B0, "", "Tan and Le 2019"),
)
"""What ultrasound classifiers are held against."""

_TUNED = "finetune:"
"""Begins the names of rows that are fine-tuned."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what is fitted on what.

    Attributes:
        name: what ``--rows`` calls it.
        label: what the table calls it.
        focus: parts of the features.
        method: the paper's name of it; empty if the paper's tables have no such row.
        encoder, segmenter, roi, fit: instead of the profile's; None is the profile's. Rows of the
            paper, and what they are compared with, see images cropped as their models were
            published.
        source: where it is from, if not from where its head is.
    """

    name: str
    label: str
    _: KW_ONLY
    head: HeadConfig
    focus: tuple[FeaturePart, ...] = (FeaturePart("original"),)
    group: str
    method: str = ""
    encoder: EncoderConfig | None = None
    segmenter: SegmenterConfig | None = None
    roi: RoiRule | None = None
    fit: Fit | None = None
    source: str = ""


def rows(adapter: Path) -> list[Row]:
    """Every row, in the table's order.

    Args:
        adapter: weights that `medfocus train-adapter` made for the data set.
    """
    return [*_paper(), *_methods(), *_ablations(adapter)]


def chosen(known: Sequence[Row], names: Sequence[str] | None) -> list[Row]:
    """Rows by name; all of them if none is named.

    Raises:
        ConfigError: a name is not known; the known ones are listed.
    """
    if names is None:
        return list(known)
    unknown = sorted(set(names) - {row.name for row in known})
    if unknown:
        raise ConfigError(
            f"There is no row {', '.join(unknown)}."
            f"{did_you_mean(unknown[0], [row.name for row in known])} Known rows: "
            f"{', '.join(row.name for row in known)}."
        )
    return [row for row in known if row.name in names]


def _paper() -> list[Row]:
    row = partial(Row, group=PAPER, fit="crop")
    linear = LinearConfig()
    return [
        *(
            row(name, f"{label}, linear", head=linear, method=paper, encoder=encoder, source=source)
            for name, label, encoder, paper, source in _BACKBONES
        ),
        row(REFERENCE, "linear on original", head=linear, method="CLIP"),
        row("coop", "CoOp", head=CoOpConfig(), method="CoOp"),
        row("cocoop", "CoCoOp", head=CoCoOpConfig(), method="CoCoOp"),
        row(
            "medfocusclip",
            "fusion on segmented (MedFocusCLIP)",
            head=FusionConfig(),
            focus=(FeaturePart("segmented"),),
            method="MedFocusCLIP",
        ),
    ]


def _methods() -> list[Row]:
    row = partial(Row, group=METHODS)
    linear, fusion = LinearConfig(), FusionConfig()
    ours = "ours: levels of the network, and the same pooled over the region"
    joined: tuple[tuple[HeadConfig, str], ...] = (
        (linear, "original.levels"),
        (linear, "segmented"),
        (linear, "original+segmented"),
        (linear, "original+original.roi_pooled"),
        (fusion, "original"),
        (fusion, "original+segmented"),
        (fusion, "original+original.roi_pooled"),
    )
    return [
        row(OWN, OWN, head=linear, focus=MEDFOCUS, source=ours),
        row("zeroshot", "zero-shot on original", head=ZeroShotConfig()),
        row("tip_adapter", "Tip-Adapter on original", head=TipAdapterConfig()),
        row("tip_adapter_f", "Tip-Adapter-F on original", head=TipAdapterFConfig()),
        row("clip_adapter", "CLIP-Adapter on original", head=ClipAdapterConfig()),
        row("lp_plus_plus", "LP++ on original", head=LpPlusPlusConfig()),
        row("mlp", "MLP on original", head=MlpConfig()),
        *(
            row(
                f"{head.name}:{parts}",
                f"{head.name} on {parts}",
                head=head,
                focus=tuple(map(FeaturePart.parse, parts.split("+"))),
                source="" if parts in get_args(FocusMode) else "parts of features: ours",
            )
            for head, parts in joined
        ),
    ]


def _ablations(adapter: Path) -> list[Row]:
    row = partial(
        Row,
        head=FusionConfig(),
        focus=(FeaturePart("segmented"),),
        group=ABLATIONS,
        fit="crop",
        source="the paper's ablation",
    )
    return [
        row("f_concat", "F: concat", head=FusionConfig(variant="concat"), source=_OURS),
        row("f_gated", "F: gated", head=FusionConfig(variant="gated"), source=_OURS),
        row("f_similarity", "F: similarity", head=FusionConfig(variant="similarity"), source=_OURS),
        row("overlay", "overlay, not segmented", focus=(FeaturePart("overlay"),)),
        row("mask", "binary mask, not segmented", focus=(FeaturePart("mask"),)),
        row("roi_best", "ROI rule best", roi="best", source=_OURS),
        row("roi_union", "ROI rule union", roi="union", source=_OURS),
        row(
            "sam_adapter",
            "SAM-Adapter, not SAM2",
            segmenter=SamAdapterConfig(adapter=adapter),
            roi="best",
            source="the paper's ablation; Chen et al. 2023",
        ),
        row("sam", "SAM, not SAM2", segmenter=SamConfig(), source="Kirillov et al. 2023"),
        row("medsam", "MedSAM, not SAM2", segmenter=MedSamConfig(), source="Ma et al. 2024"),
        row("sam2_swin", "Swin-B, not CLIP, linear", head=LinearConfig(), encoder=_SWIN),
    ]


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
            name=f"{_TUNED}{name}",
            label=f"{label}, fine-tuned",
            encoder=encoder,
            run=run,
            method=method,
            source=source,
        )
        for name, label, encoder, method, source in (*_BACKBONES, *_OTHERS)
    ]


def split_names(names: Sequence[str] | None) -> tuple[list[str] | None, list[TunedRow]]:
    """Names of rows that are heads, and the rows that are fine-tuned; ``finetune`` is all of these.

    Raises:
        ConfigError: there is no such network.
    """
    if names is None:
        return None, []
    known = {row.name: row for row in tuned_rows()}
    asked = [name for name in names if name.startswith(_TUNED.rstrip(":"))]
    wanted = list(known) if _TUNED.rstrip(":") in asked else asked
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            f"There is no row {', '.join(unknown)}.{did_you_mean(unknown[0], known)} Fine-tuned "
            f"rows: {', '.join(known)}; others: medfocus finetune --model."
        )
    return [name for name in names if name not in asked], [known[name] for name in wanted]
