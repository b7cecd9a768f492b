"""SAM 2.1: its sizes, where their weights are, and building the model from the sam2 package."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline import efficientnet
from medfocus_pipeline.config import Sam2Config, Sam2Size
from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.sam import sam2_lite
from medfocus_pipeline.tensors import beyond_tensors
from medfocus_pipeline.weights import FileHashes, Weights, hub_weights, local_weights

if TYPE_CHECKING:
    from torch import Tensor

_REMEDY = (
    "Delete it and run `medfocus models pull`, name another checkpoint, or use PROFILE=offline."
)


@dataclass(frozen=True, slots=True)
class _Size:
    """One size of SAM 2.1.

    Attributes:
        config: the model's YAML inside the sam2 package, or an absolute path.
        repo: its hub id; without a slash, it is on no hub.
        file: the checkpoint there.
        min_score, min_stability: least predicted IoU and stability of a candidate where the
            configuration names none.
        remedy: what to do about a corrupt checkpoint.
        side: of the square image that it takes, in pixels; None is as the YAML says.
        bicubic: images are squeezed as `sam_pixels.normalised` describes it.
    """

    config: str
    repo: str
    file: str
    min_score: float = 0.6
    min_stability: float = 0.8
    remedy: str = _REMEDY
    side: int | None = None
    bicubic: bool = False


def _hiera(letters: str, name: str) -> _Size:
    """A size that Meta published."""
    return _Size(
        f"configs/sam2.1/sam2.1_hiera_{letters}.yaml",
        f"facebook/sam2.1-hiera-{name.replace('_', '-')}",
        f"sam2.1_hiera_{name}.pt",
    )


_SIZES: dict[Sam2Size, _Size] = {
    "lite": _Size(
        str(sam2_lite.CONFIG),
        sam2_lite.ID,
        sam2_lite.TRAINED.name,
        min_score=0.3,
        min_stability=0.5,
        remedy=sam2_lite.REMEDY,
    ),
    "tiny": _hiera("t", "tiny"),
    "small": _hiera("s", "small"),
    "base_plus": _hiera("b+", "base_plus"),
    "large": _hiera("l", "large"),
    # bowang-lab/MedSAM2, sam2/configs/sam2.1_hiera_t512.yaml: beside the image size only the
    # starting grid of the memory's position encoding differs, which has no weights.
    "medsam2": _Size(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        "wanglab/MedSAM2",
        "MedSAM2_latest.pt",
        side=512,
        bicubic=True,
    ),
}


PARAMETERS: dict[Sam2Size, float] = {
    "tiny": 38.9,
    "small": 46.0,
    "base_plus": 80.8,
    "large": 224.4,
}
"""Millions, as the authors give them, of all that is downloaded."""


def size_of(model: str) -> Sam2Size | None:
    """The size that has this hub id (or plain name, on no hub); None if it is no SAM 2."""
    return next((size for size, known in _SIZES.items() if known.repo == model), None)


def is_bicubic(size: Sam2Size) -> bool:
    """Whether that size was trained on images that were squeezed by Pillow's bicubic filter."""
    return _SIZES[size].bicubic


def model_id(config: Sam2Config) -> str:
    """Hub id of the weights, or the plain name of a local checkpoint's architecture."""
    repo = _SIZES[config.size].repo
    return repo if config.checkpoint is None else repo.rpartition("/")[2]


def settled(config: Sam2Config) -> Sam2Config:
    """The configuration with the size's own limits where it names none."""
    size = _SIZES[config.size]
    limits = {
        "min_score": size.min_score if config.min_score is None else config.min_score,
        "min_stability": (
            size.min_stability if config.min_stability is None else config.min_stability
        ),
    }
    return config.model_copy(update=limits)


