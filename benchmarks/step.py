"""How close is a training step to the limit?  Prints pictures a second of each row beside three bare ResNet-18 passes.

    python benchmarks/step.py [--size 64] [--batch 32] [--rounds 5] [--rows chan_vese mumford_shah ...]

The limit is what no implementation of Figure 1 can beat with this library on this machine: three forward and backward passes of
torchvision's ResNet-18 on a resident batch, same precision, same memory layout.  All are timed in turn within one run, and
only the ratios mean something on a shared machine; the median, smallest and largest over the rounds are printed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from bipartition.configuration import Configuration
from bipartition.devices import accelerator_for_this_machine
from bipartition.learners import build_learner
from bipartition.networks import Classifier
from bipartition.rows import ROWS
from bipartition.training import generator, unit_range

CLASSES = 20


def main() -> None:
    """Time all of them and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", default=["classification_only", "chan_vese", "mumford_shah"], choices=list(ROWS))
    options = parser.parse_args()

    accelerator = accelerator_for_this_machine()
    pictures = torch.randint(0, 256, (options.batch, 3, options.size, options.size), dtype=torch.uint8,
                             generator=generator(0, "pictures")).to(accelerator.device)
    labels = torch.randint(0, CLASSES, (options.batch,), generator=generator(0, "labels")).to(accelerator.device)
    steps = {"limit": _three_bare_passes(unit_range(pictures), labels, accelerator)}
    steps |= {row: _row(row, pictures, labels, options, accelerator) for row in options.rows}

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        _timed(step, accelerator, repeats=2)
    for _ in range(options.rounds):
        for name, step in steps.items():
            seconds[name].append(_timed(step, accelerator, repeats=4))

    print(f"{accelerator.device.type}, {torch.get_num_threads()} threads, precision {accelerator.mixed_precision}, "
          f"batch {options.batch}, {options.size} px, {options.rounds} rounds: pictures/s and share of the limit")
    for name, taken in seconds.items():
        ratios = [limit / own for limit, own in zip(seconds["limit"], taken, strict=True)]
        print(f"{name:22s} {options.batch / statistics.median(taken):9.1f}/s   {statistics.median(ratios):.2f} "
              f"[{min(ratios):.2f}, {max(ratios):.2f}]")


def _three_bare_passes(image: torch.Tensor, labels: torch.Tensor, accelerator) -> Callable[[], None]:
    network = resnet18(num_classes=CLASSES).to(accelerator.device, memory_format=torch.channels_last).train()

    def step() -> None:
        network.zero_grad(set_to_none=True)
        for _ in range(3):
            with accelerator.autocast():
                loss = F.cross_entropy(network(image).float(), labels)
            loss.backward()
    return step


def _row(row: str, pictures: torch.Tensor, labels: torch.Tensor, options: argparse.Namespace,
         accelerator) -> Callable[[], None]:
    # The literal reading: all three passes train the whole classifier, so that the work is comparable with the limit.
    configuration = Configuration(row=row, dataset="cartoons", seed=0, size=options.size, batch_size=options.batch,
                                  classifier_learns="everything", batch_norm="shared", optimiser="sgd", weights="none")
    learner = build_learner(configuration, Classifier(CLASSES), accelerator)
    learner.network.to(accelerator.device, memory_format=torch.channels_last).train()
    rng = generator(0, "steps")
    return lambda: learner.step(unit_range(pictures), labels, rng)


def _timed(step: Callable[[], object], accelerator, repeats: int) -> float:
    _wait(accelerator)
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    _wait(accelerator)
    return (time.perf_counter() - began) / repeats


def _wait(accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
