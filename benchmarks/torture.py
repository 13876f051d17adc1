"""Kill the pipeline at random moments, start it again, and see whether anything was lost or came out differently.

``python benchmarks/torture.py --kills 50`` (``make torture``) runs a tiny profile of its own once without disturbance; then
it kills the same command with SIGKILL and SIGTERM in turn, at moments drawn from a seed, over preparation, training,
evaluation, drawing and report.  After every fifth kill, or if it has ended before one, the command is left to its end, its
results are compared byte by byte with the undisturbed ones, and all begins anew.  Exits with 1 if anything differs, is lost, or
is left running.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bipartition.machine import ASKED

PROFILE = """about: One row on 64 cartoons of 32 pixels, to be killed.
sets: {table1: cartoons, gallery: cartoons}
seeds: [0]
rows: [chan_vese]
data:
  cartoons: {train: 64, val: 16}
training:
  {size: 32, batch_size: 16, epochs: 4, weights: none, optimiser: adam, warmup_epochs: 3, warmup_batch_size: 16,
   warmup_rate: 0.001, warmup_cuts: 0.5, judge: turns, judge_turns: 1, batch_norm: frozen, initial_foreground: 0.8,
   alpha: 150.0, lambda1: 0.0233, lambda2: 0.007, classifier_rate: 0.0003, decoder_rate: 0.001}
"""
COMPARED = ("runs/**/metrics.json", "runs/**/history.csv", "runs/**/masks.npy", "*.csv", "figures/*.png")
"""Files of ``results/torture/`` that must be the same bytes; the others name times or temporary places."""
KEPT = ("results/torture/runs/**/metrics.json", "data/prepared/*/*.json")
"""What may not be lost once it is there: finished runs and prepared pictures."""
A_ROUND = 5
"""Kills before the command may end."""
PATIENCE_S = 15
"""Until what a killed command had started must have ended too."""


@dataclass
class Tally:
    """What came of it: `during` counts kills by what they hit; everything that follows it should be empty."""

    kills: int = 0
    completed: int = 0
    compared: int = 0
    during: Counter = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    left_running: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing lost, nothing different, nothing left."""
        return not (self.differing or self.lost or self.left_running or self.failed)

    def __str__(self) -> str:
        different = {line.partition(":")[0] for line in self.differing}
        lines = [f"kills {self.kills}   completed {self.completed}   identical {self.completed - len(different)}   "
                 f"lost {len(self.lost)}   left running {len(self.left_running)}   failed {len(self.failed)}",
                 "killed during " + ", ".join(f"{what} {count}" for what, count in self.during.most_common())]
        return "\n".join([*lines, *self.differing, *self.lost, *self.left_running, *self.failed])


