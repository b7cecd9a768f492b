"""``medfocus figure``: one picture of what MedFocus did with a few images."""

from collections.abc import Collection
from pathlib import Path

from medfocus_pipeline.commands.output import bar, say
from medfocus_pipeline.commands.status import used_stores
from medfocus_pipeline.errors import ConfigError, counted
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.regions import Region, open_regions, shown_embedding
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import check_masks
from medfocus_pipeline.report.sampling import in_turn
from medfocus_pipeline.report.sheet import Answer, Example, draw_sheet, is_ours, write_png
from medfocus_pipeline.stores.store import Store

_NOTHING = "no answers yet: make probe"


def run(context: Context, *, count: int, path: Path | None) -> None:
    """Draw what was done with a few test images.

    Args:
        path: of the PNG; None is ``figure.png`` in the data set's part of the cache.

    Raises:
        ConfigError: `path` does not end in ``.png``.
        StoreError: masks or embeddings are missing, or the disk is full.
    """
    target = path or context.folder / "figure.png"
    if target.suffix.lower() != ".png":
        raise ConfigError(f"--out {target}: expected a name that ends in .png.")
    if path is not None and path.exists() and not is_ours(path):
        raise ConfigError(
            f"--out {path}: there is a file already that MedFocus did not write. Name another one."
        )
    project = Project.of(context, images_needed=True, progress=bar)
    dataset = project.dataset
    stores = used_stores(project)
    check_masks(context, stores)
    config, embedded = shown_embedding(context, dataset, stores)
    source, answers = _answers(context, dataset, embedded)
    chosen = choose_images(dataset, count=count, tested=answers)
    regions = open_regions(context, dataset, project.masks.store, config)
    classes = dataset.manifest.classes
    examples = [
        _example(regions.read(image_id), classes[label], answers.get(image_id))
        for image_id, label in chosen.items()
    ]
    sheet = draw_sheet(examples, rule=config.roi, focus=config.focus, source=source)
    write_png(sheet, target)
    say(f"figure: {counted(len(examples), 'image')}, {source}")
    say(f"picture: {target}")


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
    return {id_: label_of[id_] for id_ in in_turn(label_of, count)}


def _answers(context: Context, dataset: Dataset, embedded: Store) -> tuple[str, dict[str, Answer]]:
    """The run with the most labels, the first seed and, among such, the last head.

    Returns:
        What it is, in words, and what it said of its test images, by their ids.
    """
    folder = context.folder / "results"
    rows = results.read(folder).to_pylist()
    runs = [row for row in rows if embedded.key in row["embedding_keys"].split(",")]
    if not runs:
        return _NOTHING, {}
    row = max(reversed(runs), key=lambda one: (one["n_train"], -one["seed"]))
    classes = dataset.manifest.classes
    found = {
        one["image_id"]: Answer(classes[one["predicted"]], one["probabilities"][one["predicted"]])
        for one in results.predictions_of(folder, row["run_key"])
        if len(one["probabilities"]) == len(classes)  # a class may have come since
    }
    learned = f"{row['n_train']:,} training images, seed {row['seed']}"
    return f"answers: {row['head']} on {row['focus']}, {learned}", found


def _example(region: Region, label: str, answer: Answer | None) -> Example:
    return Example(
        image=region.image,
        candidates=region.candidates.masks,
        roi=region.roi.mask,
        annotation=region.annotation,
        focused=region.focused,
        label=label,
        answer=answer,
    )
