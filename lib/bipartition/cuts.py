"""Parts of pictures drawn at random, for who learns what a part says: crops, and cuts by random masks."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bipartition.devices import drawn, sent


def random_crops(image: Tensor, smallest: float, rng: Generator) -> Tensor:
    """A part of each picture, stretched to full size: the usual augmentation of classifiers, a batch at a time.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
    smallest : float in (0, 1]
        Share of the picture's area that the smallest part has, before what is longer or wider than the picture is cut to it:
        above 0.75 parts may be smaller for that.  The largest is the whole picture.
    rng : torch.Generator

    Returns
    -------
    Tensor, shape (N, C, H, W)
        Width and height of a part differ by at most a factor of 4/3.
    """
    count = len(image)
    share = smallest + (1 - smallest) * drawn(torch.rand, count, rng=rng)
    stretch = (math.log(4 / 3) * (drawn(torch.rand, count, rng=rng) - 0.5)).exp()
    extent = torch.stack([share.sqrt() * stretch, share.sqrt() / stretch], dim=1).clamp_max(1)
    centre = (1 - extent) * (2 * drawn(torch.rand, count, 2, rng=rng) - 1)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1], affine[:, :, 2] = extent[:, 0], extent[:, 1], centre
    with torch.autocast(image.device.type, enabled=False):  # which would round places to the fourth part of a pixel
        grid = F.affine_grid(sent(affine, image.device).to(image.dtype), list(image.shape), align_corners=False)
        cropped = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cropped.contiguous(memory_format=torch.channels_last)


def random_cuts(image: Tensor, rng: Generator, *, contours: float = 0.0) -> Tensor:
    """Random masks, from faint shades to sharp blobs, covering any share of the picture.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, H)
    rng : torch.Generator
    contours : float in [0, 1]
        0: smooth landscapes that know nothing of the picture.  Above, each landscape holds a random mix of the picture's
        colours in a weight drawn between 0 and `contours`, so that cuts follow its contours as those of (7) do.

    Returns
    -------
    Tensor, shape (N, 1, H, H), in (0, 1)
    """
    count, channels, size, _ = image.shape
    landscape = torch.zeros(count, 1, size, size, device=image.device)
    for grid, height in ((3, 1.0), (7, 0.7)):
        coarse = sent(drawn(torch.randn, count, 1, grid, grid, rng=rng), image.device)
        landscape += height * F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    landscape = _standard(landscape)
    if contours:
        mix = sent(drawn(torch.randn, count, channels, 1, 1, rng=rng), image.device)
        weight = sent(contours * drawn(torch.rand, count, 1, 1, 1, rng=rng), image.device)
        mixed = (mix * image).sum(dim=1, keepdim=True)
        colours = _standard(F.avg_pool2d(mixed, 5, stride=1, padding=2, count_include_pad=False))
        landscape = _standard((1 - weight) * landscape + weight * colours)
    level = 3.2 * drawn(torch.rand, count, 1, 1, 1, rng=rng) - 1.6
    sharpness = torch.exp(0.5 + 3.5 * drawn(torch.rand, count, 1, 1, 1, rng=rng))
    return torch.sigmoid(sent(sharpness, image.device) * (landscape - sent(level, image.device)))


def cuts_of_some(image: Tensor, share: float, rng: Generator, contours: float) -> Tensor:
    """`random_cuts` of as large a share of the pictures; 1, which is all, of the others."""
    cut = sent(drawn(torch.rand, len(image), 1, 1, 1, rng=rng) < share, image.device)
    return torch.where(cut, random_cuts(image, rng, contours=contours), 1.0)


def _standard(landscape: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the pixels of each picture; a flat one stays 0."""
    centred = landscape - landscape.mean(dim=(2, 3), keepdim=True)
    return centred / centred.std(dim=(2, 3), keepdim=True).clamp_min(1e-6)
