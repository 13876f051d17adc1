"""Table 1 from fake run folders."""

import csv
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from bipartition import files, finished, runs
from bipartition.baselines import BASELINES
from bipartition.evaluation import evaluate
from bipartition.finished import finished_folders, made_today
from bipartition.measures import measures
from bipartition.profiles import load_profile
from bipartition.rows import CLASSES, ROWS, table_classes
from bipartition.tables import (
    COLUMNS,
    NO_SEED,
    PICTURE_COLUMNS,
    SEED_COLUMNS,
    column,
    difference,
    explanation,
    line_metrics,
    markdown,
    pictures_table,
    seeds_table,
    table1,
    two,
    write_table,
)
from bipartition.trials import summary

LABELS = ("cat", "dog", "sheep")
SIZE = 12
PROFILE = dataclasses.replace(load_profile("demo"), sets={"table1": "voc2012", "gallery": "cartoons"})


class FakePrepared:
    name, classes, size, checksum = "voc2012", LABELS, SIZE, "of the pictures"

    def __init__(self, count=12, truth=True):
        random = np.random.default_rng(0)
        masks = np.zeros((count, SIZE, SIZE), np.uint8)
        labels = np.arange(count) % 3
        for index in range(count):
            high, wide = random.integers(3, 9, 2)
            masks[index, 2:2 + high, 2:2 + wide] = labels[index] + 1
        images = random.integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8)
        self.part = SimpleNamespace(images=images, labels=labels, truth_codes=labels + 1,
                                    masks=masks if truth else None, ids=[f"p{i}" for i in range(count)])

    def split(self, name):
        assert name == "val"
        return self.part


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    monkeypatch.setenv("BIPARTITION_RESULTS", str(tmp_path))
    return FakePrepared()


class OfOtherClasses(FakePrepared):
    classes = ("boat", "bird", "sheep")


def write_run(prepared, row, seed, flips=0.0, dataset="voc2012", profile=PROFILE, grey=0.0):
    random = np.random.default_rng([seed, len(row)])
    truth = prepared.part.masks > 0
    masks = np.where(random.random(truth.shape) < flips, ~truth, truth).astype(np.uint8) * 255
    masks[random.random(truth.shape) < grey] = 120
    folder = runs.run_folder("demo", dataset, row, seed)
    metrics = {"accuracy": 1.0} | evaluate(masks, prepared.part, LABELS)
    files.write_json(folder / "config.json", {"made_by": made_today(profile, dataset, row, seed, prepared.checksum)})
    files.write_json(folder / "metrics.json", metrics)
    return metrics


@pytest.mark.parametrize(("present", "shown"), [
    (["sheep", "dog", ""], CLASSES), ([], CLASSES), ([""], CLASSES), (["sheep", "", "bird", "sheep"], ("bird", "sheep"))])
def test_columns_are_the_papers_classes_where_there_is_one_of_them(present, shown):
    assert table_classes(present) == shown


def test_a_data_set_without_the_papers_classes_has_columns_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("BIPARTITION_RESULTS", str(tmp_path))
    prepared = OfOtherClasses()
    folder = runs.run_folder("demo", "voc2012", "chan_vese", 0)
    files.write_json(folder / "config.json", {"made_by": made_today(PROFILE, "voc2012", "chan_vese", 0, prepared.checksum)})
    perfect = np.where(prepared.part.masks > 0, 255, 0).astype(np.uint8)
    metrics = {"accuracy": 1.0} | evaluate(perfect, prepared.part, prepared.classes)
    files.write_json(folder / "metrics.json", metrics)
    found = line_metrics(PROFILE, "voc2012", prepared)
    table = table1(found)
    mine = table[table["row"] == "chan_vese"].set_index("class")
    assert list(mine.index) == ["bird", "boat", "sheep", "mean"] and mine["n"].tolist() == [4, 4, 4, 12]
    assert (mine["iou"] == 1).all() and mine["paper_iou"].isna().all()
    assert "the 3 classes that have pictures (bird, boat, sheep)." in markdown(table) and "paper's" not in explanation(table)
    assert difference(found, "chan_vese", next(iter(BASELINES)))[0].mean > 0
    assert measures(found, prepared).set_index("row").loc["chan_vese", ["n", "iou"]].tolist() == [12, 1]
    config = files.read_json(folder / "config.json")
    files.write_json(folder / "config.json", config | {"minutes": 1.0, "provenance": {"commit": "none"}})
    assert (summary(folder)["n"], summary(folder)["iou"]) == (12, 1)  # as a trial would report it


