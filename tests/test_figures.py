"""Figures: what is in which panel, not only that a file exists."""

import dataclasses
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bipartition import figures
from bipartition.figures import (
    FIGURE4_ROWS,
    NOT_SCORED,
    NOT_TRAINED,
    caption,
    changed_here,
    choose,
    contact_sheet,
    figure4,
    figure5,
    figure6,
    figure6_worst,
    lowest,
    save,
)
from bipartition.profiles import configuration_for, load_profile
from bipartition.rows import ROWS

COUNT, SIZE = 5, 8
IOUS, CLASSES = (0.5, np.nan, 0.25, 0.004, 0.25), ["dog", "cat", "cow", "horse", "dog"]
SIDES = ["$I$", r"$1-\phi$", r"$(1-\phi)\odot I$", r"$\phi\odot I$"]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIZE, SIZE), dtype=np.uint8)


@pytest.fixture
def masks():
    random = np.random.default_rng(1)
    return {name: random.integers(0, 256, (COUNT, SIZE, SIZE), dtype=np.uint8) for name in FIGURE4_ROWS}


def panels(figure, columns):
    axes = figure.axes
    assert len(axes) % columns == 0
    return np.array(axes, dtype=object).reshape(-1, columns)


def array(axes):
    assert len(axes.images) == 1
    return np.asarray(axes.images[0].get_array())


def as_pictures(image):
    return np.moveaxis(image, 0, -1)


def says(axes, words):
    return not axes.images and [text.get_text() for text in axes.texts] == [words]


def says_not_trained(axes):
    return says(axes, NOT_TRAINED)


def test_each_column_has_a_letter_of_its_own():
    letters = [row.letter for row in ROWS.values()]
    assert len(set(letters)) == len(letters), f"{letters}: give each row of rows.py a letter that no other has"


def test_columns_are_in_the_papers_order():
    assert FIGURE4_ROWS[:6] == ("casm", "classification_only", "chan_vese_only", "mumford_shah_only", "chan_vese",
                                "mumford_shah")


class TestFigure4:
    def test_panels_hold_picture_mask_foreground_background(self, images, masks):
        grid = panels(figure4(images, masks, [3, 1]), len(FIGURE4_ROWS))
        assert grid.shape == (8, len(FIGURE4_ROWS))
        for place, index in enumerate((3, 1)):
            picture = as_pictures(images[index])
            for column, name in enumerate(FIGURE4_ROWS):
                first, mask, foreground, background = grid[4 * place:4 * place + 4, column]
                cut = masks[name][index] >= 128
                assert (array(first) == picture).all()
                assert (array(mask) == cut).all()
                assert np.allclose(array(foreground), np.where(cut[..., None], picture / 255, 0))
                assert np.allclose(array(background), np.where(cut[..., None], 0, picture / 255))

    def test_letters_and_row_labels(self, images, masks):
        grid = panels(figure4(images, masks, [0]), len(FIGURE4_ROWS))
        heads = [axes.get_title() for axes in grid[0]]
        assert [head[:3] for head in heads[:6]] == ["(a)", "(b)", "(c)", "(d)", "(e)", "(f)"]
        assert heads[0] == "(a) CASM\n(baseline)"
        assert [axes.get_ylabel() for axes in grid[:, 0]] == SIDES

    def test_a_missing_run_is_a_labelled_empty_panel(self, images, masks):
        del masks["casm"]
        masks["mumford_shah"] = None
        grid = panels(figure4(images, masks, [0]), len(FIGURE4_ROWS))
        for column in (FIGURE4_ROWS.index("casm"), FIGURE4_ROWS.index("mumford_shah")):
            assert (array(grid[0, column]) == as_pictures(images[0])).all()
            assert all(says_not_trained(axes) for axes in grid[1:, column])
        assert grid[1, 1].images

    def test_where_the_truth_is_known_the_iou_stands_below(self, images, masks):
        del masks["mumford_shah"]
        grid = panels(figure4(images, masks, [0, 3], {"casm": IOUS, "chan_vese": [np.nan] * COUNT}), len(FIGURE4_ROWS))
        said = [[axes.get_xlabel() for axes in row] for row in grid]
        assert [row[0] for row in said] == ["", "", "", "IoU 0.50", "", "", "", "IoU 0.00"]
        assert not any(words for row in said for words in row[1:])

    @pytest.mark.parametrize("ious", [None, {"casm": IOUS}])
    def test_all_panels_have_one_size_and_stay_on_the_page(self, images, masks, ious):
        figure = figure4(images, masks, [0, 1], ious)
        width, height = figure.get_size_inches()
        boxes = [axes.get_position() for axes in figure.axes]
        assert np.allclose([box.width * width for box in boxes], boxes[0].width * width)
        assert np.allclose([box.height * height for box in boxes], boxes[0].width * width)
        assert min(box.x0 for box in boxes) >= 0 and max(box.x1 for box in boxes) <= 1
        assert min(box.y0 for box in boxes) >= 0 and max(box.y1 for box in boxes) <= 1


    @pytest.mark.parametrize(("count", "number"), [(7, "Seven"), (8, "Eight"), (13, "13")])
    def test_further_rows_are_counted_and_no_head_touches_another(self, images, masks, monkeypatch, count, number):
        rows = dict(ROWS)
        for place in range(len(ROWS), count):
            letter = "abcdefghijklm"[place]
            rows[letter] = dataclasses.replace(ROWS["mumford_shah"], name=letter, letter=letter)
        monkeypatch.setattr(figures, "ROWS", rows)
        monkeypatch.setattr(figures, "FIGURE4_ROWS", tuple(sorted(rows, key=lambda name: rows[name].letter)))
        figure = figure4(images, masks, [0])
        figure.draw_without_rendering()
        heads = [axes.title.get_window_extent() for axes in panels(figure, count)[0]]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(heads)) and heads[-1].y1 <= figure.bbox.y1
        text = caption("figure4", dataset="cartoons", size=64, choice="drawn")
        assert text.startswith(f"Figure 4. {number} ways to cut a picture in two. (a)")


