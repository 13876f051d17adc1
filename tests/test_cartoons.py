"""Proves that the cartoons are the same everywhere, exact, and fair: nothing but a figure's shape gives it away."""

import hashlib
from importlib.metadata import files

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from bipartition.datasets.cartoons import CLASSES, COLOUR_SCENES, GREY_SCENES, draw, scene_path

LUMA = np.array([0.299, 0.587, 0.114])
# pixels: number of pictures
FAIRNESS_COUNTS = {64: 600, 96: 300}

PINNED = {
    (0, 0): "0e5565768d0163ce",
    (0, 1): "cfbd416ba8fdfde4",
    (0, 2): "f00bd5e50443f0ee",
    (0, 3): "43fcd7edef0abb60",
    (0, 4): "7475463166a51cd2",
    (0, 5): "c3481d554d30a7cc",
    (1, 600): "520dc3b484ec6647",
    (7, 123456): "f5c17f366512aebd",
}


@pytest.fixture(scope="module", params=FAIRNESS_COUNTS)
def pictures(request):
    """Some hundred pictures of one size: images in [0, 1], boolean masks, labels."""
    size = request.param
    images, masks, labels = zip(*(draw(0, index, size) for index in range(FAIRNESS_COUNTS[size])), strict=False)
    return np.stack(images) / 255, np.stack(masks).astype(bool), np.array(labels)