def make_older(row, seed):
    """Take from a finished run the measures that came later."""
    path = runs.run_folder("demo", "voc2012", row, seed) / "metrics.json"
    metrics = files.read_json(path)
    for one in metrics["per_image"]:
        for key in ("boundary_f", "average_precision", "own_iou", "other_way_iou"):
            del one[key]
    files.write_json(path, metrics)


def found_of(prepared, baselines=(), dataset="voc2012"):
    return line_metrics(PROFILE, dataset, prepared, baselines=baselines)


def table_of(prepared, baselines=(), dataset="voc2012"):
    return table1(found_of(prepared, baselines, dataset))


def line(table, row, label):
    found = table[(table["row"] == row) & (table["class"] == label)]
    assert len(found) == 1
    return found.iloc[0]


def test_columns_and_one_line_for_each_row_and_class(prepared):
    table = table_of(prepared, ["everything_foreground"])
    assert tuple(table.columns) == COLUMNS
    names = [name for name in ROWS if name != "classifier"] + ["everything_foreground"]
    classes = ["dog", "cat", "horse", "cow", "car", "person", "mean"]
    assert list(zip(table["row"], table["class"], strict=True)) == [(row, label) for row in names for label in classes]


def test_perfect_masks_score_one_in_every_class_that_is_there(prepared):
    write_run(prepared, "chan_vese", 0)
    table = table_of(prepared)
    dog, mean = line(table, "chan_vese", "dog"), line(table, "chan_vese", "mean")
    assert (dog["n"], dog["seeds"], dog["iou"], dog["ci_low"], dog["ci_high"], dog["pooled_iou"]) == (4, 1, 1, 1, 1, 1)
    assert dog["boundary_iou"] == 1 and dog["paper_iou"] == 0.86
    assert mean["n"] == 8 and mean["paper_iou"] == pytest.approx((0.86 + 0.82) / 2)
    car = line(table, "chan_vese", "car")
    assert car["n"] == 0 and car["seeds"] == 1 and np.isnan(car["iou"]) and car["paper_iou"] == 0.65


def test_mean_over_seeds_and_mean_over_classes_of_table_1_only(prepared):
    metrics = [write_run(prepared, "mumford_shah", seed, flips=0.1) for seed in (0, 10, 2)]
    table = table_of(prepared)
    cat, dog, mean = (line(table, "mumford_shah", label) for label in ("cat", "dog", "mean"))
    assert cat["seeds"] == 3
    for key in ("iou", "pooled_iou", "boundary_iou"):
        expected = np.mean([one["classes"]["cat"][key] for one in metrics])
        assert cat[key] == pytest.approx(expected, abs=1e-5)
        assert mean[key] == pytest.approx((cat[key] + dog[key]) / 2)
    assert cat["ci_low"] < cat["iou"] < cat["ci_high"]


def test_a_row_without_finished_run_keeps_its_lines(prepared):
    (runs.run_folder("demo", "voc2012", "casm", 0)).mkdir(parents=True)
    files.write_text(runs.run_folder("demo", "voc2012", "casm", 0) / "history.csv", "epoch\n1\n")
    table = table_of(prepared)
    dog = line(table, "casm", "dog")
    assert dog["n"] == 4 and dog["seeds"] == 0 and np.isnan(dog["iou"]) and dog["paper_iou"] == 0.79
    assert np.isnan(line(table, "chan_vese_only", "dog")["paper_iou"])


def test_a_run_that_another_profile_or_other_pictures_made_is_named_and_left_out(prepared):
    before = dataclasses.replace(PROFILE, training=PROFILE.training | {"alpha": 1.0, "warmup_rate": 0.5})
    write_run(prepared, "chan_vese", 0)
    write_run(prepared, "classifier", 0)
    for row in ("chan_vese", "classifier", "casm"):
        write_run(prepared, row, 1, flips=0.4, profile=before)
    found = found_of(prepared)
    assert {name: list(by_seed) for name, by_seed in found.lines.items() if by_seed} == {"chan_vese": [0], "cam": [0]}
    assert found.stale == ["casm/seed1", "chan_vese/seed1", "classifier/seed1"]
    assert line(table1(found), "chan_vese", "mean")["iou"] == line(table1(found), "cam", "mean")["iou"] == 1
    named = "data would make them otherwise: casm/seed1, chan_vese/seed1, classifier/seed1."
    assert named in markdown(table1(found)) and "otherwise" not in markdown(table1(dataclasses.replace(found, stale=[])))
    folders, stale = finished_folders(PROFILE, "voc2012", "of other pictures")
    assert not any(folders.values()) and len(stale) == 5
    assert list(finished_folders(PROFILE, "voc2012", None, ["chan_vese"])[0]["chan_vese"]) == [0]


