"""A gate with its encoder: images in, scores out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medfocus_pipeline.config import Runtime
from medfocus_pipeline.embedding import pooled_arrays
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.fit import fitted
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.gate.saved import Fitted, GateDescription, SavedGate
from medfocus_pipeline.gate.zero_shot import ZeroShot
from medfocus_pipeline.model_record import found_again
from medfocus_pipeline.types import FeatureKind, FeaturePart, Fit, FloatArray, Image
from medfocus_pipeline.vectors import joined
from medfocus_pipeline.weights import FileHashes

NOT_A_MEDICAL_IMAGE = "not a medical image"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of one image.

    Attributes:
        score: below 0 is no medical image.
        looks_like: modality, or empty where the gate has no words.
    """

    score: float
    looks_like: str

    @property
    def medical(self) -> bool:
        """Whether it passes."""
        return self.score >= 0


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Says of images whether they are medical.

    Attributes:
        described: what it is.
        fitted: what it learned.
        encoder: of whole images.
    """

    described: GateDescription
    fitted: Fitted
    encoder: Encoder

    @classmethod
    def load(cls, saved: SavedGate, hashes: FileHashes, runtime: Runtime) -> "Gate":
        """A gate with the encoder that it was made with; nothing is downloaded.

        Raises:
            WeightsError: the encoder's weights are missing, corrupt, or others.
        """
        config, wanted = saved.described.encoder, saved.described.model
        weights = found_again(find_weights, config, wanted, hashes, owner="gate")
        return cls(saved.described, saved.fitted, load_encoder(config, weights, runtime))

    def check(self, images: Sequence[Image]) -> list[Verdict]:
        """What it says of ``(h, w, 3) uint8`` RGB images, each by itself.

        Raises:
            DataError: an embedding is not finite.
        """
        if not images:
            return []
        own = self.described
        rows = whole_features(self.encoder, images, feature=own.feature, fit=own.fit)
        return verdicts(self.fitted, rows)


def verdicts(fitted: Fitted, rows: FloatArray) -> list[Verdict]:
    """What a gate says of ``(m, d) float32`` features."""
    scores = fitted.score(rows)
    names = fitted.looks_like(rows) if isinstance(fitted, ZeroShot) else [""] * len(rows)
    return [Verdict(float(score), name) for score, name in zip(scores, names, strict=True)]


def whole_features(
    encoder: Encoder, images: Sequence[Image], *, feature: FeatureKind, fit: Fit
) -> FloatArray:
    """Features of whole images, ``(m, d) float32``, as the stores would have them.

    Each image goes through the network alone: one that is asked about by itself is answered as
    fast as it can be, and as it would be in a folder.

    Raises:
        DataError: an embedding is missing, or not finite.
    """
    part = FeaturePart("original", feature)
    if isinstance(encoder, ImageTower):
        encoder = replace(encoder, model=replace(encoder.model, at_once=1))
    found = []
    for start in range(0, len(images), encoder.batch_size):
        some = images[start : start + encoder.batch_size]
        pictures = np.stack([fitted(image, encoder, fit) for image in some])
        arrays = pooled_arrays(encoder, pictures, None)
        with np.errstate(over="ignore"):  # an infinity is refused below
            parts = [arrays[n].astype(np.float16)[:, None] for n in part.arrays if n in arrays]
        if len(parts) < len(part.arrays) or not all(np.isfinite(one).all() for one in parts):
            raise DataError(
                f"The gate's embedding {part} is missing, or not finite. Scan without it: "
                "medfocus scan --no-gate"
            )
        found.append(joined([parts])[:, 0])
    return np.concatenate(found)
