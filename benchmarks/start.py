"""How long is waited before any work is done, and after it?  Prints Markdown.

    python benchmarks/start.py [--rounds 5]

The limit is a process that imports PyTorch and ends: nothing here that trains can be quicker.  A process that imports the
training is timed as it is, and searched for cycles at its end as Python does unless told otherwise (`bipartition/__init__.py`).
The notebooks are executed as the pipeline does it: of the first lesson its imports and first cell of code, kernel
and all.  Smoke is run once, from nothing but the environment; ``make reproduce`` again after it has nothing to do.  All else is
timed in turn; only ratios mean something on a machine that does other things.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
LIMIT = "a process that imports PyTorch"
LESSON = "10_two_regions"
IMPORTS = "import bipartition.training"


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        places = {"BIPARTITION_RESULTS": str(folder / "results"), "BIPARTITION_DATA": str(folder / "data")}
        smoke = ["make", "reproduce", "PROFILE=smoke"]
        once = _seconds(smoke, **places)
        notebooks = {"nothing": _of_one_cell(""), "training": _of_one_cell(IMPORTS), "lesson": _lesson()}
        for name, notebook in notebooks.items():
            nbformat.write(notebook, folder / f"{name}.ipynb")
        timed: dict[str, Callable[[], float]] = {
            "`make help`": lambda: _seconds(["make", "help"]),
            "`make reproduce PROFILE=smoke` once more": lambda: _seconds(smoke, **places),
            LIMIT: lambda: _python("import torch"),
            "one that imports the training": lambda: _python(IMPORTS),
            "the same, searched for cycles at its end": lambda: _python(
                f"{IMPORTS}, atexit, gc; atexit.unregister(gc.freeze)"),
            "a notebook that does nothing": lambda: _executed(folder / "nothing.ipynb"),
            "one that imports the training, executed": lambda: _executed(folder / "training.ipynb"),
            f"imports and first cell of {LESSON}, executed": lambda: _executed(folder / "lesson.ipynb"),
        }
        turns = [{what: measure() for what, measure in timed.items()} for _ in range(rounds)]
    print(f"{rounds} rounds, median [smallest, largest]; `make reproduce PROFILE=smoke` from nothing: {once:.0f} s\n")
    print("| | s | times the limit |\n| :-- | --: | --: |")
    for what in timed:
        seconds, ratios = [turn[what] for turn in turns], [turn[what] / turn[LIMIT] for turn in turns]
        print(f"| {what} | {_spread(seconds)} | {_spread(ratios)} |")


def _spread(numbers: list[float]) -> str:
    return f"{statistics.median(numbers):.2f} [{min(numbers):.2f}, {max(numbers):.2f}]"


def _seconds(command: list[str], **environment: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _python(code: str) -> float:
    return _seconds([sys.executable, "-c", code])


def _executed(notebook: Path) -> float:
    """All that one notebook costs, if it is the only one."""
    code = ("import sys; from pathlib import Path; from bipartition.notebooks import execute; "
            "execute(Path(sys.argv[1]), Path(sys.argv[1]).with_suffix('.copy.ipynb'), {})")
    return _seconds([sys.executable, "-c", code, str(notebook)])


def _lesson() -> nbformat.NotebookNode:
    """The lesson up to its first cell of code after the parameters and the imports."""
    lesson = nbformat.read(ROOT / "notebooks" / f"{LESSON}.ipynb", as_version=4)
    first = next(place for place, cell in enumerate(lesson.cells) if cell.cell_type == "code" and not cell.metadata.get("tags"))
    del lesson.cells[first + 1:]
    return lesson


def _of_one_cell(code: str) -> nbformat.NotebookNode:
    """A notebook of one cell, which takes no parameters."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, metadata={"tags": ["parameters"]})])


if __name__ == "__main__":
    main()
