"""The pipeline makes what is missing or out of date, nothing else, and never calls a failed step done."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from bipartition import datasets, files, machine, notebooks, pipeline, runs, stamps, tasks
from bipartition.finished import made_today
from bipartition.notebooks import NotebookError, execute, parameter_names
from bipartition.pipeline import main, reproduce, request_for
from bipartition.profiles import load_profile
from bipartition.rows import WARM_UP
from conftest import TINY
from miniatures import write_voc


@pytest.fixture
def stage(places, tiny_profile, monkeypatch):
    """Notebooks replaced by a function that leaves what they would leave; gives the list of those that were called."""
    called = []

    def fake(source, target, parameters):
        called.append(target.stem)
        if not parameters:
            return files.write_text(target, "{}")
        request = request_for(parameters["profile"])
        folder, profile = request.folder, request.profile
        if "seed" in parameters:
            key = (parameters["dataset"], parameters["row"], parameters["seed"])
            run = runs.run_folder(profile.name, *key)
            made_by = runs.made_by(tasks.configuration_for(profile, *key), tasks._checksum(profile, key[0]))
            files.write_json(run / "config.json", {"made_by": made_by, "minutes": 0.5, "device": "cpu"})
            (run / "masks.npy").touch()
            files.write_json(run / "metrics.json", {"accuracy": 0.5})
        elif "dataset" in parameters:
            profile.prepared(parameters["dataset"])
        else:
            for name in tasks.DRAWINGS[target.stem].pictures:
                for suffix in ("png", "pdf"):
                    files.write_text(folder / "figures" / f"{name}.{suffix}", "drawn")
            for name in ("table1", "seeds", "pictures", "measures", "claims") if target.stem == "table1" else ():
                files.write_text(folder / f"{name}.csv", "row,class\n")
                files.write_text(folder / f"{name}.md", "| row |\n| --- |\n\nwhat it is\n")
        files.write_text(target, "{}")

    monkeypatch.setattr(notebooks, "execute", fake)
    return called


ALL = [
    "prepare-cartoons",
    "train-cartoons-chan_vese-seed0",
    "train-cartoons-mumford_shah-seed0",
    "table1",
    "figure4",
    "figure5",
    "figure6",
]


def test_everything_is_made_once_in_the_order_of_its_dependencies(stage, tiny_profile, places, capsys):
    assert main(["--profile", str(tiny_profile)]) == 0
    assert stage == ALL
    for name in ("provenance.json", "report.html"):
        assert (places / "results" / "tiny" / name).is_file()
    assert main(["--profile", str(tiny_profile)]) == 0
    assert stage == ALL
    assert "nothing to do" in capsys.readouterr().out


def test_a_new_seed_is_trained_and_everything_drawn_anew(stage, tiny_profile):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    assert main(["--profile", str(tiny_profile), "--seeds", "1", "--rows", "chan_vese"]) == 0
    assert stage == ["train-cartoons-chan_vese-seed1", *DRAWN]


def test_a_changed_setting_trains_the_row_that_it_concerns(stage, tiny_profile):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    tiny_profile.write_text(
        tiny_profile.read_text(encoding="utf-8") + "per_row: {mumford_shah: {lambda3: 2.0}}\n", encoding="utf-8"
    )
    main(["--profile", str(tiny_profile), "--steps", "data train"])
    assert stage == ["train-cartoons-mumford_shah-seed0"]


DRAWN = ["table1", "figure4", "figure5", "figure6"]


@pytest.mark.parametrize(("old", "new", "done"), [
    ("A profile for tests", "The same with other words", DRAWN),
    ("training: {size", "per_row: {casm: {casm_area: 2.0}}\ntraining: {size", DRAWN),
    ("size: 32", "lambda1: 0.5, size: 32", [*ALL[1:3], *DRAWN])])
def test_what_reads_the_profile_is_made_anew_and_only_changed_runs_are_trained(stage, tiny_profile, places, old, new, done):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    report = places / "results" / "tiny" / "report.html"
    report.write_text("old", encoding="utf-8")
    tiny_profile.write_text(tiny_profile.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    main(["--profile", str(tiny_profile)])
    assert stage == done and report.read_text(encoding="utf-8") != "old"


@pytest.mark.parametrize("file", ["rows.py", "configuration.py"])
def test_changed_rows_and_readings_are_drawn_and_reported_without_training(stage, tiny_profile, places, monkeypatch, file):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    report = places / "results" / "tiny" / "report.html"
    report.write_text("old", encoding="utf-8")
    digest = tasks.file_digest
    monkeypatch.setattr(tasks, "file_digest", lambda path: "other" if path.name == file else digest(path))
    main(["--profile", str(tiny_profile)])
    assert stage == DRAWN and report.read_text(encoding="utf-8") != "old"


def test_a_finished_warm_up_is_recorded(stage, tiny_profile, places):
    main(["--profile", str(tiny_profile)])
    warm_up = runs.run_folder("tiny", "cartoons", "classifier", 0)
    profile = load_profile(tiny_profile)
    made_by = made_today(profile, "cartoons", WARM_UP, 0, tasks._checksum(profile, "cartoons"))
    files.write_json(warm_up / "config.json", {"made_by": made_by, "minutes": 0.25})
    files.write_json(warm_up / "metrics.json", {"accuracy": 0.5})
    main(["--profile", str(tiny_profile)])
    assert files.read_json(places / "results" / "tiny" / "provenance.json")["minutes"] == 1.25


@pytest.mark.parametrize(("file", "done"), [("figures.py", DRAWN), ("finished.py", DRAWN),
                                              ("charts.py", ["table1"]), ("tables.py", ["table1", "figure4", "figure6"])])
def test_changed_drawing_code_draws_without_training(stage, tiny_profile, monkeypatch, file, done):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    digest = tasks.file_digest
    monkeypatch.setattr(tasks, "file_digest", lambda path: "other" if path.name == file else digest(path))
    main(["--profile", str(tiny_profile)])
    assert stage == done


@pytest.mark.parametrize(("file", "drawn"), [("figure5.pdf", "figure5"), ("figure6_worst.png", "figure6"),
                                               ("table1.png", "table1")])
def test_a_deleted_figure_is_drawn_again(stage, tiny_profile, places, file, drawn):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    (places / "results" / "tiny" / "figures" / file).unlink()
    main(["--profile", str(tiny_profile)])
    assert stage == [drawn]


def test_a_run_whose_masks_were_deleted_is_trained_again(stage, tiny_profile):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    (runs.run_folder("tiny", "cartoons", "chan_vese", 0) / "masks.npy").unlink()
    main(["--profile", str(tiny_profile)])
    assert stage == ["train-cartoons-chan_vese-seed0"]  # to the same numbers


def test_what_a_killed_drawing_left_half_written_goes_with_the_next(stage, tiny_profile, places):
    main(["--profile", str(tiny_profile)])
    figures = places / "results" / "tiny" / "figures"
    for name in ("figure4.png", ".figure4.png.r9g1_8rw.png", ".figure4.txt.ab3d_f_h.txt", ".mine"):
        (figures / name).write_bytes(b"half")
    main(["--profile", str(tiny_profile)])
    assert sorted(path.name for path in figures.glob(".*")) == [".mine"]


def test_what_was_done_with_notebooks_is_not_done_again_without_and_the_other_way_round(stage, tiny_profile, capsys):
    command = ["--profile", str(tiny_profile), "--steps", "data"]
    main(command)
    stage.clear()
    for more in (["--no-notebooks"], [], ["--no-notebooks"]):
        capsys.readouterr()
        assert main([*command, *more]) == 0 and not stage and "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(("file", "drawn"), [("figures/figure6.png", "figure6"), ("table1.csv", "table1")])
def test_what_somebody_wrote_over_is_made_again(stage, tiny_profile, places, file, drawn):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    (places / "results" / "tiny" / file).write_text("by hand, with other parameters", encoding="utf-8")
    main(["--profile", str(tiny_profile)])
    assert stage == [drawn]


def test_other_weights_draw_anew_as_other_runs_count_then(stage, places, monkeypatch, tmp_path):
    path = tmp_path / "pretrained.yaml"
    path.write_text(TINY.replace("weights: none", "weights: imagenet"), encoding="utf-8")
    (tmp_path / "some.pth").write_bytes(b"some")
    monkeypatch.setenv("RESNET18_WEIGHTS", str(tmp_path / "some.pth"))
    main(["--profile", str(path)])
    stage.clear()
    main(["--profile", str(path), "--steps", "figures,table"])
    provenance = places / "results" / "pretrained" / "provenance.json"
    assert not stage and files.read_json(provenance)["runs"]
    monkeypatch.delenv("RESNET18_WEIGHTS")
    main(["--profile", str(path), "--steps", "figures,table,report"])
    assert stage == DRAWN and not files.read_json(provenance)["runs"]


def test_what_changed_while_it_was_shown_is_shown_anew(tiny_profile, places, monkeypatch):
    source, shown = places / "source", places / "shown"
    source.write_text("old", encoding="utf-8")

    def show():
        shown.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        source.write_text("new", encoding="utf-8")

    task = stamps.Task(name="show", inputs=lambda: source.read_text(encoding="utf-8"), outputs=(shown,), action=show)
    monkeypatch.setattr(pipeline, "plan", lambda request: [task])
    request = request_for(str(tiny_profile))
    assert [reproduce(request) for _ in range(3)] == [1, 1, 0] and shown.read_text(encoding="utf-8") == "new"


def test_what_somebody_writes_in_the_folder_of_a_run_is_left_to_those_who_train(stage, tiny_profile, places):
    run = runs.run_folder("tiny", "cartoons", "chan_vese", 0)
    run.mkdir(parents=True)
    with files.place(run / "checkpoint.pt") as temporary:  # as a notebook that trains it would
        temporary.write_bytes(b"state")
        main(["--profile", str(tiny_profile)])
    assert (run / "checkpoint.pt").read_bytes() == b"state"


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, "1 True"), ({"RANK": "1"}, "1 True"), ({"WORLD_SIZE": "2", "RANK": "1"}, "2 False"),
    ({"WORLD_SIZE": "2", "RANK": "0"}, "2 True")])
def test_what_a_launcher_left_in_the_environment_makes_no_second_process(environment, expected):
    command = [sys.executable, "-c", "from bipartition import pipeline; print(pipeline.PROCESSES, pipeline.FIRST)\n"
               "from bipartition.devices import accelerator_for_this_machine\n"
               "if pipeline.PROCESSES == 1: assert accelerator_for_this_machine().num_processes == 1"]
    known = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK")}
    done = subprocess.run(command, env=known | environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_whoever_changed_the_method_is_told_which_runs_are_older(stage, tiny_profile, capsys, monkeypatch):
    main(["--profile", str(tiny_profile)])
    main(["--profile", str(tiny_profile), "--rows", "chan_vese", "--seeds", "1"])
    run = {key: runs.run_folder("tiny", "cartoons", *key) / "config.json" for key in (
        ("chan_vese", 0), ("chan_vese", 1), ("mumford_shah", 0))}
    for config in run.values():
        files.write_json(config, files.read_json(config) | {"code": runs.method_code()})
    capsys.readouterr()
    main(["--profile", str(tiny_profile)])
    assert "changed since" not in capsys.readouterr().out
    now = runs.method_code() | {"energies.py": "other"}
    monkeypatch.setattr(runs, "method_code", lambda: now)
    recorded = files.read_json(run["mumford_shah", 0])
    of_before = {"made_by": recorded["made_by"] | {"method_version": 1}}  # counts no more
    files.write_json(run["mumford_shah", 0], recorded | of_before)
    assert main(["--profile", str(tiny_profile), "--rows", "chan_vese", "--steps", "data train"]) == 0
    said = capsys.readouterr().out
    assert ("changed since they were trained: energies.py. cartoons/chan_vese/seed0, cartoons/chan_vese/seed1 count as before"
            in said) and "raise METHOD_VERSION" in said and "mumford_shah/seed0" not in said
    run["chan_vese", 0].write_text("no JSON", encoding="utf-8")
    assert main(["--profile", str(tiny_profile), "--steps", "data"]) == 0
    assert main(["--profile", str(tiny_profile), "--rows", "casm", "--steps", "data train"]) == 1
    assert "is not readable as JSON" in capsys.readouterr().err


def test_drawings_that_prepare_their_own_pictures_are_drawn_once(stage, tiny_profile, places):
    main(["--profile", str(tiny_profile)])
    shutil.rmtree(places / "data")
    stage.clear()
    before = notebooks.execute

    def preparing(source, target, parameters):
        load_profile(tiny_profile).prepared("cartoons")
        before(source, target, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "execute", preparing)
        main(["--profile", str(tiny_profile), "--steps", "figures,table", "--jobs", "1"])
    assert stage == DRAWN
    main(["--profile", str(tiny_profile), "--steps", "figures,table"])
    assert stage == DRAWN


def test_a_changed_caption_reaches_the_report(stage, tiny_profile, places):
    main(["--profile", str(tiny_profile)])
    (places / "results" / "tiny" / "figures" / "figure4.txt").write_text("Another caption.", encoding="utf-8")
    main(["--profile", str(tiny_profile)])
    assert "Another caption." in (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")


def test_figures_of_what_was_trained_are_drawn_although_others_cannot_be(stage, places, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VOC_ROOT", str(write_voc(tmp_path / "voc")))
    content = yaml.safe_load(TINY)
    content["sets"] = {"table1": "voc2012", "gallery": "dogs-vs-cats"}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert main(["--profile", str(path), "--datasets", "voc2012"]) == 0
    (places / "results" / "two" / "figures" / "figure6.png").unlink()
    stage.clear()
    capsys.readouterr()
    assert main(["--profile", str(path), "--steps", "figures"]) == 0
    assert stage == ["figure6"] and "figure4 left out: no run on dogs-vs-cats is finished" in capsys.readouterr().out


def test_a_finished_run_without_a_stamp_is_believed_by_what_made_it(stage, tiny_profile, places):
    main(["--profile", str(tiny_profile)])
    stage.clear()
    for path in (places / "results" / "tiny" / ".stamps").glob("train-*.json"):
        path.unlink()
    main(["--profile", str(tiny_profile)])
    assert stage == []


def test_steps_choose_what_is_looked_at(stage, tiny_profile):
    main(["--profile", str(tiny_profile), "--steps", "data"])
    assert stage == ["prepare-cartoons"]
    main(["--profile", str(tiny_profile), "--steps", "figures"])
    assert stage[1:] == ["figure4", "figure5", "figure6"]


def test_a_figure_of_a_data_set_that_was_not_asked_for_is_left_out_and_nothing_fetched(stage, places, monkeypatch, capsys):
    content = yaml.safe_load(TINY)
    content["sets"]["gallery"] = "dogs-vs-cats"
    path = places / "two.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(tasks, "_SOURCES", {})
    opened = []
    known = datasets.open_dataset
    monkeypatch.setattr(datasets, "open_dataset", lambda name, **options: opened.append(name) or known(name, **options))
    reproduce(request_for(str(path), datasets="cartoons"))
    assert "figure6" in stage and "table1" in stage and not {"figure4", "figure5"} & set(stage)
    assert set(opened) == {"cartoons"}
    assert "figure4 left out: dogs-vs-cats was not asked for, and no run on it is finished" in capsys.readouterr().out


@pytest.mark.parametrize("steps", ["figures", "table", "report"])
def test_without_runs_and_pictures_drawing_fetches_nothing_and_says_what_to_train(places, monkeypatch, steps):
    monkeypatch.setattr("bipartition.datasets.open_dataset", lambda *_, **__: pytest.fail("a data set was opened"))
    with pytest.raises(ValueError, match=r"no run of the profile 'laptop' on \S+ is finished.*make train PROFILE=laptop"):
        reproduce(request_for("laptop", steps=steps))


def test_a_report_of_what_was_drawn_before_its_runs_went_is_written(places):
    (places / "results" / "laptop" / "figures").mkdir(parents=True)
    (places / "results" / "laptop" / "figures" / "table1.png").write_bytes(b"drawn")
    assert "report" in [task.name for task in tasks.plan(request_for("laptop", steps="report"))]


@pytest.mark.parametrize("steps", ["figures", "table"])
def test_without_runs_drawn_pictures_give_empty_panels_and_baselines(stage, tiny_profile, steps):
    reproduce(request_for(str(tiny_profile), steps=steps))
    assert stage == (["figure4", "figure5", "figure6"] if steps == "figures" else ["table1"])


@pytest.mark.parametrize(("rows", "asked", "shown"), [
    ("casm chan_vese_only classification_only chan_vese", "", "chan_vese"), ("chan_vese_only casm", "", "casm"),
    ("casm chan_vese mumford_shah", "", None), ("chan_vese mumford_shah", "chan_vese", "chan_vese")])
def test_where_mumford_shah_is_not_trained_figures_5_and_6_show_another_row(places, tmp_path, monkeypatch, rows, asked, shown):
    path = tmp_path / "others.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(TINY) | {"rows": rows.split()}), encoding="utf-8")
    given = {}
    monkeypatch.setattr(tasks, "_by_notebook", lambda request, name, kind, parameters, **_: given.update({name: parameters}))
    tasks.plan(request_for(str(path), rows=asked))
    assert given["figure5"] == given["figure6"] == ({"row": shown} if shown else {}) and given["figure4"] == {}


def test_places_are_the_same_for_notebooks_that_run_in_another_folder(tiny_profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIPARTITION_RESULTS", "res")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BIPARTITION_DATA", "~/dat")
    main(["--profile", str(tiny_profile), "--steps", "data", "--no-notebooks"])
    assert os.environ["BIPARTITION_RESULTS"] == str(tmp_path / "res")
    assert os.environ["BIPARTITION_DATA"] == str(tmp_path / "dat")


def test_a_failing_notebook_ends_the_pipeline_and_is_tried_again(stage, tiny_profile, monkeypatch, capsys):
    working = notebooks.execute

    def failing(source, target, parameters):
        if target.stem == "figure5":
            raise NotebookError("figure5 failed")
        working(source, target, parameters)

    monkeypatch.setattr(notebooks, "execute", failing)
    assert main(["--profile", str(tiny_profile)]) == 1
    assert "figure5 failed" in capsys.readouterr().err
    assert stage[-1] == "figure4"
    stage.clear()
    monkeypatch.setattr(notebooks, "execute", working)
    assert main(["--profile", str(tiny_profile)]) == 0
    assert stage == ["figure5", "figure6"]


def test_a_notebook_that_ends_without_its_output_is_an_error(stage, tiny_profile, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", lambda source, target, parameters: files.write_text(target, "{}"))
    request = request_for(str(tiny_profile), steps="train", rows="chan_vese")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="without writing .*metrics.json"):
            reproduce(request)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rows", "chanvese"], ["'chanvese'", "chan_vese", "mumford_shah_only"]),
        (["--seeds", "one"], ["'one'", 'SEEDS="0 1 2"']),
        (["--datasets", "voc2012"], ["'voc2012'", "cartoons"]),
        (["--steps", "trian"], ["'trian'", "data, train, figures"]),
        (["--no-notebooks", "--steps", "table"], ["--no-notebooks", "data,train"]),
        (["--jobs", "0"], ["jobs '0'", "JOBS=2"]),
        (["--jobs", "two"], ["jobs 'two'", "JOBS=2"]),
    ],
)
def test_a_mistyped_choice_is_refused_with_the_right_ones(arguments, words, tiny_profile, places, capsys):
    assert main(["--profile", str(tiny_profile), *arguments]) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words)
    assert not (places / "results").exists()


def test_an_unknown_profile_is_refused_with_the_right_ones(places, capsys):
    assert main(["--profile", "dmeo"]) == 1
    assert "demo, laptop, paper, smoke" in capsys.readouterr().err


def test_lessons_are_run_where_they_are_asked_for_and_only_once(stage, tiny_profile, capsys):
    assert main(["--profile", str(tiny_profile), "--steps", "lessons"]) == 0
    assert len(stage) == 8 and stage[:2] == ["07_ambiguities", "10_two_regions"] and stage == sorted(stage)
    assert main(["--profile", str(tiny_profile), "--steps", "lessons"]) == 0
    assert len(stage) == 8 and "nothing to do" in capsys.readouterr().out
    files.write_json(runs.run_folder("demo", "cartoons", "chan_vese", 0) / "metrics.json", {})  # which a lesson shows
    assert main(["--profile", str(tiny_profile), "--steps", "lessons"]) == 0
    assert len(stage) == 16


def test_a_data_set_that_other_profiles_train_on_is_prepared_with_both_sizes_said(stage, tiny_profile, tmp_path, monkeypatch,
                                                                                  capsys):
    monkeypatch.setenv("VOC_ROOT", str(write_voc(tmp_path / "voc")))
    assert main(["--profile", str(tiny_profile), "--steps", "data", "--datasets", "voc2012 cartoons"]) == 0
    said = capsys.readouterr().out
    assert "voc2012: at 32 pixels, the size of the profile 'tiny', which does not train on it" in said
    assert "what does is PROFILE=laptop at 112 and PROFILE=paper at 224" in said and "cartoons: at" not in said


def test_a_broken_profile_concerns_who_asks_for_it(stage, tiny_profile, tmp_path, monkeypatch, capsys):
    load = load_profile
    monkeypatch.setattr(pipeline, "load_profile", lambda name: load(tmp_path / "none.yaml" if name == "paper" else name))
    monkeypatch.setenv("VOC_ROOT", str(write_voc(tmp_path / "voc")))
    assert main(["--profile", str(tiny_profile), "--steps", "data", "--datasets", "voc2012"]) == 0
    assert "what does is PROFILE=laptop at 112\n" in capsys.readouterr().out


@pytest.mark.parametrize("beside", [[], ["--jobs", "1"]])
def test_a_profile_that_is_edited_meanwhile_and_put_back_leaves_nothing_done_by_it(stage, tiny_profile, monkeypatch, capsys,
                                                                                   beside):
    as_it_was, fake = tiny_profile.read_text(encoding="utf-8"), notebooks.execute

    def edited(source, target, parameters):
        if "row" in parameters:
            tiny_profile.write_text(as_it_was + "per_row: {chan_vese: {lambda1: 0.7}}\n", encoding="utf-8")
        fake(source, target, parameters)

    monkeypatch.setattr(notebooks, "execute", edited)
    assert main(["--profile", str(tiny_profile), "--rows", "chan_vese", *beside]) == 1
    assert f"{tiny_profile} was changed while train-cartoons-chan_vese-seed0 was at work" in capsys.readouterr().err
    tiny_profile.write_text(as_it_was, encoding="utf-8")
    monkeypatch.setattr(notebooks, "execute", fake)
    stage.clear()
    assert main(["--profile", str(tiny_profile), "--rows", "chan_vese", "--steps", "train"]) == 0
    assert stage == ["train-cartoons-chan_vese-seed0"]


def test_what_to_type_next_can_be_pasted(stage, tiny_profile, tmp_path, capsys):
    (tmp_path / "my own").mkdir()
    profile = tiny_profile.rename(tmp_path / "my own" / "tiny.yaml")
    assert main(["--profile", str(profile), "--steps", "data train"]) == 0
    assert f"make reproduce PROFILE='{profile}'\n" in capsys.readouterr().out


@pytest.mark.parametrize("set_aside", ["named", "trained", ""])
def test_weights_are_asked_for_before_the_first_training_that_would_miss_them(places, tmp_path, monkeypatch, set_aside):
    path = tmp_path / "pretrained.yaml"
    path.write_text(TINY.replace("weights: none", "weights: imagenet"), encoding="utf-8")
    if set_aside == "named":
        monkeypatch.setenv("RESNET18_WEIGHTS", str(tmp_path / "mine.pth"))
    else:
        monkeypatch.delenv("RESNET18_WEIGHTS", raising=False)
    request = request_for(str(path), steps="data train", notebooks=False)
    if set_aside == "trained":
        tasks.plan(request)[0].action()
        for row in request.rows:
            run = runs.run_folder("pretrained", "cartoons", row, 0)
            made_by = runs.made_by(tasks.configuration_for(request.profile, "cartoons", row, 0),
                                   tasks._checksum(request.profile, "cartoons"))
            files.write_json(run / "config.json", {"made_by": made_by})
            (run / "masks.npy").touch()
            files.write_json(run / "metrics.json", {})
    asked = [task for task in tasks.plan(request) if task.name == "weights" and not stamps.is_up_to_date(task, request.folder)]
    assert len(asked) == (not set_aside)
    names = [task.name for task in tasks.plan(request)]
    assert set_aside == "named" or names.index("weights") == 1
    if set_aside == "trained":  # once done, and with other settings not any more
        path.write_text(path.read_text(encoding="utf-8").replace("epochs: 1", "epochs: 2"), encoding="utf-8")
        request = request_for(str(path), steps="data train", notebooks=False)
        again = next(task for task in tasks.plan(request) if task.name == "weights")
        assert not stamps.is_up_to_date(again, request.folder)
    assert "weights" not in [task.name for task in tasks.plan(request_for(str(path), steps="data"))]
    assert "weights" not in [task.name for task in tasks.plan(request_for(str(path), rows="chan_vese_only"))]


def test_a_second_pipeline_waits_and_names_the_first(stage, tiny_profile, places):
    (places / "results").mkdir(parents=True)
    command = [sys.executable, "-m", "bipartition.pipeline", "--profile", str(tiny_profile), "--steps", "report"]
    with open(places / "results" / ".tiny.lock", "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write("4711")
        stream.flush()
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert "process 4711 is at work" in waiting.stdout.readline()
        assert waiting.poll() is None
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and "done" in output


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission_is_one_clear_message(tiny_profile, places, capsys):
    (places / "results").mkdir(mode=0o500)
    assert main(["--profile", str(tiny_profile)]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_results_is_one_clear_message(tiny_profile, places, capsys):
    (places / "results").write_text("not a folder", encoding="utf-8")
    assert main(["--profile", str(tiny_profile)]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_results_that_may_only_be_read_are_up_to_date_where_nothing_is_to_do(stage, tiny_profile, places, capsys):
    main(["--profile", str(tiny_profile)])
    (places / "results" / ".tiny.lock").unlink()
    (places / "results" / ".tiny.lock").mkdir()  # cannot be opened: as on such a disk, for root too
    stage.clear()
    capsys.readouterr()
    assert main(["--profile", str(tiny_profile)]) == 0 and not stage
    assert "nothing to do" in capsys.readouterr().out
    (places / "results" / "tiny" / "figures" / "figure4.png").unlink()
    assert main(["--profile", str(tiny_profile)]) == 1 and not stage
    assert "cannot write to" in capsys.readouterr().err


def test_a_stamp_that_cannot_be_removed_is_named_with_the_way_out(stage, tiny_profile, places, capsys):
    main(["--profile", str(tiny_profile)])
    (places / "results" / "tiny" / "report.html").unlink()
    stamp = places / "results" / "tiny" / ".stamps" / "report.json"
    stamp.unlink()
    stamp.mkdir()
    assert main(["--profile", str(tiny_profile)]) == 1
    said = capsys.readouterr().err
    assert f"cannot remove {stamp}: " in said and "check the folder and its permissions" in said


def test_a_file_in_the_place_of_the_data_is_one_clear_message(tiny_profile, places, capsys):
    (places / "data").write_text("not a folder", encoding="utf-8")
    main(["--profile", str(tiny_profile), "--steps", "data", "--no-notebooks"])
    said = capsys.readouterr().err
    assert "Not a directory; check the folder and its permissions" in said and "BIPARTITION_DATA" in said
    with pytest.raises(OSError, match="cannot read .*prepared.json: Not a directory; check the folder .* BIPARTITION_DATA"):
        tasks._checksum(load_profile(tiny_profile), "cartoons")


def test_notebooks_in_a_folder_that_is_not_there_are_asked_for_by_the_variable(tiny_profile, places, monkeypatch, capsys):
    monkeypatch.setenv("BIPARTITION_NOTEBOOKS", "/nowhere")
    for steps in ("data", "lessons"):
        assert main(["--profile", str(tiny_profile), "--steps", steps]) == 1
        assert "BIPARTITION_NOTEBOOKS = '/nowhere': there is no such folder; correct it, or unset" in capsys.readouterr().err


@pytest.mark.slow
def test_a_call_with_nothing_to_do_is_quick_and_imports_nothing_heavy(stage, tiny_profile):
    main(["--profile", str(tiny_profile)])
    code = (
        "import sys; from bipartition.pipeline import main; main(['--profile', sys.argv[1]]); "
        "print([name for name in ('torch', 'papermill', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code, str(tiny_profile)], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-2].startswith("nothing to do")
    assert ended.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - began < 20  # 2 s on an idle machine; tests may share theirs


def notebook(*sources, parameters="number = 1"):
    """A notebook with a cell of parameters and others."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    if parameters is not None:
        cells.insert(0, nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    )


