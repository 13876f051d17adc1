"""The loop: pre-processing, schedule of randomness, exact resume, what a finished run leaves, and that it learns."""

import contextlib
import dataclasses
import os
import re
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torchvision.models.resnet import BasicBlock, ResNet

from bipartition import epochs, files, learners, prediction, runs, training
from bipartition.configuration import Configuration
from bipartition.datasets.prepare import Prepared, Split, prepare
from bipartition.evaluation import evaluate
from bipartition.networks import Classifier

FILES = ("history.csv", "masks.npy", "metrics.json")


def tiny(**settings):
    settings = {"row": "chan_vese", "epochs": 2, "warmup_epochs": 1, "batch_size": 8, "warmup_batch_size": 8,
                "optimiser": "adam",
                "classifier_rate": 1e-3, "decoder_rate": 1e-3, "weights": "none", "autoencoder_width": 4} | settings
    return Configuration(dataset="cartoons", seed=settings.pop("seed", 0), size=32, **settings)


@pytest.fixture(scope="module")
def cartoons(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIPARTITION_DATA", str(tmp_path_factory.mktemp("data")))
        yield prepare("cartoons", 32, {"train": 24, "val": 12})


def stopped(*_):
    raise KeyboardInterrupt


def train(configuration, prepared, folder, **options):
    lines = []
    training.train_row(configuration, prepared, folder / configuration.row / "seed0", profile="test", report=lines.append,
                       **options)
    return folder / configuration.row / "seed0", lines


class TestUnitRange:
    def test_one_minimum_and_maximum_for_all_channels_of_a_picture(self):
        picture = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
        picture[0, 0, 0, 0], picture[0, 1], picture[0, 2] = 50, 100, 150
        scaled = epochs.unit_range(picture)
        assert scaled[0, 0, 0, 0].item() == pytest.approx(50 / 150)
        assert scaled[0, 1].unique().tolist() == pytest.approx([100 / 150])
        assert (scaled.min(), scaled.max()) == (0, 1)

    def test_pictures_are_scaled_apart(self):
        pictures = torch.stack([torch.arange(12).view(3, 2, 2), 100 + 10 * torch.arange(12).view(3, 2, 2)]).to(torch.uint8)
        scaled = epochs.unit_range(pictures)
        torch.testing.assert_close(scaled[0], scaled[1])

    def test_a_picture_of_one_value_becomes_black_not_nan(self):
        assert epochs.unit_range(torch.full((1, 3, 4, 4), 200, dtype=torch.uint8)).abs().max() == 0


class TestSchedule:
    def test_it_rises_over_a_tenth_and_falls_to_nothing(self):
        rates = [epochs.schedule(100)(step) for step in range(101)]
        assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] > 0.97 and rates[100] == 0
        assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)

    def test_a_run_of_one_step_learns_at_the_full_rate(self):
        assert epochs.schedule(1)(0) == 1


class TestGenerator:
    def test_the_same_seed_purpose_and_epoch_draw_the_same(self):
        draws = [torch.rand(3, generator=epochs.generator(1, "batches", 2)) for _ in range(2)]
        assert torch.equal(*draws)

    def test_another_seed_purpose_or_epoch_draws_something_else(self):
        drawn = {tuple(torch.rand(3, generator=epochs.generator(*key)).tolist())
                 for key in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))}
        assert len(drawn) == 4


class OneMap(Classifier):
    """A classifier that answers with a given last feature map, all of whose channels speak for class 1 alone."""

    def __init__(self, feature):
        super().__init__(2)
        self.feature = feature
        with torch.no_grad():
            self.body.fc.weight[0], self.body.fc.weight[1] = -1, 1

    def forward(self, image):
        return torch.tensor([[0.0, 1.0]]).expand(len(image), 2), (self.feature.expand(-1, 512, -1, -1),)


