"""Runs on Dogs vs. Cats, measured on pets: one tiny training, then table, notebook and the way through make."""

import dataclasses
import os
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest

from bipartition import files, finished, pets, runs
from bipartition.datasets.prepare import prepare
from bipartition.notebooks import execute
from bipartition.pipeline import reproduce, request_for
from bipartition.profiles import load_profile
from bipartition.tables import NO_SEED, write_table
from bipartition.tasks import plan
from conftest import TINY
from miniatures import write_dogs_vs_cats, write_oxford_pets

PROFILE = """\
about: Dogs and cats for tests.
sets: {table1: cartoons, gallery: dogs-vs-cats}
seeds: [0]
rows: [chan_vese, mumford_shah_only]
training: {size: 32, batch_size: 6, epochs: 1, warmup_epochs: 1, weights: none, autoencoder_width: 4, autoencoder_poolings: 2,
           judge: snapshot}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A profile with two rows trained on a miniature of Dogs vs. Cats, beside a miniature of the pets."""
    folder = tmp_path_factory.mktemp("pets")
    (folder / "dogs.yaml").write_text(PROFILE, encoding="utf-8")
    environment = {"BIPARTITION_RESULTS": str(folder / "results"), "BIPARTITION_DATA": str(folder / "data"),
                   "OMP_NUM_THREADS": "1",
                   "DOGS_VS_CATS_ROOT": str(write_dogs_vs_cats(folder / "dogs")),
                   "OXFORD_PETS_ROOT": str(write_oxford_pets(folder / "oxford", each=3))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        request = request_for(str(folder / "dogs.yaml"), datasets="dogs-vs-cats", steps="train", notebooks=False)
        reproduce(request)
    return folder, environment


@pytest.fixture
def profile(trained, monkeypatch):
    folder, environment = trained
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_profile(folder / "dogs.yaml")


@pytest.mark.slow
def test_each_finished_run_is_measured_by_class(profile, tmp_path):
    (folders, stale), prepared = pets.measurable_folders(profile), pets.open_pets(profile)
    assert list(folders) == ["chan_vese", "mumford_shah_only", "cam"] and not stale
    found = pets.measured(folders, prepared)
    table = pets.pets_table(found)
    assert tuple(table) == pets.COLUMNS
    assert table["row"].unique().tolist() == [*folders, *pets.FLOORS]
    assert table["class"].unique().tolist() == ["cat", "dog", "mean"]
    assert table["n"].tolist() == [3, 3, 6] * 5 and table["seeds"].tolist() == [1] * 9 + [0] * 6
    measured = table.set_index(["row", "class"])
    floor = found.lines["everything_foreground"][NO_SEED]["mean_iou"]
    assert measured.loc[("everything_foreground", "mean"), "iou"] == pytest.approx(floor)
    known = table.drop(columns="accuracy").dropna()
    assert len(known) == 15 and ((known["iou_low"] <= known["iou"]) & (known["iou"] <= known["iou_high"])).all()
    with_classifier = measured["accuracy"].notna().groupby("row").all()
    assert with_classifier[["chan_vese", "cam"]].all() and not with_classifier[["mumford_shah_only", *pets.FLOORS]].any()
    write_table(table, tmp_path / "pets", pets.markdown(table))
    assert len(pd.read_csv(tmp_path / "pets.csv")) == 15 and "| cat, n = 3 |" in (tmp_path / "pets.md").read_text()


@pytest.mark.slow
def test_masks_are_those_of_the_run_itself(profile):
    folder = pets.measurable_folders(profile)[0]["chan_vese"][0]
    prepared = prepare("dogs-vs-cats", 32)
    masks, logits = finished.predicted_masks(folder, prepared.split("val").images)
    assert np.array_equal(masks, np.load(folder / "masks.npy")) and logits.shape == (2, 2)
    with pytest.raises(ValueError, match="trained at 32 pixels, the pictures have 16"):
        finished.predicted_masks(folder, np.zeros((1, 3, 16, 16), np.uint8))


@pytest.mark.slow
def test_classes_are_compared_by_name_not_by_place(profile, monkeypatch):
    """A run whose classes come dog first, and names every picture by its second class, is right about cats."""
    prepared, folder = pets.open_pets(profile), pets.measurable_folders(profile)[0]["chan_vese"][0]
    split = prepared.split("val")
    answers = np.tile([0.0, 1.0], (len(split.labels), 1))
    monkeypatch.setattr(finished, "predicted_masks", lambda *_: (np.zeros(split.masks.shape, np.uint8), answers))
    monkeypatch.setattr(pets, "NAMES", ("dog", "cat"))
    table = pets.pets_table(pets.measured({"chan_vese": {0: folder}}, prepared)).set_index(["row", "class"])
    assert table["accuracy"]["chan_vese"].to_dict() == {"cat": 1.0, "dog": 0.0, "mean": 0.5}


@pytest.mark.slow
def test_a_run_of_another_configuration_is_named_and_not_measured(profile):
    changed = dataclasses.replace(profile, per_row={"chan_vese": {"alpha": 2.0}})
    folders, stale = pets.measurable_folders(changed)
    assert list(folders) == ["mumford_shah_only", "cam"] and stale == ["chan_vese/seed0"]


@pytest.mark.slow
def test_a_run_whose_validation_part_lacks_a_class_keeps_all_that_it_was_trained_on(places, tiny_profile):
    tiny_profile.write_text(TINY.replace("val: 12", "val: 4"), encoding="utf-8")
    request = request_for(str(tiny_profile), rows="chan_vese", steps="train", notebooks=False)
    reproduce(request)
    folder = runs.run_folder("tiny", "cartoons", "chan_vese", 0)
    assert len(files.read_json(folder / "metrics.json")["classes"]) == 4
    masks, logits = finished.predicted_masks(folder, prepare("cartoons", 32, {"train": 24, "val": 4}).split("val").images)
    assert np.array_equal(masks, np.load(folder / "masks.npy")) and logits.shape == (4, 6)


@pytest.mark.slow
def test_the_notebook_measures_and_draws(profile, trained, root):
    copy = trained[0] / "pets.ipynb"
    execute(root / "notebooks" / "08_pets.ipynb", copy, {"profile": str(trained[0] / "dogs.yaml")})
    outputs = [output for cell in nbformat.read(copy, as_version=4).cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert (trained[0] / "results" / "dogs" / "pets.csv").is_file()


@pytest.mark.slow
def test_the_step_is_done_once_and_never_unasked(profile, trained):
    command = [sys.executable, "-m", "bipartition.pipeline", "--profile", str(trained[0] / "dogs.yaml"), "--steps", "pets"]
    first, second = (subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True).stdout
                     for _ in range(2))
    assert "[1/1] pets: done" in first and "nothing to do" in second
    assert "pets" not in request_for("laptop").steps


@pytest.mark.slow
def test_other_code_of_the_networks_measures_anew(profile, trained, monkeypatch):
    task, = plan(request_for(str(trained[0] / "dogs.yaml"), steps="pets"))
    before = task.inputs()
    assert task.inputs() == before
    monkeypatch.setattr(runs, "library_digest", lambda: "other")
    assert task.inputs() != before


def test_without_a_finished_run_the_way_out_is_said(places, tiny_profile):
    with pytest.raises(ValueError, match="no run of the profile 'tiny' on dogs-vs-cats is finished.*make train PROFILE=laptop"):
        reproduce(request_for(str(tiny_profile), steps="pets"))
    with pytest.raises(ValueError, match="make train PROFILE=paper DATASETS=dogs-vs-cats"):  # which trains on them itself
        reproduce(request_for("paper", steps="pets"))


def test_what_is_to_be_trained_first_need_not_be_there(tmp_path, places):
    path = tmp_path / "dogs.yaml"
    path.write_text(TINY.replace("gallery: cartoons", "gallery: dogs-vs-cats"), encoding="utf-8")
    request = request_for(str(path), datasets="dogs-vs-cats", steps="data,train,pets")
    assert plan(request)[-1].name == "pets"


def test_data_of_any_set_can_be_asked_for_but_not_trained_on(tiny_profile):
    request = request_for(str(tiny_profile), steps="data", datasets="oxford-pets")
    assert request.datasets == ("oxford-pets",) and request.profile.size("oxford-pets") == 32
    with pytest.raises(ValueError, match="unknown data set in the profile 'tiny': 'oxford-pets'"):
        request_for(str(tiny_profile), datasets="oxford-pets")