class Place:
    """A folder with data and results of its own, in which the pipeline is run."""

    def __init__(self, folder: Path, profile: Path, options: Sequence[str]) -> None:
        self.folder = folder
        self.command = [sys.executable, "-m", "bipartition.pipeline", "--profile", str(profile), *options]
        self.environment = os.environ | {"BIPARTITION_RESULTS": str(folder / "results"),
                                         "BIPARTITION_DATA": str(folder / "data"), ASKED: "cpu"}

    def start(self) -> subprocess.Popen:
        """The command, with what it says in ``log.txt``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            return subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def said(self) -> str:
        """What all starts have said."""
        log = self.folder / "log.txt"
        return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""

    def results(self) -> dict[str, bytes]:
        """Content of what is compared, by name."""
        root = self.folder / "results" / "torture"
        return {str(path.relative_to(root)): path.read_bytes() for pattern in COMPARED for path in sorted(root.glob(pattern))}

    def kept(self) -> set[str]:
        """Names of what may not be lost."""
        return {str(path.relative_to(self.folder)) for pattern in KEPT for path in self.folder.glob(pattern)}

    def processes(self) -> list[str]:
        """Processes that work in this place: kernels that outlived their pipeline."""
        return working_for(self.folder / "results")


def doing(said: str) -> str:
    """What the pipeline was at when it had said this: the kind of the step begun last; training ends with an evaluation."""
    _, *steps = re.split(r"(?m)^\[\d+/\d+\] (\S+) \.\.\.$", said)
    if not steps:
        return "start"
    step, since = steps[-2:]
    epochs = re.findall(r"seed0  epoch (\d)/(\d)", since)
    return "evaluation" if epochs and len(set(epochs[-1])) == 1 else step.partition("-")[0]


def working_for(results: Path) -> list[str]:
    """Number and command of every process but this one that was started with BIPARTITION_RESULTS = `results`."""
    mine, found = f"BIPARTITION_RESULTS={results}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and mine in (process / "environ").read_bytes().split(b"\0"):
                found.append(f"{process.name} {(process / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()[:80]}")
        except OSError:
            continue  # ended meanwhile, or not ours
    return found


def torture(root: Path, kills: int, seed: int, options: Sequence[str]) -> Tally:
    """Do it in the folder `root`, `options` going to the pipeline.

    Raises
    ------
    RuntimeError
        If the undisturbed run fails.
    """
    profile = root / "torture.yaml"
    profile.parent.mkdir(parents=True, exist_ok=True)
    profile.write_text(PROFILE, encoding="utf-8")
    calm = Place(root / "calm", profile, options)
    began = time.monotonic()
    if calm.start().wait() != 0:
        raise RuntimeError(f"the undisturbed run failed: {calm.folder / 'log.txt'}")
    duration, expected = time.monotonic() - began, calm.results()
    print(f"undisturbed: {duration:.0f} s, {len(expected)} files to compare", flush=True)

    moments, tally = random.Random(seed), Tally(compared=len(expected))
    while tally.kills < kills:
        place = Place(root / f"round{tally.completed + 1}", profile, options)
        for start in range(min(A_ROUND, kills - tally.kills)):
            if not _kill(place, moments.uniform(0, 0.6 * duration), (signal.SIGKILL, signal.SIGTERM)[tally.kills % 2], tally):
                if start == 0:  # no kill has left it less to do: the machine is quicker than when the first run was timed
                    duration *= 0.7
                break
        if not tally.failed and place.start().wait() != 0:
            tally.failed.append(f"failed: {place.folder / 'log.txt'}")
        if tally.failed:  # it may fail whenever it is started
            return tally
        tally.completed += 1
        found = place.results()
        for name in sorted(expected.keys() | found.keys()):
            if found.get(name) != expected.get(name):
                how = "differs" if name in found and name in expected else "is not in both"
                tally.differing.append(f"{place.folder.name}: {name} {how}")
        print(tally, flush=True)
    return tally


def _kill(place: Place, after: float, how: signal.Signals, tally: Tally) -> bool:
    """One start and one kill; returns False, and counts none, if the command has ended before its moment."""
    before, said, kills = place.kept(), len(place.said()), tally.kills
    process = place.start()
    try:
        status = process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        process.wait()
        tally.kills += 1
        tally.during[doing(place.said()[said:])] += 1
    else:
        if status != 0:
            tally.failed.append(f"ended with {status} before its kill: {place.folder / 'log.txt'}")
    until = time.monotonic() + PATIENCE_S
    while place.processes() and time.monotonic() < until:
        time.sleep(0.1)
    tally.left_running += [f"left running after {how.name}: {line}" for line in place.processes()]
    tally.lost += [f"lost by {how.name} after {after:.1f} s: {name}" for name in sorted(before - place.kept())]
    return tally.kills > kills


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where to do it and leave it; a temporary folder if none is given")
    parser.add_argument("--no-notebooks", action="store_true", help="prepare and train only: quicker")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="torture ä "))).resolve()
    tally = torture(folder, options.kills, options.seed, ["--no-notebooks"] if options.no_notebooks else [])
    if tally.good and not options.folder:  # else its logs are wanted
        shutil.rmtree(folder)
    print(tally if not tally.good else f"{tally}\nnothing lost, nothing different")
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
