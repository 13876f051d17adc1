"""Decode every picture of a data set once into memory-mapped arrays, so that training decodes none."""

import contextlib
import csv
import errno
import functools
import hashlib
import io
import itertools
import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bipartition import files, runs
from bipartition.datasets import open_dataset
from bipartition.datasets.decoding import ArrayFile, outcomes_in_turn
from bipartition.datasets.download import VARIABLES
from bipartition.datasets.photographs import VOID, DataSet, Item, describe_files
from bipartition.machine import cores

PREPARE_VERSION = 1
"""Raised by hand when decoding or the files change: what older code prepared is then made again."""

BLOCK = 512
"""So many pictures are brought to disk before they are recorded as done; a killed preparation goes on after them.
Fewer than two blocks are decoded without other processes, whose start would cost more than they save."""

SOURCES = "sources.csv"
"""A line for each picture that is done: id, width and height of the photograph as stored, SHA-256 of its files.  No part of the
checksum, which speaks of the pixels."""


@dataclass(frozen=True)
class Split:
    """One split, memory-mapped read-only.

    Attributes
    ----------
    images : memmap of uint8, shape (N, 3, S, S)
    labels : ndarray of int64, shape (N,)
        Index into `Prepared.classes`.
    truth_codes : ndarray of int64, shape (N,)
        Code of the picture's class in `masks`: its index in `Prepared.all_classes`, plus 1.
    masks : memmap of uint8, shape (N, S, S), or None without truth
        0 background, 1.. index in `Prepared.all_classes` plus 1, 255 void.
    ids : list of str
    """

    images: np.memmap
    labels: np.ndarray
    truth_codes: np.ndarray
    masks: np.memmap | None
    ids: list[str]


