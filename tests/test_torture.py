"""Kills at random moments: a short version of ``make torture``, and that its tally notices what it is there for."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture
def fake(torture, monkeypatch):
    """A place whose command is a line of Python, run in the place's folder by the name of its results."""
    def make(code):
        start = torture.Place.__init__

        def init(self, folder, profile, options):
            start(self, folder, profile, options)
            self.command = [sys.executable, "-c", "import os, pathlib, sys, time\n"
                            "out = pathlib.Path(os.environ['BIPARTITION_RESULTS']) / 'torture'\n"
                            "run = out / 'runs' / 'metrics.json'\nrun.parent.mkdir(parents=True, exist_ok=True)\n" + code]
        monkeypatch.setattr(torture.Place, "__init__", init)
        monkeypatch.setattr(torture, "PATIENCE_S", 2)
    return make


CALM = "if 'calm' in str(out): run.write_text('7'); time.sleep(3); sys.exit()\n"


@pytest.mark.slow(seconds=80)
def test_killed_six_times_the_pipeline_gives_the_same_bytes(torture, tmp_path):
    tally = torture.torture(tmp_path, kills=6, seed=0, options=["--no-notebooks"])
    assert tally.good and tally.kills == tally.during.total() == 6 and tally.completed >= 2, str(tally)
    assert tally.compared >= 6


@pytest.mark.parametrize(("said", "what"), [
    ("", "start"), ("[1/7] prepare-cartoons ...\ncartoons: preparing 80 pictures", "prepare"),
    ("[1/7] prepare-cartoons ...\n[2/7] train-cartoons-chan_vese-seed0 ...\nclassifier/seed0  epoch 2/3  loss 1", "train"),
    ("[2/7] train-cartoons-chan_vese-seed0 ...\ncartoons/chan_vese/seed0  epoch 4/4  loss 1", "evaluation"),
    ("[2/7] train-cartoons-chan_vese-seed0 ...\nseed0  epoch 4/4  loss 1\n[3/7] figure4 ...\n", "figure4"),
])
def test_what_a_kill_hit_is_read_from_what_was_said(torture, said, what):
    assert torture.doing(said) == what


def test_a_result_that_differs_is_noticed(torture, fake, tmp_path):
    fake(CALM + "time.sleep(2); run.write_text('8')")
    tally = torture.torture(tmp_path, kills=1, seed=0, options=[])
    assert not tally.good and tally.differing and "metrics.json differs" in str(tally)


def test_kills_hit_also_where_later_runs_are_quicker_than_the_first(torture, fake, tmp_path):
    fake("if 'calm' in str(out): time.sleep(4)\n"
         "if not run.exists(): time.sleep(0.3)\nrun.write_text('7')")
    tally = torture.torture(tmp_path, kills=3, seed=0, options=[])
    assert tally.good and tally.kills == 3 and tally.completed < 15, str(tally)


def test_a_run_that_kills_have_left_little_to_do_says_nothing_of_the_machine(torture, monkeypatch, tmp_path):
    moments, first = [], {}

    def kill(place, after, how, tally):
        moments.append(after)
        first.setdefault(place.folder, len(moments))
        hit = first[place.folder] == len(moments)  # the second start of each round has ended before its kill
        tally.kills += hit
        return hit
    monkeypatch.setattr(torture, "_kill", kill)
    monkeypatch.setattr(torture.Place, "start", lambda place: subprocess.Popen([sys.executable, "-c", ""]))
    monkeypatch.setattr(torture, "time", SimpleNamespace(monotonic=iter((0, 10)).__next__))
    monkeypatch.setattr(torture, "random", SimpleNamespace(Random=lambda seed: SimpleNamespace(uniform=lambda low, high: high)))
    assert torture.torture(tmp_path, kills=4, seed=0, options=[]).kills == 4
    assert set(moments) == {6.0}


def test_a_command_that_always_fails_ends_it(torture, fake, tmp_path):
    fake(CALM + "sys.exit(3)")
    tally = torture.torture(tmp_path, kills=1, seed=0, options=[])
    assert not tally.good and tally.kills == 0 and tally.failed[0].startswith("ended with 3 before its kill")
    assert (tmp_path / "round1" / "log.txt").is_file()


def test_a_result_that_is_lost_is_noticed(torture, tmp_path):
    place, tally = torture.Place(tmp_path, tmp_path / "torture.yaml", []), torture.Tally()
    run = tmp_path / "results" / "torture" / "runs" / "metrics.json"
    run.parent.mkdir(parents=True)
    run.write_text("7", encoding="utf-8")
    place.command = [sys.executable, "-c", f"import os, time; os.unlink({str(run)!r}); time.sleep(60)"]
    torture._kill(place, 2.0, signal.SIGKILL, tally)
    assert tally.kills == 1 and len(tally.lost) == 1 and "metrics.json" in str(tally)


def test_a_process_that_is_left_running_is_noticed(torture, tmp_path, monkeypatch):
    monkeypatch.setattr(torture, "PATIENCE_S", 0.5)
    place, tally = torture.Place(tmp_path, tmp_path / "torture.yaml", []), torture.Tally()
    place.command = [sys.executable, "-c", "import subprocess, sys\n"
                     "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(6)']).wait()"]
    torture._kill(place, 2.0, signal.SIGTERM, tally)
    assert tally.kills == 1 and len(tally.left_running) == 1 and "sleep(6)" in tally.left_running[0]


def test_a_command_that_fails_or_ends_by_itself_is_no_kill(torture, tmp_path):
    place, tally = torture.Place(tmp_path, tmp_path / "torture.yaml", []), torture.Tally()
    for code, failed in (("", 0), ("raise SystemExit(3)", 1)):
        place.command = [sys.executable, "-c", code]
        torture._kill(place, 30.0, signal.SIGKILL, tally)
        assert tally.kills == 0 and len(tally.failed) == failed
