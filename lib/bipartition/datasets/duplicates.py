"""Pictures that are nearly the same in training and validation: whoever evaluates has to know of them."""

import numpy as np
from scipy.spatial import KDTree

GRID = 8
"""Cells a side, whose mean greys stand for a picture."""
NEAR = 6.0
"""Grey levels of 255 that the cells of two pictures differ by, in the root of the mean square, to be called near."""
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
    cells = [image[:, :side, :side].reshape(3, GRID, cell, GRID, cell).mean(axis=(2, 4), dtype=np.float32) for image in images]
    return np.tensordot(np.stack(cells), _LUMA, axes=(1, 0)).reshape(len(images), -1)


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
    # root of the mean over GRID * GRID cells, so that GRID times as much is the distance of the tree
    near = KDTree(grey_means(train)).sparse_distance_matrix(KDTree(grey_means(val)), NEAR * GRID, output_type="ndarray")
    pairs = [(int(pair["i"]), int(pair["j"]), float(pair["v"]) / GRID) for pair in near]
    return sorted(pairs, key=lambda pair: (pair[2], pair[:2]))
