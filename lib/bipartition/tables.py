"""Table 1, measured and printed side by side, from every run of a profile that counts; and what all tables share.

A row without any keeps its lines, empty.  Nothing is trained or drawn here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bipartition import files
from bipartition.baselines import BASELINES
from bipartition.evaluation import (
    UNKNOWN,
    Interval,
    class_mean,
    evaluate,
    interval,
    is_collapsed,
    object_truth,
    paired_difference,
)
from bipartition.finished import finished_folders
from bipartition.profiles import Profile
from bipartition.rows import CAM, MEAN, OTHER_TITLES, ROWS, WARM_UP, table_classes

COLUMNS = ("dataset", "row", "class", "n", "seeds", "iou", "ci_low", "ci_high", "pooled_iou", "boundary_iou",
           "paper_iou")
SEED_COLUMNS = ("dataset", "row", "seed", "class", "iou", "boundary_f", "area", "grey", "collapsed")
PICTURE_COLUMNS = ("row", "seed", "class", "picture", "object", "iou", "area")
NO_SEED = -1
"""Stands for the seed of what needs no training."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `evaluate` said of masks of the same pictures: read once, for all tables.

    Attributes
    ----------
    dataset : str
        Whose pictures.
    groups : ndarray of str, shape (N,)
        Their classes, see `scored_classes`.
    lines : mapping of str to mapping of int to dict
        By the names of the lines of a table, in their order, and by seed.
    stale : sequence of str
        Runs that were left out, ``row/seed<k>``.
    """

    dataset: str
    groups: np.ndarray
    lines: Mapping[str, Mapping[int, dict[str, Any]]]
    stale: Sequence[str] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Columns of the tables, see `bipartition.rows.table_classes`."""
        return table_classes(self.groups)

    def seeds(self, name: str) -> int:
        """How many trainings are behind a line."""
        return sum(seed != NO_SEED for seed in self.lines[name])

    def numbers(self, name: str, key: str) -> dict[int, np.ndarray]:
        """A number of every picture, shape (N,), by seed; empty where there is no such line."""
        return {seed: _values(metrics, key, self.groups) for seed, metrics in self.lines.get(name, {}).items()}


def line_metrics(profile: Profile, dataset: str, prepared: Any, *, baselines: Sequence[str] = tuple(BASELINES)) -> Measured:
    """All that the tables of a data set are made from: finished runs, and baselines, which are computed here.

    Returns
    -------
    Measured
        First the rows, with an entry for each run that counts or none; then `bipartition.rows.CAM`, if a warm-up has left
        masks; then the baselines.

    Raises
    ------
    ValueError
        If the data set has no truth.
    """
    groups, split = scored_classes(dataset, prepared), prepared.split("val")
    folders, stale = finished_folders(profile, dataset, prepared.checksum)
    lines = {row: {seed: files.read_json(folder / "metrics.json") for seed, folder in by_seed.items()}
             for row, by_seed in folders.items()}
    if maps := lines.pop(WARM_UP):
        lines[CAM] = maps
    for name in baselines:
        lines[name] = {NO_SEED: evaluate(BASELINES[name][1](split.images), split, prepared.classes)}
    return Measured(dataset=dataset, groups=groups, lines=lines, stale=stale)


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
    groups[~object_truth(split.masks)[0].any(axis=(1, 2))] = ""
    return groups


