"""What settings change: trials that differ from the usual ones in one, as a table and a chart, and groups that differ in few.

Trials are the lines that `bipartition.trials` leaves; nothing is trained here.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bipartition.configuration import DEFAULTS, NAMED, Configuration
from bipartition.figures import COLOURS, STYLE, WIDTH
from bipartition.tables import two

USUAL = "usual"
"""In the column ``field``, of the lines with the usual settings."""
NUMBERS = ("iou", "iou_low", "iou_high", "area", "grey", "accuracy", "boundary_iou")
COLUMNS = ("field", "value", "seed", *NUMBERS, "command")
_LINE, _SEED_SHIFT = 0.165, 0.22
_AXES = {"iou": "IoU", "area": "area of the mask", "grey": "grey pixels"}


def sensitivities(trials: pd.DataFrame, usual: Mapping[str, Any], row: str) -> pd.DataFrame:
    """Trials of a row with exactly one field changed, and the usual ones of the same seeds.

    Parameters
    ----------
    trials : DataFrame
        With the columns of `bipartition.trials.COLUMNS`; tables from before ``iou_low`` and ``iou_high`` lack intervals.
        A line names what its command changed.  All else is taken to be usual, so that trials made before the profile was
        changed are misread, unless `usual` says what the profile said then.
    usual : mapping
        ``Configuration.to_dict()`` of the profile's row.  Its data set decides which trials count; its seed does not.
    row : str
        One of `bipartition.rows.ROWS`.

    Returns
    -------
    DataFrame
        With exactly `COLUMNS`: the usual lines first, then field by field, the one that moved IoU the most on top, its
        values in their order.  A seed without a usual line of its own is left out, and of equal trials only the last counts.
    """
    found = list(_changes(trials, usual, row))
    bases = {line["seed"]: line for line, changed in found if not changed}
    moved: dict[str, float] = {}
    lines = []
    for line, changed in found:
        if len(changed) > 1 or line["seed"] not in bases:
            continue
        field, value = next(iter(changed.items()), (USUAL, ""))
        moved[field] = max(moved.get(field, 0.0), abs(line["iou"] - bases[line["seed"]]["iou"]))
        lines.append({"field": field, "value": value, "seed": line["seed"], "command": line["command"]}
                     | {name: line.get(name, np.nan) for name in NUMBERS})
    lines.sort(key=lambda line: (line["field"] != USUAL, -moved[line["field"]], line["field"], *_order(line["value"]),
                                 line["seed"]))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def seen_from(trials: pd.DataFrame, usual: Mapping[str, Any], base: Mapping[str, Any]) -> pd.DataFrame:
    """The same trials, each with what it changes of another run than the usual one.

    Parameters
    ----------
    trials : DataFrame
        Its lines name what they change of `usual`.
    usual : mapping
        As for `sensitivities`.
    base : mapping
        What the other run changes of `usual`.

    Returns
    -------
    DataFrame
        To be read with ``usual | base`` as the usual settings.
    """
    def shift(text: str) -> str:
        settings = json.loads(text)
        names = dict.fromkeys([*settings, *base])
        values = {name: settings.get(name, usual.get(name)) for name in names}
        return json.dumps({name: value for name, value in values.items() if value != base.get(name, usual.get(name))})

    return trials.assign(settings=trials["settings"].map(shift))


def compared(trials: pd.DataFrame, usual: Mapping[str, Any], row: str, fields: Sequence[str]) -> pd.DataFrame:
    """Groups of trials of a row that agree in everything but some of `fields`, as a page shows them.

    Parameters
    ----------
    trials, usual, row
        As for `sensitivities`.
    fields : sequence of str
        In which the trials of a group may differ.  One that a trial does not read, as ``judge_turns`` of a snapshot, has no
        value there.

    Returns
    -------
    DataFrame
        One line a trial, the group of the usual run first: ``in common`` (what the group has that differs from the usual
        run, blank where it is as in the line above), those of `fields` that vary within a group, ``seed``, ``IoU`` (with its
        interval where there is one), ``area``, ``grey``, ``accuracy``.
    """
    groups = _groups(trials, usual, row, fields)
    varying = [name for name in fields if any(len({values[name] for values, _ in lines}) > 1 for lines in groups.values())]
    shown = []
    for rest, lines in groups.items():
        first, _ = lines[0]
        same = dict(rest) | {name: value for name, value in first.items()
                             if name not in varying and value is not None and value != usual.get(name)}
        text = ", ".join(f"{name} = {_shown(value)}" for name, value in same.items()) or "as usual"
        for values, line in sorted(lines, key=lambda pair: (*map(_order, pair[0].values()), pair[1]["seed"])):
            shown.append({"in common": text} | {name: _shown(values[name]) for name in varying}
                         | {"seed": line["seed"], "IoU": with_interval(line)}
                         | {name: two(line[name]) for name in ("area", "grey", "accuracy")})
            text = ""
    return pd.DataFrame(shown, columns=["in common", *varying, "seed", "IoU", "area", "grey", "accuracy"])


def spread(table: pd.DataFrame) -> str:
    """One sentence on a table of `sensitivities`: where the usual settings stand, and how far one field alone can lead."""
    usual, changed = (table[found] for found in (table["field"] == USUAL, table["field"] != USUAL))
    if usual.empty or changed.empty:
        return "No trial here differs from a usual one in a single setting."
    low, high = (changed.loc[place] for place in (changed["iou"].idxmin(), changed["iou"].idxmax()))
    ends = [f"{with_interval(line)} ({line['field']} = {_shown(line['value'])})" for line in (low, high)]
    settings = len(set(_keys(changed)))
    start = f"The usual settings give an IoU of {' and '.join(with_interval(line) for _, line in usual.iterrows())}"
    if settings == 1:
        return f"{start}; the one setting that was changed alone leads to {ends[0]}."
    return f"{start}; of {settings} settings that were changed alone the worst leads to {ends[0]}, the best to {ends[1]}."


def with_interval(line: Mapping[str, Any]) -> str:
    """IoU of a trial with its interval, where there is one."""
    ends = [line.get(name, np.nan) for name in ("iou_low", "iou_high")]
    return two(line["iou"]) + ("" if np.isnan(ends).any() else f" [{two(ends[0])}, {two(ends[1])}]")


@mpl.rc_context(STYLE)
def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """IoU of each changed setting beside the usual one, with area and grey share: a mark for each seed, a block for each field.

    The vertical line is the mean of the usual trials, the band is what they span, of IoU with their intervals.

    Parameters
    ----------
    table : DataFrame
        Of `sensitivities`.

    Raises
    ------
    ValueError
        If there is no usual line to compare with.
    """
    usual = table[table["field"] == USUAL]
    if usual.empty:
        raise ValueError("the table has no line with the usual settings, so there is nothing to compare with")
    places, labels, ends, height = _places(table)
    seeds = sorted(table["seed"].unique())
    figure = Figure(figsize=(0.75 * WIDTH, 0.62 + _LINE * height), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(2.4, 1, 1))
    for axes, name in zip(panels, ("iou", "area", "grey"), strict=True):
        bounds = [column for column in (f"{name}_low", f"{name}_high") if column in table]
        axes.axvspan(usual[[name, *bounds]].min(axis=None), usual[[name, *bounds]].max(axis=None), color="0.9", linewidth=0,
                     label="usual, all seeds")
        axes.axvline(usual[name].mean(), color="0.45", linewidth=0.8, label="their mean")
        for order, seed in enumerate(seeds):
            of_seed = table[table["seed"] == seed]
            y = [places[key] + _SEED_SHIFT * (order - (len(seeds) - 1) / 2) for key in _keys(of_seed)]
            look = {"color": COLOURS[order % len(COLOURS)]}
            if bounds:
                axes.hlines(y, of_seed[bounds[0]], of_seed[bounds[1]], linewidth=1, **look)
            axes.plot(of_seed[name], y, "osD^v"[order % 5], markersize=3.5, label=f"seed {seed}", **look)
        for line in ends:
            axes.axhline(line, color="0.8", linewidth=0.4)
        end = axes.get_xlim()[1]
        axes.set_xlim(-0.04 * end, 1.04 * end)  # from 0 everywhere, with room for marks at either end
        axes.set(xlabel=_AXES[name], ylim=(height - 0.4, -0.6), yticks=list(places.values()), yticklabels=labels)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, handletextpad=0.4,
                  handlelength=1.2, columnspacing=1.2)
    return figure


def _changes(trials: pd.DataFrame, usual: Mapping[str, Any], row: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each trial of the row with what it changes; a setting that `usual` does not know is a change."""
    mine = trials[(trials["row"] == row) & (trials["dataset"] == usual["dataset"])]
    last = {}
    for line in mine.to_dict("records"):
        settings = json.loads(line["settings"])
        changed = {name: value for name, value in settings.items()
                   if name not in usual or usual[name] != value}
        last[line["seed"], frozenset(changed.items())] = line, changed
    yield from last.values()


