"""Random changes of pictures: torchvision's own operations, and what the medical ones leave."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import TrivialAugmentWide

from medfocus_pipeline.augmentation import (
    AUGMENTATIONS,
    OPERATIONS,
    STRENGTHS,
    draw,
    moved,
    operate,
    shaded,
)
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import Image


def gradient(height: int = 40, width: int = 48) -> Image:
    """Every pixel is another, and none of it is symmetric."""
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_wide_space_is_that_of_torchvision() -> None:
    theirs = TrivialAugmentWide._AUGMENTATION_SPACE
    assert list(OPERATIONS) == list(theirs)
    for name, (strengths, signed) in theirs.items():
        own = OPERATIONS[name]
        assert own.signed == signed
        values = strengths(STRENGTHS, 40, 48)
        if values is not None:
            ours = np.linspace(own.weakest, own.strongest, STRENGTHS)
            ours = np.rint(ours) if name == "Posterize" else ours
            np.testing.assert_allclose(ours, values.numpy(), atol=1e-6)
        else:
            assert own.weakest == own.strongest


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_an_operation_does_what_torchvisions_transform_does(name: str) -> None:
    theirs, picture = TrivialAugmentWide(), gradient()
    tensor = torch.from_numpy(picture.transpose(2, 0, 1).copy())
    own = OPERATIONS[name]
    for strength in (own.weakest, (own.weakest + own.strongest) / 2, own.strongest):
        wanted = theirs._apply_image_or_video_transform(
            tensor, name, strength, interpolation=theirs.interpolation, fill=theirs._fill
        )
        np.testing.assert_array_equal(
            operate(picture, name, strength), wanted.numpy().transpose(1, 2, 0)
        )


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_a_change_is_a_pure_function_of_its_seed(name: str) -> None:
    picture = gradient()
    before = picture.copy()
    one, same = (draw(name, np.random.default_rng(7)).picture(picture) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(picture, before)
    assert (one.shape, one.dtype) == (picture.shape, picture.dtype)
    kinds = {draw(name, np.random.default_rng(n)).picture(picture).tobytes() for n in range(20)}
    assert len(kinds) > 5


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_a_cover_moves_like_its_picture(name: str) -> None:
    cover = np.zeros((60, 60), np.uint8)
    cover[20:30, 25:45] = 255
    painted = np.repeat(cover[..., None], 3, axis=2)
    for seed in range(30):
        change = draw(name, np.random.default_rng(seed))
        np.testing.assert_array_equal(change.cover(cover), change.move(painted)[..., 0])
    shades = [
        seed
        for seed in range(30)
        if (draw(name, np.random.default_rng(seed)).cover(cover) == cover).all()
    ]
    assert (len(shades) > 5) == (name == "trivial_augment")


def test_medical_keeps_up_above_and_the_heart_on_its_side() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[5:35, 5:35] = 200
    for seed in range(40):
        change = draw("medical", np.random.default_rng(seed)).picture(picture).astype(np.float64)
        quarters = [change[:50, :50], change[:50, 50:], change[50:, :50], change[50:, 50:]]
        assert max(range(4), key=lambda place: float(quarters[place].mean())) == 0


def test_a_picture_moves_as_it_is_told() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[45:55, 45:55] = 255

    def middle(changed: Image) -> list[float]:
        weights = changed[..., 0].astype(np.float64)
        places = np.indices(weights.shape)[::-1] + 0.5
        return [float((axis * weights).sum() / weights.sum()) for axis in places]

    still = moved(picture, degrees=0, shift=(0, 0), scale=1)
    np.testing.assert_array_equal(still, picture)
    shifted = moved(picture, degrees=0, shift=(0.2, -0.1), scale=1)
    assert middle(shifted) == pytest.approx([70, 40], abs=0.01)
    larger = moved(picture, degrees=0, shift=(0, 0), scale=2)
    assert (larger[..., 0] > 127).sum() == pytest.approx(400, rel=0.05)
    right = np.zeros_like(picture)
    right[48:52, 80:84] = 255
    turned = moved(right, degrees=90, shift=(0, 0), scale=1)  # what was right is below
    assert middle(turned) == pytest.approx([50, 82], abs=0.5)


def test_shades_are_those_of_the_formulas() -> None:
    picture = gradient()
    same = shaded(picture, gamma=1, contrast=1, noise=0, seed=0)
    np.testing.assert_array_equal(same, picture)
    bright = shaded(picture, gamma=0.5, contrast=1, noise=0, seed=0)
    np.testing.assert_allclose(bright, 255 * np.sqrt(picture / 255), atol=0.51)
    flat = shaded(picture, gamma=1, contrast=0, noise=0, seed=0)
    assert np.ptp(flat.astype(int)) == 0
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = shaded(grey, gamma=1, contrast=1, noise=0.02, seed=1).astype(np.float64)
    assert noisy.std() == pytest.approx(0.02 * 255, rel=0.03)
    assert (noisy[..., 0] == noisy[..., 2]).all()


def test_an_unknown_augmentation_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'medicl'.*trivial_augment, medical.*medical"):
        draw("medicl", np.random.default_rng(0))
