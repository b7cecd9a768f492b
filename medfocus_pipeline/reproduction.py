"""The rows of ``medfocus reproduce``: the paper's methods and ablations, and ours beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import FeaturePart, RoiRule

PAPER, METHODS, ABLATIONS = "the paper's rows", "other methods", "ablations"
"""Groups of rows, in the table's order."""

REFERENCE = "clip"
"""Name of the row that the others are tested against: `linear` on `original`."""

_OURS = "a variant of ours"

_VIT = TimmConfig(model="vit_base_patch16_224.augreg2_in21k_ft_in1k")
_SWIN = TimmConfig(model="swin_base_patch4_window7_224.ms_in22k_ft_in1k")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: what is fitted on what.

    Attributes:
        name: what ``--rows`` calls it.
        label: what the table calls it.
        focus: parts of the features.
        method: the paper's name of it; empty if the paper's tables have no such row.
        encoder, segmenter, roi: instead of the profile's; None is the profile's.
        source: where it is from, if not from where its head is.
    """

    name: str
    label: str
    head: HeadConfig
    focus: tuple[FeaturePart, ...] = ("original",)
    group: str
    method: str = ""
    encoder: EncoderConfig | None = None
    segmenter: SegmenterConfig | None = None
    roi: RoiRule | None = None
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
            f"There is no row {', '.join(unknown)}. Known rows: "
            f"{', '.join(row.name for row in known)}."
        )
    return [row for row in known if row.name in names]


def _paper() -> list[Row]:
    backbones = (
        ("resnet", "ResNet-50", "resnet50.a1_in1k", "ResNet", "He et al. 2016"),
        ("res2net", "Res2Net-50", "res2net50_26w_4s.in1k", "Res2Net", "Gao et al. 2021, TPAMI"),
        ("vit", "ViT-B/16", _VIT.model, "ViT", "Dosovitskiy et al. 2021"),
        ("swin", "Swin-B", _SWIN.model, "Swin", "Liu et al. 2021"),
    )
    linear = LinearConfig()
    return [
        *(
            Row(
                name=name,
                label=f"{label}, linear",
                head=linear,
                group=PAPER,
                method=method,
                encoder=TimmConfig(model=model),
                source=source,
            )
            for name, label, model, method, source in backbones
        ),
        Row(name=REFERENCE, label="linear on original", head=linear, group=PAPER, method="CLIP"),
        Row(name="coop", label="CoOp", head=CoOpConfig(), group=PAPER, method="CoOp"),
        Row(name="cocoop", label="CoCoOp", head=CoCoOpConfig(), group=PAPER, method="CoCoOp"),
        Row(
            name="medfocusclip",
            label="fusion on segmented (MedFocusCLIP)",
            head=FusionConfig(),
            focus=("segmented",),
            group=PAPER,
            method="MedFocusCLIP",
        ),
    ]


def _methods() -> list[Row]:
    on_original: tuple[tuple[str, str, HeadConfig], ...] = (
        ("zeroshot", "zero-shot", ZeroShotConfig()),
        ("tip_adapter", "Tip-Adapter", TipAdapterConfig()),
        ("tip_adapter_f", "Tip-Adapter-F", TipAdapterFConfig()),
        ("clip_adapter", "CLIP-Adapter", ClipAdapterConfig()),
        ("lp_plus_plus", "LP++", LpPlusPlusConfig()),
        ("mlp", "MLP", MlpConfig()),
    )
    joined: tuple[tuple[str, HeadConfig, tuple[FeaturePart, ...]], ...] = (
        ("linear", LinearConfig(), ("segmented",)),
        ("linear", LinearConfig(), ("original", "segmented")),
        ("linear", LinearConfig(), ("original", "segmented", "roi_pooled")),
        ("fusion", FusionConfig(), ("original",)),
        ("fusion", FusionConfig(), ("original", "segmented")),
        ("fusion", FusionConfig(), ("original", "segmented", "roi_pooled")),
    )
    return [
        *(
            Row(name=name, label=f"{label} on original", head=head, group=METHODS)
            for name, label, head in on_original
        ),
        *(
            Row(
                name=f"{name}:{'+'.join(focus)}",
                label=f"{name} on {'+'.join(focus)}",
                head=head,
                focus=focus,
                group=METHODS,
                source="features joined: ours" if len(focus) > 1 else "",
            )
            for name, head, focus in joined
        ),
    ]


def _ablations(adapter: Path) -> list[Row]:
    def row(
        name: str,
        label: str,
        *,
        head: HeadConfig | None = None,
        focus: FeaturePart = "segmented",
        encoder: EncoderConfig | None = None,
        segmenter: SegmenterConfig | None = None,
        roi: RoiRule | None = None,
        source: str = "the paper's ablation",
    ) -> Row:
        return Row(
            name=name,
            label=label,
            head=head or FusionConfig(),
            focus=(focus,),
            group=ABLATIONS,
            encoder=encoder,
            segmenter=segmenter,
            roi=roi,
            source=source,
        )

    return [
        row("f_concat", "F: concat", head=FusionConfig(variant="concat"), source=_OURS),
        row("f_gated", "F: gated", head=FusionConfig(variant="gated"), source=_OURS),
        row(
            "f_similarity",
            "F: similarity",
            head=FusionConfig(variant="similarity"),
            source=_OURS,
        ),
        row("overlay", "overlay, not segmented", focus="overlay"),
        row("mask", "binary mask, not segmented", focus="mask"),
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
