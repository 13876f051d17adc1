"""A notebook executed by a process of its own, so that others can be executed meanwhile."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bipartition import notebooks
from bipartition.machine import card_is_wanted, threads

__all__ = ["Aside", "at_a_time"]


def at_a_time() -> int:
    """How many notebooks at a time: two on a CPU, whose cores one training of small pictures cannot fill; one beside a GPU.

    Told without PyTorch, which would open the card and hold half a gigabyte in a process that only waits.
    """
    return 1 if card_is_wanted() else min(2, threads())


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
        self._target = target
        self.told, tell = spawn.Pipe(duplex=False)
        """What `multiprocessing.connection.wait` can wait for: ready when there is something to hear at its `end`."""
        self._process = spawn.Process(target=_execute, args=(tell, threads, source, target, dict(parameters)), daemon=True)
        resource_tracker.ensure_running()  # started by the first process, it would let interrupts through again
        with _deaf_to_interrupts():
            self._process.start()
        tell.close()

    def end(self) -> None:
        """Wait until it has ended.

        Raises
        ------
        NotebookError, OSError
            What `execute` raised there, or that the process is gone.
        """
        try:
            error = self.told.recv()  # before the process is waited for, which may wait for a long message to be read
        except (EOFError, OSError):  # before a message, or in the middle of one
            self._process.join()
            error = notebooks.NotebookError(f"{self._target.name} was not executed to its end: the process that did it "
                                            f"{notebooks.in_words(self._process.exitcode)}")
        self._process.join()
        if error is not None:
            raise error

    def stop(self) -> None:
        """End it; its kernel notices, and ends too."""
        self._process.terminate()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C waits; a process that is started meanwhile is deaf to it until it says otherwise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _execute(tell: Connection, threads: int, source: Path, target: Path, parameters: dict[str, Any]) -> None:
    """In the process: tell None, or the error."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for the kernel
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        notebooks.execute(source, target, parameters)
    except KeyboardInterrupt:
        os._exit(130)  # the terminal sent it to all, and who waits for this process says so
    except (notebooks.NotebookError, OSError) as error:
        tell.send(error)
    except Exception as error:
        tell.send(notebooks.NotebookError(f"{source.name}: {type(error).__name__}: {error}"))
    else:
        tell.send(None)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
