"""How a process begins and ends, and that `benchmarks/start.py` times what it says."""

import runpy
import subprocess
import sys


def test_a_process_that_ends_is_not_searched_for_cycles():
    code = "import atexit, gc, bipartition; atexit._run_exitfuncs(); print(gc.get_freeze_count(), len(gc.get_objects()))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    left_out, searched = map(int, ended.stdout.split())
    assert left_out > 1000 > searched


def test_nobody_waits_for_torchvision_and_the_compiler_that_it_brings_before_there_is_a_classifier():
    code = """import sys; from bipartition import lessons, networks, tables, training
print({'torchvision', 'torch._dynamo'} & set(sys.modules))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_the_lesson_that_is_timed_ends_with_its_first_cell_after_the_imports(root):
    lesson = runpy.run_path(str(root / "benchmarks" / "start.py"))["_lesson"]()
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    assert [cell.metadata.get("tags") for cell in code] == [["parameters"], ["imports"], None]
    assert lesson.cells[-1] is code[-1] and code[-1].source.startswith("image = photograph(")
