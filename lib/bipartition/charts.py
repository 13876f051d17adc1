"""Numbers as charts: learning curves, Table 1, and how IoU is spread over pictures; nothing trained, nothing counted."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bipartition.figures import COLOURS, STYLE, WIDTH
from bipartition.rows import CAM, MEAN, ROWS

TABLE_READS = ("A band for each row that was trained. Dots are measured, with their intervals; strokes below them are single "
               "trainings, diamonds above them the paper's; the dotted line is the best of what needs no training, in each "
               "panel whichever that is.")
SPREAD_READS = ("Each shape is as wide as pictures with that IoU are frequent, smoothed, all seeds of a row together and "
                "every shape equally wide where it is widest; lines are quartiles, dots medians, over pictures and not "
                "over classes. IoU is that of the foreground (1 − φ ≥ 0.5), void pixels left out. At the right, the share "
                "of pictures that reach the dotted line. The ellipse looks at no picture.")
FOUND = 0.7
"""An IoU that few pictures reach by luck: on photographs 1 in 100 with an ellipse in the middle."""
_NO_LOSS = ("epoch", "loss", "accuracy")
_BESIDE = 0.28
"""Off a line of Table 1's picture: on it strokes look like the ends of its interval, and diamonds hide its dot."""


@mpl.rc_context(STYLE)
def learning_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss with its parts, and what was watched on validation pictures, over the epochs of each run.

    Parameters
    ----------
    histories : mapping of title to DataFrame
        ``history.csv`` of each run: columns ``val_*`` (and ``accuracy``) go to the right, other numbers to the left.
    """
    figure = Figure(figsize=(WIDTH, 0.35 + 1.75 * len(histories)), layout="constrained")
    panels = figure.subplots(len(histories), 2, squeeze=False, sharex="row")
    for (losses, shares), (title, history) in zip(panels, histories.items(), strict=True):
        numbers = list(history.select_dtypes("number"))
        watched = [name for name in numbers if name.startswith("val_") or name == "accuracy"]
        parts = [name for name in numbers if name not in (*watched, *_NO_LOSS)]
        _curves(losses, history, [*parts, *(name for name in ["loss"] if name in numbers)])
        _curves(shares, history, watched)
        losses.set(title=title, ylabel="training loss and parts")
        shares.set(title="validation pictures", ylim=(-0.02, 1.02), ylabel="share")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    return figure


@mpl.rc_context(STYLE)
def table_figure(table: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """Table 1 as a picture: a panel for each class that has pictures and for the mean, a line for each row; `TABLE_READS`.

    Parameters
    ----------
    table : DataFrame
        Of `bipartition.tables.table1`, or its file.
    seeds : DataFrame
        Of `bipartition.tables.seeds_table`, or its file.
    """
    shown = table[table["n"] > 0]
    classes = list(dict.fromkeys(shown["class"])) or [MEAN]
    trained = set(table["row"][table["iou"].notna()]) & set(ROWS)  # without any run the paper's values have a place, too
    names = [name for name in ROWS if name in (trained or set(table["row"]))]
    y = {name: place for place, name in enumerate(names)}
    untrained = shown[~shown["row"].isin([*ROWS, CAM])].groupby("class")["iou"].max()
    figure = Figure(figsize=(WIDTH, 0.75 + 0.23 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(classes), squeeze=False, sharex=True, sharey=True,
                             width_ratios=[1.0] * (len(classes) - 1) + [2.2])[0]  # the mean is what rows are compared by
    for axes, label in zip(panels, classes, strict=True):
        lines, single = (part[(part["class"] == label) & part["row"].isin(names)] for part in (shown, seeds))
        axes.axvline(untrained.get(label, np.nan), color="0.45", linestyle=":", linewidth=0.9,
                     label="best without training")
        axes.hlines(lines["row"].map(y), lines["ci_low"], lines["ci_high"], color=COLOURS[0], linewidth=1.4)
        axes.plot(single["iou"], single["row"].map(y) + _BESIDE, "|", color="black", markersize=3.5, markeredgewidth=0.7,
                  label="a single training")
        axes.plot(lines["iou"], lines["row"].map(y), "o", color=COLOURS[0], markersize=3.2, clip_on=False,
                  label="measured, 95 % interval")
        axes.plot(lines["paper_iou"], lines["row"].map(y) - _BESIDE, "D", markerfacecolor="none", markersize=3.4,
                  color=COLOURS[1], markeredgewidth=0.9, label="the paper's" if shown["paper_iou"].notna().any() else None)
        axes.set(title=label, xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xticks=(0, 0.5, 1), xticklabels=("0", ".5", "1"),
                 yticks=range(len(names)), yticklabels=[ROWS[name].title for name in names])
        for place in range(0, len(names), 2):  # else a diamond could belong to the row above
            axes.axhspan(place - 0.5, place + 0.5, color="0.94", linewidth=0, zorder=0)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(label == classes[0])
    panels[len(panels) // 2].set_xlabel("foreground IoU")
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], texts[::-1], loc="outside lower center", ncols=4, handletextpad=0.3)
    return figure


@mpl.rc_context(STYLE)
def spread_figure(pictures: pd.DataFrame) -> Figure:
    """How IoU is spread over pictures, a shape for each line; `SPREAD_READS`.

    Parameters
    ----------
    pictures : DataFrame
        Columns title and iou, titles in the order in which they are shown; see `bipartition.tables.pictures_table`.
    """
    import seaborn  # takes a second, which trainings that draw their curves can do without

    titles = list(dict.fromkeys(pictures["title"]))
    known = pictures[pictures["iou"].notna()]
    by_title = known["iou"].groupby(known["title"])
    figure = Figure(figsize=(WIDTH, 0.55 + 0.27 * len(titles)), layout="constrained")
    axes = figure.subplots()
    seaborn.violinplot(known, x="iou", y="title", order=titles, cut=0, bw_adjust=0.6, density_norm="width", width=0.9,
                       inner="quart", color=COLOURS[5], saturation=1, linewidth=0.9, linecolor="black", ax=axes)
    axes.set(xlim=(0, 1), xlabel="foreground IoU of a picture", ylabel="")
    axes.tick_params(axis="y", length=0)
    # a shape that is a point, as where nothing is foreground, would not be seen
    axes.plot(by_title.median().reindex(titles), range(len(titles)), "o", color="black", markersize=2.6, clip_on=False)
    for place, share in enumerate(by_title.agg(lambda values: (values >= FOUND).mean()).reindex(titles)):
        axes.text(1.02, place, "–" if np.isnan(share) else f"{100 * share:.0f} %", va="center")
    axes.axvline(FOUND, color="0.45", linestyle=":", linewidth=0.9, zorder=0)
    axes.text(1.02, -0.75, f"IoU ≥ {FOUND}", va="center")
    return figure


def _curves(axes: Axes, history: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        known = history[history[name].notna()]
        look = {"loss": {"color": "black", "linewidth": 2}, "accuracy": {"linestyle": "--"}}.get(name, {})
        label = name.removeprefix("val_").replace("_", " ").replace("iou", "IoU")
        label = "accuracy (training)" if name == "accuracy" else label
        axes.plot(known["epoch"], known[name], marker="o", markersize=2.5, label=label, **look)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if names:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
