"""The Oxford-IIIT Pet data set: cats and dogs with masks, so that what was learnt on Dogs vs. Cats can be measured."""

import os
from pathlib import Path

import numpy as np

from bipartition.datasets import download, photographs
from bipartition.datasets.photographs import VOID, DataSet, Item

CLASSES = ("cat", "dog")
"""In the order of the species in the official lists: 1 cat, 2 dog; that of Dogs vs. Cats too."""

LISTS = {"train": "trainval", "val": "test"}
"""The official list that each split is."""

CODES = {1: "object", 2: "background", 3: "undecided"}
"""Of a trimap; the undecided line runs along the contour and is a few pixels wide."""


class OxfordPets(DataSet):
    """Reader of ``images/NAME.jpg`` and ``annotations/trimaps/NAME.png``, with the species as class."""

    name = "oxford-pets"
    classes = CLASSES
    has_truth = True

    def __init__(self, *, train: int | None = None, val: int | None = None) -> None:
        self._root = _root()
        items = [Item(name, label, split) for split, listed in LISTS.items()
                 for name, label in _species(self._root / "annotations" / f"{listed}.txt").items()]
        lying = {entry.name[:-4] for entry in os.scandir(self._root / "images") if entry.name.endswith(".jpg")}
        unlisted = len(lying - {item.id for item in items})
        self.left_out = {"in neither official list": unlisted} if unlisted else {}
        self._items = photographs.limited(items, train=train, val=val)

    def read(self, item: Item, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Photograph, and its trimap as a mask: object to class index + 1, background to 0, undecided to void."""
        image, codes = photographs.read_with_mask(*self.files(item), size, codes=CODES)
        return image, np.array([0, item.label + 1, 0, VOID], np.uint8)[codes]

    def files(self, item: Item) -> list[Path]:
        """Photograph and trimap."""
        return [self._root / "images" / f"{item.id}.jpg", self._root / "annotations" / "trimaps" / f"{item.id}.png"]


def _root() -> Path:
    """The folder that holds ``images`` and ``annotations``."""
    start, says = download.located("oxford-pets")
    for root in (start, start / "oxford-iiit-pet"):
        if (root / "images").is_dir() and (root / "annotations").is_dir():
            return root
    raise FileNotFoundError(f"{says} does not hold images/ and annotations/, which images.tar.gz and annotations.tar.gz "
                            "unpack to; name the folder that does: OXFORD_PETS_ROOT=...")


def _species(path: Path) -> dict[str, int]:
    """Class index by photograph, from lines ``NAME CLASS-ID SPECIES BREED-ID``."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no list {path}; unpack annotations.tar.gz completely")
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not (words := line.split()) or line.startswith("#"):
            continue
        if len(words) != 4 or words[2] not in ("1", "2"):
            raise ValueError(f"{path}, line {number} is {line!r}; it must be NAME CLASS-ID SPECIES BREED-ID, species 1 or 2")
        found[words[0]] = int(words[2]) - 1
    return found