class TestFigures5And6:
    def test_soft_masks_are_shown_as_they_are_and_the_halves_add_up(self, images, masks):
        _, mask, foreground, background = panels(figure5(images, masks["chan_vese"], [2], soft=True), 4)[0]
        assert np.allclose(array(mask), masks["chan_vese"][2] / 255)
        assert np.allclose(array(foreground) + array(background), as_pictures(images[2]) / 255)

    def test_two_groups_side_by_side(self, images, masks):
        grid = panels(figure5(images, masks["mumford_shah"], [4, 0, 2]), 8)
        assert grid.shape == (2, 8)
        for index, group in ((4, grid[0, :4]), (0, grid[0, 4:]), (2, grid[1, :4])):
            assert (array(group[0]) == as_pictures(images[index])).all()
            assert (array(group[1]) == (masks["mumford_shah"][index] >= 128)).all()
        assert all(not axes.images and not axes.axison for axes in grid[1, 4:])
        assert [axes.get_title() for axes in grid[0]] == SIDES * 2

    def test_truth_in_the_second_column_object_white_void_grey(self, images, masks):
        truth = np.zeros((COUNT, SIZE, SIZE), np.uint8)
        truth[1, 0], truth[1, 1], truth[1, 2] = 7, 255, 20
        grid = panels(figure6(images, truth, masks["mumford_shah"], IOUS, CLASSES, [1]), 5)
        assert [axes.get_title() for axes in grid[0, :3]] == ["$I$", "truth", r"$1-\phi$"]
        shown = array(grid[0, 1])
        assert (shown[[0, 2]] == 1).all() and (shown[1] == 0.5).all() and (shown[3:] == 0).all()
        assert (array(grid[0, 2]) == (masks["mumford_shah"][1] >= 128)).all()

    def test_missing_run_leaves_picture_and_truth(self, images):
        grid = panels(figure6(images, np.ones((COUNT, SIZE, SIZE), np.uint8), None, [], CLASSES, [0, 1]), 10)
        assert all(axes.images for axes in grid[0, [0, 1, 5, 6]])
        assert all(says_not_trained(axes) for axes in grid[0, [2, 3, 4, 7, 8, 9]])
        assert [axes.get_xlabel() for axes in grid[0, [2, 7]]] == ["dog", "cat"]
        assert all(says_not_trained(axes) for axes in panels(figure5(images, None, [0]), 4)[0, 1:])

    def test_class_and_iou_stand_below_the_mask_and_no_iou_where_there_is_no_object(self, images, masks):
        truth = np.ones((COUNT, SIZE, SIZE), np.uint8)
        grid = panels(figure6(images, truth, masks["casm"], IOUS, CLASSES, [0, 1]), 10)
        assert [axes.get_xlabel() for axes in grid[0, [2, 7]]] == ["IoU 0.50 (dog)", "cat"]