@pytest.mark.parametrize(("at_hand", "counted"), [(None, [0]), ("of the pictures", [0]), ("of other pictures", [])])
def test_where_nobody_opened_the_pictures_a_run_is_believed_only_if_none_are_at_hand(prepared, monkeypatch, at_hand, counted):
    write_run(prepared, "chan_vese", 0)
    monkeypatch.setattr(finished, "checksum_at_hand", lambda *_: at_hand)
    folders, stale = finished_folders(PROFILE, "voc2012", None, ["chan_vese"])
    assert list(folders["chan_vese"]) == counted and stale == ([] if counted else ["chan_vese/seed0"])


def test_baselines_follow_with_numbers_and_no_seeds(prepared):
    table = table_of(prepared, tuple(BASELINES))
    everything = line(table, "everything_foreground", "mean")
    shares = (prepared.part.masks > 0).mean(axis=(1, 2))[prepared.part.labels < 2]
    assert everything["seeds"] == 0 and everything["iou"] == pytest.approx(shares.mean(), abs=1e-5)
    assert table["row"].unique()[-1] == "grabcut"


def test_each_picture_by_itself_adds_up_to_the_table(prepared):
    for seed in (0, 3):
        write_run(prepared, "casm", seed, flips=0.2)
    prepared.part.masks[0] = 255  # nothing but void: no object, hence in no table
    prepared.part.masks[1, 0, :4] = 255
    found = found_of(prepared, ["otsu"])
    pictures = pictures_table(found, prepared)
    assert tuple(pictures) == PICTURE_COLUMNS and "p0" not in set(pictures["picture"])
    assert pictures.groupby("row")["seed"].unique().map(list).to_dict() == {"casm": [0, 3], "otsu": [NO_SEED]}
    second = pictures[(pictures["row"] == "casm") & (pictures["picture"] == "p1")]
    mask = prepared.part.masks[1]
    assert second["class"].tolist() == [LABELS[1]] * 2
    assert np.allclose(second["object"], ((mask > 0) & (mask < 255)).sum() / (mask < 255).sum())
    areas = {one["id"]: one["area"] for one in found.lines["casm"][3]["per_image"]}
    third = pictures[(pictures["row"] == "casm") & (pictures["seed"] == 3)]
    assert np.allclose(third["area"], third["picture"].map(areas)) and third["area"].nunique() > 1
    means = pictures.groupby(["row", "class"])["iou"].mean().groupby("row").mean()
    table = table1(found)
    assert means.to_dict() == {row: pytest.approx(line(table, row, "mean")["iou"]) for row in ("casm", "otsu")}


def test_the_activation_map_of_the_warm_up_stands_between_rows_and_baselines_with_its_seeds(prepared):
    expected = [write_run(prepared, "classifier", seed, flips=0.2) for seed in (0, 1)]
    table = table_of(prepared, ["otsu"])
    assert table["row"].unique().tolist() == [*ROWS, "cam", "otsu"]
    dog = line(table, "cam", "dog")
    assert dog["seeds"] == 2 and np.isnan(dog["paper_iou"])
    assert dog["iou"] == pytest.approx(np.mean([metrics["classes"]["dog"]["iou"] for metrics in expected]), abs=1e-5)
    assert "| CAM of the warmed-up classifier | 2 |" in markdown(table)


def test_a_data_set_without_truth_is_an_error(prepared):
    with pytest.raises(ValueError, match="no truth"):
        line_metrics(PROFILE, "voc2012", FakePrepared(truth=False))


