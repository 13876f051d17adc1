"""Updates (20) and (23): which part of the loss reaches whom, by which way."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator

import bipartition.learners
from bipartition.configuration import Configuration
from bipartition.cuts import random_crops
from bipartition.learners import JudgeLearner, build_learner, objective_parts, objective_weights
from bipartition.networks import Classifier, Partition
from bipartition.objectives import weighted_sum
from bipartition.rows import ROWS, TABLE_ROWS

CLASSES = 4


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 32, 32, generator=rng), torch.tensor([0, 1, 2, 3])


def learner_of(row, **settings):
    torch.manual_seed(0)
    settings = {"batch_norm": "frozen", "autoencoder_width": 8, "weights": "none"} | settings
    configuration = Configuration(row=row, dataset="cartoons", seed=0, size=32, **settings)
    return build_learner(configuration, Classifier(CLASSES), Accelerator(cpu=True))


def reached(module):
    return any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def loss_of(learner, batch, only):
    """L with all weights cut to 0 but those named."""
    image, labels = batch
    learner.network.train()
    partition = learner.network(image)
    parts = objective_parts(image, partition, labels, learner.row, learner.configuration)
    weights = {name: weight if name in only else 0.0 for name, weight in learner.weights.items()}
    return weighted_sum(parts, weights), partition


class TestWhatReachesTheClassifier:
    """Each of the three ways of (20), with the other two cut."""

    def test_through_the_feature_maps_and_phi(self, batch):
        learner = learner_of("chan_vese")
        loss_of(learner, batch, {"fidelity", "area", "variation"})[0].backward()
        assert reached(learner.network.classifier) and reached(learner.network.mask_decoder)

    @pytest.mark.parametrize("part", ["foreground", "background"])
    def test_through_the_scores_of_a_cut_picture(self, batch, part):
        learner = learner_of("chan_vese")
        # The way through phi is cut: the decoder's answer does not depend on the feature maps any more.
        for parameter in learner.network.mask_decoder.parameters():
            torch.nn.init.zeros_(parameter)
        loss_of(learner, batch, {part})[0].backward()
        assert reached(learner.network.classifier.body.fc) and reached(learner.network.classifier)

    def test_all_three_ways_are_closed_when_it_learns_from_clean_pictures_only(self, batch):
        learner = learner_of("mumford_shah", classifier_learns="clean")
        loss_of(learner, batch, set(learner.weights))[0].backward()
        assert not reached(learner.network.classifier)
        assert all(reached(getattr(learner.network, name))
                   for name in ("mask_decoder", "foreground_decoder", "background_decoder"))

    def test_ce_of_o_reaches_only_the_classifier(self, batch):
        learner = learner_of("mumford_shah")
        image, labels = batch
        F.cross_entropy(learner.network(image).image_logits, labels).backward()
        assert reached(learner.network.classifier)
        assert not any(reached(getattr(learner.network, name))
                       for name in ("mask_decoder", "foreground_decoder", "background_decoder"))


class TestTheStep:
    @pytest.mark.parametrize("row", ["chan_vese", "mumford_shah"])
    def test_one_backward_pass_gives_the_gradients_of_the_two_updates(self, batch, row):
        """Classifier: gradient of L + CE(o).  Decoders: gradient of L."""
        image, labels = batch
        learner = learner_of(row, optimiser="sgd", classifier_rate=0.1, decoder_rate=0.1, matrix_rate=0.1)
        loss, partition = loss_of(learner, batch, set(learner.weights))
        clean = F.cross_entropy(partition.image_logits, labels)
        named = dict(learner.network.named_parameters())
        of_loss = dict(zip(named, torch.autograd.grad(loss, list(named.values()), retain_graph=True), strict=True))
        of_clean = dict(zip(named, torch.autograd.grad(clean, list(named.values()), allow_unused=True), strict=True))
        before = {name: parameter.detach().clone() for name, parameter in named.items()}
        learner.step(image, labels, torch.Generator())
        for name, parameter in named.items():
            gradient = of_loss[name]
            if name.startswith("classifier"):
                gradient = gradient + of_clean[name]
            decayed = gradient + 1e-4 * before[name]
            torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * decayed, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("row", list(ROWS))
    def test_every_row_learns_from_a_batch(self, batch, row):
        learner = learner_of(row)
        image, labels = batch
        before = {name: value.clone() for name, value in learner.network.state_dict().items()}
        parts = learner.step(image, labels, torch.Generator().manual_seed(0))
        assert all(torch.isfinite(value) for value in parts.values())
        after = learner.network.state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in before)

    @pytest.mark.parametrize("batch_norm", ["shared", "separate", "frozen"])
    def test_a_classifier_left_alone_stays_as_it_was(self, batch, batch_norm):
        learner = learner_of("chan_vese", classifier_learns="nothing", batch_norm=batch_norm)
        learner.network.train()
        before = {name: value.clone() for name, value in learner.network.classifier.state_dict().items()}
        learner.step(*batch, torch.Generator())
        after = learner.network.classifier.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_repeated_steps_on_one_batch_lower_the_loss(self, batch):
        learner = learner_of("chan_vese", optimiser="adam", classifier_rate=1e-3, decoder_rate=1e-3)
        learner.network.train()
        losses = [learner.step(*batch, torch.Generator())["loss"].item() for _ in range(12)]
        assert losses[-1] < losses[0] - 0.1

    def test_each_part_of_the_network_learns_at_its_own_rate(self):
        rates = {"classifier_rate": 0.1, "decoder_rate": 0.2, "matrix_rate": 0.3}
        network = (learner := learner_of("mumford_shah", judge="snapshot", **rates)).network
        owners = {"classifier": [network.classifier], "decoder": [network.mask_decoder],
                  "matrix": [network.foreground_decoder, network.background_decoder]}
        assert set(learner.optimisers) == set(owners)
        for name, modules in owners.items():
            (group,) = learner.optimisers[name].param_groups
            assert group["lr"] == rates[f"{name}_rate"]
            assert {id(p) for p in group["params"]} == {id(p) for module in modules for p in module.parameters()}

    @pytest.mark.parametrize("judge", ["live", "snapshot"])
    def test_whoever_scores_the_halves_is_shown_the_same_part_of_both(self, batch, judge):
        learner, shown = learner_of("chan_vese", judge=judge, judge_crops=0.2), []
        scorer = learner.network.snapshot or learner.network.classifier
        scorer.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
        learner.step(*batch, torch.Generator().manual_seed(0))
        halves = torch.cat(shown[-2:] if judge == "live" else shown[-1:]).chunk(2)
        part = random_crops(batch[0], 0.2, torch.Generator().manual_seed(0))
        torch.testing.assert_close(halves[0] + halves[1], part)
        assert not torch.allclose(part, batch[0], atol=0.1) and halves[1].mean() > 0.1

    def test_a_network_without_a_judge_has_nothing_to_crop(self, batch):
        cropped, whole = (learner_of("chan_vese_only", judge_crops=share).step(*batch, torch.Generator())
                          for share in (0.2, 1.0))
        assert cropped == whole

    @pytest.mark.parametrize(("optimiser", "of_classifier", "of_decoder"), [
        ("sgd", "SGD", "SGD"), ("adam", "Adam", "Adam"), ("sgd+adam", "SGD", "Adam")])
    def test_the_kinds_of_optimisers(self, optimiser, of_classifier, of_decoder):
        kinds = {name: type(one).__name__ for name, one in learner_of("chan_vese", optimiser=optimiser).optimisers.items()}
        assert kinds == {"classifier": of_classifier, "decoder": of_decoder}


class TestTheJudgesTurn:
    def judge(self, batch_norm="frozen"):
        learner = learner_of("chan_vese", judge="turns", batch_norm=batch_norm, optimiser="adam", classifier_rate=1e-3)
        learner.network.train()
        return learner, JudgeLearner(learner)

    @pytest.mark.parametrize("batch_norm", ["shared", "separate", "frozen"])
    def test_only_the_judge_learns(self, batch, batch_norm):
        learner, judge = self.judge(batch_norm)
        before = {name: value.clone() for name, value in learner.network.state_dict().items()}
        judge.step(*batch, torch.Generator().manual_seed(0))
        moved = {name for name, value in learner.network.state_dict().items() if not torch.equal(before[name], value)}
        assert moved and all(name.startswith("snapshot.") for name in moved)

    def test_afterwards_it_holds_still_while_the_masks_learn(self, batch):
        learner, judge = self.judge()
        judge.step(*batch, torch.Generator().manual_seed(0))
        before = {name: value.clone() for name, value in learner.network.snapshot.state_dict().items()}
        learner.step(*batch, torch.Generator())
        assert all(torch.equal(before[name], value) for name, value in learner.network.snapshot.state_dict().items())

    def test_its_steps_lower_S_at_masks_that_stay(self, batch):
        learner, judge = self.judge()
        losses = [judge.step(*batch, torch.Generator().manual_seed(0)) for _ in range(12)]
        first, last = ({name: value.item() for name, value in losses[place].items()} for place in (0, -1))
        assert set(first) == {"judge_cuts", "judge_foreground", "judge_background"}
        assert sum(last.values()) < sum(first.values()) - 0.1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_warm_up_shows_the_asked_share_through_random_cuts(batch, share):
    learner = learner_of("classifier", warmup_cuts=share)
    seen = []
    learner.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    learner.step(*batch, torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], batch[0]) == (share == 0)


def test_a_network_that_is_not_built_is_an_error_and_not_another_network(monkeypatch):
    configuration = Configuration(row="chan_vese", dataset="cartoons", seed=0)
    unet = dataclasses.replace(ROWS["chan_vese"], network="unet")  # as if it had been added to READS alone
    monkeypatch.setattr(bipartition.learners, "ROWS", {"chan_vese": unet})
    with pytest.raises(ValueError, match="the network 'unet' of row 'chan_vese' is not built here; .*build_learner"):
        build_learner(configuration, Classifier(3), Accelerator(cpu=True))


class TestTheRows:
    def test_mumford_shah_differs_from_chan_vese_by_two_decoders_and_the_energy(self, batch):
        one, three = learner_of("chan_vese"), learner_of("mumford_shah")
        extra = dict(three.network.named_parameters()).keys() - dict(one.network.named_parameters()).keys()
        assert {name.split(".")[0] for name in extra} == {"foreground_decoder", "background_decoder"}
        assert type(one) is type(three) and one.weights == three.weights
        parts = [set(objective_parts(batch[0], learner.network(batch[0]), batch[1], learner.row, learner.configuration))
                 for learner in (one, three)]
        assert parts[1] - parts[0] == {"variation_foreground", "variation_background"} and parts[0] <= parts[1]

    def test_classification_only_is_s_and_the_regularisers(self, batch):
        for regularised, expected in ((True, {"area", "variation"}), (False, set())):
            learner = learner_of("classification_only", regularised=regularised)
            parts = objective_parts(batch[0], learner.network(batch[0]), batch[1], learner.row, learner.configuration)
            assert set(parts) == expected | {"foreground", "background"}

    def test_an_energy_without_a_part_is_an_error_and_not_another_energy(self, batch):
        learner, row = learner_of("chan_vese"), dataclasses.replace(ROWS["chan_vese"], energy="gaussian")
        with pytest.raises(ValueError, match="the energy 'gaussian' of row 'chan_vese' has no parts; .*ENERGIES.*weights"):
            objective_parts(batch[0], learner.network(batch[0]), batch[1], row, learner.configuration)

    def test_the_loss_only_rows_have_no_classifier(self, batch):
        for row in ("chan_vese_only", "mumford_shah_only"):
            learner = learner_of(row)
            assert not hasattr(learner.network, "classifier")
            parts = objective_parts(batch[0], learner.network(batch[0]), batch[1], learner.row, learner.configuration)
            assert "foreground" not in parts and "fidelity" in parts

    def test_alpha_scales_the_energy_and_its_regularisers_but_not_s(self):
        configuration = Configuration(row="chan_vese", dataset="cartoons", seed=0, alpha=3.0, lambda1=2.0, lambda2=0.5,
                                      lambda3=4.0, lambda4=5.0)
        weights = objective_weights(configuration)
        assert (weights["fidelity"], weights["area"], weights["variation"]) == (3.0, 6.0, 1.5)
        assert (weights["variation_foreground"], weights["variation_background"]) == (12.0, 15.0)
        assert weights["foreground"] == weights["background"] == 1.0

    def test_the_rows_of_table_1_carry_the_papers_values(self):
        assert TABLE_ROWS == ("casm", "classification_only", "chan_vese", "mumford_shah")
        means = [sum(ROWS[name].paper.values()) / 6 for name in TABLE_ROWS]
        assert means == pytest.approx([0.747, 0.452, 0.767, 0.775], abs=5e-4)


class TestTheWeightOfTheArea:
    def parts(self, reading):
        learner = learner_of("chan_vese", area_weight=reading)
        masks = torch.tensor([0.2, 0.4, 0.6, 0.8]).view(4, 1, 1, 1).expand(4, 1, 32, 32).clone().requires_grad_()
        image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        parts = objective_parts(image, Partition(masks), torch.zeros(4, dtype=torch.int64), learner.row, learner.configuration)
        return masks, parts["area"]

    def test_constant_is_the_area_as_printed(self):
        torch.testing.assert_close(self.parts("constant")[1], torch.tensor([0.8, 0.6, 0.4, 0.2]))

    def test_share_scales_it_by_the_mean_area_and_pushes_every_picture_alike(self):
        masks, area = self.parts("share")
        torch.testing.assert_close(area, torch.tensor([0.8, 0.6, 0.4, 0.2]) * 0.5)
        gradient, = torch.autograd.grad(area.sum(), masks)
        torch.testing.assert_close(gradient, torch.full_like(masks, -0.5 / 32**2))

    def test_root_pulls_like_share_at_the_mean_area_and_less_at_a_larger_one(self):
        masks, area = self.parts("root")
        torch.testing.assert_close(area, 2 * 0.5 * (0.5 * torch.tensor([0.8, 0.6, 0.4, 0.2])).sqrt())
        gradient, = torch.autograd.grad(area.sum(), masks)
        pull = -gradient[:, 0, 0, 0] * 32**2
        torch.testing.assert_close(pull, 0.5 * (0.5 / torch.tensor([0.8, 0.6, 0.4, 0.2])).sqrt())

    def test_root_has_a_finite_pull_at_an_empty_mask(self):
        learner = learner_of("chan_vese", area_weight="root")
        masks = torch.ones(2, 1, 8, 8).requires_grad_()
        parts = objective_parts(torch.rand(2, 3, 8, 8), Partition(masks), torch.zeros(2, dtype=torch.int64), learner.row,
                                learner.configuration)
        gradient, = torch.autograd.grad(parts["area"].sum(), masks)
        assert parts["area"].isfinite().all() and gradient.isfinite().all()
