"""Near-duplicates: the same picture is found after JPEG and a little light, other pictures are not."""

import io

import numpy as np
import pytest
from PIL import Image

from bipartition.datasets.duplicates import GRID, grey_means, near_duplicates


@pytest.fixture
def pictures():
    """Forty pictures of a few smooth colours, 36 x 36: no multiple of the grid."""
    coarse = np.random.default_rng(0).integers(0, 256, (40, 3, 3, 3)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(one.transpose(1, 2, 0)).resize((36, 36), Image.Resampling.BICUBIC)) for one in coarse]
    return np.stack(large).transpose(0, 3, 1, 2)


def test_means_are_those_of_the_cells(pictures):
    grey = np.tensordot(pictures.astype(float), [0.299, 0.587, 0.114], axes=(1, 0))
    means = grey_means(pictures)
    assert means.shape == (40, GRID * GRID)
    assert means[7, GRID + 2] == pytest.approx(grey[7, 4:8, 8:12].mean(), abs=1e-3)


def test_a_copy_is_found_and_nothing_else(pictures):
    stream = io.BytesIO()
    Image.fromarray(pictures[5].transpose(1, 2, 0)).save(stream, "jpeg", quality=50)
    copy = np.clip(np.asarray(Image.open(stream)).astype(int) + 3, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    val = np.concatenate([pictures[20:], copy[None], pictures[:1]])
    pairs = near_duplicates(pictures[:20], val)
    assert [pair[:2] for pair in pairs] == [(0, 21), (5, 20)]
    assert pairs[0][2] == 0 < pairs[1][2] < 6
    assert near_duplicates(pictures[:20], pictures[20:]) == []
