"""What the paper claims, what was measured here, and a verdict by one rule: one line for each comparison.

From finished runs and from the lines of trials; nothing is trained here.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bipartition import runs
from bipartition.configuration import Configuration
from bipartition.evaluation import NEARLY_ALL, UNKNOWN, Interval
from bipartition.profiles import configuration_for, load_profile
from bipartition.sensitivities import USUAL, seen_from, sensitivities
from bipartition.tables import NO_SEED, Measured, averages, difference, line_title, page, refused, two

CLAIMS = {
    1: ("Both energies with classification find more of the object than CASM", "Table 1"),
    2: ("Their boundaries are more precise than CASM's", "4.2, Figure 4"),
    3: ("1 − φ as the foreground gives better results than φ", "3"),
    4: ("The original picture as the classifier's input helps φ to find the whole foreground", "3.3.1, above (16)"),
    5: ("With |1 − φ| the mask has only the values 0 and 1", "3.1.1"),
    6: ("Classification (12) with (15) alone already finds the object, but not all of it", "3.2.2, 4.2, Figure 4b"),
    7: ("Without classification the masks are precise, and mean nothing", "3, 4.2, Figure 4c, d"),
    8: ("The results change significantly with the classifier's performance", "5"),
}
"""Claims in one sentence each, in our words, and where the paper makes them; the first is that of its only table."""
COLUMNS = ("dataset", "number", "claim", "where", "measure", "seeds", "value", "low", "high", "verdict", "note")
HEADS = ("claim", "where", "measured here", "number", "verdict")
"""Of the table on a page."""

HOLDS, FAILS, UNDECIDED, NOT_MEASURED = "holds here", "does not hold here", "undecided", "not measured"
ONE_RUN = "one run each: no verdict"
SAME = "cannot be told apart: the same model, if the area term stays with the foreground"
NOT_TESTABLE = "not testable as written"
FULL_ROWS = ("chan_vese", "mumford_shah")
LOSS_ONLY_ROWS = ("chan_vese_only", "mumford_shah_only")
EVERYTHING, OTSU = "everything_foreground", "otsu"
Z = 1.96
"""Deviations on either side of the mean that hold 95 % of a normal distribution."""


def claims(found: Measured, *, trials: pd.DataFrame | None = None, usual: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """The paper's claims with the numbers that speak for or against them.

    Parameters
    ----------
    found : Measured
        What `bipartition.tables.line_metrics` gave.
    trials : DataFrame, optional
        Lines of `bipartition.trials` on this data set, for what takes runs with other settings; without them this is
        "not measured".
    usual : mapping, optional
        ``Configuration.to_dict()`` of the profile's Chan-Vese row, which the trials are compared with.

    Returns
    -------
    DataFrame
        With exactly `COLUMNS`, one line or more for each of `CLAIMS`.
    """
    lines = [*_against_casm(found), *_by_argument(), *_undecided_pixels(found), *_classification_alone(found),
             *_loss_only(found), *_from_trials(trials, usual)]
    lines.sort(key=lambda line: line["number"])
    for line in lines:
        line["dataset"] = found.dataset
        line["claim"], line["where"] = CLAIMS[line["number"]]
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table.attrs["stale"] = found.stale
    return table


def verdict(found: Interval, seeds: int, direction: int = 1) -> str:
    """Of a difference whose claimed sign is `direction`: what its 95 % interval says, if two seeds or more are behind it."""
    if np.isnan(found).any():
        return NOT_MEASURED
    if seeds < 2:
        return ONE_RUN
    low, high = sorted((direction * found.low, direction * found.high))
    return HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED


def published_trials(usual: Mapping[str, Any], options: Mapping[str, Any]) -> pd.DataFrame | None:
    """The tracked trials on a data set, each with what it changes of `usual`, whichever profile that is of.

    Parameters
    ----------
    usual : mapping
        ``Configuration.to_dict()`` of the profile's Chan-Vese row.
    options : mapping
        Those of the profile for the data set, see `bipartition.datasets.open_dataset`.

    Returns
    -------
    DataFrame or None
        None if there are none, or none on such pictures: with other options they are others.
    """
    dataset = usual["dataset"]
    if dataset not in runs.TRACKED_TRIALS or not runs.tracked_trials(dataset).is_file():
        return None
    profile = load_profile(runs.TRACKED_TRIALS[dataset][1])
    if dict(options) != dict(profile.options(dataset)):
        return None
    theirs = configuration_for(profile, dataset, usual["row"], usual["seed"]).to_dict()
    read = Configuration(**usual).decisive()
    return seen_from(pd.read_csv(runs.tracked_trials(dataset)), theirs,
                     {name: value for name, value in read.items() if value != theirs[name]})


def markdown(table: pd.DataFrame) -> str:
    """The table as a page reads it; each claim is told once, above its lines."""
    body, before = [], None
    for line in table.to_dict("records"):
        first = [f"{line['number']}. {line['claim']}", line["where"]] if line["number"] != before else ["", ""]
        number = "–" if np.isnan(line["value"]) else (
            f"{_signed(line['value'])}<br>[{_signed(line['low'])}, {_signed(line['high'])}]")
        body.append([*first, "<br>".join(filter(None, (line["measure"], line["note"]))), number, line["verdict"]])
        before = line["number"]
    note = explanation(table["dataset"].iloc[0]) + refused(table)
    return page(HEADS, body, note, [":--", ":--", ":--", ":-:", ":--"])


def explanation(dataset: str) -> str:
    """The rule, what is paired with what, and what an interval does not say."""
    what = "drawn pictures" if dataset == "cartoons" else "them"
    drawn = "" if dataset == "voc2012" else (
        f" These are not the paper's photographs: a verdict here says what the method does on {what}.")
    return (
        f"Verdicts by one rule: “{HOLDS}” if the 95 % interval of the difference lies on the claimed side of 0, “{FAILS}” if "
        f"it lies on the other, “{UNDECIDED}” if it holds 0, “{NOT_MEASURED}” if a run is missing or what the claim asks for "
        f"did not vary, “{ONE_RUN}” if no two seeds have what is compared: the interval speaks of the pictures only then, "
        "and another training may turn it. Claim 5 begins with grey shares themselves, φ between 0.1 and 0.9, of which it "
        f"would have none. Rows are compared on the same validation pictures of {dataset} and the seeds that both have, "
        "paired, as the mean over Table 1's classes. With few seeds these intervals are too short: where trainings differ by "
        "0.02 to 0.05 and each picture's IoU by another 0.05, two equal rows are told apart 31 to 43 times in 100 with two "
        "seeds, 19 to 24 times with three and 11 to 13 with six, not 5 times (notebook 14, exercise 3). CASM's masks come from "
        "a grid of a quarter of the picture by nearest neighbours, as its authors have it, the others' bilinearly, which a "
        "comparison of contours cannot take apart; the table of measures has the truth brought back in both ways. Trials (5 "
        "and 8) are no runs of yours but published with this project, measured on "
        f"{'a part of VOC set apart, with first weights of their own,' if dataset == 'voc2012' else 'these pictures too,'} and "
        "compared without pairing, and what their seeds differ by widens the interval; grey shares and shares of pictures "
        "have Wilson's interval, the widest that a mean of numbers between "
        "0 and 1 can need." + drawn)


def _against_casm(found: Measured) -> Iterator[dict[str, Any]]:
    for number, key in ((1, "iou"), (2, "boundary_f"), (2, "boundary_iou")):
        for row in FULL_ROWS:
            line = _compared(number, found, key, row, "casm")
            if (number, row) == (1, FULL_ROWS[0]) and line["seeds"]:
                line["note"] += _below_everything(found, "casm")
            yield line


def _by_argument() -> Iterator[dict[str, Any]]:
    yield _line(3, "no run: 1 − σ(x) = σ(−x), so that exchanging the names only turns the sign of the decoder's last layer",
                SAME, note="same objective and gradients: tests/test_claims.py proves it on the networks. An area term that "
                           "follows the letter φ instead would be another objective, which was not trained")
    yield _line(4, "nothing", NOT_TESTABLE, note="the paper does not name the other input that this is more helpful than")


def _undecided_pixels(found: Measured) -> Iterator[dict[str, Any]]:
    for row in FULL_ROWS:
        grey, seeds = _mean(found, row, "grey"), len(found.lines.get(row, {}))
        said = HOLDS if seeds > 1 and grey.high == 0 else None
        yield _line(5, f"grey share, {_title(row)}: none is claimed", said, found=grey, seeds=seeds, direction=-1)


def _classification_alone(found: Measured) -> Iterator[dict[str, Any]]:
    yield _compared(6, found, "iou", "classification_only", EVERYTHING)
    for row in FULL_ROWS:
        line = _compared(6, found, "iou", row, "classification_only")
        areas = [_mean(found, name, "area").mean for name in (row, "classification_only")]
        if not np.isnan(areas).any():
            line["note"] += f"; the masks cover {' against '.join(map(two, areas))} of the picture"
        yield line


def _loss_only(found: Measured) -> Iterator[dict[str, Any]]:
    """Meaningless: no better than everything foreground.  Precise: better contours than rows that know the object."""
    for row in LOSS_ONLY_ROWS:
        line = _compared(7, found, "iou", row, EVERYTHING, direction=-1)
        oracle = _mean(found, row, "oracle_iou")
        if not np.isnan(oracle.mean):
            line["note"] += f"; {_span(oracle)} if the truth chose the half"
        yield line
        for other in ("casm", "classification_only"):
            yield _compared(7, found, "boundary_f", row, other)


def _from_trials(trials: pd.DataFrame | None, usual: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Claims 5 and 8: trials of the Chan-Vese row with a smaller area weight, and with the shortest warm-up."""
    row = FULL_ROWS[0]
    if trials is None or usual is None:
        why = "no trials on this data set"
        yield _line(5, f"grey share, {_title(row)} with λ1 = 0 minus usual", note=why)
        yield _line(8, f"IoU, {_title(row)} after the usual warm-up minus after a shorter one", note=why)
        return
    table = sensitivities(trials, usual, row)
    pictures = trials.loc[(trials["row"] == row) & (trials["dataset"] == usual["dataset"]), "n"].min()
    yield from _binary(table, usual["lambda1"], pictures, row)
    yield from _performance(table, usual["warmup_epochs"], pictures, row)


