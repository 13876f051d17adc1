"""One row's networks, optimisers and training step: updates (20) and (23), which the loop in `training` repeats."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Generator, Tensor, nn

from bipartition.casm import CasmLearner, CasmNetwork
from bipartition.configuration import Configuration
from bipartition.devices import average_gradients, drawn, mean_over_processes, sent
from bipartition.networks import AutoEncoder, BiPartitionNetwork, Classifier, Partition, cut_pictures
from bipartition.objectives import classification_objective, regularisation, segmentation_objective, weighted_sum
from bipartition.rows import ROWS, WARM_UP, Row

__all__ = ["JudgeLearner", "Learner", "PartitionLearner", "build_learner", "descend", "judges_view", "objective_parts",
           "objective_weights", "random_crops", "random_cuts"]

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4


class Learner(Protocol):
    """What the loop asks of a row.  ``network.segment(image)`` answers at test time (Figure 3)."""

    network: nn.Module
    optimisers: Mapping[str, torch.optim.Optimizer]
    accelerator: Accelerator

    def step(self, image: Tensor, labels: Tensor, rng: Generator) -> dict[str, Tensor]:
        """Learn from a mini-batch; returns named scalars for the history, still on the device."""
        ...


def build_learner(configuration: Configuration, classifier: Classifier, accelerator: Accelerator) -> Learner:
    """The learner of a row, its decoders freshly initialised from the global generator.

    Parameters
    ----------
    configuration : Configuration
    classifier : Classifier
        As the row is to start with it: fresh, or after the warm-up.
    accelerator : accelerate.Accelerator
        Device, precision and backward pass.
    """
    if configuration.row == WARM_UP:
        return ClassifierLearner(classifier, configuration, accelerator)
    row = ROWS[configuration.row]
    if row.network == "casm":
        return CasmLearner(CasmNetwork(classifier), configuration, accelerator)
    if row.network == "autoencoder":
        network = AutoEncoder(matrices=row.energy == "mumford_shah", width=configuration.autoencoder_width,
                              poolings=configuration.autoencoder_poolings)
    else:
        network = BiPartitionNetwork(
            classifier, matrices=row.energy == "mumford_shah", initial_foreground=configuration.initial_foreground,
            judge=configuration.judge, batch_norm=configuration.batch_norm, classifier_learns=configuration.classifier_learns,
            mask=configuration.mask, features=configuration.features)
    return PartitionLearner(network, row, configuration, accelerator)


class ClassifierLearner:
    """The warm-up: ``CE(o)`` on pictures that are whole or, in the share ``warmup_cuts``, seen through a random mask.

    Cross-entropy on random cuts makes the scores say what the visible part is evidence for: sure of an object that is
    there, even where it is not.  That is what (12) asks of f and b.
    """

    def __init__(self, network: Classifier, configuration: Configuration, accelerator: Accelerator) -> None:
        self.network, self.accelerator = network, accelerator
        self.cuts, self.contours = configuration.warmup_cuts, configuration.warmup_contours
        self.optimisers = _optimisers(configuration, classifier=list(network.parameters()))

    def step(self, image: Tensor, labels: Tensor, rng: Generator) -> dict[str, Tensor]:
        """One step of gradient descent."""
        if self.cuts:
            image = (image * _seen(image, self.cuts, rng, self.contours)).contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            logits = self.network(image)[0]
        loss = F.cross_entropy(logits.float(), labels)
        descend(self.optimisers, loss, self.accelerator)
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == labels).float().mean()}


def random_crops(image: Tensor, smallest: float, rng: Generator) -> Tensor:
    """A part of each picture, stretched to full size: the usual augmentation of classifiers, a batch at a time.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
    smallest : float in (0, 1]
        Share of the picture's area that the smallest part has, before what is longer or wider than the picture is cut to it:
        above 0.75 parts may be smaller for that.  The largest is the whole picture.
    rng : torch.Generator

    Returns
    -------
    Tensor, shape (N, C, H, W)
        Width and height of a part differ by at most a factor of 4/3.
    """
    count = len(image)
    share = smallest + (1 - smallest) * drawn(torch.rand, count, rng=rng)
    stretch = (math.log(4 / 3) * (drawn(torch.rand, count, rng=rng) - 0.5)).exp()
    extent = torch.stack([share.sqrt() * stretch, share.sqrt() / stretch], dim=1).clamp_max(1)
    centre = (1 - extent) * (2 * drawn(torch.rand, count, 2, rng=rng) - 1)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1], affine[:, :, 2] = extent[:, 0], extent[:, 1], centre
    with torch.autocast(image.device.type, enabled=False):  # which would round places to the fourth part of a pixel
        grid = F.affine_grid(sent(affine, image.device).to(image.dtype), list(image.shape), align_corners=False)
        cropped = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cropped.contiguous(memory_format=torch.channels_last)


def random_cuts(image: Tensor, rng: Generator, *, contours: float = 0.0) -> Tensor:
    """Random masks, from faint shades to sharp blobs, covering any share of the picture.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, H)
    rng : torch.Generator
    contours : float in [0, 1]
        0: smooth landscapes that know nothing of the picture.  Above, each landscape holds a random mix of the picture's
        colours in a weight drawn between 0 and `contours`, so that cuts follow its contours as those of (7) do.

    Returns
    -------
    Tensor, shape (N, 1, H, H), in (0, 1)
    """
    count, channels, size, _ = image.shape
    landscape = torch.zeros(count, 1, size, size)
    for grid, height in ((3, 1.0), (7, 0.7)):
        coarse = drawn(torch.randn, count, 1, grid, grid, rng=rng)
        landscape += height * F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    landscape = _standard(sent(landscape, image.device))
    if contours:
        mix = sent(drawn(torch.randn, count, channels, 1, 1, rng=rng), image.device)
        weight = sent(contours * drawn(torch.rand, count, 1, 1, 1, rng=rng), image.device)
        colours = _standard(F.avg_pool2d((mix * image).sum(dim=1, keepdim=True), 5, stride=1, padding=2))
        landscape = _standard((1 - weight) * landscape + weight * colours)
    level = 3.2 * drawn(torch.rand, count, 1, 1, 1, rng=rng) - 1.6
    sharpness = torch.exp(0.5 + 3.5 * drawn(torch.rand, count, 1, 1, 1, rng=rng))
    return torch.sigmoid(sent(sharpness, image.device) * (landscape - sent(level, image.device)))


def _seen(image: Tensor, share: float, rng: Generator, contours: float) -> Tensor:
    """Random cuts of as large a share of the pictures; 1, which is all, of the others."""
    cut = sent(drawn(torch.rand, len(image), 1, 1, 1, rng=rng) < share, image.device)
    return torch.where(cut, random_cuts(image, rng, contours=contours), 1.0)


def _standard(landscape: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the pixels of each picture; a flat one stays 0."""
    centred = landscape - landscape.mean(dim=(2, 3), keepdim=True)
    return centred / centred.std(dim=(2, 3), keepdim=True).clamp_min(1e-6)


