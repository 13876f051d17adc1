"""A task, and whether it is up to date: what it was made from is remembered in ``results/<profile>/.stamps/``."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bipartition import files, runs


@dataclass(frozen=True, kw_only=True)
class Task:
    """One step of the way.

    ``inputs`` says what it is made from, in plain values, at its turn; ``outputs`` are the files that it leaves.  Where
    ``makes_inputs``, some inputs are there only once it is done.
    ``recheck`` may know better than a missing stamp, as for a run that was copied from another machine.  Neighbours with the
    same ``stage`` do not need each other.
    """

    name: str
    inputs: Callable[[], Any]
    outputs: tuple[Path, ...]
    action: Callable[[], None]
    recheck: Callable[[], bool] = lambda: False
    stage: str = ""
    makes_inputs: bool = False


def is_up_to_date(task: Task, folder: Path) -> bool:
    """Are the outputs of `task` there, made from the same inputs?  `folder` is ``results/<profile>/``."""
    if not all(path.is_file() for path in task.outputs):
        return False
    stamp, now = files.read_json(_stamp(task, folder)), _fingerprint(task)
    # An output that somebody wrote over since is not the task's; with and without notebooks a task leaves other ones.
    known = stamp.get("outputs", {})
    if stamp.get("inputs") == now["inputs"] and all(known.get(name, found) == found for name, found in now["outputs"].items()):
        return True
    if not task.recheck():
        return False
    remember(task, folder)
    return True


def remember(task: Task, folder: Path, made_from: str | None = None) -> None:
    """Stamp a task as done from `made_from`, what `made_from_now` said when it began, or from its present inputs."""
    files.write_json(_stamp(task, folder), _fingerprint(task, made_from))


def made_from_now(task: Task) -> str | None:
    """Digest of a task's inputs before its work: what is changed meanwhile is not in it.  None where the task makes some."""
    return None if task.makes_inputs else runs.fingerprint(task.inputs())


def forget(task: Task, folder: Path) -> None:
    """Remove the stamp, before the task is done anew: if it fails half-way, it does not look finished.

    What an earlier try left half-written goes too, but for the folders of runs: somebody may be at work there, and who trains
    sweeps them.
    """
    stamp = _stamp(task, folder)
    try:
        stamp.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot remove {stamp}: {error.strerror}; check the folder and its permissions, or name "
                                   "another place in BIPARTITION_RESULTS") from error
    for place in {path.parent for path in task.outputs}:
        if not place.is_relative_to(folder / "runs"):
            files.sweep(place)


def file_digest(path: Path) -> str:
    """Sixteen hexadecimal digits of SHA-256 over a file; "missing" if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        return "missing"


def _stamp(task: Task, folder: Path) -> Path:
    return folder / ".stamps" / f"{task.name}.json"


def _fingerprint(task: Task, made_from: str | None = None) -> dict[str, Any]:
    return {"inputs": made_from or runs.fingerprint(task.inputs()),
            "outputs": {path.name: file_digest(path) for path in task.outputs}}
