"""The lessons and 07, to be read without running them: what is published is what the notebooks say today, with pictures.

``make lessons``, then ``python tests/test_published_lessons.py results/demo/notebooks``, writes them anew.
"""

import sys
from pathlib import Path

import nbformat
import pytest

from conftest import ROOT
from test_notebooks import CELL_METADATA, LESSONS, NOTEBOOK_METADATA

PUBLISHED = ROOT / "results" / "published" / "lessons"
NAMES = ["07_ambiguities", *LESSONS]


def read(path):
    return nbformat.read(path, as_version=4)


def said(notebook):
    """What a notebook says, its outputs and their order left out."""
    return [(cell.id, cell.cell_type, cell.source) for cell in notebook.cells]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_the_notebook_says(name, root):
    assert said(read(PUBLISHED / f"{name}.ipynb")) == said(read(root / "notebooks" / f"{name}.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_it_was_run_to_its_end_and_has_the_answers_and_pictures_of_that(name, root):
    notebook = read(PUBLISHED / f"{name}.ipynb")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    stored = {cell.id: printed(cell) for cell in read(root / "notebooks" / f"{name}.ipynb").cells if cell.get("outputs")}
    assert stored == {cell.id: printed(cell) for cell in code if cell.id in stored}


@pytest.mark.parametrize("name", NAMES)
def test_it_knows_nothing_of_the_machine_that_ran_it(name):
    notebook = read(PUBLISHED / f"{name}.ipynb")
    assert set(notebook.metadata) == NOTEBOOK_METADATA
    assert all(set(cell.metadata) <= CELL_METADATA for cell in notebook.cells)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert str(Path.home()) not in str(output) and "/tmp/" not in str(output)


def publish(executed):
    """The notebooks as they are now, with the outputs of executed copies that have the same code."""
    PUBLISHED.mkdir(exist_ok=True)
    for name in NAMES:
        notebook, copy = read(ROOT / "notebooks" / f"{name}.ipynb"), read(Path(executed) / f"{name}.ipynb")
        done = {cell.id: cell for cell in copy.cells if cell.cell_type == "code"}
        for cell in notebook.cells:
            if cell.cell_type == "code":
                if done[cell.id].source != cell.source:
                    raise ValueError(f"{name}, cell {cell.id}: its code has changed since {executed} was executed")
                cell.outputs, cell.execution_count = done[cell.id].outputs, done[cell.id].execution_count
        nbformat.write(notebook, PUBLISHED / f"{name}.ipynb")


if __name__ == "__main__":
    publish(sys.argv[1])
