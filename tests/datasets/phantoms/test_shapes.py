import numpy as np
import pytest

from medfocus_pipeline.datasets.phantoms import canvas, shapes
from medfocus_pipeline.seeding import generator


def test_a_shape_covers_the_same_share_at_every_size() -> None:
    shares = [
        (shapes.ellipse(canvas.flat(size), (0.1, -0.2), (0.5, 0.3), angle=0.4) > 0).mean()
        for size in (64, 224, 256)
    ]
    assert shares == pytest.approx([np.pi * 0.5 * 0.3 / 4] * 3, abs=0.002)


def test_a_blob_without_wobble_is_an_ellipse() -> None:
    frame = canvas.flat(96)
    blob = shapes.blob(generator(0), frame, (0.1, 0.0), (0.4, 0.2), angle=0.3, wobble=0.0)
    np.testing.assert_allclose(
        blob, shapes.ellipse(frame, (0.1, 0.0), (0.4, 0.2), angle=0.3), atol=1e-4
    )


def test_a_random_outline_is_around_one_and_as_rough_as_asked() -> None:
    smooth, spiky = (
        np.stack([shapes.star(generator(n), wobble=0.1, spikes=spikes) for n in range(20)])
        for spikes in (0.0, 0.1)
    )
    assert smooth.shape == (20, 512)
    assert smooth.dtype == np.float32
    assert np.log(smooth).mean() == pytest.approx(0, abs=0.02)
    assert np.abs(np.diff(spiky)).mean() > 2 * np.abs(np.diff(smooth)).mean()
