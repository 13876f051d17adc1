"""The steps from photographs to the report: what each is made from, what it leaves, and what does it.

Nothing heavy is imported until there is something to do, so that a second ``make reproduce`` answers at once.
"""

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bipartition import files, runs
from bipartition.profiles import Profile, configuration_for, load_profile, training_command
from bipartition.rows import ANY_WITH_A_CLASSIFIER, ROWS
from bipartition.stamps import Task, file_digest

STEPS = ("data", "train", "figures", "table", "report")
"""In the order in which they are taken."""

ON_REQUEST = ("pets", "lessons")
"""Steps that are taken only where they are named."""

LESSONS = ("07_*.ipynb", "1[0-9]_*.ipynb")
"""Notebooks that need neither data nor a training."""

NOTEBOOKS = {"data": "01_prepare_data", "train": "02_train_row", "figure4": "03_figure4", "figure5": "04_figure5",
             "figure6": "05_figure6", "table1": "06_table1", "pets": "08_pets"}

_SOURCES: dict[tuple, str] = {}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What one of the notebooks that show results shows, leaves and is made from.

    Attributes
    ----------
    step : str
        The one of `STEPS` that draws it.
    shows : str
        Which of the profile's data sets it shows, see `bipartition.profiles.SETS`.
    pictures : tuple of str
        Files in ``figures/``, each as PNG and PDF.
    pages : tuple of str
        Files beside ``figures/``.
    code : tuple of str
        Modules of this package that pictures and pages are made by, beside those of all; or absolute paths.
    row : str, optional
        The only row that it shows, as in the paper; where that is neither trained nor asked for, another takes its place.
    """

    step: str
    shows: str
    pictures: tuple[str, ...]
    pages: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    row: str | None = None


DRAWINGS = {
    "table1": Drawing(
        step="table", shows="table1", pictures=("table1", "spread"),
        pages=("table1.csv", "table1.md", "seeds.csv", "pictures.csv", "measures.csv", "measures.md", "claims.csv",
               "claims.md"),
        code=("charts.py", "tables.py", "measures.py", "contours.py", "baselines.py", "claims.py",
              "sensitivities.py", *(str(path) for dataset, (_, profile) in runs.TRACKED_TRIALS.items()
                for path in (runs.tracked_trials(dataset), runs.profiles_root() / f"{profile}.yaml")))),
    "figure4": Drawing(step="figures", shows="gallery", pictures=("figure4",), code=("tables.py",)),
    "figure5": Drawing(step="figures", shows="gallery", pictures=("figure5",), row="mumford_shah"),
    "figure6": Drawing(step="figures", shows="table1", pictures=("figure6", "figure6_worst"), code=("tables.py",),
                       row="mumford_shah"),
}
"""By the name of its notebook, the one that takes longest first."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, checked: `rows`, `seeds` and `datasets` choose what is prepared and trained.

    ``profile_argument`` is how a notebook finds the profile again: its name, or the absolute path of its file.
    """

    profile: Profile
    profile_argument: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    datasets: tuple[str, ...]
    steps: tuple[str, ...] = STEPS
    notebooks: bool = True

    @property
    def folder(self) -> Path:
        """``results/<profile>/``."""
        return self.profile.folder


def plan(request: Request) -> list[Task]:
    """All tasks of a request in the order of their dependencies, whether up to date or not."""
    tasks = []
    if "data" in request.steps:
        tasks += [_data(request, dataset) for dataset in request.datasets]
    if "train" in request.steps:
        trainings = [_training(request, *run) for run in _in_turn(request)]
        tasks += [*_weights(request, trainings), *trainings]
    asked = {name: drawing for name, drawing in DRAWINGS.items() if drawing.step in request.steps}
    tasks += [_drawing(request, name, drawing) for name, drawing in _drawable(request, asked).items()]
    if "pets" in request.steps:
        tasks.append(_pets(request))
    if "lessons" in request.steps:
        tasks += [_lesson(request, path) for names in LESSONS for path in sorted(_notebooks().glob(names))]
    if "report" in request.steps:
        if not asked and not any((request.folder / "figures").glob("*.png")):
            _drawable(request, DRAWINGS)  # refuses where nothing is there to report
        tasks += [_provenance(request), _report(request)]
    return tasks


def _data(request: Request, dataset: str) -> Task:
    profile = request.profile
    return _by_notebook(
        request, f"prepare-{dataset}", "data", {"dataset": dataset},
        inputs=lambda: {"prepared": _checksum(profile, dataset), "notebook": file_digest(_notebook("data"))},
        makes_inputs=True, instead=lambda: profile.prepared(dataset))


def _training(request: Request, dataset: str, row: str, seed: int) -> Task:
    profile = request.profile
    configuration = configuration_for(profile, dataset, row, seed)
    folder = runs.run_folder(profile.name, dataset, row, seed)

    def inputs() -> dict[str, Any]:
        return {"wanted": runs.made_by(configuration, _checksum(profile, dataset)),
                "recorded": files.read_json(folder / "config.json").get("made_by")}

    def is_finished() -> bool:
        checksum = _checksum(profile, dataset)
        return checksum is not None and runs.is_finished(folder, runs.made_by(configuration, checksum))

    def train() -> None:
        from bipartition.training import train_row
        train_row(configuration, profile.prepared(dataset), folder, profile=profile.name)

    return _by_notebook(
        request, f"train-{dataset}-{row}-seed{seed}", "train", {"dataset": dataset, "row": row, "seed": seed},
        inputs=inputs, outputs=[folder / "metrics.json", folder / "masks.npy"], recheck=is_finished, instead=train,
        stage="train", makes_inputs=True)


def _in_turn(request: Request) -> list[tuple[str, str, int]]:
    """Data set, row and seed of each training, so that of two at a time none waits for a warm-up while there is other work.

    For each data set and seed: one row that trains the warm-up first, then those that need none, then the others; before these
    the one that trains the warm-up of the next seed.
    """
    waiting = [row for row in request.rows if ROWS[row].network != "autoencoder"]
    free = [row for row in request.rows if row not in waiting]
    groups = list(itertools.product(request.datasets, request.seeds))
    turns = [(row, groups[0]) for row in waiting[:1]]
    for here, following in itertools.zip_longest(groups, groups[1:]):
        turns += [(row, here) for row in free]
        turns += [(row, following) for row in waiting[:1] if following]
        turns += [(row, here) for row in waiting[1:]]
    return [(dataset, row, seed) for row, (dataset, seed) in turns]


def _weights(request: Request, trainings: list[Task]) -> list[Task]:
    """torchvision's weights, asked for before the first training that would miss them; nothing where there is none."""
    read = [configuration_for(request.profile, dataset, row, 0).decisive()
            for dataset in request.datasets for row in request.rows]
    if runs.weights_file() is not None or all(settings.get("weights") != "imagenet" for settings in read):
        return []

    def action() -> None:
        from bipartition.datasets.download import imagenet_weights
        imagenet_weights()

    def inputs() -> dict[str, Any]:
        return {"weights": runs.IMAGENET_WEIGHTS, "trainings": [task.inputs() for task in trainings]}

    return [Task(name="weights", inputs=inputs, outputs=(), action=action,
                 recheck=lambda: all(task.recheck() for task in trainings))]


