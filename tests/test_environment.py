"""environment.yml, pyproject.toml and requirements.lock say the same."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

CONDA_NAMES = {
    "pytorch": "torch",
    "matplotlib-base": "matplotlib",
    "seaborn-base": "seaborn",
    "py-opencv": "opencv-python-headless",
}
TOOLS = {"python", "pip", "setuptools"}


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dependencies(project):
    found = [Requirement(line) for line in project["project"]["dependencies"]]
    return {requirement.name: requirement.specifier for requirement in found}


@pytest.fixture(scope="module")
def conda(root):
    content = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    pairs = [(*line.split(maxsplit=1), "")[:2] for line in content["dependencies"]]
    return content, {CONDA_NAMES.get(name, name): SpecifierSet(bounds) for name, bounds in pairs}


@pytest.fixture(scope="module")
def locked(root):
    """Name -> [(version, hashes)] for every pin of the lock."""
    text = (root / "requirements.lock").read_text(encoding="utf-8")
    pins = {}
    for entry in re.split(r"\n(?=[a-zA-Z0-9])", text.strip()):
        name, version = re.match(r"([A-Za-z0-9_.-]+)==([^\s;\\]+)", entry).groups()
        pins.setdefault(name.lower().replace("_", "-"), []).append(
            (version, re.findall(r"--hash=sha256:[0-9a-f]{64}", entry))
        )
    return pins


def test_conda_and_pyproject_name_the_same_packages_with_the_same_bounds(conda, dependencies):
    packages = {name: bounds for name, bounds in conda[1].items() if name not in TOOLS}
    assert packages == dependencies


def test_conda_and_pyproject_ask_for_the_same_python_and_setuptools(conda, project):
    assert conda[1]["python"] == SpecifierSet(project["project"]["requires-python"])
    build = {Requirement(line).name: Requirement(line).specifier for line in project["build-system"]["requires"]}
    assert conda[1]["setuptools"] == build["setuptools"]
    for version in ("3.11.4", "3.12.4", "3.13.9"):
        assert version in conda[1]["python"]
    assert "3.14.0" not in conda[1]["python"] and "3.11.3" not in conda[1]["python"]  # no filter in tarfile.extractall


def test_conda_uses_conda_forge_only_and_pins_no_build(conda):
    assert [name for name in conda[0]["channels"] if name != "nodefaults"] == ["conda-forge"]
    for line in conda[0]["dependencies"]:
        assert isinstance(line, str) and "::" not in line and not re.search(r"=[a-z]*py\d", line)


def test_every_dependency_is_locked_at_a_version_within_its_bounds(dependencies, locked, project):
    wanted = dependencies | {
        Requirement(line).name: Requirement(line).specifier for line in project["build-system"]["requires"]
    }
    for name, bounds in wanted.items():
        assert name in locked, f"{name} is not in requirements.lock"
        for version, _ in locked[name]:
            assert Version(version) in bounds, f"{name}=={version} is outside {bounds}"


def test_every_pin_of_the_lock_has_hashes(locked):
    assert len(locked) > 50
    for name, pins in locked.items():
        for version, hashes in pins:
            assert hashes, f"{name}=={version} has no hash"


def test_torch_and_torchvision_are_the_pair_that_make_lock_asks_for(root, locked):
    text = (root / "Makefile").read_text(encoding="utf-8")
    for name in ("torch", "torchvision"):
        assert locked[name][0][0] == re.search(rf"{name}==([\d.]+)", text).group(1)


def test_no_file_of_the_environment_names_an_index(root):
    for name in ("requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"):
        text = (root / name).read_text(encoding="utf-8")
        assert not re.search(r"--(extra-)?index-url|--find-links|https?://", text), name


def test_the_library_is_not_hidden_from_git(root):
    lines = [line.strip().strip("/") for line in (root / ".gitignore").read_text(encoding="utf-8").splitlines()]
    assert not {"lib", "lib64", "data", "results"} & set(lines)


def test_nothing_is_locked_that_makes_every_notebook_wait(locked):
    """`rfc3987-syntax` compiles its grammar as it is imported, which takes a second; jsonschema before 4.25 does without."""
    assert "jsonschema" in locked and "rfc3987-syntax" not in locked