def find_weights(config: Sam2Config, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The checkpoint of `config`: the local one it names, else the hub's or the package's.

    Returns:
        The weights; None if they are not cached and `download` is False.

    Raises:
        WeightsError: a local file is missing, or the hub's cannot be fetched.
    """
    if config.size == "lite":
        return sam2_lite.find_weights(config.checkpoint, hashes)
    name = model_id(config)
    if config.checkpoint is not None:
        return local_weights(name, {sam2_lite.CHECKPOINT: config.checkpoint}, hashes=hashes)
    files = [_SIZES[config.size].file]
    return hub_weights(name, files, revision=config.revision, hashes=hashes, download=download)


def load_model(config: Sam2Config, weights: Weights) -> Any:
    """A `SAM2Base` with its weights, in evaluation mode on the CPU.

    Raises:
        ConfigError: the sam2 package is not there.
        WeightsError: the checkpoint is corrupt or of another size.
    """
    model = build_model(_config_file(config.size), side=_SIZES[config.size].side)
    if config.size == "lite":
        sam2_lite.load_trunk(model, weights.paths[efficientnet.FILE])
    checkpoint, *_ = weights.paths.values()
    remedy = _SIZES[config.size].remedy
    load_checkpoint(model, checkpoint, name=weights.identity.id, remedy=remedy)
    return model


def _config_file(size: Sam2Size) -> Path:
    """The YAML of a size's model, of the sam2 package or of ours, which needs the former."""
    try:
        import sam2
    except ModuleNotFoundError as error:
        raise ConfigError(
            "SAM 2 needs the sam2 package, which is not installed. Run "
            "`pip install --no-build-isolation sam2`, or use PROFILE=imagenet."
        ) from error
    return Path(sam2.__path__[0]) / _SIZES[size].config


def random_model(size: Sam2Size, *, seed: int) -> Any:
    """A `SAM2Base` of one of the sizes with random weights, for benchmarks and tests.

    Args:
        size: as in `Sam2Config`.
        seed: the same seed gives the same weights; torch's global state is left as it was.

    Raises:
        ConfigError: the sam2 package is not there.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model(_config_file(size), side=_SIZES[size].side)


def build_model(config: Path, *, side: int | None = None) -> Any:
    """A `SAM2Base` with random weights, in evaluation mode on the CPU.

    Args:
        config: a YAML of the sam2 package's form, with the model under ``model``. It names the
            classes that are called, so it must be one that the project or the package ships.
        side: of the image that it takes instead of the YAML's, in pixels.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    settings = OmegaConf.load(config)
    OmegaConf.resolve(settings)
    if side is not None:
        settings.model.image_size = side
    return instantiate(settings.model).eval()


def load_checkpoint(model: Any, checkpoint: Path, *, name: str, remedy: str = _REMEDY) -> None:
    """Puts a checkpoint's weights into a model; those that are frozen need not be in it.

    Args:
        model: the `SAM2Base` that they must fit.
        checkpoint: ``.safetensors``, or what ``torch.save({"model": state_dict})`` wrote.
        name: what the weights should be, for the message.
        remedy: what to do about a corrupt file, for the message.

    Raises:
        WeightsError: the file is corrupt, not a checkpoint, or of another model.
    """
    state = _read_state(checkpoint, remedy)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:  # other shapes, or no tensors
        raise WeightsError(_mismatch(checkpoint, name, "shapes differ")) from error
    frozen = {weight for weight, tensor in model.named_parameters() if not tensor.requires_grad}
    missing = set(missing) - frozen
    if missing or unexpected:
        found = f"{len(missing)} weights are missing and {len(unexpected)} are unknown"
        raise WeightsError(_mismatch(checkpoint, name, found))


def _read_state(checkpoint: Path, remedy: str) -> "dict[str, Tensor]":
    import torch
    from safetensors.torch import load_file

    try:
        if checkpoint.suffix == ".safetensors":
            return load_file(checkpoint)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
        return dict(state)
    except MemoryError:
        raise
    except Exception as error:
        if beyond := beyond_tensors([checkpoint], error):
            raise WeightsError(
                f"Checkpoint {checkpoint}: {beyond}, and MedFocus takes nothing but tensors out of "
                f"such a file. {remedy}"
            ) from error
        # The resolved path: in the hub's cache, deleting a link alone would bring it back.
        raise WeightsError(
            f"Checkpoint {checkpoint.resolve()} cannot be read: it is corrupt, or not a SAM 2 "
            f"checkpoint ({type(error).__name__}). {remedy}"
        ) from error


def _mismatch(checkpoint: Path, name: str, found: str) -> str:
    return (
        f"Checkpoint {checkpoint} is of another model than {name}: {found}. Set `size` to the "
        f"checkpoint's own (one of {', '.join(_SIZES)}) or name a checkpoint of {name}."
    )
