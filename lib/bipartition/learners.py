"""One row's networks, optimisers and training step: updates (20) and (23), which `bipartition.epochs.train_epoch` repeats."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Generator, Tensor, nn

from bipartition.autoencoder import AutoEncoder
from bipartition.casm import CasmLearner, CasmNetwork
from bipartition.configuration import Configuration
from bipartition.cuts import cuts_of_some, random_crops
from bipartition.devices import descend, mean_over_processes
from bipartition.networks import BiPartitionNetwork, Classifier, Partition, cut_pictures
from bipartition.objectives import classification_objective, regularisation, segmentation_objective, weighted_sum
from bipartition.rows import ROWS, WARM_UP, Row

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4

ENERGIES: Mapping[str, Callable[[Tensor, Partition], dict[str, Tensor]]] = MappingProxyType({
    "chan_vese": lambda image, partition: segmentation_objective(image, partition.background_mask),
    "mumford_shah": lambda image, partition: segmentation_objective(image, partition.background_mask, partition.matrices),
})
"""Parts of a row's segmentation loss, by its energy: of pictures I and what the network had to say of them."""


class Learner(Protocol):
    """What the loop asks of a row.

    ``network.segment(image)`` answers at test time (Figure 3); the warm-up's network is a bare `Classifier`, which has none.
    """

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
    matrices = row.energy == "mumford_shah"
    if row.network == "casm":
        return CasmLearner(CasmNetwork(classifier), configuration, accelerator)
    if row.network == "autoencoder":
        network = AutoEncoder(matrices=matrices, width=configuration.autoencoder_width,
                              poolings=configuration.autoencoder_poolings)
    elif row.network == "bipartition":
        network = BiPartitionNetwork(
            classifier, matrices=matrices, initial_foreground=configuration.initial_foreground,
            judge=configuration.judge, batch_norm=configuration.batch_norm, classifier_learns=configuration.classifier_learns,
            mask=configuration.mask, features=configuration.features)
    else:
        raise ValueError(f"the network {row.network!r} of row {row.name!r} is not built here; add it to build_learner of "
                         "bipartition.learners")
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
            image = (image * cuts_of_some(image, self.cuts, rng, self.contours)).contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            logits = self.network(image)[0]
        loss = F.cross_entropy(logits.float(), labels)
        descend(self.optimisers, loss, self.accelerator)
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == labels).float().mean()}


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
    name away to it as the warm-up left it: a judge without turns is content only with masks that hide these too.  CE of random
    cuts keeps it honest about how much is seen: with S alone it would accept crumbs.

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
        seen = cuts_of_some(image, self.CUTS, rng, self.configuration.warmup_contours)
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
    if row.energy is None:
        parts = regularisation(partition.background_mask) if configuration.regularised else {}
    elif row.energy in ENERGIES:
        parts = ENERGIES[row.energy](image, partition)
    else:
        raise ValueError(f"the energy {row.energy!r} of row {row.name!r} has no parts; add it to ENERGIES of "
                         "bipartition.learners, and what weighs them to objective_weights")
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
