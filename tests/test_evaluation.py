"""Measures of masks: known answers, properties, and agreement with torchmetrics."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryAveragePrecision, BinaryJaccardIndex

from bipartition import evaluation
from bipartition.datasets.photographs import VOID
from bipartition.evaluation import average_precision, evaluate, glance, interval, object_truth, paired_difference


def split_of(truth, labels=None, codes=None):
    count = len(truth)
    return SimpleNamespace(masks=truth, labels=np.zeros(count, int) if labels is None else np.array(labels),
                           truth_codes=np.full(count, 1) if codes is None else np.array(codes),
                           ids=[f"picture{index}" for index in range(count)])


def random_case(count=6, size=20, seed=0):
    random = np.random.default_rng(seed)
    masks = random.integers(0, 256, (count, size, size), dtype=np.uint8)
    truth = random.choice(np.array([0, 1, 2, VOID], dtype=np.uint8), (count, size, size))
    return masks, split_of(truth, labels=np.arange(count) % 2, codes=np.arange(count) % 2 + 1)


class TestEvaluate:
    def test_known_answer_with_void_and_two_classes(self):
        truth = np.array([[[1, 1, 0, 255], [1, 1, 0, 255]], [[2, 0, 0, 0], [0, 0, 0, 0]]], np.uint8)
        masks = np.array([[[255, 255, 255, 255], [0, 0, 0, 255]], [[255, 255, 0, 0], [255, 255, 0, 0]]], np.uint8)
        found = evaluate(masks, split_of(truth, labels=[0, 1]), ["dog", "cat"])
        assert [line["iou"] for line in found["per_image"]] == [0.4, 0.25]
        assert [(line["intersection"], line["union"]) for line in found["per_image"]] == [(2, 5), (1, 4)]
        assert found["classes"]["dog"]["iou"] == 0.4 and found["classes"]["cat"]["n"] == 1
        assert found["mean_iou"] == pytest.approx(0.325)
        assert [line["area"] for line in found["per_image"]] == [0.625, 0.5]

    def test_pooled_iou_adds_pixels_where_the_mean_adds_pictures(self):
        truth = np.zeros((2, 4, 4), np.uint8)
        truth[0, 0, 0], truth[1] = 1, 1
        masks = np.zeros((2, 4, 4), np.uint8)
        masks[1] = 255
        found = evaluate(masks, split_of(truth), ["dog"])["classes"]["dog"]
        assert found["iou"] == 0.5
        assert found["pooled_iou"] == pytest.approx(16 / 17, abs=1e-6)

    def test_mean_iou_is_the_mean_over_classes(self):
        truth = np.ones((4, 4, 4), np.uint8)
        masks = np.full((4, 4, 4), 255, np.uint8)
        masks[3] = 0
        assert evaluate(masks, split_of(truth, labels=[0, 0, 0, 1]), ["dog", "cat"])["mean_iou"] == 0.5

    @pytest.mark.parametrize("truth", ["some", "no object", "none"])
    def test_a_glance_says_what_evaluation_says(self, truth):
        masks, split = random_case(count=9)
        masks[0], masks[1] = 0, 255
        split.masks[4] = 0  # a picture without an object
        split.masks = {"some": split.masks, "no object": np.zeros_like(split.masks), "none": None}[truth]
        known = evaluate(masks, split, ["dog", "cat"])
        names = ["area", "grey", "collapsed"] + (["mean_iou"] if truth == "some" else [])
        assert glance(masks, split) == pytest.approx({name: known[name] for name in names}, abs=2e-6)
        assert known["collapsed"] == pytest.approx(2 / 9, abs=1e-6)

    def test_foreground_begins_at_one_half(self):
        truth = np.ones((1, 2, 2), np.uint8)
        assert evaluate(np.full((1, 2, 2), 128, np.uint8), split_of(truth), ["dog"])["mean_iou"] == 1
        assert evaluate(np.full((1, 2, 2), 127, np.uint8), split_of(truth), ["dog"])["mean_iou"] == 0

    def test_grey_is_what_lies_strictly_between_a_tenth_and_nine_tenths(self):
        masks = np.array([[[25, 26], [229, 230]]], np.uint8)
        assert evaluate(masks, split_of(np.ones((1, 2, 2), np.uint8)), ["dog"])["grey"] == 0.5

    def test_empty_prediction_scores_zero_and_a_picture_without_object_is_left_out(self):
        truth = np.zeros((2, 4, 4), np.uint8)
        truth[0, :2] = 1
        found = evaluate(np.zeros((2, 4, 4), np.uint8), split_of(truth), ["dog"])
        assert [line["iou"] for line in found["per_image"]] == [0.0, None]
        assert found["classes"]["dog"] == {"n": 1, "iou": 0.0, "pooled_iou": 0.0, "boundary_iou": 0.0}

    def test_own_class_makes_other_objects_background(self):
        truth = np.array([[[1, 2], [0, 0]]], np.uint8)
        masks = np.array([[[255, 0], [0, 0]]], np.uint8)
        found = evaluate(masks, split_of(truth, codes=[1]), ["dog"])
        assert found["mean_iou"] == 0.5 and found["per_image"][0]["own_iou"] == 1

    def test_own_iou_is_the_iou_where_the_truth_has_no_other_objects(self):
        masks, split = random_case()
        own_alone = split_of(np.where(np.isin(split.masks, (VOID, 0)) | (split.masks == split.truth_codes[:, None, None]),
                                      split.masks, 0), labels=split.labels, codes=split.truth_codes)
        any_object, own = (evaluate(masks, truth, ["dog", "cat"])["per_image"] for truth in (split, own_alone))
        assert [line["own_iou"] for line in any_object] == [line["own_iou"] for line in own] == [line["iou"] for line in own]

    def test_a_picture_without_its_own_class_has_no_own_iou(self):
        truth = np.array([[[2, 2], [0, 0]]], np.uint8)
        line, = evaluate(np.full((1, 2, 2), 255, np.uint8), split_of(truth, codes=[1]), ["dog"])["per_image"]
        assert line["iou"] == 0.5 and line["own_iou"] is None

    def test_the_other_way_is_the_iou_of_the_mask_turned_round(self):
        masks, split = random_case()
        found, turned = (evaluate(these, split, ["dog", "cat"])["per_image"] for these in (masks, 255 - masks))
        assert [line["other_way_iou"] for line in found] == [line["iou"] for line in turned]
        assert [line["iou"] for line in found] == [line["other_way_iou"] for line in turned]

    def test_void_counts_for_neither_way(self):
        truth = np.array([[[1, 1, 0, 0, 255, 255]]], np.uint8)
        masks = np.array([[[0, 0, 255, 255, 0, 255]]], np.uint8)
        line, = evaluate(masks, split_of(truth), ["dog"])["per_image"]
        assert (line["iou"], line["other_way_iou"]) == (0, 1)

    def test_a_perfect_mask_has_one_in_every_measure_and_everything_foreground_the_share_of_the_object(self):
        truth = np.zeros((2, 16, 16), np.uint8)
        truth[:, 4:12, 4:12] = 1
        masks = np.full((2, 16, 16), 255, np.uint8)
        masks[0] *= truth[0]
        perfect, everything = evaluate(masks, split_of(truth), ["dog"])["per_image"]
        for name in ("iou", "own_iou", "boundary_iou", "boundary_f", "average_precision"):
            assert perfect[name] == 1
        assert perfect["other_way_iou"] == everything["other_way_iou"] == everything["boundary_f"] == 0
        assert everything["average_precision"] == everything["iou"] == 0.25

    def test_void_around_the_object_belongs_to_no_contour_and_void_alone_is_no_object(self):
        truth = np.zeros((2, 32, 32), np.uint8)
        truth[0, 8:24, 8:24] = VOID
        truth[0, 12:20, 12:20] = 1
        truth[1, 8:24, 8:24] = VOID
        masks = np.zeros((2, 32, 32), np.uint8)
        masks[0, 10:22, 10:22] = 255  # half-way through the ring
        ring, nothing = evaluate(masks, split_of(truth), ["dog"])["per_image"]
        assert ring["iou"] == 1 and ring["boundary_f"] > 0.95
        assert nothing["iou"] is None and nothing["boundary_f"] is None

    def test_all_or_nothing_is_what_takes_more_than_98_percent_of_a_picture_or_less_than_2(self):
        shares = [0, 1, 2, 3, 50, 97, 98, 99, 100]
        masks = np.zeros((len(shares), 10, 10), np.uint8)
        for mask, share in zip(masks, shares, strict=True):
            mask.reshape(-1)[:share] = 255
        found = evaluate(masks, split_of(np.ones((len(shares), 10, 10), np.uint8)), ["dog"])
        assert [one["collapsed"] for one in found["per_image"]] == [1, 1, 0, 0, 0, 0, 0, 1, 1]
        assert found["collapsed"] == pytest.approx(4 / 9, abs=1e-5)
        grey = evaluate(np.full((1, 4, 4), 140, np.uint8), split_of(np.ones((1, 4, 4), np.uint8)), ["dog"])
        assert grey["collapsed"] == 1

    def test_a_picture_without_object_has_no_number_of_its_own(self):
        line, = evaluate(np.full((1, 4, 4), 255, np.uint8), split_of(np.zeros((1, 4, 4), np.uint8)), ["dog"])["per_image"]
        for name in ("iou", "own_iou", "other_way_iou", "boundary_iou", "boundary_f", "average_precision"):
            assert line[name] is None

    def test_without_truth_what_needs_one_is_null(self):
        split = split_of(np.zeros((3, 2, 2), np.uint8))
        split.masks = None
        found = json.loads(json.dumps(evaluate(np.full((3, 2, 2), 51, np.uint8), split, ["dog"])))
        assert found["mean_iou"] is None and found["per_image"][0]["iou"] is None
        assert found["classes"]["dog"] == {"n": 3, "iou": None, "pooled_iou": None, "boundary_iou": None}
        assert (found["area"], found["grey"]) == (0.2, 1.0)

    def test_agrees_with_torchmetrics(self):
        masks, split = random_case()
        found = evaluate(masks, split, ["dog", "cat"])
        for mask, truth, line in zip(masks, split.masks, found["per_image"], strict=True):
            target = torch.from_numpy(np.where(truth == VOID, -1, truth > 0).astype(np.int64))
            theirs = BinaryJaccardIndex(ignore_index=-1)(torch.from_numpy((mask >= 128).astype(np.int64)), target)
            assert line["iou"] == pytest.approx(float(theirs), abs=1e-6)

    def test_chunks_change_nothing(self, monkeypatch):
        masks, split = random_case(count=7)
        whole = evaluate(masks, split, ["dog", "cat"])
        monkeypatch.setattr(evaluation, "_CHUNK_PIXELS", 2 * 20 * 20)
        assert evaluate(masks, split, ["dog", "cat"]) == whole

    @pytest.mark.parametrize(("shape", "kind"), [((2, 4, 4), np.uint8), ((3, 4, 4), float), ((3, 5, 5), np.uint8)])
    def test_masks_that_do_not_fit_are_an_error(self, shape, kind):
        with pytest.raises(ValueError, match="masks"):
            evaluate(np.zeros(shape, kind), split_of(np.ones((3, 4, 4), np.uint8)), ["dog"])


class TestAveragePrecision:
    def test_known_answer(self):
        masks = np.array([[[200, 100], [50, 50]]], np.uint8)
        objects = np.array([[[True, False], [True, False]]])
        # 1 of 1 at 200, then 2 of 4 once the two pixels at 50 have entered together
        assert average_precision(masks, objects, np.zeros_like(objects))[0] == pytest.approx((1 + 2 / 4) / 2)

    def test_a_perfect_order_is_one_wherever_it_would_be_cut(self):
        objects = np.zeros((1, 6, 6), bool)
        objects[0, 2:5, 1:4] = True
        for inside, outside in ((255, 0), (1, 0), (255, 254)):
            masks = np.where(objects, inside, outside).astype(np.uint8)
            assert average_precision(masks, objects, np.zeros_like(objects))[0] == 1

    @pytest.mark.parametrize("value", [0, 77, 255])
    def test_a_mask_without_order_scores_the_share_of_the_object(self, value):
        objects = np.zeros((1, 4, 5), bool)
        objects[0, 0, :3] = True
        void = np.zeros_like(objects)
        assert average_precision(np.full((1, 4, 5), value, np.uint8), objects, void)[0] == pytest.approx(3 / 20)
        void[0, 3] = True
        assert average_precision(np.full((1, 4, 5), value, np.uint8), objects, void)[0] == pytest.approx(3 / 15)

    def test_void_says_nothing_and_no_object_has_no_number(self):
        masks, split = random_case(count=1)
        objects, void = object_truth(split.masks)
        changed = np.where(void, 255 - masks, masks)
        assert average_precision(masks, objects, void) == average_precision(changed, objects, void)
        assert np.isnan(average_precision(masks, np.zeros_like(objects), void))[0]

    @pytest.mark.parametrize("levels", [2, 5, 256])
    def test_agrees_with_torchmetrics_also_on_ties(self, levels):
        masks, split = random_case(seed=levels)
        masks = (masks // (256 // levels)).astype(np.uint8)
        found = evaluate(masks, split, ["dog", "cat"])
        for mask, truth, line in zip(masks, split.masks, found["per_image"], strict=True):
            target = torch.from_numpy(np.where(truth == VOID, -1, truth > 0).astype(np.int64))
            theirs = BinaryAveragePrecision(thresholds=None, ignore_index=-1)(torch.from_numpy(mask / 255), target)
            assert line["average_precision"] == pytest.approx(float(theirs), abs=2e-6)


class TestInterval:
    def test_mean_of_class_means(self):
        found = interval([0.0, 0.0, 0.0, 1.0], ["dog", "dog", "dog", "cat"])
        assert found == (0.5, 0.5, 0.5)

    def test_same_numbers_give_the_same_interval_and_it_encloses_the_mean(self):
        values = np.random.default_rng(1).random((3, 50))
        found = interval(values)
        assert found == interval(values)
        assert found.low < found.mean < found.high and found.mean == pytest.approx(values.mean())

    def test_covers_the_truth_about_as_often_as_it_says(self):
        random = np.random.default_rng(0)
        hits = 0
        for _ in range(200):
            sample = interval(random.beta(4, 2, size=60), resamples=400)
            hits += sample.low <= 4 / 6 <= sample.high
        assert 0.89 <= hits / 200 <= 0.99

    def test_seeds_that_disagree_widen_it(self):
        values = np.random.default_rng(2).random(400)
        alike, unlike = interval([values, values]), interval([values - 0.2, values + 0.2])
        assert unlike.mean == pytest.approx(alike.mean)
        assert unlike.high - unlike.low > 4 * (alike.high - alike.low)

    def test_unknown_numbers_are_left_out(self):
        assert interval([[1.0, np.nan], [1.0, np.nan]]).mean == 1
        assert np.isnan(interval([np.nan, np.nan])).all()
        with pytest.raises(ValueError, match="in one seed and none in another"):
            interval([[1.0, np.nan], [1.0, 1.0]])

    def test_groups_must_fit(self):
        with pytest.raises(ValueError, match=r"groups has shape \(3,\); it must be \(2,\)"):
            interval([1.0, 2.0], ["a", "b", "c"])

    def test_paired_difference_is_sharper_than_two_intervals(self):
        random = np.random.default_rng(3)
        hard = random.random((2, 100))
        better = np.clip(hard + 0.02 + 0.01 * random.standard_normal(hard.shape), -1, 2)
        found, alone = paired_difference(better, hard), interval(hard)
        assert 0 < found.low < found.mean < found.high < 0.05
        assert found.high - found.low < (alone.high - alone.low) / 5
        with pytest.raises(ValueError, match="not the same seeds and pictures"):
            paired_difference(hard, hard[:, :5])
