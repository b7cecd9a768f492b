"""IoU of a SAM 2's answers to clicks and boxes, on a model whose answers are known."""

from typing import Any

import numpy as np
import pytest

from tests.bench import region_scores as regions
from tests.bench.region_scores import mean_scores, phantom_regions, region_scores


def square(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((40, 60), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A model that answers every prompt with four given masks and scores, and what it was asked."""
    import torch

    known: dict[str, Any] = {"asked": [], "scores": [0.0, 0.2, 0.9, 0.4]}

    def answer(model: Any, levels: Any, points: Any, labels: list[int]) -> Any:
        known["asked"].append((points, labels))
        logits = torch.from_numpy(np.stack(known["masks"])).float() * 2 - 1
        return logits.expand(len(points), -1, -1, -1), torch.tensor([known["scores"]])

    monkeypatch.setattr(regions, "_encode", lambda model, image, *, bicubic: [])
    monkeypatch.setattr(regions, "_answer", answer)
    return known


class Model:
    image_size = 120


IMAGE = np.zeros((40, 60, 3), np.uint8)


def test_click_oracle_and_box_are_the_masks_they_should_be(answers: dict[str, Any]) -> None:
    target = square(10, 20, 30, 40)
    half, whole = square(10, 20, 30, 30), target
    answers["masks"] = [square(10, 20, 25, 40), whole, half, square(0, 0, 5, 5)]
    found = region_scores(Model(), IMAGE, target)
    assert found.click == 0.5
    assert found.predicted == pytest.approx(0.9)
    assert found.oracle == 1
    assert found.box == 0.75
    assert np.isnan(found.grid)

    (click, label), (box, corners) = answers["asked"]
    assert label == [1]
    assert corners == [2, 3]
    # The image is squeezed into the model's square.
    np.testing.assert_array_equal(box, [[[20 * 2, 10 * 3], [40 * 2, 30 * 3]]])
    x, y = click[0, 0] / (2, 3)
    assert target[int(y), int(x)]
    assert abs(x - 30) <= 1
    assert abs(y - 20) <= 1


def test_a_click_at_the_centroid_may_miss_a_ring_and_the_innermost_does_not(
    answers: dict[str, Any],
) -> None:
    target = square(5, 5, 35, 55) & ~square(10, 10, 30, 50)
    answers["masks"] = [target] * 4
    for centroid, inside in ((True, False), (False, True)):
        answers["asked"].clear()
        region_scores(Model(), IMAGE, target, centroid=centroid)
        x, y = answers["asked"][0][0][0, 0] / (2, 3)
        assert target[int(y), int(x)] == inside


def test_a_grid_covers_the_image_and_its_best_mask_counts(answers: dict[str, Any]) -> None:
    target = square(10, 20, 30, 40)
    empty = np.zeros_like(target)
    answers["masks"] = [target, empty, empty, square(10, 20, 30, 30)]
    found = region_scores(Model(), IMAGE, target, grid=4)
    assert found.grid == 0.5
    asked = np.concatenate([points[:, 0] for points, _ in answers["asked"][2:]])
    assert len({tuple(point) for point in asked}) == 16
    np.testing.assert_array_equal(np.unique(asked), [15, 45, 75, 105])


def test_means_are_figure_by_figure() -> None:
    one = regions.RegionScores(click=0.5, predicted=0.5, oracle=0.5, box=0.5, grid=0.5)
    two = regions.RegionScores(click=1.0, predicted=0.5, oracle=0.5, box=0.0, grid=0.5)
    means = mean_scores([one, two])
    assert means["click"] == 0.75
    assert means["box"] == 0.25
    assert mean_scores([]) == {}


def test_regions_of_phantoms_repeat_and_are_not_those_of_the_training() -> None:
    first, again = ([*phantom_regions("breast", 3)] for _ in range(2))
    assert len(first) == 3
    for (image, mask), (same_image, same_mask) in zip(first, again, strict=True):
        np.testing.assert_array_equal(image, same_image)
        np.testing.assert_array_equal(mask, same_mask)
        assert image.shape[:2] == mask.shape
        assert mask.mean() >= 0.002
    (trained, _), *_ = phantom_regions("breast", 1, seed=0)
    assert not np.array_equal(trained, first[0][0])
