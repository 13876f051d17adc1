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
from bipartition.evaluation import Interval, evaluate, interval, is_collapsed, object_truth, paired_difference
from bipartition.rows import CAM, CLASSES, OTHER_TITLES, ROWS, WARM_UP, Row

__all__ = ["COLUMNS", "MEAN", "column", "difference", "explanation", "finished_runs", "line_metrics", "line_title", "markdown",
           "paired", "scored_classes", "seeds_shown", "styled", "table1", "two", "whose_values", "write_table1"]

MEAN = "mean"
COLUMNS = ("dataset", "row", "class", "n", "seeds", "iou", "ci_low", "ci_high", "pooled_iou", "boundary_iou",
           "paper_iou")

MadeBy = Callable[[str, int], dict[str, Any]]
LineMetrics = Mapping[str, list[dict[str, Any]]]


def table1(found: LineMetrics, dataset: str, prepared: Any, rows: Mapping[str, Row] = ROWS) -> pd.DataFrame:
    """One line for each row and class, and for each row the mean over the classes that have pictures.

    Parameters
    ----------
    found : mapping of str to list of dict
        What `line_metrics` gave: the lines in their order.
    dataset : str
        Name in the first column.
    prepared : Prepared
        The pictures that were evaluated: its ``split("val")``, with a truth.
    rows : mapping of str to Row
        With the paper's values.

    Returns
    -------
    pandas.DataFrame
        With exactly `COLUMNS`, in the order of `found`.  ``n`` is the number of validation pictures with an
        object; ``paper_iou`` of a mean is the paper's mean over the same classes as the measured one.
        ``attrs["collapsed"]`` counts the runs of each row whose masks are all or nothing nearly everywhere: what they
        score is the score of no cut, and the table says so beside their number.

    Raises
    ------
    ValueError
        If the data set has no truth.
    """
    groups = scored_classes(dataset, prepared)
    lines, collapsed = [], {}
    for name, metrics in found.items():
        seeds = 0 if name in BASELINES else len(metrics)
        lines += _lines(dataset, name, metrics, seeds, groups, rows[name].paper if name in rows else {})
        if name not in BASELINES:
            collapsed[name] = sum(map(is_collapsed, metrics))
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table.attrs["collapsed"] = collapsed
    return table


def line_metrics(profile: str, dataset: str, prepared: Any, rows: Mapping[str, Row] = ROWS, *,
                 baselines: Sequence[str] = tuple(BASELINES), made_by: MadeBy | None = None) -> dict[str, list[dict[str, Any]]]:
    """What `evaluate` said, by the names of the lines of a table: read once, for `table1` and `bipartition.measures.measures`.

    Parameters
    ----------
    profile, dataset : str
        Whose runs are read: ``results/<profile>/runs/<dataset>/``.
    prepared : Prepared
        The pictures that were evaluated: its ``split("val")``.
    rows : mapping of str to Row
        Order of the lines.
    baselines : sequence of str
        Names of `bipartition.baselines.BASELINES` to add, computed here.
    made_by : callable, optional
        ``(row, seed) -> dict``, asked for the warm-up too; runs made by anything else are out of date and do not count.

    Returns
    -------
    dict of str to list of dict
        First the rows, with one entry for each finished seed or none; then `bipartition.rows.CAM`, if a warm-up run has
        left masks; then the baselines, with one entry.
    """
    found = {}
    for name in (*rows, WARM_UP):
        found[name] = list(finished_runs(profile, dataset, name, prepared, made_by=made_by).values())
    if maps := found.pop(WARM_UP):
        found[CAM] = maps
    split = prepared.split("val")
    for name in baselines:
        found[name] = [evaluate(BASELINES[name][1](split.images), split, prepared.classes)]
    return found


