"""What notebooks say besides: captions, the history of a run as it was written and drawn, which runs are left out."""

import dataclasses

import pytest

from bipartition import runs
from bipartition.charts import learning_curves
from bipartition.companion import changed_here, history, name_stale_runs
from bipartition.learners import objective_weights
from bipartition.profiles import configuration_for, load_profile


@pytest.mark.parametrize(("profile", "row", "said"), [
    ("demo", "chan_vese", "Other than in the paper: pictures of 64 pixels, first weights drawn at random (the paper does not "
                          "say which); how method and training are read: see METHOD.md."),
    ("demo", "chan_vese_only", "Other than in the paper: pictures of 64 pixels, auto-encoders of width 8 at their first layer, "
                               "with 3 poolings; how method and training are read: see METHOD.md."),
    ("paper", "chan_vese", "")])
def test_a_caption_says_what_is_other_than_in_the_paper_and_nothing_of_what_the_row_does_not_have(profile, row, said):
    loaded = load_profile(profile)
    assert changed_here(configuration_for(loaded, loaded.datasets[0], row, 0)) == said


def test_a_caption_of_several_rows_says_what_any_of_them_has():
    demo = load_profile("demo")
    narrow = configuration_for(demo, "cartoons", "chan_vese_only", 0)
    assert "auto-encoders of width 8 or 4 at" in changed_here(narrow, dataclasses.replace(narrow, autoencoder_width=4), narrow)
    both = changed_here(*(configuration_for(demo, "cartoons", row, 0) for row in ("chan_vese", "chan_vese_only")))
    assert "64 pixels" in both and "auto-encoders of width 8" in both and "first weights drawn at random" in both


def test_a_caption_names_the_auto_encoders_also_where_only_their_poolings_are_other_ones():
    demo = load_profile("demo")
    configuration = dataclasses.replace(configuration_for(demo, "cartoons", "chan_vese_only", 0), autoencoder_width=64)
    assert changed_here(configuration) == ("Other than in the paper: pictures of 64 pixels, auto-encoders with 3 poolings; how "
                                           "method and training are read: see METHOD.md.")


def test_a_run_that_is_left_out_is_named_with_the_command_that_makes_it_anew(capsys):
    name_stale_runs(["casm/seed3", "classifier/seed0"], "my dir/mine.yaml")
    casm, warm_up = capsys.readouterr().out.splitlines()
    assert "casm/seed3" in casm and "`make train PROFILE='my dir/mine.yaml' ROWS=casm SEEDS=3` makes it anew" in casm
    assert "classifier/seed0" in warm_up and "`make train PROFILE='my dir/mine.yaml'` makes it anew" in warm_up


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
    weights = objective_weights(configuration_for(profile, "cartoons", "chan_vese", 0))
    assert sum(last.get(name, 0) * weight for name, weight in weights.items()) == pytest.approx(last["loss"], rel=1e-5)
    assert {"loss", "fidelity", "area", "variation", "foreground", "background"} <= set(losses)
    assert losses["area"] == last["area"] and losses["loss"] == last["loss"]
    expected = {"accuracy (training)": "accuracy", "accuracy": "val_accuracy", "area": "val_area", "grey": "val_grey",
                "IoU": "val_iou"}
    assert {label: watched[label] for label in expected} == {label: last[name] for label, name in expected.items()}
