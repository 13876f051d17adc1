"""What can be had without any training: the floor that a trained row has to rise above.

Each function takes uint8 pictures (N, 3, S, S) and gives uint8 foreground masks (N, S, S), 0 or 255, as the runs
store them. Methods that cut by intensity cannot know which half is the object; they call the smaller half the
object. GrabCut is told that it lies in the middle.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from skimage.filters import threshold_otsu
from skimage.segmentation import chan_vese

ELLIPSE_AREA = 0.3
"""Share of the picture inside `centred_ellipse`: declared once, fitted to nothing."""
CHAN_VESE_STEPS = 60
"""Limit for the classical level-set method, about 17 ms a picture at 64 x 64 and 0.1 s at 224 x 224."""
LLOYD_STEPS = 20
GRABCUT_AREA = 0.5
"""Share of the picture inside the box from which `grabcut` starts: declared once, fitted to nothing."""
GRABCUT_ROUNDS = 5
"""Rounds of colour models and minimum cut: about 8 ms a picture at 64 x 64, 29 ms at 112 x 112, 0.19 s at 224 x 224."""
_LUMA = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
_CHUNK_PIXELS = 2**22


def everything_foreground(images: np.ndarray) -> np.ndarray:
    """Call every pixel foreground: what a mask has to beat to say anything about position."""
    return _stored(~_checked_and_empty(images))


def centred_ellipse(images: np.ndarray) -> np.ndarray:
    """The same disc in the middle of every square picture, an ellipse in the photograph it was squeezed from.

    It covers `ELLIPSE_AREA` of the picture.
    """
    count, height, width = _checked_and_empty(images).shape
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    inside = rows[:, None] ** 2 + columns**2 <= ELLIPSE_AREA / np.pi
    return np.repeat(_stored(inside)[None], count, axis=0)


def otsu(images: np.ndarray) -> np.ndarray:
    """Otsu's cut of the grey values; the smaller half is the object.  A picture of one grey value has no object."""
    return _smaller_halves(images, lambda picture: picture > threshold_otsu(picture))


def two_means(images: np.ndarray) -> np.ndarray:
    """Two clusters of colour by Lloyd's iteration; the smaller is the object.

    Started from the pixels darker and brighter than the mean.  This is Chan-Vese without length and area: two
    constants, each pixel to the nearer one.
    """
    halves = _checked_and_empty(images)
    count, height, width = halves.shape
    step = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, count, step):
        pixels = np.asarray(images[start:start + step], dtype=np.float32).reshape(-1, 3, height * width)
        bright = np.einsum("c,ncp->np", _LUMA, pixels)
        member = bright > bright.mean(axis=1, keepdims=True)
        for _ in range(LLOYD_STEPS):
            inside, outside = _means(pixels, member), _means(pixels, ~member)
            direction = inside - outside
            middle = ((inside + outside) * direction).sum(axis=1, keepdims=True) / 2
            moved = np.einsum("nc,ncp->np", direction, pixels) > middle
            if (moved == member).all():
                break
            member = moved
        halves[start:start + step] = member.reshape(-1, height, width)
    return _stored(smaller_region(halves))


def classical_chan_vese(images: np.ndarray) -> np.ndarray:
    """Chan and Vese's level set on grey values (scikit-image, from a checkerboard); the smaller half is the object.

    Slow, see `CHAN_VESE_STEPS`.
    """
    return _smaller_halves(images, lambda picture: chan_vese(picture, mu=0.1, max_num_iter=CHAN_VESE_STEPS))


def grabcut(images: np.ndarray) -> np.ndarray:
    """GrabCut (Rother, Kolmogorov and Blake 2004) from a box in the middle that covers `GRABCUT_AREA` of the picture.

    What lies outside the box is background for good; inside, mixtures of colours and a minimum cut take turns.  Of
    the classical cuts this is the well-known one that knows, as the ellipse does, only that the object is in the
    middle, and yet follows its contour.  This is what OpenCV is installed for: scikit-image has no GrabCut.

    Slow, see `GRABCUT_ROUNDS`: 2.9 s for 100 pictures of 112 x 112 on one core.  The mask of a picture is the same in
    every batch and with any number of threads.  An object that reaches outside the box gives its colours to the
    background and can be lost altogether: 29 of 100 photographs of VOC 2012 animals got an empty mask.  A picture of
    one colour has no object.
    """
    masks = _checked_and_empty(images)
    height, width = masks.shape[1:]
    rows, columns = (max(1, round(side * GRABCUT_AREA**0.5)) for side in (height, width))
    box = ((width - columns) // 2, (height - rows) // 2, columns, rows)

    def cut(mask: np.ndarray, image: np.ndarray) -> None:
        if (image == image[:, :1, :1]).all():
            return  # also the picture of a single pixel, where nothing is outside the box
        labels, models = np.zeros((height, width), np.uint8), np.zeros((2, 1, 65))
        cv2.setRNGSeed(0)  # the mixtures start from random centres; each thread has a generator of its own
        blue_green_red = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
        cv2.grabCut(blue_green_red, labels, box, *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_RECT)
        mask[:] = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)

    with ThreadPoolExecutor() as pool:  # OpenCV lets go of Python's lock; scikit-image does not, threads only slow it down
        list(pool.map(cut, masks, images))
    return _stored(masks)


BASELINES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "everything_foreground": ("Everything foreground", everything_foreground),
    "centred_ellipse": (f"Centred ellipse, {ELLIPSE_AREA * 100:.0f} % of the picture", centred_ellipse),
    "otsu": ("Otsu, smaller region", otsu),
    "two_means": ("2-means in colour, smaller region", two_means),
    "classical_chan_vese": ("Classical Chan-Vese, smaller region", classical_chan_vese),
    "grabcut": (f"GrabCut from a centred box, {GRABCUT_AREA * 100:.0f} % of the picture", grabcut),
}
"""Name -> (title, function), from the simplest to the slowest."""


def grey(images: np.ndarray) -> np.ndarray:
    """Luminance in [0, 1], shape (N, S, S), of uint8 pictures (N, 3, S, S)."""
    return np.einsum("c,nchw->nhw", _LUMA, np.asarray(images, dtype=np.float32)) / 255


def smaller_region(halves: np.ndarray) -> np.ndarray:
    """Flip those boolean masks (N, S, S) that cover more than half of their picture."""
    return halves ^ (halves.mean(axis=(1, 2)) > 0.5)[:, None, None]


def _smaller_halves(images: np.ndarray, cut: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The smaller half of each picture as `cut` divides its grey values; nothing where all are one value."""
    halves = _checked_and_empty(images)
    for half, image in zip(halves, images, strict=True):
        picture = grey(image[None])[0]
        if np.ptp(picture) > 0:
            half[:] = cut(picture)
    return _stored(smaller_region(halves))


def _means(pixels: np.ndarray, member: np.ndarray) -> np.ndarray:
    weight = member.astype(np.float32)
    return np.einsum("ncp,np->nc", pixels, weight) / np.maximum(weight.sum(axis=1, keepdims=True), 1)


def _stored(masks: np.ndarray) -> np.ndarray:
    return masks.astype(np.uint8) * np.uint8(255)


def _checked_and_empty(images: np.ndarray) -> np.ndarray:
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"pictures are {images.dtype} of shape {images.shape}; expected uint8 of shape (N, 3, S, S)")
    return np.zeros((len(images), *images.shape[2:]), dtype=bool)
