"""One pass over the training part: what is drawn, how a picture is scaled, how a rate moves, what stops it.

All randomness comes from one number, the seed: a generator is made anew for every epoch and purpose, so that a run that was
killed and resumed draws what an undisturbed one draws.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from bipartition.configuration import Configuration
from bipartition.cuts import random_crops
from bipartition.datasets.prepare import Split
from bipartition.devices import average_statistics, mean_over_processes, my_share, sent
from bipartition.learners import JudgeLearner, Learner
from bipartition.rows import WARM_UP

JUDGE_PASSES = 2
"""How often a judge sees every picture in one of its turns."""
CHECKED_EVERY = 16
"""Steps between two looks at whether all losses are finite: each look makes a GPU wait for its results."""
SHOWN_IDS = 16


def generator(seed: int, purpose: str, epoch: int = 0) -> Generator:
    """A random generator of its own for each purpose and epoch of a run."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), epoch]).generate_state(1, np.uint64)
    return Generator().manual_seed(int(entropy[0] >> np.uint64(1)))


def unit_range(pictures: Tensor) -> Tensor:
    """The paper's pre-processing (section 4.1): ``(x - min I) / (max I - min I)`` with one minimum and maximum a picture.

    Parameters
    ----------
    pictures : Tensor of uint8, shape (N, 3, H, W)

    Returns
    -------
    Tensor of float32, shape (N, 3, H, W), in [0, 1]
        A picture of a single value becomes 0 everywhere.
    """
    values = pictures.float()
    low, high = values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
    scaled = (values - low) / (high - low).clamp_min(1)
    return scaled.contiguous(memory_format=torch.channels_last)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """The training part, resident on the device: uint8 (N, 3, S, S), classes (N,), and how each picture is called."""

    pictures: Tensor
    labels: Tensor
    ids: Sequence[str]

    @classmethod
    def of(cls, split: Split, device: torch.device) -> "Material":
        """A split of the prepared photographs, brought to the device once."""
        return cls(pictures=torch.from_numpy(np.array(split.images)).to(device),
                   labels=torch.from_numpy(split.labels).to(device), ids=split.ids)


def schedule(total: int) -> Callable[[int], float]:
    """What a rate is multiplied with at each of `total` steps: up over a tenth of them, then down along half a cosine."""
    # Adam's first steps are as long as all others, and all weights of a fresh decoder move the same way: without the rise
    # a mask or a matrix may be driven into the flat end of its sigmoid before it has seen a second mini-batch.
    rise = max(1, total // 10)
    return lambda step: min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * min(step, total) / total))


def schedulers_for(learner: Learner, steps: int) -> dict[str, torch.optim.lr_scheduler.LambdaLR]:
    """One for each optimiser of the learner, by its name: `schedule` over `steps` steps."""
    return {name: torch.optim.lr_scheduler.LambdaLR(optimiser, schedule(steps))
            for name, optimiser in learner.optimisers.items()}


