"""The table of heads: one entry a method."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from medfocus_pipeline import plugins
from medfocus_pipeline.config import HeadConfig, HeadPluginConfig
from medfocus_pipeline.heads.clip_adapter import ClipAdapterHead, FittedClipAdapter
from medfocus_pipeline.heads.cocoop import CoCoOpHead, FittedCoCoOp
from medfocus_pipeline.heads.contrastive import ContrastiveHead, FittedContrastive
from medfocus_pipeline.heads.coop import CoOpHead, FittedCoOp
from medfocus_pipeline.heads.fusion import FittedFusion, FusionHead
from medfocus_pipeline.heads.linear import FittedLinear, LinearHead
from medfocus_pipeline.heads.lp_plus_plus import FittedLpPlusPlus, LpPlusPlusHead
from medfocus_pipeline.heads.mlp import FittedMlp, MlpHead
from medfocus_pipeline.heads.protocol import FittedHead, Head
from medfocus_pipeline.heads.tip_adapter import FittedTipAdapter, TipAdapterFHead, TipAdapterHead
from medfocus_pipeline.heads.zeroshot import FittedZeroShot, ZeroShotHead

Needs = Literal["nothing", "texts if there are any", "texts", "text tower"]


class HeadEntry(NamedTuple):
    """One head.

    Attributes:
        make: its configuration -> the head.
        fitted: what it is after training, a dataclass of what it predicts with.
        needs: what it reads of the encoder beside the images' features.
        seeded: whether the seed does more than draw the subset.
        what: one line about it.
        source: the paper that it is from.
        version: of a plug-in, which goes into the key of a run; empty else.
    """

    make: Callable[[Any], Head]
    fitted: type
    needs: Needs
    seeded: bool
    what: str
    source: str
    version: str = ""


HEADS: Mapping[str, HeadEntry] = {
    "zeroshot": HeadEntry(
        ZeroShotHead,
        FittedZeroShot,
        "texts",
        False,
        "cosine with the class texts",
        "Radford et al. 2021",
    ),
    "linear": HeadEntry(
        LinearHead,
        FittedLinear,
        "nothing",
        False,
        "logistic regression",
        "Radford et al. 2021, linear probe",
    ),
    "fusion": HeadEntry(
        FusionHead,
        FittedFusion,
        "texts if there are any",
        True,
        "fusion F(T, I), then logistic regression on M",
        "Arora and Namboodiri, MedFocusCLIP",
    ),
    "coop": HeadEntry(
        CoOpHead, FittedCoOp, "text tower", True, "learned context tokens", "Zhou et al. 2022, IJCV"
    ),
    "cocoop": HeadEntry(
        CoCoOpHead,
        FittedCoCoOp,
        "text tower",
        True,
        "context tokens shifted by the image",
        "Zhou et al. 2022",
    ),
    "tip_adapter": HeadEntry(
        TipAdapterHead,
        FittedTipAdapter,
        "texts",
        True,
        "cache of the training features",
        "Zhang et al. 2022",
    ),
    "tip_adapter_f": HeadEntry(
        TipAdapterFHead,
        FittedTipAdapter,
        "texts",
        True,
        "the same, its keys trained",
        "Zhang et al. 2022",
    ),
    "clip_adapter": HeadEntry(
        ClipAdapterHead,
        FittedClipAdapter,
        "texts",
        True,
        "bottleneck on the image feature",
        "Gao et al. 2021",
    ),
    "lp_plus_plus": HeadEntry(
        LpPlusPlusHead,
        FittedLpPlusPlus,
        "texts",
        True,
        "linear probe blended with texts",
        "Huang et al. 2024",
    ),
    "mlp": HeadEntry(
        MlpHead, FittedMlp, "nothing", True, "three fully connected layers", "a baseline"
    ),
    "contrastive": HeadEntry(
        ContrastiveHead,
        FittedContrastive,
        "nothing",
        True,
        "projection learned from pairs, then logistic regression",
        "Hadsell et al. 2006",
    ),
    "supcon": HeadEntry(
        ContrastiveHead,
        FittedContrastive,
        "nothing",
        True,
        "the same with the supervised contrastive loss",
        "Khosla et al. 2020",
    ),
}
"""By the name that a configuration or ``--row`` gives."""


def entry(config: HeadConfig) -> HeadEntry:
    """The table's entry of a configuration, or what a plug-in says of itself.

    Raises:
        ConfigError: the plug-in cannot be imported, or needs what there is not.
    """
    return _plugin(config) if isinstance(config, HeadPluginConfig) else HEADS[config.name]


def make_head(config: HeadConfig) -> Head:
    """The head that a configuration names."""
    return entry(config).make(config)


def _plugin(config: HeadPluginConfig) -> HeadEntry:
    made = plugins.factory(config)
    needs: Any = getattr(made, "needs", "nothing")
    if needs not in get_args(Needs):
        known = ", ".join(map(repr, get_args(Needs)))
        raise plugins.wrong(config, got=f"needs {needs!r}", expected=f"one of {known}")
    return HeadEntry(
        lambda config: plugins.make(config, Head, {}),
        FittedHead,
        needs,
        bool(getattr(made, "seeded", True)),
        "a head of another package",
        config.name,
        made.version,
    )
