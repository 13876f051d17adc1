"""Table 1, measured and printed side by side, from every finished run of a profile.

Only finished runs count (their ``metrics.json`` is written last); a row without any keeps its lines, empty.
Nothing is trained or drawn here.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from bipartition import runs
from bipartition.baselines import BASELINES
from bipartition.evaluation import Interval, evaluate, interval, object_truth, paired_difference
from bipartition.rows import CLASSES, ROWS, WARM_UP, Row

__all__ = ["COLUMNS", "MEAN", "difference", "explanation", "finished_runs", "markdown", "styled", "table1",
           "write_table1"]

MEAN = "mean"
COLUMNS = ("dataset", "row", "class", "n", "seeds", "iou", "ci_low", "ci_high", "pooled_iou", "boundary_iou",
           "paper_iou")

MadeBy = Callable[[str, int], dict[str, Any]]


def table1(profile: str, dataset: str, prepared: Any, rows: Mapping[str, Row] = ROWS, *,
           baselines: Sequence[str] = tuple(BASELINES), made_by: MadeBy | None = None) -> pd.DataFrame:
    """One line for each row and class, and for each row the mean over the classes that have pictures.

    Parameters
    ----------
    profile, dataset : str
        Whose runs are read: ``results/<profile>/runs/<dataset>/``.
    prepared : Prepared
        The pictures that were evaluated: its ``split("val")``, with a truth.
    rows : mapping of str to Row
        Order of the lines, and the paper's values.
    baselines : sequence of str
        Names of `bipartition.baselines.BASELINES` to add, computed here.
    made_by : callable, optional
        ``(row, seed) -> dict``; runs made by anything else are out of date and do not count.

    Returns
    -------
    pandas.DataFrame
        With exactly `COLUMNS`.  ``n`` is the number of validation pictures with an object; ``paper_iou`` of a mean
        is the paper's mean over the same classes as the measured one.

    Raises
    ------
    ValueError
        If the data set has no truth.
    """
    split = prepared.split("val")
    if split.masks is None:
        raise ValueError(f"{dataset} has no truth masks, and Table 1 is nothing else; choose a data set with truth")
    groups = np.array([prepared.classes[label] for label in split.labels], dtype=object)
    groups[~object_truth(split.masks, split.truth_codes)[0].any(axis=(1, 2))] = ""
    lines = []
    for name, row in rows.items():
        if name != WARM_UP:
            found = finished_runs(profile, dataset, name, prepared, made_by=made_by)
            lines += _lines(dataset, name, list(found.values()), len(found), groups, row.paper)
    for name in baselines:
        metrics = evaluate(BASELINES[name][1](split.images), split, prepared.classes)
        lines += _lines(dataset, name, [metrics], 0, groups, {})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def finished_runs(profile: str, dataset: str, row: str, prepared: Any, *,
                  made_by: MadeBy | None = None) -> dict[int, dict[str, Any]]:
    """Metrics of every finished run of a row, by seed in ascending order.

    A run counts if its ``metrics.json`` speaks of exactly the validation pictures of `prepared` and, where
    `made_by` is given, if it was made by that.
    """
    folder = runs.run_folder(profile, dataset, row, 0).parent
    ids = [str(identifier) for identifier in prepared.split("val").ids]
    found = {}
    for path in sorted(folder.glob("seed*"), key=lambda path: (len(path.name), path.name)):
        seed = path.name.removeprefix("seed")
        metrics = runs.read_json(path / "metrics.json")
        if not seed.isdigit() or [str(line["id"]) for line in metrics.get("per_image", [])] != ids:
            continue
        if made_by is None or runs.is_finished(path, made_by(row, int(seed))):
            found[int(seed)] = metrics
    return found


def difference(profile: str, dataset: str, prepared: Any, first: str, second: str, *, key: str = "iou",
               made_by: MadeBy | None = None) -> Interval:
    """By how much row `first` beats row `second`: mean over Table 1's classes, same pictures, the seeds that both have.

    `key` is a number of ``per_image``, as ``"iou"`` or ``"boundary_iou"``.  All NaN without a common seed.
    """
    one, other = (finished_runs(profile, dataset, row, prepared, made_by=made_by) for row in (first, second))
    seeds = [seed for seed in one if seed in other]
    if not seeds:
        return Interval(np.nan, np.nan, np.nan)
    groups = np.array([line["class"] for line in one[seeds[0]]["per_image"]])
    mine = np.isin(groups, CLASSES)
    values = (np.stack([_column(by_seed[seed], key)[mine] for seed in seeds]) for by_seed in (one, other))
    return paired_difference(*values, groups[mine])


def write_table1(table: pd.DataFrame, folder: Path, rows: Mapping[str, Row] = ROWS) -> None:
    """``table1.csv`` (four decimals) and ``table1.md`` in `folder`."""
    runs.write_text(folder / "table1.csv", table.round(4).to_csv(index=False, lineterminator="\n"))
    runs.write_text(folder / "table1.md", markdown(table, rows))


def markdown(table: pd.DataFrame, rows: Mapping[str, Row] = ROWS) -> str:
    """Table 1 as a page reads it: classes as columns, measured (paper), the interval below."""
    shown = _wide(table, rows, measured="**{}**", paper=" ({})", span="<br>[{}, {}]")
    head = [shown.index.name, *(column.replace("\n", "<br>") for column in shown.columns)]
    lines = [head, [":--", *("--:" if name == "seeds" else ":-:" for name in shown.columns)]]
    lines += [[title, *cells] for title, cells in zip(shown.index, shown.to_numpy().tolist(), strict=True)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{body}\n\n{explanation(table)}\n"


def styled(table: pd.DataFrame, rows: Mapping[str, Row] = ROWS) -> Styler:
    """Table 1 for a notebook: measured over the paper's value, the interval small below."""
    shown = _wide(table, rows, measured="<b>{}</b>", paper="<br><span class='paper'>paper {}</span>",
                  span="<br><span class='range'>[{}, {}]</span>")
    shown.index = pd.Index([html.escape(title) for title in shown.index])
    shown.columns = [column.replace("\n", "<br>") for column in shown.columns]
    rules = [
        {"selector": "", "props": "border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid"},
        {"selector": "caption", "props": "caption-side: bottom; text-align: left; padding-top: .6em; max-width: 60em"},
        {"selector": "th, td", "props": "padding: .35em .7em; text-align: center; vertical-align: top"},
        {"selector": "td, .col_heading", "props": "white-space: nowrap"},
        {"selector": "th.row_heading", "props": "text-align: left; font-weight: normal; min-width: 11em"},
        {"selector": "thead th", "props": "border-bottom: 1px solid; vertical-align: bottom"},
        {"selector": ".paper", "props": "opacity: .75"},
        {"selector": ".range", "props": "opacity: .75; font-size: 85%"},
    ]
    return shown.style.set_uuid("table1").set_table_styles(rules).set_caption(html.escape(explanation(table)))


