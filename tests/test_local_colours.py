"""`benchmarks/local_colours.py`: very wide bells are Chan-Vese, narrow ones the picture itself; so are minimisers of (10), very
stiff and loose; and it trains."""

import os
import subprocess
import sys

import pytest
import torch

from bipartition.energies import chan_vese, mumford_shah, region_means, total_variation
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


def test_stiff_minimisers_are_the_regions_means_and_loose_ones_the_picture(local, picture):
    image, phi = picture
    for colours, means in zip(local.minimisers(image, phi, 100), region_means(image, phi), strict=True):
        torch.testing.assert_close(colours, means.expand_as(colours), rtol=0, atol=1e-3)
    for colours in local.minimisers(image, phi.clamp(0.1, 0.9), 1e-6):
        torch.testing.assert_close(colours, image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [8, 28, 56])
def test_a_minimiser_lowers_a_step_by_what_its_variation_weighs(local, side):
    """Halves of colours 0 and 1: with both moved by d the energy is ``d^2 + stiffness (1 - 2 d) / side``; least at its root."""
    image = torch.zeros(1, 1, side, side, dtype=torch.float64)
    image[..., side // 2:] = 1
    found = local.smoothest(image, torch.ones_like(image), 0.1 * side, 1500)
    torch.testing.assert_close(found, 0.1 + 0.8 * image, rtol=0, atol=2e-3)


def test_no_picture_near_it_has_less_energy_than_a_minimiser(local):
    """And few rounds come near it."""
    torch.manual_seed(0)
    image, region = torch.rand(2, 3, 56, 56, dtype=torch.float64), torch.rand(2, 1, 56, 56, dtype=torch.float64)

    def energy(u):
        return (region * (image - u).square()).mean(dim=(1, 2, 3)) + 0.3 * total_variation(u)

    found = local.smoothest(image, region, 0.3, 3000)
    least = energy(found)
    assert (energy(local.smoothest(image, region, 0.3)) < 1.1 * least).all() and (least < 0.5 * energy(image)).all()
    for other in (image, found.mean(dim=(2, 3), keepdim=True).expand_as(found), torch.rand_like(found)):
        for share in (0.05, 0.2):
            assert (energy(found + share * (other - found)) > least).all(), "convex: it rises towards any other picture"


def test_a_minimiser_reaches_beyond_its_region(local):
    phi = torch.zeros(1, 1, 56, 56)
    phi[..., 20:] = 1
    foreground, background = local.minimisers((1 - phi).expand(1, 3, 56, 56), phi, 1)  # white on black
    torch.testing.assert_close(foreground, torch.ones_like(foreground))
    assert background.abs().max() < 1e-6


@pytest.mark.slow
def test_it_trains_with_them_and_finds_it_trained(root, trained, tmp_path):
    path, environment = trained
    command = [sys.executable, root / "benchmarks" / "local_colours.py", "--profile", path]
    given = os.environ | environment | {"BIPARTITION_RESULTS": str(tmp_path)}
    for how, folder in (("--width 0.25", "local-colours-0.25"), ("--stiffness 1", "minimisers-1")):
        call = [*command, *how.split()]
        said = [subprocess.run(call, env=given, capture_output=True, text=True, check=True).stdout for _ in range(2)]
        assert "variation_foreground" in said[0] and "finished already" in said[1]
        assert said[0].splitlines()[-1] == said[1].splitlines()[-1] and f"{tmp_path / folder}" in said[0]


@pytest.mark.parametrize(("how", "why"), [
    ("--width nan", "--width nan: it must be a finite number greater than 0"),
    ("--stiffness inf", "--stiffness inf: it must be a finite number greater than 0"),
    ("", "one of the arguments --width --stiffness is required"), ("--width 1 --stiffness 1", "not allowed with")])
def test_what_it_refuses(local, how, why, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["local_colours", *how.split()])
    with pytest.raises(SystemExit, match="2"):
        local.main()
    assert why in capsys.readouterr().err
