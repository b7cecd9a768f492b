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
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
)
from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.reproduction_tuned import BACKBONES, SWIN
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
            for name, label, encoder, paper, source in BACKBONES
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
        row("sam2_swin", "Swin-B, not CLIP, linear", head=LinearConfig(), encoder=SWIN),
    ]
