"""Segmenter and encoders that are a few lines of NumPy, and pictures to show them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.masks.candidates import areas, boxes
from medfocus_pipeline.types import Candidates, Encoded, FloatArray, Image

SIDE = 8
GRID = (2, 2)


def picture(name: str, *, size: tuple[int, int] = (12, 10)) -> Image:
    """Noise that is the same for the same name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def blank(size: tuple[int, int]) -> Image:
    """A black picture."""
    return np.zeros((*size, 3), np.uint8)


def candidates(masks: NDArray[np.bool_], *, size: tuple[int, int] = (12, 10)) -> Candidates:
    """Candidates of these masks, ``(k, S, S) bool``, with scores falling from 0.9."""
    score = np.linspace(0.9, 0.5, len(masks), dtype=np.float32)
    return Candidates(
        *(masks, score, score / 2, score / 3, score * 2),
        areas(masks),
        boxes(masks, size=size),
    )


@dataclass(frozen=True)
class FakeSegmenter:
    """One square candidate for each channel whose first pixel is bright; a black image has none."""

    frame: int = 16
    batch_size: int = 4

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Candidates:
        sides = [int(value) % self.frame + 1 for value in image[0, 0] if value]
        masks = np.zeros((len(sides), self.frame, self.frame), np.bool_)
        for mask, side in zip(masks, sides, strict=True):
            mask[:side, :side] = True
        return candidates(masks, size=image.shape[:2])


@dataclass(frozen=True)
class FakeEncoder:
    """Random projections of pixels that are picked on an 8 x 8 grid; 2 x 2 tokens."""

    dim: int = 5
    batch_size: int = 6
    side: int = SIDE
    token_grid: tuple[int, int] | None = GRID

    def prepare(self, image: Image) -> Image:
        return image[_picks(image.shape[0])][:, _picks(image.shape[1])]

    def encode(self, pictures: NDArray[np.uint8]) -> Encoded:
        pixels = (pictures.astype(np.float32) + 1) / 256  # black is not nothing
        n, half = len(pixels), SIDE // 2
        cells = pixels.reshape(n, 2, half, 2, half, 3).mean(axis=(2, 4)).reshape(n, 4, 3)
        tokens = cells @ _projection(3, self.dim)
        pooled = pixels.reshape(n, -1) @ _projection(SIDE * SIDE * 3, self.dim)
        return Encoded(pooled, tokens if self.token_grid else None)


@dataclass(frozen=True)
class FakeDualEncoder(FakeEncoder):
    """Embeds a picture as its mean colour, and a text as the colours that it names."""

    dim: int = 3
    token_grid: tuple[int, int] | None = None
    temperature: float = 0.01

    def encode(self, pictures: NDArray[np.uint8]) -> Encoded:
        return Encoded(pictures.mean(axis=(1, 2), dtype=np.float32), None)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        names = ("red", "green", "blue")
        return np.float32([[len(text) * (name in text) for name in names] for text in texts])


def _picks(length: int) -> NDArray[np.int64]:
    return np.arange(SIDE) * length // SIDE


def _projection(rows: int, columns: int) -> FloatArray:
    return np.random.default_rng(rows).normal(size=(rows, columns)).astype(np.float32)
