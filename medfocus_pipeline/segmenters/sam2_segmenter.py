"""SAM 2 (Ravi et al. 2024) prompted with single points: of a grid, all or the few that count.

Every point gives three masks, of a part, a whole and something between. They are judged and
compared at a quarter of the model's image size and never brought to the image's own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.config import MasksConfig, Runtime, Sam2Config
from medfocus_pipeline.devices import autocast, resolve_device, settled_precision
from medfocus_pipeline.masks.candidates import stability
from medfocus_pipeline.sam import sam2
from medfocus_pipeline.sam.sam_model import PACE, TOKENS
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.segmenters import prompting
from medfocus_pipeline.segmenters.mask_predictions import (
    MaskPredictions,
    candidates,
    joined,
    sampled,
)
from medfocus_pipeline.segmenters.sam2_decoder import ImageTokens, PromptDecoder
from medfocus_pipeline.types import Candidates, Image, IntArray
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> "Sam2Segmenter":
    """SAM 2.1 with its weights, on its device.

    Raises:
        ConfigError: the sam2 package or the device is not there.
        WeightsError: the checkpoint is corrupt or of another size.
    """
    config = masks.segmenter_of(Sam2Config)
    model = sam2.load_model(config, weights).to(resolve_device(runtime.device))
    if runtime.compile:
        model.image_encoder.compile()
    config = sam2.settled(config)
    return Sam2Segmenter(model, config, max_candidates=masks.max_candidates, frame=masks.frame)


class Sam2Segmenter:
    """Candidates from point prompts; see `Segmenter` for the contract.

    Args:
        model: a `SAM2Base` of any image size, in evaluation mode, on its device.
        config: the grid and the limits, of which None is none; `size` says how images are
            squeezed, `checkpoint` and `revision` play no part.
        max_candidates: K.
        frame: S, side of the masks' square frame, in pixels.
    """

    def __init__(self, model: Any, config: Sam2Config, *, max_candidates: int, frame: int) -> None:
        import torch

        self._model = model
        self._config = config
        self._max_candidates = max_candidates
        self._frame = frame
        self._min_score = config.min_score or 0.0
        self._points = prompting.grid(config.points_per_side)
        with torch.inference_mode():
            precision = settled_precision(model.device.type, config.precision)
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            self._decoder = PromptDecoder(model, dtype=dtype)
            self._prompts = self._embed_points()

    @property
    def batch_size(self) -> int:
        """Images encoded together when the user names no number."""
        return PACE[self._model.device.type]

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        import torch

        if not images:
            return []
        with torch.inference_mode():
            levels = self._encode(images)
            return [
                self._candidates([level[index] for level in levels], image)
                for index, image in enumerate(images)
            ]

    def _embed_points(self) -> "Tensor":
        """``(p, t, c)``, the grid's points as prompts, the same for every image."""
        import torch

        model = self._model
        points = torch.from_numpy(self._points).to(model.device)[:, None] * model.image_size
        labels = torch.ones(points.shape[:2], dtype=torch.int, device=model.device)
        prompts: Tensor = model.sam_prompt_encoder((points, labels), boxes=None, masks=None)[0]
        return prompts

    def _encode(self, images: Sequence[Image]) -> "list[Tensor]":
        """Feature maps of a batch, fine to coarse: ``(n, c', g', g')`` each."""
        model = self._model
        batch = normalised(
            images,
            side=model.image_size,
            device=model.device.type,
            bicubic=sam2.is_bicubic(self._config.size),
        )
        with autocast(model.device.type, self._config.precision):
            quarter, half, whole = model.forward_image(batch)["backbone_fpn"][-3:]
        if model.directly_add_no_mem_embed:
            whole = whole + model.no_mem_embed.view(1, -1, 1, 1)
        return [quarter, half, whole]

    def _candidates(self, levels: "list[Tensor]", image: Image) -> Candidates:
        """The best masks of one image, from its feature maps."""
        tokens = self._decoder.image_tokens(levels)

        def ask(points: IntArray, first: int) -> MaskPredictions:
            return self._ask(tokens, points, first=first)

        return candidates(
            ask,
            lambda: [sampled(level[None], self._config.points_per_side) for level in levels],
            image,
            config=self._config,
            max_candidates=self._max_candidates,
        )

    def _ask(self, image: ImageTokens, points: IntArray, *, first: int) -> MaskPredictions:
        """The answers to some of the grid's points, whose prompts are numbered from `first`."""
        from torch.nn import functional

        frame = (self._frame, self._frame)
        parts = []
        chunk = max(1, TOKENS[self._model.device.type] // len(image.tokens))
        for start in range(0, len(points), chunk):
            sketches = self._decoder.attend(image, self._prompts[points[start : start + chunk]])
            good = sketches.score >= self._min_score
            drawn = good.any(dim=1)
            logits = self._decoder.draw(image, sketches[drawn])[good[drawn]]
            if logits.shape[-1] != self._frame:
                logits = functional.interpolate(logits[:, None], size=frame, mode="bilinear")[:, 0]
            drawings = logits.cpu().numpy()
            parts.append(
                MaskPredictions(
                    masks=drawings > 0,
                    score=sketches.score[good].cpu().numpy(),
                    stability=stability(drawings, offset=self._config.stability_offset),
                    prompt=first + start + good.nonzero()[:, 0].cpu().numpy(),
                )
            )
        return joined(parts)