def _binary(table: pd.DataFrame, usual: float, pictures: int, row: str) -> Iterator[dict[str, Any]]:
    weaker = _values_below(table, "lambda1", usual)
    for value, changed, base in weaker:
        ends = [_share(part["grey"].mean(), pictures) for part in (changed, base)]
        areas = [part["area"].mean() for part in (changed, base)]
        note = " against ".join(f"{_span(end)} (area {two(share)})" for end, share in zip(ends, areas, strict=True))
        if whole := int((changed["area"] > NEARLY_ALL).sum()):
            note += f"; in {whole} of {len(changed)} trainings all is foreground, which is binary but no cut"
        measure = f"grey share, {_title(row)} with λ1 = {value:g} minus {usual:g}"
        yield _line(5, measure, found=_over_seeds(_apart(*ends), changed, base, "grey"), seeds=len(changed), note=note)
    if not weaker:
        yield _line(5, f"grey share, {_title(row)} with λ1 = 0 minus {usual:g}",
                    note="no trial with less λ1 and all else as usual")


def _performance(table: pd.DataFrame, usual: int, pictures: int, row: str) -> Iterator[dict[str, Any]]:
    shorter = _values_below(table, "warmup_epochs", usual)
    for value, changed, base in shorter[:1]:
        ious = [Interval(*part[["iou", "iou_low", "iou_high"]].mean()) for part in (base, changed)]
        right = [_share(part["accuracy"].mean(), pictures) for part in (base, changed)]
        note = (f"{' against '.join(map(_span, ious))}; share of pictures that the classifier names rightly "
                f"at the end of the training {' against '.join(map(_span, right))}")
        measure = f"IoU, {_title(row)} after a warm-up of {usual} epochs minus after {value:g}"
        said = None
        if _apart(*right).low <= 0:  # the claim is of worse classifiers
            said, note = NOT_MEASURED, f"{note}: no less often, so that nothing is said of the classifier's performance"
        yield _line(8, measure, said, found=_over_seeds(_apart(*ious), base, changed, "iou"), seeds=len(changed), note=note)
    if not shorter:
        yield _line(8, f"IoU, {_title(row)} after a warm-up of {usual} epochs minus after fewer",
                    note="no trial with a shorter warm-up and all else as usual")


