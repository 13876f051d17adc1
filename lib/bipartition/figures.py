"""Figures 4, 5 and 6 of the paper, its worst pictures, contact sheets: nothing trained.

All look comes from `STYLE`.  Figures are made without pyplot, so nothing is left open; in a notebook, ``%matplotlib
inline`` shows them.  Equal masks give equal PNG bytes.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bipartition import files
from bipartition.configuration import DEFAULTS, Configuration
from bipartition.datasets.photographs import VOID
from bipartition.evaluation import CUT
from bipartition.rows import ROWS

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's palette, told apart by colour-blind readers."""
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 8, "mathtext.fontset": "dejavusans", "text.color": "black",
    "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "lines.linewidth": 1.2, "axes.prop_cycle": cycler(color=COLOURS), "axes.facecolor": "white",
    "figure.dpi": 110, "figure.facecolor": "white", "savefig.facecolor": "white", "pdf.fonttype": 42,
    "image.cmap": "gray", "image.interpolation": "nearest",
}
WIDTH = 7.2
"""Inches: the text width of a page."""
GAP = 0.03
NOTED = {"row_gap": 0.17, "bottom": 0.17}
"""Room for a line of small type below each group of panels."""
FIGURE4_ROWS = tuple(sorted(ROWS, key=lambda name: ROWS[name].letter))
"""Columns (a) to (f) of Figure 4, and those of further rows."""
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
PICTURE, MASK, FOREGROUND, BACKGROUND = QUARTET = ("$I$", r"$1-\phi$", r"$(1-\phi)\odot I$", r"$\phi\odot I$")
TRUTH = "truth"
FIGURE6_COLUMNS = (PICTURE, TRUTH, MASK, FOREGROUND, BACKGROUND)
NOT_TRAINED, NOT_SCORED = "not trained", "no object"


def choose(labels: Sequence[int], count: int, seed: int = 0) -> np.ndarray:
    """Positions of `count` pictures drawn by `seed`, taking the classes in turn; all pictures if there are fewer.

    Raises
    ------
    ValueError
        If `count` is no whole number from 1 or `seed` none from 0; the message has the names of a notebook's parameters.
    """
    for name, value, least in (("pictures", count, 1), ("picture_seed", seed, 0)):
        if type(value) is not int or value < least:
            raise ValueError(f"{name} = {value!r}; it must be a whole number from {least}")
    random = np.random.default_rng(seed)
    labels = np.asarray(labels)
    queues = [random.permutation(np.flatnonzero(labels == label)) for label in random.permutation(np.unique(labels))]
    turns = [(turn, place, picture) for place, queue in enumerate(queues) for turn, picture in enumerate(queue)]
    return np.array([picture for _, _, picture in sorted(turns)[:count]], dtype=int)


def lowest(scores: Sequence[float], count: int) -> np.ndarray:
    """Positions of the `count` lowest numbers, the lowest first, equal ones in their order; NaN is left out."""
    scores = np.asarray(scores, dtype=float)
    order = np.argsort(scores, kind="stable")
    return order[~np.isnan(scores[order])][:count]


