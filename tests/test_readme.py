"""README and the discussion say what is true: their tables are the published ones, the layout names what exists."""

import csv
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from bipartition.evaluation import interval, paired_difference
from bipartition.profiles import load_profile
from bipartition.rows import TABLE_ROWS
from bipartition.tables import line_title, two
from conftest import ROOT

DISCUSSION = "results/published/discussion.md"
SHOWN = ("casm", "classification_only", "chan_vese", "mumford_shah", "chan_vese_only", "mumford_shah_only", "cam",
         "everything_foreground", "centred_ellipse", "classical_chan_vese", "grabcut")
"""Lines of the published tables that README shows, where they are there."""


def short_table(folder: Path, elsewhere: Mapping[str, Path] = MappingProxyType({})) -> str:
    """What README shows of a published result: the last column of Table 1, that of other results, and three more measures."""
    with open(folder / "table1.csv", newline="", encoding="utf-8") as stream:
        paper = {line["row"]: line["paper_iou"] for line in csv.DictReader(stream) if line["class"] == "mean"}
    measured, of_table1 = page_table(folder / "measures.md"), page_table(folder / "table1.md")
    others = [page_table(other / "measures.md") for other in elsewhere.values()]
    head = ["row", "seeds", "IoU [95 %]", *elsewhere, "the paper's", "average precision", "boundary F", "grey pixels"]
    lines = [head, [":--", "--:", *[":-:"] * len(head[2:])]]
    for name in SHOWN:
        title = line_title(name)
        if (one := measured.get(title)) is not None:
            iou, ends = one["IoU"].split("<br>")
            there = [page[title]["IoU"].replace("<br>", " ") if title in page else "–" for page in others]
            lines.append([title, of_table1[title]["seeds"],  # with how many of them collapsed
                          f"**{iou}** {ends}", *there, two(float(paper[name])) if paper.get(name) else "–",
                          *(one[measure].split("<br>")[0] for measure in ("average precision", "boundary F", "grey"))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page_table(path: Path) -> dict[str, dict[str, str]]:
    """Lines of a page by title: not of the file of numbers, as what is rounded twice may end up beside what the page says."""
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")]
                       for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|"))
    return {line[0]: dict(zip(head, line, strict=True)) for line in lines}


def claims_table(published: Path) -> str:
    """The paper's claims, and how the comparisons that each needs came out on cartoons and on photographs."""
    found: dict[str, tuple[str, list[dict[str, dict[str, int]]]]] = {}
    for place, name in enumerate(("demo", "voc-animals")):
        with open(published / name / "claims.csv", newline="", encoding="utf-8") as stream:
            for line in csv.DictReader(stream):
                _, counts = found.setdefault(line["number"], (line["claim"], [{}, {}]))
                of_measure = counts[place].setdefault(line["measure"].split(",")[0], {})
                verdict = line["verdict"].removesuffix(" here")
                of_measure[verdict] = of_measure.get(verdict, 0) + 1
    lines = ["| claim | cartoons | photographs |", "| :-- | :-- | :-- |"]
    for number, (claim, counts) in found.items():
        cells = [verdicts(one) for one in counts]
        lines.append(f"| {number}. {claim} | {' | '.join(cells)} |".replace("|1 − φ|", "\\|1 − φ\\|"))
    return "\n".join(lines)


def verdicts(found: dict[str, dict[str, int]]) -> str:
    """How often which verdict, by measure if there are several."""
    said = {}
    for measure, one in found.items():
        times = sum(one.values())
        said[measure] = ", ".join(verdict if times == 1 else f"{verdict} {count} of {times}" for verdict, count in one.items())
    return "; ".join(f"{measure}: {text}" if len(said) > 1 else text for measure, text in said.items())


LETTER = {"judge": "live", "warmup_cuts": 0, "batch_norm": "shared", "initial_foreground": 0.5}
"""What the paper says, in all but size, warm-up, optimiser and what it does not say."""


def trials(*paths: Path) -> dict[str, dict[str, list[dict[str, str]]]]:
    """Lines of tables of trials by settings and row, seeds in ascending order."""
    tried: dict[str, dict[str, list[dict[str, str]]]] = {}
    lines = []
    for path in paths:
        with open(path, newline="", encoding="utf-8") as stream:
            lines += csv.DictReader(stream)
    for line in sorted(lines, key=lambda line: int(line["seed"])):
        tried.setdefault(line["settings"], {}).setdefault(line["row"], []).append(line)
    return tried


def cell(lines: list[dict[str, str]], name: str) -> str:
    """A column of some trials, one number for each seed."""
    return ", ".join(two(float(line[name])) for line in lines) or "–"


def one_judge_table(published: Path) -> str:
    """Three rows under the one live judge of Figure 1, by what is changed besides."""
    rows = ("classification_only", "chan_vese", "mumford_shah")
    usual = load_profile("demo").training
    found = {}
    for text, by_row in trials(published / "demo" / "trials.csv", published / "demo" / "one-judge.csv").items():
        settings = json.loads(text)
        if LETTER.items() <= settings.items() and settings.keys() - LETTER.keys() <= {"lambda1", "epochs"}:
            found[tuple((usual | settings)[name] for name in ("epochs", "lambda1"))] = by_row
    lines = [f"| `lambda1`, epochs | {' | '.join(f'{line_title(row)}: IoU | area' for row in rows)} |",
             "| :-- |" + " :-: |" * 2 * len(rows)]
    for (epochs, weight), by_row in sorted(found.items(), key=lambda item: (item[0][0], -item[0][1])):
        cells = [cell(by_row.get(row, []), name) for row in rows for name in ("iou", "area")]
        lines.append(f"| {weight}, {epochs} | {' | '.join(cells)} |")
    return "\n".join(lines)


def settings_table(published: Path) -> str:
    """What became of both energies on cartoons where settings of the demo were changed, Chan-Vese's best first."""
    tried = trials(published / "demo" / "trials.csv")

    def mean(settings, row):
        lines = tried[settings].get(row, [])
        return sum(float(line["iou"]) for line in lines) / len(lines) if lines else -1

    lines = ["| changed | Chan-Vese: IoU, seeds from 0 on | its area | its grey pixels | Mumford-Shah: IoU |",
             "| :-- | :-: | :-: | :-: | :-: |"]
    for settings in sorted(tried, key=lambda one: (one != "{}", -mean(one, "chan_vese"), -mean(one, "mumford_shah"))):
        for of_seeds in tried[settings].values():
            assert [line["seed"] for line in of_seeds] == [str(seed) for seed in range(len(of_seeds))], settings
        changed = ", ".join(f"`{name}: {str(value).lower() if isinstance(value, bool) else value}`"
                            for name, value in json.loads(settings).items())
        ours, theirs = (tried[settings].get(row, []) for row in ("chan_vese", "mumford_shah"))
        lines.append(f"| {changed or 'nothing'} | {' | '.join(cell(ours, name) for name in ('iou', 'area', 'grey'))} | "
                     f"{cell(theirs, 'iou')} |")
    return "\n".join(lines)


def sizes_table(published: Path) -> str:
    """Table 1's rows on photographs of 224 pixels beside those of 112, classification alone, CASM and GrabCut."""
    large, small = (pd.read_csv(published / "voc-animals" / name) for name in ("paper-size/pictures.csv", "pictures.csv"))
    classes = large.drop_duplicates("picture").sort_values("picture")["class"].to_numpy()

    def of(table, row):
        return table[table["row"] == row].pivot(index="seed", columns="picture", values="iou").to_numpy()

    def ends(found):
        return f"[{found[0]:.3f}, {found[1]:.3f}]"

    def minus(row, other):
        if row == other:
            return "–"
        ours, theirs = of(large, row), of(large, other)
        found = paired_difference(ours, np.broadcast_to(theirs, ours.shape), classes)
        return f"{found.mean:+.3f} {ends((found.low, found.high))}"

    lines = ["| row at 224 pixels | seeds 0, 1, 2 | mean | minus that of six seeds at 112 | minus classification alone | "
             "minus CASM | minus GrabCut |", "| :-- |" + " :-: |" * 6]
    for row in TABLE_ROWS:
        ours = of(large, row)
        found = interval(ours, classes)
        seeds = ", ".join(two(interval(one, classes).mean) for one in ours)
        sizes, limits = between_sizes(ours, of(small, row), classes)
        others = [minus(row, other) for other in ("classification_only", "casm", "grabcut")]
        lines.append(f"| {line_title(row)} | {seeds} | {two(found.mean)} [{two(found.low)}, {two(found.high)}] | {sizes:+.3f} "
                     f"{ends(limits)} | {' | '.join(others)} |")
    return re.sub(r"-(?=\d)", "−", "\n".join(lines))


def between_sizes(ours: np.ndarray, theirs: np.ndarray, classes: np.ndarray) -> tuple[float, np.ndarray]:
    """Difference of two tables of the same photographs, with its interval: the seeds of either are drawn by themselves."""
    rng, places = np.random.default_rng(0), [np.flatnonzero(classes == name) for name in sorted(set(classes))]

    def draw():
        ours_now, theirs_now = (table[rng.integers(len(table), size=len(table))].mean(axis=0) for table in (ours, theirs))
        return np.mean([(ours_now - theirs_now)[rng.choice(place, len(place))].mean() for place in places])

    difference = np.mean([(ours.mean(axis=0) - theirs.mean(axis=0))[place].mean() for place in places])
    return float(difference), np.quantile([draw() for _ in range(2000)], (0.025, 0.975))


def test_a_difference_of_sizes_is_exact_where_nothing_varies_and_widens_with_the_seeds():
    classes = np.repeat(["a", "b"], [10, 30])
    flat = np.full((3, 40), 0.5)
    difference, limits = between_sizes(flat + 0.1, flat, classes)
    assert difference == pytest.approx(0.1) and limits == pytest.approx([0.1, 0.1])
    apart = flat + np.array([[-0.1], [0.0], [0.1]])
    assert np.ptp(between_sizes(apart, flat, classes)[1]) > 0.1
    only_in_a = flat + 0.2 * (classes == "a")  # classes weigh the same, however many pictures they have
    assert between_sizes(only_in_a, flat, classes)[0] == pytest.approx(0.1)


@pytest.fixture
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "place"), [("README.md", 0), ("README.md", 1), ("README.md", 2), (DISCUSSION, 0),
                                             (DISCUSSION, 1), (DISCUSSION, 2)])
