"""From photographs to the report: makes what is missing or out of date, one notebook after another or two at a time.

``python -m bipartition.pipeline --profile demo`` is what ``make reproduce`` calls.
"""

import argparse
import contextlib
import itertools
import os
import shlex
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

from bipartition import files, runs
from bipartition.datasets import NAMES
from bipartition.datasets.download import VARIABLES
from bipartition.machine import at_a_time, launched, threads
from bipartition.profiles import load_profile, profile_names
from bipartition.rows import ROWS
from bipartition.stamps import Task, forget, is_up_to_date, made_from_now, remember
from bipartition.tasks import ON_REQUEST, STEPS, Request, plan

PROCESSES = launched()
"""How many train one model."""

FIRST = PROCESSES == 1 or os.environ.get("RANK", "0") == "0"
"""Whether this is the one that writes and speaks."""


PLACES = (*VARIABLES.values(), "RESNET18_WEIGHTS", "BIPARTITION_DATA", "BIPARTITION_RESULTS")
"""Environment variables that name a file or a folder; the Makefile has a list of its own."""


FAILURES = (RuntimeError, ValueError, OSError, ArithmeticError)
"""What a task raises where it cannot do its work; its message says why."""


INTERRUPTED = "interrupted; the same command goes on from here"


def request_for(
    profile: str, *, rows: str = "", seeds: str = "", datasets: str = "", steps: str = "", notebooks: bool = True
) -> Request:
    """Check what was asked for; lists take spaces or commas, and an empty one leaves the choice to the profile.

    Raises
    ------
    ValueError
        For an unknown or unreadable profile, row, seed, data set or step, with those that are known.
    """
    loaded = load_profile(profile)
    path = Path(profile).expanduser()
    chosen = _chosen("step", steps, (*STEPS, *ON_REQUEST)) or (STEPS if notebooks else STEPS[:2])
    if not notebooks and set(chosen) - set(STEPS[:2]):
        raise ValueError("figures, table, report, pets and lessons need notebooks; with --no-notebooks choose from --steps "
                         "data,train")
    known, where = loaded.datasets, f" in the profile {loaded.name!r}"
    if chosen == ("data",):
        known, where = NAMES, ""
    return Request(
        profile=loaded,
        profile_argument=str(path.resolve()) if path.suffix in (".yaml", ".yml") else loaded.name,
        rows=_chosen("row", rows, tuple(ROWS)) or loaded.rows,
        seeds=_seeds(seeds) or loaded.seeds,
        datasets=_chosen(f"data set{where}", datasets, known) or loaded.datasets,
        steps=chosen,
        notebooks=notebooks,
    )


def reproduce(request: Request, jobs: int = 1) -> int:
    """Do every task that is not up to date; returns how many there were.

    Parameters
    ----------
    request : Request
    jobs : int
        How many notebooks of one stage (trainings; drawings) are executed at a time, each kernel with its share of the cores;
        0 leaves it to the machine.

    Raises
    ------
    RuntimeError, ValueError, OSError, ArithmeticError
        At the first task that fails; what was finished before stays finished, and so does what runs beside it.
    """
    if PROCESSES > 1 and request.notebooks:
        raise RuntimeError(f"{PROCESSES} processes cannot share a notebook; add --no-notebooks, which prepares and trains, "
                           "and draw with one process afterwards")
    done = 0
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.alone(request.folder) if FIRST else contextlib.nullcontext())
        except OSError:
            if PROCESSES > 1 or not all(is_up_to_date(task, request.folder) for task in plan(request)):
                raise
            return 0  # on a disk that may be read-only
        _together()
        tasks = plan(request)
        begin = _bookkeeping(request, tasks)
        for _, neighbours in itertools.groupby(tasks, key=lambda task: task.stage or task.name):
            stage = list(neighbours)
            due = [task for task in stage if not is_up_to_date(task, request.folder)]
            _together()
            if FIRST:
                for task in due:
                    forget(task, request.folder)
            # from the whole stage, not from what is still due: a training that goes on keeps its number of threads, which
            # its digits depend on
            lanes = min(jobs or at_a_time(), len(stage)) if due and request.notebooks and len(stage) > 1 else 1
            if lanes > 1:
                _side_by_side(due, lanes, begin)
            else:
                for task in due:
                    finish = begin(task)
                    task.action()
                    finish()
            done += len(due)
    return done


def _bookkeeping(request: Request, tasks: list[Task]) -> Callable[[Task], Callable[[], None]]:
    """What says that a task begins, and gives what is to be called when it has ended: that looks, writes and says so."""
    number = {task.name: f"[{index}/{len(tasks)}] {task.name}" for index, task in enumerate(tasks, start=1)}

    def begin(task: Task) -> Callable[[], None]:
        _say(f"{number[task.name]} ...")
        began, made_from = time.monotonic(), made_from_now(task)

        def finish() -> None:
            missing = [str(path) for path in task.outputs if not path.is_file()]
            if missing:
                raise RuntimeError(f"{task.name} ended without writing {', '.join(missing)}")
            if FIRST:
                remember(task, request.folder, made_from)
            _together()
            _say(f"{number[task.name]}: done in {time.monotonic() - began:.0f} s")

        return finish

    return begin


