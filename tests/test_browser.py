"""report.html in a real browser, where Chromium is installed: no sideways scrolling, no missing picture, no complaint."""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from bipartition import files
from bipartition.profiles import load_profile
from bipartition.report import write_provenance, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<!DOCTYPE html><title>probe</title><iframe id="page" style="width: {width}px; height: 800px; border: 0"></iframe>
<pre id="found"></pre><script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const page = frame.contentDocument, images = [...page.images], edge = page.documentElement.clientWidth;
  const sticksOut = one => !one.closest(".wide") && one.getBoundingClientRect().right > edge + 1;
  document.getElementById("found").textContent = JSON.stringify({{
    ink: getComputedStyle(page.body).color, images: images.length, edge, scroll: page.documentElement.scrollWidth,
    broken: images.filter(image => !image.naturalWidth).length, silent: images.filter(image => !image.alt).length,
    wide: [...page.querySelectorAll("body *")].filter(sticksOut).map(one => one.tagName).slice(0, 5)
  }});
}};
frame.src = "report.html";
</script>"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium")]


@pytest.fixture
def served(places, root, tmp_path):
    """The report of the published demo, tables and figures included, on a server of this machine's own."""
    profile = load_profile("demo")
    folder = places / "results" / "demo"
    (folder / "figures").mkdir(parents=True)
    published = root / "results" / "published" / "demo"
    for path in filter(Path.is_file, published.iterdir()):
        target = folder / "figures" / path.name if path.suffix == ".png" else folder / path.name
        shutil.copyfile(path, target)
    write_provenance(profile)
    write_report(profile)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def browse(profile, *options):
    """What Chromium says, headless and without its own errands on the network."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
               "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
               "--enable-logging=stderr", "--virtual-time-budget=8000", "--window-size=1500,900", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def look(folder, address, profile, width, *options):
    """What the report is like in a frame of `width` pixels, and what the browser complains of."""
    files.write_text(folder / "probe.html", PROBE.format(width=width))
    done = browse(profile, *options, "--dump-dom", f"{address}/probe.html")
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-1000:] + done.stderr[-2000:]
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "favicon" not in line]
    return json.loads(html.unescape(found[1])), complaints


@pytest.mark.parametrize("width", [360, 1400])
def test_the_report_fits_shows_every_picture_and_has_nothing_to_complain_of(served, tmp_path, width):
    found, complaints = look(*served, tmp_path / "browser", width)
    assert found["images"] >= 3 and found["broken"] == 0 and found["silent"] == 0, found
    assert found["edge"] <= width and found["scroll"] <= found["edge"] and not found["wide"], found
    assert not complaints


def test_the_report_follows_a_dark_theme_and_opens_from_the_disk(served, tmp_path):
    folder, _ = served
    looks = {theme: look(folder, f"file://{folder}", tmp_path / theme, 1400, "--allow-file-access-from-files",
                         f"--blink-settings=preferredColorScheme={number}") for theme, number in (("dark", 0), ("light", 1))}
    assert [looks[theme][0]["ink"] for theme in looks] == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert all(found["images"] >= 3 and not found["broken"] and not complaints for found, complaints in looks.values())


def test_the_report_is_printed_with_no_table_cut_off(served, tmp_path):
    folder, _ = served
    browse(tmp_path / "browser", f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer",
           f"file://{folder}/report.html")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 30
    style = (folder / "report.html").read_text(encoding="utf-8").partition("@media print")[2]
    assert ".wide { overflow-x: visible; }" in style


def test_a_page_that_is_too_wide_or_lacks_a_picture_is_noticed(served, tmp_path):
    folder, address = served
    page = (folder / "report.html").read_text(encoding="utf-8")
    spoilt = page.replace("<body>", '<body><div style="width: 900px">wide</div><img src="no.png">')
    files.write_text(folder / "report.html", spoilt)
    found, _ = look(folder, address, tmp_path / "browser", 360)
    assert found["scroll"] > 360 and found["wide"] and found["broken"] == 1 and found["silent"] == 1
