"""Work on many pictures by several processes, and the file that all of them write into."""

import contextlib
import hashlib
import io
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bipartition.files import Interrupted

CHUNK = 16
"""So many pictures a process decodes before it hands over what became of them."""


@contextlib.contextmanager
def outcomes_in_turn(work: Callable[[int], Any], places: range, workers: int) -> Iterator[Iterator[Any]]:
    """What `work` gives for each place, in order, from `workers` processes that take turns at `CHUNK` places.

    Processes, because much of the work on a small picture holds Python's lock.  Each has a pipe of its own: one that gets too
    far ahead waits there, and ends there if the reader is gone.
    """
    if workers < 2 or multiprocessing.current_process().daemon:  # a daemon may start none
        yield map(work, places)
        return
    chunks = [places[start:start + CHUNK] for start in range(0, len(places), CHUNK)]
    readers, processes = [], []
    try:
        for number in range(workers):
            reader, writer = multiprocessing.Pipe(duplex=False)
            readers.append(reader)
            with writer:
                process = multiprocessing.Process(target=_serve, args=(work, chunks[number::workers], writer, readers))
                process.start()
            processes.append(process)
        yield itertools.chain.from_iterable(
            _received(readers[turn % workers], processes[turn % workers]) for turn in range(len(chunks)))
    finally:
        for process in processes:
            process.kill()
            process.join()
        for reader in readers:
            reader.close()


def _serve(work: Callable[[int], Any], chunks: list[range], writer: Connection, readers: list[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the one that reads ends the others
    for reader in readers:
        reader.close()
    with contextlib.suppress(BrokenPipeError):
        for chunk in chunks:
            try:
                outcome = [work(place) for place in chunk]
            except Exception as error:
                outcome = error
            writer.send(outcome)
    os._exit(0)  # a fork of a notebook's kernel must not put away the kernel's sockets


def _received(reader: Connection, process: multiprocessing.Process) -> list[Any]:
    try:
        outcome = reader.recv()
    except (EOFError, OSError):  # OSError where it was killed within a message
        process.join()
        raise Interrupted(f"a process that decodes pictures ended with exit code {process.exitcode} (-9: killed, most often "
                           "because memory ran out); start again, and it goes on where it stopped") from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class ArrayFile:
    """A ``.npy`` file of uint8 whose entries along the first axis are written in any order, from any process.

    Written with pwrite instead of a memory map: a full disk is an error then and not a crash, and written pages do not
    count as memory of a process.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._start, self._step = len(header.getvalue()), int(np.prod(shape[1:]))
        self._stream = open(path, "r+b" if path.exists() else "wb", buffering=0)  # noqa: SIM115  closed by __exit__
        self._stream.write(header.getvalue())
        self._path, self._shape = path, shape
        self._reader, self._digest = open(path, "rb", buffering=0), hashlib.sha256()  # noqa: SIM115  closed by __exit__
        self._buffer = memoryview(bytearray(2**20))

    def __reduce__(self) -> tuple:
        return ArrayFile, (self._path, self._shape)  # where processes are not forked each opens it for itself

    def write(self, place: int, entry: np.ndarray) -> None:
        if entry.shape != self._shape[1:] or entry.dtype != np.uint8:
            raise ValueError(f"entry {place} has shape {entry.shape} of {entry.dtype}, not {self._shape[1:]} of uint8")
        data, offset = memoryview(np.ascontiguousarray(entry).reshape(-1)), self._start + place * self._step
        while data:
            written = os.pwrite(self._stream.fileno(), data, offset)
            data, offset = data[written:], offset + written

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._reader.close()

    def to_disk(self, count: int) -> bytes:
        """See to it that the first `count` entries stay, even if the machine loses power; returns the SHA-256 up to there."""
        os.fsync(self._stream.fileno())
        end = self._start + count * self._step
        while left := end - self._reader.tell():
            if not (got := self._reader.readinto(self._buffer[:min(left, len(self._buffer))])):
                raise RuntimeError(f"{self._path.name} ends before picture {count}, which had been written; what was done is "
                                   "removed, start again")
            self._digest.update(self._buffer[:got])
        return self._digest.digest()
