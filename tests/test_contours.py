"""Contours: squares and half-planes whose answer is known, the limits, and what becomes of void."""

import numpy as np
import pytest
from scipy import ndimage

from bipartition.contours import boundary_f, boundary_iou, fill_void, near, rim, rim_width, tolerance
from bipartition.datasets.photographs import VOID
from bipartition.evaluation import foreground_overlap, object_truth


def square(size=40, start=12, stop=28):
    picture = np.zeros((1, size, size), bool)
    picture[0, start:stop, start:stop] = True
    return picture


class TestBoundaryIou:
    def test_rim_width_is_two_per_cent_of_the_diagonal(self):
        assert [rim_width((size, size)) for size in (8, 64, 112, 224)] == [1, 2, 3, 6]

    def test_rim_of_a_square_and_of_a_full_picture(self):
        square = np.zeros((1, 9, 9), bool)
        square[0, 2:7, 2:7] = True
        assert rim(square, 1).sum() == 25 - 9
        assert rim(square, 2).sum() == 25 - 1
        assert rim(np.ones((1, 6, 6), bool), 1).sum() == 36 - 16

    def test_shifted_square_by_hand(self):
        one = np.zeros((1, 12, 12), bool)
        one[0, 3:7, 3:7] = True
        other = np.roll(one, 1, axis=2)
        assert boundary_iou(one, one, 1)[0] == 1
        # rims of 12 pixels each; common: 3 + 3 in the top and bottom lines, nothing on the sides
        assert boundary_iou(one, other, 1)[0] == pytest.approx(6 / 18)

    def test_both_empty_is_undefined_and_one_empty_is_zero(self):
        empty, full = np.zeros((1, 5, 5), bool), np.ones((1, 5, 5), bool)
        assert np.isnan(boundary_iou(empty, empty)[0])
        assert boundary_iou(empty, full)[0] == 0

    def test_sees_a_ragged_contour_that_iou_hardly_notices(self):
        truth = np.zeros((1, 64, 64), bool)
        truth[0, 12:52, 12:52] = True
        ragged = truth.copy()
        ragged[0, 12:52, 10:54:2] |= True
        ragged[0, 12:14, 12:52:2] = ragged[0, 50:52, 12:52:2] = False
        overlap, union = foreground_overlap(ragged, truth, np.zeros_like(truth))
        assert overlap[0] / union[0] > 0.9
        assert boundary_iou(ragged, truth)[0] < 0.75


class TestBoundaryF:
    def test_tolerance_is_three_quarters_of_a_per_cent_of_the_diagonal(self):
        assert [tolerance((size, size)) for size in (8, 64, 112, 224, 500)] == [1, 1, 1, 2, 5]

    def test_near_is_a_disc_cut_off_at_the_edges(self):
        lines = np.zeros((2, 9, 9), bool)
        lines[0, 4, 4] = lines[1, 0, 0] = True
        rows, columns = np.mgrid[:9, :9]
        for radius in (1, 2, 3, 20):
            found = near(lines, radius)
            assert (found[0] == ((rows - 4) ** 2 + (columns - 4) ** 2 <= radius ** 2)).all()
            assert (found[1] == (rows ** 2 + columns ** 2 <= radius ** 2)).all()

    def test_near_agrees_with_distances(self):
        lines = np.random.default_rng(0).random((3, 30, 20)) < 0.02
        for one, found in zip(lines, near(lines, 4), strict=True):
            assert (found == (ndimage.distance_transform_edt(~one) <= 4)).all()

    def test_within_the_tolerance_is_met_and_beyond_is_missed(self):
        upper = np.zeros((1, 40, 40), bool)
        upper[0, :20] = True
        lower = np.roll(upper, 3, axis=1) | upper
        assert boundary_f(upper, upper, 1)[0] == boundary_f(upper, lower, 3)[0] == 1
        assert boundary_f(upper, lower, 2)[0] < 0.75

    def test_shifted_square_by_hand(self):
        one = square(12, 3, 7)
        other = np.roll(one, 2, axis=2)
        # contours of 12 pixels each; met: 3 + 3 in the top and bottom lines, and 2 of the side inside the other square
        assert boundary_f(one, other, 1)[0] == pytest.approx(8 / 12)

    def test_it_is_the_same_when_mask_and_truth_change_places(self):
        blocks = np.random.default_rng(0).random((2, 4, 10, 10)) < 0.3
        one, other = blocks.repeat(4, axis=2).repeat(4, axis=3)
        found = boundary_f(one, other)
        assert (found == boundary_f(other, one)).all() and ((found > 0) & (found < 1)).all()

    def test_precision_and_recall_by_hand(self):
        truth = np.zeros((1, 20, 20), bool)
        truth[0, 4:8, 4:8] = True
        both = truth.copy()
        both[0, 13:17, 13:17] = True
        # two squares for one: half of our contour is right, all of the true one is met
        assert boundary_f(both, truth)[0] == pytest.approx(2 * 0.5 * 1 / 1.5)

    def test_both_empty_is_undefined_and_one_empty_is_zero(self):
        empty, full = np.zeros((1, 5, 5), bool), np.ones((1, 5, 5), bool)
        assert np.isnan(boundary_f(empty, empty)[0])
        assert boundary_f(empty, full)[0] == boundary_f(full, empty)[0] == 0

    def test_the_edge_of_the_picture_is_contour_where_a_mask_reaches_it(self):
        full = np.ones((1, 40, 40), bool)
        assert boundary_f(full, full)[0] == 1
        assert boundary_f(full, square())[0] == 0

    def test_pictures_are_scored_apart(self):
        masks = np.concatenate([square(), square(start=5, stop=9), np.zeros((1, 40, 40), bool)])
        together = boundary_f(masks, np.repeat(square(), 3, axis=0))
        assert together.tolist() == [boundary_f(mask[None], square())[0] for mask in masks]


class TestFillVoid:
    def test_contour_runs_through_the_middle_of_the_void_ring(self):
        truth = np.zeros((1, 20, 20), np.uint8)
        truth[0, 4:16, 4:16] = VOID
        truth[0, 8:12, 8:12] = 3
        is_object, is_void = object_truth(truth)
        filled = fill_void(is_object, is_void)[0]
        assert filled[10, 6:14].all() and not filled[10, :6].any() and not filled[10, 14:].any()

    def test_void_elsewhere_and_nowhere(self):
        objects = np.zeros((2, 4, 4), bool)
        objects[:, 0] = True
        void = np.zeros((2, 4, 4), bool)
        void[1] = True
        assert (fill_void(objects, void) == objects).all()