def scored_classes(dataset: str, prepared: Any) -> np.ndarray:
    """Class of each validation picture, shape (N,); "" where it has no object pixel at this size.

    Raises
    ------
    ValueError
        If the data set has no truth.
    """
    split = prepared.split("val")
    if split.masks is None:
        raise ValueError(f"{dataset} has no truth masks, and the tables are nothing else; choose a data set with truth")
    groups = np.array([prepared.classes[label] for label in split.labels], dtype=object)
    groups[~object_truth(split.masks, split.truth_codes)[0].any(axis=(1, 2))] = ""
    return groups


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

    `key` is a number of ``per_image``, as ``"iou"`` or ``"boundary_iou"``.  All NaN without a common seed that has it.
    """
    one, other = ({seed: column(metrics, key) for seed, metrics in
                   finished_runs(profile, dataset, row, prepared, made_by=made_by).items()} for row in (first, second))
    split = prepared.split("val")
    return paired(one, other, np.array([prepared.classes[label] for label in split.labels]))[0]


def paired(one: Mapping[int, np.ndarray], other: Mapping[int, np.ndarray], groups: np.ndarray) -> tuple[Interval, list[int]]:
    """Mean over Table 1's classes of `one` minus `other`, and the seeds that both have numbers of.

    Parameters
    ----------
    one, other : mapping of seed to ndarray, shape (N,)
        A number of every picture.
    groups : ndarray of str, shape (N,)
        Class of each picture.

    Returns
    -------
    difference : Interval
        All NaN without a common seed.
    seeds : list of int
    """
    seeds = [seed for seed in one if seed in other and not np.isnan(one[seed] + other[seed]).all()]
    if not seeds:
        return Interval(np.nan, np.nan, np.nan), seeds
    mine = np.isin(groups, CLASSES)
    values = (np.stack([by_seed[seed][mine] for seed in seeds]) for by_seed in (one, other))
    return paired_difference(*values, groups[mine]), seeds


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
    return (
        f"Mean foreground IoU on {pictures} validation pictures of {dataset}, {counts}, with 95 % bootstrap intervals "
        f"over {drawn} and the paper's value beside. IoU of the foreground (1 − φ ≥ 0.5) is taken for each picture, "
        f"void pixels left out, and averaged over the pictures of a class; the last column is the mean over the "
        f"{len(present)} classes that have pictures ({', '.join(present) or 'none'}), the paper's over the same "
        f"classes.{whose_values(dataset)}")


def whose_values(dataset: str) -> str:
    """A sentence on whose photographs the paper's values belong to; empty where they are the data set's own."""
    if dataset == "voc2012":
        return ""
    return " The paper's values belong to photographs of VOC 2012 and stand here for orientation, not for comparison."


def column(metrics: dict[str, Any], key: str) -> np.ndarray:
    """A number of ``per_image``, shape (N,); NaN where it is not known, or not measured when the run was finished."""
    return np.array([line.get(key) for line in metrics["per_image"]], dtype=float)


def line_title(name: str, rows: Mapping[str, Row] = ROWS) -> str:
    """What a line of a table is called on a page."""
    return rows[name].title if name in rows else OTHER_TITLES.get(name) or BASELINES[name][0]


def seeds_shown(name: str, seeds: int, rows: Mapping[str, Row] = ROWS, *, collapsed: int = 0) -> str:
    """How a page says how many runs are behind a line, and how many of them collapsed; a dash for what needs no training."""
    shown = str(seeds) if seeds else "none yet" if name in rows else "–"
    return f"{shown}, {'all' if collapsed == seeds else collapsed} collapsed" if collapsed else shown


def two(number: float) -> str:
    """Two decimals, a half rounded up as people do."""
    return f"{number + 1e-9:.2f}"


def _lines(dataset: str, name: str, metrics: list[dict[str, Any]], seeds: int, groups: np.ndarray,
           paper: Mapping[str, float]) -> list[dict[str, Any]]:
    """One line for each class and the mean, from all seeds; `groups` is the class of each picture, "" if not scored."""
    present = [label for label in CLASSES if (groups == label).any()]
    values = {}
    if metrics:
        keys = ("iou", "boundary_iou", "intersection", "union")
        values = {key: np.stack([column(one, key) for one in metrics]) for key in keys}
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


def _wide(table: pd.DataFrame, rows: Mapping[str, Row], *, measured: str, paper: str, span: str) -> pd.DataFrame:
    """Text cells by three patterns: row titles down, seeds and classes with their n across."""
    counts = table.groupby("class")["n"].max()
    cells: dict[str, dict[str, str]] = {}
    for line in table.to_dict("records"):
        name = line["row"]
        known = not np.isnan(line["iou"])
        text = measured.format(two(line["iou"])) if known else "–"
        text += "" if np.isnan(line["paper_iou"]) else paper.format(two(line["paper_iou"]))
        text += span.format(two(line["ci_low"]), two(line["ci_high"])) if known else ""
        head = f"{line['class'].capitalize()}\nn = {counts[line['class']]}"
        seeds = seeds_shown(name, line["seeds"], rows, collapsed=table.attrs.get("collapsed", {}).get(name, 0))
        cells.setdefault(line_title(name, rows), {"seeds": seeds})[head] = text
    return pd.DataFrame.from_dict(cells, orient="index").rename_axis("row")
