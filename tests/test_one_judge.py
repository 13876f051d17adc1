"""`benchmarks/one_judge.py`: a published picture can be made by whoever has the runs, or trains them."""

import re
import runpy
import sys

import pytest
from skimage.io import imread

from bipartition import files, lessons
from bipartition.tables import two


@pytest.mark.slow
def test_four_runs_are_trained_and_drawn_below_the_pictures_and_their_truth(tiny_profile, places, root, monkeypatch):
    picture = places / "one-judge.png"
    monkeypatch.setattr(sys, "argv", ["one_judge.py", "--profile", str(tiny_profile), "--to", str(picture)])
    drawn, film_strip = {}, lessons.film_strip
    monkeypatch.setattr(lessons, "film_strip", lambda lines, sides: drawn.update(zip(sides, lines, strict=True))
                        or film_strip(lines, sides=sides))
    runpy.run_path(str(root / "benchmarks" / "one_judge.py"), run_name="__main__")
    configurations = [files.read_json(path)["configuration"] for path in (places / "results").rglob("seed0/config.json")]
    trained = {(one["row"], one["epochs"], one["lambda1"] == 0.0175) for one in configurations if one["row"] != "classifier"}
    assert trained == {("classification_only", 1, True), ("chan_vese", 1, True), ("chan_vese", 3, True),
                       ("chan_vese", 1, False)}
    assert [side.split("\n")[0] for side in drawn] == ["picture", "truth", "classification", *["Chan-Vese,"] * 3]
    assert set(drawn["truth"].unique().tolist()) == {0, 1} and drawn["picture"].shape[1:] == (3, 32, 32)
    ious = sorted(re.search(r"IoU (0\.\d\d)$", side)[1] for side in list(drawn)[2:])
    metrics = [files.read_json(path.with_name("metrics.json")) for path in (places / "results").rglob("seed0/masks.npy")
               if path.parents[1].name != "classifier"]
    assert ious == sorted(two(one["mean_iou"]) for one in metrics)
    height, width, _ = imread(picture).shape
    assert width > height > width / 2  # six lines of eight