def _groups(trials: pd.DataFrame, usual: Mapping[str, Any], row: str,
            fields: Sequence[str]) -> dict[tuple, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Trials as pairs of values of `fields` and line, by what else they change; only seeds with two different ones or more."""
    found: dict[tuple, dict[int, list[tuple[dict[str, Any], dict[str, Any]]]]] = {}
    for line, changed in _changes(trials, usual, row):
        settings = {**usual, "row": row, **changed}
        read = _read(settings)
        rest = tuple(sorted((name, value) for name, value in changed.items() if name in read and name not in fields))
        found.setdefault(rest, {}).setdefault(line["seed"], []).append(({name: read.get(name) for name in fields}, line))
    groups = {}
    for rest in sorted(found, key=lambda rest: (len(rest), str(rest))):
        enough = [pairs for pairs in found[rest].values() if any(values != pairs[0][0] for values, _ in pairs)]
        if enough:
            groups[rest] = [pair for pairs in enough for pair in pairs]
    return groups


def _read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the row does not read; all of it where today's `Configuration` would refuse it."""
    names = DEFAULTS.keys() | NAMED
    try:
        read = Configuration(**{name: value for name, value in settings.items() if name in names}).decisive()
    except ValueError:
        return dict(settings)
    return {name: value for name, value in settings.items() if name not in names or name in read}


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by their size, then words."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (not number, value if number else 0.0, str(value))


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _keys(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["field"], table["value"].map(_shown), strict=True))


def _places(table: pd.DataFrame) -> tuple[dict[tuple[str, str], float], list[str], list[float], float]:
    """Height of each setting counted from the top, its label, the lines between the blocks, and the height of all."""
    places: dict[tuple[str, str], float] = {}
    ends, height, before = [], 0.0, USUAL
    for field, value in dict.fromkeys(_keys(table)):
        if field != before:
            ends.append(height - 0.25)
            height += 0.5
        places[field, value] = height
        height, before = height + 1, field
    labels = [field if field == USUAL else f"{field} = {value}" for field, value in places]
    return places, labels, ends, height
