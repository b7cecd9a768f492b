import numpy as np

from medfocus_pipeline.classifier import Answer, Explanation
from medfocus_pipeline.classifier.overlay import draw, heated, scale
from medfocus_pipeline.report.outlines import ROI
from medfocus_pipeline.types import Roi
from tests.fakes import picture


def explained(*, whole: bool = False, distance: float = 0.1) -> Explanation:
    mask = np.full((30, 60), whole)
    mask[5:20, 10:30] = True
    answer = Answer(
        ("glioma", "Überraschung"), np.array([0.8, 0.2]), 0, Roi(mask, whole), distance, 0.5
    )
    heat = np.zeros((30, 60), np.float32)
    heat[10, 20] = 1
    return Explanation(answer, heat, "tokens")


def outlined(sheet: np.ndarray) -> int:
    return int((sheet == ROI).all(axis=2).sum())


def test_a_picture_has_the_image_twice_with_the_region() -> None:
    image = picture("scan", size=(30, 60))
    sheet = draw(image, explained(), name="scan.png")
    assert sheet.shape[1:] == (932, 3)
    left, right = sheet[:, :466], sheet[:, 466:]
    assert outlined(left) == outlined(right) > 100


def test_a_region_that_is_the_whole_image_is_not_outlined_but_told() -> None:
    image = picture("scan", size=(30, 60))
    sheet, plain = (draw(image, explained(whole=one), name="s") for one in (True, False))
    assert outlined(sheet) == 0
    assert len(sheet) > len(plain)


def test_an_unfamiliar_image_has_one_line_more() -> None:
    image = picture("scan", size=(30, 60))
    near, far = (draw(image, explained(distance=one), name="s") for one in (0.1, 0.9))
    assert len(far) > len(near)


def test_a_cold_place_is_left_as_it_is_and_a_hot_one_is_not() -> None:
    image = picture("scan", size=(20, 20))
    heat = np.zeros((20, 20), np.float32)
    np.testing.assert_array_equal(heated(image, heat), image)
    heat[5:9, 5:9] = 1
    hot = heated(image, heat)
    assert (hot[6, 6] != image[6, 6]).any()
    np.testing.assert_array_equal(hot[15:, 15:], image[15:, 15:])


def test_the_scale_has_the_colours_of_the_heat_map_and_its_numbers() -> None:
    bar = scale(448)
    grey = np.full((1, 448, 3), 128, np.uint8)
    heat = np.linspace(0, 1, 448, dtype=np.float32)[None]
    np.testing.assert_array_equal(bar[:1], heated(grey, heat))
    sheet = draw(picture("scan", size=(30, 60)), explained(), name="scan.png")
    places = [
        row for row in range(len(sheet) - 13) if (sheet[row : row + 14, 472:920] == bar).all()
    ]
    assert len(places) == 1
    numbers = (sheet[places[0] + 14 : -1, 472:920] < 100).all(axis=2).any(axis=0)
    inked = np.flatnonzero(numbers)
    assert len(np.split(inked, 1 + np.flatnonzero(np.diff(inked) > 40))) == 5


def test_names_that_no_font_has_are_drawn_all_the_same() -> None:
    draw(picture("scan", size=(30, 60)), explained(), name="扫描\n" * 100)
