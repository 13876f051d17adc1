"""Where a run lives, what made it, and whether it is finished; where data, results and profiles have their places."""

import ast
import functools
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tokenize
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bipartition.configuration import DEFAULTS, Configuration
from bipartition.files import read_json
from bipartition.rows import ROWS, WARM_UP

METHOD_VERSION = 8
"""Raised by one, by hand, when a change of the code may change results: older runs are then no longer up to date.  Where one
row alone changes, its ``changes`` of `bipartition.rows` is raised instead."""

METHOD_CODE = ("autoencoder.py", "casm.py", "contours.py", "convolutions.py", "cuts.py", "devices.py", "energies.py",
               "epochs.py", "evaluation.py", "learners.py", "networks.py", "objectives.py", "prediction.py", "training.py")
"""Modules that decide what a run computes and what is measured of it: see `changed_code`."""

IMAGENET_WEIGHTS = {"source": "resnet18-f37072fd.pth",
                    "sha256": "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"}
"""torchvision's IMAGENET1K_V1 of ResNet-18, as a run names its first weights."""


def project_root() -> Path:
    """The checkout that this library is installed from."""
    return Path(__file__).resolve().parents[2]


def data_root() -> Path:
    """``data/``, or the folder named by the environment variable BIPARTITION_DATA."""
    return Path(os.environ.get("BIPARTITION_DATA") or project_root() / "data").expanduser().resolve()


def prepared_root() -> Path:
    """Where decoded photographs are kept: ``data/prepared/``."""
    return data_root() / "prepared"


def results_root() -> Path:
    """``results/``, or the folder named by the environment variable BIPARTITION_RESULTS."""
    return Path(os.environ.get("BIPARTITION_RESULTS") or project_root() / "results").expanduser().resolve()


def profiles_root() -> Path:
    """Where the project's own profiles are."""
    return project_root() / "profiles"


def run_folder(profile: str, dataset: str, row: str, seed: int) -> Path:
    """``results/<profile>/runs/<dataset>/<row>/seed<k>``."""
    return results_root() / profile / "runs" / dataset / row / f"seed{seed}"


def finished_seeds(profile: str, dataset: str, row: str) -> dict[int, Path]:
    """`run_folder` of all runs that have ended, by seed in ascending order; ``seed0.old`` and ``seed00`` are none."""
    names = [path.parent.name for path in run_folder(profile, dataset, row, 0).parent.glob("seed*/metrics.json")]
    seeds = sorted(int(name[4:]) for name in names if re.fullmatch("seed(0|[1-9][0-9]*)", name))
    return {seed: run_folder(profile, dataset, row, seed) for seed in seeds}


def finished_runs(profile: str, dataset: str, rows: Iterable[str] = (*ROWS, WARM_UP)) -> dict[str, Path]:
    """`finished_seeds` of several rows, by ``row/seed<k>``."""
    return {f"{row}/seed{seed}": folder for row in rows for seed, folder in finished_seeds(profile, dataset, row).items()}


TRACKED_TRIALS = {"cartoons": ("demo/trials.csv", "demo"), "voc2012": ("voc-animals/search.csv", "laptop")}
"""By data set, the table of trials in ``results/published/``, and the profile that its lines say what they change of."""


def tracked_trials(dataset: str) -> Path:
    """Trials on one of `TRACKED_TRIALS` that are tracked with the code; there may be none."""
    return project_root() / "results" / "published" / TRACKED_TRIALS[dataset][0]


