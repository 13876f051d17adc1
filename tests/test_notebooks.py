"""The notebooks: clean as they are committed, and each runs to its end on a tiny profile."""

import ast
import base64
import importlib
import io
import os
import re
import subprocess
import sys
import time

import matplotlib
import nbformat
import numpy as np
import pytest
from PIL import Image

from bipartition import files, runs
from bipartition.datasets.photographs import read_photograph
from bipartition.finished import predicted_masks
from bipartition.notebooks import execute, parameter_names
from bipartition.profiles import profile_names
from bipartition.rows import ROWS

NAMES = ["00_start_here", "01_prepare_data", "02_train_row", "03_figure4", "04_figure5", "05_figure6", "06_table1",
         "07_ambiguities", "08_pets"]
LESSONS = ["10_two_regions", "11_smooth_regions", "12_what_a_classifier_adds", "13_the_networks",
           "14_reading_the_results", "15_your_own_photographs", "16_what_is_trained_here"]
"""Notebooks to learn from: they run as they are, and what their marked cells answer is stored and checked."""
CELL_METADATA = {"tags", "jupyter"}
NOTEBOOK_METADATA = {"kernelspec", "language_info"}
LONGEST = 30
LONGEST_IN_A_LESSON = 12
"""Lines of code of a cell, blank ones and cells of imports not counted."""


@pytest.fixture(params=[*NAMES, *LESSONS])
def name(request):
    return request.param


@pytest.fixture
def notebook(root, name):
    return nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)


def test_the_folder_holds_these_notebooks_and_perhaps_more(root):
    assert {*NAMES, *LESSONS} <= {path.stem for path in (root / "notebooks").glob("*.ipynb")}


def test_it_is_committed_without_traces_of_a_run_and_with_no_outputs_but_those_that_are_checked(notebook, name):
    nbformat.validate(notebook)
    assert set(notebook.metadata) <= NOTEBOOK_METADATA
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python"}
    assert all(set(cell.metadata) <= CELL_METADATA for cell in notebook.cells)
    for place, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        if name in LESSONS and "NBVAL_CHECK_OUTPUT" in cell.source:  # nbval compares with cells that were counted only
            assert cell.outputs and cell.execution_count == place
            assert all(output.get("name") == "stdout" for output in cell.outputs)
        else:
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_three_answers_that_are_checked_and_three_exercises(notebook):
    assert sum("NBVAL_CHECK_OUTPUT" in cell.source for cell in notebook.cells) >= 3
    exercises = notebook.cells[-1].source
    assert "## Exercises" in exercises and exercises.count("<details><summary>") == exercises.count("</details>") == 3


def test_its_cells_have_stable_names_and_are_short(notebook, name):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(one.startswith(f"nb{name[:2]}-") for one in ids)
    assert all(len(cell.source.splitlines()) <= LONGEST for cell in notebook.cells)


@pytest.mark.parametrize("name", LESSONS)
def test_the_imports_of_a_lesson_are_a_cell_of_their_own_tagged_and_folded(notebook):
    folded = [cell for cell in notebook.cells if cell.metadata.get("jupyter") == {"source_hidden": True}]
    assert [cell.metadata.tags for cell in folded] == [["imports"]]
    code = ast.parse(folded[0].source.removeprefix("%matplotlib inline"))
    assert all(isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) for node in code.body)


@pytest.mark.parametrize("name", LESSONS)
def test_the_cells_of_a_lesson_have_a_dozen_lines_at_most(notebook):
    for cell in notebook.cells:
        code = [line for line in cell.source.splitlines() if line.strip()] if cell.cell_type == "code" else []
        assert len(code) <= LONGEST_IN_A_LESSON or any(line.startswith("import ") for line in code), cell.id