class TestSamePictureEverywhere:
    @pytest.mark.parametrize("seed, index", PINNED)
    def test_picture_has_its_pinned_checksum(self, seed, index):
        assert _checksum(seed, index) == PINNED[seed, index]

    def test_picture_does_not_depend_on_what_was_drawn_before(self):
        forwards = [_checksum(3, index) for index in range(6)]
        backwards = [_checksum(3, index) for index in reversed(range(6))]
        assert forwards == backwards[::-1]

    def test_drawing_into_a_picture_leaves_the_next_one_alone(self):
        before = _checksum(0, 1)
        image, mask, _ = draw(0, 1, 64)
        image[:], mask[:] = 0, 0
        assert _checksum(0, 1) == before

    def test_seeds_and_indices_name_different_pictures(self):
        assert len({_checksum(seed, index) for seed in range(4) for index in range(0, 24, 6)}) == 16

    def test_mask_is_the_same_shape_at_two_sizes(self):
        for index in range(36):
            small, large = (np.kron(draw(0, index, size)[1], np.ones((192 // size, 192 // size))) for size in (64, 96))
            assert _iou(small > 0, large > 0) > 0.9, index

    def test_image_is_the_same_picture_at_two_sizes(self):
        for index in range(36):
            small, large = (_block_means(draw(0, index, size)[0], 16) for size in (64, 96))
            assert np.abs(small - large).mean() < 4, index


class TestContent:
    def test_shapes_and_types(self):
        image, mask, label = draw(0, 5, 40)
        assert (image.shape, image.dtype) == ((40, 40, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((40, 40), np.uint8)
        assert set(np.unique(mask)) == {0, 1}
        assert CLASSES[label] == "person" and type(label) is int

    def test_classes_are_balanced(self, pictures):
        assert (np.bincount(pictures[2]) == len(pictures[2]) / len(CLASSES)).all()

    def test_figure_fills_a_seventh_to_two_fifths_of_the_picture(self, pictures):
        areas = pictures[1].mean(axis=(1, 2))
        assert areas.min() > 0.15 and areas.max() < 0.42
        assert 0.26 < areas.mean() <= 0.30

    def test_figure_is_not_always_in_the_middle(self, pictures):
        across = np.arange(pictures[1].shape[2]) / pictures[1].shape[2]
        middles = (pictures[1].mean(axis=1) * across).sum(axis=1) / pictures[1].mean(axis=1).sum(axis=1)
        assert middles.std() > 0.05

    def test_figure_differs_from_what_is_right_around_it(self, pictures):
        contrasts = [_contrast_at_the_border(image, mask) for image, mask in zip(*pictures[:2], strict=False)]
        assert np.quantile(contrasts, 0.1) > 0.1

    def test_scenes_are_files_of_the_scikit_image_wheel(self):
        in_wheel = {str(path) for path in files("scikit-image")}
        for name in GREY_SCENES + COLOUR_SCENES:
            assert f"skimage/data/{name}" in in_wheel
            assert scene_path(name).is_file()


class TestErrors:
    @pytest.mark.parametrize("arguments, named", [
        ((0, 0, 15), "size.*15"), ((0, 0, 64.5), "size.*64.5"), ((0, -1, 64), "index.*-1"), ((-2, 0, 64), "seed.*-2"),
    ])
    def test_error_names_the_value(self, arguments, named):
        with pytest.raises(ValueError, match=named):
            draw(*arguments)


class TestFairness:
    """What a segmenter without knowledge of the figures can reach."""

    def test_figure_is_brighter_than_the_rest_in_half_of_the_pictures(self, pictures):
        greys, masks = pictures[0] @ LUMA, pictures[1]
        brighter = [grey[mask].mean() > grey[~mask].mean() for grey, mask in zip(greys, masks, strict=False)]
        assert 0.45 <= np.mean(brighter) <= 0.55

    def test_otsu_does_not_find_the_figure(self, pictures):
        bright = [grey > threshold_otsu(grey) for grey in pictures[0] @ LUMA]
        smaller = [half if half.mean() < 0.5 else ~half for half in bright]
        assert _mean_iou(bright, pictures[1]) <= 0.45
        assert _mean_iou(smaller, pictures[1]) <= 0.50

    def test_two_means_in_colour_do_not_find_the_figure(self, pictures):
        # every other pixel: half the resolution says the same in a quarter of the time
        images, masks = pictures[0][:, ::2, ::2], pictures[1][:, ::2, ::2]
        brighter = [_brighter_of_two_means(image) for image in images]
        assert _mean_iou(brighter, masks) <= 0.45
        assert _mean_iou([~half for half in brighter], masks) <= 0.45

    def test_calling_everything_figure_is_no_answer(self, pictures):
        assert _mean_iou(np.ones_like(pictures[1]), pictures[1]) <= 0.30

    @pytest.mark.parametrize("clue", ["background", "figure", "position"])
    def test_class_does_not_show_in_anything_but_the_shape(self, pictures, clue):
        images, masks, labels = pictures
        features = np.stack([_CLUES[clue](image, mask) for image, mask in zip(images, masks, strict=False)])
        assert _centroid_accuracy(features, labels) < 0.27
        assert _linear_accuracy(features, labels) < 0.27


def _checksum(seed, index):
    image, mask, label = draw(seed, index, 64)
    return hashlib.sha256(image.tobytes() + mask.tobytes() + bytes([label])).hexdigest()[:16]


def _iou(one, other):
    return (one & other).sum() / (one | other).sum()


def _mean_iou(guesses, masks):
    return np.mean([_iou(guess, mask) for guess, mask in zip(guesses, masks, strict=False)])


def _block_means(image, blocks):
    side = len(image) // blocks
    return image.reshape(blocks, side, blocks, side, -1).mean(axis=(1, 3))


def _contrast_at_the_border(image, mask):
    """Distance between the mean colours of the figure and of a ring of 4 pixels around it."""
    near = mask.copy()
    for _ in range(4):
        wider = near.copy()
        wider[1:] |= near[:-1]
        wider[:-1] |= near[1:]
        wider[:, 1:] |= near[:, :-1]
        wider[:, :-1] |= near[:, 1:]
        near = wider
    return np.linalg.norm(image[mask].mean(axis=0) - image[near & ~mask].mean(axis=0))


def _brighter_of_two_means(image):
    pixels, grey = image.reshape(-1, 3), image.reshape(-1, 3) @ LUMA
    second = grey > np.median(grey)
    for _ in range(10):
        centres = pixels[~second].mean(axis=0), pixels[second].mean(axis=0)
        # nearer to the second centre: the side of the plane half-way between the two
        second = pixels @ (centres[1] - centres[0]) > (centres[1] @ centres[1] - centres[0] @ centres[0]) / 2
    return (second if centres[1] @ LUMA > centres[0] @ LUMA else ~second).reshape(image.shape[:2])


def _background_colours(image, mask):
    """Mean colour of the background in each of 4 x 4 blocks; where the figure hides a block, that of the picture."""
    shown = _block_means((~mask).astype(float)[..., None], 4)
    means = _block_means(image * ~mask[..., None], 4) / np.maximum(shown, 1e-9)
    return np.where(shown > 0.02, means, image[~mask].mean(axis=0)).ravel()


def _figure_colours(image, mask):
    return np.concatenate([image[mask].mean(axis=0), image[~mask].mean(axis=0)])


def _position(image, mask):
    rows, columns = np.nonzero(mask)
    return np.array([rows.mean(), columns.mean()]) / len(mask)


_CLUES = {"background": _background_colours, "figure": _figure_colours, "position": _position}


def _centroid_accuracy(features, labels):
    """Share of held-out pictures whose nearest class centre is the right one."""
    half = len(labels) // 2
    centres = np.stack([features[:half][labels[:half] == label].mean(axis=0) for label in range(len(CLASSES))])
    distances = ((features[half:, None] - centres) ** 2).sum(axis=2)
    return (distances.argmin(axis=1) == labels[half:]).mean()


def _linear_accuracy(features, labels):
    """The same for a ridge regression onto the classes."""
    half = len(labels) // 2
    features = (features - features[:half].mean(axis=0)) / features[:half].std(axis=0)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    seen, wanted = features[:half], np.eye(len(CLASSES))[labels[:half]]
    weights = np.linalg.solve(seen.T @ seen + 10 * np.eye(seen.shape[1]), seen.T @ wanted)
    return ((features[half:] @ weights).argmax(axis=1) == labels[half:]).mean()
