"""SAM 2.1 (Ravi et al. 2024), prompted with a grid of single points.

Every point gives three masks, of a part, a whole and something between. They are judged and
compared at a quarter of the model's image size and never brought to the image's own.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import MasksConfig, Runtime, Sam2Config
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.masks.candidates import select, stability
from medfocus_pipeline.types import Candidates, FloatArray, Image
from medfocus_pipeline.weights import FileHashes, Weights, hub_weights, local_weights

if TYPE_CHECKING:
    from torch import Tensor

_CHECKPOINT = "checkpoint"
"""Name of a local checkpoint in its identity: renaming the file changes no numbers."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class _Size:
    """One size of SAM 2.1.

    Attributes:
        config: the model's YAML inside the sam2 package.
        repo: its hub id.
        file: the checkpoint on the hub.
    """

    config: str
    repo: str
    file: str


_SIZES = {
    "tiny": _Size(
        "configs/sam2.1/sam2.1_hiera_t.yaml", "facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt"
    ),
    "small": _Size(
        "configs/sam2.1/sam2.1_hiera_s.yaml",
        "facebook/sam2.1-hiera-small",
        "sam2.1_hiera_small.pt",
    ),
    "base_plus": _Size(
        "configs/sam2.1/sam2.1_hiera_b+.yaml",
        "facebook/sam2.1-hiera-base-plus",
        "sam2.1_hiera_base_plus.pt",
    ),
    "large": _Size(
        "configs/sam2.1/sam2.1_hiera_l.yaml",
        "facebook/sam2.1-hiera-large",
        "sam2.1_hiera_large.pt",
    ),
}


@dataclass(frozen=True, slots=True)
class _Pace:
    """How much a device takes at once, measured on a CPU, a guess elsewhere.

    Attributes:
        images: images encoded together.
        tokens: image tokens decoded together: those of one image times the prompts.
    """

    images: int
    tokens: int


_PACE = {
    "cpu": _Pace(images=1, tokens=2**14),
    "cuda": _Pace(images=8, tokens=2**18),
    "mps": _Pace(images=2, tokens=2**16),
}


def model_id(config: Sam2Config) -> str:
    """Hub id of the weights, or the plain name of a local checkpoint's architecture."""
    repo = _SIZES[config.size].repo
    return repo if config.checkpoint is None else repo.rpartition("/")[2]


