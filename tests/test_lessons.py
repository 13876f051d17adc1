"""What the learning notebooks share: descents that end where they must, pictures of the right shape, film strips."""

import numpy as np
import pytest
import torch

from bipartition.energies import chan_vese, mumford_shah
from bipartition.lessons import descend_mask, descend_mask_and_matrices, film_strip, network_diagram, photograph, two_balls
from bipartition.networks import BiPartitionNetwork, Classifier


@pytest.fixture
def halves():
    image = torch.full((1, 1, 8, 8), 0.2)
    image[..., 4:] = 0.9
    return image


def start(image):
    return torch.logit((1 - image).clamp(0.3, 0.7))


class TestDescent:
    def test_two_colours_are_cut_apart_and_nothing_is_left(self, halves):
        found = descend_mask(lambda phi: chan_vese(halves, phi), start(halves))
        torch.testing.assert_close(found.background_mask, (halves < 0.5).float(), atol=0.05, rtol=0)
        assert found.losses[-1] < 0.01 < found.losses[0] and len(found.losses) == 100

    def test_the_asked_steps_are_kept_and_the_end_is_always(self, halves):
        first = start(halves)
        before = first.clone()
        found = descend_mask(lambda phi: chan_vese(halves, phi), first, steps=5, keep=(0, 3))
        assert list(found.masks) == [0, 3, 5] and torch.equal(first, before)
        torch.testing.assert_close(found.masks[0], torch.sigmoid(first))
        assert not found.background_mask.requires_grad

    def test_matrices_go_to_the_colours_of_their_regions(self, halves):
        grey = torch.full_like(halves, 0.5)
        found = descend_mask_and_matrices(lambda phi, F, B: mumford_shah(halves, phi, F, B), 4 * start(halves), (grey, grey))
        foreground, background = found.matrices
        assert foreground[..., 4:].mean().item() == pytest.approx(0.9, abs=0.03)
        assert background[..., :4].mean().item() == pytest.approx(0.2, abs=0.03)


class TestPictures:
    @pytest.mark.parametrize(("name", "channels"), [("camera", 1), ("chelsea", 3)])
    def test_a_photograph_is_the_middle_square(self, name, channels):
        image = photograph(name, 16)
        assert image.shape == (1, channels, 16, 16) and 0 <= image.min() < image.max() <= 1

    def test_balls_are_where_the_truth_says_and_of_the_labels_colour(self):
        image, labels, objects = two_balls(4, 48)
        assert labels.tolist() == [0, 1, 0, 1] and objects.unique().tolist() == [0, 1]
        for picture, label, ball in zip(image, labels, objects, strict=True):
            mean = (picture * ball).sum(dim=(1, 2)) / ball.sum()
            assert mean.argmax() == label and 0.05 < ball.mean() < 0.15

    def test_the_same_seed_gives_the_same_balls_and_another_seed_others(self):
        assert torch.equal(two_balls(2, 24)[0], two_balls(2, 24)[0])
        assert not torch.equal(two_balls(2, 24)[0], two_balls(2, 24, seed=1)[0])


def test_a_film_strip_has_a_panel_for_each_picture_and_leaves_places_empty():
    strip = film_strip([[np.zeros((3, 4, 4)), torch.zeros(1, 1, 4, 4)], [None, torch.ones(1, 4, 4)]], ["a", "b"], ["x", "y"],
                       notes=[["", "n"], ["", "m"]])
    assert [len(axes.images) for axes in strip.axes] == [1, 1, 0, 1]
    assert [axes.get_title() for axes in strip.axes] == ["a", "b", "", ""]
    assert strip.axes[3].get_xlabel() == "m" and strip.axes[0].get_ylabel() == "x"


@pytest.mark.parametrize("matrices", [False, True])
def test_a_diagram_says_the_shapes_of_a_forward_pass_and_leaves_no_hook(matrices):
    network = BiPartitionNetwork(Classifier(5), matrices=matrices)
    before = [value.clone() for value in network.state_dict().values()]
    said = {text.get_text().split("\n")[-1] for text in network_diagram(network, torch.zeros(1, 3, 96, 64)).axes[0].texts}
    assert {"3×96×64", "64×24×16", "512×3×2", "5", "concatenated: 320×24×16", r"$\phi$: 1×96×64"} <= said
    assert ("$F$: 3×96×64" in said) == matrices
    assert not any(module._forward_hooks for module in network.modules())
    assert network.training and all(map(torch.equal, before, network.state_dict().values()))
    network_diagram(network, torch.zeros(1, 3, 32, 32))
