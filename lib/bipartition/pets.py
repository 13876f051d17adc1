"""Runs that were trained on Dogs vs. Cats, which has no masks, measured on Oxford-IIIT Pet, which has them.

Nothing is trained here: each finished run's network is shown the photographs of the official test list.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bipartition import finished
from bipartition.baselines import BASELINES
from bipartition.datasets.dogs_vs_cats import CLASSES as NAMES
from bipartition.datasets.oxford_pets import CLASSES
from bipartition.datasets.prepare import Prepared, prepare
from bipartition.evaluation import evaluate
from bipartition.profiles import Profile
from bipartition.rows import CAM, MEAN, WARM_UP
from bipartition.tables import NO_SEED, Measured, averages, cell, line_title, page, refused, scored_classes

TRAINED_ON, MEASURED_ON = "dogs-vs-cats", "oxford-pets"
FLOORS = ("everything_foreground", "centred_ellipse")
"""Baselines that look at no picture, beside the rows."""
WITH_INTERVAL = ("iou", "boundary_f")
COLUMNS = ("dataset", "trained_on", "row", "class", "n", "seeds", "accuracy", "iou", "iou_low", "iou_high", "pooled_iou",
           "boundary_f", "boundary_f_low", "boundary_f_high")


def measurable_folders(profile: Profile) -> tuple[dict[str, dict[int, Path]], list[str]]:
    """Folders of the runs on Dogs vs. Cats that count, by row and seed, and names of the stale ones.

    The warm-up is called `bipartition.rows.CAM`.  The photographs need not be at hand.
    """
    folders, stale = finished.finished_folders(profile, TRAINED_ON, None)
    found: dict[str, dict[int, Path]] = {}
    for row, by_seed in folders.items():
        if whole := {seed: folder for seed, folder in by_seed.items() if (folder / "model.safetensors").is_file()}:
            found[CAM if row == WARM_UP else row] = whole
    return found, stale


def open_pets(profile: Profile) -> Prepared:
    """The pets at the size that the profile's runs on Dogs vs. Cats have."""
    return prepare(MEASURED_ON, profile.size(TRAINED_ON), profile.options(MEASURED_ON))


def measured(folders: Mapping[str, Mapping[int, Path]], prepared: Prepared, stale: Sequence[str] = ()) -> Measured:
    """What `bipartition.evaluation.evaluate` says of each run's masks of the pets, by row and seed; then `FLOORS`.

    Each line of ``per_image`` has ``correct`` besides: 1 where the run's classifier names the class, 0 where it errs, None
    without a classifier.  Classes are compared by name: their order may be another one.
    """
    split = prepared.split("val")
    truth = np.array([prepared.classes[label] for label in split.labels])
    lines: dict[str, dict[int, dict]] = {row: {} for row in folders}
    for row, seeds in folders.items():
        for seed, folder in seeds.items():
            masks, logits = finished.predicted_masks(folder, split.images)
            lines[row][seed] = evaluate(masks, split, prepared.classes)
            if logits is not None:
                right = np.array(NAMES)[logits.argmax(axis=1)] == truth
                for line, correct in zip(lines[row][seed]["per_image"], right, strict=True):
                    line["correct"] = int(correct)
    for name in FLOORS:
        lines[name] = {NO_SEED: evaluate(BASELINES[name][1](split.images), split, prepared.classes)}
    return Measured(dataset=MEASURED_ON, groups=scored_classes(MEASURED_ON, prepared), lines=lines, stale=stale)


def pets_table(found: Measured) -> pd.DataFrame:
    """One line for each row and class, and their mean: `COLUMNS`, with 95 % intervals over pictures and seeds."""
    lines = []
    for row, by_seed in found.lines.items():
        for label in (*CLASSES, MEAN):
            classes = CLASSES if label == MEAN else [label]
            keys = ("correct", "iou", "pooled_iou", "boundary_f")
            means = averages(by_seed.values(), found.groups, classes, keys, WITH_INTERVAL)
            lines.append({"dataset": MEASURED_ON, "trained_on": "" if row in FLOORS else TRAINED_ON, "row": row, "class": label,
                          "n": int(np.isin(found.groups, classes).sum()), "seeds": found.seeds(row),
                          "accuracy": means.pop("correct")} | means)
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table.attrs["stale"] = found.stale
    return table


def markdown(table: pd.DataFrame) -> str:
    """The table as a page reads it, with what its numbers are."""
    keys = ("accuracy", "iou", "pooled_iou", "boundary_f")
    body = [[line_title(line["row"]), f"{line['class']}, n = {line['n']}", str(line["seeds"] or "–"),
             *(cell(line, key) for key in keys)] for line in table.to_dict("records")]
    note = (
        "Masks of runs trained on Dogs vs. Cats, on photographs of Oxford-IIIT Pet that no run has seen, with 95 % "
        "bootstrap intervals over pictures, and over seeds where there are several. IoU of the foreground (1 − φ ≥ 0.5): the "
        "undecided line of the trimap is left out. Pooled IoU: pixels of a class added up over its pictures. Boundary F: "
        "harmonic mean of the shares of either contour that lie within 0.75 % of the diagonal, at least one pixel, of the "
        "other; the true contour runs through the middle of the undecided line. Named right: share of pictures whose class "
        "the run's classifier names; a row without a classifier has none. The last two rows look at no picture.")

    head = ["row", "class", "seeds", "named right", "IoU", "pooled IoU", "boundary F"]
    return page(head, body, note + refused(table), [":--", ":--", "--:", ":-:", ":-:", ":-:", ":-:"])
