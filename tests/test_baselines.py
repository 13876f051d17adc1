"""Masks that need no training: small pictures whose answer is plain to see."""

import cv2
import numpy as np
import pytest

from bipartition.baselines import (
    BASELINES,
    ELLIPSE_AREA,
    GRABCUT_AREA,
    centred_ellipse,
    classical_chan_vese,
    everything_foreground,
    grabcut,
    otsu,
    smaller_region,
    two_means,
)

INTENSITY = [otsu, two_means, classical_chan_vese]


def square(inside, outside, size=32):
    picture = np.empty((1, 3, size, size), np.uint8)
    picture[:] = np.reshape(outside, (3, 1, 1))
    picture[..., 8:20, 10:24] = np.reshape(inside, (3, 1, 1))
    truth = np.zeros((size, size), bool)
    truth[8:20, 10:24] = True
    return picture, truth


def textured_disc(size=64, radius=15):
    """A bright disc in the middle of a dark picture, both of them grainy."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    truth = rows**2 + columns**2 <= radius**2
    colour = np.where(truth, np.reshape((200, 170, 90), (3, 1, 1)), np.reshape((50, 70, 90), (3, 1, 1)))
    grain = np.random.default_rng(0).integers(-40, 41, (3, size, size))
    return (colour + grain).astype(np.uint8)[None], truth


def noise(count=5, size=24):
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_stored_masks(name):
    title, method = BASELINES[name]
    pictures = noise()
    before = pictures.copy()
    masks = method(pictures)
    assert title and masks.dtype == np.uint8 and masks.shape == (5, 24, 24)
    assert set(np.unique(masks)) <= {0, 255}
    assert (pictures == before).all() and (method(pictures) == masks).all()


@pytest.mark.parametrize("name", BASELINES)
def test_wrong_pictures_are_an_error(name):
    with pytest.raises(ValueError, match=r"uint8 of shape \(N, 3, S, S\)"):
        BASELINES[name][1](np.zeros((2, 3, 8, 8)))


@pytest.mark.parametrize("method", INTENSITY)
@pytest.mark.parametrize(("inside", "outside"), [((220, 220, 220), (30, 30, 30)), ((30, 30, 30), (220, 220, 220))])
def test_smaller_region_is_the_object_whether_brighter_or_darker(method, inside, outside):
    picture, truth = square(inside, outside)
    found = method(picture)[0] > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.95


@pytest.mark.parametrize("method", [*INTENSITY, grabcut])
def test_a_picture_of_one_colour_has_no_object(method):
    assert not method(np.full((2, 3, 16, 16), 77, np.uint8)).any()


def test_two_means_sees_colour_where_otsu_sees_grey():
    picture, truth = square((200, 60, 60), (0, 119, 66))  # nearly equal luminance
    noisy = np.clip(picture + np.random.default_rng(0).integers(-9, 10, (1, 1, 32, 32)), 0, 255).astype(np.uint8)
    assert ((two_means(noisy)[0] > 0) == truth).all()
    assert ((otsu(noisy)[0] > 0) == truth).mean() < 0.9


def test_two_means_is_a_fixed_point_of_lloyd():
    pictures = noise(3)
    for picture, mask in zip(pictures.astype(float), two_means(pictures) > 0, strict=True):
        means = [picture[:, part].mean(axis=1)[:, None, None] for part in (mask, ~mask)]
        nearer = ((picture - means[0]) ** 2).sum(0) < ((picture - means[1]) ** 2).sum(0)
        assert (nearer == mask).mean() > 0.95  # noise is the slowest case for the limit of steps


def test_ellipse_covers_its_declared_area_whatever_the_picture():
    masks = centred_ellipse(noise(2, 96))
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[0].T).all() and (masks[0] == masks[0][::-1]).all()
    assert (masks > 0).mean() == pytest.approx(ELLIPSE_AREA, abs=0.005)


def test_grabcut_finds_a_textured_disc_in_the_middle():
    picture, truth = textured_disc()
    found = grabcut(picture)[0] > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_grabcut_cuts_off_what_a_disc_has_outside_the_box_and_loses_a_larger_disc():
    picture, truth = textured_disc(radius=24)
    found = grabcut(picture)[0] > 0
    side = np.ptp(np.nonzero(found)[0]) + 1
    assert (side / 64) ** 2 == pytest.approx(GRABCUT_AREA, abs=0.01)
    assert not found[~truth].any() and found[truth].mean() > 0.9
    assert not grabcut(textured_disc(radius=28)[0]).any()


def test_grabcut_of_a_picture_depends_neither_on_its_batch_nor_on_threads():
    pictures = np.concatenate([textured_disc()[0], noise(2, 64), textured_disc(radius=20)[0]])
    together = grabcut(pictures)
    alone = [grabcut(picture[None])[0] for picture in pictures[::-1]][::-1]
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        assert (grabcut(pictures) == together).all() and (np.stack(alone) == together).all()
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_grabcut_takes_pictures_of_a_few_pixels(size):
    assert grabcut(noise(3, size)).shape == (3, size, size)


def test_everything_is_everything():
    assert (everything_foreground(noise()) == 255).all()


def test_smaller_region_flips_only_what_is_large():
    halves = np.zeros((3, 2, 2), bool)
    halves[1, 0], halves[2] = True, [[True, True], [True, False]]
    assert smaller_region(halves).sum(axis=(1, 2)).tolist() == [0, 2, 1]
