"""README says what is true: its table is the published one, its layout names what exists."""

import re

import pytest


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_published_one(readme, root):
    assert (root / "results/published/demo/table1.md").read_text(encoding="utf-8").strip() in readme


@pytest.mark.parametrize("page", ["README.md", "REPRODUCIBILITY.md", "data/README.md", "results/published/README.md",
                                  "results/published/what-was-tried.md", "results/published/voc-animals/limits.md"])
def test_pictures_and_links_lead_somewhere(page, root):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (root / page).read_text(encoding="utf-8"))
    missing = [target for target in targets if not ((root / page).parent / target).exists()]
    assert not missing and (targets or "data" in page or "published" in page)


def test_links_into_the_readme_lead_to_a_heading(readme, root):
    asked = re.findall(r"README\.md#([\w-]+)", (root / "REPRODUCIBILITY.md").read_text(encoding="utf-8"))
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in readme.splitlines() if line.startswith("#")}
    assert asked and set(asked) <= headings


def test_the_layout_names_every_module_of_the_library(readme, root):
    layout = readme.split("## Layout")[1].split("\n## ")[0]
    modules = {path.name for path in (root / "lib/bipartition").glob("*.py")} - {"__init__.py"}
    assert modules <= set(re.findall(r"\w+\.py", layout))


def test_it_starts_with_two_commands(readme):
    start = readme.split("## Two commands")[1].split("\n## ")[0]
    assert "make reproduce" in start and "make test" in start
