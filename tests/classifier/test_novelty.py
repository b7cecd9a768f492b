import numpy as np
import pytest

from medfocus_pipeline.classifier import novelty
from medfocus_pipeline.classifier.novelty import Familiar, parts_of
from medfocus_pipeline.types import FeaturePart, FloatArray
from medfocus_pipeline.vectors import normalise


def cloud(count: int, *, seed: int, centre: int = 0, dim: int = 16) -> FloatArray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 3, dim)) * 0.3
    rows[..., centre] += 3
    return normalise(rows.astype(np.float32))


def fitted(features: FloatArray) -> Familiar:
    return Familiar.of(features, np.random.default_rng(0))


def test_images_of_the_same_kind_are_familiar_and_others_are_not() -> None:
    familiar = fitted(cloud(200, seed=0))
    same, other = cloud(200, seed=1), cloud(50, seed=2, centre=1)
    assert (familiar.distances(same) > familiar.threshold).mean() < 0.06
    assert (familiar.distances(other) > familiar.threshold).all()


def test_of_the_training_images_themselves_one_in_a_hundred_is_unfamiliar() -> None:
    """Each is left out of its own neighbours, as a new image is."""
    train = cloud(300, seed=0)
    among = np.linalg.norm(
        normalise(train.mean(axis=1))[:, None] - normalise(train.mean(axis=1))[None], axis=2
    )
    own = np.sort(among, axis=1)[:, novelty.NEIGHBOUR]  # the 0th is the image itself
    assert (own > fitted(train).threshold).mean() == pytest.approx(0.01, abs=0.004)


def test_two_training_images_are_enough() -> None:
    familiar = fitted(cloud(2, seed=0))
    assert familiar.neighbour == 1
    assert familiar.distances(cloud(1, seed=0))[0] == pytest.approx(0, abs=2e-3)


def test_no_more_images_are_kept_than_a_pack_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "MOST", 40)
    familiar = fitted(cloud(100, seed=0))
    assert familiar.rows.shape == (40, 16)
    assert (familiar.distances(cloud(50, seed=2, centre=1)) > familiar.threshold).all()


def test_whole_images_are_looked_at_beside_what_the_head_reads() -> None:
    region = (FeaturePart("segmented"), FeaturePart("segmented", "roi_pooled"))
    assert parts_of(region) == (FeaturePart("original"), *region)
    both = (FeaturePart("original"), FeaturePart("segmented"))
    assert parts_of(both) == both