class TestActivationMask:
    pictures = torch.zeros(1, 3, 8, 8)

    def test_a_fifth_of_the_maximum_is_one_half_and_the_maximum_is_one(self):
        feature = torch.tensor([0.1, 0.2, 0.4, 1.0]).view(1, 1, 2, 2)
        mask, _ = prediction.activation_mask(OneMap(7 * feature), torch.zeros(1, 3, 2, 2))
        torch.testing.assert_close(mask[0, 0], torch.tensor([[0.25, 0.5], [0.625, 1]]))

    def test_it_is_brought_to_the_pictures_size_bilinearly(self):
        feature = torch.tensor([0.0, 0.4, 0.0, 0.4]).view(1, 1, 2, 2)
        mask, logits = prediction.activation_mask(OneMap(feature), self.pictures)
        evidence = torch.tensor([0, 0, 1, 3, 5, 7, 8, 8]) / 8
        steps = torch.where(evidence < 0.2, evidence / 0.4, 0.5 + (evidence - 0.2) / 1.6)
        torch.testing.assert_close(mask, steps.expand(1, 1, 8, 8))
        assert logits.shape == (1, 2)

    def test_without_evidence_for_the_predicted_class_there_is_no_foreground(self):
        assert prediction.activation_mask(OneMap(-torch.ones(1, 1, 2, 2)), self.pictures)[0].abs().max() == 0


