"""What stage two will do: the lines of a table, their features and their runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from medfocus_pipeline.config import FeaturesConfig, ProbeConfig, ProbeRow
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.embedded import bytes_an_image, class_texts, text_temperature
from medfocus_pipeline.encoders import has_prompts, has_text
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.errors import ConfigError, StoreError, WeightsError
from medfocus_pipeline.evaluation.draws import Labelled, draw
from medfocus_pipeline.evaluation.runs import Run, plan_runs, to_fit
from medfocus_pipeline.features import FeatureKeys, FeatureTable, join
from medfocus_pipeline.heads.table import entry
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.located import Located, Open, opened, opened_of
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Stores, encoder_label, masks_label
from medfocus_pipeline.reproduction import MEDFOCUS, OWN
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import FeaturePart

_PAPER_METHODS = {
    ("linear", "original"): "CLIP",
    ("coop", "original"): "CoOp",
    ("cocoop", "original"): "CoCoOp",
    ("fusion", "segmented"): "MedFocusCLIP",
}
"""Rows of the paper's tables that ours stand beside."""

NEEDS_DUAL = "needs a dual encoder"
NEEDS_IMAGES = "needs an encoder of images"
NEEDS_REGIONS = "needs embed --set roi_parts=true"


@dataclass(frozen=True, slots=True)
class Plan:
    """One line of the table: a head on a feature set, and its runs.

    Attributes:
        context: with the settings that the line is of.
        stores: of these settings.
        places: the embedding stores, one for each part of the features.
        runs: none where the encoder lacks what the line needs.
        note: what it lacks; empty if it lacks nothing.
    """

    context: Context
    stores: Stores
    row: ProbeRow
    keys: FeatureKeys
    places: list[Located]
    runs: list[Run]
    note: str

    @property
    def paper(self) -> str:
        """The method of the paper's tables that the line is; empty if there is none."""
        return _PAPER_METHODS.get((self.row.head.name, self.row.parts), "")

    @property
    def label(self) -> str:
        """``linear on original``; ``medfocus`` of MedFocus's own."""
        own = self.row.head.name == "linear" and self.row.focus == MEDFOCUS
        return OWN if own else f"{self.row.head.name} on {self.row.parts}"

    def missing(self, done: set[str]) -> list[Run]:
        """Runs to be fitted."""
        return to_fit(self.runs, done)


def parse_row(text: str) -> dict[str, object]:
    """``fusion:original+segmented`` as a `ProbeRow`; a plug-in's name has a colon of its own.

    ``medfocus`` alone is MedFocus's own row.

    Raises:
        ConfigError: there is no focus mode in it.
    """
    if text == OWN:
        return {"head": {"name": "linear"}, "focus": MEDFOCUS}
    head, _, focus = text.rpartition(":")
    if not head or not focus:
        raise ConfigError(f"--row {text!r}: expected HEAD:FOCUS, e.g. linear:original+segmented.")
    return {"head": {"name": head}, "focus": focus.split("+")}


def has_region(parts: Sequence[FeaturePart]) -> bool:
    """Whether any part of the features looks at the ROI."""
    return any(part.needs_masks for part in parts)


def plan(
    context: Context, dataset: Dataset, stores: Stores, split: Split, config: ProbeConfig
) -> list[Plan]:
    """Every run of every line, from the manifest and the stores' keys alone."""
    every = Labelled.of(dataset.manifest)
    draws = draw(config, train=every.part(split.train), test=every.part(split.test))
    plans = []
    for row in config.rows:
        # A file's features are of whole images, whatever the profile's rows ask for.
        blind = isinstance(context.embed.encoder, FeaturesConfig) and has_region(row.focus)
        parts = () if blind else row.focus
        places = [_place(context, stores, part.focus) for part in parts]
        keys = _keys(context, dataset, stores, row, places)
        note = NEEDS_IMAGES if blind else _lacks_regions(context, row)
        if not note and _lacks_texts(context, row, stores):
            note = NEEDS_DUAL
        runs = [] if note else plan_runs(row.head, keys, draws)
        plans.append(Plan(context, stores, row, keys, places, runs, note))
    return plans