def _side_by_side(tasks: Sequence[Task], lanes: int, begin: Callable[[Task], Callable[[], None]]) -> None:
    """Do the tasks, `lanes` at a time.  After one has failed no other begins, and those at work end theirs.

    A thread for each is enough: the work is done by the kernels of their notebooks, processes of their own.
    """
    usual, share = os.environ.get("OMP_NUM_THREADS"), str(max(1, threads() // lanes))
    waiting, running, failed = deque(tasks), [], None
    ended: SimpleQueue[tuple[Task, Exception | None]] = SimpleQueue()

    def do(task: Task, finish: Callable[[], None]) -> None:
        failure = None
        try:
            task.action()
            finish()
        except Exception as error:
            failure = error
        ended.put((task, failure))

    try:
        os.environ["OMP_NUM_THREADS"] = share  # for the kernels
        while running or waiting and not failed:
            while waiting and len(running) < lanes and not failed:
                task = waiting.popleft()
                running.append(task.name)
                threading.Thread(target=do, args=(task, begin(task)), daemon=True).start()
            task, failure = ended.get()
            running.remove(task.name)
            if failure:
                _say(f"{task.name} failed: {failure}")
                if running:
                    _say(f"waiting for {' and '.join(running)}")
                failed = failed or failure
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr, flush=True)
        os._exit(130)  # a thread cannot be ended; its kernel notices that this process has
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if usual is not None:
            os.environ["OMP_NUM_THREADS"] = usual
    if failed:
        raise failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bipartition.pipeline", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="demo", help="a name in profiles/, or the path of a .yaml file")
    parser.add_argument("--rows", default="", help=f"which rows to train: {', '.join(ROWS)}")
    parser.add_argument("--seeds", default="", help='for example "0 1 2"')
    parser.add_argument("--datasets", default="", help="which of the profile's data sets to prepare and train on")
    parser.add_argument("--steps", default="",
                        help=f"some of {','.join((*STEPS, *ON_REQUEST))}; {','.join(STEPS)} if none is named")
    parser.add_argument(
        "--no-notebooks",
        dest="notebooks",
        action="store_false",
        help="prepare and train where papermill is not installed",
    )
    parser.add_argument("--jobs", default="", help="how many notebooks at a time; two on a CPU and one on a GPU if not said")
    for name in PLACES:  # a notebook runs in another folder
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(os.environ[name]))
    try:
        asked = vars(parser.parse_args(arguments))
        jobs = _jobs(asked.pop("jobs"))
        request = request_for(**asked)
        _say_sizes(request)
        done = reproduce(request, jobs)
        _say(f"done: see {request.folder}" if done else f"nothing to do: {request.folder} is up to date")
        if FIRST and request.steps != ("data",):
            _say_changed_code(request)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if "report" not in request.steps and "train" in request.steps and request.notebooks:
        _say(f"figures, tables and report: make reproduce PROFILE={shlex.quote(request.profile_argument)}")
    return 0


def _say_sizes(request: Request) -> None:
    """Where a data set is prepared for a profile that does not train on it: at which size, and which profiles do."""
    for dataset in request.datasets:
        if dataset in request.profile.datasets:
            continue
        users = []
        for name in profile_names():
            with contextlib.suppress(ValueError):  # a broken one concerns whoever asks for it
                one = load_profile(name)
                if dataset in one.datasets:
                    users.append(f"PROFILE={name} at {one.size(dataset)}")
        if users:
            _say(f"{dataset}: at {request.profile.size(dataset)} pixels, the size of the profile {request.profile.name!r}, "
                 f"which does not train on it; what does is {' and '.join(users)}")


def _say_changed_code(request: Request) -> None:
    """Which of the runs that count other code has made, that nobody shows the old numbers of a new idea."""
    now = runs.method_code()
    older = {folder: code for dataset in request.datasets
             for folder in runs.finished_runs(request.profile.name, dataset).values()
             if (code := runs.changed_code(folder, now))}
    if not older:
        return
    from bipartition.finished import finished_folders

    changed: dict[str, list[str]] = {}
    for dataset in request.datasets:
        for by_seed in finished_folders(request.profile, dataset, None)[0].values():
            for folder in older.keys() & by_seed.values():
                changed.setdefault(" and ".join(older[folder]), []).append(str(folder.relative_to(request.folder / "runs")))
    for code, names in changed.items():
        _say(f"changed since they were trained: {code}. {', '.join(sorted(names))} count as before; if their numbers would be "
             "other ones now, raise METHOD_VERSION in lib/bipartition/runs.py, or the row's changes in rows.py, and train "
             "anew")


def _chosen(what: str, names: str, known: Sequence[str]) -> tuple[str, ...]:
    """Those of `known` that are named, in the order of `known`."""
    wanted = names.replace(",", " ").split()
    for name in wanted:
        if name not in known:
            raise ValueError(f"unknown {what}: {name!r}; known are {', '.join(known)}")
    return tuple(name for name in known if name in wanted)


def _seeds(text: str) -> tuple[int, ...]:
    seeds = text.replace(",", " ").split()
    for seed in seeds:
        if not (seed.isascii() and seed.isdecimal()):
            raise ValueError(f'seed {seed!r} is no whole number; write for example SEEDS="0 1 2"')
    return tuple(dict.fromkeys(map(int, seeds)))


def _jobs(text: str) -> int:
    """A number of 1 or more; 0 for nothing said."""
    if not (said := text.strip()):
        return 0
    if not (said.isascii() and said.isdecimal() and int(said)):
        raise ValueError(f"jobs {text!r} is no whole number of 1 or more; write for example JOBS=2")
    return int(said)


def _together() -> None:
    """Wait for the other processes, where ``accelerate launch`` started several."""
    if PROCESSES > 1:
        from bipartition.devices import accelerator_for_this_machine
        accelerator_for_this_machine().wait_for_everyone()


def _say(line: str) -> None:
    if FIRST:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