@mpl.rc_context(STYLE)
def figure4(images: np.ndarray, masks: Mapping[str, np.ndarray | None], indices: Sequence[int],
            ious: Mapping[str, Sequence[float]] | None = None) -> Figure:
    """The six experiments side by side: for each picture the rows I, 1 - phi, (1 - phi) I and phi I.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 3, S, S)
    masks : mapping of row name to ndarray of uint8, shape (N, S, S), or None
        ``round(255 (1 - phi))``; a row that is missing or None gets labelled empty panels.
    indices : sequence of int
        Pictures to show, one set below the other; see `choose`.
    ious : mapping of row name to sequence of float, length N, optional
        Foreground IoU of each picture, which stands below its panels; NaN where it is not known.
    """
    scored = {name: {index: values[index] for index in indices if not np.isnan(values[index])}
              for name, values in (ious or {}).items()}
    room = NOTED if any(scored.values()) else {"row_gap": 0.08}
    figure, panels = _grid(rows=4 * len(indices), columns=len(FIGURE4_ROWS), every_row=4, left=0.26, top=0.4, **room)
    for column, name in enumerate(FIGURE4_ROWS):
        for place, index in enumerate(indices):
            shown = _quartet(images[index], _one(masks.get(name), index))
            for axes, array in zip(panels[4 * place:4 * place + 4, column], shown, strict=True):
                _show(axes, array)
            if index in scored.get(name, {}):
                _note(panels[4 * place + 3, column], f"IoU {scored[name][index]:.2f}")
        head = textwrap.wrap(f"({ROWS[name].letter}) {ROWS[name].title}", 18, break_on_hyphens=False)
        _head(panels[0, column], "\n".join(head))
        if len(FIGURE4_ROWS) > 6:  # heads would touch
            panels[0, column].title.set_fontsize(STYLE["axes.titlesize"] * 5.5 / len(FIGURE4_ROWS))
    for axes, side in zip(panels[:, 0], QUARTET * len(indices), strict=True):
        axes.set_ylabel(side, labelpad=3)
    return figure


def figure5(images: np.ndarray, masks: np.ndarray | None, indices: Sequence[int], *, soft: bool = False) -> Figure:
    """One experiment on many pictures, two groups side by side: I, 1 - phi (not cut if `soft`), (1 - phi) I and phi I."""
    lines = [_quartet(images[index], _one(masks, index), soft=soft) for index in indices]
    return _two_groups(lines, QUARTET)


def figure6(images: np.ndarray, truth: np.ndarray, masks: np.ndarray | None, ious: Sequence[float], names: Sequence[str],
            indices: Sequence[int]) -> Figure:
    """As `figure5`, with the truth in the second column (object white, undecided pixels grey), IoU and class below the mask.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 3, S, S)
    truth : ndarray of uint8, shape (N, S, S)
    masks : ndarray of uint8, shape (N, S, S), or None
        None gives labelled empty panels.
    ious : sequence of float, length N
        Foreground IoU of each picture; NaN where it has no object pixel.  Empty if there are no masks.
    names : sequence of str, length N
        Class of each picture.
    indices : sequence of int
        Pictures to show.
    """
    lines, notes = [], []
    for index in indices:
        picture, *rest = _quartet(images[index], _one(masks, index))
        lines.append([picture, _truth(truth[index]), *rest])
        scored = masks is not None and not np.isnan(ious[index])
        notes.append(f"IoU {ious[index]:.2f} ({names[index]})" if scored else names[index])
    return _two_groups(lines, FIGURE6_COLUMNS, notes=notes)


def figure6_worst(images: np.ndarray, truth: np.ndarray, masks: np.ndarray | None, ious: Sequence[float],
                  names: Sequence[str], *, count: int = 10) -> Figure:
    """`figure6` of at most `count` pictures, those with the lowest IoU, the worst first; none of those without an object.

    Without masks nobody knows which are the worst: one line of labelled empty panels.
    """
    indices = [] if masks is None else lowest(ious, count)
    if len(indices) == 0:
        empty = [[None] * len(FIGURE6_COLUMNS)] * 2
        return _two_groups(empty, FIGURE6_COLUMNS, missing=NOT_TRAINED if masks is None else NOT_SCORED)
    return figure6(images, truth, masks, ious, names, indices)