def fingerprint(what: Any) -> str:
    """Sixteen hexadecimal digits of SHA-256 over the JSON of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def made_by(configuration: Configuration, data_checksum: str) -> dict[str, Any]:
    """All that decides a run's result; a finished run is up to date while this is equal.

    Settings that the row does not read are left out, so that a change of CASM's area weight retrains CASM alone.
    """
    return {
        "configuration": configuration.decisive(),
        "data": data_checksum,
        "weights": weights_source(configuration) if "weights" in configuration.decisive() else {"source": "none"},
        "method_version": method_version(configuration.row),
        "trains": [configuration.network, configuration.energy] if configuration.row in ROWS else [],
    }


def method_version(row: str) -> int:
    """`METHOD_VERSION` and what the row alone has changed beside it: raising either makes another number."""
    return METHOD_VERSION + (ROWS[row].changes if row in ROWS else 0)


def method_code() -> dict[str, str]:
    """Digest of each of `METHOD_CODE`, without comments and docstrings: equal while it computes the same."""
    return {name: hashlib.sha256(_bare((Path(__file__).parent / name).read_text(encoding="utf-8")).encode()).hexdigest()[:16]
            for name in METHOD_CODE}


def _bare(source: str) -> str:
    """Lines of code without comments, docstrings and blank lines; the same with every version of Python."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines[node.lineno - 1:node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def changed_code(folder: Path, now: dict[str, str]) -> list[str]:
    """Those of `METHOD_CODE` that are not what they were when the run in `folder` was begun; none if it did not say.

    A run counts all the same, as long as `method_version` is what it was: not every change matters, and a person knows.

    Parameters
    ----------
    folder : Path
        Of the run.
    now : dict
        Today's `method_code`.
    """
    then = read_json(folder / "config.json").get("code") or now
    return [name for name in now if then.get(name) != now[name]]


def weights_file() -> Path | None:
    """The file named by the environment variable RESNET18_WEIGHTS, whether it is there or not; None if none is named."""
    return Path(file).expanduser() if (file := os.environ.get("RESNET18_WEIGHTS")) else None


def weights_source(configuration: Configuration) -> dict[str, str]:
    """Where the classifier's first weights come from: scratch, the file in RESNET18_WEIGHTS, or torchvision's.

    Raises
    ------
    ValueError
        If RESNET18_WEIGHTS names no file.
    PermissionError
        If it may not be read.
    """
    if configuration.weights == "none":
        return {"source": "none"}
    if (path := weights_file()) is None:
        return dict(IMAGENET_WEIGHTS)
    named = f"RESNET18_WEIGHTS = {os.environ['RESNET18_WEIGHTS']!r}"
    try:
        if not path.is_file():
            raise ValueError(f"{named}: there is no such file; correct it, or unset it to download torchvision's IMAGENET1K_V1")
        known = path.stat()
        return {"source": path.name, "sha256": _digest(path, known.st_size, known.st_mtime_ns)}
    except PermissionError as error:
        raise PermissionError(error.errno, f"{named} may not be read; check its permissions and those of its folder, or unset "
                                           "it to download torchvision's IMAGENET1K_V1") from error


@functools.cache
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, read once while its size and its time of change stay: each run of a table asks for it."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_finished(folder: Path, wanted: dict[str, Any]) -> bool:
    """True if the run in `folder` has its ``metrics.json`` (written last) and what made it (`made_by`) is what is wanted.

    Settings that `wanted` does not name do not count: a run may have recorded what its row does not read.  One that the run
    did not record is younger than it, and had its default; so is ``trains``.  What a file of weights is called does not count
    either.
    """
    if not (folder / "metrics.json").is_file():
        return False
    recorded = {"trains": wanted["trains"]} | (read_json(folder / "config.json").get("made_by") or {})
    settings = {**DEFAULTS, **(recorded.get("configuration") or {})}
    named = {name: settings.get(name) for name in wanted["configuration"]}
    return _without_names(recorded | {"configuration": named}) == _without_names(wanted)


def _without_names(made_by: dict[str, Any]) -> dict[str, Any]:
    weights = made_by.get("weights") or {}
    return made_by | {"weights": weights.get("sha256") or weights.get("source")}


def provenance() -> dict[str, Any]:
    """What made a result: commit, versions and machine, recorded beside it and never compared."""
    return {
        "commit": _commit(),
        "source": library_digest(),
        "method_version": METHOD_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "versions": {name: _version(name) for name in ("torch", "torchvision", "numpy", "scikit-image",
                                                       "opencv-python-headless", "accelerate")},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def library_digest() -> str:
    """SHA-256 over the library as it is on the disk, names and contents: a commit says nothing of what was changed since."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _commit() -> str:
    command = ["git", "-C", str(project_root()), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