def averages(metrics: Iterable[dict[str, Any]], groups: np.ndarray, classes: Sequence[str], keys: Iterable[str],
             spans: Collection[str] = ()) -> dict[str, float]:
    """Mean over classes of the means over their pictures and over seeds, of several numbers of ``per_image``.

    Parameters
    ----------
    metrics : iterable of dict
        What `evaluate` said, one for each seed.
    groups : ndarray of str, shape (N,)
        Class of each picture.
    classes : sequence of str
        Those that count; one without pictures is left out.
    keys : iterable of str
        Also ``"pooled_iou"``, the pixels of a class added up over its pictures, one ratio for each seed; and ``"oracle_iou"``,
        of each mask as it is or turned round.
    spans : collection of str
        Those of `keys` that get their 95 % interval, as ``<key>_low`` and ``<key>_high``.

    Returns
    -------
    dict
        Of a measure that is younger than a run, over the seeds that have it; NaN where nothing is known.
    """
    metrics, mine, line = list(metrics), np.isin(groups, classes), {}
    for key in keys:
        values = [_values(one, key, groups)[mine] for one in metrics]
        values = [one for one in values if not np.isnan(one).all()]
        if key in spans:
            found = interval(np.stack(values), groups[mine]) if values else UNKNOWN
            line |= dict(zip((key, f"{key}_low", f"{key}_high"), found, strict=True))
        else:
            line[key] = class_mean(np.stack(values), groups[mine]) if values else np.nan
    return line


def column(metrics: dict[str, Any], key: str) -> np.ndarray:
    """A number of ``per_image``, shape (N,); NaN where it is not known, or not measured when the run was finished."""
    return np.array([line.get(key) for line in metrics["per_image"]], dtype=float)


def difference(found: Measured, first: str, second: str, key: str = "iou") -> tuple[Interval, list[int]]:
    """By how much line `first` beats `second`: mean over Table 1's classes, same pictures, the seeds that both have.

    A baseline stands beside every seed of the other.

    Returns
    -------
    difference : Interval
        All NaN without a common seed that has the number.
    seeds : list of int
        Those that were compared.
    """
    one, other = found.numbers(first, key), found.numbers(second, key)
    if NO_SEED in other:
        other = dict.fromkeys(one, other[NO_SEED])
    seeds = [seed for seed in one if seed in other and not np.isnan(one[seed] + other[seed]).all()]
    if not seeds:
        return UNKNOWN, seeds
    mine = np.isin(found.groups, found.classes)
    values = (np.stack([by_seed[seed][mine] for seed in seeds]) for by_seed in (one, other))
    return paired_difference(*values, found.groups[mine]), seeds


