"""Execute one notebook with papermill so that it is either done or visibly failed, with no way between."""

import ast
import os
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bipartition import files, runs


class NotebookError(RuntimeError):
    """A notebook that could not be executed to its end; the message names the copy to look at."""


def parameter_names(notebook: Any, source: Path) -> list[str]:
    """Names set in the one cell tagged ``parameters``.

    Raises
    ------
    NotebookError
        If there is no such cell, or more than one: papermill would silently run with the notebook's own values.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        raise NotebookError(f"{source} has {len(cells)} cells tagged `parameters`; it must have exactly one")
    names = []
    for node in ast.parse(cells[0].source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def execute(source: Path, target: Path, parameters: Mapping[str, Any]) -> None:
    """Run `source` with `parameters`; `target` appears only if every cell ended well.

    While it runs the copy is ``<name>.partial.ipynb``; after a failure it is kept as ``<name>.failed.ipynb``.  What the
    notebook prints goes to standard output, line by line.

    Raises
    ------
    NotebookError
        Where papermill is not installed; for a file that is no notebook, a parameter that it does not have (papermill only
        warns), a failing cell, or a dead kernel.
    OSError
        If the copy cannot be written; of a full disk nothing half-written stays.
    """
    if not find_spec("papermill"):
        raise NotebookError(f"{source.name} needs papermill, which is not installed; `make env` installs it, and `python -m "
                            "bipartition.pipeline --no-notebooks` prepares and trains without it")
    import nbformat

    try:
        notebook = nbformat.read(source, as_version=4)
    except ValueError as error:
        raise NotebookError(f"{source} is no notebook: {error}") from error
    names = parameter_names(notebook, source)
    for name in parameters:
        if name not in names:
            raise NotebookError(f"{source.name} has no parameter {name!r}; its parameters are {', '.join(names)}")
    partial, failed = target.with_suffix(".partial.ipynb"), target.with_suffix(".failed.ipynb")
    with files.place(partial) as temporary:  # says clearly where and why it cannot be written, before a kernel starts
        nbformat.write(notebook, temporary)
    failed.unlink(missing_ok=True)
    try:
        _execute(source, partial, parameters)
    except NotebookError as error:
        os.replace(partial, failed)
        raise NotebookError(f"{source.name} {error}\nSee the last cell of {failed}") from error
    except OSError as error:
        if error.errno not in files.DISK_FULL:
            raise
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write {partial}: {error.strerror or error}; free some space, or name another place "
                                   "in BIPARTITION_RESULTS") from error
    os.replace(partial, target)


def _execute(source: Path, partial: Path, parameters: Mapping[str, Any], *, again: bool = True) -> None:
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    _prefer_this_python()
    ended: list[int] = []
    try:
        papermill.execute_notebook(
            _literal(source),
            _literal(partial),
            dict(parameters),
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
            cwd=str(runs.project_root()),
            start_timeout=180,
            config=_private_connection(),
            kernel_manager_class=_remembering(ended),
            # A kernel is interrupted before it is shut down, and may call that an error; a cell's errors come another way.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except PapermillExecutionError as error:
        raise NotebookError(f"failed in cell {error.exec_count}: {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        raise NotebookError(f"lost its kernel: the process {_in_words(ended[-1] if ended else None)}") from error
    except (NoSuchKernel, RuntimeError) as error:
        if again and "died before replying" in str(error):
            # No cell has run yet.  A kernel is told its ports before it takes them: one that starts beside it may be faster.
            return _execute(source, partial, parameters, again=False)
        raise NotebookError(f"could not be run: {error}") from error


def _prefer_this_python() -> None:
    """Let the kernel name ``python3`` mean this interpreter, with this library, whatever the user has installed."""
    own = str(Path(sys.prefix) / "share" / "jupyter")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    for variable, first in (("JUPYTER_PATH", own), ("PYTHONPATH", str(Path(__file__).resolve().parents[1]))):
        others = [part for part in os.environ.get(variable, "").split(os.pathsep) if part and part != first]
        os.environ[variable] = os.pathsep.join([first, *others])


def _private_connection() -> Any:
    """Encrypt the way to the kernel where this can be done; else newer kernels warn each time."""
    import zmq
    from jupyter_client import KernelManager
    from traitlets.config import Config

    known = hasattr(KernelManager, "transport_encryption") and zmq.has("curve")
    return Config({"KernelManager": {"transport_encryption": "auto"}} if known else {})


def _remembering(ended: list[int]) -> type:
    """A manager of kernels that puts the exit status of one that died into `ended`: papermill forgets it."""
    from jupyter_client import AsyncKernelManager

    class Remembering(AsyncKernelManager):
        async def is_alive(self) -> bool:
            if self.has_kernel and (status := await self.provisioner.poll()) is not None:
                ended.append(status)
                return False
            return self.has_kernel

    return Remembering


def _in_words(status: int | None) -> str:
    """What became of a process, by its exit status, negative where a signal ended it."""
    if status is None:
        return "is gone, nobody saw why"
    if status >= 0:
        return f"ended itself with status {status}"
    name = signal.Signals(-status).name
    return f"was ended by {name}" + (", as the system does for want of memory" if name == "SIGKILL" else "")


def _literal(path: Path) -> str:
    """Papermill formats paths with the parameters: braces of a folder's name must survive that."""
    return str(path).replace("{", "{{").replace("}", "}}")
