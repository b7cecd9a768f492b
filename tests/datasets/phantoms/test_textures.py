import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms import textures
from medfocus_pipeline.seeding import generator


def plain(size: int) -> np.ndarray:
    return np.random.default_rng(0).random((size, size), np.float32)


@pytest.mark.parametrize("grain", [0.02, 0.1, 0.5, 1.5])
def test_noise_has_unit_spread_at_every_grain_and_size(grain: float) -> None:
    rng = generator("noise", str(grain))
    for size in (64, 224):
        fields = np.stack([textures.noise(rng, size, grain=grain, octaves=2) for _ in range(30)])
        assert fields.dtype == np.float32
        assert fields.std() == pytest.approx(1, abs=0.2)
        assert abs(fields.mean()) < 0.25


def test_speckle_has_zero_mean_and_grains_of_its_size() -> None:
    field = textures.speckle(generator(0), 128, across=0.2, along=0.02)
    assert field.dtype == np.float32
    assert field.mean() == pytest.approx(0, abs=1e-4)
    down, right = (np.abs(np.diff(field, axis=axis)).mean() for axis in (0, 1))
    assert down > 3 * right


@pytest.mark.parametrize("size", [33, 64])
@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.2])
def test_a_blur_is_that_of_scipy(size: int, sigma: float) -> None:
    expected = ndimage.gaussian_filter(plain(size), sigma * size / 2, truncate=2.0)
    np.testing.assert_allclose(textures.blur(plain(size), sigma), expected, atol=1e-5)


@pytest.mark.parametrize(("small", "size"), [(49, 97), (112, 224), (64, 64)])
def test_an_enlarged_picture_is_that_of_pillow(small: int, size: int) -> None:
    image = PIL.Image.fromarray(plain(small))
    expected = np.asarray(image.resize((size, size), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_allclose(textures.enlarged(plain(small), size), expected, atol=1e-5)


def test_a_softened_picture_keeps_its_mean() -> None:
    picture = np.zeros((9, 9), np.float32)
    picture[4, 4] = 1
    softened = textures.softened(picture, 0.5)
    assert softened.sum() == pytest.approx(1)
    np.testing.assert_allclose(softened[4, 3:6], [0.125, 0.25, 0.125])
    np.testing.assert_allclose(textures.softened(np.ones((9, 9), np.float32), 0.9), 1, atol=1e-6)
