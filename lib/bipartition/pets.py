"""Runs that were trained on Dogs vs. Cats, which has no masks, measured on Oxford-IIIT Pet, which has them.

Nothing is trained here: each finished run's network is shown the photographs of the official test list.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bipartition import runs
from bipartition.baselines import BASELINES
from bipartition.configuration import Configuration
from bipartition.datasets.prepare import Prepared, prepare
from bipartition.evaluation import evaluate, interval
from bipartition.profiles import Profile
from bipartition.rows import CAM, ROWS, WARM_UP
from bipartition.tables import MEAN, column, line_title, scored_classes, two

__all__ = ["COLUMNS", "FLOORS", "MEASURED_ON", "TRAINED_ON", "finished_folders", "markdown", "measured", "open_pets",
           "pets_table", "predicted_masks", "write_pets"]

TRAINED_ON, MEASURED_ON = "dogs-vs-cats", "oxford-pets"
FLOORS = ("everything_foreground", "centred_ellipse")
"""Baselines that look at no picture, beside the rows."""
WITH_INTERVAL = ("iou", "boundary_f")
COLUMNS = ("dataset", "trained_on", "row", "class", "n", "seeds", "accuracy", "iou", "iou_low", "iou_high", "pooled_iou",
           "boundary_f", "boundary_f_low", "boundary_f_high")


def finished_folders(profile: Profile) -> dict[str, dict[int, Path]]:
    """Folders of the finished runs on Dogs vs. Cats by row, `bipartition.rows.CAM` for the warm-up, and by seed."""
    root = runs.results_root() / profile.name / "runs" / TRAINED_ON
    found = {}
    for row in (*ROWS, WARM_UP):
        folders = {int(path.parent.name[4:]): path.parent for path in root.glob(f"{row}/seed*/metrics.json")
                   if path.parent.name[4:].isdecimal() and (path.parent / "model.safetensors").is_file()}
        if folders:
            found[CAM if row == WARM_UP else row] = dict(sorted(folders.items()))
    return found


def open_pets(profile: Profile) -> Prepared:
    """The pets at the size that the profile's runs on Dogs vs. Cats have."""
    return prepare(MEASURED_ON, profile.size(TRAINED_ON), profile.options(MEASURED_ON))


