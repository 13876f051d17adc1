"""PASCAL VOC 2012 in its own layout: photographs of exactly one class, labelled by image-level lists, with masks."""

import zlib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from bipartition.datasets import download, photographs
from bipartition.datasets.photographs import VOID, DataSet, Item

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")

CODES = {0: "background"} | dict(enumerate(CLASSES, start=1)) | {VOID: "void"}
"""What a mask may hold."""

CHOOSING_SHARE = 6
"""One training photograph in so many, by a checksum of its name, is set apart for choosing settings."""


class VOC2012(DataSet):
    """Reader of ``VOCdevkit/VOC2012``.

    Training photographs are those of ``trainaug`` where its list and ``SegmentationClassAug`` are there, else of
    ``train``, minus those of ``val`` in either case.  A label is the one class that ``ImageSets/Main`` calls present
    (1, or 0 for difficult) in the photograph, or ``Annotations`` where these lists do not know it, never a mask.
    """

    name = "voc2012"
    classes = CLASSES
    has_truth = True

    def __init__(self, *, train: int | None = None, val: int | None = None, evaluated: str = "val") -> None:
        self._root = _root()
        reported = _split_list(self._root, "val")
        trained = _without(_split_list(self._root, self._training_list()), reported)
        self._choosing = evaluated == "choosing"
        if self._choosing:
            reported = [name for name in trained if zlib.crc32(name.encode()) % CHOOSING_SHARE == 0]
            trained = _without(trained, reported)
        present = _Presence(self._root)
        left_out: Counter[str] = Counter()
        items = []
        for split, names in (("train", trained), ("val", reported)):
            for name in names:
                labels = present(name)
                if labels is not None and len(labels) == 1:
                    items.append(Item(name, min(labels), split))
                else:
                    why = "no image-level label" if labels is None else "several classes" if labels else "no class"
                    left_out[f"{split}: {why}"] += 1
        self.left_out = dict(left_out)
        self._items = photographs.limited(items, train=train, val=val)

    def read(self, item: Item, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Photograph and official mask; the augmented mask where a training photograph has no official one."""
        return photographs.read_with_mask(*self.files(item), size, codes=CODES)

    def _training_list(self) -> str:
        listed = (self._root / "ImageSets" / "Segmentation" / "trainaug.txt").is_file()
        return "trainaug" if listed and (self._root / "SegmentationClassAug").is_dir() else "train"

    def files(self, item: Item) -> list[Path]:
        """Photograph and mask."""
        official = self._root / "SegmentationClass" / f"{item.id}.png"
        augmented = self._root / "SegmentationClassAug" / f"{item.id}.png"
        listed_as_augmented = item.split == "train" or self._choosing
        mask = augmented if listed_as_augmented and not official.exists() and augmented.exists() else official
        return [self._root / "JPEGImages" / f"{item.id}.jpg", mask]


def _root() -> Path:
    """The folder ``VOC2012``."""
    start, says = download.located("voc2012")
    for root in (start / "VOC2012", start, start / "VOCdevkit" / "VOC2012"):
        if (root / "JPEGImages").is_dir() and (root / "ImageSets").is_dir():
            return root
    raise FileNotFoundError(f"{says} holds no VOC2012 with JPEGImages and ImageSets; name the folder VOCdevkit that "
                            "VOCtrainval_11-May-2012.tar unpacks to: VOC_ROOT=.../VOCdevkit")


def _split_list(root: Path, name: str) -> list[str]:
    """Photograph names of a segmentation split; one a line, or a path a line as in DeepLab's lists."""
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"there is no list {path}; unpack VOCtrainval_11-May-2012.tar completely")
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(Path(line.split()[0]).stem for line in lines if line.strip()))


def _without(names: list[str], others: list[str]) -> list[str]:
    excluded = set(others)
    return [name for name in names if name not in excluded]


class _Presence:
    """The classes that image-level labels call present in a photograph; None if nothing is known about it."""

    def __init__(self, root: Path) -> None:
        self._annotations = root / "Annotations"
        lists = [_class_list(root / "ImageSets" / "Main", name) for name in CLASSES]
        self._known = set.intersection(*(set(entries) for entries in lists))
        self._lists = lists

    def __call__(self, name: str) -> set[int] | None:
        if name in self._known:
            return {label for label, entries in enumerate(self._lists) if entries[name]}
        path = self._annotations / f"{name}.xml"
        return _annotated(path) if path.is_file() else None


def _class_list(main: Path, name: str) -> dict[str, bool]:
    """Photographs that the lists of one class know; ``train_trainval.txt`` is the list of the class called train."""
    whole = main / f"{name}_trainval.txt"
    parts = [whole] if whole.is_file() else [main / f"{name}_train.txt", main / f"{name}_val.txt"]
    entries = {}
    for path in (path for path in parts if path.is_file()):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not (words := line.split()):
                continue
            if len(words) != 2 or words[1] not in ("1", "0", "-1"):
                raise ValueError(f"{path}, line {number} is {line!r}; it must be a photograph and 1, 0 or -1")
            entries[words[0]] = words[1] != "-1"
    return entries


def _annotated(path: Path) -> set[int]:
    try:
        names = {(element.text or "").strip() for element in ElementTree.parse(path).getroot().findall("object/name")}
        return {CLASSES.index(name) for name in names}
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not readable as XML ({error}); unpack the data set again") from error
    except ValueError as error:
        raise ValueError(f"{path} names {', '.join(sorted(names - set(CLASSES)))}; the classes are {', '.join(CLASSES)}"
                         ) from error
