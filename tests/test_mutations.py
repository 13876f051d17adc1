"""Does a fault turn a test red?  One fault at a time is put into a copy of the library, and its tests are run on that.

``python tests/test_mutations.py`` writes the list of them, results/published/faults.md.
"""

import multiprocessing
import os
import shutil
import sys

import pytest

from conftest import ROOT

PAGE = ROOT / "results" / "published" / "faults.md"

FAULTS = [
    # module, right, wrong, and the tests that have to notice
    ("energies", "return _mean_within(image, foreground_mask), _mean_within(image, background_mask)",
     "return _mean_within(image, background_mask), _mean_within(image, foreground_mask)", "test_energies"),
    ("energies", "for mask in (1 - background_mask, background_mask))", "for mask in (background_mask, background_mask))",
     "test_energies"),
    ("energies", "outside.square() * v", "outside.abs() * v", "test_energies"),
    ("energies", "outside * (-2 * share * v)", "outside * (-2 * share * u)", "test_energies"),
    ("energies", "return (1 - background_mask).abs().mean(dim=(1, 2, 3))", "return background_mask.abs().mean(dim=(1, 2, 3))",
     "test_energies"),
    ("energies", "u.narrow(axis, 1, u.shape[axis] - 1) - u.narrow(axis, 0, u.shape[axis] - 1)",
     "u.narrow(axis, 2, u.shape[axis] - 2) - u.narrow(axis, 0, u.shape[axis] - 2)", "test_energies"),
    ("energies", "found.narrow(axis, 1, pull.shape[axis]).add_(pull)", "found.narrow(axis, 0, pull.shape[axis]).add_(pull)",
     "test_energies"),
    ("energies", "return (down + right) / u.shape[1:].numel()", "return (down + down) / u.shape[1:].numel()", "test_energies"),
    ("objectives", "return -(math.log(4) + log_b", "return -(math.log(2) + log_b", "test_objectives"),
    ("objectives", "return others.logsumexp(dim=2) - logits.logsumexp(dim=1, keepdim=True)",
     "return others.logsumexp(dim=2) + logits.logsumexp(dim=1, keepdim=True)", "test_objectives"),
    ("objectives", "weights[name] * part.mean()", "weights[name] + part.mean()", "test_objectives"),
    ("objectives", "mumford_shah(image, background_mask, foreground_matrix, background_matrix)",
     "mumford_shah(image, background_mask, background_matrix, foreground_matrix)", "test_objectives"),
    ("evaluation", "CUT = 128", "CUT = 127", "test_evaluation"),
    ("evaluation", "fill_void(is_object, is_void)", "is_object", "test_evaluation"),
    ("evaluation", "union = ((foreground | objects) & ~void)", "union = ((foreground | objects))", "test_evaluation"),
    ("evaluation", "return interval(first - second, groups)", "return interval(first, groups)",
     "test_evaluation"),
    ("runs", 'return _without_names(recorded | {"configuration": named}) == _without_names(wanted)',
     'return recorded | {"configuration": named} != {}', "test_runs"),
    ("runs", 'weights.get("sha256") or weights.get("source")', 'weights.get("source")', "test_runs"),
    ("runs", '"method_version": method_version(configuration.row)', '"method_version": 0', "test_runs"),
    ("files", "os.replace(temporary, path)", "path.write_bytes(temporary.read_bytes())", "test_files"),
    ("casm", "        self.snapshots.eval()\n", "", "test_casm"),
    ("convolutions", "unflatten(2, (4, 2)).flip(2, 4)", "unflatten(2, (4, 2))", "test_convolutions"),
    ("networks", "        self.body.conv1 = StemConvolution(self.body.conv1)\n", "", "test_networks::TestClassifier"),
    ("networks", "            self.snapshot.eval()\n", "            self.snapshot.train()\n",
     "test_networks::TestBiPartitionNetwork"),
    ("networks", "view(torch.cat([foreground, background], dim=1))", "view(torch.cat([background, foreground], dim=1))",
     "test_networks::TestBiPartitionNetwork"),
    ("networks", "mean = feature.mean(dim=(1, 2, 3)", "mean = feature.mean(dim=(2, 3)", "test_networks::TestDecoder"),
    ("learners", '_foreground": alpha * configuration.lambda3', '_foreground": alpha * configuration.lambda4',
     "test_learners::TestTheRows"),
    ("learners", "loss = loss + clean", "loss = loss + 0 * clean", "test_learners::TestTheStep"),
]


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported what takes seconds, and nothing of the library: copies of one that has done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelerate", "matplotlib.pyplot", "pandas", "skimage.segmentation", "torchmetrics",
                                     "torchvision.models"])
    return context


@pytest.mark.slow
@pytest.mark.parametrize(("module", "right", "wrong", "tests"), FAULTS, ids=[f"{one[0]}-{one[2][:50]}" for one in FAULTS])
def test_a_fault_is_noticed(module, right, wrong, tests, root, tmp_path, processes):
    shutil.copytree(root / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "lib" / "bipartition" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{module}.py no longer reads {right!r} in one place: name the fault anew"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    log = tmp_path / "log"
    process = processes.Process(target=_run, args=(str(tmp_path / "lib"), str(root / "tests" / _file(tests)), str(log)))
    process.start()
    process.join()
    said = log.read_text(encoding="utf-8")
    assert process.exitcode == 1 and "1 failed" in said, said[-4000:]


def _run(library, tests, log):
    """In a process of its own: the tests, on the library in that folder; says everything to `log`."""
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["PYTHONPATH"] = library
    sys.path.insert(0, library)
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", tests]))


def _file(tests):
    """As pytest wants it: ``test_file::TestClass``, or all of a file."""
    file, *classes = tests.split("::")
    return "::".join([f"{file}.py", *classes])


def _code(line):
    return f"`{line.strip()}`".replace("|", "\\|") if line else "nothing"


def page():
    """The list of faults as people read it."""
    modules = list(dict.fromkeys(one[0] for one in FAULTS))
    lines = [f"| {module} | {_code(right)} | {_code(wrong)} | {_file(tests)} |" for module, right, wrong, tests in FAULTS]
    return "\n".join([
        "# Faults on purpose", "",
        f"{len(FAULTS)} faults in {', '.join(modules[:-1])} and {modules[-1]}, put one at a time into a copy of the library by",
        "`tests/test_mutations.py`, which fails unless the tests of the last column notice. This list is made by",
        "`python tests/test_mutations.py`.", "",
        "| module | in place of | stands | noticed by |", "| :-- | :-- | :-- | :-- |", *lines, ""])


def test_the_published_list_is_of_these_faults():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `.venv/bin/python tests/test_mutations.py`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
