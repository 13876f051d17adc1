"""How do time and memory grow with photographs, picture size and classes?  Prints Markdown.

    python benchmarks/growth.py [--row chan_vese] [--rounds 3]
    python benchmarks/growth.py --memory [--row mumford_shah]
    python benchmarks/growth.py --operations paper

One epoch of `bipartition.training.train_row` without warm-up, evaluation and all files included, on noise; each measurement
is a process of its own, without its imports.  Time is given for each picture and pixel, as a ratio to the first line of its
table: 1 all the way down is a straight line.  The second command compares processes that keep freed memory, as those that train
do, with others that give it back to the system, in turn.  The third counts what a step of each row of a profile computes and
moves, and where the profile says how many pictures it trains on, how long a product of matrices would take for as much.
"""

import argparse
import dataclasses
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from bipartition.profiles import Profile

USUAL = {"photographs": 256, "size": 64, "classes": 6}
GROWTH = {"photographs": (500, 1000, 2000, 3000), "size": (64, 96, 128, 224), "classes": (2, 6, 20)}
VALIDATION = 64
KEPT = ({"size": 64, "batch_size": 16}, {"size": 112, "batch_size": 32}, {"size": 224, "batch_size": 16},
        {"size": 224, "batch_size": 32})
CARD = {"operations": 989e12, "bytes": 3.35e12}
"""A second of an H100 (SXM), by its data sheet: bfloat16 without sparsity, and its memory."""
COUNTED_CLASSES = 20


class Epoch(NamedTuple):
    """Its seconds, the process's largest memory after and before it in MB, and the pages that it asked for."""

    seconds: float
    peak: float
    before: float
    pages: int


