"""SAM 3 (Carion et al. 2025) through transformers: every instance of a phrase."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medfocus_pipeline.config import MasksConfig, Runtime, Sam3Config
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.masks.candidates import Limits, select, stability
from medfocus_pipeline.tensors import FORMATS
from medfocus_pipeline.types import Candidates, Image
from medfocus_pipeline.weight_files import CONFIG, loading, model_type, pretrained
from medfocus_pipeline.weights import Weights

FILES = (CONFIG, "processor_config.json", "tokenizer.json|vocab.json", FORMATS)
OPTIONAL = (
    *("preprocessor_config.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "merges.txt"),
)
_TYPES = ("sam3", "sam3_video")
"""Model types of a ``config.json``: of images alone, and with the tracker beside it."""

_TOKENS = 32
"""That a phrase is padded and cut to, as transformers' `Sam3Processor` pads it."""


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> "Sam3Segmenter":
    """SAM 3 with its weights, on its device.

    Raises:
        ConfigError: there are no phrases, or the device is not there.
        WeightsError: the files are not a SAM 3, or are corrupt.
    """
    config = masks.segmenter_of(Sam3Config)
    if not config.phrases:
        raise ConfigError(
            "SAM 3 is asked for phrases and got none: name a data set with a card, or "
            "--set segmenter.phrases=[tumor,lesion]."
        )
    with loading(weights, "a SAM 3 of Hugging Face"):
        model, processor = _from_pretrained(weights)
    model.to(resolve_device(runtime.device))
    if runtime.compile:
        model.vision_encoder.compile()
    return Sam3Segmenter(
        model, processor, config, max_candidates=masks.max_candidates, frame=masks.frame
    )


def _from_pretrained(weights: Weights) -> tuple[Any, Any]:
    from transformers import Sam3Model, Sam3Processor

    config = weights.paths[CONFIG]
    model_type(config, _TYPES)
    processor: Any = Sam3Processor
    model = pretrained(Sam3Model, weights)
    return model, processor.from_pretrained(config.parent, local_files_only=True)


class Sam3Segmenter:
    """Candidates from phrases; see `Segmenter` for the contract.

    The score is that of transformers' `post_process_instance_segmentation`: how well a mask fits
    the phrase, times how sure the model is that the image shows it at all. No phrase confirms
    another, so the support is 1.

    Args:
        model: a `Sam3Model` of any image size, in evaluation mode, on its device.
        processor: its `Sam3Processor`.
        config: phrases and limits; `model` and `revision` play no part.
        max_candidates: K.
        frame: S, side of the masks' square frame, in pixels.
    """

    batch_size = 1
    """The model takes seconds an image; nothing is gained by more."""

    def __init__(
        self, model: Any, processor: Any, config: Sam3Config, *, max_candidates: int, frame: int
    ) -> None:
        import torch

        self._model = model
        self._pixels = processor.image_processor
        self._config = config
        self._max_candidates = max_candidates
        self._frame = frame
        self._device = model.device.type
        tokens = processor.tokenizer(
            list(config.phrases),
            padding="max_length",
            truncation=True,
            max_length=_TOKENS,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            # One by one: each answers as if it were alone.
            self._phrases = [
                {
                    "text_embeds": model.get_text_features(ids, mask, return_dict=True),
                    "attention_mask": mask,
                }
                for ids, mask in zip(
                    tokens["input_ids"].split(1), tokens["attention_mask"].split(1), strict=True
                )
            ]

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        import torch

        with torch.inference_mode():
            return [self._candidates(image) for image in images]

    def _candidates(self, image: Image) -> Candidates:
        """The best instances of all phrases; the image is encoded once."""
        import torch

        writable = np.require(image, np.uint8, ["C", "W"])  # torch warns of anything else
        # The format is named: an image of 3 x 3 pixels or fewer could be either.
        pixels = self._pixels(writable, input_data_format="channels_last", return_tensors="pt")
        with autocast(self._device, self._config.precision):
            seen = self._model.vision_encoder(pixels["pixel_values"].to(self._device))
            answers = [self._model(vision_embeds=seen, **phrase) for phrase in self._phrases]
        shares, scores = zip(*map(self._instances, answers), strict=True)
        share = torch.cat(shares)
        return select(
            (share > 0.5).cpu().numpy(),
            torch.cat(scores).cpu().numpy(),
            stability(
                torch.logit(share, eps=1e-6).cpu().numpy(), offset=self._config.stability_offset
            ),
            image=image,
            limits=Limits(min_area=self._config.min_area, max_area=self._config.max_area),
            duplicate_iou=self._config.duplicate_iou,
            max_candidates=self._max_candidates,
        )

    def _instances(self, answer: Any) -> tuple[Any, Any]:
        """What one phrase found: probabilities ``(m, S, S)`` and scores ``(m,)``, float32."""
        from torch.nn import functional

        presence = answer.presence_logits[0].float().sigmoid()
        scores = answer.pred_logits[0].float().sigmoid() * presence
        good = scores > self._config.min_score
        # The sigmoid before the interpolation, as transformers' post-processing has it.
        shares = answer.pred_masks[0, good].float().sigmoid()
        size = (self._frame, self._frame)
        drawn = functional.interpolate(shares[:, None], size=size, mode="bilinear")[:, 0]
        return drawn, scores[good]
