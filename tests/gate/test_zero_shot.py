"""Zero-shot against MediCLIP's published recipe, worked out by hand; the threshold's choice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline.datasets.card import find_card
from medfocus_pipeline.datasets.gate_prompts import GatePrompts
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.gate.balanced_threshold import balanced_threshold
from medfocus_pipeline.gate.zero_shot import ZeroShot

PROMPTS = GatePrompts(
    medical={"MRI": ("an MRI scan", "a brain MRI"), "CT": ("a CT scan",)},
    other={"animals": ("a dog",), "scenes": ("a street",)},
    templates=("a photo of {}",),
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_sum_is_the_share_of_one_softmax_over_all_phrases() -> None:
    rng = np.random.default_rng(0)
    texts, images = unit(rng.normal(size=(5, 8))), rng.normal(size=(20, 8)).astype(np.float32)
    found = ZeroShot.of(texts, 0.01, PROMPTS, "sum").score(images)
    # clip_classifier.py of tiwariar7/MediClip: softmax at scale 100, summed by side.
    logits = 100.0 * unit(images).astype(np.float64) @ texts.T.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    medical = shares[:, :3].sum(axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), medical, atol=1e-4)


def test_best_and_mean_are_those_of_the_cosines() -> None:
    rng = np.random.default_rng(1)
    texts, images = unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(9, 8)))
    cosines = images @ texts.T
    best = ZeroShot.of(texts, 0.5, PROMPTS, "best").score(images)
    expected = cosines[:, :3].max(axis=1) - cosines[:, 3:].max(axis=1)
    np.testing.assert_allclose(best, expected / 0.5, atol=1e-5)
    mean = ZeroShot.of(texts, 0.5, PROMPTS, "mean").score(images)
    expected = cosines[:, :3].mean(axis=1) - cosines[:, 3:].mean(axis=1)
    np.testing.assert_allclose(mean, expected / 0.5, atol=1e-5)


def test_an_image_looks_most_like_the_modality_of_the_phrase_it_fits_best() -> None:
    texts = np.eye(5, dtype=np.float32)
    gate = ZeroShot.of(texts, 0.01, PROMPTS, "best")
    images = np.array([[0, 1, 0, 0, 0], [0.1, 0.2, 0.3, 0, 0], [0, 0.1, 0, 1, 0]], np.float32)
    assert gate.looks_like(images) == ["MRI", "CT", "MRI"]


def test_texts_that_are_not_the_phrases_are_refused() -> None:
    with pytest.raises(DataError, match="4 texts for 5 phrases"):
        ZeroShot.of(np.eye(4, dtype=np.float32), 0.01, PROMPTS, "best")


def test_the_card_mediclip_has_the_published_phrases() -> None:
    card = find_card("mediclip")
    assert card is not None
    sides = card.gate.medical_phrases, len(card.gate.phrases) - card.gate.medical_phrases
    assert sides == (14, 14)
    assert len(set(card.gate.phrases)) == 28
    assert card.gate.pooling == "sum"
    assert ["a photo of an X-ray scan"] in card.gate.texts


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({side for _, side in rows}) == 2
    )
)
def test_no_threshold_is_better_balanced_than_the_one_that_is_chosen(
    rows: list[tuple[int, bool]],
) -> None:
    scores = np.array([score for score, _ in rows], np.float64)
    medical = np.array([side for _, side in rows])

    def balanced(threshold: float) -> float:
        above = scores > threshold
        return float(above[medical].mean() + (~above)[~medical].mean())

    chosen = balanced_threshold(scores, medical)
    candidates = np.arange(-5.5, 6)
    inside = [one for one in candidates if scores.min() < one < scores.max()]
    assert balanced(chosen) >= max([*map(balanced, inside), balanced(scores.min())]) - 1e-9 or (
        scores.min() == scores.max()
    )


def test_the_threshold_lies_in_the_middle_of_the_widest_gap() -> None:
    scores = np.array([0.0, 1.0, 5.0, 6.0])
    assert balanced_threshold(scores, np.array([False, False, True, True])) == 3.0


def test_a_threshold_needs_both_sides() -> None:
    with pytest.raises(DataError, match="3 medical ones of 3"):
        balanced_threshold(np.arange(3.0), np.ones(3, np.bool_))