def _drawing(request: Request, name: str, drawing: Drawing) -> Task:
    dataset = request.profile.sets[drawing.shows]
    outputs = [*(f"figures/{picture}.{kind}" for picture in drawing.pictures for kind in ("png", "pdf")), *drawing.pages]
    code = ("figures.py", "finished.py", "evaluation.py", *drawing.code)

    row = drawing.row and _row_shown(request, dataset, drawing.row)
    parameters = {} if row == drawing.row else {"row": row}

    def inputs() -> dict[str, Any]:
        return parameters | {
            "runs": _finished(request, dataset), "prepared": _checksum(request.profile, dataset),
            "weights": _first_weights(request.profile, dataset),
            "read": _read(request.profile, code), "notebook": file_digest(_notebook(name))}

    prepares = not {"data", "train"} & set(request.steps) and _checksum(request.profile, dataset) is None
    return _by_notebook(request, name, name, parameters, inputs=inputs, outputs=[request.folder / one for one in outputs],
                        stage="draw", makes_inputs=prepares)


def _row_shown(request: Request, dataset: str, usual: str) -> str:
    """The usual row, or one that is or will be trained in its place: first such with a classifier, with an energy."""
    trains = "train" in request.steps and dataset in request.datasets
    shown = [row for row in ROWS if (trains and row in request.rows) or runs.finished_seeds(request.profile.name, dataset, row)]
    if not shown or usual in shown:
        return usual
    return min(shown, key=lambda row: (ROWS[row].network == "autoencoder", ROWS[row].energy is None))