class PartitionLearner:
    """Algorithms 1 and 2, their loss without the energy (Figure 4b), and the energy without the classifier (4c, 4d).

    The rows differ in nothing but the network and the parts of the objective.
    """

    def __init__(self, network: BiPartitionNetwork | AutoEncoder, row: Row, configuration: Configuration,
                 accelerator: Accelerator) -> None:
        self.network, self.row, self.configuration, self.accelerator = network, row, configuration, accelerator
        self.weights = objective_weights(configuration)
        self.optimisers = _optimisers(configuration, **_by_rate(network))

    def step(self, image: Tensor, labels: Tensor, rng: Generator) -> dict[str, Tensor]:
        """Update (20) or (23).

        The classifier's ``L + CE(o)`` and the decoders' ``L`` are one backward pass: CE(o) does not depend on the decoders.
        """
        judged = self.row.network == "bipartition"
        with self.accelerator.autocast():
            partition = self.network(image, judges_view(self.configuration, rng)) if judged else self.network(image)
        parts = objective_parts(image, partition, labels, self.row, self.configuration)
        loss = weighted_sum(parts, self.weights)
        shown = {"loss": loss} | {name: part.mean() for name, part in parts.items()}
        if partition.image_logits is not None:
            clean = F.cross_entropy(partition.image_logits.float(), labels)
            loss = loss + clean
            shown |= {"clean": clean, "accuracy": (partition.image_logits.argmax(dim=1) == labels).float().mean()}
        descend(self.optimisers, loss, self.accelerator)
        return shown


class JudgeLearner:
    """The judge's turn: update (20) of the classifier alone, ``S + CE``, at masks that hold still.

    With S it learns to name the object on black and to have no name for the rest, whose silhouette and surroundings gave the
    name away to the judge of the warm-up; that one asked for masks that hide both.  CE of random cuts keeps it honest about
    how much is seen: with S alone it would accept crumbs.

    Parameters
    ----------
    learner : PartitionLearner
        Its network has a copy of the classifier as a judge.
    """

    CUTS = 0.7
    """Share of the pictures of CE that are cut; the others are whole."""

    def __init__(self, learner: PartitionLearner) -> None:
        self.network, self.accelerator, self.configuration = learner.network, learner.accelerator, learner.configuration
        self.optimisers = _optimisers(learner.configuration, classifier=list(self.network.snapshot.parameters()))

    def step(self, image: Tensor, labels: Tensor, rng: Generator) -> dict[str, Tensor]:
        """One step of the judge's parameters; the network's others, which need no gradient here, stay."""
        judge = self.network.snapshot.requires_grad_(True)
        self.network.eval()  # the masks as they are, and no running statistics of the classifier move
        seen = _seen(image, self.CUTS, rng, self.configuration.warmup_contours)
        with self.accelerator.autocast():
            with torch.no_grad():
                phi = self.network.segment(image).background_mask
            shown = torch.cat([seen * image, *cut_pictures(image, phi, judges_view(self.configuration, rng))])
            scores = judge(shown.contiguous(memory_format=torch.channels_last))[0]
        logits, *cut_logits = scores.chunk(3)
        parts = classification_objective(*cut_logits, labels, self.configuration.background_probability)
        means = {"judge_cuts": F.cross_entropy(logits.float(), labels)}
        means |= {f"judge_{name}": part.mean() for name, part in parts.items()}
        descend(self.optimisers, sum(means.values()), self.accelerator)
        judge.requires_grad_(False)
        self.network.train()
        return means


