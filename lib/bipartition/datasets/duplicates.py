"""Pictures that are nearly the same in training and validation: whoever evaluates has to know of them."""

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["GRID", "NEAR", "grey_means", "near_duplicates"]

GRID = 8
"""Cells a side, whose mean greys stand for a picture."""
NEAR = 6.0
"""Grey levels of 255 that the cells of two pictures differ by, in the root of the mean square, to be called near."""
_CHUNK = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def grey_means(images: np.ndarray) -> np.ndarray:
    """Mean grey of `GRID` x `GRID` cells of each picture.

    Parameters
    ----------
    images : array of uint8, shape (N, 3, S, S)
        S at least `GRID`; what does not fill a cell on the right and below is left out.

    Returns
    -------
    ndarray of float32, shape (N, GRID * GRID), in [0, 255]
    """
    cell = images.shape[-1] // GRID
    side = cell * GRID
    means = np.empty((len(images), GRID * GRID), np.float32)
    for first in range(0, len(images), _CHUNK):
        part = np.asarray(images[first:first + _CHUNK, :, :side, :side])
        cells = part.reshape(len(part), 3, GRID, cell, GRID, cell).mean(axis=(3, 5), dtype=np.float32)
        means[first:first + _CHUNK] = np.tensordot(cells, _LUMA, axes=(1, 0)).reshape(len(part), -1)
    return means


def near_duplicates(train: np.ndarray, val: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs of a training and a validation picture whose `grey_means` differ by at most `NEAR`, the nearest first.

    Parameters
    ----------
    train, val : array of uint8, shape (N, 3, S, S)

    Returns
    -------
    list of tuple
        Place in `train`, place in `val`, distance.
    """
    ours, theirs = grey_means(train), grey_means(val)
    pairs = []
    for first in range(0, len(theirs), _CHUNK):
        apart = cdist(theirs[first:first + _CHUNK], ours) / GRID  # root of the mean over GRID * GRID cells
        pairs += [(int(other), int(first + place), float(apart[place, other]))
                  for place, other in zip(*np.nonzero(apart <= NEAR), strict=True)]
    return sorted(pairs, key=lambda pair: pair[2])