def main() -> None:
    """Measure, and print a table for each of the three; or compare or count, and print one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", default="chan_vese")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="compare freed memory that is kept with such that is given back")
    parser.add_argument("--operations", metavar="PROFILE",
                        help="count operations, bytes and calls of its rows, and measure nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.operations:
        from bipartition.profiles import profile_or  # not above: what is measured begins before the library

        _count_operations(profile_or(parser.error, options.operations))
        return
    if options.one:
        print(json.dumps(_measured(options.row, **json.loads(options.one))))
        return
    if options.memory:
        _compare_memory(options.row, options.rounds)
        return
    print(f"{options.row}, one epoch in batches of 16, {options.rounds} rounds, median\n")
    for what, values in GROWTH.items():
        print(f"| {what} | s | time for a picture and pixel | peak memory, MB | before the first picture, MB |")
        print("| --: | --: | --: | --: | --: |")
        first = None
        for value in values:
            case = USUAL | {what: value}
            runs = [_in_a_process(options.row, case) for _ in range(options.rounds)]
            seconds, peak, before, _ = (statistics.median(column) for column in zip(*runs, strict=True))
            each = seconds / (case["photographs"] * case["size"] ** 2)
            first = first or each
            print(f"| {value:,} | {seconds:.1f} | {each / first:.2f} | {peak:.0f} | {before:.0f} |", flush=True)
        print()


def _compare_memory(row: str, rounds: int) -> None:
    print(f"{row}, one epoch of {USUAL['photographs']} pictures, {rounds} rounds in turn, median [smallest, largest]\n")
    print("| size | batch | kept: times as fast | peak memory, times | thousands of pages asked for | given back |")
    print("| --: | --: | :-: | :-: | --: | --: |")
    for case in KEPT:
        rounds_of = {kept: [] for kept in (True, False)}
        for number in range(rounds):
            for kept in (True, False) if number % 2 else (False, True):
                rounds_of[kept].append(_in_a_process(row, USUAL | case | {"kept": kept}))
        pairs = list(zip(rounds_of[True], rounds_of[False], strict=True))
        pace = [given.seconds / kept.seconds for kept, given in pairs]
        peak = statistics.median(kept.peak / given.peak for kept, given in pairs)
        pages = [statistics.median(run.pages for run in runs) / 1000 for runs in rounds_of.values()]
        print(f"| {case['size']} | {case['batch_size']} | {statistics.median(pace):.2f} [{min(pace):.2f}, {max(pace):.2f}] | "
              f"{peak:.2f} | {pages[0]:,.0f} | {pages[1]:,.0f} |", flush=True)


def _in_a_process(row: str, case: dict[str, int]) -> Epoch:
    command = [sys.executable, __file__, "--row", row, "--one", json.dumps(case)]
    return Epoch(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def _measured(row: str, photographs: int, size: int, classes: int, batch_size: int = 16, kept: bool = True) -> Epoch:
    from bipartition import devices
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
        configuration = Configuration(row=row, dataset="cartoons", seed=0, size=size, epochs=1, batch_size=batch_size,
                                      warmup_epochs=0, weights="none", optimiser="adam", autoencoder_width=16,
                                      autoencoder_poolings=4)
        if not kept:
            devices.keep_freed_memory = lambda: None
        devices.accelerator_for_this_machine()  # a card takes its time to start
        before, pages, began = _largest(), _pages(), time.perf_counter()
        train_row(configuration, noise, Path(folder) / "run" / "seed0", profile="growth")
        return Epoch(time.perf_counter() - began, _largest(), before, _pages() - pages)


def _count_operations(profile: "Profile") -> None:
    """Print what a step of the warm-up and of every row of a profile computes and moves, for each picture; no judge's turns.

    On a card that does what its data sheet says, each call takes the longer of its sums and of its bytes, read once and
    written once, in bfloat16 where a GPU would compute in it.  Mini-batches of two and four are counted; all grows in a
    straight line from there.
    """
    import torch
    import torch.nn.functional as F
    from accelerate import Accelerator
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    from bipartition.configuration import warm_up_configuration
    from bipartition.convolutions import PatchConvolution, StemConvolution, TapConvolution
    from bipartition.epochs import unit_range
    from bipartition.learners import build_learner
    from bipartition.networks import Classifier
    from bipartition.profiles import configuration_for

    class Counted(TorchDispatchMode):
        """Operations and bytes of each call of PyTorch's own; what CASM draws by chance comes out as its turn says."""

        def __init__(self, live: bool) -> None:
            super().__init__()
            self.live, self.calls = live, []

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.ops.aten._local_scalar_dense.default and args[0].dtype == torch.bool:
                return self.live
            answer = function(*args, **(kwargs or {}))
            if not function.is_view and function.overloadpacket not in MOVES_NOTHING:
                count = flop_registry.get(function.overloadpacket)
                written = [given for given, argument in zip(args, function._schema.arguments, strict=False)
                           if argument.alias_info is not None and argument.alias_info.is_write]
                # what is changed in place is mostly answered too, by a fused optimiser not
                moved = [leaf for leaf in tree_leaves((args, kwargs, answer if function._schema.returns else written))
                         if isinstance(leaf, torch.Tensor)]
                self.calls.append((count(*args, **(kwargs or {}), out_val=answer) if count else 0,
                                   sum(tensor.nbytes for tensor in moved)))
            return answer

    MOVES_NOTHING = {torch.ops.aten._unsafe_view, torch.ops.aten.empty, torch.ops.aten.empty_like,
                     torch.ops.aten._local_scalar_dense}
    # As on a GPU: the usual convolutions, and autocast upsamples in float32.
    PatchConvolution.PIXELS, StemConvolution.SIDE = 0, math.inf
    TapConvolution.forward = lambda layer, x: torch.nn.Conv2d.forward(layer, x).float()
    usual, F.interpolate = F.interpolate, lambda x, **how: usual(x if how["mode"] == "nearest" else x.float(), **how)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    configurations = [configuration_for(profile, profile.sets["table1"], row, 0) for row in profile.rows]
    for_a_picture = 0.0
    print("| row | epochs | batch | 10⁹ operations a picture | MB a picture | calls a step | µs a picture, data sheet |")
    print("| :-- | --: | --: | --: | --: | --: | --: |")
    warm_up = [warm_up_configuration(configurations[0])] if configurations[0].warmup_epochs else []
    for configuration in [*warm_up, *configurations]:
        learner = build_learner(configuration, Classifier(COUNTED_CLASSES), accelerator)
        learner.network.to(memory_format=torch.channels_last)
        counted = {}
        for batch in (2, 4):
            calls, turns = [], (True, False) if configuration.row == "casm" else (False,)
            for live in (None, *turns):  # the first step of all makes what the others find
                rng, size = torch.Generator().manual_seed(0), configuration.size
                pictures = torch.randint(256, (batch, 3, size, size), generator=rng, dtype=torch.uint8)
                with Counted(live is True) as mode:
                    learner.step(unit_range(pictures), torch.zeros(batch, dtype=torch.long), rng)
                calls += mode.calls if live is not None else []
            counted[batch] = np.array(calls, dtype=float) / len(turns)
        operations, moved = (counted[2] + (counted[4] - counted[2]) * (configuration.batch_size - 2) / 2).T
        microseconds = 1e6 * np.maximum(operations / CARD["operations"], moved / CARD["bytes"]).sum()
        many = configuration.batch_size
        for_a_picture += configuration.epochs * operations.sum() / many
        print(f"| {configuration.row} | {configuration.epochs} | {many} | {operations.sum() / many / 1e9:.1f} "
              f"| {moved.sum() / many / 1e6:.0f} | {len(operations) / len(turns):.0f} | {microseconds / many:.0f} |",
              flush=True)
    if count := profile.options(profile.sets["table1"]).get("train"):
        speed, work = _product_of_matrices(), count * for_a_picture
        print(f"\nAll epochs on {count:,} pictures are {work / 1e12:.3g} · 10¹² operations, {work / speed / 60:.2g} minutes "
              f"at the {speed / 1e9:.3g} · 10⁹ a second of a product of two matrices here (float32, "
              f"{torch.get_num_threads()} threads).")


def _product_of_matrices() -> float:
    """Operations a second of the processor at its best, all threads together: no network of convolutions comes to more."""
    import torch

    side = 2048
    matrix, seconds = torch.rand(side, side), []
    for _ in range(8):
        began = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)


def _pages() -> int:
    """How often the system had to give this process a page of memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _largest() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