def _lacks_regions(context: Context, row: ProbeRow) -> str:
    """What a row that pools over the ROI of whole images needs, if they were embedded without."""
    asked = any(part.focus == "original" and part.in_region for part in row.focus)
    without = context.embed.roi_parts is False or not context.embed.needs_masks
    return NEEDS_REGIONS if asked and without else ""


def _lacks_texts(context: Context, row: ProbeRow, stores: Stores) -> bool:
    """Whether the encoder lacks the texts, or the kind of text tower, that the head needs."""
    config, needs = context.embed.encoder, entry(row.head).needs
    # Without the weights the kind is not known; they are asked for when the row is fitted.
    if needs == "text tower" and stores.weights is not None:
        return not has_prompts(config, stores.weights)
    return needs in {"texts", "text tower"} and not has_text(config)


def _place(context: Context, stores: Stores, focus: str) -> Located:
    """The embedding store of a focus mode."""
    modes = list(dict.fromkeys(context.embed.focus))
    if focus in modes:
        return stores.embeddings[modes.index(focus)]
    raise StoreError(
        f"There are no embeddings of the focus {focus}, only of {', '.join(modes)}. "
        f'Run: make embed ARGS="--focus {",".join([*modes, focus])}"'
    )


def _keys(
    context: Context, dataset: Dataset, stores: Stores, row: ProbeRow, places: Sequence[Located]
) -> FeatureKeys:
    config = context.embed
    masked = has_region(row.focus)
    masks, texts = opened(stores.masks), opened(stores.texts)
    parts = zip(row.focus, places, strict=bool(places))
    return FeatureKeys(
        segmenter=masks_label(context.masks) if masked else "none",
        roi=config.configs(auto=dataset.card.roi)[0].roi if masked else "none",
        focus=tuple(map(str, row.focus)),
        encoder=encoder_label(config.encoder),
        masks_key=masks.key if masks and masked else None,
        embed_keys=tuple(_part_key(part, place) for part, place in parts),
        text_key=digest([texts.key, dataset.card.prompts()]) if texts else None,
        prompt_key=digest([texts.key, dataset.phrases]) if texts else None,
    )


def _part_key(part: FeaturePart, place: Located) -> str:
    key = place.store.key if isinstance(place, Open) else ""
    return key if part.kind == "pooled" else f"{key}/{part.kind}"


def features(dataset: Dataset, split: Split, one: Plan) -> FeatureTable:
    """The features of a line, from its stores.

    Raises:
        StoreError: some are missing or do not belong together.
        WeightsError: the head needs a text tower whose weights are not on this machine.
    """
    texts = opened(one.stores.texts)
    return join(
        dataset.manifest,
        split,
        opened_of(one.places),
        text=class_texts(texts, dataset.card.prompts()) if texts else None,
        keys=one.keys,
        temperature=text_temperature(texts) if texts else None,
        prompts=_prompts(dataset, one),
    )


def bytes_of(one: Plan, split: Split) -> int:
    """Bytes of the features of a line, from the descriptions of its stores alone."""
    images = len(split.train) + len(split.test)
    return images * bytes_an_image(opened_of(one.places), one.keys.focus)


def _prompts(dataset: Dataset, one: Plan) -> PromptSource | None:
    """The text tower, for a head that runs it.

    Raises:
        WeightsError: it is not on this machine.
    """
    if entry(one.row.head).needs != "text tower":
        return None
    context, weights = one.context, one.stores.weights
    if weights is None:
        raise WeightsError(
            f"The head {one.row.head.name} runs the text tower of "
            f"{encoder_label(context.embed.encoder)}, whose weights are not on this machine. "
            f"Run: medfocus models pull --dataset {context.dataset}, or leave the row out."
        )
    return PromptSource(context.embed.encoder, weights, dataset.phrases)
