"""Profiles are checked before anything starts, and the later source of a setting is the stronger."""

import dataclasses
import errno
import json
from pathlib import Path

import pytest

from bipartition import profiles
from bipartition.finished import made_today
from bipartition.profiles import configuration_for, load_profile, profile_names
from bipartition.rows import ROWS
from conftest import benchmark

GOOD = {
    "about": "A test.",
    "sets": "{table1: cartoons, gallery: cartoons}",
    "seeds": "[0]",
    "rows": "[chan_vese]",
    "training": "{size: 32, epochs: 3, lambda1: 2.0}",
}


@pytest.fixture
def written(tmp_path):
    def write(**changes):
        lines = [f"{key}: {value}" for key, value in (GOOD | changes).items() if value is not None]
        path = tmp_path / "mine.yaml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def test_the_project_brings_the_four_profiles_of_the_contract():
    assert profile_names() == ["demo", "laptop", "paper", "smoke"]


@pytest.mark.parametrize("name", ["smoke", "demo", "laptop", "paper"])
def test_every_profile_of_the_project_makes_all_its_configurations(name):
    profile = load_profile(name)
    assert profile.name == name and profile.about.endswith(".")
    assert {name for name, row in ROWS.items() if row.letter in "abcdef"} <= set(profile.rows) <= set(ROWS)  # the paper's
    for dataset in profile.datasets:
        for row in profile.rows:
            configuration = configuration_for(profile, dataset, row, 3)
            assert (configuration.row, configuration.dataset, configuration.seed) == (row, dataset, 3)


def test_smoke_and_demo_need_no_download():
    for name in ("smoke", "demo"):
        profile = load_profile(name)
        assert profile.datasets == ("cartoons",)
        assert configuration_for(profile, "cartoons", "chan_vese", 0).weights == "none"


def test_a_row_is_stronger_than_a_data_set_and_that_than_the_training(written):
    path = written(per_dataset="{cartoons: {epochs: 5, lambda1: 4.0}}", per_row="{chan_vese: {lambda1: 6.0}}")
    configuration = configuration_for(load_profile(path), "cartoons", "chan_vese", 0)
    assert (configuration.size, configuration.epochs, configuration.lambda1) == (32, 5, 6.0)


def test_what_a_row_needs_is_stronger_than_the_training_of_all_and_weaker_than_the_profiles_word_on_it(written):
    training = "{size: 32, lambda1: 4.0, decoder_rate: 0.5}"
    path = written(training=training, per_row="{chan_vese_only: {decoder_rate: 0.25}}")
    configuration = configuration_for(load_profile(path), "cartoons", "chan_vese_only", 0)
    assert ROWS["chan_vese_only"].settings["lambda1"] == configuration.lambda1 == 0.0
    assert configuration.decoder_rate == 0.25


