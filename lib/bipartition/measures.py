"""What Table 1 does not tell: several measures of the same masks side by side, one line for each way to get them.

Each number is the mean over Table 1's classes, as in its last column.  Two numbers use the truth for more than scoring
and are named for it: the oracle, and the ceiling in the last line.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from bipartition.contours import fill_void
from bipartition.evaluation import evaluate, object_truth
from bipartition.rows import CASM_CEILING, CEILING
from bipartition.tables import Measured, averages, cell, line_title, page, refused, seeds_shown

HEADS = {
    "iou": "IoU",
    "own_iou": "IoU, own class only",
    "recall": "recall",
    "oracle_iou": "IoU, oracle (peeks)",
    "boundary_iou": "boundary IoU",
    "boundary_f": "boundary F",
    "average_precision": "average precision",
    "area": "area",
    "grey": "grey",
    "collapsed": "all or nothing",
}
"""Measures in their order, with their names on a page."""
WITH_INTERVAL = ("iou", "boundary_f", "average_precision")
COLUMNS = ("dataset", "row", "n", "seeds", *(
    name for key in HEADS for name in ((key, f"{key}_low", f"{key}_high") if key in WITH_INTERVAL else (key,))))
GRID_STRIDE = 4
"""The decoder's last convolution sees one value for 4 x 4 pixels: 56 x 56 of them at 224 x 224."""


def measures(found: Measured, prepared: Any) -> pd.DataFrame:
    """One line for each row with a run that counts, for the CAM and each baseline, and for the ceilings of the masks' grids.

    Parameters
    ----------
    found : Measured
        What `bipartition.tables.line_metrics` gave: the lines in their order.  The ceilings are computed here.
    prepared : Prepared
        The pictures that were evaluated: its ``split("val")``.

    Returns
    -------
    pandas.DataFrame
        With exactly `COLUMNS`.  A measure that is younger than a run is NaN, or the mean over the seeds that have it.
        ``n`` is the number of pictures of Table 1's classes with an object.
    """
    split = prepared.split("val")
    objects, void = object_truth(split.masks)
    truth, sizes = fill_void(objects, void), objects.sum(axis=(1, 2))
    lines = {name: (found.seeds(name), by_seed.values()) for name, by_seed in found.lines.items() if by_seed}
    for name, smooth in ((CEILING, True), (CASM_CEILING, False)):
        lines[name] = 0, [evaluate(through_the_grid(truth, smooth=smooth), split, prepared.classes)]
    pictures = int(np.isin(found.groups, found.classes).sum())
    table = pd.DataFrame([{"dataset": found.dataset, "row": name, "n": pictures, "seeds": seeds}
                          | averages([_with_recall(one, sizes) for one in metrics], found.groups, found.classes, HEADS,
                                     WITH_INTERVAL)
                          for name, (seeds, metrics) in lines.items()], columns=list(COLUMNS))
    table.attrs["stale"] = found.stale
    return table


def _with_recall(metrics: dict[str, Any], sizes: np.ndarray) -> dict[str, Any]:
    """With the share of each object that the foreground holds; `sizes` are its pixels, shape (N,), void left out."""
    per_image = [line | {"recall": line["intersection"] / size if size else None}
                 for line, size in zip(metrics["per_image"], sizes, strict=True)]
    return metrics | {"per_image": per_image}


def through_the_grid(objects: np.ndarray, *, smooth: bool = True) -> np.ndarray:
    """What is left of a mask that is known on the decoder's grid only.

    The mean of each cell of `GRID_STRIDE` pixels squared, brought back bilinearly as our decoders do, or as CASM's does.  Cut
    at one half this shows what the grid costs, but it is no strict bound: cells fitted to the cut come closer, on 60 cartoons
    of 64 pixels an IoU of 0.97 in place of 0.93.

    Parameters
    ----------
    objects : ndarray of bool, shape (N, S, S)
        With S a multiple of `GRID_STRIDE`.
    smooth : bool
        False brings each cell back as it is, by nearest neighbours, as CASM does.

    Returns
    -------
    ndarray of uint8, shape (N, S, S)
        As the runs store their masks.
    """
    count, height, width = objects.shape
    cells = objects.reshape(count, height // GRID_STRIDE, GRID_STRIDE, width // GRID_STRIDE, GRID_STRIDE).mean(axis=(2, 4))
    shares = ndimage.zoom(cells, (1, GRID_STRIDE, GRID_STRIDE), order=int(smooth), mode="nearest", grid_mode=True)
    return np.round(255 * shares).astype(np.uint8)


def markdown(table: pd.DataFrame) -> str:
    """The table as a page reads it: measures across, the interval below, and what each column is."""
    body = [[line_title(line["row"]), seeds_shown(line["row"], line["seeds"]), *(cell(line, key) for key in HEADS)]
            for line in table.to_dict("records")]
    note = explanation(table["dataset"].iloc[0], table["n"].iloc[0]) + refused(table)
    return page(["row", "seeds", *HEADS.values()], body, note, [":--", "--:", *(":-:" for _ in HEADS)])


def explanation(dataset: str, pictures: int) -> str:
    """What each column is, what becomes of void, and what peeks at the truth."""
    return (
        f"Means over Table 1's classes on {pictures} validation pictures of {dataset}, with 95 % bootstrap intervals. IoU: as "
        "in Table 1, every object pixel counts. Own class only: pixels of other classes than the picture's are background. "
        "Recall: the share of the object that the foreground holds, 1 where everything is foreground. "
        "Oracle: each mask as it is or turned round, whichever has the higher IoU; it peeks at the truth, and shows what "
        "choosing the right half would bring, not what a method reaches. Boundary IoU: of the inner rims, 2 % of the diagonal "
        "wide. Boundary F: harmonic mean of the shares of either contour that lie within 0.75 % of the diagonal, at least one "
        "pixel, of the other. Average precision: of the pixels in the order of the mask before any cut. Area and grey: mean "
        "of 1 − φ before it is cut, and share of the picture left undecided (φ between 0.1 and 0.9). All or nothing: share "
        "of pictures of which the mask takes more than 98 % or less than 2 %, which is no cut. Void pixels are left out, but "
        "for the two boundary measures, where each takes the nearest labelled value, because the contour runs through them. "
        "The last two lines are no methods: the truth itself, averaged over the cells of 4 × 4 pixels that the decoders "
        "compute on, and brought back bilinearly as ours do (ours before the sigmoid, so that the grey share of this line "
        "binds no decoder), or cell by cell as CASM's does; cells fitted to the cut instead could come somewhat closer.")
