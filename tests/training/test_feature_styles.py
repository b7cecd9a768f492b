"""Features that are made less sure."""

import numpy as np
import torch

from medfocus_pipeline.training.feature_styles import unsettled


def maps(count: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn((count, 5, side, side), generator=rng) for side in (8, 4)]


def test_shapes_stay_and_the_maps_given_are_left_alone() -> None:
    levels, before = maps(6), maps(6)
    found = unsettled(levels, np.random.default_rng(0))
    assert [one.shape for one in found] == [one.shape for one in levels]
    assert all(torch.equal(one, same) for one, same in zip(levels, before, strict=True))
    assert any(not torch.equal(one, same) for one, same in zip(found, before, strict=True))


def test_a_generator_decides_it() -> None:
    one, two = (unsettled(maps(6), np.random.default_rng(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_single_image_has_no_other_to_take_from() -> None:
    for seed in range(8):
        for found, own in zip(
            unsettled(maps(1), np.random.default_rng(seed)), maps(1), strict=True
        ):
            torch.testing.assert_close(found, own, atol=1e-3, rtol=1e-3)