def test_a_profile_cannot_be_changed_after_loading(written):
    profile = load_profile(written(data="{cartoons: {train: 6}}"))
    with pytest.raises(AttributeError):
        profile.seeds = (1,)
    with pytest.raises(TypeError):
        profile.training["size"] = 64
    with pytest.raises(TypeError):
        profile.data["cartoons"]["train"] = 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": "3"}, ["'epoch'", "training", "per_row"]),
        ({"training": "{size: 32, lambda_1: 2}"}, ["'lambda_1'", "lambda1"]),
        ({"training": "{size: 33}"}, ["size = 33", "multiple of 4"]),
        ({"training": "[32]"}, ["training", "name: value"]),
        ({"training": None}, ["'training'", "missing"]),
        ({"rows": "[chanvese]"}, ["'chanvese'", "chan_vese", "mumford_shah"]),
        ({"rows": "chan_vese"}, ["rows = ", "list"]),
        ({"per_row": "{chanvese: {epochs: 2}}"}, ["'chanvese'", "chan_vese"]),
        ({"per_row": "{chan_vese: {size: 64}}"}, ["size", "per_dataset"]),
        ({"per_row": "{casm: {epoch: 2}}"}, ["'epoch'", "epochs"]),
        ({"sets": "{table1: cartoon, gallery: cartoons}"}, ["'cartoon'", "voc2012"]),
        ({"sets": "{table1: cartoons}"}, ["table1 and gallery"]),
        ({"data": "{voc: {train: 3}}"}, ["'voc'", "voc2012"]),
        ({"data": "{cartoons: {trian: 24}}"}, ["'trian'", "train, val, evaluated"]),
        ({"data": "{cartoons: {val: 0}}"}, ["val = 0 pictures of cartoons", "whole number from 1"]),
        ({"sets": "{table1: dogs-vs-cats, gallery: cartoons}"}, ["dogs-vs-cats has no masks", "voc2012"]),
        ({"rows": "[]"}, ["rows is empty", "chan_vese"]),
        ({"rows": "null"}, ["rows is empty", "chan_vese"]),
        ({"per_row": "{casm: {epochs: 0}}"}, ["mine.yaml: per_row: casm: epochs = 0; it must be greater than 0"]),
        ({"per_row": "{casm: {epoch: 2}}"}, ["mine.yaml: per_row: casm: 'epoch' is no setting of a run"]),
        ({"per_dataset": "{cartoons: {alpha: x}}"}, ["mine.yaml: per_dataset: cartoons: alpha = 'x'; it must be a number"]),
        ({"training": "{size: 32, epochs: 0}"}, ["mine.yaml: training: epochs = 0; it must be greater than 0"]),
        ({"per_dataset": "{coco: {size: 64}}"}, ["unknown data set in per_dataset 'coco'", "cartoons"]),
        ({"rows": "{casm, chan_vese}"}, ["rows = {'casm': None", "[casm, chan_vese]"]),
        ({"training": "{alpha: 1" + 400 * "0" + "}"}, ["alpha = inf", "finite"]),
        ({"training": "{size: 12}"}, ["size = 12", "16 or greater"]),
        ({"per_row": "{chan_vese: {warmup_epochs: 2}}"}, ["warmup_epochs", "share", "per_dataset"]),
        ({"rows": "[[casm]]"}, ["unknown row ['casm']", "chan_vese"]),
        ({"training": "{seed: 7}"}, ["training: seed", "rows, seeds and sets"]),
        ({"per_row": "{chan_vese: {row: casm}}"}, ["per_row: chan_vese: row", "rows, seeds and sets"]),
        ({"per_dataset": "{cartoons: {dataset: voc2012}}"}, ["per_dataset: cartoons: dataset", "rows, seeds and sets"]),
        ({"per_dataset": "{oxford-pets: {sise: 64}}"}, ["'sise'", "size"]),  # which the profile does not train on
        ({"seeds": "0"}, ["seeds = 0", "[0, 1]"]),
        ({"seeds": "[a]"}, ["seeds", "[0, 1]"]),
        ({"seeds": "[0, 1, 0]"}, ["seeds: 0 is there twice", "once"]),
        ({"rows": "[casm, chan_vese, casm]"}, ["rows: casm is there twice", "once"]),
        ({"training": "{1: 2, size: 32}"}, ["1 is no setting of a run", "size"]),
    ],
)
def test_a_wrong_profile_is_refused_with_its_file_and_what_is_allowed(written, changes, words):
    path = written(**changes)
    with pytest.raises(ValueError) as caught:
        load_profile(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(("settings", "words"), [
    ({"lambda2": -3e-4}, "settings of casm in bipartition/rows.py: lambda2 = -0.0003"),
    ({"lambda_2": 3e-4}, "settings of casm in bipartition/rows.py: 'lambda_2' is no setting")])
def test_what_is_wrong_in_rows_is_not_laid_at_the_profiles_door(written, monkeypatch, settings, words):
    monkeypatch.setattr(profiles, "ROWS", ROWS | {"casm": dataclasses.replace(ROWS["casm"], settings=settings)})
    with pytest.raises(ValueError, match=words):
        load_profile(written(training="{size: 32, lambda2: 0.1}"))


@pytest.mark.parametrize(("command", "words"), [
    ("growth", "--operations dmeo"), ("limits", "--profile dmeo"), ("local_colours", "--profile dmeo --width 1"),
    ("one_judge", "--profile dmeo --to one.png"), ("pull", "--profile dmeo"), ("thresholds", "--profile dmeo"),
    ("which_mask", "--profile dmeo")])
def test_a_command_refuses_an_unknown_profile_as_any_other_wrong_argument(root, command, words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [command, *words.split()])
    with benchmark(root, command) as module, pytest.raises(SystemExit, match="2"):
        module.main()
    assert "error: unknown profile 'dmeo'; the profiles are demo, laptop, paper, smoke" in capsys.readouterr().err


def test_an_unknown_name_lists_the_profiles():
    with pytest.raises(ValueError, match="'dmeo'.*demo, laptop, paper, smoke"):
        load_profile("dmeo")


@pytest.mark.parametrize("name", ["published", "trials"])
def test_a_profile_may_not_take_a_folder_that_is_no_profiles(written, name):
    path = written().rename(written().with_name(f"{name}.yaml"))
    with pytest.raises(ValueError, match=rf"{name}.yaml: results/{name}/ is not for .*another name"):
        load_profile(path)


def test_rows_may_share_what_an_anchor_names(written):
    path = written(per_row="{chan_vese: &common {lambda1: 2.0}, mumford_shah: {<<: *common, matrix_rate: 0.1}}")
    configuration = configuration_for(load_profile(path), "cartoons", "mumford_shah", 0)
    assert (configuration.lambda1, configuration.matrix_rate) == (2.0, 0.1)


def test_a_mapping_that_takes_keys_from_one_that_takes_keys_has_none_twice(written):
    path = written(per_row="{chan_vese_only: &b {lambda1: 1.0}, chan_vese: &a {<<: *b, lambda1: 2.0}, mumford_shah: {<<: *a}}")
    assert configuration_for(load_profile(path), "cartoons", "mumford_shah", 0).lambda1 == 2.0


def test_a_rate_may_be_written_without_a_point(written):
    path = written(training="{size: 32, decoder_rate: 1e-3, lambda1: 2E2}")
    configuration = configuration_for(load_profile(path), "cartoons", "chan_vese", 0)
    assert (configuration.decoder_rate, configuration.lambda1) == (0.001, 200.0)
    with pytest.raises(ValueError, match="decoder_rate = '1e-x'; it must be a number"):
        load_profile(written(training="{size: 32, decoder_rate: 1e-x}"))


def test_a_missing_file_and_broken_yaml_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no profile file .*absent.yaml"):
        load_profile(tmp_path / "absent.yaml")
    path = tmp_path / "broken.yaml"
    for broken in (b"rows: [", "about: Tést".encode("latin-1")):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="broken.yaml is not readable as YAML"):
            load_profile(path)


