"""How well a contour was met, which the IoU of whole regions hardly notices.

Boundary IoU [1]_ is the IoU of the two inner rims, 2 % of the diagonal wide.  The F-measure [2]_ asks of each pixel on
one contour whether the other contour passes nearby, within 0.75 % of the diagonal (DAVIS allows 0.8 %).  Void lies on
the contour, so leaving it out would leave out the contour: each void pixel takes the nearest labelled value first, and
the true contour runs through the middle of the void ring.

A contour is the outermost line of pixels inside a mask.  Beyond the picture is outside, for both measures: where a mask
reaches the edge of the picture, the edge is contour.

References
----------
.. [1] Cheng, Girshick, Dollar, Berg, Kirillov: Boundary IoU, CVPR 2021.
.. [2] Perazzi, Pont-Tuset, McWilliams, Van Gool, Gross, Sorkine-Hornung: A benchmark dataset and evaluation methodology
   for video object segmentation (DAVIS), CVPR 2016.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.morphology import disk

RIM_SHARE = 0.02
TOLERANCE_SHARE = 0.0075


def boundary_iou(foreground: np.ndarray, objects: np.ndarray, width: int | None = None) -> np.ndarray:
    """IoU of the inner rims of two boolean stacks (N, S, S); NaN where both are empty.

    Parameters
    ----------
    foreground, objects : ndarray of bool, shape (N, S, S)
        `objects` with its void already filled, see `fill_void`.
    width : int, optional
        Of the rim in pixels; by default 2 % of the diagonal, at least 1.
    """
    width = rim_width(foreground.shape[1:]) if width is None else width
    ours, theirs = rim(foreground, width), rim(objects, width)
    union = (ours | theirs).sum(axis=(1, 2))
    return np.where(union > 0, (ours & theirs).sum(axis=(1, 2)) / np.maximum(union, 1), np.nan)


def boundary_f(foreground: np.ndarray, objects: np.ndarray, radius: int | None = None) -> np.ndarray:
    """Harmonic mean of precision and recall of the contours of two boolean stacks (N, S, S).

    Precision is the share of our contour with the true one nearby, recall that of the true contour with ours nearby.
    A contour has no sides: a mask turned round is told apart by the edge of the picture alone.

    Parameters
    ----------
    foreground, objects : ndarray of bool, shape (N, S, S)
        `objects` with its void already filled, see `fill_void`.
    radius : int, optional
        How far off is still met, in pixels; by default 0.75 % of the diagonal, at least 1.

    Returns
    -------
    ndarray, shape (N,), in [0, 1]
        NaN where both are empty, 0 where one is.
    """
    radius = tolerance(foreground.shape[1:]) if radius is None else radius
    ours, theirs = rim(foreground, 1), rim(objects, 1)
    our_length, their_length = ours.sum(axis=(1, 2)), theirs.sum(axis=(1, 2))
    precision = (ours & near(theirs, radius)).sum(axis=(1, 2)) / np.maximum(our_length, 1)
    recall = (theirs & near(ours, radius)).sum(axis=(1, 2)) / np.maximum(their_length, 1)
    both = precision + recall
    score = 2 * precision * recall / np.where(both > 0, both, 1)
    return np.where(our_length + their_length > 0, score, np.nan)


def rim(masks: np.ndarray, width: int) -> np.ndarray:
    """Pixels of a mask within `width` steps (8-neighbours) of its outside; beyond the picture is outside."""
    size = 2 * width + 1
    eroded = ndimage.minimum_filter(masks.astype(np.uint8), (1, size, size), mode="constant", cval=0)
    return masks & (eroded == 0)


def near(lines: np.ndarray, radius: int) -> np.ndarray:
    """Pixels at most `radius` away, as the crow flies, from a pixel of a boolean stack (N, S, S)."""
    return ndimage.binary_dilation(lines, disk(radius, dtype=bool)[None])


def rim_width(shape: Sequence[int]) -> int:
    """Two per cent of the diagonal in whole pixels, at least one: 2 at 64 x 64, 6 at 224 x 224."""
    return max(1, round(RIM_SHARE * float(np.hypot(*shape))))


def tolerance(shape: Sequence[int]) -> int:
    """0.75 per cent of the diagonal in whole pixels, at least one: 1 at 64 x 64, 2 at 224 x 224."""
    return max(1, round(TOLERANCE_SHARE * float(np.hypot(*shape))))


def fill_void(objects: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Give every void pixel the value of the nearest labelled pixel: object or not.

    A picture that is all void stays without object.
    """
    filled = objects.copy()
    for index in np.flatnonzero(void.any(axis=(1, 2))):
        if void[index].all():
            continue
        rows, columns = ndimage.distance_transform_edt(void[index], return_distances=False, return_indices=True)
        filled[index] = objects[index][rows, columns]
    return filled
