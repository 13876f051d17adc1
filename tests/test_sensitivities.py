"""Which trials differ in one setting, and the chart of what that setting moves."""

import json

import numpy as np
import pandas as pd
import pytest

from bipartition.configuration import Configuration
from bipartition.sensitivities import COLUMNS, USUAL, compared, seen_from, sensitivities, sensitivity_figure, spread

USUALLY = Configuration(row="chan_vese", dataset="voc2012", seed=0, alpha=10.0, lambda1=1.0).to_dict()


def trial(iou, seed=0, row="chan_vese", dataset="voc2012", **settings):
    return {"dataset": dataset, "row": row, "seed": seed, "settings": json.dumps(settings), "accuracy": 0.75, "iou": iou,
            "iou_low": iou - 0.03, "iou_high": iou + 0.03, "boundary_iou": 0.1, "area": 0.3, "grey": 0.1, "n": 318,
            "command": f"python -m bipartition.trials {settings}"}


@pytest.fixture
def trials():
    return pd.DataFrame([
        trial(0.40, alpha=20), trial(0.46, alpha=5.0), trial(0.47), trial(0.29, lambda1=0.3), trial(0.44, judge="snapshot"),
        trial(0.43, alpha=20, lambda1=0.3), trial(0.10, row="mumford_shah"), trial(0.20, dataset="cartoons"),
        trial(0.49, seed=1), trial(0.35, seed=1, lambda1=0.3), trial(0.20, seed=2, lambda1=0.3)])


def shown(table):
    return list(zip(table["field"], table["value"], table["seed"], table["iou"], strict=True))


def test_one_changed_field_counts_and_what_moves_most_is_on_top(trials):
    table = sensitivities(trials, USUALLY, "chan_vese")
    assert tuple(table.columns) == COLUMNS
    assert shown(table) == [
        (USUAL, "", 0, 0.47), (USUAL, "", 1, 0.49), ("lambda1", 0.3, 0, 0.29), ("lambda1", 0.3, 1, 0.35),
        ("alpha", 5.0, 0, 0.46), ("alpha", 20, 0, 0.40), ("judge", "snapshot", 0, 0.44)]
    assert table["command"].str.contains("bipartition.trials").all()


def test_a_setting_that_is_written_out_but_usual_is_no_change():
    trials = pd.DataFrame([trial(0.47, alpha=10, lambda1=1), trial(0.3, alpha=10, lambda1=0.3)])
    assert shown(sensitivities(trials, USUALLY, "chan_vese")) == [(USUAL, "", 0, 0.47), ("lambda1", 0.3, 0, 0.3)]


def test_of_equal_trials_the_last_counts():
    trials = pd.DataFrame([trial(0.1), trial(0.47), trial(0.2, alpha=20), trial(0.3, alpha=20.0)])
    assert shown(sensitivities(trials, USUALLY, "chan_vese")) == [(USUAL, "", 0, 0.47), ("alpha", 20.0, 0, 0.3)]


def test_without_a_usual_trial_nothing_can_be_said(trials):
    table = sensitivities(trials, USUALLY | {"epochs": 99}, "casm")
    assert table.empty and tuple(table.columns) == COLUMNS
    assert spread(table) == "No trial here differs from a usual one in a single setting."
    with pytest.raises(ValueError, match="no line with the usual settings"):
        sensitivity_figure(table)


def test_a_table_from_before_the_intervals_is_read_and_drawn_without_them(trials):
    table = sensitivities(trials.drop(columns=["iou_low", "iou_high"]), USUALLY, "chan_vese")
    assert table["iou_low"].isna().all()
    sensitivity_figure(table).canvas.draw()
    assert "0.47 and 0.49" in spread(table)


def lines_of(table):
    return [tuple(line) for line in table.drop(columns=["area", "grey", "accuracy"]).itertuples(index=False)]


def test_trials_that_differ_in_the_named_fields_only_stand_together(trials):
    table = compared(trials, USUALLY, "chan_vese", ["lambda1", "alpha"])
    assert list(table) == ["in common", "lambda1", "alpha", "seed", "IoU", "area", "grey", "accuracy"]
    assert lines_of(table) == [
        ("as usual", "0.3", "10", 0, "0.29 [0.26, 0.32]"), ("", "0.3", "10", 1, "0.35 [0.32, 0.38]"),
        ("", "0.3", "20", 0, "0.43 [0.40, 0.46]"), ("", "1", "5", 0, "0.46 [0.43, 0.49]"),
        ("", "1", "10", 0, "0.47 [0.44, 0.50]"), ("", "1", "10", 1, "0.49 [0.46, 0.52]"),
        ("", "1", "20", 0, "0.40 [0.37, 0.43]")]
    assert table["area"].iloc[0] == "0.30"


def test_a_group_apart_from_the_usual_run_says_what_it_has_in_common_and_comes_after_it():
    table = compared(pd.DataFrame([
        trial(0.43, area_weight="share", epochs=4, alpha=2.0), trial(0.5, epochs=4, alpha=2.0), trial(0.47),
        trial(0.3, epochs=9), trial(0.44, area_weight="root")]), USUALLY, "chan_vese", ["area_weight", "lambda1"])
    assert lines_of(table) == [
        ("as usual", "constant", 0, "0.47 [0.44, 0.50]"), ("", "root", 0, "0.44 [0.41, 0.47]"),
        ("alpha = 2, epochs = 4", "constant", 0, "0.50 [0.47, 0.53]"), ("", "share", 0, "0.43 [0.40, 0.46]")]


