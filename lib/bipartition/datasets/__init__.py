"""The data sets by name, behind one small interface: which pictures there are, and how one of them is read."""

from collections.abc import Mapping
from typing import Any

from bipartition.datasets.photographs import DataSet

NAMES = ("cartoons", "voc2012", "dogs-vs-cats", "oxford-pets")
WITH_TRUTH = ("cartoons", "voc2012", "oxford-pets")
"""Those with masks, on which IoU can be measured."""


def open_dataset(name: str, *, train: int | None = None, val: int | None = None, evaluated: str = "val") -> DataSet:
    """Find a data set.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    train, val : int, optional
        Use at most so many pictures of a split, evenly from all classes; for ``cartoons`` the number that is drawn.
    evaluated : {"val", "choosing"}
        What the split ``val`` holds: the data set's own, or for ``voc2012`` training photographs that were set apart for
        choosing settings, so that the reported ones are not looked at before.

    Returns
    -------
    DataSet

    Raises
    ------
    ValueError
        For an unknown name, a limit below 1, or a reader that `WITH_TRUTH` is wrong about.
    FileNotFoundError
        If VOC_ROOT, DOGS_VS_CATS_ROOT or OXFORD_PETS_ROOT does not hold what it should.
    """
    check_options(name, {"train": train, "val": val, "evaluated": evaluated})
    if name not in NAMES:
        raise ValueError(f"there is no data set {name!r}; the data sets are {', '.join(NAMES)}")
    if name == "cartoons":
        from bipartition.datasets.cartoons import Cartoons
        dataset = Cartoons(train=train, val=val)
    elif name == "voc2012":
        from bipartition.datasets.voc2012 import VOC2012
        dataset = VOC2012(train=train, val=val, evaluated=evaluated)
    elif name == "dogs-vs-cats":
        from bipartition.datasets.dogs_vs_cats import DogsVsCats
        dataset = DogsVsCats(train=train, val=val)
    elif name == "oxford-pets":
        from bipartition.datasets.oxford_pets import OxfordPets
        dataset = OxfordPets(train=train, val=val)
    else:
        raise ValueError(f"the data set {name!r} stands in NAMES and has no reader; add it to open_dataset of {__name__}")
    if dataset.has_truth != (name in WITH_TRUTH):
        raise ValueError(f"the reader of {name} says has_truth = {dataset.has_truth}, and WITH_TRUTH of {__name__} "
                         f"{'has it' if name in WITH_TRUTH else 'does not have it'}; make them agree")
    return dataset


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse what `open_dataset` would, without looking for the data set.

    Raises
    ------
    ValueError
        For an option that there is not, or a value that is not allowed.
    """
    known = ("train", "val", "evaluated")
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{option!r} is no option of {name}; the options are {', '.join(known)}")
        if option != "evaluated" and value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{option} = {value!r} pictures of {name}; give a whole number from 1, or nothing for all")
    evaluated = options.get("evaluated", "val")
    if evaluated not in ("val", "choosing") or (evaluated == "choosing" and name != "voc2012"):
        raise ValueError(f"evaluated = {evaluated!r} for {name}; it must be 'val', or for voc2012 'choosing'")
