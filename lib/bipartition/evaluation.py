"""Masks against the truth: how much of the object was found, how well its contour was met, and how sure that number is.

Section 4.3 reports "mean intersection of union for each image-level class label": here the IoU of the foreground of
one picture, then the mean over the pictures of a class.  A pixel is foreground where ``1 - phi >= 0.5``; void
pixels of the truth (255) count neither for nor against.  The contour has measures of its own, see
`bipartition.contours`; they fill the void first.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bipartition.contours import boundary_f, boundary_iou, fill_void
from bipartition.datasets.photographs import VOID

CUT = 128
"""Smallest stored value that is foreground: ``1 - phi >= 0.5``, masks being stored as ``round(255 (1 - phi))``."""
GREY = (26, 229)
"""Stored values in ``0.1 < phi < 0.9``: neither foreground nor background by any clear margin."""
NEARLY_ALL = 0.98
"""Share of a picture above which its mask is all or, of the background, nothing: no cut at all."""
COLLAPSED = 0.95
"""A run has collapsed if its masks are all or nothing in this share of the pictures."""
LEVELS = 256
"""Of a stored mask."""
RESAMPLES = 2000
COVERAGE = 0.95
_CHUNK_PIXELS = 2**22
_NUMBERS = ("iou", "intersection", "union", "boundary_iou", "area", "grey", "boundary_f", "average_precision", "own_iou",
            "other_way_iou", "collapsed")


def is_collapsed(numbers: Mapping[str, Any], key: str = "collapsed") -> bool:
    """Has a run collapsed, by its metrics or by another mapping with the share of all-or-nothing masks under `key`?"""
    return numbers.get(key, 0) >= COLLAPSED


class Interval(NamedTuple):
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


UNKNOWN = Interval(np.nan, np.nan, np.nan)
"""Of no number at all."""


def evaluate(foreground_masks: np.ndarray, split: Any, classes: Sequence[str]) -> dict[str, Any]:
    """All numbers of one finished run, ready for JSON.

    Parameters
    ----------
    foreground_masks : ndarray of uint8, shape (N, S, S)
        ``round(255 * (1 - phi))``, in the order of `split`.
    split : Split
        With ``ids``, ``labels`` (N,), ``masks`` (N, S, S) or None, and ``truth_codes`` (N,).
    classes : sequence of str
        Names that ``split.labels`` points into.

    Returns
    -------
    dict
        ``mean_iou``, ``mean_pooled_iou``, ``mean_boundary_iou`` (means over classes), ``area``, ``grey``, ``collapsed``
        (means over pictures), ``classes`` (name -> n, iou, pooled_iou, boundary_iou) and ``per_image`` (a list of dicts).
        What needs a truth is None where there is none.  ``n`` counts the pictures behind ``iou``: a picture without
        any object pixel at this size is left out.

        Of one picture: ``iou`` from the pixels in ``intersection`` and ``union``; ``boundary_iou`` and ``boundary_f``
        of its contour; ``average_precision`` of the mask before any cut; ``own_iou``, the IoU where only the picture's
        own class is the object and others are background; ``other_way_iou``, that of the mask turned round, which is for
        oracles: to choose between the two takes the truth; ``collapsed``, 1 where the cut mask holds more than `NEARLY_ALL`
        of the picture or less than the rest, else 0.

    Raises
    ------
    ValueError
        If the masks are no uint8, or not as many or as large as the pictures.
    """
    foreground_masks = np.asanyarray(foreground_masks)
    count = len(split.labels)
    if foreground_masks.dtype != np.uint8 or foreground_masks.ndim != 3 or len(foreground_masks) != count:
        raise ValueError(f"masks are {foreground_masks.dtype} of shape {foreground_masks.shape}; "
                         f"expected uint8 of shape ({count}, S, S), one for each picture")
    if split.masks is not None and split.masks.shape != foreground_masks.shape:
        raise ValueError(f"masks have shape {foreground_masks.shape}, the truth {split.masks.shape}")

    numbers = {name: np.full(count, np.nan) for name in _NUMBERS}
    step = max(1, _CHUNK_PIXELS // max(1, foreground_masks[0].size)) if count else 1
    for start in range(0, count, step):
        part = slice(start, start + step)
        masks = np.asarray(foreground_masks[part])
        found = _of_masks(masks)
        if split.masks is not None:
            found |= _against_truth(masks, np.asarray(split.masks[part]), np.asarray(split.truth_codes)[part])
        for name, values in found.items():
            numbers[name][part] = values
    return _summary(numbers, split, classes)


def glance(foreground_masks: np.ndarray, split: Any) -> dict[str, float]:
    """What a training looks at between epochs, by the names of `evaluate`, which looks at contours too and takes its time.

    Parameters
    ----------
    foreground_masks, split
        As for `evaluate`; few enough to be taken at once.

    Returns
    -------
    dict
        ``area``, ``grey``, ``collapsed``, and ``mean_iou`` where there is a truth with an object.
    """
    seen = {name: float(values.mean()) for name, values in _of_masks(foreground_masks).items()}
    if split.masks is not None:
        is_object, is_void = object_truth(split.masks)
        found = class_mean(_iou(foreground_masks >= CUT, is_object, is_void), split.labels)
        seen |= {} if np.isnan(found) else {"mean_iou": found}
    return {name: round(value, 6) for name, value in seen.items()}


def object_truth(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth masks (N, S, S) with class codes as two boolean stacks: object of any class, and void."""
    masks = np.asarray(masks)
    is_void = masks == VOID
    return (masks > 0) & ~is_void, is_void


