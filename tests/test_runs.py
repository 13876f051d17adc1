"""Where a run lives, what made it, and the question whether it is finished."""

import dataclasses
import errno
import json
import re

import pytest

from bipartition import configuration, files, runs
from bipartition.configuration import Configuration
from bipartition.rows import ROWS

CONFIGURATION = Configuration(row="chan_vese", dataset="cartoons", seed=0, weights="none")


def test_a_run_lives_where_the_contract_says(places):
    assert runs.run_folder("demo", "cartoons", "casm", 3) == places / "results/demo/runs/cartoons/casm/seed3"


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    assert runs.fingerprint({"a": 1, "b": 2}) == runs.fingerprint({"b": 2, "a": 1}) != runs.fingerprint({"a": 1, "b": 3})


class TestIsFinished:
    @pytest.fixture
    def folder(self, tmp_path):
        files.write_json(tmp_path / "config.json", {"made_by": runs.made_by(CONFIGURATION, "data")})
        files.write_json(tmp_path / "metrics.json", {})
        return tmp_path

    def test_the_same_configuration_data_and_weights(self, folder):
        assert runs.is_finished(folder, runs.made_by(CONFIGURATION, "data"))

    def test_not_without_metrics(self, folder):
        (folder / "metrics.json").unlink()
        assert not runs.is_finished(folder, runs.made_by(CONFIGURATION, "data"))

    def test_not_with_other_data_settings_or_method(self, folder, monkeypatch):
        other = Configuration(row="chan_vese", dataset="cartoons", seed=0, weights="none", lambda1=9.0)
        assert not runs.is_finished(folder, runs.made_by(CONFIGURATION, "other data"))
        assert not runs.is_finished(folder, runs.made_by(other, "data"))
        monkeypatch.setattr(runs, "METHOD_VERSION", runs.METHOD_VERSION + 1)
        assert not runs.is_finished(folder, runs.made_by(CONFIGURATION, "data"))

    @pytest.mark.parametrize("changed", [{"changes": 7}, {"energy": "mumford_shah"}, {"energy": None}, {"network": "casm"}])
    def test_not_of_a_row_that_computes_something_else_now(self, folder, monkeypatch, changed):
        for module in (runs, configuration):
            monkeypatch.setattr(module, "ROWS", ROWS | {"chan_vese": dataclasses.replace(ROWS["chan_vese"], **changed)})
        assert not runs.is_finished(folder, runs.made_by(CONFIGURATION, "data"))

    def test_a_run_that_did_not_say_what_it_trained_trained_what_its_row_does(self, folder):
        config = files.read_json(folder / "config.json")
        del config["made_by"]["trains"]
        files.write_json(folder / "config.json", config)
        assert runs.is_finished(folder, runs.made_by(CONFIGURATION, "data"))

    def test_a_setting_that_is_younger_than_the_run_had_its_default(self, folder):
        config = files.read_json(folder / "config.json")
        del config["made_by"]["configuration"]["judge_crops"]
        files.write_json(folder / "config.json", config)
        assert runs.is_finished(folder, runs.made_by(CONFIGURATION, "data"))
        cropped = dataclasses.replace(CONFIGURATION, judge_crops=0.5)
        assert not runs.is_finished(folder, runs.made_by(cropped, "data"))

    def test_weights_are_known_by_their_bytes_not_by_their_name(self, folder, tmp_path, monkeypatch):
        pretrained = dataclasses.replace(CONFIGURATION, weights="imagenet")
        for name, content in (("first", b"some"), ("renamed", b"some"), ("other", b"more")):
            (tmp_path / name).write_bytes(content)
        monkeypatch.setenv("RESNET18_WEIGHTS", str(tmp_path / "first"))
        files.write_json(folder / "config.json", {"made_by": runs.made_by(pretrained, "data")})
        for name, same in (("renamed", True), ("other", False)):
            monkeypatch.setenv("RESNET18_WEIGHTS", str(tmp_path / name))
            assert runs.is_finished(folder, runs.made_by(pretrained, "data")) == same
        monkeypatch.delenv("RESNET18_WEIGHTS")
        assert not runs.is_finished(folder, runs.made_by(pretrained, "data"))


def test_code_is_changed_by_what_it_computes_and_not_by_what_it_says(tmp_path, monkeypatch):
    code, run = tmp_path / "code.py", tmp_path / "run"
    monkeypatch.setattr(runs, "METHOD_CODE", (str(code),))

    def changed(text):
        code.write_text(text, encoding="utf-8")
        return runs.changed_code(run, runs.method_code())

    assert changed("def area(phi):\n    return (1 - phi).mean()\n") == []  # a run that did not say
    files.write_json(run / "config.json", {"code": runs.method_code()})
    said = '"""Of masks."""\n\ndef area(phi):\n    """Share of foreground."""\n    return (1 - phi).mean()  # (7)\n'
    assert changed(said) == []
    assert changed(said.replace("1 - phi", "phi")) == [str(code)]


def test_what_looks_like_a_comment_in_a_text_is_code(tmp_path, monkeypatch):
    (tmp_path / "code.py").write_text('colour = f"#{7:06x}"  # red\n', encoding="utf-8")
    monkeypatch.setattr(runs, "METHOD_CODE", (str(tmp_path / "code.py"),))
    before = runs.method_code()
    (tmp_path / "code.py").write_text('colour = f"#{8:06x}"  # red\n', encoding="utf-8")
    assert runs.method_code() != before


def test_only_folders_that_are_named_like_a_run_are_runs(places):
    of_row = places / "results" / "demo" / "runs" / "cartoons" / "casm"
    for name in ("seed10", "seed2", "seed0.old", "seed00", "seed", "seed-1"):
        files.write_json(of_row / name / "metrics.json", {})
    (of_row / "seed3").mkdir()
    found = runs.finished_seeds("demo", "cartoons", "casm")
    assert [(seed, folder.name) for seed, folder in found.items()] == [(2, "seed2"), (10, "seed10")]


NO_METHOD = {"configuration.py", "rows.py", "runs.py", "files.py", "machine.py"}
"""What training imports and does not compute with: settings are compared by their values."""


def test_all_code_that_a_training_computes_with_is_looked_at(root):
    """All modules beside `training`, not those in folders below, that it imports, and those that these import."""
    folder = root / "lib" / "bipartition"
    found, waiting = set(), ["training"]
    while waiting:
        name = waiting.pop()
        if name in found or not (folder / f"{name}.py").is_file():
            continue
        found.add(name)
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        waiting += re.findall(r"^from bipartition\.(\w+) import", text, re.MULTILINE)
    assert {f"{name}.py" for name in found} - NO_METHOD == set(runs.METHOD_CODE)


def test_provenance_is_plain_json_and_names_versions():
    about = json.loads(json.dumps(runs.provenance()))
    assert about["versions"]["torch"][0].isdigit() and about["cpus"] >= 1 and about["commit"]


def test_weights_that_may_not_be_read_are_told_with_their_variable(tmp_path, monkeypatch):
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "some.pth").write_bytes(b"some")
    monkeypatch.setenv("RESNET18_WEIGHTS", str(tmp_path / "some.pth"))
    monkeypatch.setattr(runs, "_digest", forbidden)  # nothing is forbidden to root
    with pytest.raises(PermissionError, match="RESNET18_WEIGHTS = .*some.pth' may not be read; check its permissions"):
        runs.weights_source(dataclasses.replace(CONFIGURATION, weights="imagenet"))
