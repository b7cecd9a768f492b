from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.adaptation import Task, make_method
from medfocus_pipeline.adaptation.alignment import (
    Aligned,
    in_subspace,
    multiplied,
    principal_axes,
    recoloured,
    standardised,
)
from medfocus_pipeline.config.adaptation import CoralConfig, SourceConfig, SubspaceConfig
from tests.adaptation.tasks import quarters, shifted

Array = np.ndarray


def formula() -> tuple[Array, Array]:
    """Two domains of 8 images and 3 dimensions, standardised."""
    i, j = np.arange(8)[:, None], np.arange(3)[None]
    source = np.sin(1.0 + 2.3 * i + 1.7 * j * (i + 1))
    target = np.cos(0.5 + 1.1 * i * (j + 1) + j) * (1 + j)
    return tuple((one - one.mean(0)) / one.std(0) for one in (source, target))  # type: ignore[return-value]


def as_domains(source: Array, target: Array) -> Aligned:
    rows = [one[:, None].astype(np.float32) for one in (source, target)]
    return Aligned(*rows, rows[1])


def power(matrix: Array, exponent: float) -> Array:
    values, axes = np.linalg.eigh(matrix)
    return (axes * values**exponent) @ axes.T


@pytest.mark.parametrize(("images", "dim"), [(40, 6), (5, 9)], ids=["tall", "wide"])
@pytest.mark.parametrize("added", [1.0, 0.01])
def test_coral_is_its_closed_form(images: int, dim: int, added: float) -> None:
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(images, 2, dim)) @ rng.normal(size=(dim, dim)) for _ in "st")
    source, target = source - source.mean((0, 1)), target - target.mean((0, 1))
    covariances = [np.cov(one.reshape(-1, dim).T) + added * np.eye(dim) for one in (source, target)]
    expected = source @ power(covariances[0], -0.5) @ power(covariances[1], 0.5)
    domains = Aligned(*(one.astype(np.float32) for one in (source, target, target)))
    found = recoloured(domains, np.zeros(images, np.int64), added=added)
    np.testing.assert_allclose(found.source, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found.target, domains.target)


def test_coral_is_that_of_skada() -> None:
    """Numbers of CORALAdapter(reg=None) of skada 0.6.0 on the same domains."""
    found = recoloured(as_domains(*formula()), np.zeros(8, np.int64), added=1e-9)
    expected = [[1.351141, -0.049526, -1.770747], [-0.770413, 1.015336, -1.20964]]
    np.testing.assert_allclose(found.source[:2, 0], expected, atol=1e-4)


def test_subspace_alignment_is_that_of_skada_but_for_the_axes_signs() -> None:
    """Numbers of SubspaceAlignmentAdapter(n_components=2) of skada 0.6.0 on the same domains."""
    domains = as_domains(*formula())
    axes = [principal_axes(one)[:, :2] for one in (domains.source, domains.target)]
    found = in_subspace(domains, *axes)
    source = np.array([[1.993143, 0.437167], [1.010159, -0.075464]])
    target = np.array([[1.457059, -0.057159], [-0.996228, -0.993378]])
    signs = np.sign(found.target[0, 0] / target[0])
    np.testing.assert_allclose(found.target[:2, 0] * signs, target, atol=1e-5)
    np.testing.assert_allclose(found.source[:2, 0] * signs, source, atol=1e-5)


def test_each_source_gets_the_targets_covariance_by_itself() -> None:
    task, _ = shifted(images=50, sources=2, dim=5)
    domains = standardised(task, np.arange(100))
    found = recoloured(domains, task.domains, added=1e-6)
    expected = np.cov(domains.target.reshape(-1, 5).T)
    for one in range(2):
        own = found.source[task.domains == one].reshape(-1, 5)
        np.testing.assert_allclose(np.cov(own.T), expected, atol=1e-3)


def test_every_domain_is_standardised_by_itself_and_the_test_as_the_target() -> None:
    task, _ = shifted(images=50, sources=2, dim=5)
    flat = task.target.copy()
    flat[..., 4] = 0.25
    domains = standardised(replace(task, target=flat), np.arange(10, 100))
    for own in (domains.source[:40], domains.source[40:], domains.target[..., :4]):
        np.testing.assert_allclose(own.mean((0, 1)), 0, atol=1e-5)
        np.testing.assert_allclose(own.std((0, 1)), 1, atol=1e-4)
    assert np.isfinite(domains.target).all()
    expected = (task.test - flat.mean((0, 1)))[:, :4] / flat.std((0, 1))[:4]
    np.testing.assert_allclose(domains.test[:, 0, :4], expected, rtol=1e-4, atol=1e-5)


def test_powers_undo_each_other() -> None:
    features = np.random.default_rng(0).normal(size=(4, 2, 7)).astype(np.float32)
    there = multiplied(features, features, power=0.5, added=0.1)
    back = multiplied(there, features, power=-0.5, added=0.1)
    np.testing.assert_allclose(back, features, atol=1e-4)


def mixed(seed: int) -> tuple[Task, Array]:
    """A target whose dimensions are stretched and moved, as another machine's pictures are."""
    task, truth = shifted(images=150, shift=0.0, seed=seed)
    stretch = np.linspace(0.3, 3, 12).astype(np.float32)
    return replace(task, target=task.target * stretch + 2, test=task.test * stretch + 2), truth


@pytest.mark.parametrize("config", [CoralConfig(), SubspaceConfig()], ids=lambda one: one.name)
def test_a_stretched_target_is_classified_better_than_without(
    config: CoralConfig | SubspaceConfig,
) -> None:
    task, truth = mixed(0)

    def accuracy(method: CoralConfig | SubspaceConfig | SourceConfig) -> float:
        found = make_method(method).adapt(task, quarters(task), [0, 1]).probabilities
        return float((found.argmax(axis=2) == truth).mean())

    assert accuracy(config) > accuracy(SourceConfig()) + 0.1


def test_the_number_of_axes_is_chosen_by_the_sources_held_out_labels() -> None:
    task, _ = shifted(images=80, shift=0.0)
    buried = task.source.copy()
    buried[..., 0] *= 0.2  # classes lie along the axis of the least variance
    buried[..., 1:] += 3 * np.random.default_rng(1).normal(size=(80, 1, 11))
    told = replace(task, source=buried, target=buried)
    wide = SubspaceConfig(widths=(1, 12))
    assert make_method(wide).adapt(told, [np.arange(80)], [0]).choices[0]["width"] == 12


def test_images_too_few_for_folds_take_the_fewest_axes() -> None:
    task, _ = shifted(images=4)
    found = make_method(SubspaceConfig(widths=(3, 2))).adapt(task, [np.arange(4)], [0])
    assert found.choices[0] == {"C": 0.01, "width": 2}
