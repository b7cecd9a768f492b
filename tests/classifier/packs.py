"""Classifiers of a few lines: fake models, a head that loves one colour, and their pack."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.classifier import Classifier
from medfocus_pipeline.classifier.novelty import Familiar
from medfocus_pipeline.classifier.pack import Pack
from medfocus_pipeline.classifier.pack_config import PackConfig, TrainedOn
from medfocus_pipeline.classifier.stage_one import StageOne, features
from medfocus_pipeline.config import EfficientNetLiteConfig as SomeEncoder
from medfocus_pipeline.config import EmbedConfig, LinearConfig, MasksConfig, ThresholdConfig
from medfocus_pipeline.encoders.pooling import cell_means, roi_pool
from medfocus_pipeline.heads.linear import FittedLinear
from medfocus_pipeline.heads.saved import save
from medfocus_pipeline.model_record import Model
from medfocus_pipeline.types import JSON, Encoded, FeaturePart, FloatArray, Image, View
from medfocus_pipeline.vectors import normalise
from tests.fakes import FakeEncoder, FakeSegmenter, picture

MASKS = MasksConfig(segmenter=ThresholdConfig(), max_candidates=4, frame=16)
PARTS = (FeaturePart("segmented"), FeaturePart("segmented", "roi_pooled"))
FAMILIAR = (FeaturePart("original"), *PARTS)
VIEWS: tuple[View, ...] = ("identity", "hflip")
CLASSES = ("red", "not red")


def images(count: int, *, size: tuple[int, int] = (12, 10)) -> list[Image]:
    return [picture(f"image {number}", size=size) for number in range(count)]


def stage_one(*, parts: tuple[FeaturePart, ...] = FAMILIAR, batch_size: int | None = 3) -> StageOne:
    return StageOne(
        masks=MASKS,
        segmenter=FakeSegmenter(),
        encoder=FakeEncoder(),
        parts=parts,
        embed=EmbedConfig(roi="best", views=VIEWS),
        batch_size=batch_size,
    )


def head(dim: int = 10) -> FittedLinear:
    coef = np.random.default_rng(0).normal(size=(2, dim))
    return FittedLinear(coef, np.array([0.1, -0.1]), {"C": 1.0})


def pack() -> Pack:
    """Of `stage_one`, `head` and twelve images."""
    some, fitted = images(12), head()
    models = stage_one()
    encoded = models.encoded(some, models.regions(some))
    familiar = Familiar.of(features(encoded, FAMILIAR), np.random.default_rng(0))
    saved = save(fitted)
    config = PackConfig(
        medfocus="0",
        dataset="colours",
        title="Colours",
        classes=CLASSES,
        phrases=("red", "no red"),
        masks=MASKS,
        roi="best",
        fit="squeeze",
        parts=PARTS,
        familiar_parts=FAMILIAR,
        views=VIEWS,
        encoder=SomeEncoder(),
        segmenter=Model(id="threshold"),
        encoder_model=Model(id="some", files={"weights": "0" * 64}),
        head=LinearConfig(),
        head_kind=saved.kind,
        head_settings=saved.settings,
        temperature=None,
        neighbour=familiar.neighbour,
        threshold=familiar.threshold,
        run=TrainedOn(key="ab" * 32, fraction=100, shots=None, seed=0, images=12, test_images=3),
    )
    return Pack(config, saved, None, familiar)


def classifier() -> Classifier:
    one = pack()
    return Classifier(one.config, stage_one(), head(), one.familiar)


@dataclass(frozen=True)
class MeanEncoder:
    """Tokens are the mean colours of a 4 x 4 grid, the feature is their mean; black is grey."""

    side: int = 32
    dim: int = 3
    batch_size: int = 8
    token_grid: tuple[int, int] | None = (4, 4)

    def prepare(self, image: Image) -> Image:
        rows, columns = (np.arange(self.side) * length // self.side for length in image.shape[:2])
        return image[rows][:, columns]

    def encode(self, pictures: NDArray[np.uint8]) -> Encoded:
        n, half = len(pictures), self.side // 4
        cells = pictures.reshape(n, 4, half, 4, half, 3).mean(axis=(2, 4), dtype=np.float32)
        tokens = cells.reshape(n, 16, 3) / 255 + 0.1
        return Encoded(tokens.mean(axis=1), tokens if self.token_grid else None)


@dataclass(frozen=True)
class DeepMeanEncoder(MeanEncoder):
    """The same with a level of colours on an 8 x 8 grid, and one that says nothing."""

    level_dims: tuple[int, ...] = (3, 2)

    def pool(
        self, pictures: NDArray[np.uint8], covers: NDArray[np.uint8] | None
    ) -> dict[str, FloatArray]:
        encoded = self.encode(pictures)
        found = {"pooled": encoded.pooled}
        for prefix, planes in (("", np.full(pictures.shape[:3], 255)), ("roi_", covers)):
            if planes is None:
                continue
            means = [
                roi_pool(
                    cells.reshape(len(cells), -1, cells.shape[3]),
                    np.stack([cell_means(plane, cells.shape[1:3]).ravel() for plane in planes]),
                )
                for cells in self.maps(pictures)
            ]
            found[f"{prefix}levels"] = np.concatenate(list(map(normalise, means)), axis=1)
            found[f"{prefix}pooled"] = encoded.pooled
        return found

    def maps(self, pictures: NDArray[np.uint8]) -> list[FloatArray]:
        n, cell = len(pictures), self.side // 8
        cells = pictures.reshape(n, 8, cell, 8, cell, 3).mean(axis=(2, 4), dtype=np.float32)
        return [cells / 255 + np.float32(0.1), np.ones((n, 2, 2, 2), np.float32)]


@dataclass(frozen=True)
class LovesRed:
    """The more red there is among the colours, the surer it is of class 0."""

    chosen: JSON = field(default_factory=dict)

    def predict_proba(self, rows: FloatArray) -> NDArray[np.float64]:
        red = 8 * (rows[..., 0] - rows[..., 1]).astype(np.float64)
        share = (1 / (1 + np.exp(-red))).mean(axis=1)
        return np.stack([share, 1 - share], axis=1)