def explanation(table: pd.DataFrame) -> str:
    """What the numbers are: data set, pictures, seeds, interval, and how IoU is read."""
    means = table[table["class"] == MEAN]
    present = [name for name in CLASSES if (table.loc[table["class"] == name, "n"] > 0).any()]
    dataset, pictures = table["dataset"].iloc[0], int(means["n"].max())
    seeds = sorted(set(means.loc[means["seeds"] > 0, "seeds"]))
    counts = "no run finished yet"
    if seeds:
        span = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        counts = f"{span} seed{'s' if seeds[-1] > 1 else ''} a row"
    drawn = "pictures and seeds" if seeds and seeds[-1] > 1 else "pictures"
    whose = "" if dataset == "voc2012" else (
        " The paper's values belong to photographs of VOC 2012 and stand here for orientation, not for comparison.")
    return (
        f"Mean foreground IoU on {pictures} validation pictures of {dataset}, {counts}, with 95 % bootstrap intervals "
        f"over {drawn} and the paper's value beside. IoU of the foreground (1 − φ ≥ 0.5) is taken for each picture, "
        f"void pixels left out, and averaged over the pictures of a class; the last column is the mean over the "
        f"{len(present)} classes that have pictures ({', '.join(present) or 'none'}), the paper's over the same "
        f"classes.{whose}")


def _lines(dataset: str, name: str, metrics: list[dict[str, Any]], seeds: int, groups: np.ndarray,
           paper: Mapping[str, float]) -> list[dict[str, Any]]:
    """One line for each class and the mean, from all seeds; `groups` is the class of each picture, "" if not scored."""
    present = [label for label in CLASSES if (groups == label).any()]
    values = {}
    if metrics:
        keys = ("iou", "boundary_iou", "intersection", "union")
        values = {key: np.stack([_column(one, key) for one in metrics]) for key in keys}
    lines = []
    for label in (*CLASSES, MEAN):
        names = [label] if label in CLASSES else present
        mine = np.isin(groups, names)
        line = {"dataset": dataset, "row": name, "class": label, "n": int(mine.sum()), "seeds": seeds}
        if metrics and mine.any():
            measured = interval(values["iou"][:, mine], groups[mine])
            overlap, union = ([values[key][:, groups == one].sum(axis=1) for one in names]
                              for key in ("intersection", "union"))
            line |= {"iou": measured.mean, "ci_low": measured.low, "ci_high": measured.high,
                     "pooled_iou": np.divide(overlap, union).mean(),
                     "boundary_iou": np.mean([values["boundary_iou"][:, groups == one].mean() for one in names])}
        if names and all(one in paper for one in names):
            line["paper_iou"] = float(np.mean([paper[one] for one in names]))
        lines.append(line | {key: line.get(key, np.nan) for key in COLUMNS[5:]})
    return lines


def _column(metrics: dict, key: str) -> np.ndarray:
    return np.array([line[key] for line in metrics["per_image"]], dtype=float)


def _wide(table: pd.DataFrame, rows: Mapping[str, Row], *, measured: str, paper: str, span: str) -> pd.DataFrame:
    """Text cells by three patterns: row titles down, seeds and classes with their n across."""
    counts = table.groupby("class")["n"].max()
    cells: dict[str, dict[str, str]] = {}
    for line in table.to_dict("records"):
        name = line["row"]
        title = rows[name].title if name in rows else BASELINES[name][0]
        known = not np.isnan(line["iou"])
        text = measured.format(_two(line["iou"])) if known else "–"
        text += "" if np.isnan(line["paper_iou"]) else paper.format(_two(line["paper_iou"]))
        text += span.format(_two(line["ci_low"]), _two(line["ci_high"])) if known else ""
        trained = "–" if name not in rows else str(line["seeds"]) if line["seeds"] else "none yet"
        column = f"{line['class'].capitalize()}\nn = {counts[line['class']]}"
        cells.setdefault(title, {"seeds": trained})[column] = text
    return pd.DataFrame.from_dict(cells, orient="index").rename_axis("row")


def _two(number: float) -> str:
    """Two decimals, a half rounded up as people do."""
    return f"{number + 1e-9:.2f}"
