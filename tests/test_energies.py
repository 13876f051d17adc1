"""Every equation of the energies: a known answer, gradcheck, symmetry, limits, and agreement with others' code."""

import functools

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from skimage.segmentation import _chan_vese as skimage_chan_vese

from bipartition.energies import area, chan_vese, mumford_shah, region_means, total_variation

PIXELS = 6


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def image(rng):
    return torch.rand(2, 3, PIXELS, PIXELS + 1, generator=rng, dtype=torch.float64)


@pytest.fixture
def mask(rng):
    return 0.05 + 0.9 * torch.rand(2, 1, PIXELS, PIXELS + 1, generator=rng, dtype=torch.float64)


@pytest.fixture
def halves():
    """A picture that is 0.2 on the left and 0.8 on the right, and phi = 1 on the right: the background is the bright half."""
    image = torch.full((1, 3, 4, 4), 0.2, dtype=torch.float64)
    image[..., 2:] = 0.8
    phi = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    phi[..., 2:] = 1
    return image, phi


@pytest.fixture
def maps(rng):
    """A picture in float32 and phi, F and B as slices of one tensor, which is how decoders hand them out."""
    image, *others = torch.rand(2, 10, PIXELS, PIXELS + 1, generator=rng).split([3, 1, 3, 3], dim=1)
    return image, *others


def gradients(plain, ours, *inputs):
    """Of both functions for each of the inputs, where every picture has a weight of its own."""
    inputs = [one.detach().requires_grad_() for one in inputs]
    weights = torch.arange(1.0, 1 + len(inputs[0])) / 3
    return [torch.autograd.grad((function(*inputs) * weights).sum(), inputs) for function in (plain, ours)]


class TestRegionMeans:
    def test_c1_belongs_to_the_foreground_and_c2_to_the_background(self, halves):
        c1, c2 = region_means(*halves)
        assert c1.shape == c2.shape == (1, 3, 1, 1)
        torch.testing.assert_close(c1, torch.full_like(c1, 0.2))
        torch.testing.assert_close(c2, torch.full_like(c2, 0.8))

    def test_they_are_the_weighted_means_of_equation_8(self, image, mask):
        c1, c2 = region_means(image, mask)
        weight = (1 - mask).expand_as(image)
        expected = np.average(image[1, 2].numpy(), weights=weight[1, 2].numpy())
        assert c1[1, 2].item() == pytest.approx(expected, abs=1e-12)
        assert c2[1, 2].item() == pytest.approx(np.average(image[1, 2], weights=mask[1, 0]), abs=1e-12)

    @pytest.mark.parametrize("phi", [0.0, 1.0])
    def test_an_empty_region_gives_finite_means_and_gradients(self, image, phi):
        mask = torch.full((2, 1, PIXELS, PIXELS + 1), phi, dtype=torch.float64, requires_grad=True)
        c1, c2 = region_means(image, mask)
        (c1.sum() + c2.sum() + chan_vese(image, mask).sum()).backward()
        assert torch.isfinite(c1).all() and torch.isfinite(c2).all() and torch.isfinite(mask.grad).all()

    def test_shapes_that_do_not_belong_together_are_named(self, image):
        with pytest.raises(ValueError, match=r"background_mask has shape \(2, 3, 6, 7\)"):
            region_means(image, image)


