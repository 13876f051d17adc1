"""The report is one page that needs nothing else, and says what is missing."""

import base64
import dataclasses
import html.parser
import re

import pytest

from bipartition import files, runs, tables
from bipartition.finished import made_today
from bipartition.profiles import load_profile
from bipartition.report import write_provenance, write_report
from bipartition.rows import WARM_UP
from test_tables import PROFILE, FakePrepared, write_run

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TABLE1 = """\
| row | seeds | Dog<br>n = 3 | Mean<br>n = 3 |
| :-- | --: | :-: | :-: |
| Chan-Vese + classification | 2, 1 collapsed | **0.70** (0.86)<br>[0.60, 0.80] | – (0.83) |

For orientation, not for comparison. Left out: casm/seed3 & <others>.
"""
MEASURES = """\
| row | seeds | IoU | area |
| :-- | --: | :-: | :-: |
| The truth on the decoder's grid (peeks at the truth) | – | 0.97<br>[0.96, 0.98] | 0.20 |

It peeks at the truth.
"""
CLAIMS = """\
| claim | where | measured here | number | verdict |
| :-- | :-- | :-- | :-: | :-- |
| 4. With \\|1 − φ\\| <binary> | 3.1.1 | grey share<br>0.10 [0.05, 0.20] against 0.20 | -0.100<br>[-0.200, +0.100] | undecided |
|  |  | IoU | – | not measured |

On drawn pictures.
"""
SEEDS = """\
dataset,row,seed,class,iou,boundary_f,area,grey,collapsed
cartoons,chan_vese,0,dog,0.7123,0.1,0.2,0.3,0.0
cartoons,chan_vese,0,mean,0.6789,0.1,0.2,0.3,0.0
"""


@pytest.fixture
def profile(places, tiny_profile):
    return load_profile(tiny_profile)


@pytest.fixture
def filled(profile, places):
    folder = places / "results" / "tiny"
    run = runs.run_folder("tiny", "cartoons", "chan_vese", 0)
    files.write_json(
        run / "config.json",
        {
            "configuration": {"row": "chan_vese"},
            "made_by": made_today(profile, "cartoons", "chan_vese", 0, "pictures"),
            "provenance": {},
            "parameters": 7,
            "device": "cpu <1>",
            "precision": "bfloat16",
            "minutes": 1.5,
        },
    )
    files.write_json(run / "metrics.json", {"accuracy": 0.9, "mean_iou": 0.7, "area": 0.2, "grey": 0.1})
    files.write_json(runs.run_folder("tiny", "cartoons", "classifier", 0) / "config.json",
                    {"made_by": made_today(profile, "cartoons", WARM_UP, 0, "pictures"), "device": "cpu <1>",
                     "precision": "float32", "minutes": 0.5})
    files.write_json(runs.run_folder("tiny", "cartoons", "classifier", 0) / "metrics.json", {"accuracy": 0.8})
    files.write_json(runs.run_folder("tiny", "cartoons", "casm", 3) / "config.json",
                    {"device": "a card", "precision": "float16", "minutes": 9.0})
    files.write_json(runs.run_folder("tiny", "cartoons", "casm", 3) / "metrics.json", {"accuracy": 0.1})
    for name, text in (("table1.md", TABLE1), ("measures.md", MEASURES), ("claims.md", CLAIMS), ("seeds.csv", SEEDS)):
        files.write_text(folder / name, text)
    with files.place(folder / "figures" / "figure4.png") as path:
        path.write_bytes(PNG)
    files.write_text(folder / "figures" / "figure4.txt", "A caption with <angles>.")
    write_provenance(profile)
    write_report(profile)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_provenance_holds_commit_versions_device_precision_minutes_and_the_configuration_of_each_run(filled, places):
    about = files.read_json(places / "results" / "tiny" / "provenance.json")
    assert {"commit", "versions", "device", "minutes", "runs"} <= about.keys()
    assert about["precision"] == ["bfloat16", "float32"]
    assert about["runs"]["cartoons/classifier/seed0"]["precision"] == "float32"
    assert about["minutes"] == 2.0  # the warm-up's too
    assert list(about["runs"]) == ["cartoons/chan_vese/seed0", "cartoons/classifier/seed0"]
    assert about["runs"]["cartoons/chan_vese/seed0"]["configuration"] == {"row": "chan_vese"}


def test_a_run_that_no_table_has_is_not_in_the_provenance(filled, places):
    about = files.read_json(places / "results" / "tiny" / "provenance.json")
    assert about["device"] == ["cpu <1>"] and "cartoons/casm/seed3" not in about["runs"]


def test_the_provenance_of_a_run_that_is_older_than_device_and_precision_names_none(filled, profile, places):
    run = runs.run_folder("tiny", "cartoons", "mumford_shah", 0)
    files.write_json(run / "config.json", {"made_by": made_today(profile, "cartoons", "mumford_shah", 0, "pictures")})
    files.write_json(run / "metrics.json", {})
    write_provenance(profile)
    about = files.read_json(places / "results" / "tiny" / "provenance.json")
    assert "cartoons/mumford_shah/seed0" in about["runs"]
    assert about["device"] == ["cpu <1>"] and about["precision"] == ["bfloat16", "float32"]


