"""The baseline of Table 1: classifier-agnostic saliency map extraction (CASM; Zolna, Geras & Cho 2020) with ResNet-18.

A decoder proposes the object.  The picture with the object REMOVED is shown to a classifier; the decoder wants it puzzled, the
classifier wants to recognise it all the same, and half of the time an older classifier is asked, so that the decoder has
to remove everything that any classifier could use.  Here the mask is the OBJECT, unlike the paper's phi.

Players, losses, rates of both optimisers and snapshots are those of its authors.  What all rows share is ours: it starts from
our warm-up, which may have shown the classifier cut pictures, learns along our schedule (up, then down a cosine; theirs
divides the rates by ten every 20 of 60 epochs) in our mini-batches (theirs hold 128) and, unless ``crops`` says so, without
random crops.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Generator, Tensor, nn

from bipartition.configuration import Configuration
from bipartition.convolutions import TapConvolution
from bipartition.devices import descend
from bipartition.networks import Classifier, Partition, parameters_fixed

SNAPSHOTS = 30
SNAPSHOT_EVERY = 100
GRADIENT_CLIP = 10.0
WEIGHT_DECAY = 1e-4
CHANNELS = 64


class CasmDecoder(nn.Module):
    """Five feature maps to an object mask on the first map's grid, then nearest neighbours up to the picture.

    layer1-4 pass a 1 x 1 convolution to 64 channels, batch norm, ReLU and bilinear upsampling; the pooled stem joins as it
    is; a 3 x 3 convolution and a sigmoid make the mask.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, CHANNELS, 1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU())
            for channels in Classifier.CHANNELS[1:])
        self.combine = TapConvolution(Classifier.CHANNELS[0] + 4 * CHANNELS, 1)

    def forward(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Object mask of shape (N, 1, *size) in [0, 1]."""
        first, *rest = features
        grid = first.shape[2:]
        maps = [F.interpolate(reduce(feature), size=grid, mode="bilinear", align_corners=False).to(first.dtype)
                for reduce, feature in zip(self.reduce, rest, strict=True)]
        x = self.combine(torch.cat([first, *maps], dim=1))
        return F.interpolate(torch.sigmoid(x), size=size, mode="nearest")


class CasmNetwork(nn.Module):
    """The live classifier, the decoder and the older classifiers, all of which a resumed training needs."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.decoder = CasmDecoder()
        self.snapshots = nn.ModuleList()
        self.steps = 0  # no buffer: a GPU would be waited for to read it

    def segment(self, image: Tensor) -> Partition:
        """The object mask turned into the paper's phi, and the scores of the whole picture."""
        logits, features = self.classifier(image)
        return Partition(1 - self.decoder(features, tuple(image.shape[2:])), None, logits)

    def train(self, mode: bool = True) -> "CasmNetwork":
        """Training mode, except for the older classifiers: they answer with the statistics that they had learnt.

        With those of the pictures at hand a mask that only dims would be undone, as anywhere else.
        """
        super().train(mode)
        self.snapshots.eval()
        return self

    def keep_snapshot(self, rng: Generator) -> None:
        """Remember the classifier as it is now, from the thirty-first on in the place of one that is drawn."""
        snapshot = self._snapshot()
        if len(self.snapshots) < SNAPSHOTS:
            self.snapshots.append(snapshot)
        else:
            self.snapshots[int(torch.randint(SNAPSHOTS, (), generator=rng))] = snapshot

    def load_state_dict(self, state: dict[str, Tensor], *args, **kwargs):
        """Makes room for the snapshots that the state holds."""
        held = {name.split(".")[1] for name in state if name.startswith("snapshots.")}
        self.snapshots = nn.ModuleList(self._snapshot() for _ in held)
        self.steps = int(state["steps"])
        return super().load_state_dict({name: value for name, value in state.items() if name != "steps"}, *args, **kwargs)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}steps"] = torch.tensor(self.steps)

    def _snapshot(self) -> Classifier:
        return copy.deepcopy(self.classifier).requires_grad_(False).eval()


