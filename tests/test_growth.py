"""What `benchmarks/growth.py --operations` counts: PyTorch's own counter and a pencil say the same."""

import math
import os
import re
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bipartition.convolutions import StemConvolution
from bipartition.devices import accelerator_for_this_machine
from bipartition.learners import build_learner
from bipartition.networks import Classifier
from bipartition.profiles import configuration_for, load_profile
from conftest import benchmark, on_glibc

CLASSES = 20
FLOAT32 = 4


def operations(root, profile):
    """The printed numbers of each row of a profile, and the line below the table."""
    command = [sys.executable, root / "benchmarks" / "growth.py", "--operations", profile]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": root / "lib"})
    *table, _, last = ended.stdout.splitlines()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    return {line[0]: [float(number) for number in line[1:]] for line in lines}, last


def by_pytorch(profile, row):
    """10⁹ operations a picture of one step, by PyTorch's own counter."""
    configuration = configuration_for(profile, "cartoons", row, 0)
    learner = build_learner(configuration, Classifier(CLASSES), accelerator_for_this_machine())
    rng = torch.Generator().manual_seed(0)
    pictures = torch.rand(configuration.batch_size, 3, configuration.size, configuration.size, generator=rng)
    with FlopCounterMode(display=False) as counter:
        learner.step(pictures, torch.zeros(configuration.batch_size, dtype=torch.long), rng)
    return counter.get_total_flops() / configuration.batch_size / 1e9


@pytest.mark.slow
def test_operations_and_bytes_of_every_row_are_counted(root):
    counted, last = operations(root, "smoke")
    profile = load_profile("smoke")
    assert list(counted) == ["classifier", *profile.rows]
    for row in ("chan_vese", "mumford_shah_only"):
        assert counted[row][2] == pytest.approx(by_pytorch(profile, row), abs=0.06)
    said = re.match(r"All epochs on 96 pictures are (\S+) · 10¹² operations, (\S+) minutes at the (\S+) · 10⁹ a second", last)
    total, minutes, speed = map(float, said.groups())
    assert total == pytest.approx(96 * sum(line[0] * line[2] for line in counted.values()) / 1e3, rel=0.15)
    assert minutes == pytest.approx(1e3 * total / speed / 60, rel=0.06)
    # Adam reads weight, gradient and two moments and writes three: for each picture its share of that, and a step has more.
    weights = sum(parameter.numel() for parameter in Classifier(CLASSES).parameters())
    assert counted["classifier"][3] > 7 * weights * FLOAT32 / counted["classifier"][1] / 1e6
    # No operation is faster than the card's memory, whose bytes take the longer of the two times here.
    assert all(each[5] == pytest.approx(each[3] * 1e6 / 3.35e12 * 1e6, rel=0.1, abs=0.6) for each in counted.values())


@pytest.mark.slow
def test_operations_at_224_pixels_are_those_of_the_usual_convolutions(root, tmp_path, monkeypatch):
    large = tmp_path / "large.yaml"
    smoke = (root / "profiles" / "smoke.yaml").read_text(encoding="utf-8")
    large.write_text(re.sub("(?m)^rows: .*$", "rows: [chan_vese]", smoke.replace("size: 32", "size: 224")), encoding="utf-8")
    counted, _ = operations(root, large)
    monkeypatch.setattr(StemConvolution, "SIDE", math.inf)
    assert counted["chan_vese"][2] == pytest.approx(by_pytorch(load_profile(str(large)), "chan_vese"), abs=0.06)


def test_seconds_memory_and_pages_are_compared_pair_by_pair(root, monkeypatch, capsys):
    asked = []

    def measured(row, case):
        asked.append(case["kept"])
        kept, given = (2.0, 1200.0, 800.0, 3000), (3.0 + len(asked) // 4, 1000.0, 800.0, 500_000)
        return module.Epoch(*(kept if case["kept"] else given))

    with benchmark(root, "growth") as module:
        monkeypatch.setattr(module, "_in_a_process", measured)
        monkeypatch.setattr(module, "KEPT", ({"size": 128, "batch_size": 32},))
        module._compare_memory("mumford_shah", 2)
    assert asked == [False, True, True, False]
    assert capsys.readouterr().out.splitlines()[-1] == "| 128 | 32 | 1.75 [1.50, 2.00] | 1.20 | 3 | 500 |"


@pytest.mark.slow
@on_glibc
def test_a_process_that_keeps_memory_asks_for_fewer_pages(root):
    with benchmark(root, "growth") as module:
        kept, given = (module._in_a_process("chan_vese", {"photographs": 64, "size": 128, "classes": 2, "batch_size": 16,
                                                          "kept": kept}) for kept in (True, False))
    assert 0 < kept.pages < given.pages
