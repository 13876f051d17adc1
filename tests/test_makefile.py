"""make: the contract's commands, clear errors, and folders whose names hold spaces."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bipartition import files
from bipartition.datasets.download import VARIABLES
from bipartition.pipeline import PLACES


@pytest.fixture
def project(root, tmp_path):
    """A copy of the checkout in a folder with a space and an umlaut, with an environment that looks ready."""
    folder = tmp_path / "mit einem Lückchen"
    shutil.copytree(root / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("notebooks", "profiles"):
        shutil.copytree(root / name, folder / name)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(root / name, folder / name)
    scripts = folder / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "python").write_text(
        f'#!/bin/sh\nPYTHONPATH="{folder}/lib" exec "{sys.executable}" "$@"\n', encoding="utf-8"
    )
    (scripts / "python").chmod(0o755)
    (folder / ".venv" / ".ready").touch()
    return folder


def make(folder, *arguments, **environment):
    kept = {
        key: value
        for key, value in os.environ.items()
        if key
        not in (
            "MAKEFLAGS",
            "MAKELEVEL",
            "MFLAGS",
            "PROFILE",
            "SEEDS",
            "ROWS",
            "DATASETS",
            "JOBS",
            "BIPARTITION_RESULTS",
            "BIPARTITION_DATA",
            "BIPARTITION_NOTEBOOKS",
        )
    }
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=kept | environment, capture_output=True, text=True, check=False
    )


def test_help_is_the_default_quick_and_lists_targets_and_variables(root):
    began = time.monotonic()
    ended = make(root)
    assert time.monotonic() - began < 2  # 0.1 s on an idle machine
    assert ended.returncode == 0
    for word in (
        "help",
        "env",
        "data",
        "reproduce",
        "train",
        "figures",
        "table",
        "pets",
        "report",
        "test",
        "bench",
        "lab",
        "lock",
        "clean",
        "PROFILE",
        "SEEDS",
        "ROWS",
        "DATASETS",
        "JOBS",
        "PYTHON",
        "VOC_ROOT",
        "OXFORD_PETS_ROOT",
        "make reproduce PROFILE=smoke",
    ):
        assert word in ended.stdout
    assert ended.stdout == make(root, "help").stdout


def test_a_mistyped_variable_is_refused_with_the_right_ones(root):
    ended = make(root, "reproduce", "PROFIL=smoke")
    assert ended.returncode != 0
    assert "PROFIL" in ended.stderr and "PROFILE SEEDS ROWS DATASETS JOBS" in ended.stderr


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("PROFILE=dmeo", ["'dmeo'", "demo, laptop, paper, smoke"]),
        ("ROWS=chanvese", ["'chanvese'", "chan_vese"]),
        ("SEEDS=x", ["'x'", "SEEDS="]),
        ("DATASETS=voc", ["'voc'", "cartoons"]),
        ("JOBS=all", ["'all'", "JOBS=2"]),
    ],
)
def test_a_mistyped_value_is_refused_with_the_right_ones(project, argument, words):
    ended = make(project, "reproduce", argument)
    assert ended.returncode != 0
    assert all(word in ended.stderr for word in words)
    assert not (project / "results").exists()


@pytest.mark.parametrize("variable", ["PROFILE", "ROWS", "SEEDS", "DATASETS", "JOBS", "PYTHON"])
@pytest.mark.parametrize("value", ["$$(touch ran)", 'x"; touch "ran', "x'; touch 'ran"])
def test_no_value_is_taken_for_a_command(project, variable, value):
    target = {"PROFILE": "clean", "PYTHON": "env"}.get(variable, "reproduce")
    if target == "env":
        shutil.rmtree(project / ".venv")
    ended = make(project, target, f"{variable}={value}")
    assert ended.returncode != 0 and not list(project.glob("**/ran"))
    assert value.replace("$$", "$").split()[0] in ended.stderr


def test_lab_listens_to_this_machine_only_and_makes_relative_places_absolute(project):
    (project / ".venv" / "bin" / "python").write_text(
        '#!/bin/sh\nprintenv BIPARTITION_RESULTS\nprintenv VOC_ROOT\nprintenv RESNET18_WEIGHTS\necho "$@"\n', encoding="utf-8")
    ended = make(project, "lab", "BIPARTITION_RESULTS=my results", "VOC_ROOT=/else/where", "RESNET18_WEIGHTS=~/w.pth")
    assert ended.stdout.splitlines() == [f"{project}/my results", "/else/where", "~/w.pth",
                                         "-m jupyterlab --ServerApp.ip=127.0.0.1 notebooks/00_start_here.ipynb"], ended.stderr


def test_make_and_the_pipeline_know_the_same_places(root):
    """A data set's variable stands in `download.VARIABLES`, and by hand in the Makefile: in its list and in what help says."""
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    listed = makefile.split("\nplaces := ")[1].split("\n")[0].split()
    assert listed == list(PLACES) and set(VARIABLES.values()) < set(PLACES)
    assert all(name in make(root).stdout for name in PLACES)


