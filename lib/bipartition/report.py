"""All that a profile has made, on one page that needs no network: ``results/<profile>/report.html``."""

import base64
import csv
import html
import re
from pathlib import Path
from typing import Any

from bipartition import runs
from bipartition.companion import finished_folders
from bipartition.configuration import readings_table
from bipartition.profiles import Profile, configuration_for
from bipartition.rows import ROWS, WARM_UP

__all__ = ["write_provenance", "write_report"]

FIGURES = {
    "figure4": (
        "Figure 4",
        "The six experiments side by side: picture I, mask 1 − φ, foreground (1 − φ) ⊙ I, background φ ⊙ I.",
    ),
    "figure5": ("Figure 5", "The Mumford-Shah row on more pictures: I, 1 − φ, (1 − φ) ⊙ I, φ ⊙ I."),
    "figure6": ("Figure 6", "The Mumford-Shah row beside the truth: I, truth, 1 − φ, (1 − φ) ⊙ I, φ ⊙ I."),
    "figure6_worst": (
        "Figure 6, the worst",
        "The pictures on which the Mumford-Shah row has its lowest IoU, the worst first: "
        "I, truth, 1 − φ, (1 − φ) ⊙ I, φ ⊙ I.",
    ),
}
"""Title of each figure; its alternative text, which is its caption too where its notebook left none."""

RECORDED = ("configuration", "made_by", "provenance", "parameters", "device", "minutes")

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem;
       overflow-wrap: anywhere; }