def test_files_hold_four_decimals_and_the_papers_values(prepared, tmp_path):
    write_run(prepared, "chan_vese", 0, flips=0.2)
    table = table_of(prepared, ["otsu"])
    write_table(table, tmp_path / "table1", markdown(table))
    lines = list(csv.DictReader((tmp_path / "table1.csv").open(encoding="utf-8")))
    assert tuple(lines[0]) == COLUMNS and len(lines) == len(table)
    measured = next(one for one in lines if one["row"] == "chan_vese" and one["class"] == "cat")
    assert len(measured["iou"].split(".")[1]) <= 4 and measured["seeds"] == "1" and measured["paper_iou"] == "0.82"
    missing = next(one for one in lines if one["row"] == "casm" and one["class"] == "cat")
    assert missing["iou"] == missing["pooled_iou"] == "" and missing["seeds"] == "0"
    text = (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert text == markdown(table)
    assert markdown(table_of(prepared, ["otsu"])) == text


def test_a_page_rounds_what_the_file_says_half_up():
    assert [two(number) for number in (0.825, 0.82496, 0.8249, 0.005)] == ["0.83", "0.83", "0.82", "0.01"]


def test_each_seed_has_its_numbers_by_class_and_they_average_to_the_table(prepared, tmp_path):
    metrics = [write_run(prepared, "mumford_shah", seed, flips=0.1) for seed in (0, 10)]
    found = found_of(prepared, ["otsu"])
    table, means = seeds_table(found), table1(found)
    assert tuple(table.columns) == SEED_COLUMNS and set(table["row"]) == {"mumford_shah"}
    assert list(zip(table["seed"], table["class"], strict=True)) == [
        (seed, label) for seed in (0, 10) for label in ("dog", "cat", "mean")]
    for label in ("dog", "cat", "mean"):
        assert table.loc[table["class"] == label, "iou"].mean() == pytest.approx(line(means, "mumford_shah", label)["iou"])
    dogs = np.array([one["class"] == "dog" for one in metrics[1]["per_image"]])
    for key in ("boundary_f", "area", "grey", "collapsed"):
        shown, = table.loc[(table["seed"] == 10) & (table["class"] == "dog"), key]
        assert shown == pytest.approx(column(metrics[1], key)[dogs].mean())
    write_table(table, tmp_path / "seeds")
    assert (tmp_path / "seeds.csv").is_file() and not (tmp_path / "seeds.md").exists()


def test_collapsed_runs_are_told_beside_their_number_not_only_as_a_low_score(prepared):
    write_run(prepared, "chan_vese", 0)
    for row, seed in (("chan_vese", 1), ("casm", 0)):
        write_run(prepared, row, seed)
        path = runs.run_folder("demo", "voc2012", row, seed) / "metrics.json"
        everything = np.full(prepared.part.masks.shape, 255, np.uint8)
        files.write_json(path, {"accuracy": 1.0} | evaluate(everything, prepared.part, LABELS))
    table = table_of(prepared, ["everything_foreground"])
    assert tuple(table.columns) == COLUMNS
    text = markdown(table)
    lines = {line.split(" | ")[0]: line for line in text.splitlines()}
    assert "| 2, 1 collapsed | **" in lines[f"| {ROWS['chan_vese'].title}"]
    casm = lines[f"| {ROWS['casm'].title}"]
    assert "| 1, all collapsed | collapsed (0.79) | collapsed (0.80) | – (0.81) |" in casm and "**" not in casm


def test_page_shows_measured_beside_paper(prepared):
    write_run(prepared, "chan_vese", 0)
    write_run(prepared, "chan_vese", 1)
    table = table_of(prepared, ["otsu"])
    head, _, *body = markdown(table).splitlines()
    assert "Dog<br>n = 4" in head and "Car<br>n = 0" in head and head.count("|") == body[0].count("|")
    ours = next(text for text in body if text.startswith(f"| {ROWS['chan_vese'].title} |"))
    assert "| 2 | **1.00** (0.86)<br>[1.00, 1.00] |" in ours
    last = body[-1]
    for part in ("8 validation pictures of voc2012", "2 seeds a row", "2 classes that have pictures (dog, cat)"):
        assert part in last


def test_drawn_pictures_say_that_the_papers_values_are_of_photographs(prepared):
    table = table_of(prepared, dataset="cartoons")
    assert "no run finished yet" in markdown(table) and "orientation" in markdown(table)


def test_difference_pairs_common_seeds(prepared):
    for seed in (0, 1, 2):
        write_run(prepared, "chan_vese", seed)
    for seed in (1, 2, 3):
        write_run(prepared, "classification_only", seed, flips=0.3)
    measured = found_of(prepared, ["otsu"])
    found, seeds = difference(measured, "chan_vese", "classification_only")
    table = table1(measured)
    assert seeds == [1, 2] and 0 < found.low <= found.mean <= found.high <= 1
    assert found.mean == pytest.approx(1 - line(table, "classification_only", "mean")["iou"], abs=0.1)
    assert np.isnan(difference(measured, "chan_vese", "casm")[0].mean)
    assert difference(measured, "chan_vese", "otsu")[1] == [0, 1, 2]


def test_difference_in_a_measure_that_older_runs_lack_is_taken_over_the_seeds_that_have_it(prepared):
    for row in ("chan_vese", "casm"):
        for seed in (0, 1):
            write_run(prepared, row, seed, flips=0.1 * (row == "casm"))
    newer, seeds = difference(found_of(prepared), "chan_vese", "casm", "boundary_f")
    assert newer.mean > 0 and seeds == [0, 1]
    make_older("chan_vese", 0)
    found, seeds = difference(found_of(prepared), "chan_vese", "casm", "boundary_f")
    assert found.mean > 0 and seeds == [1]
    make_older("casm", 1)
    assert np.isnan(difference(found_of(prepared), "chan_vese", "casm", "boundary_f")[0]).all()
    assert difference(found_of(prepared), "chan_vese", "casm")[0].mean > 0