def test_a_field_that_no_group_varies_is_no_column_and_a_seed_alone_is_no_group(trials):
    assert list(compared(trials, USUALLY, "chan_vese", ["judge", "features"])) == [
        "in common", "judge", "seed", "IoU", "area", "grey", "accuracy"]
    apart = pd.DataFrame([trial(0.4, judge="snapshot"), trial(0.5, seed=1)])
    assert compared(apart, USUALLY, "chan_vese", ["judge"]).empty
    assert compared(trials, USUALLY, "chan_vese", ["features"]).empty


def test_what_a_trial_does_not_read_has_no_value_and_parts_no_group():
    table = compared(pd.DataFrame([
        trial(0.5, judge="turns", judge_turns=1), trial(0.6, judge="turns"), trial(0.4, judge="snapshot", judge_turns=2)]),
        USUALLY, "chan_vese", ["judge", "judge_turns"])
    assert table[["judge", "judge_turns"]].to_numpy().tolist() == [["snapshot", "–"], ["turns", "1"], ["turns", "3"]]
    table = compared(pd.DataFrame([trial(0.5, lambda3=2.0), trial(0.4, judge="snapshot")]), USUALLY, "chan_vese", ["judge"])
    assert table["in common"].tolist() == ["as usual", ""]


def test_a_half_is_rounded_up_as_in_all_tables():
    lines = [trial(0.295) | {"iou_low": 0.285, "iou_high": 0.305, "area": 0.125}, trial(0.5, alpha=20)]
    first, _ = compared(pd.DataFrame(lines), USUALLY, "chan_vese", ["alpha"]).to_dict("records")
    assert first["IoU"] == "0.30 [0.29, 0.31]" and first["area"] == "0.13"


def test_a_trial_that_nothing_can_be_compared_with_is_not_shown():
    alone = pd.DataFrame([trial(0.1, optimiser="adam", warmup_epochs=0, alpha=3.0)])
    fields = ["optimiser", "warmup_epochs", "judge"]
    assert compared(alone, USUALLY, "chan_vese", fields).empty


def test_settings_that_todays_configuration_refuses_are_shown_all_the_same():
    old = pd.DataFrame([trial(0.5, judge="jury"), trial(0.4), trial(0.3, crayons=3), trial(0.2, crayons=3, alpha=1.0)])
    assert lines_of(compared(old, USUALLY, "chan_vese", ["judge"]))[1] == ("", "live", 0, "0.40 [0.37, 0.43]")
    assert compared(old, USUALLY, "chan_vese", ["alpha"])["in common"].tolist() == ["crayons = 3", ""]


def test_the_sentence_tells_where_one_setting_can_lead(trials):
    text = spread(sensitivities(trials, USUALLY, "chan_vese"))
    assert "of 4 settings" in text and "0.29 [0.26, 0.32] (lambda1 = 0.3)" in text and "(alpha = 5)" in text
    text = spread(sensitivities(trials[trials["settings"].isin(["{}", '{"alpha": 20}'])], USUALLY, "chan_vese"))
    assert text.endswith("the one setting that was changed alone leads to 0.40 [0.37, 0.43] (alpha = 20).")


def test_the_chart_has_a_line_for_each_setting_and_the_usual_one_across(trials):
    figure = sensitivity_figure(sensitivities(trials, USUALLY, "chan_vese"))
    axes, area, grey = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [USUAL, "lambda1 = 0.3", "alpha = 5", "alpha = 20", "judge = snapshot"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(0.48)
    low, high = axes.patches[0].get_x(), axes.patches[0].get_x() + axes.patches[0].get_width()
    assert (low, high) == pytest.approx((0.44, 0.52))
    assert np.all(np.diff(axes.get_yticks()) > 0) and axes.get_ylim()[0] > axes.get_ylim()[1]
    assert [one.get_xlabel() for one in figure.axes] == ["IoU", "area of the mask", "grey pixels"]
    assert area.lines[1].get_xdata().tolist() == [0.3] * 5 and not area.collections  # of seed 0


def test_of_a_setting_whose_seeds_part_each_area_is_shown_and_no_mean():
    trials = pd.DataFrame([trial(0.5), trial(0.5, seed=1), trial(0.4, alpha=5), trial(0.0, seed=1, alpha=5) | {"area": 0.0}])
    area = sensitivity_figure(sensitivities(trials, USUALLY, "chan_vese")).axes[1]
    assert [line.get_xdata().tolist() for line in area.lines[1:3]] == [[0.3, 0.3], [0.3, 0.0]]


def test_seen_from_another_run_a_line_names_what_it_changes_of_that_one():
    trials = pd.DataFrame({"settings": ['{}', '{"alpha": 20}', '{"alpha": 20, "lambda1": 0.3}', '{"epochs": 9}']})
    usual = {"alpha": 10, "lambda1": 0.5, "epochs": 5}
    seen = seen_from(trials, usual, {"alpha": 20})["settings"].map(json.loads)
    assert list(seen) == [{"alpha": 10}, {}, {"lambda1": 0.3}, {"epochs": 9, "alpha": 10}]
    assert list(trials["settings"])[0] == "{}"
