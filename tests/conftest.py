"""What several test files need: places of their own for results and data, a tiny profile, and the quick tests first."""

import contextlib
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")  # bits are compared, which a GPU does not repeat
os.environ.pop("PYTEST_ADDOPTS", None)  # this pytest has read it; those that tests start say what these tests expect

TINY = """\
about: A profile for tests.
sets: {table1: cartoons, gallery: cartoons}
seeds: [0]
rows: [chan_vese, mumford_shah]
data:
  cartoons: {train: 24, val: 12}
training: {size: 32, batch_size: 8, epochs: 1, warmup_epochs: 1, weights: none, autoencoder_width: 4}
"""


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds, or so many `seconds`; taken last")


def pytest_collection_modifyitems(items):
    items.sort(key=cost)


def cost(item):
    """Quick tests first, and of the slow ones the longest first: else one process waits for what another began last."""
    slow = item.get_closest_marker("slow")
    return (True, -slow.kwargs.get("seconds", 0)) if slow else (False, 0)


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(autouse=True)
def no_precision_left_from_another_test():
    """Accelerate keeps the precision of the first `Accelerator` of a process: each test is to choose its own."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """results/ and data/ of this test alone; gives the folder that holds both."""
    monkeypatch.setenv("BIPARTITION_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a pipeline executes its notebooks one at a time, in its own process
    return tmp_path


@pytest.fixture
def tiny_profile(tmp_path):
    """Path of a profile with two rows on 36 cartoons."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def in_common(tmp_path_factory):
    """A folder that the processes of one call of pytest have in common; who makes something there keeps others out."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def trained(in_common):
    """One tiny profile with its two rows trained, without notebooks: (path of the profile, environment).

    Tests of other processes use it at the same time: nothing in it may be changed.
    """
    from bipartition import files  # not above: test_mutations puts another library in this one's place first

    folder = in_common / "trained"
    path = folder / "tiny.yaml"
    environment = {
        "BIPARTITION_RESULTS": str(folder / "results"),
        "BIPARTITION_DATA": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "lib"),
    }
    command = [sys.executable, "-m", "bipartition.pipeline", "--profile", str(path), "--no-notebooks"]
    with files.alone(folder):  # who comes second finds it finished: there is nothing to do, in half a second
        if not path.exists():
            files.write_text(path, TINY)
        ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, cwd=folder, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return path, environment


on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc: memory is kept in another way")


@pytest.fixture(scope="module")
def torture(root):
    """The module of ``make torture``, which is no part of the library."""
    with benchmark(root, "torture") as module:
        yield module


@contextlib.contextmanager
def benchmark(root, name):
    """A module of ``benchmarks/``, which finds those beside it as a command does."""
    sys.path.insert(0, str(root / "benchmarks"))
    spec = importlib.util.spec_from_file_location(name, root / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]
    sys.path.remove(str(root / "benchmarks"))