class CasmLearner:
    """One step on a mini-batch: the decoder's, the classifier's on clean pictures, and its on removed ones."""

    def __init__(self, network: CasmNetwork, configuration: Configuration, accelerator: Accelerator) -> None:
        self.network, self.accelerator = network, accelerator
        # lambda_r: 10 of CASM's authors for 1,000 classes, brought to the largest entropy that K classes have, ln K
        usual = 10 * math.log(network.classifier.body.fc.out_features) / math.log(1000)
        self.weight = usual if configuration.casm_area is None else configuration.casm_area
        self.optimisers = {
            "classifier": torch.optim.SGD(network.classifier.parameters(), lr=configuration.classifier_rate, momentum=0.9,
                                          weight_decay=WEIGHT_DECAY, fused=True),
            "decoder": torch.optim.Adam(network.decoder.parameters(), lr=configuration.decoder_rate,
                                        weight_decay=WEIGHT_DECAY, fused=True),
        }

    def step(self, image: Tensor, labels: Tensor, rng: Generator) -> dict[str, Tensor]:
        """Update both players; returns the named parts, each the mean over the mini-batch."""
        network = self.network
        if network.steps % SNAPSHOT_EVERY == 0:
            network.keep_snapshot(rng)
        network.steps += 1
        live = torch.rand((), generator=rng) < 0.5
        older = network.snapshots[int(torch.randint(len(network.snapshots), (), generator=rng))]

        with self.accelerator.autocast():
            logits, features = network.classifier(image)
            mask = network.decoder(tuple(feature.detach() for feature in features), tuple(image.shape[2:]))
        clean = F.cross_entropy(logits.float(), labels)
        self._update("classifier", clean)

        normalised = network.classifier.normalise(image)
        scorer = network.classifier if live else older
        with parameters_fixed(scorer), self.accelerator.autocast():
            removed_logits = scorer.read((1 - mask) * normalised)[0].float()
        right = logits.detach().argmax(dim=1) == labels
        negative_entropy, reward = hiding_loss(removed_logits, mask, labels, right)
        self._update("decoder", negative_entropy - self.weight * reward, longest=GRADIENT_CLIP)

        parts = {"clean": clean, "entropy": negative_entropy, "reward": reward}
        if live:
            with self.accelerator.autocast():
                again = network.classifier.read((1 - mask.detach()) * normalised)[0]
            parts["removed"] = F.cross_entropy(again.float(), labels)
            self._update("classifier", parts["removed"])
        return parts | {"accuracy": right.float().mean()}

    def _update(self, which: str, loss: Tensor, longest: float | None = None) -> None:
        descend({which: self.optimisers[which]}, loss, self.accelerator, longest=longest)


def hiding_loss(removed_logits: Tensor, mask: Tensor, labels: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of what the decoder minimises, ``negative_entropy - lambda_r * reward``.

    Parameters
    ----------
    removed_logits : Tensor, shape (N, K)
        Scores of the picture without the object.
    mask : Tensor, shape (N, 1, H, W), in [0, 1]
        1 where the object is.
    labels : Tensor of int64, shape (N,)
    right : Tensor of bool, shape (N,)
        Whether the clean picture was classified right: only then is there something to hide.

    Returns
    -------
    negative_entropy : Tensor, shape ()
        That of the prediction, in nats, added up over the pictures that were right and divided by all N.
    reward : Tensor, shape ()
        Mean of ``relu(wrong after removal - mask area)``: a wrong answer is worth the more, the less was removed.
    """
    log_p = F.log_softmax(removed_logits, dim=1)
    negative_entropy = (log_p.exp() * log_p).sum(dim=1)
    wrong = (removed_logits.argmax(dim=1) != labels) & right
    return (negative_entropy * right).mean(), F.relu(wrong.float() - mask.mean(dim=(1, 2, 3))).mean()