class TestChanVese:
    def test_two_flat_halves_cost_nothing(self, halves):
        torch.testing.assert_close(chan_vese(*halves), torch.zeros(1, dtype=torch.float64))

    def test_a_mask_that_knows_nothing_costs_the_variance(self, halves):
        image, phi = halves
        torch.testing.assert_close(chan_vese(image, torch.full_like(phi, 0.3)), torch.full((1,), 0.09, dtype=torch.float64))

    @pytest.mark.parametrize("logit", [-14.0, -8.0, 0.0, 8.0, 14.0])  # of 1 - phi: a millionth, half, all but a millionth
    def test_the_gradient_is_as_exact_where_one_region_is_small(self, image, rng, logit):
        phi = torch.sigmoid(torch.randn(2, 1, PIXELS, PIXELS + 1, generator=rng, dtype=torch.float64) - logit).float()
        gradients = []
        for dtype in (torch.float64, torch.float32):
            mask = phi.to(dtype, copy=True).requires_grad_()
            chan_vese(image.to(dtype), mask).sum().backward()
            gradients.append(mask.grad.double())
        exact, found = gradients
        assert (found - exact).norm() / exact.norm() < 1e-5

    def test_the_moments_agree_with_equation_7_as_written(self, image, mask):
        c1, c2 = region_means(image, mask)
        written = ((1 - mask) * (image - c1) ** 2 + mask * (image - c2) ** 2).mean(dim=(1, 2, 3))
        torch.testing.assert_close(chan_vese(image, mask), written)

    def test_the_gradient_agrees_with_that_of_equation_7_with_fixed_means(self, image, mask):
        mask.requires_grad_()
        c1, c2 = (c.detach() for c in region_means(image, mask))
        written = ((1 - mask) * (image - c1) ** 2 + mask * (image - c2) ** 2).mean(dim=(1, 2, 3)).sum()
        expected, = torch.autograd.grad(written, mask)
        measured, = torch.autograd.grad(chan_vese(image, mask).sum(), mask)
        torch.testing.assert_close(measured, expected)

    def test_gradcheck(self, image, mask):
        assert torch.autograd.gradcheck(chan_vese, (image.requires_grad_(), mask.requires_grad_()))

    def test_energy_is_symmetric_when_the_mask_is_flipped(self, image, mask):
        torch.testing.assert_close(chan_vese(image, mask), chan_vese(image, 1 - mask))

    def test_it_never_exceeds_the_variance_nor_falls_below_zero(self, image, mask):
        energy = chan_vese(image, mask)
        variance = image.var(dim=(2, 3), correction=0).mean(dim=1)
        assert (energy >= 0).all() and (energy <= variance).all()

    def test_what_a_cut_saves_is_the_distance_of_its_two_means(self, image, mask):
        (c1, c2), share = region_means(image, mask), area(mask)
        saved = share * (1 - share) * ((c1 - c2) ** 2).mean(dim=(1, 2, 3))
        torch.testing.assert_close(chan_vese(image, torch.ones_like(mask)) - chan_vese(image, mask), saved)

    @pytest.mark.parametrize("weight", [1.0, 0.9])
    def test_an_area_weight_of_one_makes_no_foreground_the_cheapest_mask_of_any_picture(self, weight):
        # Saved is a share (1 - share) (c1 - c2)^2, less than the share itself where values lie in [0, 1].  The literal
        # reading's lambda1 = 1 thus leaves nothing to the energy; below 1 there are pictures that it cuts.
        side = 32
        mask = torch.ones(side * side, 1, side, side, dtype=torch.float64)
        for count in range(side * side):  # foregrounds of one pixel to all, white on black: no picture saves more
            mask[count].view(-1)[:count + 1] = 0
        energy = chan_vese((1 - mask).expand(-1, 3, -1, -1), mask) + weight * area(mask)
        nothing = chan_vese((1 - mask).expand(-1, 3, -1, -1), torch.ones_like(mask))
        assert bool((energy >= nothing - 1e-12).all()) == (weight == 1)

    def test_a_bright_flat_picture_keeps_its_small_energy_in_float32(self):
        image = 0.999 + 1e-4 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        mask = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
        exact = chan_vese(image.double(), mask.double())
        assert chan_vese(image, mask).double().item() == pytest.approx(exact.item(), rel=1e-3)

    def test_terms_agree_with_scikit_image(self, image, mask):
        """scikit-image sums lambda * ((I - mean inside)^2 H + (I - mean outside)^2 (1 - H)) over a grey picture's pixels."""
        grey, phi = image[:1, :1], mask[:1]
        inside, outside = skimage_chan_vese._cv_calculate_averages(grey[0, 0].numpy(), phi[0, 0].numpy())
        total = ((grey[0, 0] - inside) ** 2 * phi[0, 0] + (grey[0, 0] - outside) ** 2 * (1 - phi[0, 0])).sum().item()
        assert chan_vese(grey, phi).item() * grey.numel() == pytest.approx(total, rel=1e-10)

    def test_for_hard_masks_the_best_threshold_is_otsus(self):
        values = torch.randint(0, 32, (1, 1, 24, 24), generator=torch.Generator().manual_seed(5))
        dark = torch.rand(values.shape, generator=torch.Generator().manual_seed(6)) < 0.4
        values = torch.where(dark, values // 2, values + 20)
        image = values.double()
        energies = {t: chan_vese(image, (values > t).double()).item() for t in range(int(values.min()), int(values.max()))}
        otsu = threshold_otsu(values[0, 0].numpy(), nbins=int(values.max() - values.min() + 1))
        best = min(energies, key=energies.get)
        assert energies[int(otsu)] == pytest.approx(energies[best], rel=1e-12)


class TestMumfordShah:
    def test_it_is_zero_for_every_mask_when_both_matrices_are_the_picture(self, image, mask):
        torch.testing.assert_close(mumford_shah(image, mask, image, image), torch.zeros(2, dtype=torch.float64))

    def test_with_the_region_means_as_matrices_it_is_chan_vese(self, image, mask):
        c1, c2 = (c.expand_as(image) for c in region_means(image, mask))
        torch.testing.assert_close(mumford_shah(image, mask, c1, c2), chan_vese(image, mask))

    def test_f_is_asked_inside_only_and_b_outside_only(self, halves):
        image, phi = halves
        far = image + 1
        torch.testing.assert_close(mumford_shah(image, phi, far, image), torch.full((1,), 0.5, dtype=torch.float64))
        torch.testing.assert_close(mumford_shah(image, torch.ones_like(phi), far, image), torch.zeros(1, dtype=torch.float64))

    def test_flipping_the_mask_and_exchanging_the_matrices_changes_nothing(self, image, mask):
        f, b = image.flip(-1), image.flip(-2)
        torch.testing.assert_close(mumford_shah(image, mask, f, b), mumford_shah(image, 1 - mask, b, f))

    def test_gradcheck(self, image, mask):
        f, b = image.flip(-1).clone().requires_grad_(), image.flip(-2).clone().requires_grad_()
        assert torch.autograd.gradcheck(mumford_shah, (image.requires_grad_(), mask.requires_grad_(), f, b))

    def test_its_gradients_are_autograds_to_the_bit(self, maps):
        image, phi, f, b = maps
        image = image.contiguous(memory_format=torch.channels_last)  # as it is trained on
        def plain(phi, f, b):
            return ((1 - phi) * (image - f).square() + phi * (image - b).square()).mean(dim=(1, 2, 3))
        assert all(map(torch.equal, *gradients(plain, functools.partial(mumford_shah, image), phi, f, b)))

    def test_a_matrix_of_another_shape_is_named(self, image, mask):
        with pytest.raises(ValueError, match="background_matrix has shape"):
            mumford_shah(image, mask, image, image[:, :1])


class TestArea:
    @pytest.mark.parametrize(("phi", "expected"), [(0.0, 1.0), (1.0, 0.0), (0.25, 0.75)])
    def test_it_is_the_share_of_foreground(self, phi, expected):
        assert area(torch.full((2, 1, 5, 5), phi)).tolist() == pytest.approx([expected] * 2)

    def test_gradcheck(self, mask):
        assert torch.autograd.gradcheck(area, mask.requires_grad_())


class TestTotalVariation:
    def test_an_upright_edge_costs_its_length(self, halves):
        _, phi = halves
        torch.testing.assert_close(total_variation(phi), torch.tensor([4 / 16], dtype=torch.float64))

    def test_a_level_edge_costs_its_length(self, halves):
        _, phi = halves
        torch.testing.assert_close(total_variation(phi.mT), torch.tensor([4 / 16], dtype=torch.float64))

    def test_a_single_pixel_costs_four_differences(self):
        phi = torch.zeros(1, 1, 5, 5)
        phi[..., 2, 2] = 1
        assert total_variation(phi).item() == pytest.approx(4 / 25)

    def test_the_last_row_and_column_count_as_zero(self):
        u = torch.arange(3.0).view(1, 1, 1, 3).expand(1, 1, 2, 3)
        assert total_variation(u).item() == pytest.approx(4 / 6)

    def test_it_is_zero_for_a_constant_and_unchanged_by_the_flip_of_a_mask(self, mask):
        assert total_variation(torch.full((1, 3, 4, 4), 0.7)).item() == 0
        assert total_variation(torch.zeros(0, 3, 4, 4)).shape == (0,)
        torch.testing.assert_close(total_variation(mask), total_variation(1 - mask))

    def test_channels_are_averaged(self, image):
        apart = torch.stack([total_variation(image[:, c:c + 1]) for c in range(3)]).mean(dim=0)
        torch.testing.assert_close(total_variation(image), apart)

    def test_gradcheck(self, mask):
        assert torch.autograd.gradcheck(total_variation, mask.requires_grad_())

    def test_its_gradient_is_autograds_to_the_bit(self, maps):
        def plain(u):
            down, right = u[:, :, 1:] - u[:, :, :-1], u[:, :, :, 1:] - u[:, :, :, :-1]
            return (down.abs().sum(dim=(1, 2, 3)) + right.abs().sum(dim=(1, 2, 3))) / u.shape[1:].numel()
        assert all(torch.equal(*found) for u in maps for found in zip(*gradients(plain, total_variation, u), strict=True))
