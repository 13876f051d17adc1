"""Files and folders that are whole or absent, whoever is killed meanwhile, and places that one process has to itself."""

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where a disk, or what one may use of it, is full."""
_WAY_OUT = "check the folder and its permissions, or name another place in BIPARTITION_RESULTS or BIPARTITION_DATA"


class NoLocksError(OSError):
    """A file system on which one process cannot keep others out."""


class Interrupted(RuntimeError):
    """Work was stopped from outside; what is done of it is right."""


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Let one process at a time work on a folder, which need not be there yet; another waits, and says for whom.

    The lock is the system's, on a hidden file beside the folder, and ends with its process.

    Raises
    ------
    OSError
        If the place cannot be written to.
    NoLocksError
        If its file system has none.
    """
    lock = work.with_name(f".{work.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = open(lock, "a+", encoding="utf-8")  # noqa: SIM115  closed below
    except OSError as error:
        raise OSError(error.errno, f"cannot write to {lock.parent}: {error.strerror}; {_WAY_OUT}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            number = stream.read().strip()  # none yet where both began at the same moment
            other = f"process {number}" if number else "another process"
            print(f"{other} is at work on {work}: waiting for it to end (Ctrl-C gives up)", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            raise NoLocksError(error.errno, f"{lock.parent} cannot be locked: {error.strerror}; name a place on another file "
                                            "system in BIPARTITION_RESULTS or BIPARTITION_DATA") from error
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield


@contextlib.contextmanager
def place(path: Path) -> Iterator[Path]:
    """Write a file completely or not at all: yields a temporary neighbour, flushes it to disk and renames it to `path`.

    Raises
    ------
    OSError
        As the file system says (no permission, disk full), with the target named; nothing half-written stays.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        way_out = "free some space" if error.errno in DISK_FULL else "check the folder and its permissions"
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}; {way_out}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def unfinished(folder: Path) -> Path:
    """The neighbour of `folder` in which `completed` lets it be made."""
    return folder.with_name(f".{folder.name}.partial")


@contextlib.contextmanager
def completed(folder: Path, *, go_on: bool = False) -> Iterator[Path]:
    """Yield a neighbour of `folder` that takes its place at the end; after an error nothing of it stays.

    To be used under `alone`, so that a neighbour which lies there already is what a killed process left.  It
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
        sync(folder.parent)
    except BaseException as error:
        interrupted = isinstance(error, Interrupted) or not isinstance(error, Exception)
        if not (go_on and interrupted):
            shutil.rmtree(partial, ignore_errors=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what processes that were killed while they wrote into a folder have left of `place`.

    Raises
    ------
    NotADirectoryError
        If the folder is a file.
    """
    if folder.is_file():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file, and has to be a folder; move it away")
    for left in folder.glob(".*"):
        if left.is_file() and re.fullmatch(r"\..+\.[a-z0-9_]{8}(\.\w+)?", left.name):  # as tempfile names them
            left.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk: a file that was renamed has its new name also after the power went."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Atomic file of what is in memory already.

    PyTorch, safetensors and NumPy each have an error of their own for a full disk where they write themselves.
    """
    with place(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Atomic text file in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, what: Any) -> None:
    """Atomic, indented JSON with a final newline."""
    write_text(path, json.dumps(what, indent=2) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Atomic ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, array)
    write_bytes(path, stream.getbuffer())


def read_json(path: Path) -> Any:
    """JSON of a file; {} if there is none.

    Raises
    ------
    ValueError
        If the file is no JSON, with its name and the way out.
    OSError
        If it may not be read, or a file stands where its folder should be.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OSError(error.errno, f"cannot read {path}: {error.strerror}; {_WAY_OUT}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as JSON ({error}); delete it to make it again") from error
