"""JupyterLab in a real browser, where Chromium is installed: the first lesson is run to its last cell, and played with."""

import base64
import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
import websocket

from test_browser import CHROMIUM

LESSON = "10_two_regions.ipynb"
PATIENCE_S = 100

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's package chromium")]

# The notebook that is open, and what its cells have come to.
STATE = """(() => {
  const panel = [...jupyterapp.shell.widgets("main")].find(widget => widget.content && widget.content.widgets);
  if (!panel || !panel.context.isReady || !panel.sessionContext.isReady) return null;
  const cells = panel.content.widgets.filter(cell => cell.model.type === "code");
  return {
    counts: cells.map(cell => cell.model.executionCount),
    errors: cells.flatMap(cell => cell.model.outputs.toJSON()).filter(one => one.output_type === "error"),
  };
})()"""
SHOWN = """(() => {
  const {content} = [...jupyterapp.shell.widgets("main")].find(widget => widget.content && widget.content.widgets);
  const place = content.widgets.findIndex(cell => cell.model.sharedModel.getSource().includes("interact(played"));
  content.activeCellIndex = place;
  content.scrollToItem(place, "center");
  return document.querySelectorAll(".widget-interact .widget-hslider").length === 2
    && !!document.querySelector(".widget-interact img");
})()"""
PICTURE = "document.querySelector('.widget-interact img')?.src"
READOUT = "document.querySelector('.widget-interact .widget-readout')"


class Page:
    """One page of a browser, spoken to by the Chrome DevTools Protocol."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(address, timeout=PATIENCE_S, suppress_origin=True)
        self.numbers = itertools.count(1)

    def ask(self, method, **parameters):
        """The answer to one command; what the page says meanwhile is passed over."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, code):
        """Value of an expression of JavaScript, None while it has none."""
        return self.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)["result"].get("value")

    def wait(self, code, until=bool):
        """The first value of an expression that `until` accepts."""
        stop = time.monotonic() + PATIENCE_S
        while not until(value := self.evaluate(code)):
            assert time.monotonic() < stop, f"{code}: {value}"
            time.sleep(0.5)
        return value


@pytest.fixture
def lab(root, tmp_path):
    """JupyterLab on a copy of the lesson: its address, token included."""
    (tmp_path / "work").mkdir()
    shutil.copy(root / "notebooks" / LESSON, tmp_path / "work")
    port, token = free_port(), secrets.token_hex(8)
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(tmp_path / name.lower()) for name in places}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               f"--IdentityProvider.token={token}", "--expose-app-in-browser",
               f"--ServerApp.root_dir={tmp_path / 'work'}"]
    with open(tmp_path / "lab.log", "wb") as log:
        server = subprocess.Popen(command, env=environment | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, cwd=tmp_path)
    try:
        answers(f"http://127.0.0.1:{port}/api?token={token}")
        yield f"http://127.0.0.1:{port}/lab/tree/{LESSON}?token={token}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def browser(tmp_path):
    """Opens an address in a window of its own."""
    port = free_port()
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
               "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
               f"--remote-debugging-port={port}", "--window-size=1400,1000", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def visit(address):
        targets = json.loads(answers(f"http://127.0.0.1:{port}/json/list"))
        page = Page(next(target for target in targets if target["type"] == "page")["webSocketDebuggerUrl"])
        page.ask("Page.navigate", url=address)
        return page
    try:
        yield visit
    finally:
        process.terminate()
        process.wait(30)


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(address):
    """What is said at an address, as soon as something is."""
    stop = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read()
        except OSError:
            assert time.monotonic() < stop, f"nobody answers at {address}"
            time.sleep(0.3)


def save(page, path):
    """What the page looks like, for whoever looks into the test's folder."""
    path.write_bytes(base64.b64decode(page.ask("Page.captureScreenshot", format="png")["data"]))


def test_the_first_lesson_runs_to_its_last_cell_and_its_sliders_draw_anew(lab, browser, root, tmp_path):
    page = browser(lab)
    page.wait("typeof jupyterapp !== 'undefined'")
    cells = [cell for cell in nbformat.read(root / "notebooks" / LESSON, as_version=4).cells if cell.cell_type == "code"]
    page.wait(STATE, lambda state: state is not None and len(state["counts"]) == len(cells))
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    state = page.wait(STATE, lambda state: state["errors"] or state["counts"] == list(range(1, len(cells) + 1)))
    assert not state["errors"]
    page.wait(SHOWN)
    save(page, tmp_path / "before.png")
    before = page.evaluate(PICTURE)
    page.evaluate(f"{READOUT}.focus(); getSelection().selectAllChildren({READOUT})")
    page.ask("Input.insertText", text="0.2")
    page.ask("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    page.wait(PICTURE, lambda picture: picture not in (None, before))
    save(page, tmp_path / "played.png")
