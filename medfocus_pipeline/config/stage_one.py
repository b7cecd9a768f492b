"""Stage one: masks and embeddings."""

from typing import TypeVar, get_args

from pydantic import Field

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.encoders import ClipConfig, EncoderConfig
from medfocus_pipeline.config.segmenters import Sam2Config, SegmenterConfig
from medfocus_pipeline.types import Augmentation, Fit, FocusMode, Rendition, RoiRule, View

_Kind = TypeVar("_Kind", bound=Frozen)


class MasksConfig(Frozen):
    """Stage one, first half: candidate masks.

    Attributes:
        max_candidates: K, the best candidates kept for an image.
        frame: S, side of the square frame that masks are stored in, in pixels.
    """

    segmenter: SegmenterConfig = Sam2Config()
    max_candidates: int = Field(default=16, ge=1, le=255)
    frame: int = Field(default=256, ge=16, le=1024, multiple_of=8)

    def segmenter_of(self, kind: type[_Kind]) -> _Kind:
        """The segmenter's configuration, of the family that reads it.

        Raises:
            TypeError: it is of another.
        """
        if not isinstance(self.segmenter, kind):
            raise TypeError(f"Expected a {kind.__name__}, got that of {self.segmenter.name}.")
        return self.segmenter


FIXED_VIEWS: tuple[View, ...] = ("identity", "hflip", "centre_crop")


class EmbedConfig(Frozen):
    """Stage one, second half: one embedding store (encoder x ROI rule x focus mode).

    Attributes:
        roi: how the ROI is chosen from the candidates.
        roi_parts: of the focus `original`, which shows all of the image: also what is pooled
            over the ROI. The other focus modes need the ROI anyway.
        fit: how a picture becomes the square that the encoder takes; `crop` is the model's
            published way, which may cut the region off.
        views: renditions of each focused image, embedded one by one; an augmentation is drawn
            anew as often as it is named.
        augmentation_seed: what augmentations are drawn from, with the image's pixels.
    """

    encoder: EncoderConfig = ClipConfig()
    roi: RoiRule = "best"
    focus: FocusMode = "segmented"
    roi_parts: bool = False
    fit: Fit = "squeeze"
    views: tuple[Rendition, ...] = Field(default=FIXED_VIEWS, min_length=1)
    augmentation_seed: int = Field(default=0, ge=0)

    @property
    def augmented(self) -> bool:
        """Whether any view is drawn."""
        return any(name in get_args(Augmentation) for name in self.views)
