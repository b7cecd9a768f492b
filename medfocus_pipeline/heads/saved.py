"""Fitted heads as named arrays and JSON, and back: how a head is kept in a file.

Each head is stored as what it predicts with and nothing else, so that one that was read again
gives the same probabilities. CoCoOp needs the text tower to predict: that is named, not stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.heads.clip_adapter import FittedClipAdapter
from medfocus_pipeline.heads.cocoop import FittedCoCoOp
from medfocus_pipeline.heads.contrastive import FittedContrastive
from medfocus_pipeline.heads.coop import FittedCoOp
from medfocus_pipeline.heads.fusion import FittedFusion, Fusion
from medfocus_pipeline.heads.linear import FittedLinear
from medfocus_pipeline.heads.lp_plus_plus import FittedLpPlusPlus
from medfocus_pipeline.heads.mlp import FittedMlp, Scaling
from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.heads.texts import Texts
from medfocus_pipeline.heads.tip_adapter import FittedTipAdapter
from medfocus_pipeline.heads.zeroshot import FittedZeroShot
from medfocus_pipeline.types import JSON

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """A fitted head, taken apart.

    Attributes:
        kind: a key of `FORMS`.
        arrays: name -> array of any shape, float32 or float64, C-contiguous.
        settings: numbers, texts and what was chosen, as JSON.
    """

    kind: str
    arrays: Arrays
    settings: JSON


class _Form(NamedTuple):
    fitted: type
    take_apart: Callable[[Any], tuple[Arrays, JSON]]
    put_together: Callable[[Arrays, JSON, PromptSource | None], FittedHead]


def save(fitted: FittedHead) -> Saved:
    """A fitted head's arrays and settings.

    Raises:
        TypeError: nobody said how such a head is stored.
    """
    for kind, form in FORMS.items():
        if type(fitted) is form.fitted:
            arrays, settings = form.take_apart(fitted)
            plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            return Saved(kind, plain, {**settings, "chosen": fitted.chosen})
    raise TypeError(f"No way to store a {type(fitted).__name__}.")


def load(saved: Saved, *, prompts: PromptSource | None = None) -> FittedHead:
    """The head that was taken apart.

    Args:
        saved: from `save`; its arrays are copied.
        prompts: the text tower, for a head that predicts with it.

    Raises:
        WeightsError: an array or setting is missing, or the text tower is needed and not given.
    """
    if saved.kind not in FORMS:
        raise WeightsError(
            f"The stored head is of the kind {saved.kind!r}, known are {', '.join(FORMS)}. "
            "It was exported by another version of MedFocus: export it again."
        )
    # Copied: torch takes no arrays that are read-only, as those of a mapped file are.
    arrays = {name: np.array(array) for name, array in saved.arrays.items()}
    try:
        return FORMS[saved.kind].put_together(arrays, saved.settings, prompts)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"The stored head ({saved.kind}) is not whole: {error}. Export it again."
        ) from error


def _texts(texts: Texts) -> tuple[Arrays, JSON]:
    return {"texts": texts.vectors}, {"temperature": texts.temperature}


def _read_texts(arrays: Arrays, settings: JSON) -> Texts:
    return Texts(arrays["texts"], settings["temperature"])


def _linear(head: FittedLinear) -> tuple[Arrays, JSON]:
    return {"coef": head.coef, "intercept": head.intercept}, {}


def _fusion(head: FittedFusion) -> tuple[Arrays, JSON]:
    arrays = {f"fusion.{name}": array for name, array in head.fusion.weights.items()}
    arrays |= {"basis": head.fusion.basis, **_linear(head.linear)[0]}
    return arrays, {"config": head.fusion.config.model_dump(mode="json"), "C": head.linear.chosen}


def _read_fusion(arrays: Arrays, settings: JSON, _: PromptSource | None) -> FittedFusion:
    mark = "fusion."
    weights = {name[len(mark) :]: array for name, array in arrays.items() if name.startswith(mark)}
    fusion = Fusion(arrays["basis"], weights, FusionConfig.model_validate(settings["config"]))
    linear = FittedLinear(arrays["coef"], arrays["intercept"], settings["C"])
    return FittedFusion(fusion, linear, settings["chosen"])


def _coop(head: FittedCoOp) -> tuple[Arrays, JSON]:
    return {"context": head.context, "texts": head.texts}, {"temperature": head.temperature}


def _read_cocoop(arrays: Arrays, settings: JSON, prompts: PromptSource | None) -> FittedCoCoOp:
    if prompts is None:
        raise ValueError("it predicts with the text tower of a CLIP, and none was given")
    return FittedCoCoOp(dict(arrays), prompts, settings["chosen"])


def _tip_adapter(head: FittedTipAdapter) -> tuple[Arrays, JSON]:
    arrays, settings = _texts(head.texts)
    settings |= {"alpha": head.alpha, "beta": head.beta}
    return {**arrays, "keys": head.keys, "values": head.values}, settings


def _read_tip_adapter(arrays: Arrays, settings: JSON, _: PromptSource | None) -> FittedTipAdapter:
    texts = _read_texts(arrays, settings)
    return FittedTipAdapter(
        arrays["keys"], arrays["values"], texts, settings["alpha"], settings["beta"]
    )


def _clip_adapter(head: FittedClipAdapter) -> tuple[Arrays, JSON]:
    arrays, settings = _texts(head.texts)
    return {**arrays, "down": head.down, "up": head.up}, {**settings, "ratio": head.ratio}


def _read_clip_adapter(arrays: Arrays, settings: JSON, _: PromptSource | None) -> FittedClipAdapter:
    texts = _read_texts(arrays, settings)
    return FittedClipAdapter(
        arrays["down"], arrays["up"], settings["ratio"], texts, settings["chosen"]
    )


def _mlp(head: FittedMlp) -> tuple[Arrays, JSON]:
    arrays = {"mean": head.scaling.mean}
    for number, (weight, bias) in enumerate(head.layers):
        arrays |= {f"weight.{number}": weight, f"bias.{number}": bias}
    return arrays, {"deviation": head.scaling.deviation, "layers": len(head.layers)}


def _read_mlp(arrays: Arrays, settings: JSON, _: PromptSource | None) -> FittedMlp:
    layers = [
        (arrays[f"weight.{number}"], arrays[f"bias.{number}"])
        for number in range(settings["layers"])
    ]
    return FittedMlp(Scaling(arrays["mean"], settings["deviation"]), layers)


def _contrastive(head: FittedContrastive) -> tuple[Arrays, JSON]:
    arrays, settings = _mlp(head.network)
    return {**arrays, **_linear(head.classifier)[0]}, settings


def _read_contrastive(arrays: Arrays, settings: JSON, _: PromptSource | None) -> FittedContrastive:
    linear = FittedLinear(arrays["coef"], arrays["intercept"], settings["chosen"])
    return FittedContrastive(_read_mlp(arrays, settings, None), linear)


FORMS: dict[str, _Form] = {
    "zeroshot": _Form(
        FittedZeroShot,
        lambda head: _texts(head.texts),
        lambda arrays, settings, _: FittedZeroShot(_read_texts(arrays, settings)),
    ),
    "linear": _Form(
        FittedLinear,
        _linear,
        lambda arrays, settings, _: FittedLinear(
            arrays["coef"], arrays["intercept"], settings["chosen"]
        ),
    ),
    "fusion": _Form(FittedFusion, _fusion, _read_fusion),
    "coop": _Form(
        FittedCoOp,
        _coop,
        lambda arrays, settings, _: FittedCoOp(
            arrays["context"], arrays["texts"], settings["temperature"], settings["chosen"]
        ),
    ),
    "cocoop": _Form(FittedCoCoOp, lambda head: (head.weights, {}), _read_cocoop),
    "tip_adapter": _Form(FittedTipAdapter, _tip_adapter, _read_tip_adapter),
    "clip_adapter": _Form(FittedClipAdapter, _clip_adapter, _read_clip_adapter),
    "lp_plus_plus": _Form(
        FittedLpPlusPlus,
        lambda head: ({"weights": head.weights, "alpha": head.alpha}, {}),
        lambda arrays, settings, _: FittedLpPlusPlus(
            arrays["weights"], arrays["alpha"], settings["chosen"]
        ),
    ),
    "mlp": _Form(FittedMlp, _mlp, _read_mlp),
    "contrastive": _Form(FittedContrastive, _contrastive, _read_contrastive),
}
"""By what was fitted; Tip-Adapter and Tip-Adapter-F end in the same, and so do the contrastive."""
