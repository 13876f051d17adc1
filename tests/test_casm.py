"""The baseline: its loss on known answers, its snapshots, and who learns when."""

import dataclasses
import math

import pytest
import torch
from accelerate import Accelerator

from bipartition.casm import CasmLearner, CasmNetwork, hiding_loss
from bipartition.configuration import Configuration
from bipartition.networks import Classifier


@pytest.fixture
def learner():
    torch.manual_seed(0)
    configuration = Configuration(row="casm", dataset="cartoons", seed=0, size=32)
    return CasmLearner(CasmNetwork(Classifier(4)), configuration, Accelerator(cpu=True))


@pytest.fixture
def batch():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(4)


@pytest.mark.parametrize(("classes", "expected"), [(1000, 10.0), (20, 4.3368), (6, 2.5939), (2, 1.0034)])
def test_the_weight_of_the_area_follows_the_largest_entropy_unless_it_is_given(classes, expected):
    configuration = Configuration(row="casm", dataset="cartoons", seed=0, size=32)
    network, accelerator = CasmNetwork(Classifier(classes)), Accelerator(cpu=True)
    assert CasmLearner(network, configuration, accelerator).weight == pytest.approx(expected, abs=1e-4)
    for given in (0.0, 1.3):
        own = dataclasses.replace(configuration, casm_area=given)
        assert CasmLearner(network, own, accelerator).weight == given


class TestHidingLoss:
    def test_a_puzzled_classifier_has_the_lowest_first_term(self):
        labels, right = torch.tensor([0]), torch.tensor([True])
        mask = torch.full((1, 1, 2, 2), 0.3)
        puzzled, _ = hiding_loss(torch.zeros(1, 4), mask, labels, right)
        sure, _ = hiding_loss(torch.tensor([[50.0, 0, 0, 0]]), mask, labels, right)
        assert puzzled.item() == pytest.approx(-math.log(4)) and sure.item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(("share", "reward"), [(0.25, 0.75), (1.0, 0.0)])
    def test_a_wrong_answer_is_worth_the_more_the_less_was_removed(self, share, reward):
        _, second = hiding_loss(torch.tensor([[0.0, 1.0]]), torch.full((1, 1, 2, 2), share), torch.tensor([0]),
                                torch.tensor([True]))
        assert second.item() == pytest.approx(reward)

    def test_a_right_answer_is_worth_nothing(self):
        _, second = hiding_loss(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 1, 2, 2), torch.tensor([0]), torch.tensor([True]))
        assert second.item() == 0

    def test_pictures_that_were_wrong_before_do_not_count(self):
        first, second = hiding_loss(torch.zeros(2, 4), torch.full((2, 1, 2, 2), 0.5), torch.tensor([3, 3]),
                                    torch.tensor([False, True]))
        assert first.item() == pytest.approx(-math.log(4) / 2) and second.item() == pytest.approx(0.25)


class TestSnapshots:
    def test_the_first_is_kept_at_once_and_then_one_every_hundred_steps(self, learner, batch):
        learner.step(*batch, torch.Generator().manual_seed(0))
        assert len(learner.network.snapshots) == 1
        for before in (1, 99):
            learner.network.steps = before
            learner.step(*batch, torch.Generator().manual_seed(0))
        assert len(learner.network.snapshots) == 1 and learner.network.steps == 100
        learner.step(*batch, torch.Generator().manual_seed(0))
        assert len(learner.network.snapshots) == 2

    def test_at_most_thirty_are_kept_and_a_new_one_takes_a_drawn_place(self, learner):
        rng = torch.Generator().manual_seed(0)
        for index in range(32):
            with torch.no_grad():
                learner.network.classifier.body.fc.bias.fill_(index)
            learner.network.keep_snapshot(rng)
        kept = [int(snapshot.body.fc.bias[0]) for snapshot in learner.network.snapshots]
        expected, again = list(range(30)), torch.Generator().manual_seed(0)
        for index in (30, 31):
            expected[int(torch.randint(30, (), generator=again))] = index
        assert kept == expected

    def test_they_come_back_with_the_state(self, learner):
        learner.network.keep_snapshot(torch.Generator())
        learner.network.steps = 7
        state = learner.network.state_dict()
        other = CasmNetwork(Classifier(4))
        other.load_state_dict(state)
        assert not other.snapshots[0].training and other.steps == 7
        torch.testing.assert_close(other.snapshots[0].body.conv1.weight, learner.network.snapshots[0].body.conv1.weight)


class TestTheStep:
    def draws(self, live):
        """A generator whose first draw decides for the live classifier or an older one."""
        seed = next(s for s in range(100) if (torch.rand((), generator=torch.Generator().manual_seed(s)) < 0.5) == live)
        return torch.Generator().manual_seed(seed)

    @pytest.mark.parametrize("live", [True, False])
    def test_the_classifier_sees_removed_pictures_only_when_it_was_the_one_asked(self, learner, batch, live):
        parts = learner.step(*batch, self.draws(live))
        assert ("removed" in parts) == live

    def test_decoder_and_classifier_both_move_and_the_snapshots_do_not(self, learner, batch):
        network = learner.network
        network.keep_snapshot(torch.Generator())
        before = {name: value.clone() for name, value in network.state_dict().items()}
        learner.network.steps = 1
        for live in (True, False):
            learner.step(*batch, self.draws(live))
        changed = {name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
        assert {"classifier", "decoder"} <= changed
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items()
                   if name.startswith("snapshots"))

    def test_an_older_classifier_answers_by_the_statistics_that_it_had_learnt(self, learner, batch):
        learner.network.keep_snapshot(torch.Generator())
        learner.network.train()
        older, image = learner.network.snapshots[0], learner.network.classifier.normalise(batch[0])
        alone, together = older.read(image[:1])[0], older.read(torch.cat([image[:1], 0.1 * image[1:]]))[0][:1]
        torch.testing.assert_close(alone, together)

    def test_phi_is_the_background(self, learner, batch):
        network = learner.network.eval()
        with torch.no_grad():
            network.decoder.combine.bias.fill_(50.0)
        assert network.segment(batch[0]).background_mask.max() == 0