def predicted_masks(folder: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What the network of a finished run makes of pictures of any data set; see `bipartition.prediction.predict`.

    Parameters
    ----------
    folder : Path
        Of the run.
    images : ndarray of uint8, shape (N, 3, S, S)

    Returns
    -------
    foreground_masks : ndarray of uint8, shape (N, S, S)
        ``round(255 (1 - phi))``
    logits : ndarray of float32, shape (N, K), or None for a row without a classifier
        In the order of the classes that the run was trained on.

    Raises
    ------
    ValueError
        If the run was trained at another size than that of the pictures, or its file does not fit today's networks.
    """
    from safetensors.torch import load_file

    from bipartition.devices import accelerator_for_this_machine
    from bipartition.learners import build_learner
    from bipartition.networks import Classifier
    from bipartition.prediction import predict

    recorded = runs.read_json(folder / "config.json")["configuration"]
    known = {field.name for field in dataclasses.fields(Configuration)}
    configuration = Configuration(**{name: value for name, value in recorded.items() if name in known} | {"weights": "none"})
    if configuration.size != images.shape[-1]:
        raise ValueError(f"{folder} was trained at {configuration.size} pixels, the pictures have {images.shape[-1]}; prepare "
                         "them at its size, or train it anew")
    state, accelerator = load_file(folder / "model.safetensors"), accelerator_for_this_machine()
    classes = len(runs.read_json(folder / "metrics.json")["classes"])
    learner = build_learner(configuration, Classifier(classes, "none"), accelerator)
    own = {name for name in learner.network.state_dict() if not name.startswith(("snapshot.", "snapshots."))}
    if own != set(state):
        raise ValueError(f"{folder / 'model.safetensors'} is no network of row {configuration.row}: {len(own ^ set(state))} "
                         "names differ; train it anew")
    learner.network.load_state_dict(state, strict=False)
    learner.network.to(accelerator.device)
    return predict(learner, images, accelerator)


def measured(folders: Mapping[str, Mapping[int, Path]], prepared: Prepared) -> dict[str, dict[int, dict[str, Any]]]:
    """What `bipartition.evaluation.evaluate` says of each run's masks of the pets, by row and seed; then `FLOORS`, seed 0.

    Each line of ``per_image`` has ``correct`` besides: 1 where the run's classifier names the class, 0 where it errs, None
    without a classifier.  Classes are compared by name: their order may be another one.
    """
    split = prepared.split("val")
    truth = np.array([prepared.classes[label] for label in split.labels])
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row, seeds in folders.items():
        for seed, folder in seeds.items():
            masks, logits = predicted_masks(folder, split.images)
            metrics = evaluate(masks, split, prepared.classes)
            if logits is not None:
                names = np.array(list(runs.read_json(folder / "metrics.json")["classes"]))
                for line, correct in zip(metrics["per_image"], names[logits.argmax(axis=1)] == truth, strict=True):
                    line["correct"] = int(correct)
            found.setdefault(row, {})[seed] = metrics
    for name in FLOORS:
        found[name] = {0: evaluate(BASELINES[name][1](split.images), split, prepared.classes)}
    return found


def pets_table(found: Mapping[str, Mapping[int, dict[str, Any]]], prepared: Prepared) -> pd.DataFrame:
    """One line for each row and class, and their mean: `COLUMNS`, with 95 % intervals over pictures and seeds."""
    groups = scored_classes(MEASURED_ON, prepared)
    lines = []
    for row, seeds in found.items():
        for name in (*prepared.classes, MEAN):
            classes = prepared.classes if name == MEAN else (name,)
            lines.append(_line(row, name, [one for one in classes if (groups == one).any()], list(seeds.values()), groups))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def write_pets(table: pd.DataFrame, folder: Path) -> None:
    """``pets.csv`` (four decimals) and ``pets.md`` in `folder`."""
    runs.write_text(folder / "pets.csv", table.round(4).to_csv(index=False, lineterminator="\n"))
    runs.write_text(folder / "pets.md", markdown(table))


def markdown(table: pd.DataFrame) -> str:
    """The table as a page reads it, with what its numbers are."""
    lines = ["| row | class | seeds | named right | IoU | pooled IoU | boundary F |",
             "| :-- | :-- | --: | :-: | :-: | :-: | :-: |"]
    for line in table.to_dict("records"):
        cells = [line_title(line["row"]), f"{line['class']}, n = {line['n']}", str(line["seeds"] or "–")]
        for key in ("accuracy", "iou", "pooled_iou", "boundary_f"):
            span = f"<br>[{two(line[f'{key}_low'])}, {two(line[f'{key}_high'])}]" if key in WITH_INTERVAL else ""
            cells.append("–" if np.isnan(line[key]) else two(line[key]) + span)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + (
        "\n\nMasks of runs trained on Dogs vs. Cats, on photographs of Oxford-IIIT Pet that no run has seen, with 95 % "
        "bootstrap intervals over pictures, and over seeds where there are several. IoU of the foreground (1 − φ ≥ 0.5): the "
        "undecided line of the trimap is left out. Pooled IoU: pixels of a class added up over its pictures. Boundary F: "
        "harmonic mean of the shares of either contour that lie within 0.75 % of the diagonal, at least one pixel, of the "
        "other; the true contour runs through the middle of the undecided line. Named right: share of pictures whose class "
        "the run's classifier names; a row without a classifier has none. The last two rows look at no picture.\n")


def _line(row: str, name: str, classes: list[str], metrics: list[dict[str, Any]], groups: np.ndarray) -> dict[str, Any]:
    mine = np.isin(groups, classes)
    line = {"dataset": MEASURED_ON, "trained_on": "" if row in BASELINES else TRAINED_ON, "row": row, "class": name,
            "n": int(mine.sum()), "seeds": 0 if row in BASELINES else len(metrics)}
    if not classes:
        return line
    for key in WITH_INTERVAL:
        values = interval(np.stack([column(one, key)[mine] for one in metrics]), groups[mine])
        line |= {key: values.mean, f"{key}_low": values.low, f"{key}_high": values.high}
    overlap, union, correct = (
        [np.mean([column(one, key)[groups == group].sum() for one in metrics]) for group in classes]
        for key in ("intersection", "union", "correct"))
    line["pooled_iou"] = float(np.mean(np.divide(overlap, union)))
    line["accuracy"] = float(np.mean([right / (groups == group).sum() for right, group in zip(correct, classes, strict=True)]))
    return line
