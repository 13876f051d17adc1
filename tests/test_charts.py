"""Charts: which numbers are drawn where."""

import numpy as np
import pandas as pd
import pytest

from bipartition import runs
from bipartition.charts import learning_curves, spread_figure, table_figure
from bipartition.learners import objective_weights
from bipartition.profiles import configuration_for, load_profile
from bipartition.rows import ROWS


def test_learning_curves_draw_what_the_history_has():
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "fidelity": [1.0, 1, 1],
                            "accuracy": [0.1, 0.5, 0.9], "val_grey": [np.nan, 0.5, 0.2], "val_iou": [np.nan, 0.2, 0.7]})
    figure = learning_curves({"Chan-Vese": history, "warm-up": history[["epoch", "loss"]]})
    losses, watched, other, nothing = figure.axes
    assert {curve.get_label() for curve in losses.lines} == {"loss", "fidelity"}
    assert {curve.get_label() for curve in watched.lines} == {"accuracy (training)", "grey", "IoU"}
    iou = next(curve for curve in watched.lines if curve.get_label() == "IoU")
    assert iou.get_xydata().tolist() == [[2, 0.2], [3, 0.7]]
    assert losses.get_title() == "Chan-Vese" and [len(axes.lines) for axes in (other, nothing)] == [1, 0]


class TestTableFigure:
    @pytest.fixture
    def table(self):
        """Two rows, one untrained line, two of Table 1's classes: dogs and their mean have pictures, cars have none."""
        lines = []
        for row, dog, paper in (("casm", 0.4, 0.79), ("chan_vese_only", 0.2, np.nan), ("cam", 0.9, np.nan),
                                ("centred_ellipse", 0.3, np.nan), ("otsu", 0.35, np.nan)):
            for label, n in (("dog", 5), ("car", 0), ("mean", 5)):
                value = dog if n else np.nan
                lines.append({"row": row, "class": label, "n": n, "iou": value, "ci_low": value - 0.1, "ci_high": value + 0.2,
                              "paper_iou": paper})
        return pd.DataFrame(lines)

    @pytest.fixture
    def seeds(self):
        lines = [("casm", 0, "dog", 0.35), ("casm", 1, "dog", 0.45), ("chan_vese_only", 0, "dog", 0.2),
                 ("casm", 0, "mean", 0.4)]
        return pd.DataFrame(lines, columns=["row", "seed", "class", "iou"])

    def test_a_panel_for_each_class_with_pictures_and_a_line_for_each_row(self, table, seeds):
        figure = table_figure(table, seeds)
        assert [axes.get_title() for axes in figure.axes] == ["dog", "mean"]
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert names == [ROWS["casm"].title, ROWS["chan_vese_only"].title]

    def test_a_row_without_a_run_has_no_line_beside_those_that_have_one(self, table, seeds):
        table.loc[table["row"] == "chan_vese_only", "iou"] = np.nan
        axes = table_figure(table, seeds).axes[0]
        assert [text.get_text() for text in axes.get_yticklabels()] == [ROWS["casm"].title]

    def test_bands_tell_the_rows_apart(self, table, seeds):
        band, = table_figure(table, seeds).axes[0].patches
        assert (band.get_y(), band.get_height()) == (-0.5, 1)

    def test_dots_strokes_diamonds_intervals_and_the_best_without_training(self, table, seeds):
        axes = table_figure(table, seeds).axes[0]
        best, strokes, dots, diamonds = axes.lines
        assert set(best.get_xdata()) == {0.35}  # of Otsu and the ellipse; the CAM was trained
        assert strokes.get_xdata().tolist() == [0.35, 0.45, 0.2]
        below = strokes.get_ydata() - [0, 0, 1]
        assert np.ptp(below) < 1e-9 and 0.2 < below[0] < 0.4  # not on the interval, where they would look like its ends
        assert dots.get_xdata().tolist() == [0.4, 0.2] and dots.get_ydata().tolist() == [0, 1]
        assert diamonds.get_xdata()[0] == 0.79 and np.isnan(diamonds.get_xdata()[1])
        assert -0.4 < diamonds.get_ydata()[0] < -0.2  # not on the dots, which they would hide
        spans = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
        assert np.allclose(spans, [[0.3, 0.6], [0.1, 0.4]])

    @pytest.mark.parametrize("known", [True, False])
    def test_the_legend_names_the_papers_values_where_there_are_any(self, table, seeds, known):
        legend, = table_figure(table if known else table.assign(paper_iou=np.nan), seeds).legends
        assert ("the paper's" in [text.get_text() for text in legend.get_texts()]) == known

    def test_without_any_picture_of_its_classes_it_is_an_empty_panel(self, table, seeds):
        figure = table_figure(table.assign(n=0), seeds[:0])
        figure.canvas.draw()
        assert [axes.get_title() for axes in figure.axes] == ["mean"] and len(figure.axes[0].get_yticks()) == 2

    def test_without_a_run_only_the_papers_values_and_the_line_are_there(self, table, seeds):
        table.loc[table["row"].isin(ROWS), ["iou", "ci_low", "ci_high"]] = np.nan
        best, strokes, dots, diamonds = table_figure(table, seeds[:0]).axes[0].lines
        assert len(strokes.get_xdata()) == 0 and np.isnan(dots.get_xdata()).all()
        assert set(best.get_xdata()) == {0.35} and diamonds.get_xdata()[0] == 0.79