def _pets(request: Request) -> Task:
    """Runs on Dogs vs. Cats, measured where there is truth.

    Raises
    ------
    ValueError
        If there is no such run.
    """
    from bipartition.pets import MEASURED_ON, TRAINED_ON
    trained_before = "train" in request.steps and TRAINED_ON in request.datasets
    if not (trained_before or _finished(request, TRAINED_ON)):
        able = request.profile_argument if TRAINED_ON in request.profile.datasets else "laptop"
        raise ValueError(f"no run of the profile {request.profile.name!r} on {TRAINED_ON} is finished, so there is nothing to "
                         f"measure on {MEASURED_ON}; train one, as with {training_command(able, TRAINED_ON, 'chan_vese')}")

    def inputs() -> dict[str, Any]:
        return {"counted": _counted(request, TRAINED_ON), "pets": _source(request.profile, MEASURED_ON),
                "profile": repr(request.profile), "library": runs.library_digest(),
                "notebook": file_digest(_notebook("pets"))}

    outputs = [request.folder / "pets.csv", request.folder / "pets.md"]
    return _by_notebook(request, "pets", "pets", {}, inputs=inputs, outputs=outputs)


def _drawable(request: Request, asked: dict[str, Drawing]) -> dict[str, Drawing]:
    """Those drawings that have something to show, the others being named: for these nothing is fetched.

    Without any run a drawing is its labelled empty panels, and the table its baselines.

    Raises
    ------
    ValueError
        If none has, although its data set was asked for.
    """
    drawable, empty = {}, []
    for name, drawing in asked.items():
        dataset = request.profile.sets[drawing.shows]
        trained = runs.finished_runs(request.profile.name, dataset, ROWS)
        if trained or (dataset in request.datasets and _can_be_shown(request, dataset)):
            drawable[name] = drawing
            continue
        if dataset in request.datasets:
            empty.append((name, dataset))
        else:
            print(f"{name} left out: {dataset} was not asked for, and no run on it is finished", flush=True)
    if empty and not drawable:
        name, dataset = empty[0]
        raise ValueError(f"no run of the profile {request.profile.name!r} on {dataset} is finished, so {name} has nothing to "
                         f"show; train one, as with {training_command(request.profile_argument, '', 'chan_vese', 0)}")
    for name, dataset in empty:
        print(f"{name} left out: no run on {dataset} is finished", flush=True)
    return drawable


def _can_be_shown(request: Request, dataset: str) -> bool:
    """Are the pictures prepared, about to be, or drawn by code?"""
    from bipartition.datasets.download import PARTS
    pattern = f"{dataset}-{request.profile.size(dataset)}-*/prepared.json"
    prepared = "data" in request.steps or "train" in request.steps or any(runs.prepared_root().glob(pattern))
    return prepared or dataset not in PARTS  # what cannot be fetched is drawn


def _by_notebook(request: Request, name: str, kind: str, parameters: dict[str, Any], *, inputs: Callable[[], Any],
                 outputs: Iterable[Path] = (), instead: Callable[[], None] | None = None, **others: Any) -> Task:
    """A task that a notebook of `NOTEBOOKS` does; where notebooks are not wanted, the function `instead` does it."""
    if not request.notebooks:
        return Task(name=name, inputs=inputs, outputs=tuple(outputs), action=instead, **others)
    return _executed(request, name, _notebook(kind), {"profile": request.profile_argument, **parameters}, inputs=inputs,
                     outputs=outputs, **others)


def _executed(request: Request, name: str, source: Path, parameters: dict[str, Any], *, outputs: Iterable[Path] = (),
              **others: Any) -> Task:
    """A notebook executed, which leaves its copy beside what it was executed for."""
    copy = request.folder / "notebooks" / f"{name}.ipynb"

    def action() -> None:
        from bipartition.notebooks import execute
        execute(source, copy, parameters)
        if "profile" in parameters and load_profile(request.profile_argument) != request.profile:
            raise RuntimeError(f"{request.profile_argument} was changed while {name} was at work, whose notebook may have read "
                               "either; start again, and what does not fit is made anew")

    return Task(name=name, outputs=(*outputs, copy), action=action, **others)