def train_epoch(learner: Learner, material: Material, configuration: Configuration, epoch: int, steps: int,
                schedulers: dict[str, Any], purpose: str = "batches") -> dict[str, float]:
    """Every picture once, in an order of this epoch's own and mirrored or not; what is over after the last full batch waits.

    Parameters
    ----------
    learner : Learner
        Its ``step`` is called with pictures in [0, 1], classes and a generator, and returns named losses.
    material : Material
    configuration : Configuration
        Seed, batch size and crops are read.
    epoch, steps : int
        Which epoch, from 0, and how many steps it has.
    schedulers : dict
        Of learning rates, by name; each moves on by one after every step.
    purpose : str
        Epochs of another purpose draw other numbers.

    Returns
    -------
    dict of str to float
        Each loss, its mean over the steps.

    Raises
    ------
    FloatingPointError
        If a loss is not finite: step, loss and pictures are named.  It is noticed up to `CHECKED_EVERY` steps later; weights
        are looked at when the epoch ends.
    """
    learner.network.train()
    rng = generator(configuration.seed, purpose, epoch)
    device = material.labels.device
    order = sent(torch.randperm(len(material.ids), generator=rng), device)
    mirrored = sent(torch.rand(len(material.ids), generator=rng) < 0.5, device)
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    unchecked: dict[int, dict[str, Tensor]] = {}
    for step, together in enumerate(order.split(configuration.batch_size)[:steps]):
        chosen = together[my_share()]
        batch = material.pictures[chosen]
        batch = torch.where(mirrored[chosen].view(-1, 1, 1, 1), batch.flip(-1), batch)
        image = unit_range(batch)
        if configuration.crops < 1:
            image = random_crops(image, configuration.crops, rng)
        losses = learner.step(image, material.labels[chosen], rng)
        unchecked[step] = {name: value.detach().float() for name, value in losses.items()}
        for name, value in unchecked[step].items():
            totals[name] = totals.get(name, 0) + value
            counts[name] = counts.get(name, 0) + 1
        for scheduler in schedulers.values():
            scheduler.step()
        if len(unchecked) == CHECKED_EVERY or step == steps - 1:
            _refuse_broken(unchecked, order, material.ids, configuration, epoch)
            unchecked = {}
    _refuse_broken_weights(learner, configuration, epoch, steps)
    average_statistics(learner.network)
    return {name: float(mean_over_processes(total)) / counts[name] for name, total in totals.items()}


def judges_turn(learner: Learner, material: Material, configuration: Configuration, epoch: int) -> dict[str, float]:
    """Where the judge has turns and this epoch begins with one: `JUDGE_PASSES` over the pictures; its losses in the last."""
    if not configuration.judge_has_turns or not 1 <= epoch <= configuration.judge_turns:
        return {}
    taught = dataclasses.replace(configuration, batch_size=min(configuration.warmup_batch_size, len(material.ids)),
                                 crops=1.0)
    judge, steps = JudgeLearner(learner), len(material.ids) // taught.batch_size
    schedulers = schedulers_for(judge, steps * JUDGE_PASSES)
    for again in range(JUDGE_PASSES):
        means = train_epoch(judge, material, taught, epoch, steps, schedulers, purpose=f"judge {again}")
    return means


def _refuse_broken_weights(learner: Learner, configuration: Configuration, epoch: int, steps: int) -> None:
    """Raise if the last step, whose effect no loss has shown, left a weight that is not finite."""
    named = dict(learner.network.named_parameters())
    finite = torch.stack([torch.isfinite(values).all() for values in named.values()])
    if not finite.all():
        broken = [name for name, good in zip(named, finite.tolist(), strict=True) if not good]
        raise FloatingPointError(
            f"{configuration.row} on {configuration.dataset}, seed {configuration.seed}, epoch {epoch + 1}: its last step, "
            f"{steps}, left {len(broken)} of {len(named)} weights not finite, {broken[0]} first; "
            f"try a smaller {_rates(configuration)}")


def _refuse_broken(losses: dict[int, dict[str, Tensor]], order: Tensor, ids: Sequence[str], configuration: Configuration,
                   epoch: int) -> None:
    """Raise if a loss of the last steps is not finite: of the first such step the parts, and the pictures it saw."""
    if torch.isfinite(torch.stack([value for parts in losses.values() for value in parts.values()])).all():
        return
    for step, parts in losses.items():
        broken = [f"{name} {float(value)}" for name, value in parts.items() if not math.isfinite(value)]
        if broken:
            chosen = order.split(configuration.batch_size)[step].tolist()
            more = f" and {len(chosen) - SHOWN_IDS} more" if len(chosen) > SHOWN_IDS else ""
            named = ", ".join(str(ids[index]) for index in chosen[:SHOWN_IDS])
            raise FloatingPointError(
                f"{configuration.row} on {configuration.dataset}, seed {configuration.seed}, epoch {epoch + 1}, step "
                f"{step + 1}: {', '.join(broken)}, not finite; pictures {named}{more}; "
                f"try a smaller {_rates(configuration)}")


def _rates(configuration: Configuration) -> str:
    """The rates that this run reads, by the names that they have in a profile."""
    if configuration.row == WARM_UP:
        return "warmup_rate"
    return " or ".join(sorted(name for name in configuration.decisive() if name.endswith("_rate") and name != "warmup_rate"))
