"""One short run with some settings changed, and one line of what came of it: how settings are chosen, on the record.

``python -m bipartition.trials --profile laptop --row chan_vese alpha=10 lambda1=0.3`` trains as the profile would, but for the
settings given, and measures, on ``voc2012``, on pictures that no table reports: training photographs that are set apart for
choosing.  Other data sets have none: there a trial sees the validation part of the profile's own table.  The run's
folder is one like any other; the line goes to ``results/trials/<profile>.csv``.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bipartition import files, runs
from bipartition.configuration import NAMED, WARM_UP_SETTINGS, Configuration, warm_up_configuration
from bipartition.pipeline import FAILURES, INTERRUPTED
from bipartition.profiles import Profile, configuration_for, load_profile
from bipartition.rows import ANY_WITH_A_CLASSIFIER, ROWS, WARM_UP, table_classes

COLUMNS = ("dataset", "row", "seed", "settings", "accuracy", "iou", "iou_low", "iou_high", "pooled_iou", "boundary_iou", "area",
           "grey", "n", "minutes", "commit", "command")
"""Of the table of trials.  ``iou`` and its like are means over the classes of Table 1 that occur; its interval is that of the
pictures, and says nothing of another seed."""


def trial(profile: Profile, dataset: str, row: str, seed: int, settings: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Train a row with `settings` in place of the profile's, or find it trained; returns its folder and its `summary`.

    Rows whose warm-ups have equal settings share one.

    Raises
    ------
    ValueError
        For an unknown row, data set or setting, for a setting that such a run does not read, and for a warm-up of no epochs.
    """
    from bipartition.datasets.prepare import prepare
    from bipartition.training import train_row

    usual = configuration_for(profile, dataset, ANY_WITH_A_CLASSIFIER if row == WARM_UP else row, seed)
    configuration = Configuration.build(usual.to_dict(), settings)
    changed = {name: getattr(configuration, name) for name in settings}
    read = WARM_UP_SETTINGS if row == WARM_UP else configuration.decisive().keys() - NAMED
    for name in settings:
        if name not in read:
            way_out = f"write --{name} VALUE" if name in NAMED else f"what it reads is {', '.join(sorted(read))}"
            raise ValueError(f"{name} is no setting of a trial of {row}; {way_out}")
    if row == WARM_UP and not configuration.warmup_epochs:
        raise ValueError(f"warmup_epochs = 0; it must be greater than 0 in a trial of {row}, which is the warm-up alone")
    warm_up = warm_up_configuration(configuration) if row == WARM_UP or configuration.warmup_epochs else None
    prepared = prepare(dataset, configuration.size, options_of_trials(profile, dataset))
    shared = runs.fingerprint((warm_up or configuration).decisive() | {"seed": None})
    place = runs.results_root() / "trials" / "runs" / f"{dataset}-{shared}"
    if row == WARM_UP:
        configuration, folder = warm_up, place / WARM_UP / f"seed{seed}"
    else:
        own = runs.fingerprint(configuration.to_dict() | {"seed": None})
        folder = place / f"{row}-{own}" / f"seed{seed}"
    train_row(configuration, prepared, folder, profile=profile.name, report=lambda line: print(line, flush=True))
    now = runs.method_code()
    for one in dict.fromkeys((folder, place / WARM_UP / f"seed{seed}")):  # one and the same in a trial of the warm-up
        if older := runs.changed_code(one, now):
            print(f"{one} was trained by other code than today's ({', '.join(older)}); delete it to train it anew", flush=True)
    return folder, summary(folder) | {"settings": changed}


def options_of_trials(profile: Profile, dataset: str) -> dict[str, Any]:
    """What `bipartition.datasets.open_dataset` is told for trials: ``voc2012`` with what is set apart for choosing."""
    return profile.options(dataset) | ({"evaluated": "choosing"} if dataset == "voc2012" else {})


def summary(folder: Path) -> dict[str, Any]:
    """The numbers of a finished run that a trial is judged by, rounded to four digits."""
    from bipartition.tables import averages, column

    metrics, config = files.read_json(folder / "metrics.json"), files.read_json(folder / "config.json")
    numbers = {"accuracy": metrics["accuracy"], "area": metrics.get("area"), "grey": metrics.get("grey"),
               "iou": None, "iou_low": None, "iou_high": None, "pooled_iou": None, "boundary_iou": None}
    scored = 0
    if metrics.get("classes"):
        groups = np.array([one["class"] for one in metrics["per_image"]], dtype=object)
        groups[np.isnan(column(metrics, "iou"))] = ""  # nothing of the object is left at this size
        counted = table_classes(metrics["classes"])
        scored = int(np.isin(groups, counted).sum())
        numbers |= averages([metrics], groups, counted, ("iou", "pooled_iou", "boundary_iou"), ["iou"])
    return {name: None if value is None or np.isnan(value) else round(value, 4) for name, value in numbers.items()} | {
        "n": scored, "minutes": config["minutes"], "commit": config["provenance"]["commit"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bipartition.trials", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="laptop", help="a name in profiles/, or the path of a .yaml file")
    parser.add_argument("--dataset", help="one of the profile's data sets; by default that of Table 1")
    parser.add_argument("--row", required=True, choices=[*ROWS, WARM_UP])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="what is changed, such as alpha=10")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    try:
        profile = load_profile(options.profile)
        settings = _settings(options.settings)
        dataset = options.dataset or profile.sets["table1"]
        path = runs.results_root() / "trials" / f"{profile.name}.csv"
        _check_columns(path)
        _, result = trial(profile, dataset, options.row, options.seed, settings)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    line = {"dataset": dataset, "row": options.row, "seed": options.seed,
            "command": f"python -m bipartition.trials {shlex.join(given)}"} | result
    line["settings"] = json.dumps(line["settings"])  # as the run had them: 1e-3 is text in YAML
    _append(path, line)
    print("  ".join(f"{name} {line[name]}" for name in COLUMNS if name != "command"), flush=True)
    return 0


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} changes nothing; write name=value, such as alpha=10")
        if name in settings:
            raise ValueError(f"{name} is given twice; keep one of them")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{text!r} is not readable: write name=value, such as alpha=10") from error
    return settings


def _check_columns(path: Path) -> None:
    """A table that was begun with other columns is refused before anything is trained for it."""
    head = path.read_text(encoding="utf-8").partition("\n")[0].strip() if path.is_file() else ""
    if head and head != ",".join(COLUMNS):
        raise ValueError(f"{path} was begun with other columns than today's ({', '.join(COLUMNS)}); move it away or rename "
                         "it, and this trial begins a new table")


def _append(path: Path, line: dict[str, Any]) -> None:
    """Add a line, also while another trial adds its own."""
    with files.alone(path):
        begun = path.is_file() and path.stat().st_size > 0
        pd.DataFrame([line], columns=list(COLUMNS)).to_csv(path, mode="a", header=not begun, index=False, lineterminator="\n")


if __name__ == "__main__":
    sys.exit(main())
