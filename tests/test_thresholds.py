"""`benchmarks/thresholds.py`: at one half it says what the tables say, and a ramp is cut where it should be."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bipartition.files import read_json
from conftest import benchmark


@pytest.fixture(scope="module")
def thresholds(root):
    with benchmark(root, "thresholds") as module:
        yield module


def test_a_ramp_is_cut_where_its_threshold_is(thresholds):
    ramp = np.tile(np.round(255 * np.linspace(0.05, 0.95, 10)).astype(np.uint8), (10, 1))[None]
    objects, void = ramp >= 128, np.zeros_like(ramp, bool)
    found = thresholds.ious_at_cuts(ramp, objects, void)[:, 0]
    above = [10 - tenths for tenths in range(1, 10)]  # columns of ten that are foreground
    assert found == pytest.approx([min(columns, 5) / max(columns, 5) for columns in above])


def test_the_best_cut_is_each_rows_own_and_differences_are_paired(thresholds):
    one, other = np.full((9, 4), 0.3), np.full((9, 4), 0.2)
    one[6], other[1] = 0.8, 0.6  # at 0.7, and at 0.2
    classes = np.array(["dog", "dog", "cat", "cat"])
    lines = thresholds.report({"casm": {0: other, 1: other}, "chan_vese": {0: one}}, classes).splitlines()
    assert lines[2].startswith("| CASM (baseline) | 2 | 0.20 | 0.60 |") and lines[2].endswith("| 0.2 | 0.60 [0.60, 0.60] |")
    assert lines[3].endswith("| 0.7 | 0.80 [0.80, 0.80] |")
    assert lines[-1] == ("| Chan-Vese + classification minus CASM (baseline) | 1 | +0.100 [+0.100, +0.100] | "
                         "+0.200 [+0.200, +0.200] |")


@pytest.mark.slow
def test_at_one_half_it_has_the_numbers_of_the_runs(thresholds, trained, root, tmp_path):
    path, environment = trained
    command = [sys.executable, root / "benchmarks" / "thresholds.py", "--profile", path]
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in ended.stdout.splitlines() if "Chan-Vese" in line]
    metrics = read_json(Path(environment["BIPARTITION_RESULTS"]) / "tiny/runs/cartoons/chan_vese/seed0/metrics.json")
    assert float(table[0][2 + thresholds.CUTS.index(0.5)]) == pytest.approx(metrics["mean_iou"], abs=0.005)
    without = subprocess.run(command, env=os.environ | environment | {"BIPARTITION_RESULTS": str(tmp_path)},
                             capture_output=True, text=True, check=False)
    assert without.returncode == 1 and "has no finished run on cartoons; make some with: make train" in without.stderr
