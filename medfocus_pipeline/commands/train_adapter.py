"""``medfocus train-adapter``: teach a SAM what a data set's annotations outline."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from medfocus_pipeline.commands.options import changed
from medfocus_pipeline.commands.output import bar, human, say
from medfocus_pipeline.commands.scan import open_dataset
from medfocus_pipeline.commands.train_offline import work_errors
from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.errors import DataError, WeightsError
from medfocus_pipeline.project.dataset import Dataset, split_of
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.sam.sam_model import find_sam
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.training import sam_adapter
from medfocus_pipeline.training.sam_adapter import SamAdapterTraining
from medfocus_pipeline.training.sam_adapter_data import Example
from medfocus_pipeline.weights import Weights, local_folder


def run(
    context: Context,
    *,
    work: Path | None,
    options: Mapping[str, object],
    set_: list[str] | None,
) -> None:
    """Trains an adapter, or goes on where the last call in that folder stopped.

    Args:
        work: folder of everything that is written; None is one in the cache.
        options: settings of the training by name; None leaves one alone.
        set_: further ``KEY=VALUE`` settings.

    Raises:
        ConfigError: no such setting, or the folder has another training.
        DataError: the data set has no annotated training images, or too few.
        StoreError: the folder cannot be written, or another process does so.
        WeightsError: the SAM cannot be had, or the training diverged.
    """
    if work is None:
        context.need_folder("train-adapter")
    config = changed(SamAdapterTraining(), options, set_)
    dataset = open_dataset(context)
    context.remember(card=dataset.card_path)
    examples = _examples(context, dataset)
    weights = _weights(context, config)
    folder = work or default_adapter(context).parent
    started = time.monotonic()
    with (
        work_errors(folder),
        writing(folder),
        bar("training the adapter", config.steps) as advance,
    ):
        done = sam_adapter.train(config, examples, weights, folder, advance=advance)
    minutes = (time.monotonic() - started) / 60
    say(f"{config.steps:,} steps, {minutes:.1f} min in this run; {sam_adapter.LOG} in {folder}")
    say(
        f"mean IoU on {done.held_out:,} held-out training images: {done.before:.3f} untrained, "
        f"{done.after:.3f} trained on {done.images:,} others (no test image was read)"
    )
    say(f"adapter: {done.adapter}, {human(done.adapter.stat().st_size)}")
    say(f"use: {_next(context, config, done.adapter)}")


def default_adapter(context: Context) -> Path:
    """Where the adapter of a data set is, if its training was given no folder."""
    return context.cache / "training" / f"sam-adapter-{context.dataset}" / sam_adapter.ADAPTER


def _examples(context: Context, dataset: Dataset) -> list[Example]:
    """The training images with an outline, each file's bytes once, none that also tests.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    manifest = dataset.manifest
    split = split_of(dataset, context.probe)
    ids, paths, groups = manifest.image_ids, manifest.paths, manifest.strings("group")
    tested = {ids[row] for row in split.test}
    rows = {ids[row]: row for row in split.train.tolist() if ids[row] not in tested}
    files, found = AnnotationFiles(dataset.root, dataset.card), []
    with bar("reading the annotations", len(rows)) as advance:
        for image_id, row in rows.items():
            advance(1)
            masks = files.of(paths[row])
            if any(read_image(mask).any() for mask in masks):
                image = dataset.root / paths[row]
                found.append(Example(image_id, groups[row], image, tuple(masks)))
    if not found:
        raise DataError(
            f"None of the {len(rows):,} training images of {context.dataset} in {context.data} has "
            "an annotation: the data set's card says where they are (annotation, see "
            "data/README.md), and one of them must not be black. breast has some."
        )
    return found


def _weights(context: Context, config: SamAdapterTraining) -> Weights:
    weights = find_sam(config.model, config.revision, context.hashes(), download=True)
    if weights is None:
        raise WeightsError(
            f"The weights of {config.model} cannot be found. Name a SAM: --model ID or FOLDER."
        )
    return weights


def _next(context: Context, config: SamAdapterTraining, adapter: Path) -> str:
    """What to type to use an adapter; the SAM in a folder must be named too."""
    words = ["medfocus", "masks", context.dataset, "--segmenter", "sam_adapter"]
    words += ["--set", f"segmenter.adapter={adapter}"]
    folder = local_folder(config.model)
    if folder is not None:
        words += ["--set", f"segmenter.model={folder}"]
    elif config.revision is not None:
        words += ["--set", f"segmenter.revision={config.revision}"]
    return shlex.join(words)