class TestSpreadFigure:
    @pytest.fixture
    def pictures(self):
        """Twice as many pictures of the second line, with two seeds."""
        few, many = np.linspace(0.2, 0.4, 20), np.concatenate([np.linspace(0, 0.2, 20), np.linspace(0.7, 0.9, 20)])
        return pd.concat([pd.DataFrame({"title": "Otsu", "seed": -1, "iou": few}),
                          pd.DataFrame({"title": "CASM", "seed": np.repeat([0, 1], 20), "iou": many})], ignore_index=True)

    def test_a_shape_for_each_line_in_their_order_over_the_range_of_its_pictures(self, pictures):
        axes, = spread_figure(pictures).axes
        assert [text.get_text() for text in axes.get_yticklabels()] == ["Otsu", "CASM"]
        ends = [shape.get_paths()[0].get_extents() for shape in axes.collections]
        assert np.allclose([(box.x0, box.x1) for box in ends], [(0.2, 0.4), (0, 0.9)])
        assert [round((box.y0 + box.y1) / 2) for box in ends] == [0, 1]

    def test_quartiles_are_those_of_all_pictures_and_seeds_of_a_line(self, pictures):
        drawn = [line.get_xdata()[0] for line in spread_figure(pictures).axes[0].lines][:6]
        expected = [pictures[pictures["title"] == title]["iou"].quantile([0.25, 0.5, 0.75]) for title in ("Otsu", "CASM")]
        assert np.allclose(drawn, np.concatenate(expected))

    def test_at_the_right_stands_the_share_of_pictures_that_reach_the_dotted_line(self, pictures):
        axes, = spread_figure(pictures).axes
        assert axes.lines[-1].get_xdata()[0] == 0.7
        assert [text.get_text() for text in axes.texts] == ["0 %", "50 %", "IoU ≥ 0.7"]

    def test_a_line_whose_pictures_have_all_one_iou_is_a_dot_and_one_without_numbers_has_no_share(self, pictures):
        flat = pd.concat([pictures, pd.DataFrame({"title": "empty", "seed": 0, "iou": np.zeros(5)}),
                          pd.DataFrame({"title": "unknown", "seed": 0, "iou": np.full(5, np.nan)})])
        axes, = spread_figure(flat).axes
        dots = axes.lines[-2]
        assert np.allclose(dots.get_xdata(), [0.3, 0.45, 0, np.nan], equal_nan=True) and not dots.get_clip_on()
        assert [text.get_text() for text in axes.texts] == ["0 %", "50 %", "0 %", "–", "IoU ≥ 0.7"]

    def test_without_pictures_it_is_an_empty_panel(self, pictures):
        figure = spread_figure(pictures[:0])
        figure.canvas.draw()
        assert not figure.axes[0].collections


@pytest.mark.slow
def test_curves_of_a_history_keep_training_and_validation_apart(trained, monkeypatch):
    path, environment = trained
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    profile = load_profile(str(path))
    table = pd.read_csv(runs.run_folder(profile.name, "cartoons", "chan_vese", 0) / "history.csv")
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
