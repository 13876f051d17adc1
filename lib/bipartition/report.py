"""All that a profile has made, on one page that needs no network: ``results/<profile>/report.html``."""

import base64
import csv
import re
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from bipartition import files, runs
from bipartition.configuration import readings_table
from bipartition.finished import finished_folders
from bipartition.profiles import Profile, configuration_for
from bipartition.rows import MEAN, ROWS

FIGURES = {
    "table1": (
        "Table 1",
        "Measured IoU with intervals, by class and row, beside the paper's and the best of what needs no training.",
    ),
    "spread": (
        "IoU picture by picture",
        "How IoU is spread over pictures, a shape for each row.",
    ),
    "figure4": (
        "Figure 4",
        "The six experiments side by side: picture I, mask 1 − φ, foreground (1 − φ) ⊙ I, background φ ⊙ I.",
    ),
    "figure5": ("Figure 5", "One row on more pictures: I, 1 − φ, (1 − φ) ⊙ I, φ ⊙ I."),
    "figure6": ("Figure 6", "One row beside the truth: I, truth, 1 − φ, (1 − φ) ⊙ I, φ ⊙ I."),
    "figure6_worst": (
        "Figure 6, the worst",
        "The pictures on which the row of Figure 6 has its lowest IoU, the worst first: "
        "I, truth, 1 − φ, (1 − φ) ⊙ I, φ ⊙ I.",
    ),
}
"""Title of each figure; its alternative text, which is its caption too where its notebook left none."""

CHARTS = ("table1", "spread")
"""Those that stand above Table 1 as soon as they are drawn."""

RECORDED = ("configuration", "made_by", "provenance", "parameters", "device", "precision", "minutes")

TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                        keep_trailing_newline=True, undefined=StrictUndefined)


class Table(NamedTuple):
    """What the template draws as a table: text is escaped, `Markup` is not.  A row's first cell is its heading."""

    head: list[str]
    rows: list[list[str]]
    note: str = ""


def write_provenance(profile: Profile) -> None:
    """``provenance.json``: commit, versions, machine; configuration, device, precision and minutes of each run that counts."""
    finished = {name: {key: config.get(key) for key in RECORDED} for name, (config, counts) in _finished(profile).items()
                if counts}
    files.write_json(
        profile.folder / "provenance.json",
        {
            "profile": profile.name,
            "about": profile.about,
            **runs.provenance(),
            "device": sorted({str(config["device"]) for config in finished.values() if config["device"]}),
            "precision": sorted({str(config["precision"]) for config in finished.values() if config["precision"]}),
            "minutes": round(sum(config["minutes"] or 0 for config in finished.values()), 2),
            "runs": finished,
        },
    )


def write_report(profile: Profile) -> None:
    """``report.html``: tables, figures, readings, runs and provenance; what is missing is said in its place."""
    folder = profile.folder
    about = files.read_json(folder / "provenance.json")
    pages = {name: _page(folder / f"{name}.md") for name in ("table1", "measures", "claims")}
    figures = {name: _figure(folder, name) for name in FIGURES}
    text = TEMPLATES.get_template("report.html.jinja").render(
        profile=profile, about=about, **pages, charts=[figures.pop(name) for name in CHARTS],
        seeds=_seeds(folder / "seeds.csv"), figures=figures.values(), readings=_readings(profile), finished=_runs(profile),
        provenance=_provenance(about))
    files.write_text(folder / "report.html", text)


def _finished(profile: Profile) -> dict[str, tuple[dict[str, Any], bool]]:
    """``config.json`` of every finished run by ``dataset/row/seed<k>``, in the order of the rows, the warm-up last.

    And whether it counts: today's profile, code, data or first weights would make the others otherwise, and no table has them.
    """
    found = {}
    for dataset in profile.datasets:
        _, stale = finished_folders(profile, dataset, None)
        for name, folder in runs.finished_runs(profile.name, dataset).items():
            found[f"{dataset}/{name}"] = files.read_json(folder / "config.json"), name not in stale
    return found


def _page(path: Path) -> Table | None:
    """The table and the paragraph of a Markdown page as they are, so that the two can never tell different things."""
    if not path.is_file():
        return None
    *lines, note = filter(None, path.read_text(encoding="utf-8").splitlines())
    head, _, *body = ([_as_html(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    return Table(head, body, note)


def _as_html(cell: str) -> Markup:
    """Of a cell in Markdown: new lines, bold numbers, and intervals small and unbroken."""
    text = str(escape(cell.strip().replace("\\|", "|"))).replace("&lt;br&gt;", "<br>")
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return Markup(re.sub(r"<br>(\[.+?\]|n = \d+)$", r"<br><small>\1</small>", text))


def _seeds(path: Path) -> Table | None:
    """The means of each training; the file has every class."""
    if not path.is_file():
        return None
    with open(path, newline="", encoding="utf-8") as stream:
        head, *lines = csv.reader(stream)
    return Table(head, [line for line in lines if MEAN in line])


def _figure(folder: Path, name: str) -> dict[str, str]:
    """Title, alternative text, caption and the PNG in base64, empty if it is not drawn yet."""
    picture, text = folder / "figures" / f"{name}.png", folder / "figures" / f"{name}.txt"
    title, alternative = FIGURES[name]
    return {"title": title, "alternative": alternative,
            "caption": text.read_text(encoding="utf-8") if text.is_file() else alternative,
            "picture": base64.b64encode(picture.read_bytes()).decode("ascii") if picture.is_file() else ""}


def _readings(profile: Profile) -> Table:
    """The table of readings with a column for each trained row of the data set of Table 1."""
    tables = [readings_table(configuration_for(profile, profile.sets["table1"], row, profile.seeds[0])) for row in profile.rows]
    rows = []
    for name, line in tables[0].iterrows():
        here = [table.loc[name, "here"] for table in tables]
        shown = [Markup("<b>{}</b>").format(value) if value not in (line["default"], "–") else str(value) for value in here]
        reason = Markup("{} <small>{}</small>").format(line["why"], line["where in the paper"])
        rows.append([Markup("<code>{}</code>").format(name), str(line["default"]), *shown, line["alternatives"], reason])
    return Table(["reading", "default", *(ROWS[row].title for row in profile.rows), "alternatives", "why, and where"], rows)


def _runs(profile: Profile) -> Table:
    rows = []
    for name, (config, counts) in _finished(profile).items():
        metrics = files.read_json(profile.folder / "runs" / name / "metrics.json")
        numbers = [_number(metrics.get(key)) for key in ("accuracy", "mean_iou", "area", "grey")]
        rows.append([name if counts else f"({name})", *numbers,
                     f"{config['parameters']:,}" if "parameters" in config else "–", _duration(config.get("minutes") or 0),
                     str(config.get("device", "–")), str(config.get("precision", "–"))])
    return Table(["run", "accuracy", "mean IoU", "area", "grey share", "parameters", "time", "device", "precision"], rows)


def _provenance(about: dict[str, Any]) -> Table:
    return Table(["what", "value"], [[key, _in_words(value)] for key, value in about.items() if key not in ("runs", "about")])


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _duration(minutes: float) -> str:
    return f"{minutes:.1f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
