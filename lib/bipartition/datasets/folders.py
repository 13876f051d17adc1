"""A folder is there completely or not at all, whoever else makes it at the same time and whenever the process dies."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["alone", "completed"]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make `folder`; a lock of the system, which ends with its process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def completed(folder: Path) -> Iterator[Path]:
    """Yield a new, empty neighbour of `folder` that takes its place at the end; after an error nothing of it stays.

    To be used under `alone`, so that a neighbour which lies there already is what a killed process left.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
