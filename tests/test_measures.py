"""The table of measures from fake run folders, and what the decoder's grid leaves of a mask."""

import copy
import csv

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bipartition.baselines import BASELINES
from bipartition.evaluation import CUT, evaluate
from bipartition.measures import COLUMNS, HEADS, explanation, markdown, measures, through_the_grid
from bipartition.rows import CASM_CEILING, CEILING
from bipartition.tables import line_metrics, table1, write_table
from test_tables import PROFILE, FakePrepared, make_older, write_run


@pytest.fixture
def prepared(places):
    return FakePrepared()


def table_of(prepared, baselines=("everything_foreground",)):
    return measures(line_metrics(PROFILE, "voc2012", prepared, baselines=baselines), prepared)


def line_of(table, row):
    found, = table[table["row"] == row].to_dict("records")
    return found


class TestMeasures:
    def test_rows_with_runs_then_the_map_then_baselines_then_the_ceiling(self, prepared):
        write_run(prepared, "mumford_shah", 0)
        write_run(prepared, "casm", 3)
        write_run(prepared, "classifier", 0)
        table = table_of(prepared, tuple(BASELINES))
        assert tuple(table.columns) == COLUMNS
        assert table["row"].tolist() == ["casm", "mumford_shah", "cam", *BASELINES, CEILING, CASM_CEILING]
        assert table["seeds"].tolist() == [1, 1, 1, *[0] * len(BASELINES), 0, 0] and set(table["n"]) == {8}

    def test_perfect_masks_have_one_in_all_measures_and_the_truths_area(self, prepared):
        write_run(prepared, "chan_vese", 0)
        line = line_of(table_of(prepared), "chan_vese")
        for key in ("iou", "own_iou", "recall", "oracle_iou", "boundary_iou", "boundary_f", "average_precision"):
            assert line[key] == 1
        assert line["iou_low"] == line["boundary_f_high"] == line["average_precision_low"] == 1
        shares = (prepared.part.masks > 0).mean(axis=(1, 2))[prepared.part.labels < 2]
        assert line["area"] == pytest.approx(shares.mean(), abs=1e-5) and line["grey"] == 0

    def test_recall_is_the_share_of_the_object_that_is_found_and_says_nothing_of_what_is_found_besides(self, prepared):
        metrics = write_run(prepared, "chan_vese", 0, flips=0.25)
        table, sizes = table_of(prepared), (prepared.part.masks > 0).sum(axis=(1, 2))
        mine = prepared.part.labels < 2  # of Table 1's classes
        shares = np.array([line["intersection"] for line in metrics["per_image"]])[mine] / sizes[mine]
        by_class = [shares[prepared.part.labels[mine] == label].mean() for label in (0, 1)]
        found = line_of(table, "chan_vese")
        assert found["recall"] == pytest.approx(np.mean(by_class)) and found["iou"] < found["recall"] < 1
        assert line_of(table, "everything_foreground")["recall"] == 1

    def test_means_and_intervals_are_those_of_table_1(self, prepared):
        for seed in (0, 1):
            write_run(prepared, "chan_vese", seed, flips=0.2)
        found = line_metrics(PROFILE, "voc2012", prepared, baselines=["otsu"])
        one, other = table1(found), measures(found, prepared)
        for row in ("chan_vese", "otsu"):
            mean = one[(one["row"] == row) & (one["class"] == "mean")].iloc[0]
            line = line_of(other, row)
            for theirs, ours in (("iou", "iou"), ("ci_low", "iou_low"), ("ci_high", "iou_high"),
                                 ("boundary_iou", "boundary_iou"), ("n", "n"), ("seeds", "seeds")):
                assert line[ours] == pytest.approx(mean[theirs])

    def test_both_tables_take_what_was_found_once_and_leave_it_as_it_is(self, prepared, monkeypatch):
        write_run(prepared, "chan_vese", 0, flips=0.2)
        found = line_metrics(PROFILE, "voc2012", prepared)
        before, evaluated = copy.deepcopy(found.lines), []
        for module in ("tables", "measures"):
            monkeypatch.setattr(f"bipartition.{module}.evaluate",
                                lambda *given, module=module: evaluated.append(module) or evaluate(*given))
        table1(found)
        measures(found, prepared)
        assert evaluated == ["measures"] * 2  # the ceilings, and no baseline again
        assert found.lines == before

    def test_the_oracle_turns_round_what_is_the_wrong_half(self, prepared):
        write_run(prepared, "chan_vese", 0, flips=1)
        line = line_of(table_of(prepared), "chan_vese")
        assert line["iou"] == 0 and line["oracle_iou"] == 1

    def test_everything_foreground_has_the_share_of_the_object_as_iou_and_as_average_precision(self, prepared):
        line = line_of(table_of(prepared), "everything_foreground")
        assert line["average_precision"] == pytest.approx(line["iou"]) and line["area"] == 1
        assert line["oracle_iou"] == line["iou"]

    def test_what_an_older_run_lacks_is_not_measured(self, prepared):
        metrics = [write_run(prepared, "chan_vese", seed, flips=0.2) for seed in (0, 1)]
        write_run(prepared, "casm", 0)
        make_older("chan_vese", 0)
        make_older("casm", 0)
        table = table_of(prepared)
        casm, mixed = line_of(table, "casm"), line_of(table, "chan_vese")
        for key in ("own_iou", "oracle_iou", "boundary_f", "boundary_f_low", "average_precision"):
            assert np.isnan(casm[key])
        assert casm["iou"] == 1 and mixed["seeds"] == 2
        newer = [[line["boundary_f"] for line in metrics[1]["per_image"] if line["class"] == name] for name in ("dog", "cat")]
        assert mixed["boundary_f"] == pytest.approx(np.mean([np.mean(values) for values in newer]))
        assert "| CASM (baseline) | 1 | 1.00<br>[1.00, 1.00] | – | 1.00 | – | 1.00 | – | – |" in markdown(table)

    def test_a_picture_without_its_own_class_is_left_out_of_own_iou_only(self, prepared):
        prepared.part.masks[0][prepared.part.masks[0] > 0] = 3
        write_run(prepared, "chan_vese", 0)
        line = line_of(table_of(prepared), "chan_vese")
        assert line["n"] == 8 and line["own_iou"] == line["iou"] == 1

    def test_files_hold_four_decimals_and_every_column_is_explained(self, prepared, tmp_path):
        write_run(prepared, "chan_vese", 0, flips=0.2)
        table = table_of(prepared)
        write_table(table, tmp_path / "measures", markdown(table))
        with open(tmp_path / "measures.csv", newline="", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
        assert tuple(lines[0]) == COLUMNS and [line["row"] for line in lines] == table["row"].tolist()
        assert all(len(lines[0][key].partition(".")[2]) <= 4 for key in HEADS)
        text = (tmp_path / "measures.md").read_text(encoding="utf-8")
        assert text == markdown(table) and "| The truth on the decoder's grid (peeks at the truth) | – |" in text
        words = explanation("voc2012", 8).lower()
        assert all(head.split(",")[0].lower() in words for head in HEADS.values()) and words.count("peeks at the truth") == 1


class TestThroughTheGrid:
    def test_it_comes_back_as_the_decoder_brings_it_back(self):
        objects = np.random.default_rng(0).random((3, 16, 24)) < 0.4
        cells = F.avg_pool2d(torch.from_numpy(objects[:, None].astype(np.float64)), 4)
        expected = F.interpolate(cells, size=(16, 24), mode="bilinear", align_corners=False)[:, 0]
        assert np.abs(through_the_grid(objects) - 255 * expected.numpy()).max() <= 0.5 + 1e-9

    def test_or_cell_by_cell_as_casms_does(self):
        objects = np.random.default_rng(0).random((3, 16, 24)) < 0.4
        cells = objects.reshape(3, 4, 4, 6, 4).mean(axis=(2, 4))
        expected = np.round(255 * cells).repeat(4, axis=1).repeat(4, axis=2)
        assert (through_the_grid(objects, smooth=False) == expected).all()

    @pytest.mark.parametrize("axis", [1, 2])
    def test_a_half_plane_that_ends_between_two_cells_comes_back_whole(self, axis):
        objects = np.zeros((1, 32, 32), bool)
        objects[:, :12] = True
        objects = np.swapaxes(objects, 1, axis)
        for one in (objects, ~objects):
            assert ((through_the_grid(one) >= CUT) == one).all()

    def test_what_is_thinner_than_half_a_cell_is_lost_and_nothing_and_everything_stay(self):
        objects = np.zeros((3, 16, 16), bool)
        objects[0, 5], objects[1] = True, True
        assert (through_the_grid(objects) >= CUT).sum(axis=(1, 2)).tolist() == [0, 256, 0]