def foreground_overlap(foreground: np.ndarray, objects: np.ndarray, void: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in intersection and union of boolean stacks (N, S, S), void left out: two integer arrays (N,)."""
    overlap = (foreground & objects & ~void).sum(axis=(1, 2))
    union = ((foreground | objects) & ~void).sum(axis=(1, 2))
    return overlap, union


def average_precision(foreground_masks: np.ndarray, objects: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Area under precision and recall over all cuts of a mask; NaN without object pixels.

    The sum of precision times gain in recall, from the highest value down: pixels of one value enter together and nothing
    is interpolated, as scikit-learn does it.  A stored mask has 256 values, so two histograms say all.  A mask without
    any order, all of one value, scores the object's share of the picture.

    Parameters
    ----------
    foreground_masks : ndarray of uint8, shape (N, S, S)
    objects, void : ndarray of bool, shape (N, S, S)
        Void pixels are left out.

    Returns
    -------
    ndarray, shape (N,), in [0, 1]
    """
    of_object = _histograms(foreground_masks, objects & ~void)[:, ::-1]
    of_both = _histograms(foreground_masks, ~void)[:, ::-1]
    precision = of_object.cumsum(axis=1) / np.maximum(of_both.cumsum(axis=1), 1)
    total = of_object.sum(axis=1)
    return np.where(total > 0, (precision * of_object).sum(axis=1) / np.maximum(total, 1), np.nan)


def interval(values: Any, groups: Sequence | None = None, *, resamples: int = RESAMPLES) -> Interval:
    """Mean over seeds and pictures with its 95 % percentile bootstrap interval.

    Parameters
    ----------
    values : array_like, shape (seeds, pictures) or (pictures,)
        One number for each picture of each seed, all seeds on the same pictures; NaN (no truth) is left out, and
        must then be NaN in every seed.
    groups : sequence of length pictures, optional
        Class of each picture: the mean is then the mean over classes of the class means, and pictures are drawn
        within their class.
    resamples : int
        Number of draws.  Their seed is fixed, so that the same numbers give the same interval.

    Returns
    -------
    Interval
        `UNKNOWN` if there is no number.

    Raises
    ------
    ValueError
        If groups and pictures are not as many, or a picture has a number in some seeds only.

    Notes
    -----
    Pictures and seeds are drawn with replacement and independently of each other, the same pictures for every seed.
    With one seed the interval speaks of the pictures only.  Two or three seeds say little about the spread over seeds,
    and the interval is then rather too narrow.
    """
    of_groups = _of_groups(values, groups)
    if not of_groups:
        return UNKNOWN
    seed_weights, *weights = _shares(resamples, (len(of_groups[0]), *(len(each[0]) for each in of_groups)))
    draws = np.zeros(resamples)
    for of_group, share in zip(of_groups, weights, strict=True):
        draws += ((share @ of_group.T) * seed_weights).sum(axis=1) / len(of_groups)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(_mean_of_means(of_groups), float(low), float(high))


def class_mean(values: Any, groups: Sequence | None = None) -> float:
    """The mean of `interval`, without the draws that its ends take; NaN if there is no number."""
    of_groups = _of_groups(values, groups)
    return _mean_of_means(of_groups) if of_groups else np.nan


def _of_groups(values: Any, groups: Sequence | None) -> list[np.ndarray]:
    """The numbers of each class, shape (seeds, its pictures that have one); nothing if there is no number."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    groups = np.zeros(values.shape[1], dtype=int) if groups is None else np.asarray(groups)
    if groups.shape != (values.shape[1],):
        raise ValueError(f"groups has shape {groups.shape}; it must be ({values.shape[1]},), one for each picture")
    known = ~np.isnan(values)
    if (known.any(axis=0) != known.all(axis=0)).any():
        raise ValueError("a picture has a number in one seed and none in another; were all seeds evaluated alike?")
    values, groups = values[:, known.all(axis=0)], groups[known.all(axis=0)]
    return [values[:, groups == name] for name in dict.fromkeys(groups.tolist())] if values.size else []


def _mean_of_means(of_groups: list[np.ndarray]) -> float:
    return float(np.mean([of_group.mean() for of_group in of_groups]))


@functools.lru_cache(maxsize=16)
def _shares(resamples: int, counts: tuple[int, ...]) -> list[np.ndarray]:
    """What share of each resample each of so many things has, one array (resamples, count) after the other.

    A table asks for hundreds of intervals of the same counts.
    """
    random = np.random.default_rng(0)
    return [random.multinomial(count, np.full(count, 1 / count), size=resamples) / count for count in counts]


def paired_difference(first: Any, second: Any, groups: Sequence | None = None) -> Interval:
    """By how much `first` beats `second` on the same pictures and seeds: `interval` of the differences.

    Much sharper than two separate intervals, because a hard picture is hard for both.

    Raises
    ------
    ValueError
        If the two are not of one shape.
    """
    first, second = (np.atleast_2d(np.asarray(values, dtype=float)) for values in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"not the same seeds and pictures: shapes {first.shape} and {second.shape}")
    return interval(first - second, groups)


def _of_masks(masks: np.ndarray) -> dict[str, np.ndarray]:
    """What `evaluate` says of each picture without any truth."""
    return {"area": masks.mean(axis=(1, 2)) / 255,
            "grey": ((masks >= GREY[0]) & (masks <= GREY[1])).mean(axis=(1, 2)),
            "collapsed": abs((masks >= CUT).mean(axis=(1, 2)) - 0.5) > NEARLY_ALL - 0.5}


def _against_truth(masks: np.ndarray, truth_masks: np.ndarray, codes: np.ndarray) -> dict[str, np.ndarray]:
    """All that `evaluate` says of each picture with the help of its truth, NaN where there is no object to find."""
    is_object, is_void = object_truth(truth_masks)
    is_foreground, filled = masks >= CUT, fill_void(is_object, is_void)
    overlap, union = foreground_overlap(is_foreground, is_object, is_void)
    scored = is_object.any(axis=(1, 2))
    own = truth_masks == codes[:, None, None]
    return {
        "intersection": overlap,
        "union": union,
        "iou": np.where(scored, overlap / np.maximum(union, 1), np.nan),
        "own_iou": _iou(is_foreground, own, is_void),
        "other_way_iou": _iou(~is_foreground, is_object, is_void),
        "average_precision": average_precision(masks, is_object, is_void),
        "boundary_iou": np.where(scored, boundary_iou(is_foreground, filled), np.nan),
        "boundary_f": np.where(scored, boundary_f(is_foreground, filled), np.nan),
    }


def _iou(foreground: np.ndarray, objects: np.ndarray, void: np.ndarray) -> np.ndarray:
    overlap, union = foreground_overlap(foreground, objects, void)
    return np.where(objects.any(axis=(1, 2)), overlap / np.maximum(union, 1), np.nan)


def _histograms(masks: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """How often each of the 256 values occurs among the `counted` pixels of each picture: integers (N, 256)."""
    pictures = np.nonzero(counted)[0]
    places = pictures * LEVELS + masks[counted]
    return np.bincount(places, minlength=len(masks) * LEVELS).reshape(len(masks), LEVELS)


def _summary(numbers: dict[str, np.ndarray], split: Any, classes: Sequence[str]) -> dict[str, Any]:
    labels = np.asarray(split.labels)
    by_class = {}
    for index, name in enumerate(classes):
        mine = labels == index
        scored = mine & ~np.isnan(numbers["iou"]) if split.masks is not None else mine
        if not mine.any():
            continue
        union = numbers["union"][scored].sum()
        by_class[name] = {
            "n": int(scored.sum()),
            "iou": _mean(numbers["iou"][scored]),
            "pooled_iou": _plain(numbers["intersection"][scored].sum() / union if union > 0 else np.nan),
            "boundary_iou": _mean(numbers["boundary_iou"][scored]),
        }
    means = {f"mean_{key}": _mean([line[key] for line in by_class.values() if line[key] is not None])
             for key in ("iou", "pooled_iou", "boundary_iou")}
    columns = {key: [_plain(value) for value in column] for key, column in numbers.items()}
    per_image = [
        {"id": identifier, "class": classes[label]} | {key: column[index] for key, column in columns.items()}
        for index, (identifier, label) in enumerate(zip(split.ids, labels, strict=True))
    ]
    return means | {"area": _mean(numbers["area"]), "grey": _mean(numbers["grey"]),
                    "collapsed": _mean(numbers["collapsed"]), "classes": by_class, "per_image": per_image}


def _mean(values: Any) -> float | None:
    values = np.asarray(values, dtype=float)
    return _plain(values.mean()) if values.size else None


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
