"""``medfocus train-offline``: train the models that come with MedFocus anew, on phantoms alone."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from medfocus_pipeline.commands.options import DEFAULT_CACHE, changed
from medfocus_pipeline.commands.output import bar, human, say
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.stores.lock import writing

Options = Mapping[str, object]
"""Settings of a training by name; None leaves one alone."""

HELD_OUT = 50
"""Phantoms of each kind, of another seed, that a trained lite-clip is tried on."""


def run(model: str, *, work: Path | None, options: Options, set_: list[str] | None) -> None:
    """Trains a model, or goes on where the last call in that folder stopped.

    Args:
        model: one of `MODELS`.
        work: folder of everything that is written; None is the model's own in the cache.
        set_: further ``KEY=VALUE`` settings.

    Raises:
        ConfigError: no such model or setting, or the folder has another training.
        StoreError: the folder cannot be written, or another process does so.
        WeightsError: the weights it starts from are missing, or the training diverged.
    """
    if model not in MODELS:
        raise ConfigError(f"No training for {model!r}; choose one of: {', '.join(MODELS)}.")
    folder = work or DEFAULT_CACHE / "training" / model
    started = time.monotonic()
    with work_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with work_errors(folder), writing(folder):
        weights = MODELS[model](folder, options, set_)
    minutes = (time.monotonic() - started) / 60
    say(f"{model}: done, {minutes:.0f} min in this run; log.csv and recipe.json in {folder}")
    say(f"weights: {weights}, {human(weights.stat().st_size)}")
    for line in _USE[model]:
        say(line.format(file=weights, folder=weights.parent))


def _train_sam2_lite(folder: Path, options: Options, set_: list[str] | None) -> Path:
    from medfocus_pipeline.training import sam2_lite

    config = changed(sam2_lite.Sam2LiteTraining(), options, set_)
    with bar("1 of 2, phantoms", config.phantoms) as advance:
        sam2_lite.prepare(config, folder, advance=advance)
    with bar("2 of 2, steps", config.steps) as advance:
        return sam2_lite.train(config, folder, advance=advance)


def _train_lite_clip(folder: Path, options: Options, set_: list[str] | None) -> Path:
    from medfocus_pipeline.training import lite_clip

    config = changed(lite_clip.LiteClipTraining(), options, set_)
    with bar("1 of 2, embedding phantoms", 2 * config.phantoms) as advance:
        lite_clip.prepare(config, folder, advance=advance)
    with bar("2 of 2, steps", config.steps) as advance:
        trained = lite_clip.train(config, folder, advance=advance)
    _try_lite_clip(trained.parent, seed=config.seed + 1)
    return trained


def _try_lite_clip(folder: Path, *, seed: int) -> None:
    from medfocus_pipeline.config import LiteClipConfig, Runtime
    from medfocus_pipeline.datasets.phantoms.phantom import KINDS
    from medfocus_pipeline.encoders import find_weights, load_encoder
    from medfocus_pipeline.training.prompts import zero_shot_accuracy
    from medfocus_pipeline.weights import FileHashes

    chosen = LiteClipConfig(checkpoint=folder)
    weights = find_weights(chosen, FileHashes(), download=False)
    if weights is not None:
        encoder = load_encoder(chosen, weights, Runtime())
        for kind in KINDS:
            right = zero_shot_accuracy(encoder, kind, seed=seed, count=HELD_OUT)
            say(f"zero-shot on {HELD_OUT} other {kind} phantoms: {100 * right:.0f} %")


MODELS: dict[str, Callable[[Path, Options, list[str] | None], Path]] = {
    "sam2-lite": _train_sam2_lite,
    "lite-clip": _train_lite_clip,
}

_USE = {
    "sam2-lite": (
        "measure: python -m tests.bench regions --checkpoint {file}",
        "use: medfocus masks --profile offline --set segmenter.checkpoint={file}",
        "{folder}/features is for training alone: delete it when you are done",
    ),
    "lite-clip": ("use: medfocus embed --profile offline --set encoder.checkpoint={folder}",),
}
"""What to type with the weights of each model."""


@contextmanager
def work_errors(folder: Path) -> Iterator[None]:
    """As `files.disk_errors`, but the place is chosen with another option.

    Raises:
        StoreError: any `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Writing in {folder} failed: {error.strerror or error}. Free some space, or name "
            "another folder with --work; the same command goes on from the last checkpoint."
        ) from error
