"""Array types and values that every layer shares, each named once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""One picture, ``(h, w, 3) uint8`` RGB."""

Mask: TypeAlias = NDArray[np.bool_]
"""One binary mask, ``(h, w) bool``."""

Boxes: TypeAlias = NDArray[np.float32]
"""``(k, 4) float32``, XYXY in pixels of the original image; x1, y1 are exclusive."""

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

JSON: TypeAlias = dict[str, Any]
"""A JSON object."""

FocusMode: TypeAlias = Literal["original", "segmented", "overlay", "mask", "crop", "dimmed"]
View: TypeAlias = Literal["identity", "hflip", "centre_crop"]
Augmentation: TypeAlias = Literal["trivial_augment", "medical"]
Rendition: TypeAlias = Literal[View, Augmentation]
Fit: TypeAlias = Literal["squeeze", "pad", "crop"]
"""How a picture becomes the square that an encoder takes: resized without keeping its aspect ratio,
made square with black first, or resized and cropped as the model was published."""

FeatureKind: TypeAlias = Literal["pooled", "roi_pooled", "levels", "roi_levels"]
"""The encoder's own pooled feature; the mask-weighted mean of its tokens; the means of its
network's maps at a handful of depths, and the same weighted by the mask."""

RoiRule: TypeAlias = Literal["best", "largest", "central", "union", "salient", "nested", "text"]
Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
Precision: TypeAlias = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class FeaturePart:
    """A focus mode and what is taken of it; a row of the results table joins one or several.

    Written ``segmented`` for its pooled feature, else ``original.roi_levels``.

    >>> str(FeaturePart.parse("original.levels")), FeaturePart.parse("original").kind
    ('original.levels', 'pooled')
    """

    focus: FocusMode
    kind: FeatureKind = "pooled"

    def __str__(self) -> str:
        """As it is written."""
        return self.focus if self.kind == "pooled" else f"{self.focus}.{self.kind}"

    @property
    def in_region(self) -> bool:
        """Whether only the ROI is pooled over."""
        return self.kind.startswith("roi_")

    @property
    def needs_masks(self) -> bool:
        """Whether it depends on the ROI at all."""
        return self.focus != "original" or self.in_region

    @property
    def arrays(self) -> tuple[str, ...]:
        """Arrays of an embedding store that it is made of: on top of the levels, the embedding."""
        top = "roi_pooled" if self.in_region else "pooled"
        return (self.kind, top) if self.kind.endswith("levels") else (self.kind,)

    @classmethod
    def parse(cls, text: str) -> "FeaturePart":
        """From how it is written.

        Raises:
            ValueError: there is no such focus mode or kind.
        """
        focus, _, kind = text.partition(".")
        if focus not in get_args(FocusMode) or (kind or "pooled") not in get_args(FeatureKind):
            raise ValueError(
                f"got {text!r}, expected one of {', '.join(get_args(FocusMode))}, alone or "
                f"followed by one of {', '.join(f'.{one}' for one in get_args(FeatureKind))}"
            )
        return cls(focus, kind or "pooled")  # type: ignore[arg-type]


def join_parts(parts: Sequence[FeaturePart]) -> str:
    """``original.levels+original.roi_levels``."""
    return "+".join(map(str, parts))


@dataclass(frozen=True, slots=True)
class Candidates:
    """Masks that a segmenter proposes for one image, best score first.

    Attributes:
        masks: ``(k, S, S) bool``, in the segmenter's square frame: the whole image,
            squeezed to S x S without keeping its aspect ratio.
        score: ``(k,) float32`` in [0, 1], predicted IoU or the segmenter's own quality.
        stability: ``(k,) float32`` in [0, 1], IoU of the mask with itself at a
            stricter and a laxer threshold.
        support: ``(k,) float32`` in [0, 1], how far the segmenter's other prompts inside the
            mask agree with it, see `masks.votes`; 1 where a segmenter has no prompts.
        contrast: ``(k,) float32`` of 0 and more, how far the brightness inside the mask is
            from that around it, see `masks.contrast`.
        area: ``(k,) float32`` in [0, 1], share of the image.
        boxes: ``(k, 4) float32``, XYXY in pixels of the original image.
    """

    masks: NDArray[np.bool_]
    score: FloatArray
    stability: FloatArray
    support: FloatArray
    contrast: FloatArray
    area: FloatArray
    boxes: Boxes

    def __len__(self) -> int:
        """Number of candidates, k."""
        return len(self.score)

    def __getitem__(self, index: int) -> "Candidates":
        """One candidate, as a set of its own.

        Raises:
            IndexError: there is no such candidate.
        """
        one = range(len(self))[index]
        kept = slice(one, one + 1)
        return Candidates(
            self.masks[kept],
            self.score[kept],
            self.stability[kept],
            self.support[kept],
            self.contrast[kept],
            self.area[kept],
            self.boxes[kept],
        )


@dataclass(frozen=True, slots=True)
class Roi:
    """The one region of interest chosen for an image.

    Attributes:
        mask: ``(h, w) bool`` in the original frame, never empty.
        fallback: no candidate was usable and the mask is the whole image.
    """

    mask: Mask
    fallback: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder says about n pictures.

    Attributes:
        pooled: ``(n, d) float32``, the model's own pooled feature, not normalised.
        tokens: ``(n, gh * gw, d) float32``, patch tokens (or feature map cells) in
            row-major order and in the space of ``pooled``; None without a token grid.
    """

    pooled: FloatArray
    tokens: FloatArray | None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which weights a model has: what goes into a store's key.

    Attributes:
        id: hub id (``openai/clip-vit-base-patch16``), package or checkpoint name; never a path.
        revision: resolved commit of a hub model, else None.
        files: file name -> SHA-256 of every file that changes the numbers (weights,
            preprocessing, tokenizer); empty for a model without weights.
    """

    id: str
    revision: str | None = None
    files: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> JSON:
        """What goes into a key: the files' hashes; the commit alone changes no number."""
        return {"id": self.id, "files": dict(sorted(self.files.items()))}