@mpl.rc_context(STYLE)
def contact_sheet(images: np.ndarray, masks: np.ndarray | None, labels: Sequence[str], *, columns: int = 8) -> Figure:
    """Pictures with their names above and, if there is one, their truth below."""
    columns = min(columns, len(images))
    high = 1 if masks is None else 2
    lines = -(-len(images) // columns)
    figure, panels = _grid(rows=high * lines, columns=columns, every_row=high, row_gap=0.22)
    for place in range(lines * columns):
        line, column = divmod(place, columns)
        group = panels[high * line:high * line + high, column]
        if place >= len(images):
            for axes in group:
                axes.set_axis_off()
            continue
        _show(group[0], np.moveaxis(images[place], 0, -1))
        _head(group[0], labels[place])
        if masks is not None:
            _show(group[1], _truth(masks[place]))
    return figure


def caption(name: str, *, dataset: str, size: int, choice: str, seed: int | Mapping[str, int] | None = None,
            row: str = "mumford_shah", note: str = "") -> str:
    """Text under a figure that needs no other text.

    Parameters
    ----------
    name : {"figure4", "figure5", "figure6", "figure6_worst"}
    dataset, size : str, int
        Data set and side of its pictures in pixels.
    choice : str
        How the pictures were chosen, as "drawn by seed 0, the classes in turn".
    seed : int or mapping of row name to int, optional
        Of the run, or the runs, that are shown.
    row : str
        The experiment of Figures 5 and 6.
    note : str
        What else is special, as a narrower network.
    """
    run = f" {_whose(seed)}"
    cut = "white = foreground, cut at 0.5"
    letters = ", ".join(f"({ROWS[one].letter}) {ROWS[one].title}" for one in FIGURE4_ROWS)
    count = len(FIGURE4_ROWS)
    ways = NUMBERS[count] if count < len(NUMBERS) else count
    parts = "the foreground (1 − φ) ⊙ I and the background φ ⊙ I"
    pictures = f"Validation pictures of {dataset} at {size} × {size} pixels, {choice}."
    beside_truth = (f"{ROWS[row].title} against the truth. Columns of each group: the picture I, the truth (object white, "
                    f"undecided grey), the mask 1 − φ ({cut}) with foreground IoU and class below, {parts}.")
    texts = {
        "figure4": f"Figure 4. {ways} ways to cut a picture in two. {letters}. Rows, for each picture: the picture I, "
                   f"the mask 1 − φ ({cut}), {parts}; below them, where the truth is known, the mask's foreground IoU.",
        "figure5": f"Figure 5. {ROWS[row].title}. Columns of each group: the picture I, the mask 1 − φ ({cut}), "
                   f"{parts}.",
        "figure6": f"Figure 6. {beside_truth}",
        "figure6_worst": f"Figure 6, the worst. {beside_truth}",
    }
    if name not in texts:
        raise ValueError(f"no caption for {name!r}; there are {', '.join(texts)}")
    return " ".join(f"{texts[name]} {pictures}{run} {note}".split())


def changed_here(*configurations: Configuration) -> str:
    """What a caption has to say: how pictures, networks and first weights differ from the paper's, where the rows have them."""
    changed: dict[str, list[str]] = {}
    for configuration in configurations:
        for name, value in configuration.decisive().items():
            if name in DEFAULTS and value != DEFAULTS[name] and str(value) not in changed.setdefault(name, []):
                changed[name].append(str(value))
    words = {
        "size": "pictures of {} pixels",
        "autoencoder_width": "auto-encoders of width {} at their first layer",
        "autoencoder_poolings": "with {} poolings" if "autoencoder_width" in changed else "auto-encoders with {} poolings",
        "weights": "first weights drawn at random (the paper does not say which)",
    }
    said = [text.format(" or ".join(changed[name])) for name, text in words.items() if name in changed]
    return f"Other than in the paper: {', '.join(said)}; how method and training are read: see METHOD.md." if said else ""


def _whose(seed: int | Mapping[str, int] | None) -> str:
    if seed is None or seed == {}:
        return ""
    if isinstance(seed, int):
        return f"Run with seed {seed}."
    first, *others = set(seed.values())
    if not others:
        return f"Runs with seed {first}."
    return f"Seeds of the runs: {', '.join(f'({ROWS[name].letter}) {seed[name]}' for name in FIGURE4_ROWS if name in seed)}."


def save(figure: Figure, path: Path, text: str) -> Path:
    """Write ``<path>.txt``, the caption, ``<path>.pdf`` and ``<path>.png`` (200 dpi), each whole or not at all.

    Returns the PNG's path.

    Neither holds a date or a version, so that the same figure gives the same bytes.
    """
    files.write_text(path.with_name(f"{path.name}.txt"), f"{text}\n")
    nameless = {".pdf": {"CreationDate": None, "Producer": None, "Creator": None}, ".png": {"Software": None}}
    with mpl.rc_context(STYLE):
        for suffix, metadata in nameless.items():
            target = path.with_name(path.name + suffix)
            with files.place(target) as temporary:
                figure.savefig(temporary, dpi=200, metadata=metadata)
    return target


def _one(masks: np.ndarray | None, index: int) -> np.ndarray | None:
    return None if masks is None else np.asarray(masks[index])


def _quartet(image: np.ndarray, mask: np.ndarray | None, *, soft: bool = False) -> list[np.ndarray | None]:
    """I, 1 - phi, (1 - phi) I and phi I as arrays to show; None where there is no mask."""
    picture = np.moveaxis(np.asarray(image), 0, -1)
    if mask is None:
        return [picture, None, None, None]
    foreground = mask / 255 if soft else (mask >= CUT).astype(float)
    weight = foreground[..., None]
    return [picture, foreground, weight * picture / 255, (1 - weight) * picture / 255]


def _truth(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == VOID, 0.5, (mask > 0).astype(float))


@mpl.rc_context(STYLE)
def _two_groups(lines: list[list[np.ndarray | None]], heads: Sequence[str], *, notes: Sequence[str] = (),
                missing: str = NOT_TRAINED) -> Figure:
    """Examples in two columns of groups, read line by line; the last place stays blank if their number is odd.

    `notes`, one for each example, stand below its mask in small type; `missing` labels empty panels.
    """
    width, groups = len(heads), min(2, len(lines))
    high = -(-len(lines) // 2)
    figure, panels = _grid(rows=high, columns=groups * width, every_column=width, **(NOTED if notes else {}))
    for place in range(high * groups):
        line, group = divmod(place, groups)
        part = panels[line, group * width:(group + 1) * width]
        for position, axes in enumerate(part):
            if place < len(lines):
                _show(axes, lines[place][position], missing)
            else:
                axes.set_axis_off()
        if place < len(notes):
            _note(part[heads.index(MASK)], notes[place])
    for axes, head in zip(panels[0], heads * groups, strict=True):
        _head(axes, head)
    return figure


def _grid(*, rows: int, columns: int, every_row: int = 1, every_column: int = 1, row_gap: float = GAP,
          left: float = 0.02, top: float = 0.22, bottom: float = 0.02) -> tuple[Figure, np.ndarray]:
    """Square panels of one size in groups of so many rows and columns; margins and gaps between groups in inches."""
    column_gap = 4 * GAP if every_column > 1 else GAP
    column_gaps = [column_gap if (place + 1) % every_column == 0 else GAP for place in range(columns - 1)]
    row_gaps = [row_gap if (place + 1) % every_row == 0 else GAP for place in range(rows - 1)]
    side = (WIDTH - left - 0.02 - sum(column_gaps)) / columns
    height = top + rows * side + sum(row_gaps) + bottom
    figure = Figure(figsize=(WIDTH, height))
    panels = np.empty((rows, columns), dtype=object)
    for row in range(rows):
        for column in range(columns):
            x = left + column * side + sum(column_gaps[:column])
            y = height - top - (row + 1) * side - sum(row_gaps[:row])
            box = (x / WIDTH, y / height, side / WIDTH, side / height)
            axes = figure.add_axes(box, xticks=[], yticks=[])
            axes.spines[:].set(visible=True, linewidth=0.3, color="0.6")
            panels[row, column] = axes
    return figure, panels


def _show(axes: Axes, array: np.ndarray | None, missing: str = NOT_TRAINED) -> None:
    if array is None:
        axes.set_facecolor("0.95")
        centre = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, missing, color="0.35", fontsize=6.5, **centre)
    else:
        axes.imshow(array, vmin=0, vmax=1, aspect="auto")


def _head(axes: Axes, text: str) -> None:
    axes.set_title(text, pad=3, linespacing=1.05)


def _note(axes: Axes, text: str) -> None:
    axes.set_xlabel(text, fontsize=STYLE["xtick.labelsize"], labelpad=2)
