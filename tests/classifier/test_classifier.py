from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.classifier.answer import Answer
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import Roi
from tests.classifier.packs import CLASSES, classifier, images
from tests.fakes import blank


def test_every_image_gets_an_answer_in_its_place() -> None:
    some = images(40, size=(14, 9))
    answers = classifier().predict(some)
    assert len(answers) == 40
    for image, answer in zip(some, answers, strict=True):
        assert answer.classes == CLASSES
        assert answer.probabilities.sum() == pytest.approx(1)
        assert answer.label == CLASSES[int(answer.probabilities.argmax())]
        assert answer.roi.mask.shape == image.shape[:2]
    again = [classifier().predict([image])[0] for image in some[::13]]
    for one, other in zip(again, answers[::13], strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_no_image_has_no_answer() -> None:
    assert classifier().predict([]) == []
    assert classifier().explain([]) == []


def test_an_explanation_has_the_answer_of_predict_and_a_heat_map() -> None:
    some = images(3)
    answers = classifier().predict(some)
    for image, answer, one in zip(some, answers, classifier().explain(some), strict=True):
        np.testing.assert_array_equal(one.answer.probabilities, answer.probabilities)
        assert one.answer.distance == answer.distance
        assert one.heat.shape == image.shape[:2]
        assert one.heat.min() >= 0
        assert one.heat.max() <= 1
        assert one.method == "tokens"


def test_an_image_is_unfamiliar_beyond_the_threshold() -> None:
    one = classifier()
    assert not any(answer.unfamiliar for answer in one.predict(images(12)))
    strict = replace(one, familiar=replace(one.familiar, threshold=0.0))
    assert all(answer.unfamiliar for answer in strict.predict(images(12)))


def test_an_image_without_a_candidate_says_that_all_of_it_was_looked_at() -> None:
    [answer] = classifier().predict([blank((12, 10))])
    assert answer.roi.fallback
    assert answer.box == (0, 0, 10, 12)
    assert answer.area == 1


def test_the_box_and_the_area_are_those_of_the_region() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 7:11] = True
    answer = Answer(CLASSES, np.array([0.9, 0.1]), 0, Roi(mask, fallback=False), 0.1, 0.2)
    assert answer.box == (7, 2, 11, 5)
    assert answer.area == pytest.approx(12 / 200)
    assert not answer.unfamiliar


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"is float32, expected \(h, w, 3\) uint8"),
        (np.zeros((8, 8), np.uint8), r"shape \(8, 8\), expected \(h, w, 3\) RGB"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        ("scan.png", "is str, expected"),
    ],
)
def test_what_is_no_image_is_refused_with_its_place(wrong: object, message: str) -> None:
    with pytest.raises(DataError, match=f"Image 1 .*{message}"):
        classifier().predict([images(1)[0], wrong])  # type: ignore[list-item]


def test_one_image_without_a_list_is_refused() -> None:
    with pytest.raises(DataError, match=r"write \[image\]"):
        classifier().predict(images(1)[0])  # type: ignore[arg-type]