@pytest.fixture
def written(tmp_path):
    def write(*sources, **options):
        path = tmp_path / "source {x}.ipynb"
        nbformat.write(notebook(*sources, **options), path)
        return path

    return write


def test_parameters_are_read_from_their_cell(tmp_path):
    names = parameter_names(notebook(parameters='profile = "demo"  # which\nseed: int = 0\n'), tmp_path)
    assert names == ["profile", "seed"]


def test_a_mistyped_parameter_is_an_error_before_a_kernel_starts(written, tmp_path):
    with pytest.raises(NotebookError, match="no parameter 'nubmer'; its parameters are number"):
        execute(written("print(number)"), tmp_path / "copy.ipynb", {"nubmer": 2})
    assert not list(tmp_path.glob("copy*"))


def test_a_notebook_without_a_parameters_cell_is_an_error(written, tmp_path):
    with pytest.raises(NotebookError, match="0 cells tagged"):
        execute(written("print(1)", parameters=None), tmp_path / "copy.ipynb", {})


def test_without_papermill_the_way_to_train_is_said(written, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(NotebookError, match=r"needs papermill, which is not installed; `make env`.*--no-notebooks"):
        execute(written("print(1)"), tmp_path / "copy.ipynb", {})


@pytest.mark.slow
def test_a_good_notebook_runs_in_this_python_with_its_parameters_and_prints_as_it_goes(written, tmp_path, capfd):
    target = tmp_path / "folder with {braces}" / "copy.ipynb"
    source = written("import sys, bipartition\nprint(number + 1, sys.executable)\nassert 'number' in globals()",
                     "get_ipython().kernel.log.error('interrupted')")
    execute(source, target, {"number": 41})
    printed = capfd.readouterr()
    assert f"42 {sys.executable}" in printed.out and "interrupted" not in printed.err
    assert [path.name for path in target.parent.iterdir()] == ["copy.ipynb"]
    assert "42" in json.dumps(nbformat.read(target, as_version=4))


@pytest.mark.slow
def test_a_failed_notebook_is_kept_as_failed_until_it_goes_well(written, tmp_path):
    target = tmp_path / "out" / "copy.ipynb"
    with pytest.raises(NotebookError, match=r"ValueError: no such luck(.|\n)*copy.failed.ipynb"):
        execute(written("raise ValueError('no such luck')"), target, {})
    assert [path.name for path in target.parent.iterdir()] == ["copy.failed.ipynb"]
    execute(written("print(1)"), target, {})
    assert [path.name for path in target.parent.iterdir()] == ["copy.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize(("death", "cause"), [
    ("os._exit(7)", "ended itself with status 7"),
    ("os.kill(os.getpid(), 9)", "was ended by SIGKILL, as the system does for want of memory"),
    ("os.kill(os.getpid(), 11)", "was ended by SIGSEGV$")])