def gains(found: Measured, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """`difference` of pairs of lines in IoU and in boundary F, in words, with the number of seeds that both have."""
    lines = {}
    for first, second in pairs:
        shown = {}
        for key in ("iou", "boundary_f"):
            gain, seeds = difference(found, first, second, key)
            shown[key] = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" if seeds else "–"
        lines[f"{line_title(first)} against {line_title(second)}"] = shown | {"seeds": len(seeds)}
    return pd.DataFrame.from_dict(lines, orient="index")


def table1(found: Measured) -> pd.DataFrame:
    """One line for each row and class, and for each row the mean over the classes that have pictures.

    Returns
    -------
    pandas.DataFrame
        With exactly `COLUMNS`, in the order of `found`.  ``n`` is the number of validation pictures with an
        object; ``paper_iou`` of a mean is the paper's mean over the same classes as the measured one.
        ``attrs["collapsed"]`` counts the runs of each row whose masks are all or nothing nearly everywhere: what they
        score is the score of no cut, and the page says so beside their number, or in its place if all of them are.
    """
    lines = []
    for name, by_seed in found.lines.items():
        for label, names in _classes(found.groups, found.classes):
            paper = [ROWS[name].paper[one] for one in names if name in ROWS and one in ROWS[name].paper]
            lines.append({"dataset": found.dataset, "row": name, "class": label, "n": int(np.isin(found.groups, names).sum()),
                          "seeds": found.seeds(name), "paper_iou": np.mean(paper) if paper else np.nan}
                         | averages(by_seed.values(), found.groups, names, ("iou", "pooled_iou", "boundary_iou"), ["iou"]))
    table = pd.DataFrame(lines).rename(columns={"iou_low": "ci_low", "iou_high": "ci_high"})[list(COLUMNS)]
    table.attrs = {"stale": found.stale, "collapsed": {
        name: sum(seed != NO_SEED and is_collapsed(metrics) for seed, metrics in by_seed.items())
        for name, by_seed in found.lines.items()}}
    return table


def seeds_table(found: Measured) -> pd.DataFrame:
    """Each training by itself, for error bars of one's own: `SEED_COLUMNS`, by row, seed and class with pictures."""
    present = [name for name in found.classes if name in found.groups]
    lines = [{"dataset": found.dataset, "row": name, "seed": seed, "class": label}
             | averages([metrics], found.groups, names, SEED_COLUMNS[4:])
             for name, by_seed in found.lines.items() for seed, metrics in by_seed.items() if seed != NO_SEED
             for label, names in _classes(found.groups, present)]
    return pd.DataFrame(lines, columns=list(SEED_COLUMNS))


def object_shares(masks: np.ndarray) -> np.ndarray:
    """Share of each picture's pixels, void ones left out, that the object fills, shape (N,); of truth masks (N, S, S)."""
    is_object, is_void = object_truth(masks)
    return is_object.sum(axis=(1, 2)) / np.maximum(1, (~is_void).sum(axis=(1, 2)))


def pictures_table(found: Measured, prepared: Any) -> pd.DataFrame:
    """IoU of every picture of Table 1's classes, and the area of its mask, to plot or to group.

    Returns
    -------
    pandas.DataFrame
        With exactly `PICTURE_COLUMNS`: a line for each row or baseline, seed (`NO_SEED` for baselines) and picture, by its name
        in the data set; ``object`` is the share of its pixels, void ones left out, that the object fills, ``area`` the mean
        of 1 - phi.
    """
    split, mine = prepared.split("val"), np.flatnonzero(np.isin(found.groups, found.classes))
    about = {"class": found.groups[mine], "picture": np.asarray(split.ids)[mine], "object": object_shares(split.masks[mine])}
    parts = [pd.DataFrame({"row": name, "seed": seed} | about
                          | {key: _values(metrics, key, found.groups)[mine] for key in ("iou", "area")})
             for name, by_seed in found.lines.items() for seed, metrics in by_seed.items()]
    return pd.concat(parts, ignore_index=True)[list(PICTURE_COLUMNS)]


def write_table(table: pd.DataFrame, path: Path, text: str = "") -> None:
    """``<path>.csv`` (four decimals) and, of its page `text`, ``<path>.md``."""
    files.write_text(path.with_suffix(".csv"), table.round(4).to_csv(index=False, lineterminator="\n"))
    if text:
        files.write_text(path.with_suffix(".md"), text)


def markdown(table: pd.DataFrame) -> str:
    """Table 1 as a page reads it: classes as columns, measured (paper), the interval below."""
    counts = dict(zip(table["class"], table["n"], strict=True))
    rows: dict[str, list[str]] = {}
    for line in table.rename(columns={"ci_low": "iou_low", "ci_high": "iou_high"}).to_dict("records"):
        name = line["row"]
        value, new_line, span = cell(line, "iou").partition("<br>")
        value = f"**{value}**" if span else value
        collapsed = table.attrs["collapsed"][name]
        if span and collapsed and collapsed == line["seeds"]:
            value, new_line, span = "collapsed", "", ""
        paper = "" if np.isnan(line["paper_iou"]) else f" ({two(line['paper_iou'])})"
        seeds = seeds_shown(name, line["seeds"], collapsed=collapsed)
        rows.setdefault(name, [line_title(name), seeds]).append(value + paper + new_line + span)
    head = ["row", "seeds", *(f"{label.capitalize()}<br>n = {count}" for label, count in counts.items())]
    return page(head, rows.values(), explanation(table), [":--", "--:", *(":-:" for _ in counts)])


def page(head: Sequence[str], body: Iterable[Sequence[str]], note: str, aligned: Sequence[str]) -> str:
    """A table in Markdown and a paragraph below; ``<br>`` in a cell begins a new line."""
    lines = ("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in (head, aligned, *body))
    return "\n".join(lines) + f"\n\n{note}\n"


def cell(line: Mapping[str, Any], key: str) -> str:
    """A measure of a line with its interval below, if it has one; a dash for what is not known."""
    if np.isnan(line[key]):
        return "–"
    ends = [two(line[name]) for name in (f"{key}_low", f"{key}_high") if name in line]
    return two(line[key]) + (f"<br>[{', '.join(ends)}]" if ends else "")


def explanation(table: pd.DataFrame) -> str:
    """What the numbers are: data set, pictures, seeds, interval, how IoU is read, and which runs were left out."""
    means = table[table["class"] == MEAN]
    present = [name for name in dict.fromkeys(table.loc[table["n"] > 0, "class"]) if name != MEAN]
    dataset, pictures = table["dataset"].iloc[0], int(means["n"].max())
    seeds = sorted(set(means.loc[means["seeds"] > 0, "seeds"]))
    counts = "no run finished yet"
    if seeds:
        span = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        counts = f"{span} seed{'s' if seeds[-1] > 1 else ''} a row"
    known = table["paper_iou"].notna().any()
    drawn = "pictures and seeds" if seeds and seeds[-1] > 1 else "pictures"
    beside, theirs = (" and the paper's value beside", ", the paper's over the same classes") if known else ("", "")
    whose = "" if dataset == "voc2012" or not known else (
        " The paper's values belong to photographs, of VOC 2012 as we read it, and stand here for orientation, not for "
        "comparison.")
    return (
        f"Mean foreground IoU on {pictures} validation pictures of {dataset}, {counts}, with 95 % bootstrap intervals "
        f"over {drawn}{beside}. IoU of the foreground (1 − φ ≥ 0.5) is taken for each picture, "
        f"void pixels left out, and averaged over the pictures of a class; the last column is the mean over the "
        f"{len(present)} classes that have pictures ({', '.join(present) or 'none'}){theirs}.{whose}{refused(table)}")


def refused(table: pd.DataFrame) -> str:
    """A sentence that names the runs which a table left out; empty if there are none."""
    if not table.attrs["stale"]:
        return ""
    return f" Left out, as today's profile, code or data would make them otherwise: {', '.join(table.attrs['stale'])}."


def line_title(name: str) -> str:
    """What a line of a table is called on a page."""
    return ROWS[name].title if name in ROWS else OTHER_TITLES.get(name) or BASELINES[name][0]


def seeds_shown(name: str, seeds: int, *, collapsed: int = 0) -> str:
    """How a page says how many runs are behind a line, and how many of them collapsed; a dash for what needs no training."""
    shown = str(seeds) if seeds else "none" if name in ROWS else "–"
    return f"{shown}, {'all' if collapsed == seeds else collapsed} collapsed" if collapsed else shown


def two(number: float) -> str:
    """Two decimals, a half rounded up as people do; of the four that files have, so that file and page agree."""
    return f"{round(number, 4) + 1e-9:.2f}"


def _classes(groups: np.ndarray, shown: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Label of each line of a row, and the classes behind it: those shown, and the mean over those that have pictures."""
    return [*((name, [name]) for name in shown), (MEAN, [name for name in shown if name in groups])]


def _values(metrics: dict[str, Any], key: str, groups: np.ndarray) -> np.ndarray:
    """A number of every picture, shape (N,); the pooled IoU of a class stands at each of its pictures."""
    if key == "oracle_iou":
        return np.maximum(column(metrics, "iou"), column(metrics, "other_way_iou"))
    if key != "pooled_iou":
        return column(metrics, key)
    place = np.unique(groups, return_inverse=True)[1]
    overlap, union = (np.bincount(place, column(metrics, name)) for name in ("intersection", "union"))
    return (overlap / np.maximum(union, 1))[place]
