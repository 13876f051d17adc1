"""The report is one page that needs nothing else, and says what is missing."""

import base64
import html.parser
import re

import pytest

from bipartition import runs
from bipartition.profiles import load_profile
from bipartition.report import write_provenance, write_report

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HEAD = "dataset,row,class,n,seeds,iou,ci_low,ci_high,pooled_iou,boundary_iou,paper_iou\n"


@pytest.fixture
def profile(places, tiny_profile):
    return load_profile(tiny_profile)


@pytest.fixture
def filled(profile, places):
    folder = places / "results" / "tiny"
    run = runs.run_folder("tiny", "cartoons", "chan_vese", 0)
    runs.write_json(
        run / "config.json",
        {
            "configuration": {"row": "chan_vese"},
            "made_by": {},
            "provenance": {},
            "parameters": 7,
            "device": "cpu <1>",
            "minutes": 1.5,
        },
    )
    runs.write_json(run / "metrics.json", {"accuracy": 0.9, "mean_iou": 0.7, "area": 0.2, "grey": 0.1})
    runs.write_text(
        folder / "table1.csv",
        HEAD + "cartoons,chan_vese,dog,3,1,0.7,0.6,0.8,0.7,0.5,0.86\ncartoons,otsu,dog,3,0,0.3,0.2,0.4,0.3,0.1,\n",
    )
    runs.write_text(
        folder / "measures.csv",
        "dataset,row,n,seeds,iou,iou_low,iou_high,own_iou,oracle_iou,boundary_iou,boundary_f,boundary_f_low,"
        "boundary_f_high,average_precision,average_precision_low,average_precision_high,area,grey\n"
        "cartoons,cam,3,1,0.41,0.31,0.51,0.42,0.43,0.44,,,,0.0,0.0,0.1,0.2,0.3\n"
        "cartoons,mask_ceiling,3,0,0.97,0.96,0.98,0.97,0.97,0.9,0.9,0.9,0.9,0.9,0.9,0.9,0.2,0.3\n",
    )
    runs.write_text(
        folder / "claims.csv",
        "dataset,number,claim,where,measure,seeds,value,low,high,verdict,note\n"
        "cartoons,4,With |1 − φ| <binary>,3.1.1,grey share,1,-0.1,-0.2,0.1,undecided,0.10 against 0.20\n"
        "cartoons,7,It changes,5,IoU,0,,,,not measured,\n",
    )
    with runs.place(folder / "figures" / "figure4.png") as path:
        path.write_bytes(PNG)
    runs.write_text(folder / "figures" / "figure4.txt", "A caption with <angles>.")
    write_provenance(profile)
    write_report(profile)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_provenance_holds_commit_versions_device_minutes_and_the_configuration_of_each_run(filled, places):
    about = runs.read_json(places / "results" / "tiny" / "provenance.json")
    assert {"commit", "versions", "device", "minutes", "runs"} <= about.keys()
    assert about["minutes"] == 1.5
    assert about["runs"]["cartoons/chan_vese/seed0"]["configuration"] == {"row": "chan_vese"}


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


def test_numbers_intervals_paper_values_figures_and_readings_are_there(filled):
    for piece in (
        "<b>0.70</b>",
        "[0.60, 0.80]",
        "paper 0.86",
        "for orientation, not for comparison",
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "A caption with &lt;angles&gt;.",
        "cpu &lt;1&gt;",
        "lambda1",
        "background_probability",
        "Otsu, smaller region",
    ):
        assert piece in filled
    assert all('alt="' in image for image in re.findall("<img[^>]*>", filled))


def test_a_run_that_collapsed_is_told_beside_its_number(profile, filled, places):
    assert "collapsed" not in filled.split("Table 1")[1].split("</table>")[0]
    metrics = runs.run_folder("tiny", "cartoons", "chan_vese", 0) / "metrics.json"
    runs.write_json(metrics, runs.read_json(metrics) | {"collapsed": 0.97})
    write_report(profile)
    assert "1, all collapsed" in (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")


def test_measures_stand_below_table_1_and_what_peeks_says_so(filled):
    below = filled.split("Other measures of the same masks")[1].split("<h2>")[0]
    assert "CAM of the warmed-up classifier" in below and "decoder&#x27;s grid (peeks at the truth)" in below
    assert "<td>0.41<br><small>[0.31, 0.51]</small></td><td>0.42</td><td>0.43</td><td>0.44</td><td>–</td>" in below
    assert "<td>0.00<br><small>[0.00, 0.10]</small></td>" in below and "it peeks at the truth" in below


def test_claims_stand_below_the_measures_with_their_verdicts(filled):
    below = filled.split("<h2>The paper's claims</h2>")[1].split("<h2>")[0]
    assert "4. With |1 − φ| &lt;binary&gt;" in below and "grey share<br>0.10 against 0.20" in below
    assert "<td>-0.100<br><small>[-0.200, +0.100]</small></td><td>undecided</td>" in below
    assert "<td>–</td><td>not measured</td>" in below and "drawn pictures" in below


def test_the_worst_pictures_stand_below_figure_6_with_a_title_and_an_alternative_text(filled, profile, places):
    heads = re.findall("<h2>(.*?)</h2>", filled)
    assert heads[heads.index("Figure 6") + 1] == "Figure 6, the worst"
    with runs.place(places / "results" / "tiny" / "figures" / "figure6_worst.png") as path:
        path.write_bytes(PNG)
    write_report(profile)
    page = (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert '<img alt="The pictures on which the Mumford-Shah row has its lowest IoU' in page


def test_it_fits_narrow_screens_and_dark_ones(filled):
    assert "color-scheme: light dark" in filled and 'name="viewport"' in filled
    assert filled.count("<table") == filled.count('<div class="wide"')  # tables scroll inside themselves, not the page


def test_what_is_missing_is_said_in_its_place(profile, places):
    write_provenance(profile)
    write_report(profile)
    page = (places / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert page.count("Not made yet") == 7
    assert "None is finished yet" in page