def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere(filled):
    open_tags = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Parser().feed(filled)
    assert not open_tags
    assert not re.search(r'src="(?!data:)|<link|@import|url\(|<script', filled)


def test_a_run_that_no_table_has_is_in_brackets(filled):
    assert '<th scope="row">(cartoons/casm/seed3)</th>' in filled  # nothing says what made it
    assert '<th scope="row">cartoons/chan_vese/seed0</th>' in filled


def test_numbers_intervals_paper_values_figures_and_readings_are_there(filled):
    for piece in (
        "2 finished runs, 2.0 minutes of\ntraining on cpu &lt;1&gt;, in bfloat16 and float32.",
        "<th scope=\"col\">Dog<br><small>n = 3</small></th>",
        "<td>2, 1 collapsed</td><td><b>0.70</b> (0.86)<br><small>[0.60, 0.80]</small></td><td>– (0.83)</td>",
        "For orientation, not for comparison. Left out: casm/seed3 &amp; &lt;others&gt;.",
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "A caption with &lt;angles&gt;.",
        "cpu &lt;1&gt;",
        "lambda1",
        "background_probability",
    ):
        assert piece in filled
    assert all('alt="' in image for image in re.findall("<img[^>]*>", filled))


def test_measures_stand_below_table_1_and_what_peeks_says_so(filled):
    below = filled.split("Other measures of the same masks")[1].split("<h2>")[0]
    assert "decoder&#39;s grid (peeks at the truth)" in below and "It peeks at the truth." in below
    assert "<td>0.97<br><small>[0.96, 0.98]</small></td><td>0.20</td>" in below


def test_claims_stand_below_the_measures_with_their_verdicts(filled):
    below = filled.split("<h2>The paper's claims</h2>")[1].split("<h2>")[0]
    assert "4. With |1 − φ| &lt;binary&gt;" in below and "grey share<br>0.10 [0.05, 0.20] against 0.20" in below
    assert "<td>-0.100<br><small>[-0.200, +0.100]</small></td><td>undecided</td>" in below
    assert "<td>–</td><td>not measured</td>" in below and "drawn pictures" in below


def test_each_seed_stands_folded_below_table_1_and_leads_to_its_file(filled):
    folded = filled.split("Each seed by itself")[1].split("</details>")[0]
    assert "<td>0.6789</td>" in folded and "0.7123" not in folded and "seeds.csv beside this page" in folded


def test_the_page_shows_what_the_pages_of_the_tables_show(places):
    """Of numbers that are rounded at a half, and of runs that collapsed or were left out."""
    prepared = FakePrepared()
    write_run(prepared, "chan_vese", 0, flips=0.1)
    write_run(prepared, "casm", 2, profile=dataclasses.replace(PROFILE, training=PROFILE.training | {"warmup_rate": 0.5}))
    table = tables.table1(tables.line_metrics(PROFILE, "voc2012", prepared, baselines=["otsu"]))
    table.loc[table["row"] == "chan_vese", "iou"] = 0.825
    tables.write_table(table, places / "results" / "demo" / "table1", tables.markdown(table))
    write_report(PROFILE)
    page = (places / "results" / "demo" / "report.html").read_text(encoding="utf-8")
    assert "<b>0.83</b>" in page and "<b>0.82</b>" not in page and "otherwise: casm/seed2." in page


def test_the_worst_pictures_stand_below_figure_6_with_a_title_and_an_alternative_text(filled, profile, places):
    heads = re.findall("<h2>(.*?)</h2>", filled)
    assert heads[heads.index("Figure 6") + 1] == "Figure 6, the worst"
    with files.place(places / "results" / "tiny" / "figures" / "figure6_worst.png") as path:
        path.write_bytes(PNG)
    write_report(profile)
    page = (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert '<img alt="The pictures on which the row of Figure 6 has its lowest IoU' in page


def test_table_1_as_a_picture_stands_above_the_table_as_soon_as_it_is_drawn(filled, profile, places):
    assert "by class and row, beside the paper" not in filled
    with files.place(places / "results" / "tiny" / "figures" / "table1.png") as path:
        path.write_bytes(PNG)
    write_report(profile)
    page = (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    picture = page.index('<img alt="Measured IoU with intervals, by class and row')
    assert page.index("<h2>Table 1</h2>") < picture < page.index("<table")
    with files.place(places / "results" / "tiny" / "figures" / "spread.png") as path:
        path.write_bytes(PNG)
    write_report(profile)
    page = (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert picture < page.index('<img alt="How IoU is spread over pictures') < page.index("<table")


def test_it_fits_narrow_screens_and_dark_ones(filled):
    assert "color-scheme: light dark" in filled and 'name="viewport"' in filled
    assert filled.count("<table") == filled.count('<div class="wide"')  # tables scroll inside themselves, not the page


def test_what_is_missing_is_said_in_its_place(profile, places):
    write_provenance(profile)
    write_report(profile)
    page = (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert page.count("Not made yet") == 7
    assert "None is finished yet" in page
