"""Embeddings in the plane: the same every time, groups together."""

import numpy as np
import pytest

from medfocus_pipeline.report.projection import explained, layouts, perplexity
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.vectors import normalise


def groups(count: int = 20) -> np.ndarray:
    """Two well separated groups of unit vectors."""
    noise = generator("layout", count).normal(0, 0.05, (2 * count, 8)).astype(np.float32)
    noise[:count, 0] += 1
    noise[count:, 1] += 1
    return normalise(noise)


def test_both_layouts_keep_groups_apart() -> None:
    found = layouts(groups())
    assert list(found) == ["PCA", "t-SNE"]
    for points in found.values():
        assert points.shape == (40, 2)
        assert points.dtype == np.float32
        first, second = points[:20], points[20:]
        gap = np.linalg.norm(first.mean(0) - second.mean(0))
        assert gap > max(first.std(), second.std())


def test_the_same_features_give_the_same_layout() -> None:
    one, other = layouts(groups(5)), layouts(groups(5))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_few_images_have_a_pca_only() -> None:
    assert list(layouts(groups(2))) == ["PCA"]
    assert layouts(groups(2)[:1])["PCA"].tolist() == [[0, 0]]


def test_images_that_are_all_alike_are_laid_out_without_complaint() -> None:
    points = layouts(np.ones((6, 3), np.float32) / np.sqrt(3, dtype=np.float32))
    assert not points["PCA"].any()
    assert np.isfinite(points["t-SNE"]).all()


def test_features_of_one_number_lie_on_a_line() -> None:
    points = layouts(np.array([[1], [-1], [1]], np.float32))["PCA"]
    assert not points[:, 1].any()


def test_perplexity_fits_the_number_of_images() -> None:
    assert perplexity(600) == 30
    assert perplexity(7) == 2


def test_two_axes_of_three_show_their_share_of_the_variance() -> None:
    features = (
        np.diag([3, 2, 1]).astype(np.float32).repeat(4, axis=0) * np.tile([1, -1], 6)[:, None]
    )
    points = layouts(features)["PCA"]
    assert explained(features, points) == pytest.approx(13 / 14, abs=1e-6)
    assert explained(features[:1], points[:1]) == 1
