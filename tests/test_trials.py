"""Trials: some settings changed, one run folder, one line; never on pictures that a table reports."""

import csv
import json
import shlex
import threading
import time

import pytest

from bipartition import files, runs, trials
from bipartition.evaluation import interval
from miniatures import Photo, write_voc


@pytest.fixture
def lines(places):
    """Read the table of trials of the tiny profile."""
    def read():
        with open(places / "results" / "trials" / "tiny.csv", newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    return read


def test_a_trial_leaves_a_run_and_a_line_with_its_command(tiny_profile, lines, tmp_path):
    command = ["--profile", str(tiny_profile), "--row", "chan_vese", "--seed", "1", "alpha=3", "lambda1=0.5"]
    assert trials.main(command) == 0
    line, = lines()
    assert line["row"] == "chan_vese" and json.loads(line["settings"]) == {"alpha": 3, "lambda1": 0.5}
    assert line["command"] == " ".join(["python -m bipartition.trials", *command])
    assert 0 <= float(line["iou_low"]) <= float(line["iou"]) <= float(line["iou_high"]) <= 1
    assert int(line["n"]) > 0 and float(line["area"]) >= 0
    configs = [files.read_json(path)["configuration"] for path in (tmp_path / "results").rglob("chan_vese-*/seed1/config.json")]
    assert [(config["alpha"], config["lambda1"], config["seed"]) for config in configs] == [(3, 0.5, 1)]


def test_the_command_of_a_line_can_be_given_again(tiny_profile, lines, tmp_path, monkeypatch):
    (tmp_path / "my dir").mkdir()
    profile = tiny_profile.rename(tmp_path / "my dir" / "tiny.yaml")
    monkeypatch.setattr(trials, "trial", lambda *asked: (tmp_path, {"settings": {}} | dict.fromkeys(trials.COLUMNS[4:-1], 1)))
    command = ["--profile", str(profile), "--row", "chan_vese", "optimiser=sgd+adam", "alpha=1e-3"]
    assert trials.main(command) == 0
    assert shlex.split(lines()[0]["command"]) == ["python", "-m", "bipartition.trials", *command]


def test_ctrl_c_is_said_as_the_pipeline_says_it(tiny_profile, places, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("bipartition.training.train_row", interrupted)
    assert trials.main(["--profile", str(tiny_profile), "--row", "chan_vese"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from here\n"


def test_trials_share_a_warm_up_where_its_settings_are_equal(tiny_profile, lines, tmp_path):
    for change in ("alpha=3", "alpha=4", "warmup_rate=0.5"):
        assert trials.main(["--profile", str(tiny_profile), "--row", "chan_vese", change]) == 0
    assert len(list((tmp_path / "results").rglob("classifier/seed0/metrics.json"))) == 2
    assert len(lines()) == 3


def test_a_trial_may_do_without_a_warm_up(tiny_profile, lines, tmp_path):
    for change in ("alpha=3", "alpha=4"):
        assert trials.main(["--profile", str(tiny_profile), "--row", "chan_vese", "warmup_epochs=0", change]) == 0
    assert len(lines()) == 2 and not list((tmp_path / "results").rglob("classifier"))


def test_two_first_trials_at_once_write_one_head(tmp_path):
    """The second comes while the first has made the table and written nothing yet."""
    path, line = tmp_path / "trials" / "tiny.csv", dict.fromkeys(trials.COLUMNS, 1)
    with files.alone(path):
        path.touch()
        second = threading.Thread(target=trials._append, args=(path, line))
        second.start()
        time.sleep(0.3)
        path.write_text(",".join(trials.COLUMNS) + "\n", encoding="utf-8")
    second.join()
    assert path.read_text(encoding="utf-8").count("dataset") == 1


def test_voc_is_judged_on_training_photographs_set_apart(places, tmp_path, monkeypatch):
    names = [f"2008_{number:06d}" for number in range(40)]
    photos = [Photo(name, (("dog", "cat")[i % 2],), "aug") for i, name in enumerate(names)]
    root = write_voc(tmp_path, [*photos, Photo("2009_000001", ("dog",), "val"), Photo("2009_000002", ("cat",), "val")])
    monkeypatch.setenv("VOC_ROOT", str(root))
    path = tmp_path / "small.yaml"
    path.write_text("about: A test.\nsets: {table1: voc2012, gallery: voc2012}\nseeds: [0]\nrows: [chan_vese]\n"
                    "training: {size: 32, batch_size: 8, epochs: 1, warmup_epochs: 1, weights: none}\n", encoding="utf-8")
    assert trials.main(["--profile", str(path), "--row", "chan_vese"]) == 0
    index, = (tmp_path / "data").rglob("index.csv")
    with open(index, newline="", encoding="utf-8") as stream:
        assert {line["id"] for line in csv.DictReader(stream)} == set(names)


def test_the_interval_is_of_the_pictures_of_table_1s_classes_whose_mean_is_given(tmp_path):
    ious = {"dog": [0.2, 0.4, 0.6], "cat": [0.5, 0.7], "sheep": [0.0, 0.0]}
    per_image = [{"id": f"{name}{i}", "class": name, "iou": iou} for name, found in ious.items() for i, iou in enumerate(found)]
    classes = {name: {"n": len(found), "iou": sum(found) / len(found), "pooled_iou": 0.5, "boundary_iou": None}
               for name, found in ious.items()}
    files.write_json(tmp_path / "metrics.json", {"accuracy": 0.8, "area": 0.3, "grey": 0.1, "classes": classes,
                                                "per_image": per_image})
    files.write_json(tmp_path / "config.json", {"minutes": 1.0, "provenance": {"commit": "abc"}})
    found = trials.summary(tmp_path)
    assert found["iou"] == 0.5 and found["n"] == 5 and found["boundary_iou"] is None
    assert (found["iou_low"], found["iou_high"]) == tuple(round(end, 4) for end in interval(
        [0.2, 0.4, 0.6, 0.5, 0.7], ["dog"] * 3 + ["cat"] * 2)[1:])


def test_a_number_is_recorded_as_the_run_had_it(tiny_profile, lines):
    asked = ["--profile", str(tiny_profile), "--row", "chan_vese", "lambda1=1e-3", "alpha=2", "judge=snapshot"]
    assert trials.main(asked) == 0
    assert json.loads(lines()[0]["settings"]) == {"lambda1": 0.001, "alpha": 2.0, "judge": "snapshot"}


def test_a_trial_that_other_code_has_trained_is_told_from_one_of_today(tiny_profile, lines, capsys, monkeypatch):
    asked = ["--profile", str(tiny_profile), "--row", "chan_vese"]
    assert trials.main(asked) == 0
    assert "other code" not in capsys.readouterr().out
    monkeypatch.setattr(runs, "method_code", lambda: dict.fromkeys(runs.METHOD_CODE, "another"))
    assert trials.main(asked) == 0
    of_row, of_warm_up = (line for line in capsys.readouterr().out.splitlines() if "other code" in line)
    assert "chan_vese-" in of_row and "learners.py" in of_row and "delete it to train it anew" in of_row
    assert "classifier/seed0 was trained by other code" in of_warm_up
    assert trials.main(["--profile", str(tiny_profile), "--row", "classifier"]) == 0
    assert capsys.readouterr().out.count("other code") == 1


def test_a_table_with_older_columns_is_refused_before_anything_is_trained(tiny_profile, places, capsys):
    path = places / "results" / "trials" / "tiny.csv"
    files.write_text(path, "dataset,row,seed,settings,accuracy,iou\n")
    assert trials.main(["--profile", str(tiny_profile), "--row", "chan_vese"]) == 1
    said = capsys.readouterr().err
    assert str(path) in said and "move it away or rename it" in said
    assert [one.name for one in (places / "results").rglob("*") if one.is_file()] == ["tiny.csv"]


@pytest.mark.parametrize(("argument", "message"), [
    ("alpha", "'alpha' changes nothing; write name=value"), ("alphs=3", "'alphs' is no setting of a run"),
    ("alpha=75 alpha=80", "alpha is given twice; keep one of them"),
    ("alpha=big", "alpha = 'big'; it must be a number"), ("alpha={", "'alpha={' is not readable: write name=value")])
def test_a_mistyped_setting_is_named(tiny_profile, lines, capsys, argument, message):
    assert trials.main(["--profile", str(tiny_profile), "--row", "chan_vese", *argument.split()]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("row", "argument", "message"), [
    ("chan_vese", "seed=3", "seed is no setting of a trial of chan_vese; write --seed VALUE"),
    ("chan_vese", "row=casm", "row is no setting of a trial of chan_vese; write --row VALUE"),
    ("chan_vese", "lambda3=2", "lambda3 is no setting of a trial of chan_vese; what it reads is alpha, "),
    ("casm", "alpha=3", "alpha is no setting of a trial of casm; what it reads is batch_size, casm_area, "),
    ("classifier", "warmup_epochs=0", "error: warmup_epochs = 0; it must be greater than 0 in a trial of classifier"),
    ("classifier", "epochs=3", "epochs is no setting of a trial of classifier; what it reads is optimiser, size, warmup_")])
def test_a_setting_without_effect_is_refused_before_anything_is_trained(tiny_profile, places, capsys, row, argument, message):
    assert trials.main(["--profile", str(tiny_profile), "--row", row, argument]) == 1
    assert message in capsys.readouterr().err
    assert not (places / "results" / "trials").exists()