def test_a_profile_that_cannot_be_read_is_named(written, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="the profile .*aaa.yaml cannot be read: File name too long; check its name"):
        load_profile(tmp_path / f"{300 * 'a'}.yaml")

    def forbidden(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = written()
    monkeypatch.setattr(Path, "read_bytes", forbidden)  # nothing is forbidden to root
    with pytest.raises(ValueError, match="the profile .*mine.yaml cannot be read: Permission denied; .* its permissions"):
        load_profile(path)


@pytest.mark.parametrize(("line", "key"), [("training: {size: 32, alpha: 2.0}", "training"),
                                           ("per_dataset: {cartoons: {alpha: 2.0, alpha: 3.0}}", "alpha")])
def test_a_key_that_is_there_twice_is_refused(written, line, key):
    path = written()
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"(?s)the key '{key}' is there twice; keep one of them.* line \d+"):
        load_profile(path)


def test_a_configuration_is_refused_for_a_data_set_or_row_outside_the_profile(written):
    profile = load_profile(written())
    with pytest.raises(ValueError, match="'voc2012'.*cartoons"):
        configuration_for(profile, "voc2012", "chan_vese", 0)
    with pytest.raises(ValueError, match="'chanvese'"):
        configuration_for(profile, "cartoons", "chanvese", 0)


def test_a_file_that_is_called_like_a_profile_of_the_project_is_refused(written):
    path = written()
    other = path.rename(path.with_name("demo.yaml"))
    with pytest.raises(ValueError, match=r"demo.yaml: demo is a profile of the project.*give the file another name"):
        load_profile(other)


@pytest.mark.parametrize(("profile", "table", "runs"), [
    ("profiles/demo.yaml", "demo", 12), ("profiles/laptop.yaml", "voc-animals", 12),
    ("profiles/laptop.yaml", "voc-animals/float32", 12), ("profiles/paper.yaml", "voc-animals/paper-size", 5),
    *((f"results/published/voc-animals/{name}/{name}.yaml", f"voc-animals/{name}", 12)
      for name in ("share", "snapshot", "turns", "whole")),
])
def test_the_profile_of_a_published_result_makes_the_runs_that_its_provenance_names(root, profile, table, runs):
    profile = load_profile(root / profile)
    made = json.loads((root / "results" / "published" / table / "provenance.json").read_text(encoding="utf-8"))["runs"]
    assert len(made) >= runs
    for place, run in made.items():
        dataset, row, seed = place.split("/")
        now = made_today(profile, dataset, row, int(seed.removeprefix("seed")), "")["configuration"]
        assert now, place
        assert now == now | {key: value for key, value in run["configuration"].items() if key in now}, place


def test_a_profile_of_the_project_may_be_given_by_its_path(root):
    assert load_profile(root / "profiles" / "demo.yaml").name == "demo"