def judges_view(configuration: Configuration, rng: Generator) -> Callable[[Tensor], Tensor] | None:
    """What is shown of the cut pictures to whoever scores them; None is all.

    Parameters
    ----------
    configuration : Configuration
        Its ``judge_crops`` is the smallest share of a picture that is shown.
    rng : torch.Generator
        Draws a part of each picture, anew whenever the view is taken.

    Returns
    -------
    callable or None
        As `bipartition.networks.cut_pictures` takes it.
    """
    if configuration.judge_crops == 1:
        return None
    return functools.partial(random_crops, smallest=configuration.judge_crops, rng=rng)


def objective_parts(image: Tensor, partition: Partition, labels: Tensor, row: Row,
                    configuration: Configuration) -> dict[str, Tensor]:
    """Parts of L of (19) or (22) for what the network had to say, each of shape (N,).

    Without an energy the regularisers (15) remain, unless ``configuration.regularised`` is False; without a classifier
    there is no S.
    """
    phi = partition.background_mask
    if row.energy is not None:
        parts = segmentation_objective(image, phi, partition.matrices)
    else:
        parts = regularisation(phi) if configuration.regularised else {}
    if configuration.area_weight != "constant" and "area" in parts:
        parts["area"] = _relaxed(parts["area"], root=configuration.area_weight == "root")
    if partition.foreground_logits is not None:
        parts |= classification_objective(partition.foreground_logits, partition.background_logits, labels,
                                          configuration.background_probability)
    return parts


def _relaxed(areas: Tensor, *, root: bool) -> Tensor:
    """The area term with a weight that follows the mini-batch's mean area s: ``s a``, or ``2 s sqrt(s a)`` with `root`.

    Both pull with the slope s at a picture of mean area.  s is a weight and no variable: without `root` each picture is pulled
    alike, however large its own object is; the root's slope falls with the picture's own area.
    """
    share = mean_over_processes(areas.mean().detach())
    # The root is infinitely steep at 0, where there is nothing left to pull at.
    return 2 * share * (share * areas.clamp_min(1e-4)).sqrt() if root else share * areas


def objective_weights(configuration: Configuration) -> dict[str, float]:
    """Weight of every named part in (6): alpha scales the energy and its regularisers, S weighs 1."""
    alpha = configuration.alpha
    return {
        "fidelity": alpha,
        "area": alpha * configuration.lambda1,
        "variation": alpha * configuration.lambda2,
        "variation_foreground": alpha * configuration.lambda3,
        "variation_background": alpha * configuration.lambda4,
        "foreground": 1.0,
        "background": 1.0,
    }


def _by_rate(network: BiPartitionNetwork | AutoEncoder) -> dict[str, list[nn.Parameter]]:
    """What learns at the classifier's rate, at that of F and B, and at the decoders': all the rest."""
    groups: dict[str, list[nn.Parameter]] = {"classifier": [], "decoder": [], "matrix": []}
    owners = {"classifier": "classifier", "foreground_decoder": "matrix", "background_decoder": "matrix"}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[owners.get(name.split(".")[0], "decoder")].append(parameter)
    return groups


def _optimisers(configuration: Configuration, **groups: list[nn.Parameter]) -> dict[str, torch.optim.Optimizer]:
    kinds = configuration.optimiser.split("+")
    optimisers: dict[str, torch.optim.Optimizer] = {}
    for name, parameters in groups.items():
        if not parameters:
            continue
        rate = getattr(configuration, f"{name}_rate")
        if (kinds[0] if name == "classifier" else kinds[-1]) == "sgd":
            optimisers[name] = torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
        else:
            optimisers[name] = torch.optim.Adam(parameters, lr=rate, fused=True)
    return optimisers


def descend(optimisers: Mapping[str, torch.optim.Optimizer], loss: Tensor, accelerator: Accelerator) -> None:
    """One step of every optimiser down the slope of `loss`."""
    for optimiser in optimisers.values():
        optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    for optimiser in optimisers.values():
        average_gradients(parameter for group in optimiser.param_groups for parameter in group["params"])
        optimiser.step()
