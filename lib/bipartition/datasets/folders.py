"""A folder is there completely or not at all, whoever else makes it at the same time and whenever the process dies."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from bipartition import files

__all__ = ["Interrupted", "completed", "unfinished"]


class Interrupted(RuntimeError):
    """Work was stopped from outside; what is done of it is right."""


def unfinished(folder: Path) -> Path:
    """The neighbour of `folder` in which `completed` lets it be made."""
    return folder.with_name(f".{folder.name}.partial")


@contextlib.contextmanager
def completed(folder: Path, *, go_on: bool = False) -> Iterator[Path]:
    """Yield a neighbour of `folder` that takes its place at the end; after an error nothing of it stays.

    To be used under `bipartition.files.alone`, so that a neighbour which lies there already is what a killed process left.  It
    is removed, or with `go_on` yielded as it is, for who can tell what in it is done; then an interruption (Ctrl-C,
    `Interrupted`) leaves it too.
    """
    partial = unfinished(folder)
    if not go_on:
        shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(exist_ok=True)
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        files.sync(folder.parent)
    except BaseException as error:
        interrupted = isinstance(error, Interrupted) or not isinstance(error, Exception)
        if not (go_on and interrupted):
            shutil.rmtree(partial, ignore_errors=True)
        raise