def _lesson(request: Request, path: Path) -> Task:
    """A notebook that is run as it is; its copy has all pictures.

    Some show published tables, and one cuts pictures by a finished run of whatever profile.
    """
    def inputs() -> dict[str, Any]:
        root = runs.project_root()
        told = [path for folder in ("profiles", "results/published") for path in sorted((root / folder).rglob("*"))
                if path.suffix in (".yaml", ".csv", ".md")]
        trained = sorted(runs.results_root().glob("*/runs/*/*/seed*/metrics.json"))
        return {"notebook": file_digest(path), "library": runs.library_digest(),
                "read": {str(one): file_digest(one) for one in (*told, *trained)}}

    return _executed(request, path.stem, path, {}, stage="lessons", inputs=inputs)


def _provenance(request: Request) -> Task:
    def action() -> None:
        from bipartition.report import write_provenance
        write_provenance(request.profile)

    def inputs() -> dict[str, Any]:
        return {"read": _read(request.profile, ()),
                "counted": {dataset: _counted(request, dataset) for dataset in request.profile.datasets}}

    return Task(name="provenance", outputs=(request.folder / "provenance.json",), action=action, inputs=inputs)


def _report(request: Request) -> Task:
    def action() -> None:
        from bipartition.report import write_report
        write_report(request.profile)

    parts = ["provenance.json", "table1.md", "seeds.csv", "measures.md", "claims.md",
             *(f"figures/{picture}.{kind}" for drawing in DRAWINGS.values() for picture in drawing.pictures
               for kind in ("png", "txt"))]
    return Task(name="report", outputs=(request.folder / "report.html",), action=action,
                inputs=lambda: {"read": _read(request.profile, ["report.py", "report.html.jinja"]),
                                "parts": {part: file_digest(request.folder / part) for part in parts}})


def _read(profile: Profile, code: Iterable[str]) -> dict[str, Any]:
    """What pages and pictures take from profile and code; an absolute path in `code` stays what it is."""
    modules = ("rows.py", "configuration.py", *code)
    return {"profile": repr(profile), "method_version": runs.METHOD_VERSION,
            "code": {name: file_digest(Path(__file__).parent / name) for name in modules}}


def _notebooks() -> Path:
    named = os.environ.get("BIPARTITION_NOTEBOOKS")
    if named and not os.path.isdir(named):
        raise ValueError(f"BIPARTITION_NOTEBOOKS = {named!r}: there is no such folder; correct it, or unset it to run the "
                         "project's own notebooks")
    return Path(named or runs.project_root() / "notebooks").resolve()


def _notebook(kind: str) -> Path:
    return _notebooks() / f"{NOTEBOOKS[kind]}.ipynb"


def _checksum(profile: Profile, dataset: str) -> str | None:
    """Checksum of a prepared data set, None if it is not there or its source has changed; reads no photograph."""
    from bipartition.datasets.prepare import prepared_before
    found = prepared_before(dataset, profile.size(dataset), profile.options(dataset), _source(profile, dataset))
    return found and found.checksum


def _source(profile: Profile, dataset: str) -> str:
    """The data set's own stamp, asked for once."""
    options = profile.options(dataset)
    key = (dataset, *sorted(options.items()))
    if key not in _SOURCES:
        from bipartition.datasets import open_dataset
        _SOURCES[key] = open_dataset(dataset, **options).stamp()
    return _SOURCES[key]


def _counted(request: Request, dataset: str) -> dict[str, Any]:
    """What decides which runs `bipartition.finished.finished_folders` counts where nobody opened the pictures."""
    from bipartition.datasets.prepare import checksum_at_hand
    profile = request.profile
    return {"runs": _finished(request, dataset), "weights": _first_weights(profile, dataset),
            "prepared": checksum_at_hand(dataset, profile.size(dataset), profile.options(dataset))}


def _first_weights(profile: Profile, dataset: str) -> dict[str, str]:
    """First weights of the rows with a classifier: where they change, other runs count."""
    return runs.weights_source(configuration_for(profile, dataset, ANY_WITH_A_CLASSIFIER, 0))


def _finished(request: Request, dataset: str) -> dict[str, str]:
    """Every finished run on a data set, with digests of its numbers and of what made it."""
    return {name: file_digest(folder / "metrics.json") + file_digest(folder / "config.json")
            for name, folder in runs.finished_runs(request.profile.name, dataset).items()}