h1 { line-height: 1.2; font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
figcaption, .note { font-size: .9rem; opacity: .85; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top;
         overflow-wrap: normal; }
thead th { border-bottom-width: 2px; } small { opacity: .8; white-space: nowrap; } summary { cursor: pointer; }
@media print {
  :root { font-size: 10pt; } body { max-width: none; font-size: 1rem; padding: 0; }
  .wide { overflow-x: visible; } table { font-size: .68rem; width: 100%; } th, td { padding: .15rem .25rem; }
  img { max-height: 21cm; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  details::details-content { content-visibility: visible; display: block; }
}
"""


def write_provenance(profile: Profile) -> None:
    """``provenance.json``: commit, versions, machine, and each finished run's configuration, device and minutes."""
    finished = {}
    for name, config in _finished(profile).items():
        finished[name] = {key: config.get(key) for key in RECORDED}
    runs.write_json(
        _folder(profile) / "provenance.json",
        {
            "profile": profile.name,
            "about": profile.about,
            **runs.provenance(),
            "device": sorted({str(config["device"]) for config in finished.values()}),
            "minutes": round(sum(config["minutes"] or 0 for config in finished.values()), 2),
            "runs": finished,
        },
    )


def write_report(profile: Profile) -> None:
    """``report.html``: tables, figures, readings, runs and provenance; what is missing is said in its place."""
    folder = _folder(profile)
    about = runs.read_json(folder / "provenance.json")
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Bi-partition: profile {html.escape(profile.name)}</title><style>{STYLE}</style></head>\n<body>",
        "<h1>Cutting a picture in two: foreground and background from image labels</h1>",
        "<p>A reproduction of Choi &amp; Hong, <i>Unsupervised Object Segmentation Based on Bi-Partitioning Image "
        "Model Integrated with Classification</i>, Electronics 2021, 10, 2296, "
        '<a href="https://doi.org/10.3390/electronics10182296">doi 10.3390/electronics10182296</a>. φ marks the '
        "background, as in the paper; 1 − φ is the foreground.</p>",
        f"<p>Profile <b>{html.escape(profile.name)}</b>: {html.escape(profile.about)} "
        f"{len(about.get('runs', {}))} finished runs, {about.get('minutes', 0):.1f} minutes of training on "
        f"{html.escape(', '.join(about.get('device', [])) or 'nothing yet')}.</p>",
        "<h2>Table 1</h2>",
        _page(folder / "table1.md"),
        _seeds(folder / "seeds.csv"),
        "<h2>Other measures of the same masks</h2>",
        _page(folder / "measures.md"),
        "<h2>The paper's claims</h2>",
        _page(folder / "claims.md"),
        *(_figure(folder, name) for name in FIGURES),
        "<h2>Readings</h2><p>What the paper leaves open, and how it is read here. Bold: changed from the default "
        "by a row or the profile. A dash: the row does not read it.</p>",
        _readings(profile),
        "<h2>Runs</h2>",
        _runs(profile),
        "<h2>Provenance</h2>",
        _provenance(about),
        "</body>\n</html>\n",
    ]
    runs.write_text(folder / "report.html", "\n".join(parts))


def _folder(profile: Profile) -> Path:
    return runs.results_root() / profile.name


def _finished(profile: Profile) -> dict[str, dict[str, Any]]:
    """``config.json`` of every finished run by ``dataset/row/seed<k>``, in the order of the rows, the warm-up last."""
    root = _folder(profile) / "runs"
    paths = [
        path.parent
        for dataset in profile.datasets
        for row in (*ROWS, WARM_UP)
        for path in sorted(root.glob(f"{dataset}/{row}/seed*/metrics.json"))
    ]
    return {str(path.relative_to(root)): runs.read_json(path / "config.json") for path in paths}


def _page(path: Path) -> str:
    """The table and the paragraph of a Markdown page as they are, so that the two can never tell different things."""
    if not path.is_file():
        return "<p>Not made yet: <code>make table</code>.</p>"
    *lines, note = filter(None, path.read_text(encoding="utf-8").splitlines())
    head, _, *body = ([_as_html(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    return f'{_html_table(head, body)}<p class="note">{html.escape(note)}</p>'


def _as_html(cell: str) -> str:
    """Of a cell in Markdown: new lines, bold numbers, and intervals small and unbroken."""
    text = html.escape(cell.strip().replace("\\|", "|")).replace("&lt;br&gt;", "<br>")
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"<br>(\[.+?\]|n = \d+)$", r"<br><small>\1</small>", text)


def _seeds(path: Path) -> str:
    """The means of each training, folded; the file has every class."""
    if not path.is_file():
        return ""
    with open(path, newline="", encoding="utf-8") as stream:
        head, *lines = csv.reader(stream)
    table = _html_table(head, [list(map(html.escape, line)) for line in lines if "mean" in line])
    return (f'<details><summary>Each seed by itself</summary>{table}<p class="note">By class in '
            'seeds.csv beside this page, for error bars of your own.</p></details>')


def _figure(folder: Path, name: str) -> str:
    picture, text = folder / "figures" / f"{name}.png", folder / "figures" / f"{name}.txt"
    title, alternative = FIGURES[name]
    caption = text.read_text(encoding="utf-8") if text.is_file() else alternative
    head = f"<h2>{title}</h2>"
    if not picture.is_file():
        return f"{head}<p>Not made yet: <code>make figures</code>.</p>"
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    return (
        f'{head}<figure><img alt="{html.escape(alternative)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _readings(profile: Profile) -> str:
    """The table of readings with a column for each trained row of the data set of Table 1."""
    tables = [readings_table(configuration_for(profile, profile.sets["table1"], row, profile.seeds[0])) for row in profile.rows]
    body = []
    for name, line in tables[0].iterrows():
        here = [table.loc[name, "here"] for table in tables]
        shown = [f"<b>{value}</b>" if value not in (line["default"], "–") else str(value) for value in here]
        reason = f"{html.escape(line['why'])} <small>{html.escape(line['where in the paper'])}</small>"
        body.append(
            [
                f"<code>{name}</code>",
                html.escape(str(line["default"])),
                *shown,
                html.escape(line["alternatives"]),
                reason,
            ]
        )
    head = ["reading", "default", *(ROWS[row].title for row in profile.rows), "alternatives", "why, and where"]
    return f"<details><summary>The table of readings</summary>{_html_table(head, body)}</details>"


def _runs(profile: Profile) -> str:
    body = []
    stale = {f"{dataset}/{name}" for dataset in profile.datasets for name in finished_folders(profile, dataset, None)[1]}
    for name, config in _finished(profile).items():
        metrics = runs.read_json(_folder(profile) / "runs" / name / "metrics.json")
        numbers = [_number(metrics.get(key)) for key in ("accuracy", "mean_iou", "area", "grey")]
        body.append(
            [
                html.escape(f"({name})" if name in stale else name),
                *numbers,
                f"{config['parameters']:,}" if "parameters" in config else "–",
                _duration(config.get("minutes") or 0),
                html.escape(str(config.get("device", "–"))),
            ]
        )
    if not body:
        return "<p>None is finished yet.</p>"
    head = ["run", "accuracy", "mean IoU", "area", "grey share", "parameters", "time", "device"]
    return _html_table(head, body) + (
        '<p class="note">Area: mean of 1 − φ before it is cut. Grey share: pixels with φ between 0.1 and 0.9. '
        "Mean IoU is over all classes of the data set, Table 1's over its own. "
        "The time of a row does not hold that of the warm-up that the rows share. "
        "A run in brackets was made otherwise than today's profile or code would make it, and no table or figure has it.</p>"
    )


def _provenance(about: dict[str, Any]) -> str:
    lines = [
        [key, html.escape(_in_words(value))]
        for key, value in about.items()
        if key not in ("runs", "about")
    ]
    return _html_table(["what", "value"], lines) if lines else "<p>Not recorded yet.</p>"


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _duration(minutes: float) -> str:
    return f"{minutes:.1f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _html_table(head: list[str], body: list[list[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    rows = "\n".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in body
    )
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )
