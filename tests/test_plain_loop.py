"""The plain loop that speed is compared with computes the same losses and gradients, so that the comparison is fair."""

import dataclasses
import sys

import pytest
import torch
from accelerate import Accelerator

from bipartition.configuration import Configuration
from bipartition.learners import build_learner, objective_parts, objective_weights
from bipartition.networks import Classifier
from bipartition.objectives import weighted_sum

CLASSES = 4


@pytest.fixture(scope="module")
def plain(root):
    sys.path.insert(0, str(root / "benchmarks"))
    import plain
    yield plain
    sys.path.remove(str(root / "benchmarks"))


@pytest.mark.parametrize("row", ["chan_vese", "mumford_shah"])
def test_plain_loop_and_library_have_the_same_loss_and_the_same_gradients(plain, row):
    torch.manual_seed(0)
    configuration = Configuration(row=row, dataset="cartoons", seed=0, size=64, batch_size=2, weights="none", alpha=3.0,
                                  lambda1=0.3, lambda2=0.05, lambda3=0.2, lambda4=0.4, classifier_learns="everything",
                                  batch_norm="shared", optimiser="sgd")
    learner = build_learner(configuration, Classifier(CLASSES), Accelerator(mixed_precision="no", cpu=True))
    own = learner.network.double().train()
    for parameter in own.parameters():  # away from the flat start, where F and B are equal and masks constant
        parameter.data += 0.01 * torch.randn_like(parameter)
    other = plain.PlainNetwork(CLASSES, matrices=row == "mumford_shah").double().train()
    other.load_state_dict(own.state_dict())
    image, labels = torch.rand(2, 3, 64, 64, dtype=torch.float64), torch.tensor([1, 3])

    partition = own(image)
    parts = objective_parts(image, partition, labels, learner.row, configuration)
    clean = torch.nn.functional.cross_entropy(partition.image_logits, labels)
    weights = {name: getattr(configuration, name) for name in ("alpha", "lambda1", "lambda2", "lambda3", "lambda4")}
    alone = dict.fromkeys(weights, 0.0) | {"alpha": 1.0}
    for name, weighed in {**{name: alone | {name: value} for name, value in weights.items()}, "all weights": weights}.items():
        loss = clean + weighted_sum(parts, objective_weights(dataclasses.replace(configuration, **weighed)))
        expected = other(image, labels, **weighed)  # weight by weight, so that a failure names the term
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9, msg=lambda said, name=name: f"with {name}: {said}")

    loss.backward()
    expected.backward()
    gradients = {name: parameter.grad for name, parameter in other.named_parameters()}
    for name, parameter in own.named_parameters():
        gradient = gradients[name]
        if parameter.ndim < gradient.ndim:  # a `PatchConvolution` has its taps first
            gradient = gradient.permute(0, 2, 3, 1).flatten(1)
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)


def test_the_plain_loop_reads_photographs_with_the_class_in_their_names(plain, tmp_path):
    from PIL import Image
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        Image.new("RGB", (50, 40), colour).save(tmp_path / f"{number}_0001.jpg")
    (image, labels), = plain.loader(tmp_path, 16, 3, workers=0)
    assert image.shape == (3, 3, 16, 16) and image.min() >= 0 and image.max() <= 1
    assert image.mean(dim=(2, 3)).argmax(dim=1).tolist() == labels.tolist() and sorted(labels.tolist()) == [0, 1, 2]