class TestFigure6Worst:
    @pytest.fixture
    def truth(self):
        return np.ones((COUNT, SIZE, SIZE), np.uint8)

    def test_the_worst_stands_first_and_each_has_its_iou_below_its_mask(self, images, truth, masks):
        grid = panels(figure6_worst(images, truth, masks["mumford_shah"], IOUS, CLASSES, count=3), 10)
        groups = [grid[0, :5], grid[0, 5:], grid[1, :5]]
        for index, iou, group in zip((3, 2, 4), ("IoU 0.00 (horse)", "IoU 0.25 (cow)", "IoU 0.25 (dog)"), groups, strict=True):
            assert (array(group[0]) == as_pictures(images[index])).all()
            assert (array(group[2]) == (masks["mumford_shah"][index] >= 128)).all()
            assert [axes.get_xlabel() for axes in group] == ["", "", iou, "", ""]
        assert all(not axes.axison and not axes.get_xlabel() for axes in grid[1, 5:])

    def test_it_has_the_columns_of_figure_6(self, images, truth, masks):
        worst, drawn = (panels(figure, 10)[0] for figure in (
            figure6_worst(images, truth, masks["casm"], IOUS, CLASSES, count=2),
            figure6(images, truth, masks["casm"], IOUS, CLASSES, [3, 2])))
        assert [axes.get_title() for axes in worst] == [axes.get_title() for axes in drawn]
        assert all((array(one) == array(other)).all() for one, other in zip(worst, drawn, strict=True))

    def test_a_picture_without_object_is_never_among_them_and_fewer_than_ten_are_fine(self, images, truth, masks):
        grid = panels(figure6_worst(images, truth, masks["casm"], IOUS, CLASSES), 10)
        assert [axes.get_xlabel() for axes in grid[:, [2, 7]].ravel()] == [
            "IoU 0.00 (horse)", "IoU 0.25 (cow)", "IoU 0.25 (dog)", "IoU 0.50 (dog)"]

    def test_without_a_run_or_without_an_object_the_panels_are_empty_and_say_so(self, images, truth, masks):
        for given, ious, words in ((None, [], NOT_TRAINED), (masks["casm"], [np.nan] * COUNT, NOT_SCORED)):
            grid = panels(figure6_worst(images, truth, given, ious, CLASSES), 10)
            assert grid.shape == (1, 10) and all(says(axes, words) for axes in grid[0])
            assert grid[0, 1].get_title() == "truth"

    def test_the_numbers_stay_on_the_page_and_touch_no_panel(self, images, truth, masks):
        figure = figure6_worst(images, truth, masks["casm"], IOUS, CLASSES)
        figure.draw_without_rendering()
        page, boxes = figure.bbox, [axes.get_window_extent() for axes in figure.axes]
        for axes in figure.axes[2::5]:
            text = axes.xaxis.label.get_window_extent()
            assert text.y0 >= page.y0 and not any(text.overlaps(box) for box in boxes)


class TestLowest:
    def test_the_lowest_come_first_and_equal_ones_keep_their_order(self):
        assert lowest([0.3, 0.1, 0.2, 0.1, 0.2], 4).tolist() == [1, 3, 2, 4]

    def test_what_has_no_number_is_left_out(self):
        assert lowest([np.nan, 0.4, np.nan, 0.2], 10).tolist() == [3, 1]
        assert lowest([np.nan], 10).tolist() == lowest([], 10).tolist() == []


class TestChoose:
    def test_classes_take_turns(self):
        labels = np.array([0] * 50 + [1] * 3 + [2] * 2)
        chosen = choose(labels, 6, seed=4)
        assert len(set(chosen)) == 6 and np.bincount(labels[chosen]).tolist() == [2, 2, 2]

    def test_seeded_and_never_more_than_there_are(self):
        labels = np.arange(40) % 4
        assert (choose(labels, 8, seed=1) == choose(labels, 8, seed=1)).all()
        assert (choose(labels, 8, seed=1) != choose(labels, 8, seed=2)).any()
        assert sorted(choose([0, 1, 0], 9)) == [0, 1, 2]

    @pytest.mark.parametrize(("count", "seed", "message"), [
        (0, 0, "pictures = 0; it must be a whole number from 1"), (2.5, 0, "pictures = 2.5; it must be a whole number from 1"),
        (2, -1, "picture_seed = -1; it must be a whole number from 0")])
    def test_a_wrong_number_is_named_as_the_notebooks_name_it(self, count, seed, message):
        with pytest.raises(ValueError, match=f"^{message}$"):
            choose([0, 1, 0], count, seed)


