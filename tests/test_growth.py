"""What `benchmarks/growth.py --operations` counts: PyTorch's own counter and a pencil say the same."""

import os
import re
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bipartition.devices import accelerator_for_this_machine
from bipartition.learners import build_learner
from bipartition.networks import Classifier
from bipartition.profiles import configuration_for, load_profile

CLASSES = 20
FLOAT32 = 4


@pytest.mark.slow
def test_operations_and_bytes_of_every_row_are_counted(root):
    command = [sys.executable, root / "benchmarks" / "growth.py", "--operations", "smoke"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": root / "lib"})
    *table, _, last = ended.stdout.splitlines()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    profile = load_profile("smoke")
    assert [line[0] for line in lines] == ["classifier", *profile.rows]
    counted = {line[0]: [float(number) for number in line[1:]] for line in lines}
    rng = torch.Generator().manual_seed(0)
    for row in ("chan_vese", "mumford_shah_only"):
        configuration = configuration_for(profile, "cartoons", row, 0)
        learner = build_learner(configuration, Classifier(CLASSES), accelerator_for_this_machine())
        pictures = torch.rand(configuration.batch_size, 3, configuration.size, configuration.size, generator=rng)
        with FlopCounterMode(display=False) as counter:
            learner.step(pictures, torch.zeros(configuration.batch_size, dtype=torch.long), rng)
        assert counted[row][2] == pytest.approx(counter.get_total_flops() / configuration.batch_size / 1e9, abs=0.06)
    said = re.match(r"All epochs on 96 pictures are (\S+) · 10¹² operations, (\S+) minutes at the (\S+) · 10⁹ a second", last)
    operations, minutes, speed = map(float, said.groups())
    assert operations == pytest.approx(96 * sum(line[0] * line[2] for line in counted.values()) / 1e3, rel=0.15)
    assert minutes == pytest.approx(1e3 * operations / speed / 60, rel=0.06)
    # Adam reads weight, gradient and two moments and writes three: for each picture its share of that, and a step has more.
    weights = sum(parameter.numel() for parameter in Classifier(CLASSES).parameters())
    assert counted["classifier"][3] > 7 * weights * FLOAT32 / counted["classifier"][1] / 1e6
    # No operation is faster than the card's memory, whose bytes take the longer of the two times here.
    assert all(each[5] == pytest.approx(each[3] * 1e6 / 3.35e12 * 1e6, rel=0.1, abs=0.6) for each in counted.values())