def test_each_equation_of_the_paper_has_its_place_in_the_code(root):
    start = nbformat.read(root / "notebooks" / "00_start_here.ipynb", as_version=4)
    table = next(cell.source for cell in start.cells if cell.source.startswith("## The equations"))
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| (")]
    assert sorted(int(number) for line in lines for number in re.findall(r"\((\d+)\)", line[0])) == list(range(1, 24))
    named = re.findall(r"`(\w+)\.(\w+)`", table)
    assert len(named) >= 20
    for module, function in named:
        assert hasattr(importlib.import_module(f"bipartition.{module}"), function), f"{module}.{function}"


@pytest.mark.parametrize("name", LESSONS)
def test_what_a_formula_of_a_lesson_names_is_a_function_that_the_lesson_calls(notebook):
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for formula in re.findall(r"\$\$.+?\$\$", prose, re.DOTALL):
        for function in re.findall(r"\\texttt\{([\w\\]+)\}", formula):
            assert re.search(rf"\b{function.replace(chr(92), '')}\(", code), function


def test_it_opens_with_prose_and_has_one_cell_of_parameters(notebook, root, name):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert ("profile" in parameter_names(notebook, root)) or name in LESSONS


@pytest.mark.parametrize("name", NAMES)
def test_its_default_parameters_exist(notebook):
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
    assert values["profile"] in profile_names()
    assert values.get("row", "casm") in ROWS


def test_it_does_not_depend_on_its_working_directory(notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for word in ("os.chdir", "sys.path", "../", "os.getcwd", "%cd"):
        assert word not in code


@pytest.fixture(scope="session")
def executed(trained, in_common):
    """Folder of the copies executed on the tiny runs, with the environment that they ran in."""
    return in_common / "executed", *trained


def executed_on_tiny_runs(name, executed, root, monkeypatch):
    """Path of the executed copy, which is made by the test, of whatever process, that first asks for it."""
    folder, profile, environment = executed
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    copy = folder / f"{name}.ipynb"
    with files.alone(copy):
        if not copy.exists():
            execute(root / "notebooks" / copy.name, copy, {"profile": str(profile)})
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_to_its_end_on_tiny_parameters(name, executed, root, monkeypatch):
    copy = nbformat.read(executed_on_tiny_runs(name, executed, root, monkeypatch), as_version=4)
    assert all(cell.execution_count for cell in copy.cells if cell.cell_type == "code")
    pictures = sum("image/png" in output.get("data", {}) for cell in copy.cells for output in cell.get("outputs", ()))
    assert pictures == {"01": 2, "02": 3, "03": 1, "04": 1, "05": 3, "06": 2, "07": 4}.get(name[:2], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_gives_the_answers_that_are_stored(name, root, tmp_path):
    copy = tmp_path / f"{name}.ipynb"
    copy.write_bytes((root / "notebooks" / f"{name}.ipynb").read_bytes())
    began = time.monotonic()
    checked = nbval(copy)
    assert checked.returncode == 0, checked.stdout[-5000:] + checked.stderr[-2000:]
    assert time.monotonic() - began < 120  # some 15 s on an idle machine


@pytest.mark.slow
def test_the_grid_that_is_there_without_a_kernel_is_what_the_cell_above_draws(root):
    locked = re.search(r"^matplotlib==(\d+\.\d+)", (root / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)[1]
    if not matplotlib.__version__.startswith(f"{locked}."):
        pytest.skip(f"matplotlib {matplotlib.__version__}, not the lock's {locked}, places panels elsewhere")
    notebook = nbformat.read(root / "notebooks" / "10_two_regions.ipynb", as_version=4)
    place, stored = next((place, cell.attachments["lambdas.png"]["image/png"]) for place, cell in enumerate(notebook.cells)
                         if "attachments" in cell)
    code = [cell.source.removeprefix("%matplotlib inline") for cell in notebook.cells[:place] if cell.cell_type == "code"]
    code[-1] = code[-1].replace("film_strip(grid", "figure = film_strip(grid")
    names, drawn = {}, io.BytesIO()
    exec("\n".join(code), names)
    names["figure"].savefig(drawn, dpi=80, format="png")
    pictures = [np.asarray(Image.open(one).convert("L"), dtype=float) for one in (io.BytesIO(base64.b64decode(stored)), drawn)]
    assert pictures[0].shape == pictures[1].shape and abs(pictures[0] - pictures[1]).mean() < 3


@pytest.mark.slow
def test_photographs_of_a_folder_are_cut_by_a_finished_run(trained, root, tmp_path, monkeypatch, capsys):
    profile, environment = trained
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "mine").mkdir()
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        Image.new("RGB", (40, 30), (200, 40, 40)).save(tmp_path / "mine" / name, format="PNG")
    execute(root / "notebooks" / "15_your_own_photographs.ipynb", tmp_path / "copy.ipynb",
            {"folder": str(tmp_path / "mine"), "profile": str(profile), "dataset": "cartoons",
             "save_to": str(tmp_path / "cut")})
    said = capsys.readouterr().out
    assert "your pictures: a.jpg, b.PNG" in said and "cut by the energy" not in said
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["a.jpg.mask.png", "b.PNG.mask.png"]
    run = runs.run_folder(profile.stem, "cartoons", "chan_vese", 0)
    photographs = [read_photograph(tmp_path / "mine" / name, 32)[0] for name in ("a.jpg", "b.PNG")]
    masks, _ = predicted_masks(run, np.stack([np.moveaxis(one, -1, 0) for one in photographs]))
    kept = [np.asarray(Image.open(tmp_path / "cut" / f"{name}.mask.png")) for name in ("a.jpg", "b.PNG")]
    assert np.abs(np.stack(kept).astype(int) - masks).max() <= 1


@pytest.mark.slow
def test_without_a_folder_cartoons_are_cut_and_measured(trained, root, tmp_path, monkeypatch, capsys):
    profile, environment = trained
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    execute(root / "notebooks" / "15_your_own_photographs.ipynb", tmp_path / "copy.ipynb",
            {"profile": str(profile), "dataset": "cartoons"})
    said = capsys.readouterr().out
    assert "default pictures: dog 1" in said and len(re.findall(r"IoU \d\.\d\d", said)) == 6


@pytest.mark.slow
def test_photographs_that_are_uploaded_are_cut(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BIPARTITION_RESULTS", str(tmp_path))
    notebook = nbformat.read(root / "notebooks" / "15_your_own_photographs.ipynb", as_version=4)
    place = next(place for place, cell in enumerate(notebook.cells) if "FileUpload(" in cell.source)
    photograph = io.BytesIO()
    Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 30).save(photograph, format="JPEG")
    chosen = {"name": "beach.jpg", "type": "image/jpeg", "size": 1, "content": photograph.getvalue()}
    code = f"import datetime\nupload.value = [{chosen} | {{'last_modified': datetime.datetime.now()}}]"
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(code))
    nbformat.write(notebook, tmp_path / "uploaded.ipynb")
    execute(tmp_path / "uploaded.ipynb", tmp_path / "copy.ipynb", {})
    assert "your pictures: beach.jpg\n1 of them" in capsys.readouterr().out


@pytest.mark.slow
def test_an_answer_that_differs_from_the_stored_one_is_noticed(root, tmp_path):
    notebook = nbformat.read(root / "notebooks" / "10_two_regions.ipynb", as_version=4)
    place, printed = next((place, output) for place, cell in enumerate(notebook.cells) for output in cell.get("outputs", ())
                          if output.get("name") == "stdout")
    printed.text = printed.text.replace("1", "7")
    del notebook.cells[place + 1:]
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    assert "1 failed" in nbval(tmp_path / "wrong.ipynb").stdout


@pytest.mark.slow
def test_running_them_again_gives_the_same_tables(executed, root, monkeypatch):
    copies = [executed_on_tiny_runs(name, executed, root, monkeypatch) for name in NAMES]
    ended = nbval(*copies, environment=executed[-1])
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]


def nbval(*copies, environment=None):
    """What `pytest --nbval-lax` says of notebooks that lie in one folder."""
    folder = copies[0].parent
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, *options, *copies]
    return subprocess.run([*map(str, command)], env=os.environ | (environment or {}), capture_output=True, text=True,
                          check=False, cwd=folder)
