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
def completed(folder: Path, *, go_on: bool = False) -> Iterator[Path]:
    """Yield a neighbour of `folder` that takes its place at the end; after an error nothing of it stays.

    To be used under `alone`, so that a neighbour which lies there already is what a killed process left.  It is removed, or
    with `go_on` yielded as it is, for who can tell what in it is done; then an interruption (Ctrl-C) leaves it too.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    if not go_on:
        shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(exist_ok=True)
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException as error:
        if isinstance(error, Exception) or not go_on:
            shutil.rmtree(partial, ignore_errors=True)
        raise