@dataclass(frozen=True)
class Prepared:
    """A prepared data set on disk.

    Attributes
    ----------
    name : str
    classes : tuple of str
        The classes that occur in training, in the data set's order.
    all_classes : tuple of str
        Every class of the data set.
    size : int
        Height and width in pixels.
    checksum : str
        SHA-256 over images, masks and index: equal where the pixels are equal.
    folder : Path
    left_out : dict of str to int
        Why pictures of the source are not here, and how many.
    """

    name: str
    classes: tuple[str, ...]
    all_classes: tuple[str, ...]
    size: int
    checksum: str
    folder: Path
    left_out: dict[str, int]

    def split(self, name: str) -> Split:
        """The ``train`` or the ``val`` split."""
        if name not in ("train", "val"):
            raise ValueError(f"there is no split {name!r}; the splits are train, val")
        with open(self.folder / "index.csv", newline="", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
        places = [place for place, line in enumerate(lines) if line["split"] == name]
        part = slice(places[0], places[-1] + 1)
        labels = [line["label"] for line in lines[part]]
        masks = self.folder / "masks.npy"
        return Split(
            images=np.load(self.folder / "images.npy", mmap_mode="r")[part],
            labels=np.array([self.classes.index(label) for label in labels], np.int64),
            truth_codes=np.array([self.all_classes.index(label) + 1 for label in labels], np.int64),
            masks=np.load(masks, mmap_mode="r")[part] if masks.exists() else None,
            ids=[line["id"] for line in lines[part]])


def prepare(name: str, size: int, options: dict[str, Any] | None = None) -> Prepared:
    """Open a prepared data set; decode it first if it is not there or its source has changed.

    Parameters
    ----------
    name : str
        A data set of `bipartition.datasets.NAMES`.
    size : int
        Height and width to squash pictures to.
    options : dict, optional
        Options of `open_dataset`.

    Returns
    -------
    Prepared
        In ``data/prepared/<name>-<size>-<key>/``; the key is made of the options and the source, not of its place.

    Raises
    ------
    ValueError
        For a wrong name, size or option, an empty split, or pictures that are missing or unreadable (in one message).
    OSError
        If the folder cannot be written or the disk is too small; nothing half-written stays.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"size = {size!r}; it must be a whole number of pixels")
    dataset = open_dataset(name, **(options or {}))
    folder, made_by = _place(name, size, options or {}, dataset.stamp())
    try:
        if (prepared := _open(folder)) is not None:
            return prepared
        items, left_out = _usable(dataset)
        with files.alone(folder):
            return _open(folder) or _make(dataset, items, left_out, size, folder, made_by)
    except files.NoLocksError:
        raise
    except OSError as error:
        way_out = ("free some space, or choose another disk with BIPARTITION_DATA" if error.errno in files.DISK_FULL
                   else "check the folder and its permissions, or choose another with BIPARTITION_DATA")
        reason = error.__cause__ if isinstance(error.__cause__, OSError) else error  # without the way out that one has told
        raise OSError(error.errno, f"cannot write {folder}: {reason.strerror or reason}; {way_out}") from error


def prepared_before(name: str, size: int, options: dict[str, Any], stamp: str) -> Prepared | None:
    """What `prepare` would open without decoding, None if it would decode; reads no photograph.

    Parameters
    ----------
    name, size, options
        As of `prepare`.
    stamp : str
        What the data set says of its source.
    """
    return _open(_place(name, size, options, stamp)[0])


def checksum_at_hand(name: str, size: int, options: dict[str, Any]) -> str | None:
    """Of what `prepare` would open without decoding, None if it would decode, or its source is not at hand; fetches nothing."""
    from bipartition.datasets.download import is_at_hand

    try:
        stamp = open_dataset(name, **options).stamp() if is_at_hand(name) else None
    except (OSError, ValueError):  # a place that does not hold what it should
        return None
    found = stamp and prepared_before(name, size, options, stamp)
    return found.checksum if found else None


def _place(name: str, size: int, options: dict[str, Any], stamp: str) -> tuple[Path, dict[str, Any]]:
    """The folder, and what its name is made of."""
    made_by = {"name": name, "size": size, "options": options, "version": PREPARE_VERSION, "source": stamp}
    return runs.prepared_root() / f"{name}-{size}-{runs.fingerprint(made_by)}", made_by


def _open(folder: Path) -> Prepared | None:
    """What lies in `folder`, or None if it is not all there."""
    if not (about := files.read_json(folder / "prepared.json")):
        return None
    for name, length in about["files"].items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != length:
            return None
    return Prepared(about["name"], tuple(about["classes"]), tuple(about["all_classes"]), about["size"],
                    about["checksum"], folder, about["left_out"])


def _usable(dataset: DataSet) -> tuple[list[Item], dict[str, int]]:
    """The items whose class occurs in training, each with a name of its own; both splits must have some."""
    items, left_out = dataset.items(), dict(dataset.left_out)
    if twice := [name for name, times in Counter(item.id for item in items).items() if times > 1]:
        raise ValueError(f"{dataset.name} has {len(twice)} names that more than one picture bears, as {twice[0]!r}; its reader "
                         "has to tell them apart")
    trained = {item.label for item in items if item.split == "train"}
    usable = [item for split in ("train", "val") for item in items if item.split == split and item.label in trained]
    if len(usable) < len(items):
        left_out["val: class without a training picture"] = len(items) - len(usable)
    for split in ("train", "val"):
        if not any(item.split == split for item in usable):
            reasons = ", ".join(f"{count} ({why})" for why, count in left_out.items()) or "none"
            variable = VARIABLES.get(dataset.name, "")
            where = f" ({variable}={os.environ[variable]})" if variable in os.environ else ""
            raise ValueError(f"{dataset.name}{where} has no usable picture in its split {split!r}; left out: {reasons}; "
                             "check the folder, and the lists of the data set")
    return usable, left_out


def _make(dataset: DataSet, items: list[Item], left_out: dict[str, int], size: int, folder: Path,
          made_by: dict[str, Any]) -> Prepared:
    _check_space(folder, len(items) * size * size * (4 if dataset.has_truth else 3))
    print(f"{dataset.name}: preparing {len(items)} pictures at {size} x {size} in {folder}", flush=True)
    started = time.perf_counter()
    with files.completed(folder, go_on=True) as partial:
        digests = _decode(dataset, items, size, partial)
        if dataset.has_truth:
            _check_truth(dataset, items, np.load(partial / "masks.npy", mmap_mode="r"))
        files.write_text(partial / "index.csv", _index(items, dataset.classes))
        trained = {item.label for item in items}
        digests["index.csv"] = hashlib.sha256((partial / "index.csv").read_bytes()).digest()
        files.write_json(partial / "prepared.json", {
            "name": dataset.name,
            "classes": [name for label, name in enumerate(dataset.classes) if label in trained],
            "all_classes": list(dataset.classes),
            "size": size,
            "checksum": _checksum(digests),
            "files": {name: (partial / name).stat().st_size for name in sorted([*digests, SOURCES])},
            "left_out": left_out,
            "made_by": made_by,
        })
    print(f"{dataset.name}: prepared in {time.perf_counter() - started:.1f} s", flush=True)
    return _open(folder)


def _check_truth(dataset: DataSet, items: list[Item], masks: np.ndarray) -> None:
    """Raise if no validation picture has an object pixel: nothing could be measured, which would be seen after the training."""
    if not any(((mask > 0) & (mask < VOID)).any() for mask, item in zip(masks, items, strict=True) if item.split == "val"):
        raise ValueError(f"no mask of the validation pictures of {dataset.name} has an object pixel; an object has the index "
                         f"of its class plus 1, {VOID} is undecided: correct `read` of its reader, or the masks")


def _check_space(folder: Path, size: int) -> None:
    """Raise if the disk has no room for `size` bytes; what a killed preparation has left of `folder` needs none again."""
    there = sum(path.stat().st_blocks * 512 for path in files.unfinished(folder).glob("*"))
    free = shutil.disk_usage(folder.parent).free
    needed = max(0, size - there)
    if needed * 1.02 + 2**20 > free:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB free")


def _decode(dataset: DataSet, items: list[Item], size: int, folder: Path) -> dict[str, bytes]:
    """Write ``images.npy`` and ``masks.npy``, a process for each core, from where `SOURCES` ends; returns their SHA-256."""
    with contextlib.ExitStack() as stack:
        shapes = {"images.npy": (3, size, size)} | ({"masks.npy": (size, size)} if dataset.has_truth else {})
        arrays = {name: stack.enter_context(ArrayFile(folder / name, (len(items), *shape))) for name, shape in shapes.items()}
        bad, done = [], _done(folder / SOURCES)
        work = functools.partial(_work, dataset, items, size, list(arrays.values()))
        workers = min(cores(), (len(items) - done) // BLOCK)
        outcomes = stack.enter_context(outcomes_in_turn(work, range(done, len(items)), workers))
        while block := list(itertools.islice(outcomes, BLOCK)):  # the processes go on while a block is brought to disk
            done += len(block)
            bad += [reason for reason, _ in block if reason]
            if not bad:
                for array in arrays.values():
                    array.to_disk(done)
                _record(folder / SOURCES, [source for _, source in block])
        if bad:
            more = f"\n  and {len(bad) - 10} more" if len(bad) > 10 else ""
            raise ValueError(f"{len(bad)} of {len(items)} pictures of {dataset.name} cannot be used:\n  "
                             + "\n  ".join(bad[:10]) + more
                             + "\nreplace these files, or take them out of the lists of the data set")
        return {name: array.to_disk(len(items)) for name, array in arrays.items()}


def _work(dataset: DataSet, items: list[Item], size: int, arrays: list[ArrayFile], place: int) -> tuple[str | None, tuple]:
    """Read one picture and write it to its place: why it cannot be used, or its line in `SOURCES`."""
    try:
        image, mask = dataset.read(items[place], size)
        if mask is not None and (unknown := set(np.unique(mask)) - {*range(len(dataset.classes) + 1), VOID}):
            raise ValueError(f"its mask has the value {min(unknown)}; known are 0 (background), 1 to {len(dataset.classes)} "
                             f"(the classes in their order) and {VOID} (undecided)")
        source = describe_files(dataset.files(items[place]))
    except Exception as error:  # whatever a decoder raises on a broken file
        return f"{items[place].id}: {_reason(error)}", ()
    for array, entry in zip(arrays, (image.transpose(2, 0, 1), mask), strict=False):
        array.write(place, entry)
    return None, (items[place].id, *source)


def _done(path: Path) -> int:
    """How many pictures a killed preparation has recorded; a line that it did not end is cut off."""
    if not path.is_file():
        files.write_text(path, "id,width,height,sha256\n")
    whole = path.read_bytes()
    whole = whole[:whole.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    return whole.count(b"\n") - 1


def _record(path: Path, lines: list[tuple]) -> None:
    with open(path, "a", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
        stream.flush()
        os.fsync(stream.fileno())


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no file {error.filename}"
    return f"{error or type(error).__name__}"


def _index(items: list[Item], classes: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", "split"])
    writer.writerows([item.id, classes[item.label], item.split] for item in items)
    return text.getvalue()


def _checksum(digests: dict[str, bytes]) -> str:
    """SHA-256 over names and digests of the files that hold the content."""
    return hashlib.sha256(b"".join(f"{name}\0".encode() + digests[name] for name in sorted(digests))).hexdigest()
