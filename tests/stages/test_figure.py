"""``medfocus figure``: a picture of what was done, at every point of the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from medfocus_pipeline.report.outlines import CANDIDATES
from medfocus_pipeline.report.sheet import Answer, Example, draw_sheet, write_png
from tests.stages.conftest import Medfocus

QUICK = """\
masks: {segmenter: {name: threshold}}
embed: {encoder: {name: efficientnet-lite0}, focus: [original, crop], views: [identity]}
probe: {rows: [{focus: [crop]}], fractions: [100], seeds: 1}
"""


def example(*, size: tuple[int, int] = (90, 60), answer: Answer | None = None) -> Example:
    """A grey picture with a region in it, and an annotation elsewhere."""
    image = np.full((*size, 3), 120, np.uint8)
    roi, annotation = np.zeros(size, bool), np.zeros(size, bool)
    roi[10:40, 10:40], annotation[50:70, 20:50] = True, True
    candidates = np.zeros((2, 64, 64), bool)
    candidates[0, 8:28, 8:40], candidates[1, 30:60, 30:60] = True, True
    return Example(image, candidates, roi, annotation, image * roi[..., None], "square", answer)


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    packed = np.unique(picture.astype(int) @ (65536, 256, 1)).tolist()
    return {(one >> 16, one >> 8 & 255, one & 255) for one in packed}


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_sheet_shows_candidates_roi_and_annotation_in_their_colours() -> None:
    sheet = draw_sheet([example()], rule="best", focus="segmented", source="")
    assert sheet.shape[1] <= 1200
    image, candidates, roi, focused = (
        colours(sheet[44:260, left : left + 216]) for left in range(12, 12 + 4 * 228, 228)
    )
    amber, blue, cyan = (255, 176, 0), (100, 143, 255), (0, 190, 255)
    assert image == {(120, 120, 120), (255, 255, 255)}
    assert {amber, blue} <= candidates
    assert {amber, cyan} <= roi
    assert {amber, cyan}.isdisjoint(focused)
    assert (0, 0, 0) in focused


def test_of_many_candidates_the_best_five_are_outlined() -> None:
    masks = np.zeros((8, 64, 64), bool)
    for number, mask in enumerate(masks):
        mask[4 + 7 * number : 9 + 7 * number, 4:60] = True
    many = replace(example(), candidates=masks)
    sheet = draw_sheet([many], rule="best", focus="segmented", source="")
    drawn = colours(sheet[44:260, 12 + 228 : 12 + 228 + 216])
    assert [colour in drawn for colour in CANDIDATES] == [True] * 5 + [False] * 3


def test_right_and_wrong_answers_look_different() -> None:
    answers = (Answer("square", 0.9), Answer("disc", 0.9), None)
    sheets = [
        draw_sheet([example(answer=answer)], rule="best", focus="segmented", source="")
        for answer in answers
    ]
    green, red = (0, 120, 60), (190, 20, 40)
    assert [green in colours(sheet) for sheet in sheets] == [True, False, False]
    assert [red in colours(sheet) for sheet in sheets] == [False, True, False]


def test_a_noisy_sheet_is_a_small_file_all_the_same(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(128, 30, (700, 1168, 1)).clip(0, 255)
    write_png(noise.astype(np.uint8).repeat(3, axis=2), tmp_path / "new" / "noise.png")
    assert (tmp_path / "new" / "noise.png").stat().st_size < 600_000
    plain = np.full((20, 20, 3), 77, np.uint8)
    write_png(plain, tmp_path / "plain.png")
    assert np.array_equal(read(tmp_path / "plain.png"), plain)


def test_a_finished_data_set_is_drawn_with_its_answers(done: Medfocus) -> None:
    answer = done("figure")
    assert answer.code == 0, answer
    assert "4 images, answers: fusion on original+segmented, 24 training images, seed 0" in (
        answer.out
    )
    path = Path("cache/shapes/figure.png")
    first = path.read_bytes()
    assert len(first) < 600_000
    assert read(path).shape[1] <= 1200
    assert done("figure", "shapes", "--count", "4").code == 0
    assert path.read_bytes() == first


def test_count_and_place_can_be_chosen(done: Medfocus) -> None:
    assert done("figure", "--count", "1", "--out", "sub/one.png").code == 0
    assert done("figure", "--count", "3", "--out", "three.png").code == 0
    one, three = read(Path("sub/one.png")), read(Path("three.png"))
    assert one.shape[1] == three.shape[1]
    assert len(three) > 2 * len(one)
    refused = done("figure", "--out", "figure.jpg")
    assert refused.code == 2
    assert "expected a name that ends in .png" in refused.err


def test_each_stage_that_is_missing_is_named(medfocus: Medfocus, images: Path) -> None:
    Path("quick.yaml").write_text(QUICK)
    first = medfocus("figure", "shapes", "--data", images, "--profile", "quick.yaml")
    assert first.code == 1
    assert "40 of 40 images have no masks of threshold. Run: make masks DATASET=shapes" in first.err
    assert medfocus("masks", "shapes", "--data", images, "--profile", "quick.yaml").code == 0
    second = medfocus("figure")
    assert second.code == 1
    assert "no embedding of efficientnet-lite0-crop" in second.err
    assert "Run: make embed DATASET=shapes" in second.err
    assert medfocus("embed").code == 0
    third = medfocus("figure")
    assert third.code == 0, third
    assert "no answers yet: make probe" in third.out
