"""Kaggle's Dogs vs. Cats: photographs with a class each and no masks."""

import os
import re
from pathlib import Path

import numpy as np

from bipartition.datasets import download, photographs
from bipartition.datasets.photographs import DataSet, Item

CLASSES = ("cat", "dog")

SPLIT_SEED = 10
"""Seed of the order that puts the first tenth of each class into validation."""

VALIDATION_SHARE = 0.1
"""The paper only says "the validation set"; Kaggle's has no labels, so a part of its training set serves."""

KNOWN_BROKEN = ("Cat/666.jpg", "Dog/11702.jpg")
"""Empty files of the open archive."""


class DogsVsCats(DataSet):
    """Reader of ``train/cat.N.jpg`` and ``train/dog.N.jpg``, or of ``PetImages/Cat/N.jpg`` and ``PetImages/Dog/N.jpg``.

    Both layouts give ids like ``cat.12`` and, for the same numbers, the same split.
    """

    name = "dogs-vs-cats"
    classes = CLASSES
    has_truth = False

    def __init__(self, *, train: int | None = None, val: int | None = None) -> None:
        self._paths, broken = _photographs()
        self.left_out = {f"known to be empty ({', '.join(sorted(broken))})": len(broken)} if broken else {}
        items = []
        for label, name in enumerate(CLASSES):
            ids = sorted((key for key in self._paths if key.startswith(name)), key=lambda key: int(key.split(".")[1]))
            order = np.random.default_rng([SPLIT_SEED, label]).permutation(len(ids))
            validation = set(order[:round(VALIDATION_SHARE * len(ids))].tolist())
            items += [Item(key, label, "val" if place in validation else "train") for place, key in enumerate(ids)
                      if key not in broken]
        self._items = photographs.limited(items, train=train, val=val)

    def read(self, item: Item, size: int) -> tuple[np.ndarray, None]:
        """A photograph; there is no truth."""
        return photographs.read_photograph(self._paths[item.id], size)[0], None

    def files(self, item: Item) -> list[Path]:
        """The photograph alone."""
        return [self._paths[item.id]]


def _photographs() -> tuple[dict[str, Path], set[str]]:
    """Path of each id, and the ids of empty files: they take part in the split, so that it is Kaggle's, and leave."""
    root, says = download.located("dogs-vs-cats")
    paths, broken = {}, set()
    for folder in (root / "train", root):
        if folder.is_dir():
            paths |= {entry.name[:-4]: Path(entry.path) for entry in os.scandir(folder)
                      if re.fullmatch(r"(cat|dog)\.\d+\.jpg", entry.name)}
        if paths:
            return paths, broken
    for folder in (root / "PetImages", root):
        for kind in ("Cat", "Dog"):
            for entry in os.scandir(folder / kind) if (folder / kind).is_dir() else ():
                if re.fullmatch(r"\d+\.jpg", entry.name):
                    key = f"{kind.lower()}.{entry.name[:-4]}"
                    paths[key] = Path(entry.path)
                    broken |= {key} if f"{kind}/{entry.name}" in KNOWN_BROKEN else set()
        if paths:
            return paths, broken
    raise FileNotFoundError(f"{says} holds neither train/ with cat.N.jpg and dog.N.jpg nor PetImages/ with Cat/N.jpg "
                            "and Dog/N.jpg; name the folder that does: DOGS_VS_CATS_ROOT=...")
