"""`benchmarks/local_colours.py`: very wide bells are Chan-Vese, narrow ones the picture itself, and it trains."""

import os
import subprocess
import sys

import pytest
import torch

from bipartition.energies import chan_vese, mumford_shah, region_means
from conftest import benchmark


@pytest.fixture(scope="module")
def local(root):
    with benchmark(root, "local_colours") as module:
        yield module


@pytest.fixture
def picture():
    torch.manual_seed(0)
    return torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.rand(2, 1, 8, 8, dtype=torch.float64)


def test_very_wide_bells_are_chan_vese_with_its_gradient(local, picture):
    image, phi = picture
    found = local.local_colours(image, phi, 1e4)
    for colours, means in zip(found, region_means(image, phi), strict=True):
        torch.testing.assert_close(colours, means.expand_as(colours))
    phi.requires_grad_()
    energies = mumford_shah(image, phi, *found), chan_vese(image, phi)
    torch.testing.assert_close(*(torch.autograd.grad(energy.sum(), phi)[0] for energy in energies))


def test_narrow_bells_have_each_pixels_own_colour(local, picture):
    image, phi = picture
    for colours in local.local_colours(image, phi, 0.01):
        torch.testing.assert_close(colours, image)


def test_the_colour_of_a_region_reaches_beyond_it(local):
    phi = torch.zeros(1, 1, 8, 8)
    phi[..., 4:] = 1
    foreground, background = local.local_colours((1 - phi).expand(1, 3, 8, 8), phi, 0.25)  # white on black
    torch.testing.assert_close(foreground, torch.ones_like(foreground))
    assert background.abs().max() == 0


@pytest.mark.slow
def test_it_trains_with_them_and_finds_it_trained(root, trained, tmp_path):
    path, environment = trained
    command = [sys.executable, root / "benchmarks" / "local_colours.py", "--profile", path, "--width", "0.25"]
    given = os.environ | environment | {"BIPARTITION_RESULTS": str(tmp_path)}
    said = [subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert "variation_foreground" in said[0] and "finished already" in said[1]
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1] and f"{tmp_path / 'local-colours-0.25'}" in said[0]
    wrong = subprocess.run([*command, "--width", "nan"], env=given, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "--width nan: it must be greater than 0" in wrong.stderr
