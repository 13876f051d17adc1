"""What a notebook asks for first: the history of a run as it was written, and drawn."""

import pytest

from bipartition import runs
from bipartition.companion import history
from bipartition.figures import learning_curves
from bipartition.profiles import load_profile


@pytest.mark.slow
def test_curves_of_a_history_keep_training_and_validation_apart(trained, monkeypatch):
    path, environment = trained
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    profile = load_profile(str(path))
    table = history(profile, "cartoons", "chan_vese", 0)
    written = (runs.run_folder(profile.name, "cartoons", "chan_vese", 0) / "history.csv").read_text(encoding="utf-8")
    assert list(table) == written.splitlines()[0].split(",")
    losses, watched = ({curve.get_label(): curve.get_ydata()[-1] for curve in axes.lines}
                       for axes in learning_curves({"Chan-Vese": table}).axes)
    last = table.iloc[-1]
    assert {"loss", "fidelity", "area", "variation", "foreground", "background"} <= set(losses)
    assert losses["area"] == last["area"] and losses["loss"] == last["loss"]
    expected = {"accuracy (training)": "accuracy", "accuracy": "val_accuracy", "area": "val_area", "grey": "val_grey",
                "IoU": "val_iou"}
    assert {label: watched[label] for label in expected} == {label: last[name] for label, name in expected.items()}