def test_a_dead_kernel_is_reported_soon_and_with_its_cause(written, tmp_path, death, cause):
    code = f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'died')!r}).write_text(str(time.time()))\n{death}"
    with pytest.raises(NotebookError, match=rf"(?m)lost its kernel: the process {cause}"):
        execute(written(code), tmp_path / "copy.ipynb", {})
    assert time.time() - float((tmp_path / "died").read_text()) < 30
    assert (tmp_path / "copy.failed.ipynb").is_file()


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_kernel_that_dies_while_it_starts_gets_one_more_try(written, tmp_path, monkeypatch, deaths):
    tries = []

    def start(*arguments, **options):
        tries.append(options["kernel_name"])
        if len(tries) <= deaths:
            raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr("papermill.execute_notebook", start)
    target = tmp_path / "copy.ipynb"
    with pytest.raises(NotebookError, match="could not be run: Kernel died") if deaths == 2 else contextlib.nullcontext():
        execute(written("print(1)"), target, {})
    assert len(tries) == 2 and target.exists() == (deaths == 1)


def test_a_disk_that_is_full_before_a_notebook_ends_is_told_with_the_place(written, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("papermill.execute_notebook", full)
    with pytest.raises(OSError, match=r"cannot write .*copy.partial.ipynb: No space left on device; .* BIPARTITION_RESULTS"):
        execute(written("print(1)"), tmp_path / "out" / "copy.ipynb", {})
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_training_without_notebooks_needs_neither_papermill_nor_jupyter(trained):
    path, environment = trained
    code = (
        "import sys\nfor name in ('papermill', 'nbclient', 'jupyter_client', 'nbformat'): sys.modules[name] = None\n"
        "from bipartition.pipeline import main\n"
        "sys.exit(main(['--profile', sys.argv[1], '--no-notebooks', '--rows', 'chan_vese']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0 and "nothing to do" in ended.stdout, ended.stderr


def test_the_shipped_steps_find_their_notebooks():
    load_profile("demo")
    for kind in tasks.NOTEBOOKS:
        assert tasks._notebook(kind).is_file()


def test_a_training_that_waits_for_the_warm_up_begins_after_those_that_need_none(tiny_profile):
    tiny_profile.write_text(TINY.replace("rows: [chan_vese, mumford_shah]", "rows: [casm, chan_vese, chan_vese_only]"),
                            encoding="utf-8")

    def planned(**asked):
        own = tasks.plan(request_for(str(tiny_profile), steps="train", **asked))
        return [re.sub(r"train-cartoons-(\w+)-seed(\d+)", r"\1 \2", task.name) for task in own if task.stage == "train"]

    assert planned() == ["casm 0", "chan_vese_only 0", "chan_vese 0"]
    assert planned(seeds="3 1") == ["casm 3", "chan_vese_only 3", "casm 1", "chan_vese 3", "chan_vese_only 1", "chan_vese 1"]
    assert planned(rows="chan_vese_only", seeds="0 1") == ["chan_vese_only 0", "chan_vese_only 1"]
    assert planned(rows="chan_vese casm", seeds="0 1") == ["casm 0", "casm 1", "chan_vese 0", "chan_vese 1"]


@pytest.fixture
def beside(places, tmp_path, monkeypatch):
    """Starts a pipeline whose notebook for training is the code that is given; it says in `places` which rows have begun."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("BIPARTITION_NOTEBOOKS", str(folder))
    profile = tmp_path / "tiny.yaml"
    profile.write_text(TINY.replace("rows: [chan_vese, mumford_shah]", "rows: [casm, chan_vese, mumford_shah]"),
                       encoding="utf-8")

    def write(name, code):
        nbformat.write(notebook(code, parameters="profile = dataset = row = ''\nseed = 0"), folder / f"{name}.ipynb")

    write("01_prepare_data", "from bipartition.profiles import load_profile\nload_profile(profile).prepared(dataset)")

    def run(code):
        write("02_train_row", f"import os, pathlib, time\nfrom bipartition import files, runs\n"
                              f"place = pathlib.Path({str(tmp_path)!r})\n(place / row).touch()\n{code}\n"
                              "run = runs.run_folder('tiny', dataset, row, seed)\n"
                              "files.write_json(run / 'metrics.json', {'threads': os.environ['OMP_NUM_THREADS']})\n"
                              "(run / 'masks.npy').touch()")
        command = [sys.executable, "-m", "bipartition.pipeline", "--profile", str(profile), "--steps", "data train",
                   "--jobs", "2"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "5"},
                                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)))
        return started[-1]

    started = []
    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


MEET = ("until = time.monotonic() + 120\n"
        "while len([name for name in ('casm', 'chan_vese', 'mumford_shah') if (place / name).exists()]) < 2:\n"
        "    assert time.monotonic() < until, 'nobody came'\n    time.sleep(0.05)\n")


@pytest.mark.slow
def test_two_notebooks_of_a_stage_are_executed_at_a_time_each_with_its_share_of_the_threads(beside, places):
    started = beside(MEET)
    said, complaint = started.communicate(timeout=300)
    assert started.returncode == 0, complaint
    found = [files.read_json(path)["threads"] for path in (places / "results").rglob("metrics.json")]
    assert found == ["2", "2", "2"]  # of five
    assert said.index("[3/4] train-cartoons-chan_vese-seed0 ...") < said.index("[2/4] train-cartoons-casm-seed0: done")
    assert len(list((places / "results" / "tiny" / "notebooks").glob("train-*seed0.ipynb"))) == 3


@pytest.mark.slow
def test_a_notebook_that_fails_lets_its_neighbour_end_and_no_other_begin(beside, places):
    started = beside(MEET + "if row == 'casm': raise ValueError('no such luck' + 100_000 * '!')\n"  # longer than a pipe
                     "while not list(place.rglob('*casm-seed0.failed.ipynb')):\n"
                     "    assert time.monotonic() < until, 'it did not fail'\n    time.sleep(0.05)\n")
    said, complaint = started.communicate(timeout=300)
    assert started.returncode == 1 and "ValueError: no such luck!" in complaint
    # none but those that a kernel may print of itself when it is told to end
    assert not re.findall(r"Traceback.*\n(?!.*/(?:zmq|ipykernel)/)", complaint)
    assert "train-cartoons-casm-seed0 failed: 02_train_row.ipynb failed in cell 3: ValueError: no such luck!" in said
    assert "waiting for train-cartoons-chan_vese-seed0" in said
    assert "train-cartoons-chan_vese-seed0: done" in said and "mumford_shah" not in said


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    (tmp_path / "no.ipynb").write_text("no JSON", encoding="utf-8")
    with pytest.raises(NotebookError, match=r"no.ipynb is no notebook: Notebook does not appear to be JSON"):
        execute(tmp_path / "no.ipynb", tmp_path / "copy.ipynb", {})


@pytest.mark.parametrize(("card", "device", "threads", "number"), [
    (False, "", "8", 2), (False, "", "1", 1), (True, "", "8", 1), (True, "cpu", "8", 2)])
def test_two_notebooks_at_a_time_on_a_cpu_and_one_on_a_gpu(monkeypatch, card, device, threads, number):
    monkeypatch.setattr(machine, "DRIVERS", [Path(sys.executable if card else "no driver")])
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", device)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert machine.at_a_time() == number and machine.threads() == int(threads)
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert machine.threads() == machine.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    assert machine.threads() == os.cpu_count()


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "to_all"), [("SIGINT", True), ("SIGINT", False), ("SIGKILL", False)])
def test_no_notebook_of_several_goes_on_without_the_pipeline(beside, torture, places, signals, to_all):
    started = beside("time.sleep(600)")
    until = time.monotonic() + 120
    while not ((places / "casm").exists() and (places / "chan_vese").exists()):
        assert time.monotonic() < until, "two notebooks did not begin"
        time.sleep(0.1)
    assert len([line for line in torture.working_for(places / "results") if "ipykernel" in line]) == 2
    (os.killpg if to_all else os.kill)(started.pid, getattr(signal, signals))
    _, complaint = started.communicate(timeout=60)
    if signals == "SIGINT":
        assert started.returncode == 130 and "the same command goes on from here" in complaint, complaint
        assert "Traceback" not in complaint
    until = time.monotonic() + 30
    while (left := torture.working_for(places / "results")) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left


@pytest.mark.slow
def test_ctrl_c_leaves_no_kernel_and_a_state_to_go_on_from(places, torture, tmp_path):
    """As a terminal does it: the signal goes to the pipeline and to the kernel that it started."""
    content = yaml.safe_load(TINY)
    content["training"] |= {"epochs": 40}
    profile = tmp_path / "long.yaml"
    profile.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = [sys.executable, "-m", "bipartition.pipeline", "--profile", str(profile), "--rows", "chan_vese", "--steps",
               "data,train"]
    # whoever runs the tests in the background has made all below deaf to the signal
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    for line in started.stdout:
        if "chan_vese/seed0  epoch 1/40" in line:
            break
    os.killpg(started.pid, signal.SIGINT)
    _, complaint = started.communicate(timeout=60)
    assert started.returncode == 130 and "the same command goes on from here" in complaint
    until = time.monotonic() + 15
    while (left := torture.working_for(Path(os.environ["BIPARTITION_RESULTS"]))) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left
    folder = runs.run_folder("long", "cartoons", "chan_vese", 0)
    assert (folder / "checkpoint.pt").is_file() and not (folder / "metrics.json").exists()
