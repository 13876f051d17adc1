"""`benchmarks/one_judge.py`: a published picture can be made by whoever has the runs, or trains them."""

import runpy
import sys

import pytest
from skimage.io import imread

from bipartition import files


@pytest.mark.slow
def test_four_runs_are_trained_and_drawn_below_the_pictures(tiny_profile, places, root, monkeypatch):
    picture = places / "one-judge.png"
    monkeypatch.setattr(sys, "argv", ["one_judge.py", "--profile", str(tiny_profile), "--to", str(picture)])
    runpy.run_path(str(root / "benchmarks" / "one_judge.py"), run_name="__main__")
    configurations = [files.read_json(path)["configuration"] for path in (places / "results").rglob("seed0/config.json")]
    trained = {(one["row"], one["epochs"], one["lambda1"] == 0.0175) for one in configurations if one["row"] != "classifier"}
    assert trained == {("classification_only", 1, True), ("chan_vese", 1, True), ("chan_vese", 3, True),
                       ("chan_vese", 1, False)}
    height, width, _ = imread(picture).shape
    assert width > height > width / 2  # five lines of eight
