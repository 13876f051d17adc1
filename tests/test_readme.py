"""README says what is true: its table is the published one, its layout names what exists."""

import re

import pytest


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_published_one(readme, root):
    assert (root / "results/published/demo/table1.md").read_text(encoding="utf-8").strip() in readme


def test_pictures_and_links_lead_somewhere(readme, root):
    targets = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert targets and all((root / target).exists() for target in targets)


def test_the_layout_names_every_module_of_the_library(readme, root):
    layout = readme.split("## Layout")[1].split("\n## ")[0]
    modules = {path.name for path in (root / "lib/bipartition").glob("*.py")} - {"__init__.py"}
    assert modules <= set(re.findall(r"\w+\.py", layout))


def test_it_starts_with_two_commands(readme):
    start = readme.split("## Two commands")[1].split("\n## ")[0]
    assert "make reproduce" in start and "make test" in start
