"""Folds by patient: a choice inside the subset does not see the held-out patients."""

from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.heads.folds import each_alone, folds, smallest_class
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.protocol import TrainingSet
from tests.heads.sets import made_up

SLICES = 6


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def slices_of_patients() -> TrainingSet:
    """Six slices of each of eighteen patients, alike but for a little noise."""
    patients = made_up(images=18, views=1, dim=40, noise=6)
    features = np.repeat(patients.features, SLICES, axis=0)
    features = features + 0.01 * rng().normal(size=features.shape).astype(np.float32)
    groups = np.repeat(np.arange(18), SLICES)
    return TrainingSet(features, np.repeat(patients.labels, SLICES), 3, None, groups=groups)


def test_slices_on_both_sides_of_a_fold_choose_a_c_that_patients_do_not() -> None:
    train = slices_of_patients()
    head = LinearHead(LinearConfig())
    apart = head.fit(train, rng()).chosen["C"]
    mixed = head.fit(replace(train, groups=None), rng()).chosen["C"]
    assert mixed >= 100 * apart


def test_no_group_is_on_both_sides() -> None:
    train = slices_of_patients()
    assert train.groups is not None
    found = list(folds(train.labels, n_folds=3, rng=rng(), groups=train.groups))
    assert len(found) == 3
    for rest, held_out in found:
        assert not set(train.groups[rest]) & set(train.groups[held_out])
    for rest, held_out in each_alone(train.labels, train.groups):
        assert len(held_out) == SLICES
        assert not set(train.groups[rest]) & set(train.groups[held_out])


@pytest.mark.parametrize("patients", [1, 2])
def test_fewer_patients_than_a_choice_needs_mean_the_default(patients: int) -> None:
    labels = np.repeat([0, 1], 12)
    groups = np.repeat(np.arange(2 * patients), 12 // patients)
    assert smallest_class(labels, groups) == patients
    features = rng().normal(size=(24, 1, 5)).astype(np.float32)
    train = TrainingSet(features, labels, 2, None, groups=groups)
    config = LinearConfig(default_c=3.0)
    assert LinearHead(config).fit(train, rng()).chosen == {"C": 3.0}


def test_what_numbers_the_groups_have_does_not_matter() -> None:
    train = slices_of_patients()
    assert train.groups is not None
    one, two = (
        [held.tolist() for _, held in folds(train.labels, n_folds=3, rng=rng(), groups=groups)]
        for groups in (train.groups, 17 - train.groups)
    )
    assert one == two
