import numpy as np

from medfocus_pipeline.datasets.phantoms import canvas
from medfocus_pipeline.seeding import generator


def test_a_pose_without_spread_is_the_pictures_own_frame() -> None:
    still = canvas.posed(generator(0), 64, turn=0, zoom=0, stretch=0, shift=0, bend=0)
    np.testing.assert_allclose(still.x, canvas.flat(64).x, atol=1e-6)
    np.testing.assert_allclose(still.y, canvas.flat(64).y, atol=1e-6)


def test_an_edge_is_half_on_the_outline_and_full_beyond_its_width() -> None:
    field = np.array([[-1.0, -0.1, 0.0, 0.1, 1.0]], np.float32)
    np.testing.assert_allclose(canvas.edge(field, 0.1), [[0, 0, 0.5, 1, 1]], atol=1e-6)


def test_a_window_holds_every_pixel_of_its_square() -> None:
    frame = canvas.posed(generator(3), 97)
    squares = [(0.3, -0.4, 0.2), (-0.9, 0.9, 0.05), (5.0, 5.0, 0.1)]
    for (x, y, reach), there in zip(squares, canvas.windows(frame, squares), strict=True):
        inside = (np.abs(frame.x - x) < reach) & (np.abs(frame.y - y) < reach)
        assert inside[there].sum() == inside.sum()
        assert inside[there].size < 0.3 * inside.size


def test_what_is_mixed_in_shows_by_its_amount_and_only_in_the_window() -> None:
    picture = np.full((3, 8, 8), 0.5, np.float32)
    amount = np.full((2, 2), 0.25, np.float32)
    canvas.mix(picture, (slice(0, 2), slice(3, 5)), amount, 1.0)
    np.testing.assert_allclose(picture[:, :2, 3:5], 0.625)
    assert (picture == 0.5).sum() == 3 * (64 - 4)


def test_pieces_are_told_apart_and_the_small_ones_left_out() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[1:4, 1:4] = mask[10:15, 10:15] = mask[18, 18] = True
    pieces = canvas.pieces(mask, 2)
    assert [int(piece.sum()) for piece in pieces] == [9, 25]
    assert not canvas.pieces(np.zeros((5, 5), np.bool_), 1)


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
