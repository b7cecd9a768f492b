"""``make bench-flops``: what one image costs a model, counted on the true architectures.

Nothing is computed: the weights have shapes and no values (torch's device ``meta``), and
`torch.utils.flop_counter` counts two operations for a multiplication and its addition.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rich.table import Table

from medfocus_pipeline.commands.output import out, say
from medfocus_pipeline.config import Sam2Config, Sam2Size
from medfocus_pipeline.sam.sam2 import random_model
from medfocus_pipeline.segmenters.sam2_decoder import PromptDecoder

_PROMPTS = 16
"""That are counted; each costs the same."""

_SAM2: tuple[Sam2Size, ...] = ("lite", "tiny", "small", "base_plus", "large")

_CLIP = {
    "openai/clip-vit-base-patch32": {"patch_size": 32},
    "openai/clip-vit-base-patch16": {"patch_size": 16},
    "openai/clip-vit-large-patch14": {
        "patch_size": 14,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}
"""Of the vision towers, where their ``config.json`` on the hub differs from transformers'."""

_MEDSIGLIP = {
    "image_size": 448,
    "patch_size": 14,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
"""google/medsiglip-448: the vision tower of SigLIP's shape-optimised size."""

_TIMM = ("efficientnet_lite0", "resnet50", "vit_base_patch16_224", "swin_base_patch4_window7_224")


def run(*, teraflops: float) -> None:
    """Count every model and print a table.

    Args:
        teraflops: that a GPU keeps up, in 10^12 operations a second.
    """
    table = Table("model", "side", "GFLOP a picture", "pictures a second", box=None)
    for name, side, operations in counted():
        rate = f"{teraflops * 1e12 / operations:,.0f}"
        table.add_row(name, str(side), f"{operations / 1e9:,.1f}", rate)
    out.print(table)
    say(f"pictures a second of a GPU that keeps up {teraflops:g} TFLOP/s")


def counted() -> Iterator[tuple[str, int, int]]:
    """Name, side of the picture in pixels, and operations for one picture, of every model."""
    points = Sam2Config().points_per_side ** 2
    for size in _SAM2:
        side, encoder, prompt = _sam2(size)
        yield f"SAM 2.1 {size}, {points} prompts", side, encoder + points * prompt
        yield f"SAM 2.1 {size}, image encoder alone", side, encoder
    for name, settings in _CLIP.items():
        yield name, 224, _clip(settings)
    yield "google/medsiglip-448", 448, _siglip(_MEDSIGLIP)
    for name in _TIMM:
        yield f"timm/{name}", 224, timm_operations(name)


def _sam2(size: Sam2Size) -> tuple[int, int, int]:
    """Side of the picture, operations for its encoding, and for one prompt beside it."""
    import torch

    model = random_model(size, seed=0).to("meta")
    side = model.image_size
    picture = torch.empty(1, 3, side, side, device="meta")
    encoder = _operations(partial(model.forward_image, picture))
    decoder = PromptDecoder(model, dtype=torch.float32)
    width, grid = model.sam_prompt_encoder.embed_dim, side // 16
    levels = [
        torch.empty(width // part, finer * grid, finer * grid, device="meta")
        for part, finer in ((8, 4), (4, 2), (1, 1))
    ]
    image = decoder.image_tokens(levels)

    def decode(prompts: int) -> int:
        points = torch.empty(prompts, 2, width, device="meta")

        def every() -> None:
            sketches = decoder.attend(image, points)
            decoder.draw(image, sketches)

        return _operations(every)

    return side, encoder, (decode(_PROMPTS + 1) - decode(1)) // _PROMPTS


def _clip(settings: dict[str, int]) -> int:
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings)).eval()
    return _operations(partial(model, torch.empty(1, 3, 224, 224, device="meta")))


def _siglip(settings: dict[str, int]) -> int:
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    side = settings["image_size"]
    with torch.device("meta"):
        model = SiglipVisionModel(SiglipVisionConfig(**settings)).eval()
    return _operations(partial(model, torch.empty(1, 3, side, side, device="meta")))


def timm_operations(name: str) -> int:
    """Of a network of timm, without its last layer, for one picture of 224 x 224 pixels."""
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False, num_classes=0).eval()
    return _operations(partial(model, torch.empty(1, 3, 224, 224, device="meta")))


def _operations(call: Callable[[], Any]) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