class TestSave:
    def test_same_masks_give_the_same_bytes(self, images, masks, tmp_path):
        for folder in ("one", "two"):
            path = save(figure5(images, masks["casm"], [0]), tmp_path / folder / "figure5", "What it is.")
            assert path == tmp_path / folder / "figure5.png"
        for suffix in ("png", "pdf"):
            one, two = ((tmp_path / folder / f"figure5.{suffix}").read_bytes() for folder in ("one", "two"))
            assert one == two and len(one) > 1000
        assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["figure5.pdf", "figure5.png", "figure5.txt"]
        assert (tmp_path / "one" / "figure5.txt").read_text(encoding="utf-8") == "What it is.\n"

    def test_a_users_own_style_changes_nothing(self, images, masks, tmp_path):
        plain = save(figure5(images, masks["casm"], [0]), tmp_path / "plain", "").read_bytes()
        with plt.style.context("dark_background"), plt.rc_context({"image.interpolation": "bilinear", "font.size": 20}):
            assert save(figure5(images, masks["casm"], [0]), tmp_path / "dark", "").read_bytes() == plain

    def test_nothing_stays_open_in_pyplot(self, images):
        before = plt.get_fignums()
        contact_sheet(images[:1], None, ["a"])
        assert plt.get_fignums() == before


def test_contact_sheet_shows_every_picture_with_its_name_and_truth(images):
    truth = np.zeros((COUNT, SIZE, SIZE), np.uint8)
    truth[:, 2:4] = 3
    grid = panels(contact_sheet(images, truth, list("abcde"), columns=3), 3)
    assert grid.shape == (4, 3)
    assert [grid[row, column].get_title() for row, column in ((0, 0), (0, 2), (2, 1))] == ["a", "c", "e"]
    assert (array(grid[2, 1]) == as_pictures(images[4])).all() and (array(grid[3, 1]) == (truth[4] > 0)).all()
    assert not grid[2, 2].axison and not grid[3, 2].axison
    assert panels(contact_sheet(images, None, list("abcde"), columns=3), 3).shape == (2, 3)


def test_captions_stand_alone():
    text = caption("figure4", dataset="dogs-vs-cats", size=112, choice="drawn by seed 0", seed=3, note="Few epochs.")
    assert text.startswith(f"Figure 4. {figures.NUMBERS[len(FIGURE4_ROWS)]} ways to cut") and figures.NUMBERS[6] == "Six"
    for part in ("(a)", "(f)", "1 − φ", "(1 − φ) ⊙ I", "112 × 112", "dogs-vs-cats", "drawn by seed 0", "seed 3",
                 "Few epochs."):
        assert part in text
    assert "undecided grey" in caption("figure6", dataset="voc2012", size=224, choice="the worst")
    assert "foreground IoU and class below" in caption("figure6_worst", dataset="voc2012", size=224, choice="the worst")
    assert "undecided" not in caption("figure5", dataset="dogs-vs-cats", size=224, choice="drawn")
    with pytest.raises(ValueError, match="no caption for 'figure7'"):
        caption("figure7", dataset="voc2012", size=64, choice="drawn")


def test_one_style_is_readable():
    assert figures.STYLE["font.size"] >= 7 and figures.STYLE["pdf.fonttype"] == 42 and len(set(figures.COLOURS)) == 8


def test_a_caption_names_the_seed_of_all_runs_or_that_of_each():
    def text(**seed):
        return caption("figure4", dataset="cartoons", size=64, choice="drawn by seed 3", **seed)

    assert text(seed={"casm": 1, "mumford_shah": 1}).endswith("drawn by seed 3. Runs with seed 1.")
    assert text(seed={"mumford_shah": 2, "casm": 0}).endswith("drawn by seed 3. Seeds of the runs: (a) 0, (f) 2.")
    assert text(seed={}).endswith("drawn by seed 3.") and text(seed=5).endswith(" Run with seed 5.")


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
