"""What the readers of photographs share: an item, a balanced choice of items, decoding, and a stamp of the files."""

import hashlib
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

VOID = 255
"""Mask value of pixels whose class is undecided."""

CHOICE_SEED = 2296
"""Seed of the order in which a limit takes photographs; fixed, so that a smaller choice is part of a larger one."""


@dataclass(frozen=True)
class Item:
    """One picture of a data set: its name, the index of its class, and the split it belongs to."""

    id: str
    label: int
    split: str


class DataSet(ABC):
    """What `bipartition.datasets.prepare` reads: which pictures there are, and how one of them is read."""

    name: str
    classes: tuple[str, ...]
    has_truth: bool
    left_out: dict[str, int]
    """Pictures that are no items: why, and how many."""
    _items: list[Item]

    @abstractmethod
    def read(self, item: Item, size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image, uint8 (size, size, 3); mask, uint8 (size, size) of 0, class index + 1, 255, or None without truth."""

    @abstractmethod
    def files(self, item: Item) -> list[Path]:
        """What it is read from, the photograph first; nothing if it is drawn."""

    def items(self) -> list[Item]:
        """Training pictures first, each split in the order of the data set's own lists; the same list every time."""
        return self._items

    def stamp(self) -> str:
        """Digest of names, labels, splits, file sizes and the code that reads them: a changed reader prepares anew.

        A file replaced by one of as many bytes goes unnoticed.
        """
        digest = hashlib.sha256()
        for module in (type(self).__module__, __name__):
            digest.update(Path(sys.modules[module].__file__).read_bytes())
        for item in self._items:
            sizes = [_size(path) for path in self.files(item)]
            digest.update(f"{item.id}\0{item.label}\0{item.split}\0{sizes}\n".encode())
        return digest.hexdigest()[:16]


def limited(items: Iterable[Item], *, train: int | None, val: int | None) -> list[Item]:
    """At most `train` and `val` items, evenly from all classes as far as they reach; None means all.

    Each class is put in a seeded order of its own, and the classes take turns until the limit is reached.  The order of
    `items` decides nothing but the order of the result.

    Parameters
    ----------
    items : iterable of Item
        Both splits.
    train, val : int or None
        Upper limits.

    Returns
    -------
    list of Item
        Training items first, in the order given.
    """
    items = list(items)
    chosen = []
    for split, limit in (("train", train), ("val", val)):
        members = [item for item in items if item.split == split]
        if limit is not None and limit < len(members):
            turns = []
            for label in sorted({item.label for item in members}):
                ids = sorted(item.id for item in members if item.label == label)
                order = np.random.default_rng([CHOICE_SEED, label]).permutation(len(ids))
                turns += [(turn, label, ids[place]) for turn, place in enumerate(order)]
            kept = {name for _, _, name in sorted(turns)[:limit]}
            members = [item for item in members if item.id in kept]
        chosen += members
    return chosen


def read_photograph(path: Path | BinaryIO, size: int, *, turned: bool = True) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode a photograph of any kind and squash it to a square.

    Palette, grey, 16-bit grey and CMYK become RGB; transparency is laid on white.  Grey in floating point is spread from its
    darkest to its brightest pixel.

    Parameters
    ----------
    path : Path or binary file
        Any format that Pillow reads.
    size : int
        Height and width of the result.
    turned : bool
        Whether the camera's orientation (EXIF) is applied.

    Returns
    -------
    image : ndarray of uint8, shape (size, size, 3)
        In memory one colour lies after the other, as they are stored and trained on.
    original : tuple of int
        Width and height of the picture, turned or not.

    Raises
    ------
    OSError, ValueError
        If there is no such file, or it cannot be decoded to its end.
    """
    with Image.open(path) as image:
        image.load()
        if turned:
            ImageOps.exif_transpose(image, in_place=True)
        small, original = _rgb(image).resize((size, size), Image.Resampling.BILINEAR), image.size
    return np.stack(small.split()).transpose(1, 2, 0), original


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":  # Pillow would cut it to 0 and 1
        grey = np.nan_to_num(np.asarray(image), posinf=0, neginf=0)
        spread = (grey - grey.min()) / max(float(np.ptp(grey)), np.finfo(np.float32).tiny)
        return Image.fromarray((255 * spread).round().astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy


def read_mask(path: Path, size: int, *, codes: Mapping[int, str], expected: tuple[int, int]) -> np.ndarray:
    """Read the class codes of a mask, a PNG whose palette is only for looking at it, squashed with nearest neighbours.

    Parameters
    ----------
    path : Path
        PNG of mode P or L.
    size : int
        Height and width of the result.
    codes : mapping of int to str
        Every code that it may hold, and what it means.
    expected : tuple of int
        Width and height of its photograph.

    Returns
    -------
    ndarray of uint8, shape (size, size)

    Raises
    ------
    OSError, ValueError
        If it cannot be read, holds colours instead of codes, an unknown code, or has another size than its photograph.
    """
    with Image.open(path) as image:
        image.load()
        if image.mode not in ("P", "L", "1"):
            raise ValueError(f"mask {path} is {image.mode}; it must be a PNG whose palette indices are classes")
        if image.size != expected:
            raise ValueError(f"mask {path} is {image.width} x {image.height} and its photograph {expected[0]} x "
                             f"{expected[1]} pixels; they must be equal")
        if image.mode == "1":
            image = Image.fromarray(np.asarray(image).astype(np.uint8))
        if unknown := set(np.flatnonzero(np.bincount(np.asarray(image).ravel())).tolist()) - codes.keys():
            known = ", ".join(f"{code} {meaning}" for code, meaning in codes.items())
            raise ValueError(f"mask {path} holds {sorted(unknown)}; codes are {known}")
        return np.asarray(image.resize((size, size), Image.Resampling.NEAREST))


def read_with_mask(photograph: Path, mask: Path, size: int, *, codes: Mapping[int, str]) -> tuple[np.ndarray, np.ndarray]:
    """`read_photograph` and `read_mask` of a pair.

    Both as they are stored, whatever EXIF says: masks are drawn on the pixels in the file, and turn with nothing.
    """
    image, original = read_photograph(photograph, size, turned=False)
    return image, read_mask(mask, size, codes=codes, expected=original)


def describe_files(files: Sequence[Path]) -> tuple[int | str, int | str, str]:
    """Width and height that the first file says it has, and SHA-256 over all files; empty where there is none."""
    if not files:
        return "", "", ""
    contents = [path.read_bytes() for path in files]
    with Image.open(io.BytesIO(contents[0])) as image:
        return *image.size, hashlib.sha256(b"".join(contents)).hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # preparation names what is missing, together with what is unreadable
