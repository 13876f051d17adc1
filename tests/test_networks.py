"""The networks: shapes, the fused decoders, who moves batch norm's statistics, and weights files."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from bipartition.networks import BiPartitionNetwork, Classifier, Decoder, fused_decoders


@pytest.fixture
def image():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(6)


def running_means(classifier):
    return [module.running_mean.clone() for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]


def gradient_size(module):
    return sum(p.grad.abs().sum().item() for p in module.parameters() if p.grad is not None)


class TestClassifier:
    def test_it_is_torchvisions_resnet18_behind_the_imagenet_normalisation(self, classifier, image):
        classifier.eval()
        body = resnet18(num_classes=6).eval()
        body.load_state_dict(classifier.body.state_dict())
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        normalised = (image - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
        torch.testing.assert_close(classifier(image)[0], body(normalised))

    @pytest.mark.parametrize(("size", "stem"), [((64, 64), "Convolution"), ((128, 160), "_Stem")])
    def test_what_a_score_says_of_the_pixels_is_what_torchvisions_says(self, classifier, size, stem):
        classifier = classifier.double().eval().to(memory_format=torch.channels_last)
        body = resnet18(num_classes=6).double().eval()
        body.load_state_dict(classifier.body.state_dict())
        image = torch.rand(2, 3, *size, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_(True)
        normalised = classifier.normalise(image)
        assert classifier.body.conv1(normalised).grad_fn.name().startswith(stem)
        own, = torch.autograd.grad(classifier(image)[0][:, 3].sum(), image)
        expected, = torch.autograd.grad(body(normalised)[:, 3].sum(), image)
        torch.testing.assert_close(own, expected)

    def test_the_feature_maps_of_a_224_pixel_picture_have_the_papers_sizes(self, classifier):
        features = classifier.eval()(torch.rand(1, 3, 224, 224))[1]
        assert [tuple(f.shape[1:]) for f in features] == [
            (64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]

    def test_its_activation_map_is_grad_cam_up_to_the_number_of_pixels(self, image):
        torch.manual_seed(0)
        classifier = Classifier(6).double().eval()
        logits, features = classifier(image.double())
        classes = torch.tensor([4, 0, 2])
        score = logits.gather(1, classes[:, None]).sum()
        gradient, = torch.autograd.grad(score, features[-1])
        importance = gradient.mean(dim=(2, 3), keepdim=True)
        grad_cam = torch.relu((importance * features[-1]).sum(dim=1, keepdim=True))
        found = classifier.activation_map(features[-1], classes)
        assert found.shape == (3, 1, 2, 2) and found.max() > 0
        torch.testing.assert_close(found, grad_cam * features[-1][0, 0].numel())

    def test_the_mean_of_its_activation_map_is_the_score_without_bias_where_no_evidence_is_negative(self, classifier, image):
        with torch.no_grad():
            classifier.body.fc.weight.abs_()
        logits, features = classifier.eval()(image)
        classes = torch.tensor([5, 1, 1])
        expected = (logits - classifier.body.fc.bias).gather(1, classes[:, None])[:, 0]
        torch.testing.assert_close(classifier.activation_map(features[-1], classes).mean(dim=(1, 2, 3)), expected)

    def test_its_activation_map_is_float32_also_under_autocast(self, classifier, image):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, features = classifier.eval()(image)
            assert classifier.activation_map(features[-1], logits.argmax(dim=1)).dtype == torch.float32

    def test_it_starts_with_the_numbers_that_torchvision_draws(self, classifier):
        torch.manual_seed(0)
        body = resnet18()
        body.fc = nn.Linear(512, 6)
        torch.testing.assert_close(classifier.body.state_dict(), body.state_dict(), rtol=0, atol=0)

    @pytest.mark.parametrize(("pixels", "products"), [(64, 8), (112, 4), (224, 0)])
    def test_only_small_maps_are_answered_by_a_product_of_patches(self, classifier, monkeypatch, pixels, products):
        multiplied = []
        linear = nn.functional.linear
        monkeypatch.setattr(nn.functional, "linear", lambda *given: multiplied.append(given) or linear(*given))
        classifier.eval()(torch.rand(1, 3, pixels, pixels))
        assert len(multiplied) == products + 1  # and the last layer

    def test_weights_are_read_from_a_file_and_the_last_layer_is_new(self, tmp_path):
        torch.manual_seed(1)
        state = resnet18().state_dict()
        torch.save({name: value.half() if value.is_floating_point() else value for name, value in state.items()},
                   tmp_path / "weights.pth")
        body = Classifier(6, tmp_path / "weights.pth").body
        torch.testing.assert_close(body.conv1.weight, state["conv1.weight"].half().float())
        assert body.fc.out_features == 6

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="nowhere.pth does not exist; set RESNET18_WEIGHTS"):
            Classifier(6, tmp_path / "nowhere.pth")

    def test_the_weights_of_another_network_are_refused_with_what_does_not_fit(self, tmp_path):
        state = resnet18().state_dict()
        state["extra"] = state.pop("conv1.weight")
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(ValueError, match=r"missing \['conv1.weight'\], unexpected \['extra'\]"):
            Classifier(6, tmp_path / "other.pth")

    def test_a_file_that_is_no_state_dict_is_refused(self, tmp_path):
        (tmp_path / "text.pth").write_text("hello")
        with pytest.raises(ValueError, match="text.pth is not a PyTorch state dict"):
            Classifier(6, tmp_path / "text.pth")

    @pytest.mark.parametrize("entry", [torch.full((64, 3, 7, 7), float("nan")), [1.0], 0.5])
    def test_entries_that_are_no_finite_tensors_are_named(self, tmp_path, entry):
        torch.save(resnet18().state_dict() | {"conv1.weight": entry}, tmp_path / "broken.pth")
        with pytest.raises(ValueError, match="broken.pth: 'conv1.weight', .* is no tensor of finite numbers"):
            Classifier(6, tmp_path / "broken.pth")

    def test_a_pickle_that_would_run_code_is_refused(self, tmp_path):
        torch.save({"payload": Classifier}, tmp_path / "evil.pth", pickle_protocol=4)
        with pytest.raises(ValueError, match="evil.pth is not a PyTorch state dict"):
            Classifier(6, tmp_path / "evil.pth")


def trained(decoder):
    """A decoder whose answer is not flat any more."""
    nn.init.normal_(decoder.combine.weight, std=0.02)
    return decoder


class TestDecoder:
    def test_it_agrees_with_the_papers_order_upsample_then_convolve(self, classifier, image):
        decoder = trained(Decoder(1)).double()
        features = tuple(f.double() for f in classifier.eval()(image)[1])
        maps = [torch.relu(reduce(nn.functional.interpolate(f, size=(16, 16), mode="bilinear", align_corners=False)))
                for reduce, f in zip(decoder.reduce, features, strict=True)]
        x = decoder.combine(torch.cat(maps, dim=1))
        expected = torch.sigmoid(nn.functional.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False))
        torch.testing.assert_close(decoder(features, (64, 64)), expected)

    def test_three_fused_decoders_answer_as_three_alone(self, classifier, image):
        features = classifier.eval()(image)[1]
        decoders = [trained(Decoder(1)), trained(Decoder(3)), trained(Decoder(3))]
        for fused, decoder in zip(fused_decoders(decoders, features, (64, 64)), decoders, strict=True):
            torch.testing.assert_close(fused, decoder(features, (64, 64)))

    def test_even_features_make_it_blind_to_how_loud_each_map_is_and_raw_ones_do_not(self, classifier, image):
        features = classifier.eval()(image)[1]
        louder = tuple(scale * feature for scale, feature in zip((0.1, 1, 3, 20, 7), features, strict=True))
        for even in (True, False):
            decoder = trained(Decoder(1, even=even))
            same = torch.allclose(decoder(features, (64, 64)), decoder(louder, (64, 64)), atol=1e-5)
            assert same == even

    def test_even_features_keep_how_the_channels_of_a_map_differ(self, classifier, image):
        features = classifier.eval()(image)[1]
        tilted = tuple(feature * torch.linspace(0.1, 3, feature.shape[1])[:, None, None] for feature in features)
        decoder = trained(Decoder(1, even=True))
        assert not torch.allclose(decoder(features, (64, 64)), decoder(tilted, (64, 64)), atol=1e-3)

    def test_the_first_mask_of_a_network_is_as_large_as_asked(self, classifier, image):
        network = BiPartitionNetwork(classifier, matrices=False, initial_foreground=0.8)
        assert abs((1 - network.segment(image).background_mask).mean() - 0.8) < 0.05

    def test_a_step_of_every_weight_moves_all_even_maps_alike(self, classifier, image):
        features = classifier.eval()(image)[1]
        decoder, seen = Decoder(1, even=True), []
        with torch.no_grad():
            for convolution in decoder.reduce:
                convolution.weight.fill_(0.001)
        decoder.combine.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        decoder(features, (64, 64))
        levels = seen[0].unflatten(1, (5, 64)).mean(dim=(2, 3, 4))
        torch.testing.assert_close(levels, torch.full_like(levels, 0.064), rtol=0.05, atol=0)

    def test_an_even_map_of_nothing_stays_nothing(self):
        features = tuple(torch.zeros(1, channels, 4, 4) for channels in Classifier.CHANNELS)
        assert Decoder(1, even=True)(features, (16, 16)).isfinite().all()

    @pytest.mark.parametrize("initial", [0.2, 0.5, 0.9])
    def test_the_untrained_answer_is_the_asked_one_nearly_everywhere(self, classifier, image, initial):
        answer = Decoder(1, initial=initial)(classifier(image)[1], (64, 64))
        assert (answer - initial).abs().max() < 0.05 and answer.std() > 0

    def test_masks_are_float32_also_under_autocast(self, classifier, image):
        network = BiPartitionNetwork(classifier, matrices=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            partition = network(image)
        assert partition.background_mask.dtype == partition.matrices[0].dtype == torch.float32


class TestBiPartitionNetwork:
    def test_mumford_shah_has_two_decoders_more_and_nothing_else(self, classifier):
        one = {name for name, _ in BiPartitionNetwork(classifier, matrices=False).named_children()}
        three = {name for name, _ in BiPartitionNetwork(classifier, matrices=True).named_children()}
        assert three - one == {"foreground_decoder", "background_decoder"} and one <= three

    def test_figure_1_cuts_the_picture_in_two_and_asks_the_same_classifier(self, classifier, image):
        network = BiPartitionNetwork(classifier, matrices=False).eval()
        partition = network(image)
        phi = partition.background_mask
        assert partition.matrices is None
        torch.testing.assert_close(partition.image_logits, classifier(image)[0])
        torch.testing.assert_close(partition.foreground_logits, classifier((1 - phi) * image)[0])
        torch.testing.assert_close(partition.background_logits, classifier(phi * image)[0])

    def test_straight_through_shows_the_classifier_a_binary_cut_but_lets_gradients_pass(self, classifier, image):
        network = BiPartitionNetwork(classifier, matrices=False, mask="straight_through").eval()
        partition = network(image)
        hard = (partition.background_mask > 0.5).float()
        torch.testing.assert_close(partition.foreground_logits, classifier((1 - hard) * image)[0])
        partition.foreground_logits.sum().backward()
        assert gradient_size(network.mask_decoder) > 0

    @pytest.mark.parametrize(("batch_norm", "passes"), [("shared", 3), ("separate", 1), ("frozen", 0)])
    def test_how_many_passes_move_the_running_statistics(self, classifier, image, batch_norm, passes):
        network = BiPartitionNetwork(classifier, matrices=False, batch_norm=batch_norm).train()
        before = running_means(classifier)[0]
        network(image)
        after = running_means(classifier)[0]
        stem = classifier.body.conv1(classifier.normalise(image)).mean(dim=(0, 2, 3)).detach()
        if passes == 0:
            torch.testing.assert_close(after, before)
        elif passes == 1:
            torch.testing.assert_close(after, 0.9 * before + 0.1 * stem)
        else:
            assert not torch.allclose(after, 0.9 * before + 0.1 * stem)
            assert classifier.body.bn1.num_batches_tracked == passes

    @pytest.mark.parametrize(("learns", "reached"), [
        ("everything", True), ("foreground", True), ("clean", False), ("nothing", False)])
    def test_whether_the_judgement_of_the_cut_pictures_reaches_the_classifier(self, classifier, image, learns, reached):
        network = BiPartitionNetwork(classifier, matrices=False, classifier_learns=learns)
        partition = network(image)
        (partition.foreground_logits.sum() + partition.background_logits.square().sum()).backward()
        assert (gradient_size(classifier) > 0) == reached
        assert gradient_size(network.mask_decoder) > 0

    @pytest.mark.parametrize(("learns", "reached"), [("everything", True), ("mask", True), ("foreground", False)])
    def test_whether_the_scores_of_the_background_picture_teach_the_classifier(self, classifier, image, learns, reached):
        partition = BiPartitionNetwork(classifier, matrices=False, classifier_learns=learns)(image)
        partition.background_logits.square().sum().backward()
        assert (classifier.body.fc.weight.grad is not None) == reached

    @pytest.mark.parametrize(("learns", "reached"), [("everything", True), ("mask", False)])
    def test_whether_f_and_b_teach_the_classifier(self, classifier, image, learns, reached):
        network = BiPartitionNetwork(classifier, matrices=True, classifier_learns=learns)
        foreground_matrix, background_matrix = network.segment(image).matrices
        (foreground_matrix.square().sum() + background_matrix.sum()).backward()
        assert (gradient_size(classifier) > 0) == reached
        assert gradient_size(network.foreground_decoder) > 0 and gradient_size(network.background_decoder) > 0

    def test_the_mask_teaches_the_classifier_where_f_and_b_do_not(self, classifier, image):
        network = BiPartitionNetwork(classifier, matrices=True, classifier_learns="mask")
        network.segment(image).background_mask.square().sum().backward()
        assert gradient_size(classifier) > 0

    def test_f_and_b_start_as_one(self, classifier, image):
        torch.testing.assert_close(*BiPartitionNetwork(classifier, matrices=True).segment(image).matrices, rtol=0, atol=0)

    def test_a_snapshot_scores_both_halves_in_one_pass_as_in_two(self, classifier, image):
        network = BiPartitionNetwork(classifier, matrices=False, judge="snapshot").eval()
        partition = network(image)
        phi = partition.background_mask
        torch.testing.assert_close(partition.foreground_logits, network.snapshot((1 - phi) * image)[0])
        torch.testing.assert_close(partition.background_logits, network.snapshot(phi * image)[0])

    @pytest.mark.parametrize("judge", ["live", "snapshot"])
    def test_a_view_of_the_cut_pictures_is_what_is_scored(self, classifier, image, judge):
        network, shown = BiPartitionNetwork(classifier, matrices=False, judge=judge).eval(), []
        partition = network(image, lambda cut: shown.append(cut) or cut.flip(-1))
        torch.testing.assert_close(shown[0][:, :3] + shown[0][:, 3:], image)
        mirrored = BiPartitionNetwork.segment(network, image).background_mask.flip(-1)
        torch.testing.assert_close(partition.foreground_logits, classifier((1 - mirrored) * image.flip(-1))[0])
        torch.testing.assert_close(partition.background_logits, classifier(mirrored * image.flip(-1))[0])
        torch.testing.assert_close(partition.image_logits, classifier(image)[0])

    def test_a_snapshot_judges_as_the_classifier_did_and_never_changes(self, classifier, image):
        network = BiPartitionNetwork(classifier, matrices=False, judge="snapshot").train()
        before = {name: value.clone() for name, value in network.snapshot.state_dict().items()}
        with torch.no_grad():
            classifier.body.fc.weight.zero_()
        partition = network(image)
        assert partition.image_logits.std(dim=0).max() < 1e-6 < partition.foreground_logits.std(dim=0).max()
        partition.foreground_logits.sum().backward()
        assert gradient_size(network.mask_decoder) > 0 and gradient_size(network.snapshot) == 0
        assert all(torch.equal(before[name], value) for name, value in network.snapshot.state_dict().items())

    def test_the_answer_does_not_depend_on_who_learns(self, image):
        answers = []
        for learns in ("everything", "clean", "nothing"):
            torch.manual_seed(4)
            answers.append(BiPartitionNetwork(Classifier(6), matrices=False, classifier_learns=learns).eval()(image))
        for other in answers[1:]:
            torch.testing.assert_close(other.background_logits, answers[0].background_logits)