def _compared(number: int, found: Measured, key: str, first: str, second: str, direction: int = 1) -> dict[str, Any]:
    """`first` minus `second` over the seeds that both have, with the means of either and what they have to be above."""
    names = {"iou": "IoU", "boundary_f": "boundary F", "boundary_iou": "boundary IoU"}
    measure = f"{names[key]}, {_title(first)} minus {_title(second)}"
    gain, seeds = difference(found, first, second, key)
    if not seeds:
        return _line(number, measure)
    note = " against ".join(_span(_mean(found, name, key, seeds=(*seeds, NO_SEED))) for name in (first, second))
    if number in (2, 7) and key != "iou":
        note += "; " + ", ".join(f"{_title(name)} has {two(_mean(found, name, key).mean)}"
                                 for name in (EVERYTHING, OTSU) if name in found.lines)
    return _line(number, measure, found=gain, seeds=len(seeds), direction=direction, note=note)


def _below_everything(found: Measured, row: str) -> str:
    """Names the classes of which a row finds less than everything foreground would: to beat it there says little."""
    told = []
    for name in found.classes:
        mean, floor = (_mean(found, line, "iou", [name]).mean for line in (row, EVERYTHING))
        if mean < floor:
            least = min(_mean(found, row, "iou", [name], [seed]).mean for seed in found.lines[row])
            told.append(f"{name} (IoU {two(mean)}, its lowest run {two(least)}, against {two(floor)})")
    return f"; {_title(row)} is below everything foreground in {', '.join(told)}" if told else ""