def find_weights(config: Sam2Config, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The checkpoint of `config`: the local one it names, else the hub's.

    Returns:
        The weights; None if they are not cached and `download` is False.

    Raises:
        WeightsError: the local file is missing, or the hub's cannot be fetched.
    """
    name = model_id(config)
    if config.checkpoint is not None:
        return local_weights(name, {_CHECKPOINT: config.checkpoint}, hashes=hashes)
    files = [_SIZES[config.size].file]
    return hub_weights(name, files, revision=config.revision, hashes=hashes, download=download)


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> "Sam2Segmenter":
    """SAM 2.1 with its weights, on its device.

    Raises:
        ConfigError: the sam2 package or the device is not there.
        WeightsError: the checkpoint is corrupt or of another size.
    """
    config = masks.segmenter
    if not isinstance(config, Sam2Config):
        raise TypeError(f"Expected the configuration of sam2, got that of {config.name}.")
    (checkpoint,) = weights.paths.values()
    model = build_model(_package_file(_SIZES[config.size].config))
    load_checkpoint(model, checkpoint, name=weights.identity.id)
    return Sam2Segmenter(
        model.to(resolve_device(runtime.device)),
        config,
        max_candidates=masks.max_candidates,
        frame=masks.frame,
        compile_encoder=runtime.compile,
    )


def _package_file(name: str) -> Path:
    """Path of a file of the sam2 package."""
    try:
        import sam2
    except ModuleNotFoundError as error:
        raise ConfigError(
            "The segmenter sam2 needs the sam2 package, which is not installed. Run "
            "`pip install --no-build-isolation sam2`, or use PROFILE=offline."
        ) from error
    return Path(sam2.__path__[0]) / name


def random_model(size: str, *, seed: int) -> Any:
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
        return build_model(_package_file(_SIZES[size].config))


def build_model(config: Path) -> Any:
    """A `SAM2Base` with random weights, in evaluation mode on the CPU.

    Args:
        config: a YAML of the sam2 package's form, with the model under ``model``. It names the
            classes that are called, so it must be one that the project or the package ships.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    settings = OmegaConf.load(config)
    OmegaConf.resolve(settings)
    return instantiate(settings.model).eval()


def load_checkpoint(model: Any, checkpoint: Path, *, name: str) -> None:
    """Puts a checkpoint's weights into a model.

    Args:
        model: the `SAM2Base` that they must fit.
        checkpoint: ``.safetensors``, or what ``torch.save({"model": state_dict})`` wrote.
        name: what the weights should be, for the message.

    Raises:
        WeightsError: the file is corrupt, not a checkpoint, or of another model.
    """
    state = _read_state(checkpoint)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # the shapes differ
        raise WeightsError(_mismatch(checkpoint, name, "shapes differ")) from error
    if missing or unexpected:
        found = f"{len(missing)} weights are missing and {len(unexpected)} are unknown"
        raise WeightsError(_mismatch(checkpoint, name, found))


def _read_state(checkpoint: Path) -> "dict[str, Tensor]":
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if checkpoint.suffix == ".safetensors":
            return load_file(checkpoint)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
        return dict(state)
    except (
        *(OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError),
        *(pickle.UnpicklingError, SafetensorError),
    ) as error:
        raise WeightsError(
            f"Checkpoint {checkpoint} cannot be read: it is corrupt, or not a SAM 2 checkpoint "
            f"({type(error).__name__}). Delete it and run `medfocus models pull sam2`, name "
            "another, or use PROFILE=offline."
        ) from error


def _mismatch(checkpoint: Path, name: str, found: str) -> str:
    return (
        f"Checkpoint {checkpoint} is of another model than {name}: {found}. Set `size` to the "
        f"checkpoint's own (one of {', '.join(_SIZES)}) or name a checkpoint of {name}."
    )


class Sam2Segmenter:
    """Candidates from a grid of point prompts; see `Segmenter` for the contract.

    Args:
        model: a `SAM2Base` of any image size, in evaluation mode, on its device.
        config: the grid and the limits; `size`, `checkpoint` and `revision` play no part.
        max_candidates: K.
        frame: S, side of the masks' square frame, in pixels.
        compile_encoder: `torch.compile` the image encoder.
    """

    def __init__(
        self,
        model: Any,
        config: Sam2Config,
        *,
        max_candidates: int,
        frame: int,
        compile_encoder: bool = False,
    ) -> None:
        import torch

        from medfocus_pipeline.segmenters.sam2_decoder import PromptDecoder

        self._model = model
        self._config = config
        self._max_candidates = max_candidates
        self._frame = frame
        self._pace = _PACE[model.device.type]
        if compile_encoder:
            model.image_encoder.compile()
        with torch.inference_mode():
            dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
            self._decoder = PromptDecoder(model, dtype=dtype)
            self._prompts = self._embed_grid()

    @property
    def batch_size(self) -> int:
        """Images encoded together when the user names no number."""
        return self._pace.images

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        import torch

        if not images:
            return []
        with torch.inference_mode():
            levels = self._encode(images)
            return [
                self._candidates([level[index] for level in levels], size=image.shape[:2])
                for index, image in enumerate(images)
            ]

    def _embed_grid(self) -> "Tensor":
        """``(p, t, c)``, prompts at the centres of the grid's cells, the same for every image."""
        import torch

        model, side = self._model, self._config.points_per_side
        line = (torch.arange(side, device=model.device) + 0.5) / side * model.image_size
        points = torch.cartesian_prod(line, line).flip(-1).unsqueeze(1)
        labels = torch.ones(points.shape[:2], dtype=torch.int, device=model.device)
        prompts: Tensor = model.sam_prompt_encoder((points, labels), boxes=None, masks=None)[0]
        return prompts

    def _encode(self, images: Sequence[Image]) -> "list[Tensor]":
        """Feature maps of a batch, fine to coarse: ``(n, c', g', g')`` each."""
        import torch

        model = self._model
        batch = torch.stack([self._pixels(image) for image in images])
        with self._autocast():
            quarter, half, whole = model.forward_image(batch)["backbone_fpn"][-3:]
        if model.directly_add_no_mem_embed:
            whole = whole + model.no_mem_embed.view(1, -1, 1, 1)
        return [quarter, half, whole]

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self._model.device.type, self._config.precision)

    def _pixels(self, image: Image) -> "Tensor":
        """``(3, s, s) float32``, squeezed to the model's size and normalised, as `sam2` does."""
        import torch
        from torch.nn import functional

        device, side = self._model.device, self._model.image_size
        writable = np.require(image, np.uint8, ["C", "W"])  # torch warns of anything else
        pixels = torch.from_numpy(writable).to(device).permute(2, 0, 1).float() / 255
        if pixels.shape[1:] != (side, side):
            pixels = functional.interpolate(
                pixels[None], size=(side, side), mode="bilinear", antialias=True
            )[0]
        mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (_MEAN, _STD))
        return (pixels - mean) / std

    def _candidates(self, levels: "list[Tensor]", *, size: tuple[int, int]) -> Candidates:
        """The best masks of one image from its feature maps."""
        config = self._config
        masks, scores, stabilities = [], [], []
        for logits, score in self._decode(levels):
            masks.append(logits > 0)
            scores.append(score)
            stabilities.append(stability(logits, offset=config.stability_offset))
        return select(
            np.concatenate(masks),
            np.concatenate(scores),
            np.concatenate(stabilities),
            size=size,
            min_score=config.min_score,
            min_stability=config.min_stability,
            min_area=config.min_area,
            max_area=config.max_area,
            duplicate_iou=config.duplicate_iou,
            max_candidates=self._max_candidates,
        )

    def _decode(self, levels: "list[Tensor]") -> Iterator[tuple[FloatArray, FloatArray]]:
        """Logits ``(m, S, S)`` and scores ``(m,)`` of the masks with a good enough score."""
        import torch
        from torch.nn import functional

        image = self._decoder.image_tokens(levels)
        chunk = max(1, self._pace.tokens // len(image.tokens))
        for prompts in torch.split(self._prompts, chunk):
            sketches = self._decoder.attend(image, prompts)
            good = sketches.score >= self._config.min_score
            drawn = good.any(dim=1)
            logits = self._decoder.draw(image, sketches[drawn])[good[drawn]]
            if logits.shape[-1] != self._frame:
                frame = (self._frame, self._frame)
                logits = functional.interpolate(logits[:, None], size=frame, mode="bilinear")[:, 0]
            yield logits.cpu().numpy(), sketches.score[good].cpu().numpy()
