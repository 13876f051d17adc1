"""Eq. (6) and (12)-(15): known answers, minima, gradcheck, and agreement of stable and naive forms."""

import math

import pytest
import torch
import torch.nn.functional as F

from bipartition.energies import area, chan_vese, total_variation
from bipartition.objectives import (
    background_floor,
    background_loss,
    classification_objective,
    foreground_loss,
    regularisation,
    segmentation_objective,
    weighted_sum,
)


@pytest.fixture
def logits():
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class TestForegroundLoss:
    def test_it_is_minus_the_log_of_the_true_class(self, logits):
        labels = torch.tensor([0, 4, 2, 2])
        expected = [-math.log(torch.softmax(row, 0)[label]) for row, label in zip(logits, labels, strict=True)]
        assert foreground_loss(logits, labels).tolist() == pytest.approx(expected)

    def test_half_precision_scores_are_computed_in_float32(self):
        assert foreground_loss(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1])).dtype == torch.float32


class TestBackgroundLoss:
    @pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
    def test_it_agrees_with_equation_13_as_written(self, logits, probability):
        b = torch.softmax(logits, 1) if probability == "softmax" else torch.sigmoid(logits)
        torch.testing.assert_close(background_loss(logits, probability), -torch.log(4 * b * (1 - b)).mean(dim=1))

    @pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
    def test_gradcheck(self, logits, probability):
        assert torch.autograd.gradcheck(lambda x: background_loss(x, probability), logits.requires_grad_())

    def test_two_undecided_classes_cost_nothing(self):
        assert background_loss(torch.full((1, 2), 3.0)).item() == pytest.approx(0, abs=1e-6)

    def test_undecided_sigmoids_cost_nothing_for_any_number_of_classes(self):
        assert background_loss(torch.zeros(1, 20), "sigmoid").item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(("classes", "floor"), [(2, 0.0), (6, 0.588), (20, 1.661)])
    def test_an_even_spread_reaches_the_floor_of_the_softmax(self, classes, floor):
        assert background_loss(torch.zeros(1, classes)).item() == pytest.approx(floor, abs=1e-3)
        assert background_floor(classes) == pytest.approx(floor, abs=1e-3)

    @pytest.mark.parametrize("classes", [3, 6])
    def test_nothing_found_by_descent_lies_below_the_floor(self, classes):
        logits = torch.randn(8, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        optimiser = torch.optim.Adam([logits], lr=0.05)
        for _ in range(400):
            optimiser.zero_grad()
            background_loss(logits).sum().backward()
            optimiser.step()
        assert background_loss(logits).min().item() == pytest.approx(background_floor(classes), abs=1e-6)

    @pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
    def test_a_saturated_score_costs_much_but_finitely(self, probability):
        logits = torch.tensor([[500.0, 0.0, 0.0]], requires_grad=True)
        loss = background_loss(logits, probability)
        loss.sum().backward()
        assert 100 < loss.item() < 1e4 and torch.isfinite(logits.grad).all()

    def test_another_probability_is_named(self):
        with pytest.raises(ValueError, match="'entropy'"):
            background_loss(torch.zeros(1, 3), "entropy")

    def test_one_class_is_refused(self):
        with pytest.raises(ValueError, match=r"shape \(2, 1\).*at least 2 classes"):
            background_loss(torch.zeros(2, 1))


class TestSegmentationObjective:
    def test_without_matrices_its_parts_are_those_of_equation_7(self):
        image, phi = torch.rand(2, 3, 5, 5), torch.rand(2, 1, 5, 5)
        parts = segmentation_objective(image, phi)
        assert list(parts) == ["fidelity", "area", "variation"]
        for part, expected in zip(parts.values(), (chan_vese(image, phi), area(phi), total_variation(phi)), strict=True):
            torch.testing.assert_close(part, expected)

    def test_with_matrices_two_variations_more_as_in_equation_10(self):
        image, phi = torch.rand(2, 3, 5, 5), torch.rand(2, 1, 5, 5)
        flat = torch.full_like(image, 0.5)
        parts = segmentation_objective(image, phi, (flat, image))
        assert list(parts) == ["fidelity", "area", "variation", "variation_foreground", "variation_background"]
        assert parts["variation_foreground"].tolist() == [0, 0]
        torch.testing.assert_close(parts["variation_background"], total_variation(image))
        torch.testing.assert_close(parts["fidelity"], (phi * 0 + (1 - phi) * (image - flat).square()).mean(dim=(1, 2, 3)))

    def test_the_regularisers_are_equation_15(self):
        assert list(regularisation(torch.rand(2, 1, 4, 4))) == ["area", "variation"]


class TestWeightedSum:
    def test_it_is_the_mean_over_the_batch_of_the_weighted_parts(self):
        parts = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([10.0, 20.0])}
        assert weighted_sum(parts, {"a": 2.0, "b": 0.1, "unused": 9.0}).item() == pytest.approx(2 * 2 + 1.5)

    def test_a_part_without_a_weight_is_an_error(self):
        with pytest.raises(ValueError, match="the part 'b' of the objective has no weight; give it one in objective_weights"):
            weighted_sum({"b": torch.ones(2)}, {"a": 1.0})

    def test_s_is_foreground_plus_background(self, logits):
        labels = torch.tensor([0, 1, 2, 3])
        parts = classification_objective(logits, -logits, labels)
        total = weighted_sum(parts, {"foreground": 1.0, "background": 1.0})
        expected = F.cross_entropy(logits, labels) + background_loss(-logits).mean()
        torch.testing.assert_close(total, expected)