def _line(number: int, measure: str, said: str | None = None, *, found: Interval = UNKNOWN, seeds: int = 0, direction: int = 1,
          note: str = "") -> dict[str, Any]:
    return {"number": number, "measure": measure, "seeds": seeds, "value": found.mean, "low": found.low, "high": found.high,
            "verdict": said or verdict(found, seeds, direction), "note": note}


def _mean(found: Measured, name: str, key: str, classes: Collection[str] = (),
          seeds: Collection[int] | None = None) -> Interval:
    metrics = [one for seed, one in found.lines.get(name, {}).items() if seeds is None or seed in seeds]
    return Interval(*averages(metrics, found.groups, classes or found.classes, [key], [key]).values())


def _values_below(table: pd.DataFrame, field: str, usual: float) -> list[tuple[float, pd.DataFrame, pd.DataFrame]]:
    """Each value of a field that is smaller than the usual one, with its lines and the usual lines of their seeds."""
    mine = table[table["field"] == field]
    values = sorted(value for value in mine["value"].unique() if value < usual)
    parts = ((value, mine[mine["value"] == value]) for value in values)
    return [(value, part, table[(table["field"] == USUAL) & table["seed"].isin(part["seed"])]) for value, part in parts]


def _share(share: float, count: int) -> Interval:
    """Wilson's 95 % interval of a share of `count` yes-or-no answers: no mean of numbers in [0, 1] is less certain."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return Interval(float(share), float(middle - half), float(middle + half))


def _apart(first: Interval, second: Interval) -> Interval:
    """Difference of two means that were measured apart, its interval from both of theirs (Newcombe's square-and-add)."""
    low = np.hypot(first.mean - first.low, second.high - second.mean)
    high = np.hypot(first.high - first.mean, second.mean - second.low)
    gain = first.mean - second.mean
    return Interval(float(gain), float(gain - low), float(gain + high))


def _over_seeds(found: Interval, first: pd.DataFrame, second: pd.DataFrame, key: str) -> Interval:
    """The interval of a difference, made wider by what the seeds' own differences vary by."""
    gains = first.set_index("seed")[key] - second.set_index("seed")[key]
    if len(gains) < 2:
        return found
    spread = Z * gains.std() / np.sqrt(len(gains))
    low, high = np.hypot(found.mean - found.low, spread), np.hypot(found.high - found.mean, spread)
    return Interval(found.mean, float(found.mean - low), float(found.mean + high))


def _span(found: Interval) -> str:
    return f"{two(found.mean)} [{two(found.low)}, {two(found.high)}]"


def _signed(number: float) -> str:
    return f"{round(number, 3) + 0.0:+.3f}"  # + 0.0: not -0.000


def _title(row: str) -> str:
    titles = {"casm": "CASM", "classification_only": "classification alone", EVERYTHING: "everything foreground",
              OTSU: "cutting by Otsu"}
    return titles.get(row) or line_title(row)
