"""Pooling over the token grid."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline.encoders.pooling import (
    cell_means,
    level_indices,
    narrowed,
    pool_map,
    roi_pool,
)


def test_roi_pool_is_the_weighted_mean() -> None:
    tokens = np.float32([[[1, 0], [0, 1], [4, 4]]])
    pooled = roi_pool(tokens, np.float32([[1, 3, 0]]))
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, [[0.25, 0.75]])


def test_roi_pool_without_any_weight_is_the_plain_mean() -> None:
    tokens = np.float32([[[1, 0], [0, 1]], [[2, 2], [4, 4]]])
    np.testing.assert_allclose(roi_pool(tokens, np.float32([[0, 0], [0, 1]])), [[0.5, 0.5], [4, 4]])


@given(
    weights=arrays(np.float32, (3, 7), elements=st.floats(0, 1, width=32)),
    scale=st.floats(0.25, 4, width=32),
)
def test_roi_pool_stays_among_the_tokens_and_ignores_the_weights_scale(
    weights: np.ndarray, scale: float
) -> None:
    weights = np.where(weights < 1e-6, np.float32(0), weights)
    tokens = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)
    pooled = roi_pool(tokens, weights)
    assert (pooled <= tokens.max(axis=1) + 1e-5).all()
    assert (pooled >= tokens.min(axis=1) - 1e-5).all()
    np.testing.assert_allclose(roi_pool(tokens, weights * np.float32(scale)), pooled, atol=1e-5)


def test_cell_means_are_block_means_where_cells_are_whole() -> None:
    plane = np.random.default_rng(0).random((6, 8)).astype(np.float32)
    blocks = plane.reshape(3, 2, 2, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(cell_means(plane, (3, 2)), blocks, rtol=1e-6)


@pytest.mark.parametrize(
    ("plane", "means"), [([[1, 0, 0]], [[2 / 3, 0]]), ([[0, 1, 0]], [[1 / 3, 1 / 3]])]
)
def test_a_pixel_on_a_cell_boundary_counts_on_both_sides(
    plane: list[list[float]], means: list[list[float]]
) -> None:
    np.testing.assert_allclose(cell_means(np.float32(plane), (1, 2)), means, rtol=1e-6)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_cell_means_keep_the_mean_and_the_range(
    height: int, width: int, grid: tuple[int, int]
) -> None:
    plane = np.random.default_rng(height).random((height, width)).astype(np.float32)
    means = cell_means(plane, grid)
    assert means.shape == grid
    assert means.mean() == pytest.approx(plane.mean(), rel=1e-5)
    assert plane.min() - 1e-6 <= means.min() <= means.max() <= plane.max() + 1e-6


@pytest.mark.parametrize("depth", range(1, 49))
def test_levels_rise_and_end_with_the_last_map(depth: int) -> None:
    levels = level_indices(depth)
    assert list(levels) == sorted(set(levels))
    assert levels[-1] == depth - 1
    assert len(levels) == min(depth, 4)


@pytest.mark.parametrize(("channels", "width"), [(768, 384), (768, 192), (1024, 576)])
def test_narrowed_rows_keep_their_distances(channels: int, width: int) -> None:
    """A tenth is two standard errors at 192 dimensions: 1 / sqrt(2 width) of a distance."""
    rows = np.random.default_rng(1).normal(size=(40, channels)).astype(np.float32)
    rows[:, :3] *= 40  # as the residual stream of a transformer has it
    found = narrowed(torch.from_numpy(rows), width).numpy()
    before, after = (
        np.linalg.norm(some[:, None] - some[None], axis=2)[np.triu_indices(40, 1)]
        for some in (rows, found)
    )
    assert found.shape == (40, width)
    assert abs((after / before).mean() - 1) < 0.1
    assert (after / before).std() < 0.1


def test_rows_that_are_narrow_enough_stay_as_they_are() -> None:
    rows = torch.arange(6.0).reshape(2, 3)
    assert narrowed(rows, 3) is rows


def test_the_projection_of_a_mean_is_the_mean_of_the_projections() -> None:
    cells = torch.from_numpy(np.random.default_rng(2).normal(size=(4, 9, 30)).astype(np.float32))
    torch.testing.assert_close(narrowed(cells.mean(1), 8), narrowed(cells, 8).mean(1))


def test_a_map_is_pooled_on_its_device_as_its_tokens_are_here() -> None:
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    covers = (rng.random((3, 20, 20)) > 0.7).astype(np.float32)
    covers[1] = 0
    weights = np.stack([cell_means(plane, (4, 5)).ravel() for plane in covers])
    pooled = pool_map(torch.from_numpy(cells), torch.from_numpy(covers))
    expected = roi_pool(cells.reshape(3, 20, 6), weights)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)
    plain = pool_map(torch.from_numpy(cells), None)
    np.testing.assert_allclose(plain, cells.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(pooled[1], plain[1], atol=1e-5)  # nothing is covered
