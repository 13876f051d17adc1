"""`benchmarks/pull.py`: the pull of an energy is its derivative, and points to the object where F and B know it."""

import os
import subprocess
import sys

import pytest
import torch

from bipartition.energies import chan_vese, mumford_shah, region_means
from conftest import benchmark


@pytest.fixture(scope="module")
def pull(root):
    with benchmark(root, "pull") as module:
        yield module


def test_it_is_the_derivative_of_both_energies(pull):
    torch.manual_seed(0)
    image, phi = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 1, 4, 5, dtype=torch.float64)
    phi.requires_grad_()
    matrices = torch.rand(2, 2, 3, 4, 5, dtype=torch.float64)
    for energy, two in ((mumford_shah(image, phi, *matrices), matrices),
                        (chan_vese(image, phi), region_means(image, phi))):
        gradient, = torch.autograd.grad(energy.sum(), phi)
        torch.testing.assert_close(20 * gradient, pull.pull(image, *two))  # a mean over 20 pixels


def test_it_points_to_the_object_where_f_and_b_have_its_colours_and_away_where_they_are_swapped(pull):
    inside = torch.zeros(1, 1, 4, 4)
    inside[..., :2] = 1
    image = inside.expand(1, 3, 4, 4)  # white on black
    white, black = torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    assert pull.towards(pull.pull(image, white, black), inside, 1 - inside).item() == 2
    assert pull.towards(pull.pull(image, black, white), inside, 1 - inside).item() == -2
    assert pull.pull(image, white, white).abs().max() == 0
    assert pull.towards(image[:, :1], torch.zeros_like(inside), 1 - inside).isnan().all()


def test_a_mask_that_follows_the_picture_is_told(pull):
    ramp = torch.linspace(0, 1, 12).view(1, 1, 3, 4)
    maps = torch.cat([ramp, 1 - ramp, torch.ones_like(ramp)])
    found = pull.correlation(maps, ramp.expand(3, 1, 3, 4)).flatten()
    assert found[:2].tolist() == pytest.approx([1, -1]) and found[2].isnan()


@pytest.mark.slow
def test_it_has_a_line_for_every_run_with_an_energy(root, trained, tmp_path):
    path, environment = trained
    command = [sys.executable, root / "benchmarks" / "pull.py", "--profile", path]
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in ended.stdout.splitlines()[-4:]]
    assert head[0] == "row" and [line[0] for line in lines] == ["chan_vese", "mumford_shah"]
    for line in lines:
        apart, strength, to_object, at_the_truth, *deviations, by_brightness = map(float, line[4:])
        assert 0 <= apart <= 1 and abs(to_object) <= 2 * strength + 0.001 and at_the_truth > 0
        assert all(0 <= deviation < 0.5 for deviation in deviations) and -1 <= by_brightness <= 1
    without = subprocess.run([*command, "--trials"], env=os.environ | environment | {"BIPARTITION_RESULTS": str(tmp_path)},
                             capture_output=True, text=True, check=False)
    assert without.returncode == 1 and f"no run with an energy on cartoons is finished under {tmp_path}" in without.stderr
