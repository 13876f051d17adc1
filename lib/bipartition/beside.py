"""A notebook executed by a process of its own, so that others can be executed meanwhile."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bipartition import notebooks

__all__ = ["Aside", "cores"]


def cores() -> int:
    """How many cores may be used: what OMP_NUM_THREADS says, else those that the system gives this process."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(said) if said.isdecimal() and int(said) else len(os.sched_getaffinity(0))


class Aside:
    """`bipartition.notebooks.execute` in a process of its own, which ends when this one does.

    Parameters
    ----------
    source, target, parameters
        As `bipartition.notebooks.execute` takes them.
    threads : int
        For how many threads the notebook's kernel is told to compute with.
    """

    def __init__(self, source: Path, target: Path, parameters: Mapping[str, Any], threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._heard, told = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_execute, args=(told, source, target, dict(parameters)))
        with _variable("OMP_NUM_THREADS", str(threads)):
            self._process.start()
        told.close()

    @property
    def sentinel(self) -> int:
        """What `multiprocessing.connection.wait` can wait for: ready when the process has ended."""
        return self._process.sentinel

    def end(self) -> None:
        """Wait until it has ended.

        Raises
        ------
        NotebookError, OSError
            What `execute` raised there, or that the process is gone.
        """
        self._process.join()
        try:
            error = self._heard.recv()
        except EOFError:
            error = notebooks.NotebookError(f"the process that executed it ended with status {self._process.exitcode}")
        if error is not None:
            raise error

    def stop(self) -> None:
        """End it at once; its kernel notices, and ends too."""
        self._process.terminate()
        self._process.join()


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _execute(told: Connection, source: Path, target: Path, parameters: dict[str, Any]) -> None:
    """In the process: tell None, or the error."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        notebooks.execute(source, target, parameters)
    except KeyboardInterrupt:
        sys.exit(130)  # the terminal sent it to all; who waits for us says so
    except (notebooks.NotebookError, OSError) as error:
        told.send(error)
    else:
        told.send(None)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
