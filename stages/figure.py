"""``medfocus figure``: one picture of what MedFocus did with a few images."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa

from medfocus_pipeline import embedding, segmentation
from medfocus_pipeline.config import EmbedConfig, Runtime
from medfocus_pipeline.datasets.layout import annotation_paths
from medfocus_pipeline.datasets.readers import read_annotation
from medfocus_pipeline.encoders import load_encoder
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.features import class_texts
from medfocus_pipeline.masks.focus import focus
from medfocus_pipeline.masks.roi import choose_roi
from medfocus_pipeline.report.sheet import Answer, Example, draw_sheet, write_png
from medfocus_pipeline.stores.store import Store
from stages.embed import check_masks
from stages.locate import Located, Stores, locate_stores
from stages.progress import say
from stages.scan import Dataset, open_dataset
from stages.settings import Context
from stages.status import used_stores

_PREFERRED = "segmented"
"""The focus mode that is shown if it was embedded: the paper's."""

_NOTHING = "no answers yet: make probe"


@dataclass(frozen=True, slots=True)
class Answers:
    """What one run said about its test images.

    Attributes:
        source: readable name of the run.
        found: image id -> answer.
    """

    source: str
    found: Mapping[str, Answer]


def run(context: Context, *, count: int, path: Path | None) -> int:
    """Draw what was done with a few test images.

    Args:
        count: number of images, classes in turn.
        path: of the PNG; None is ``figure.png`` in the data set's part of the cache.

    Returns:
        0.

    Raises:
        ConfigError: `path` does not end in ``.png``.
        StoreError: masks or embeddings are missing, or the disk is full.
    """
    target = path or context.folder / "figure.png"
    if target.suffix.lower() != ".png":
        raise ConfigError(f"--out {target}: expected a name that ends in .png.")
    dataset = open_dataset(context)
    stores = used_stores(context, dataset)
    check_masks(context, stores)
    config, place = _shown(context, dataset, stores)
    answers = _answers(context, dataset, place)
    chosen = choose_images(dataset, count=count, tested=answers.found)
    examples = _examples(context, dataset, stores, config, chosen, answers)
    sheet = draw_sheet(examples, rule=config.roi, focus=config.focus, source=answers.source)
    write_png(sheet, target)
    say(f"figure: {len(examples)} images, {answers.source}")
    say(f"picture: {target}")
    return 0


def choose_images(dataset: Dataset, *, count: int, tested: Collection[str]) -> dict[str, int]:
    """Image id -> class index of a few images, classes in turn, in the order of their SHA-256.

    That order says nothing about an image, so none is chosen for how well it went.

    Args:
        count: how many at most.
        tested: ids of the test images; empty takes those of the official split, or all.
    """
    manifest = dataset.manifest
    ids, labels, sides = manifest.image_ids, manifest.labels, manifest.strings("split")
    usable = manifest.usable.tolist()
    rows = [row for row in usable if ids[row] in tested]
    rows = rows or [row for row in usable if sides[row] == "test"] or usable
    label_of = {ids[row]: int(labels[row]) for row in rows}
    queues = [
        sorted(id_ for id_, label in label_of.items() if label == index)
        for index in range(len(manifest.classes))
    ]
    in_turn = [id_ for turn in zip_longest(*queues) for id_ in turn if id_ is not None]
    return {id_: label_of[id_] for id_ in in_turn[:count]}


def _shown(context: Context, dataset: Dataset, stores: Stores) -> tuple[EmbedConfig, Located]:
    """The embedding that the picture is about: segmented, or else the first focused one."""
    configs = context.embed.configs(auto=dataset.card.roi)
    pairs = list(zip(configs, stores.embeddings, strict=True))
    focused = [pair for pair in pairs if embedding.needs_masks(pair[0])]
    preferred = [pair for pair in focused if pair[0].focus == _PREFERRED]
    config, place = [*preferred, *focused, *pairs][0]
    missing = place.missing()
    if place.store is None or missing:
        raise StoreError(
            f"{len(missing):,} of {len(place.ids):,} images have no embedding of "
            f"{place.label}. Run: make embed DATASET={context.dataset}"
        )
    return config, place


def _answers(context: Context, dataset: Dataset, place: Located) -> Answers:
    """Those of the run with the most labels, the first seed and, among such, the last head."""
    folder = context.folder / "results"
    key = place.store.key if place.store else ""
    rows = results.read(folder).to_pylist()
    runs = [row for row in rows if key in row["embedding_keys"].split(",")]
    if not runs:
        return Answers(_NOTHING, {})
    row = max(reversed(runs), key=lambda one: (one["n_train"], -one["seed"]))
    table = results.read(folder, "predictions")
    mine = [run_key == row["run_key"] for run_key in table["run_key"].to_pylist()]
    classes = dataset.manifest.classes
    found = {
        one["image_id"]: Answer(classes[one["predicted"]], one["probabilities"][one["predicted"]])
        for one in table.filter(pa.array(mine, pa.bool_())).to_pylist()
        if len(one["probabilities"]) == len(classes)  # a class may have come since
    }
    learned = f"{row['n_train']:,} training images, seed {row['seed']}"
    return Answers(f"answers: {row['head']} on {row['focus']}, {learned}", found)


def _examples(
    context: Context,
    dataset: Dataset,
    stores: Stores,
    config: EmbedConfig,
    chosen: Mapping[str, int],
    answers: Answers,
) -> list[Example]:
    if stores.masks is None or stores.masks.store is None:
        raise ValueError("masks are checked first")
    reader = segmentation.MaskReader(stores.masks.store)
    similarity = _similarity(context, dataset, config)
    examples = []
    for image_id, label in chosen.items():
        image, found = dataset.read(image_id), reader(image_id)
        scores = similarity(image, found) if similarity and len(found) else None
        roi = choose_roi(found, config.roi, size=image.shape[:2], similarity=scores)
        drawn = annotation_paths(dataset.root, dataset.files[image_id], dataset.card)
        example = Example(
            image=image,
            candidates=found.masks,
            roi=roi.mask,
            annotation=read_annotation(drawn, image.shape[:2]) if drawn else None,
            focused=focus(image, roi, config.focus),
            label=dataset.manifest.classes[label],
            answer=answers.found.get(image_id),
        )
        examples.append(example)
    return examples


def _similarity(
    context: Context, dataset: Dataset, config: EmbedConfig
) -> embedding.Similarity | None:
    """What the ROI rule `text` compares with: the only one that needs the encoder again."""
    if config.roi != "text":
        return None
    stores = locate_stores(context, dataset, [config], download=True)
    texts: Store | None = stores.texts.store if stores.texts else None
    if texts is None:
        raise StoreError(
            f"The class prompts have no embeddings. Run: make embed DATASET={context.dataset}"
        )
    encoder = load_encoder(config.encoder, stores.embeddings[0].need_weights(), Runtime())
    return embedding.text_similarity(encoder, class_texts(texts, dataset.card.prompts()))
