"""`benchmarks/which_mask.py`: an energy prefers the truth where colours tell it, and two colours are the stiff end of (10)."""

import os
import subprocess
import sys

import pytest
import torch

from bipartition.energies import chan_vese
from conftest import benchmark


@pytest.fixture(scope="module")
def which(root):
    with benchmark(root, "which_mask") as module:
        yield module


@pytest.fixture
def discs():
    """Two white discs of their own places on grey: pictures and truth."""
    places = torch.arange(28.0)
    truth = torch.stack([((places[:, None] - row) ** 2 + (places - column) ** 2 < 36).float()
                         for row, column in ((10, 9), (16, 15))])[:, None]
    return (0.2 + 0.8 * truth).mul(255).round().byte().expand(-1, 3, -1, -1).numpy(), truth


def test_every_energy_prefers_a_disc_of_one_colour_to_all_other_masks(which, discs):
    images, truth = discs
    asked = which.masks(images, truth)
    for energy in (chan_vese, which.least_of(0.3), which.least_of(3)):
        least = which.energy_of(energy, images, truth)
        for name, mask in asked.items():
            if not torch.equal(mask, truth):  # 2-means and GrabCut find these discs
                assert which.preferred(least, which.energy_of(energy, images, mask)) == 1, name
        assert which.preferred(least, least) == 0.5
    assert len(asked) == 9 and [name for name, mask in asked.items() if torch.equal(mask, truth)][0] == "the truth"


def test_masks_are_what_they_are_called(which, discs):
    images, truth = discs
    asked = which.masks(images, truth)
    for mask in asked.values():
        assert mask.shape == truth.shape and set(mask.unique().tolist()) <= {0, 1}
    grown, shrunk = asked["the truth, grown"], asked["the truth, shrunk"]
    assert (shrunk <= truth).all() and (truth <= grown).all() and shrunk.sum() < truth.sum() < grown.sum()
    assert torch.equal(asked["the truth, moved"][0, 0, 2:, 2:], truth[0, 0, :-2, :-2])
    assert torch.equal(asked["another picture's"][1], truth[0])


def test_the_stiff_end_of_10_is_7(which):
    torch.manual_seed(0)
    images, foreground = torch.randint(256, (3, 3, 28, 28), dtype=torch.uint8).numpy(), torch.rand(3, 1, 28, 28)
    found = (which.energy_of(energy, images, foreground) for energy in (which.least_of(30), chan_vese))
    torch.testing.assert_close(*found, rtol=0.05, atol=0)


@pytest.mark.slow
def test_it_prints_a_table_and_refuses_what_it_cannot_do(root, trained):
    path, environment = trained
    command = [sys.executable, root / "benchmarks" / "which_mask.py", "--profile", path]
    given, few = os.environ | environment, ["--stiffness", "1", "--pictures", "4"]
    ended = subprocess.run([*command, *few], env=given, capture_output=True, text=True, check=True)
    head, _, first, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in ended.stdout.splitlines()[-11:]]
    assert head[0].startswith("4 pictures of cartoons") and head[3:] == ["(7)", "(10), 1"]
    assert first[:3] == ["the truth", "4", "1.00"] and len(lines) == 8
    for _, count, overlap, *cells in lines:
        assert 0 <= float(overlap) < 1 <= int(count) <= 4
        assert all(0 < float(times) < 50 and 0 <= float(share) <= 1 for times, share in (cell.split(", ") for cell in cells))
    for how, why in (("--stiffness 1 nan", "--stiffness nan: it must be a finite number greater than 0"),
                     ("--pictures 1", "--pictures 1: it must be 2 or more")):
        wrong = subprocess.run([*command, *how.split()], env=given, capture_output=True, text=True, check=False)
        assert wrong.returncode == 2 and why in wrong.stderr
