"""``medfocus train-offline``: train the models that come with the package, on phantoms."""

import json
from collections.abc import Callable
from pathlib import Path

from medfocus_pipeline.config import Frozen, LiteClipConfig, Runtime
from medfocus_pipeline.datasets.phantoms.phantom import KINDS
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.files import replacing
from medfocus_pipeline.training.lite_clip import LiteClipTraining
from medfocus_pipeline.training.sam2_lite import Sam2LiteTraining
from medfocus_pipeline.training.zero_shot import zero_shot_accuracy
from medfocus_pipeline.weights import FileHashes
from stages.options import changed
from stages.progress import bar, human, say

DEFAULT_WORK = Path("cache") / "training"

HELD_OUT = 50
"""Phantoms of each kind, of another seed, that a trained lite-clip is tried on."""


def run(
    model: str, *, work: Path | None, options: dict[str, object], set_: list[str] | None
) -> int:
    """Trains a model, or goes on where the last call in that folder stopped.

    Args:
        model: one of `MODELS`.
        work: folder of everything that is written; None is the model's own in the cache.
        options: settings of the training by name; None leaves one alone.
        set_: further ``KEY=VALUE`` settings.

    Returns:
        The exit code.

    Raises:
        ConfigError: no such model or setting, or the folder has another training.
        WeightsError: the weights it starts from are missing.
    """
    if model not in MODELS:
        raise ConfigError(f"No training for {model!r}; choose one of: {', '.join(MODELS)}.")
    folder = work or DEFAULT_WORK / model
    weights = MODELS[model](folder, options, set_)
    say(f"{model}: weights in {weights}, {human(weights.stat().st_size)}")
    return 0


def _train_sam2_lite(folder: Path, options: dict[str, object], set_: list[str] | None) -> Path:
    from medfocus_pipeline.training import sam2_lite

    config = changed(Sam2LiteTraining(), options, set_)
    _note(folder / "recipe.json", config)
    with bar("phantoms", config.phantoms) as advance:
        sam2_lite.prepare(config, folder, advance=advance)
    with bar("steps", config.steps) as advance:
        weights = sam2_lite.train(config, folder, advance=advance)
    say("Use it: medfocus masks --size lite --checkpoint " + str(weights))
    return weights


def _train_lite_clip(folder: Path, options: dict[str, object], set_: list[str] | None) -> Path:
    from medfocus_pipeline.training import lite_clip

    config = changed(LiteClipTraining(), options, set_)
    _note(folder / "recipe.json", config)
    with bar("embedding", 2 * config.phantoms) as advance:
        lite_clip.prepare(config, folder, advance=advance)
    with bar("steps", config.steps) as advance:
        trained = lite_clip.train(config, folder, advance=advance)
    chosen = LiteClipConfig(checkpoint=trained.parent)
    weights = find_weights(chosen, FileHashes(), download=False)
    if weights is not None:
        encoder = load_encoder(chosen, weights, Runtime())
        for kind in KINDS:
            right = zero_shot_accuracy(encoder, kind, seed=config.seed + 1, count=HELD_OUT)
            say(f"zero-shot on {HELD_OUT} other {kind} phantoms: {100 * right:.0f} %")
    say(f"Use it: medfocus embed --encoder lite-clip --checkpoint {trained.parent}")
    return trained


def _note(path: Path, config: Frozen) -> None:
    """Writes the recipe beside what is made from it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(config.model_dump(mode="json"), indent=1), encoding="utf-8")


MODELS: dict[str, Callable[[Path, dict[str, object], list[str] | None], Path]] = {
    "sam2-lite": _train_sam2_lite,
    "lite-clip": _train_lite_clip,
}
