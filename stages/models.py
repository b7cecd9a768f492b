"""``medfocus models``: which weights are here, and fetching the others."""

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.table import Table

from medfocus_pipeline import encoders, segmenters
from medfocus_pipeline.config import (
    ClipConfig,
    EfficientNetLiteConfig,
    EncoderConfig,
    LiteClipConfig,
    MedSamConfig,
    Sam2Config,
    SamAdapterConfig,
    SamConfig,
    SegmenterConfig,
    ThresholdConfig,
    TimmConfig,
)
from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.profiles import DEFAULT, load_profile
from medfocus_pipeline.weights import FileHashes, Weights
from stages.options import DEFAULT_CACHE, CacheFolder, DataFolder, DatasetName, ProfileName
from stages.progress import human, out, say
from stages.settings import open_context

app = typer.Typer(help="List and fetch model weights.", no_args_is_help=True)

ModelConfig = SegmenterConfig | EncoderConfig

_SEGMENTERS = (Sam2Config, ThresholdConfig, SamConfig, MedSamConfig, SamAdapterConfig)

_SIZES = get_args(Sam2Config.model_fields["size"].annotation)
_PAPER_TIMM = (
    "resnet50.a1_in1k",
    "res2net50_26w_4s.in1k",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
)
"""The encoders of the paper's other rows, as timm names them."""

_SAMS = ("facebook/sam-vit-base", "facebook/sam-vit-large", "facebook/sam-vit-huge")

KNOWN: tuple[ModelConfig, ...] = (
    *(Sam2Config(size=size) for size in _SIZES),
    *(SamConfig(model=name) for name in _SAMS),
    MedSamConfig(),
    ClipConfig(),
    *(TimmConfig(model=name) for name in _PAPER_TIMM),
    EfficientNetLiteConfig(),
    LiteClipConfig(),
)


@app.command("list", epilog="Example: medfocus models list")
def list_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
) -> None:
    """List the paper's models and those of a data set, and which are on this machine."""
    hashes = FileHashes(cache_ / "weights.json")
    used = [] if dataset is None else _used(dataset, data, cache_, profile)
    others = [config for config in KNOWN if model_id(config) not in map(model_id, used)]
    table = Table("model", "used by", "on this machine", "size", box=None)
    for config in [*used, *others]:
        table.add_row(model_id(config), config.name, *_state(config, hashes))
    out.print(table)
    say("Any other CLIP, SigLIP or timm model: medfocus models pull <id>")


def _state(config: ModelConfig, hashes: FileHashes) -> tuple[str, str]:
    """Revision and size of a model's weights, or why there are none."""
    try:
        weights = find_weights(config, hashes, download=False)
    except WeightsError as error:
        return f"no: {error}", ""
    if weights is None:
        return "no", ""
    size = sum(path.stat().st_size for path in weights.paths.values())
    revision = weights.identity.revision
    return revision[:8] if revision else "installed", human(size)


@app.command("pull", epilog="Example: medfocus models pull facebook/sam2.1-hiera-tiny")
def pull_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Hub ids; the models of the profile if left out."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="The models that this data set uses.")
    ] = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Fetch weights into the Hugging Face cache."""
    hashes = FileHashes(cache_ / "weights.json")
    wanted = [config_of(model, revision) for model in models or ()]
    if dataset is not None:
        wanted += _used(dataset, data, cache_, profile)
    for config in wanted or _of_profile(profile or DEFAULT):
        weights = find_weights(config, hashes, download=True)
        if weights is None:
            raise WeightsError(f"The weights of {model_id(config)} cannot be found.")
        size = human(sum(path.stat().st_size for path in weights.paths.values()))
        say(f"{weights.identity.id}: {weights.identity.revision or 'installed'}, {size}")


def _used(dataset: str, data: Path | None, cache: Path, profile: str | None) -> list[ModelConfig]:
    context = open_context(dataset, data=data, cache=cache, profile=profile)
    return [context.masks.segmenter, context.embed.encoder]


def _of_profile(name: str) -> list[ModelConfig]:
    profile = load_profile(name)
    return [profile.masks.segmenter, profile.embed.encoder]


def config_of(model: str, revision: str | None = None) -> ModelConfig:
    """The configuration that uses a hub model.

    Args:
        model: ``facebook/sam2.1-hiera-tiny``, ``facebook/sam-vit-base``, MedSAM's id,
            ``timm/<name>``, or a CLIP or SigLIP id.

    Raises:
        ConfigError: it is a path, or a SAM that there is no segmenter for.
    """
    if Path(model).exists():
        raise ConfigError(f"{model} is a local folder; give it to --model or --checkpoint.")
    sizes = {model_id(Sam2Config(size=size)): size for size in _SIZES}
    if model in sizes:
        return Sam2Config(size=sizes[model], revision=revision)
    if model in _SAMS:
        return SamConfig(model=model, revision=revision)
    if model == MedSamConfig().model:
        return MedSamConfig(revision=revision)
    if model.startswith("facebook/sam"):
        known = ", ".join([*sizes, *_SAMS])
        raise ConfigError(f"There is no segmenter for {model}. Known: {known}.")
    if model.startswith("timm/"):
        return TimmConfig(model=model.removeprefix("timm/"), revision=revision)
    return ClipConfig(model=model, revision=revision)


def model_id(config: ModelConfig) -> str:
    """Hub id or package of a segmenter's or an encoder's weights."""
    if isinstance(config, _SEGMENTERS):
        return segmenters.model_id(config)
    return encoders.model_id(config)


def find_weights(config: ModelConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """Weights of a segmenter or an encoder; None if they are not here and not fetched."""
    if isinstance(config, _SEGMENTERS):
        return segmenters.find_weights(config, hashes, download=download)
    return encoders.find_weights(config, hashes, download=download)
