from dataclasses import replace

import numpy as np

from medfocus_pipeline.config import ZeroShotConfig
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.zeroshot import FittedZeroShot, ZeroShotHead
from tests.heads.sets import clip_like, take


def fit(train: TrainingSet) -> FittedZeroShot:
    return ZeroShotHead(ZeroShotConfig()).fit(train, np.random.default_rng(0))


def test_probabilities_are_the_softmax_of_the_cosines_over_the_temperature() -> None:
    train = clip_like(images=10, seed=0)
    found = fit(train).predict_proba(train.features)
    powers = np.exp(train.features.astype(np.float64) @ train.text.T.astype(np.float64) / 0.05)
    expected = (powers / powers.sum(axis=2, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_neither_labels_nor_images_of_the_subset_have_a_say() -> None:
    train, test = clip_like(images=10, seed=0), clip_like(images=10, seed=1)
    others = [replace(train, labels=train.labels[::-1]), take(train, np.arange(1)), test]
    found = fit(train).predict_proba(test.features)
    for other in others:
        assert fit(other).predict_proba(test.features).tobytes() == found.tobytes()
    assert fit(train).chosen == {}