class TestTrainRow:
    @pytest.fixture(autouse=True)
    def shallow(self, monkeypatch):
        """This is about the loop: with one block in place of two in each stage there is half as much to learn and to write.

        A whole ResNet-18, its weights read from a file, goes through it in `test_paper_profile`.
        """
        monkeypatch.setattr("torchvision.models.resnet18", lambda: ResNet(BasicBlock, [1, 1, 1, 1]))

    def test_a_finished_run_leaves_what_the_contract_lists(self, cartoons, tmp_path):
        folder, lines = train(tiny(), cartoons, tmp_path)
        assert {path.name for path in folder.iterdir()} == {*FILES, "config.json", "model.safetensors"}
        masks = np.load(folder / "masks.npy")
        assert masks.shape == (12, 32, 32) and masks.dtype == np.uint8
        history = (folder / "history.csv").read_text().splitlines()
        assert len(history) == 3 and history[0].startswith("epoch,loss,fidelity,area,variation,foreground,background,clean")
        config = files.read_json(folder / "config.json")
        assert config["made_by"] == runs.made_by(tiny(), cartoons.checksum) and config["minutes"] > 0
        metrics = files.read_json(folder / "metrics.json")
        assert set(metrics) >= {"accuracy", "mean_iou", "classes", "area", "grey", "collapsed", "per_image"}
        assert [line.split()[0] for line in lines] == ["cartoons/classifier/seed0"] + ["cartoons/chan_vese/seed0"] * 2

    @pytest.mark.parametrize("row", ["chan_vese", "casm"])
    def test_classifiers_of_earlier_are_neither_counted_nor_kept_with_the_result(self, cartoons, tmp_path, row):
        folder, _ = train(tiny(row=row, judge="snapshot"), cartoons, tmp_path)
        stored = load_file(folder / "model.safetensors")
        assert not [name for name in stored if name.startswith("snapshot")]
        learnt = sum(value.numel() for name, value in stored.items()
                     if not name.endswith(("running_mean", "running_var", "num_batches_tracked", "steps")))
        assert files.read_json(folder / "config.json")["parameters"] == learnt

    def test_a_judge_with_turns_learns_after_each_of_the_first_epochs_and_only_then(self, cartoons, tmp_path):
        folder, _ = train(tiny(judge="turns", judge_turns=1, epochs=3), cartoons, tmp_path)
        history = pd.read_csv(folder / "history.csv")
        for name in ("judge_cuts", "judge_foreground", "judge_background"):
            assert history[name].notna().tolist() == [False, True, False]
        assert not [name for name in load_file(folder / "model.safetensors") if name.startswith("snapshot")]

    def test_turns_make_another_result_than_a_judge_that_stays(self, cartoons, tmp_path):
        masks = [np.load(train(tiny(judge=judge, judge_turns=1), cartoons, tmp_path / judge)[0] / "masks.npy")
                 for judge in ("snapshot", "turns")]
        assert not np.array_equal(*masks)

    def test_a_row_without_a_judge_trains_nothing_anew_for_its_turns(self, cartoons, tmp_path):
        folder, _ = train(tiny(row="casm", judge="turns", judge_turns=1), cartoons, tmp_path)
        before = (folder / "metrics.json").stat().st_mtime_ns
        train(tiny(row="casm", judge="turns", judge_turns=2), cartoons, tmp_path)
        assert (folder / "metrics.json").stat().st_mtime_ns == before

    def test_the_warm_up_leaves_its_activation_maps_with_their_numbers(self, cartoons, tmp_path):
        train(tiny(), cartoons, tmp_path)
        folder = tmp_path / "classifier" / "seed0"
        masks, metrics = np.load(folder / "masks.npy"), files.read_json(folder / "metrics.json")
        assert masks.shape == (12, 32, 32) and masks.dtype == np.uint8 and masks.max() > 0
        expected = evaluate(masks, cartoons.split("val"), cartoons.classes)
        assert {name: metrics[name] for name in expected} == expected and 0 <= metrics["accuracy"] <= 1
        assert (folder / "history.csv").read_text().startswith("epoch,loss,accuracy,val_accuracy\n")

    def test_a_second_call_does_nothing(self, cartoons, tmp_path):
        folder, _ = train(tiny(), cartoons, tmp_path)
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        _, lines = train(tiny(), cartoons, tmp_path)
        assert lines == [f"{folder}: finished already"]
        assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    def test_a_finished_run_is_used_where_nothing_can_be_written(self, cartoons, tmp_path, monkeypatch):
        folder, _ = train(tiny(), cartoons, tmp_path)

        def refused(work):
            raise PermissionError(work)

        monkeypatch.setattr(files, "alone", refused)
        assert train(tiny(), cartoons, tmp_path)[1] == [f"{folder}: finished already"]

    def test_a_warm_up_without_its_model_is_trained_again_for_the_next_row(self, cartoons, tmp_path):
        train(tiny(), cartoons, tmp_path)
        model = tmp_path / "classifier" / "seed0" / "model.safetensors"
        before = model.read_bytes()
        model.unlink()
        _, lines = train(tiny(row="casm"), cartoons, tmp_path)
        assert lines[0].startswith("cartoons/classifier/seed0") and model.read_bytes() == before

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", None], ids=["empty", "text", "cut short"])
    def test_a_warm_up_whose_model_is_damaged_is_named_with_the_way_out(self, cartoons, tmp_path, content):
        train(tiny(), cartoons, tmp_path)
        model = tmp_path / "classifier" / "seed0" / "model.safetensors"
        model.write_bytes(model.read_bytes()[:1000] if content is None else content)
        with pytest.raises(ValueError, match="model.safetensors holds no network, or is damaged .*; delete it and "):
            train(tiny(row="casm"), cartoons, tmp_path)

    def test_a_run_that_has_lost_its_masks_is_trained_again(self, cartoons, tmp_path):
        folder, _ = train(tiny(), cartoons, tmp_path)
        before = (folder / "masks.npy").read_bytes()
        (folder / "masks.npy").unlink()
        train(tiny(), cartoons, tmp_path)
        assert (folder / "masks.npy").read_bytes() == before

    def test_epochs_of_other_code_are_named_and_remembered(self, cartoons, tmp_path, monkeypatch):
        now = runs.method_code()
        with monkeypatch.context() as patch:
            patch.setattr(training, "CODE", now | {"energies.py": "other"})
            patch.setattr(training, "_finish", stopped)
            with pytest.raises(KeyboardInterrupt):
                train(tiny(warmup_epochs=0), cartoons, tmp_path)
        folder, lines = train(tiny(warmup_epochs=0), cartoons, tmp_path)
        assert any("goes on from epochs of other code (energies.py)" in line for line in lines)
        assert runs.changed_code(folder, now) == ["energies.py"]

    def test_a_mini_batch_that_processes_would_share_unequally_is_refused(self, cartoons):
        pictures = len(cartoons.split("train").labels)
        with pytest.raises(ValueError, match=f"{pictures} pictures, fewer than batch_size = 35, cannot be shared by 5 "):
            training._check(tiny(batch_size=35), cartoons, 5)

    def test_another_configuration_trains_anew(self, cartoons, tmp_path):
        train(tiny(), cartoons, tmp_path)
        folder, lines = train(tiny(lambda1=2.0), cartoons, tmp_path)
        assert len(lines) == 4 and "replaces a run" in lines[1]
        assert files.read_json(folder / "config.json")["configuration"]["lambda1"] == 2.0

    def test_a_setting_that_the_row_does_not_read_trains_nothing(self, cartoons, tmp_path):
        folder, _ = train(tiny(casm_area=1.0), cartoons, tmp_path)
        before = (folder / "metrics.json").stat().st_mtime_ns
        train(tiny(casm_area=2.0), cartoons, tmp_path)
        assert (folder / "metrics.json").stat().st_mtime_ns == before
        train(tiny(casm_area=2.0, lambda1=0.5), cartoons, tmp_path)
        assert (folder / "metrics.json").stat().st_mtime_ns > before

    def test_an_interrupted_retraining_does_not_look_finished_with_the_old_numbers(self, cartoons, tmp_path, monkeypatch):
        folder, _ = train(tiny(), cartoons, tmp_path)

        def killed(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(training, "train_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(lambda1=2.0), cartoons, tmp_path)
        assert not runs.is_finished(folder, runs.made_by(tiny(lambda1=2.0), cartoons.checksum))

    def test_two_processes_train_in_one_folder_one_after_the_other(self, cartoons, tmp_path, capsys):
        folder = tmp_path / "chan_vese" / "seed0"
        second = threading.Thread(target=train, args=(tiny(warmup_epochs=0), cartoons, tmp_path))
        with files.alone(folder):
            second.start()
            second.join(timeout=3)
            assert second.is_alive() and not folder.exists()
        second.join()
        assert f"process {os.getpid()} is at work on {folder}: waiting" in capsys.readouterr().out
        assert (folder / "metrics.json").is_file()

    def test_what_a_process_left_that_was_killed_while_it_wrote_is_removed(self, cartoons, tmp_path):
        folder = tmp_path / "chan_vese" / "seed0"
        folder.mkdir(parents=True)
        (folder / ".checkpoint.pt.x1y2z3_4.pt").write_bytes(b"half")
        train(tiny(warmup_epochs=0), cartoons, tmp_path)
        assert not list(folder.glob(".*"))

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", None], ids=["empty", "text", "cut short"])
    def test_a_damaged_checkpoint_is_named_with_the_way_out(self, cartoons, tmp_path, monkeypatch, content):
        path = tmp_path / "chan_vese" / "seed0" / "checkpoint.pt"
        with monkeypatch.context() as patch:
            patch.setattr(training, "_finish", lambda *state: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                train(tiny(warmup_epochs=0), cartoons, tmp_path)
        path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
        with pytest.raises(ValueError, match="checkpoint.pt is not a checkpoint, or a damaged one; delete it, and the"):
            train(tiny(warmup_epochs=0), cartoons, tmp_path)
        torch.save({"of": "something else"}, path)  # which begins anew without a word, as the state of another run does
        folder, _ = train(tiny(warmup_epochs=0), cartoons, tmp_path)
        assert (folder / "metrics.json").is_file()

    def test_a_weights_file_in_the_home_folder_is_found(self, cartoons, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        torch.save(Classifier(1000).body.state_dict(), tmp_path / "mine.pth")
        monkeypatch.setenv("RESNET18_WEIGHTS", "~/mine.pth")
        train(tiny(row="classifier", weights="imagenet", epochs=1), cartoons, tmp_path / "runs")

    def test_a_run_starts_from_the_weights_that_were_fetched(self, cartoons, tmp_path, monkeypatch):
        torch.save({name: torch.zeros_like(value) for name, value in Classifier(1000).body.state_dict().items()},
                   tmp_path / "zeros.pth")
        monkeypatch.delenv("RESNET18_WEIGHTS", raising=False)
        monkeypatch.setattr(training, "imagenet_weights", lambda: tmp_path / "zeros.pth")
        learner = training.fresh_learner(tiny(row="classifier", weights="imagenet"), cartoons, None, Accelerator(cpu=True))
        assert not learner.network.body.conv1.weight.any() and learner.network.body.fc.weight.any()

    def test_first_weights_are_drawn_without_a_look_at_any_card(self, cartoons, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: pytest.fail("a card was asked for its state"))
        training.fresh_learner(tiny(row="classifier", weights="none"), cartoons, None, Accelerator(cpu=True))

    @pytest.mark.parametrize(("row", "settings"), [("chan_vese", {}), ("casm", {}),
                                                  ("chan_vese", {"judge": "turns", "judge_crops": 0.3})])
    def test_a_run_that_was_killed_and_resumed_gives_the_same_bits(self, cartoons, tmp_path, row, settings, monkeypatch):
        configuration = tiny(row=row, epochs=3, **({"judge_turns": 2} | settings))
        whole, _ = train(configuration, cartoons, tmp_path / "whole")

        save = training._save_checkpoint

        def killed_before_the_second(folder, *state):
            if "classifier" not in folder.parts and len(state[3]) == 2:
                raise KeyboardInterrupt
            save(folder, *state)

        with monkeypatch.context() as patch:
            patch.setattr(training, "_save_checkpoint", killed_before_the_second)
            with pytest.raises(KeyboardInterrupt):
                train(configuration, cartoons, tmp_path / "killed")
        assert not (tmp_path / "killed" / row / "seed0" / "metrics.json").exists()
        resumed, lines = train(configuration, cartoons, tmp_path / "killed")
        assert [re.search(r"epoch (\d)/3", line)[1] for line in lines if f"/{row}/" in line] == ["2", "3"]
        for name in FILES:
            assert (resumed / name).read_bytes() == (whole / name).read_bytes()

    def test_a_folder_that_jupyter_left_in_a_run_does_not_stop_it(self, cartoons, tmp_path):
        left = tmp_path / "chan_vese" / "seed0" / ".ipynb_checkpoints"
        left.mkdir(parents=True)
        left.with_name(".history.csv.x1_b2c3d.csv").write_text("half")
        folder, _ = train(tiny(warmup_epochs=0, epochs=1), cartoons, tmp_path)
        assert left.is_dir() and [path.name for path in folder.glob(".*")] == [left.name]

    @pytest.mark.parametrize(("now", "kind"), [({"lambda1": 3.0}, training.CHECKPOINT), ({}, training.CHECKPOINT + 1)])
    def test_a_checkpoint_of_another_configuration_or_kind_is_not_resumed(self, cartoons, tmp_path, monkeypatch, now, kind):
        def killed(folder, *state):
            if "classifier" in folder.parts:
                finish(folder, *state)
            else:
                raise KeyboardInterrupt

        finish = training._finish
        with monkeypatch.context() as patch:
            patch.setattr(training, "_finish", killed)
            with pytest.raises(KeyboardInterrupt):
                train(tiny(), cartoons, tmp_path)
        assert (tmp_path / "chan_vese" / "seed0" / "checkpoint.pt").exists()
        monkeypatch.setattr(training, "CHECKPOINT", kind)
        _, lines = train(tiny(**now), cartoons, tmp_path)
        assert len([line for line in lines if "/chan_vese/" in line]) == 2

    def test_pictures_of_another_size_are_refused_before_anything_is_written(self, cartoons, tmp_path):
        with pytest.raises(ValueError, match="asks for pictures of size 64, but .* holds size 32"):
            train(dataclasses.replace(tiny(), size=64), cartoons, tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(("row", "settings", "refused"), [
        ("chan_vese", {}, True), ("chan_vese", {"batch_norm": "frozen"}, False), ("chan_vese_only", {}, False),
        ("casm", {"batch_norm": "frozen"}, True), ("classifier", {"batch_norm": "frozen"}, True)])
    def test_one_small_picture_is_refused_where_batch_norm_has_one_number(self, cartoons, tmp_path, row, settings, refused):
        one = tiny(row=row, batch_size=1, warmup_epochs=0, epochs=1, **settings)
        with pytest.raises(ValueError, match="batch_size = 1 leaves") if refused else contextlib.nullcontext():
            train(one, cartoons, tmp_path)

    @pytest.mark.parametrize(("poolings", "refused"), [(4, True), (3, False)])
    def test_so_is_one_that_an_auto_encoder_pools_to_a_pixel(self, tmp_path, monkeypatch, poolings, refused):
        monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path))
        tiniest = prepare("cartoons", 16, {"train": 2, "val": 2})
        one = Configuration(row="chan_vese_only", dataset="cartoons", seed=0, size=16, epochs=1, batch_size=1,
                            autoencoder_width=4, autoencoder_poolings=poolings)
        with pytest.raises(ValueError, match="batch_size = 1 leaves .* size 16") if refused else contextlib.nullcontext():
            train(one, tiniest, tmp_path)

    def test_so_is_a_training_part_of_one_picture(self, tmp_path, monkeypatch):
        monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path))
        with pytest.raises(ValueError, match="batch_size = 8 leaves .* from 1 of 1 pictures at a time"):
            train(dataclasses.replace(tiny(row="chan_vese_only", autoencoder_poolings=4), size=16),
                  prepare("cartoons", 16, {"train": 1, "val": 1}), tmp_path)

    def test_two_processes_have_one_picture_each_of_two(self, cartoons):
        with pytest.raises(ValueError, match="batch_size = 2 leaves .* write 4 or more"):
            training._check(tiny(batch_size=2), cartoons, processes=2)

    def test_a_wrong_weights_file_is_named_before_training(self, cartoons, tmp_path, monkeypatch):
        (tmp_path / "wrong.pth").write_bytes(b"nothing of the kind")
        monkeypatch.setenv("RESNET18_WEIGHTS", str(tmp_path / "wrong.pth"))
        with pytest.raises(ValueError, match="wrong.pth is not a PyTorch state dict"):
            train(tiny(weights="imagenet"), cartoons, tmp_path / "runs")

    def test_a_missing_weights_file_is_named(self, cartoons, tmp_path, monkeypatch):
        monkeypatch.setenv("RESNET18_WEIGHTS", str(tmp_path / "nowhere.pth"))
        with pytest.raises(ValueError, match=r"RESNET18_WEIGHTS = .*nowhere.pth': there is no such file"):
            train(tiny(weights="imagenet"), cartoons, tmp_path / "runs")

    def test_a_loss_that_is_not_finite_stops_the_run_with_its_name(self, cartoons, tmp_path):
        with pytest.raises(FloatingPointError, match=r"epoch 1, step \d+: .*loss nan.* not finite; .*no state was kept yet"):
            train(tiny(classifier_rate=1e30, optimiser="sgd", warmup_epochs=0), cartoons, tmp_path)
        assert not (tmp_path / "chan_vese" / "seed0" / "metrics.json").exists()

    @pytest.mark.parametrize("bad", [0, 1])
    def test_the_step_the_part_and_the_pictures_of_a_broken_loss_are_named(self, cartoons, tmp_path, monkeypatch, bad):
        """A picture that breaks the second epoch: named with its mini-batch, and the state of the first is kept."""
        train_split = cartoons.split("train")
        step, seen, broken = learners.PartitionLearner.step, [], len(train_split.ids) // tiny().batch_size + bad

        def spoilt(self, image, labels, rng):
            shown = step(self, image, labels, rng)
            seen.append(labels)
            return shown | ({"fidelity": shown["fidelity"] * float("inf")} if len(seen) == broken + 1 else {})

        monkeypatch.setattr(learners.PartitionLearner, "step", spoilt)
        with pytest.raises(FloatingPointError) as caught:
            train(tiny(), cartoons, tmp_path)
        message, folder = str(caught.value), tmp_path / "chan_vese" / "seed0"
        assert f"epoch 2, step {bad + 1}: fidelity inf, not finite" in message
        named = message.partition("; pictures ")[2].partition(";")[0].split(", ")
        known = dict(zip(map(str, train_split.ids), train_split.labels.tolist(), strict=True))
        assert [known[name] for name in named] == seen[broken].tolist()
        assert f"the state after epoch 1 is kept in {folder / 'checkpoint.pt'}" in message
        assert (folder / "checkpoint.pt").is_file()

    def test_weights_that_the_last_step_broke_are_named_and_not_kept(self, cartoons, tmp_path, monkeypatch):
        step, count = learners.PartitionLearner.step, [0]
        last = 2 * (len(cartoons.split("train").ids) // tiny().batch_size)

        def spoilt(self, image, labels, rng):
            shown = step(self, image, labels, rng)
            count[0] += 1
            if count[0] == last:
                self.network.classifier.body.conv1.weight.data[0] = float("nan")
            return shown

        monkeypatch.setattr(learners.PartitionLearner, "step", spoilt)
        with pytest.raises(FloatingPointError, match=r"epoch 2: .*left 1 of \d+ weights not finite, classifier.body.conv1"):
            train(tiny(warmup_epochs=0), cartoons, tmp_path)
        state = torch.load(tmp_path / "chan_vese" / "seed0" / "checkpoint.pt", weights_only=True)
        assert len(state["history"]) == 1 and torch.isfinite(state["network"]["classifier.body.conv1.weight"]).all()

    @pytest.mark.parametrize(("warmup_epochs", "said"), [
        (1, "classifier on cartoons: .* with warmup_batch_size = 8 beside .*; write warmup_batch_size: 4 in the profile"),
        (0, "chan_vese on cartoons: .* with batch_size = 8 beside .*; write batch_size: 4 in the profile"),
    ])
    def test_too_little_memory_is_said_with_a_batch_that_is_smaller(self, cartoons, tmp_path, monkeypatch, warmup_epochs, said):
        def full(*arguments, **options):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

        monkeypatch.setattr(learners.F, "cross_entropy", full)
        with pytest.raises(RuntimeError, match=said):
            train(tiny(warmup_epochs=warmup_epochs), cartoons, tmp_path)

    @pytest.mark.parametrize(("said", "raised"), [
        ("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 9 bytes",
         "the memory of cpu .* does not hold pictures of 32 x 32 with batch_size = 8"), ("a bug", "^a bug$")])
    def test_so_is_that_of_a_cpu_which_pytorch_reports_in_another_way(self, cartoons, tmp_path, monkeypatch, said, raised):
        def full(*arguments, **options):
            raise RuntimeError(said)

        monkeypatch.setattr(learners.F, "cross_entropy", full)
        with pytest.raises(RuntimeError, match=raised):
            train(tiny(warmup_epochs=0), cartoons, tmp_path)

    @pytest.mark.parametrize(("row", "settings", "rates"), [
        ("chan_vese", {}, "warmup_rate"), ("chan_vese", {"warmup_epochs": 0}, "classifier_rate or decoder_rate"),
        ("mumford_shah", {"warmup_epochs": 0}, "classifier_rate or decoder_rate or matrix_rate"),
        ("chan_vese_only", {}, "decoder_rate")])
    def test_the_rates_that_a_broken_run_reads_are_named(self, cartoons, tmp_path, monkeypatch, row, settings, rates):
        monkeypatch.setattr(epochs, "unit_range", lambda batch: torch.full(batch.shape, torch.nan))
        with pytest.raises(FloatingPointError, match=f"; try a smaller {rates}; no state"):
            train(tiny(row=row, **settings), cartoons, tmp_path)

    def test_a_run_of_other_settings_is_not_replaced_in_silence(self, cartoons, tmp_path):
        _, first = train(tiny(warmup_epochs=0, epochs=1), cartoons, tmp_path)
        folder, second = train(tiny(warmup_epochs=0, epochs=1, alpha=3.0), cartoons, tmp_path)
        assert second[0] == f"{folder}: replaces a run that other settings, pictures, first weights or code have made"
        assert len(second) == len(first) + 1

    def test_a_card_that_cannot_be_used_is_named_where_training_begins(self, cartoons, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "unused_card", lambda: "there is a card")
        _, lines = train(tiny(warmup_epochs=0, epochs=1), cartoons, tmp_path)
        assert lines[0] == "there is a card"

    @pytest.mark.parametrize(("area", "warned"), [(0.0, True), (1.0, True), (0.3, False)])
    def test_an_epoch_whose_masks_are_all_or_nothing_is_called_collapsed(self, cartoons, tmp_path, monkeypatch, area, warned):
        def masks(learner, images, accelerator):
            made = np.zeros(images[:, 0].shape, np.uint8)
            made[:, :round(area * made.shape[1])] = 255
            return made, None

        monkeypatch.setattr(training, "predict", masks)
        folder, lines = train(tiny(warmup_epochs=0), cartoons, tmp_path)
        assert [("COLLAPSED" in line) for line in lines] == [warned, warned]
        assert pd.read_csv(folder / "history.csv")["val_collapsed"].tolist() == [float(warned)] * 2
        assert files.read_json(folder / "metrics.json")["collapsed"] == float(warned)

    def test_row_and_warm_up_crop_as_each_is_told_to(self, cartoons, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr("bipartition.epochs.random_crops", lambda image, smallest, rng: seen.append(smallest) or image)
        train(tiny(row="chan_vese", warmup_crops=0.4), cartoons, tmp_path / "runs" / "row" / "seed0")
        assert set(seen) == {0.4}
        seen.clear()
        train(tiny(row="chan_vese", crops=0.7), cartoons, tmp_path / "other" / "row" / "seed0")
        assert set(seen) == {0.7}

    def test_the_warm_up_is_trained_once_for_all_rows(self, cartoons, tmp_path):
        train(tiny(), cartoons, tmp_path)
        _, lines = train(tiny(row="classification_only", lambda1=3.0), cartoons, tmp_path)
        assert "finished already" in lines[0] and len(lines) == 3


def discs(count, seed):
    """Red or blue discs on grey noise: pictures, labels and truth."""
    rng = np.random.default_rng(seed)
    images = rng.integers(70, 180, (count, 1, 32, 32), np.uint8).repeat(3, axis=1)
    labels = np.arange(count) % 2
    y, x = np.mgrid[:32, :32]
    masks = np.zeros((count, 32, 32), np.uint8)
    for image, mask, label in zip(images, masks, labels, strict=True):
        cx, cy, radius = rng.uniform(9, 23), rng.uniform(9, 23), rng.uniform(6, 9)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius ** 2
        image[:, inside] = np.array([[210], [60], [60]] if label else [[60], [60], [210]])
        mask[inside] = label + 1
    return Split(images=images, labels=labels, truth_codes=labels + 1, masks=masks, ids=[f"{seed}-{i}" for i in range(count)])


class Discs(Prepared):
    """A data set that is already in memory."""

    def split(self, split):
        return discs(384, 0) if split == "train" else discs(60, 1)


@pytest.mark.slow(seconds=45)
def test_the_method_finds_red_and_blue_discs_that_it_only_knows_by_name(tmp_path):
    fields = {field.name: None for field in dataclasses.fields(Prepared)}
    prepared = Discs(**fields | {"name": "discs", "classes": ("blue", "red"), "all_classes": ("blue", "red"), "size": 32,
                                 "checksum": "discs", "folder": tmp_path})
    everything = np.mean(discs(60, 1).masks > 0)
    usual = tiny(warmup_epochs=4, warmup_rate=1e-3, warmup_cuts=0.5, epochs=4, batch_size=32, warmup_batch_size=16,
                 judge="snapshot", batch_norm="frozen", initial_foreground=0.8, alpha=10.0, lambda1=0.3, lambda2=0.05,
                 lambda3=0.1, lambda4=0.1, classifier_rate=5e-4, decoder_rate=4e-3)
    found = {}
    for row in ("chan_vese", "mumford_shah"):  # from one warm-up
        folder, lines = train(dataclasses.replace(usual, row=row), prepared, tmp_path)
        found[row] = files.read_json(folder / "metrics.json"), lines
    for metrics, lines in found.values():
        assert metrics["accuracy"] >= 0.95, found
        assert metrics["mean_iou"] >= 0.6 > 2 * everything, {row: (one["mean_iou"], said) for row, (one, said) in found.items()}
        assert re.search(r"pictures/s$", lines[-1])