@pytest.mark.slow
def test_data_is_prepared_in_a_folder_with_a_space_and_only_once(project):
    ended = make(project, "data", "PROFILE=smoke")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (project / "results" / "smoke" / "notebooks" / "prepare-cartoons.ipynb").is_file()
    assert list((project / "data" / "prepared").glob("cartoons-32-*/prepared.json"))
    assert "nothing to do" in make(project, "data", "PROFILE=smoke").stdout


def test_clean_removes_the_results_of_one_profile_and_nothing_else(project):
    for name in ("results/smoke", "results/mine", "results/demo", "results/published", "data/raw"):
        (project / name).mkdir(parents=True)
    assert make(project, "clean", "PROFILE=smoke").returncode == 0
    assert make(project, "clean", "PROFILE=somewhere/mine.yaml").returncode == 0
    assert make(project, "clean", "PROFILE=some where/mine.yaml").stdout == "there is no results/mine\n"
    for name in ("", "published", "trials", "..", "a b", "/tmp", "a/demo"):
        assert make(project, "clean", f"PROFILE={name}").returncode != 0
    left = sorted(str(path.relative_to(project)) for path in (*project.glob("results/[!.]*"), *project.glob("data/*")))
    assert left == ["data/raw", "results/demo", "results/published"]


def test_clean_leaves_what_a_make_is_at_work_on(project):
    (project / "results" / "smoke").mkdir(parents=True)
    with files.alone(project / "results" / "smoke"):
        refused = make(project, "clean", "PROFILE=smoke")
    assert refused.returncode != 0 and "cannot remove results/smoke: a make is at work on it" in refused.stderr
    assert (project / "results" / "smoke").is_dir()


@pytest.mark.slow(seconds=25)
def test_targets_that_are_asked_for_at_once_are_made_one_after_another(trained, root, tmp_path):
    profile, environment = trained
    shutil.copytree(environment["BIPARTITION_RESULTS"], tmp_path / "results")
    environment = environment | {"BIPARTITION_RESULTS": str(tmp_path / "results")}
    ended = make(root, "-j4", "train", "table", "report", f"PROFILE={profile}", "ROWS=chan_vese", **environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = tmp_path / "results" / "tiny"
    assert (folder / "table1.md").is_file() and (folder / "report.html").is_file()
    assert "waiting for it to end" not in ended.stdout


def test_who_kills_make_alone_ends_the_pipeline_too(project):
    """A shell between the two would end by the signal and leave the pipeline running."""
    noted = project / "number"
    python = project / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho $$ > '{noted}'\nexec sleep 60\n", encoding="utf-8")
    with subprocess.Popen(["make", "train"], cwd=project, stderr=subprocess.DEVNULL) as running:
        assert in_time(lambda: noted.is_file() and noted.read_text(encoding="utf-8").strip())
        running.terminate()
    assert in_time(lambda: not Path("/proc", noted.read_text(encoding="utf-8").strip(), "exe").exists())


def in_time(holds, seconds=20):
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def test_a_python_that_does_not_exist_is_named(project):
    shutil.rmtree(project / ".venv")
    ended = make(project, "env", "PYTHON=python2.99")
    assert ended.returncode != 0
    assert "PYTHON=python2.99" in ended.stderr and "3.11.4 to 3.13" in ended.stderr
    assert not (project / ".venv" / ".ready").exists()


def test_the_ci_script_is_executable_and_strict(root):
    path = root / ".ci" / "run"
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
