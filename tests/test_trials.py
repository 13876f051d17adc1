"""Trials: some settings changed, one run folder, one line; never on pictures that a table reports."""

import csv
import json

import pytest

from bipartition import runs, trials
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
    assert 0 <= float(line["iou"]) <= 1 and int(line["n"]) > 0 and float(line["area"]) >= 0
    configs = [runs.read_json(path)["configuration"] for path in (tmp_path / "results").rglob("chan_vese-*/seed1/config.json")]
    assert [(config["alpha"], config["lambda1"], config["seed"]) for config in configs] == [(3, 0.5, 1)]


def test_trials_share_a_warm_up_where_its_settings_are_equal(tiny_profile, lines, tmp_path):
    for change in ("alpha=3", "alpha=4", "warmup_rate=0.5"):
        assert trials.main(["--profile", str(tiny_profile), "--row", "chan_vese", change]) == 0
    assert len(list((tmp_path / "results").rglob("classifier/seed0/metrics.json"))) == 2
    assert len(lines()) == 3


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


@pytest.mark.parametrize(("argument", "message"), [
    ("alpha", "'alpha' changes nothing; write name=value"), ("alphs=3", "'alphs' is no setting of a run"),
    ("alpha=big", "alpha = 'big'; it must be a number")])
def test_a_mistyped_setting_is_named(tiny_profile, lines, capsys, argument, message):
    assert trials.main(["--profile", str(tiny_profile), "--row", "chan_vese", argument]) == 1
    assert message in capsys.readouterr().err
