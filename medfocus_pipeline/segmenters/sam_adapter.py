"""SAM-Adapter as a segmenter, and the file that its training writes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from medfocus_pipeline.config import Frozen, MasksConfig, Runtime, SamAdapterConfig
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.masks.candidates import Limits, select, stability
from medfocus_pipeline.sam.sam_model import PACE, find_sam, image_size, load_sam
from medfocus_pipeline.sam.sam_pixels import WHOLE, in_frame, normalised
from medfocus_pipeline.segmenters.sam_adapter_layers import AdaptedSam, adapter_layers
from medfocus_pipeline.tensors import tensors_sha256
from medfocus_pipeline.types import Candidates, FloatArray, Image, ModelIdentity
from medfocus_pipeline.weight_files import write_tensors
from medfocus_pipeline.weights import FileHashes, Weights, local_folder, local_weights

ID = "sam-adapter"

ADAPTER = "adapter"
"""Name of the trained file in the identity: renaming the file changes no numbers."""

_METADATA = "medfocus.sam_adapter"
_REMEDY = "Name a file that `medfocus train-adapter` wrote: --set segmenter.adapter=FILE."


class AdapterMetadata(Frozen):
    """What an adapter's file says about it, as JSON in the safetensors metadata.

    Attributes:
        base: hub id of the SAM that it was trained on, or the name of its folder.
        base_sha256: of that SAM's tensors.
        reduction, low_frequencies: see `sam_adapter_layers`.
        trained: how, for the record.
    """

    base: str
    base_sha256: str
    reduction: int = Field(ge=1)
    low_frequencies: float = Field(ge=0, lt=1)
    trained: dict[str, Any] = Field(default_factory=dict)


def save_adapter(path: Path, sam: AdaptedSam, metadata: AdapterMetadata) -> None:
    """Writes adapters and mask decoder, float32, as safetensors; whole or not at all.

    Raises:
        WeightsError: a weight is not finite.
    """
    tensors = {
        name: tensor.detach().float().cpu().contiguous() for name, tensor in sam.trained().items()
    }
    write_tensors(path, tensors, {_METADATA: metadata.model_dump_json()})


def read_metadata(path: Path) -> AdapterMetadata:
    """What an adapter's file says about it.

    Raises:
        WeightsError: the file is missing, damaged or no adapter.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"There is no adapter {path}. {_REMEDY}")
    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {})[_METADATA])
        return AdapterMetadata.model_validate(said)
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} is damaged, or no adapter of SAM ({type(error).__name__}). {_REMEDY}"
        ) from error


def find_weights(config: SamAdapterConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The adapter, and the SAM that it was trained on.

    Returns:
        Both; None if the SAM is not cached and `download` is False.

    Raises:
        WeightsError: the adapter is missing or damaged, the SAM is another one, or it cannot be
            fetched.
    """
    metadata = read_metadata(config.adapter)
    model = config.model or metadata.base
    if config.model is None and "/" not in model and local_folder(model) is None:
        raise WeightsError(
            f"The adapter {config.adapter} was trained on a SAM in a folder {model!r}, which is "
            "no hub id. Say where it is: --set segmenter.model=FOLDER."
        )
    base = find_sam(model, config.revision, hashes, download=download)
    if base is None:
        return None
    found = tensors_sha256(base.identity.files)
    if found != metadata.base_sha256:
        raise WeightsError(
            f"The adapter {config.adapter} was trained on {metadata.base} with the SHA-256 "
            f"{metadata.base_sha256[:12]}…; {model} has {found[:12]}…. Name that SAM: "
            "--set segmenter.model=FOLDER_OR_ID, or its commit: --set segmenter.revision=…."
        )
    own = local_weights(ID, {ADAPTER: config.adapter}, hashes=hashes)
    identity = ModelIdentity(
        ID, base.identity.revision, {**own.identity.files, **base.identity.files}
    )
    return Weights(identity, {**base.paths, **own.paths})


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> "SamAdapterSegmenter":
    """SAM with its adapter, on its device.

    Raises:
        ConfigError: the device is not there.
        WeightsError: a file is corrupt, or they do not fit together.
    """
    config = masks.segmenter_of(SamAdapterConfig)
    sam = load_adapter(weights, device=resolve_device(runtime.device))
    return SamAdapterSegmenter(sam, config, max_candidates=masks.max_candidates, frame=masks.frame)


def load_adapter(weights: Weights, *, device: str) -> AdaptedSam:
    """The adapted SAM of `find_weights`, in evaluation mode.

    Raises:
        WeightsError: a file is corrupt, or they do not fit together.
    """
    from safetensors.torch import load_file

    path = weights.paths[ADAPTER]
    metadata = read_metadata(path)
    sam = new_adapted(
        load_sam(weights),
        reduction=metadata.reduction,
        low_frequencies=metadata.low_frequencies,
        seed=0,
    )
    try:
        put_tensors(sam, load_file(path))
    except MemoryError:
        raise
    except Exception as error:
        raise WeightsError(
            f"The adapter {path} does not fit {metadata.base} ({type(error).__name__}). {_REMEDY}"
        ) from error
    sam.model.to(device)
    sam.layers.to(device)
    return sam


def new_adapted(model: Any, *, reduction: int, low_frequencies: float, seed: int) -> AdaptedSam:
    """A SAM with new adapters, which still change nothing; see `adapter_layers`."""
    layers = adapter_layers(model, reduction=reduction, seed=seed)
    return AdaptedSam(model, layers.eval(), low_frequencies)


def put_tensors(sam: AdaptedSam, tensors: Any) -> None:
    """Replaces what is trained.

    Args:
        sam: changed in place.
        tensors: name -> tensor, as `AdaptedSam.trained` names them.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape.
    """
    import torch

    own = sam.trained()
    wrong = own.keys() ^ tensors.keys()
    wrong |= {name for name in own.keys() - wrong if own[name].shape != tensors[name].shape}
    if wrong:
        raise ValueError(f"{len(wrong)} tensors do not fit, such as {min(wrong)}")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(tensors[name])


@dataclass(frozen=True, slots=True)
class SamAdapterSegmenter:
    """The one mask that the training taught; see `Segmenter` for the contract.

    There are no prompts that could disagree, so its support is 1.

    Attributes:
        sam: in evaluation mode, on its device.
        config: the limits; the files play no part.
        max_candidates: K, of which one is used.
        frame: S, side of the masks' square frame, in pixels.
    """

    sam: AdaptedSam
    config: SamAdapterConfig
    max_candidates: int
    frame: int

    @property
    def batch_size(self) -> int:
        """Images encoded together when the user names no number."""
        return PACE[self.sam.model.device.type]

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        import torch

        if not images:
            return []
        model = self.sam.model
        device = model.device.type
        with torch.inference_mode():
            pixels = normalised(images, side=image_size(model), device=device)
            with autocast(device, self.config.precision):
                logits, scores = self.sam.answer(pixels)
            drawings = in_frame(logits, WHOLE, frame=self.frame).cpu().numpy()
        return [
            self._candidates(drawings[index : index + 1], scores[index : index + 1], image)
            for index, image in enumerate(images)
        ]

    def _candidates(self, drawing: FloatArray, score: Any, image: Image) -> Candidates:
        """Of one image, from logits ``(1, S, S)``."""
        return select(
            drawing > 0,
            score.clamp(0, 1).cpu().numpy(),
            stability(drawing, offset=self.config.stability_offset),
            image=image,
            limits=Limits(min_area=self.config.min_area, max_area=self.config.max_area),
            max_candidates=self.max_candidates,
        )
