import numpy as np

from medfocus_pipeline.datasets.phantoms import exposure
from medfocus_pipeline.seeding import generator


def test_an_exposure_is_grey_and_uses_the_range() -> None:
    image = exposure.expose(generator(1), np.full((64, 64), 0.5, np.float32), grain=0.05)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert (image == image[..., :1]).all()
    assert 60 < image.mean() < 200


def test_an_exposure_leaves_the_picture_as_it_was() -> None:
    picture = np.full((64, 64), 0.5, np.float32)
    for seed in range(8):
        exposure.expose(generator(seed), picture, grain=0.05)
    assert (picture == 0.5).all()
