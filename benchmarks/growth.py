"""How do time and memory grow with photographs, picture size and classes?  Prints Markdown.

    python benchmarks/growth.py [--row chan_vese] [--rounds 3]
    python benchmarks/growth.py --operations paper

One epoch of `bipartition.training.train_row` without warm-up, evaluation and all files included, on noise; each measurement
is a process of its own, without its imports.  Time is given for each picture and pixel, as a ratio to the first line of its
table: 1 all the way down is a straight line.  The second command counts what a step of each row of a profile computes.
"""

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

USUAL = {"photographs": 256, "size": 64, "classes": 6}
GROWTH = {"photographs": (500, 1000, 2000, 3000), "size": (64, 96, 128, 224), "classes": (2, 6, 20)}
VALIDATION = 64
CASM_STEPS = 100
"""Whose operations are counted: in half of them, drawn by chance, the classifier learns a second time."""
COUNTED_CLASSES = 20


def main() -> None:
    """Measure, and print a table for each of the three; or count, and print one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", default="chan_vese")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--operations", metavar="PROFILE",
                        help="count the additions and multiplications of its rows, and measure nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.operations:
        _count_operations(options.operations)
        return
    if options.one:
        print(json.dumps(_measured(options.row, **json.loads(options.one))))
        return
    print(f"{options.row}, one epoch in batches of 16, {options.rounds} rounds, median\n")
    for what, values in GROWTH.items():
        print(f"| {what} | s | time for a picture and pixel | peak memory, MB | before the first picture, MB |")
        print("| --: | --: | --: | --: | --: |")
        first = None
        for value in values:
            case = USUAL | {what: value}
            runs = [_in_a_process(options.row, case) for _ in range(options.rounds)]
            seconds, peak, before = (statistics.median(column) for column in zip(*runs, strict=True))
            each = seconds / (case["photographs"] * case["size"] ** 2)
            first = first or each
            print(f"| {value:,} | {seconds:.1f} | {each / first:.2f} | {peak:.0f} | {before:.0f} |", flush=True)
        print()


def _in_a_process(row: str, case: dict[str, int]) -> tuple[float, float, float]:
    command = [sys.executable, __file__, "--row", row, "--one", json.dumps(case)]
    return tuple(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def _measured(row: str, photographs: int, size: int, classes: int) -> tuple[float, float, float]:
    """Seconds of the epoch, and the process's largest memory after and before it in MB."""
    from bipartition.configuration import Configuration
    from bipartition.datasets.prepare import Prepared, Split
    from bipartition.training import train_row

    class Noise(Prepared):
        def split(self, split: str) -> Split:
            count, rng = photographs if split == "train" else VALIDATION, np.random.default_rng(0)
            labels = np.arange(count) % classes
            masks = np.broadcast_to(labels[:, None, None] + 1, (count, size, size)).astype(np.uint8)
            return Split(images=rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8), labels=labels, masks=masks,
                         truth_codes=labels + 1, ids=[str(number) for number in range(count)])

    names = tuple(f"class {number}" for number in range(classes))
    fields: dict[str, Any] = {field.name: None for field in dataclasses.fields(Prepared)}
    with tempfile.TemporaryDirectory() as folder:
        noise = Noise(**fields | {"name": "noise", "classes": names, "all_classes": names, "size": size, "checksum": "noise",
                                  "folder": Path(folder)})
        configuration = Configuration(row=row, dataset="cartoons", seed=0, size=size, epochs=1, batch_size=16, warmup_epochs=0,
                                      weights="none", optimiser="adam", autoencoder_width=16, autoencoder_poolings=4)
        before, began = _largest(), time.perf_counter()
        train_row(configuration, noise, Path(folder) / "run" / "seed0", profile="growth")
        return time.perf_counter() - began, _largest(), before


def _count_operations(name: str) -> None:
    """Print the operations of a step on one picture, of the warm-up and of every row of a profile; no turns of a judge."""
    import torch
    from accelerate import Accelerator
    from torch.utils.flop_counter import FlopCounterMode

    from bipartition.epochs import unit_range
    from bipartition.learners import build_learner
    from bipartition.networks import Classifier
    from bipartition.profiles import configuration_for, load_profile
    from bipartition.training import warm_up_configuration

    profile, rng = load_profile(name), torch.Generator().manual_seed(0)
    configurations = [configuration_for(profile, profile.sets["table1"], row, 0) for row in profile.rows]
    print("| row | epochs | 10⁹ operations a picture |\n| :-- | --: | --: |")
    warm_up = [warm_up_configuration(configurations[0])] if configurations[0].warmup_epochs else []
    for configuration in [*warm_up, *configurations]:
        learner = build_learner(configuration, Classifier(COUNTED_CLASSES), Accelerator(cpu=True))
        size, steps = configuration.size, CASM_STEPS if configuration.row == "casm" else 1
        picture = unit_range(torch.randint(256, (1, 3, size, size), generator=rng, dtype=torch.uint8))
        with FlopCounterMode(display=False) as counter:
            for _ in range(steps):
                learner.step(picture, torch.zeros(1, dtype=torch.long), rng)
        print(f"| {configuration.row} | {configuration.epochs} | {counter.get_total_flops() / steps / 1e9:.1f} |", flush=True)


def _largest() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
