"""Photographs of every kind become RGB of one size."""

import numpy as np
import pytest
from PIL import Image

from bipartition.datasets import photographs


def read(picture, path, **options):
    picture.save(path, **options)
    return photographs.read_photograph(path, 8)[0]


def turned_by_the_camera(path):
    """A photograph whose left half is white as stored, and its upper half where the camera's orientation is applied."""
    picture = Image.new("RGB", (40, 20))
    picture.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees: left becomes top
    picture.save(path, exif=exif)


@pytest.mark.parametrize(("picture", "name", "colour"), [
    (Image.new("RGB", (9, 7), (200, 30, 60)), "a.png", (200, 30, 60)),
    (Image.new("L", (9, 7), 77), "a.jpg", (77, 77, 77)),
    (Image.new("CMYK", (9, 7), (0, 255, 255, 0)), "a.tif", (255, 0, 0)),
    (Image.fromarray(np.full((7, 9), 257 * 99, np.uint16)), "a.png", (99, 99, 99)),
    (Image.new("RGB", (9, 7), (200, 30, 60)).quantize(4), "a.png", (200, 30, 60)),
    (Image.new("RGBA", (9, 7), (0, 0, 0, 0)), "a.png", (255, 255, 255)),
    (Image.new("LA", (9, 7), (40, 255)), "a.png", (40, 40, 40)),
    (Image.new("1", (9, 7), 1), "a.png", (255, 255, 255)),
], ids=["RGB", "grey", "CMYK", "16-bit", "palette", "transparent", "grey and alpha", "bilevel"])
def test_every_kind_becomes_rgb(tmp_path, picture, name, colour):
    image = read(picture, tmp_path / name)
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - colour).max() <= 2


def test_grey_in_floating_point_is_spread(tmp_path):
    ramp = np.linspace(-1, 3, 64, dtype=np.float32).reshape(8, 8)
    image = read(Image.fromarray(ramp), tmp_path / "a.tif")
    assert image[..., 0].ravel().tolist() == np.linspace(0, 255, 64).round().astype(int).tolist()
    assert read(Image.new("F", (9, 7), 0.5), tmp_path / "b.tif").max() == 0


def test_orientation_of_the_camera_is_applied(tmp_path):
    turned_by_the_camera(tmp_path / "a.jpg")
    image, original = photographs.read_photograph(tmp_path / "a.jpg", 8)
    assert original == (20, 40) and image[0].mean() > 240 and image[-1].mean() < 15


def test_without_it_pixels_lie_as_stored(tmp_path):
    turned_by_the_camera(tmp_path / "a.jpg")
    image, original = photographs.read_photograph(tmp_path / "a.jpg", 8, turned=False)
    assert original == (40, 20) and image[:, 0].mean() > 240 and image[:, -1].mean() < 15


def test_shrinking_averages_instead_of_skipping(tmp_path):
    checks = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    assert np.abs(read(checks, tmp_path / "a.png").astype(int) - 127).max() <= 3


@pytest.mark.parametrize("size", [40, 20, 10])
def test_a_photograph_and_its_mask_keep_the_same_edges(tmp_path, size):
    truth = np.zeros((40, 80), np.uint8)
    truth[12:28, 16:56] = 1
    Image.fromarray(255 * truth).save(tmp_path / "photograph.png")
    Image.fromarray(truth).save(tmp_path / "mask.png")
    image, mask = photographs.read_with_mask(tmp_path / "photograph.png", tmp_path / "mask.png", size,
                                             codes={0: "background", 1: "object"})
    expected = truth[20 // size::40 // size, 40 // size::80 // size]
    assert np.array_equal(mask, expected) and np.array_equal(image[..., 0] > 127, expected)


def test_a_mask_of_one_bit_holds_the_codes_0_and_1(tmp_path):
    truth = np.array([[False, True], [True, False]]).repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(truth).save(tmp_path / "mask.png")
    found = photographs.read_mask(tmp_path / "mask.png", 8, codes={0: "background", 1: "object"}, expected=(8, 8))
    assert found.dtype == np.uint8 and np.array_equal(found, truth)
