import numpy as np
import pytest

from medfocus_pipeline.datasets.phantoms import canvas
from medfocus_pipeline.seeding import generator


@pytest.mark.parametrize("grain", [0.02, 0.1, 0.5, 1.5])
def test_noise_has_unit_spread_at_every_grain_and_size(grain: float) -> None:
    rng = generator("noise", str(grain))
    for size in (64, 224):
        fields = np.stack([canvas.noise(rng, size, grain=grain, octaves=2) for _ in range(30)])
        assert fields.dtype == np.float32
        assert fields.std() == pytest.approx(1, abs=0.2)
        assert abs(fields.mean()) < 0.25


def test_a_shape_covers_the_same_share_at_every_size() -> None:
    shares = [
        (canvas.ellipse(canvas.flat(size), (0.1, -0.2), (0.5, 0.3), angle=0.4) > 0).mean()
        for size in (64, 224, 256)
    ]
    assert shares == pytest.approx([np.pi * 0.5 * 0.3 / 4] * 3, abs=0.002)


def test_a_pose_without_spread_is_the_pictures_own_frame() -> None:
    still = canvas.posed(generator(0), 64, turn=0, zoom=0, stretch=0, shift=0, bend=0)
    np.testing.assert_allclose(still.x, canvas.flat(64).x, atol=1e-6)
    np.testing.assert_allclose(still.y, canvas.flat(64).y, atol=1e-6)


def test_a_blob_without_wobble_is_an_ellipse() -> None:
    frame = canvas.flat(96)
    blob = canvas.blob(generator(0), frame, (0.1, 0.0), (0.4, 0.2), angle=0.3, wobble=0.0)
    np.testing.assert_allclose(
        blob, canvas.ellipse(frame, (0.1, 0.0), (0.4, 0.2), angle=0.3), atol=1e-4
    )


def test_an_edge_is_half_on_the_outline_and_full_beyond_its_width() -> None:
    field = np.array([[-1.0, -0.1, 0.0, 0.1, 1.0]], np.float32)
    np.testing.assert_allclose(canvas.edge(field, 0.1), [[0, 0, 0.5, 1, 1]], atol=1e-6)


def test_whole_keeps_the_largest_piece_and_fills_its_holes() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:10, 2:10] = True
    filled = mask.copy()
    mask[4:6, 4:6] = False
    mask[15:17, 15:17] = True
    np.testing.assert_array_equal(canvas.whole(mask), filled)
    assert not canvas.whole(np.zeros((5, 5), np.bool_)).any()


def test_a_bay_at_the_border_of_a_piece_is_no_hole() -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[0:6, 0:6] = True
    mask[0:3, 2] = False
    np.testing.assert_array_equal(canvas.whole(mask), mask)


def test_an_exposure_is_grey_and_uses_the_range() -> None:
    image = canvas.expose(generator(1), np.full((64, 64), 0.5, np.float32), grain=0.05)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert (image == image[..., :1]).all()
    assert 60 < image.mean() < 200