def test_the_tables_are_the_published_ones(page, place, root):
    """`python tests/test_readme.py` writes them."""
    assert tables(root / "results" / "published")[page][place] in (root / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "METHOD.md", "RUNNING.md", "REPRODUCIBILITY.md",
                                  "data/README.md", "results/published/README.md", "results/published/discussion.md",
                                  "results/published/what-was-tried.md",
                                  "results/published/voc-animals/limits.md", "results/published/thresholds.md",
                                  "results/published/pull.md"])
def test_pictures_and_links_lead_somewhere(page, root):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (root / page).read_text(encoding="utf-8"))
    missing = [target for target in targets if not ((root / page).parent / target).exists()]
    assert not missing and (targets or "data" in page or "published" in page)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "METHOD.md", "RUNNING.md", "REPRODUCIBILITY.md", DISCUSSION])
def test_links_into_a_page_lead_to_a_heading(page, root):
    for target, heading in re.findall(r"\]\(([^)#:]*)#([\w-]+)\)", (root / page).read_text(encoding="utf-8")):
        led = (root / page).parent / target if target else root / page
        headings = re.findall(r"(?m)^#+ (.*)$", led.read_text(encoding="utf-8"))
        assert heading in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}, f"{target}#{heading}"


def test_what_contributors_are_pointed_to_is_there(root):
    """Files by their names, and what is to be changed in them by its own."""
    pointed = set(re.findall(r"`([\w./]+)`", (root / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    files = {one for one in pointed if one.endswith(".py")}
    assert {"runs.py", "rows.py"} <= files
    assert not [one for one in files if not (root / one).is_file() and not (root / "lib/bipartition" / one).is_file()]
    code = "\n".join(path.read_text(encoding="utf-8") for folder in ("lib", "tests") for path in (root / folder).rglob("*.py"))
    names = {one.split(".")[-1] for one in pointed - files if re.fullmatch(r"[A-Za-z.]+_[A-Za-z_.]+", one)} - {"SHAPES_ROOT"}
    assert {"METHOD_VERSION", "objective_parts", "open_dataset"} <= names
    assert not [one for one in names if one not in code]


def test_the_layout_names_every_module_of_the_library(readme, root):
    layout = readme.split("## Layout")[1].split("\n## ")[0]
    modules = {path.name for path in (root / "lib/bipartition").glob("*.py")} - {"__init__.py"}
    assert modules <= set(re.findall(r"\w+\.py", layout))


def test_it_starts_with_two_commands(readme):
    start = readme.split("## Two commands")[1].split("\n## ")[0]
    assert "make reproduce" in start and "make test" in start


@functools.cache
def tables(published: Path) -> dict[str, list[str]]:
    """Of each page, in its order."""
    photographs = short_table(published / "voc-animals", {"at 224 pixels, 3 seeds": published / "voc-animals" / "paper-size"})
    return {"README.md": [short_table(published / "demo"), photographs, claims_table(published)],
            DISCUSSION: [settings_table(published), one_judge_table(published), sizes_table(published)]}


if __name__ == "__main__":
    for name, made in tables(ROOT / "results" / "published").items():
        page, rest = "", (ROOT / name).read_text(encoding="utf-8")
        for table in made:
            before, head, after = rest.partition(table.split("\n")[0])
            old = re.match(r"(?:\n\|.*)*", after)
            page, rest = page + before + table, after[old.end():]
        (ROOT / name).write_text(page + rest, encoding="utf-8")
