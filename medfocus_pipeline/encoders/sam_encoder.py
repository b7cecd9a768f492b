"""The image encoders of SAM, MedSAM, SAM 2.1 and sam2-lite: what they see, without any prompt."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import Runtime, Sam2Config, SamEncoderConfig
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.image_model import Maps, image_model, in_grey_levels
from medfocus_pipeline.encoders.pooling import level_indices
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.sam import sam2
from medfocus_pipeline.sam.sam_model import find_sam, image_size, load_sam
from medfocus_pipeline.sam.sam_pixels import MEAN, STD, bicubic_picture, bicubic_square, spread
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes, Weights
from medfocus_pipeline.zoo import hub_label

if TYPE_CHECKING:
    import torch

    from medfocus_pipeline.encoders.image_model import Forward

_BATCH_SIZE = {"cpu": 4, "mps": 4, "cuda": 16}


def find_sam_encoder(
    config: SamEncoderConfig, hashes: FileHashes, *, download: bool
) -> Weights | None:
    """The files of the whole SAM, as the segmenters have them.

    Raises:
        WeightsError: the folder lacks a file, or the hub's files cannot be had.
    """
    second = _sam2(config)
    if second is not None:
        return sam2.find_weights(second, hashes, download=download)
    return find_sam(config.model, config.revision, hashes, download=download)


def load_sam_encoder(config: SamEncoderConfig, weights: Weights, runtime: Runtime) -> ImageTower:
    """Build the model from local files alone, and drop all but its image encoder.

    `pooled` is the mean over space of the image embedding that the prompts are answered from;
    the tokens are its cells. Levels are maps of a SAM's transformer blocks, and of the stages of
    a SAM 2's trunk.

    Raises:
        ConfigError: the sam2 package or the device is not there.
        WeightsError: the files are of another model, or are corrupt.
    """
    import torch

    second = _sam2(config)
    device = resolve_device(runtime.device)
    if second is not None:
        model = sam2.load_model(second, weights).to(device)
        side, forward, network = model.image_size, _forward_of_sam2(model), model.image_encoder
    else:
        model = load_sam(weights).to(device)
        network = model.vision_encoder
        side, forward = image_size(model), _forward_of_sam(network)
    if _is_medsam(config):
        resize, normalisation = bicubic_square, (torch.zeros(3), torch.ones(3))
        forward = partial(_spread_first, forward)
    else:
        bicubic = second is not None and sam2.is_bicubic(second.size)
        resize = bicubic_picture if bicubic else _bilinear_square
        normalisation = in_grey_levels(MEAN, STD)
    image = image_model(
        partial(resize, side=side),
        normalisation,
        forward,
        network,
        precision=config.precision,
        runtime=runtime,
        batch_sizes=_BATCH_SIZE,
    )
    return ImageTower(image)


def _sam2(config: SamEncoderConfig) -> Sam2Config | None:
    """The SAM 2 that is meant; None if it is a first SAM."""
    size = sam2.size_of(config.model)
    return None if size is None else Sam2Config(size=size, revision=config.revision)


def _is_medsam(config: SamEncoderConfig) -> bool:
    if config.pixels is None:
        # "medsam2" is a SAM 2, whose mean and deviation it keeps.
        return _sam2(config) is None and hub_label(config).startswith("medsam")
    return config.pixels == "medsam"


def _bilinear_square(image: Image, side: int) -> Image:
    """``(side, side, 3) uint8``, as Pillow and torchvision resize for SAM and SAM 2."""
    from PIL import Image as Pillow

    picture = Pillow.fromarray(image).resize((side, side), Pillow.Resampling.BILINEAR)
    return np.asarray(picture)


def _spread_first(forward: "Forward", pixels: "torch.Tensor") -> Maps:
    return forward(spread(pixels))


def _forward_of_sam(encoder: Any) -> "Forward":
    def forward(pixels: "torch.Tensor") -> Maps:
        output = encoder(pixels, output_hidden_states=True)
        last = output.last_hidden_state
        depth = encoder.config.num_hidden_layers
        blocks = output.hidden_states[-depth:]  # (n, gh, gw, c); what went in may stand before
        return _maps(last, tuple(blocks[index] for index in level_indices(depth)))

    return forward


def _forward_of_sam2(model: Any) -> "Forward":
    encoder, shift = model.image_encoder, None
    if model.directly_add_no_mem_embed:  # as SAM2ImagePredictor does to a single image
        shift = model.no_mem_embed.detach().view(1, -1, 1, 1)

    def forward(pixels: "torch.Tensor") -> Maps:
        stages = encoder.trunk(pixels)
        levels, _ = encoder.neck(stages)
        last = levels[-1 - encoder.scalp]
        chosen = [stages[index] for index in level_indices(len(stages))]
        return _maps(
            last if shift is None else last + shift,
            tuple(stage.permute(0, 2, 3, 1) for stage in chosen),
        )

    return forward


def _maps(last: "torch.Tensor", levels: "tuple[torch.Tensor, ...]") -> Maps:
    """Of an image embedding, ``(n, c, g, g)``."""
    return Maps(last.float().mean(dim=(2, 3)), last.flatten(2).mT, levels)
