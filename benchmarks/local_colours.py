"""What if F and B were computed from the mask, not learnt?  Between Chan-Vese and Mumford-Shah.

    python benchmarks/local_colours.py --width 0.25 [--profile laptop] [--seed 0]
    python benchmarks/local_colours.py --stiffness 1 [--profile laptop] [--seed 0]

Chan-Vese with classification as the profile has it, but for F and B, which stand in place of the regions' means:

- with ``--width`` each pixel has the mean of its region around it, weighed by a Gauss bell whose deviation is `width` times the
  picture's side.  A very wide bell is Chan-Vese, a narrow one makes F and B smooth pictures as (10) wants them;
- with ``--stiffness`` they are what (10) asks for: its minimisers for the mask as it is, with that weight of their variations
  (the settings `lambda3` and `lambda4`).  Very stiff ones are of one colour each.

Either are computed at every step, not learnt by decoders as in Figure 2, and hold still while the mask learns.

Prints what `python -m bipartition.trials` does, measured on the same pictures; the runs go to ``results/local-colours-WIDTH/``
or ``results/minimisers-STIFFNESS/``.
"""

import argparse
import math
import os
from collections.abc import Callable
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from bipartition import learners, runs
from bipartition.energies import region_means
from bipartition.objectives import segmentation_objective
from bipartition.profiles import profile_or
from bipartition.trials import trial

COARSEST = 14
"""Side in pixels from which on a picture is solved at half its size first."""
ROUNDS, ROUNDS_ON_HALVES = 60, 100
"""Of the primal-dual method, on a picture and on each of its halvings: colours are off by 0.005 then, in the mean."""
PRIMAL_STEP = 0.1
"""Of the same, in sizes of its dual step: colours move by tenths, their differences' weights through their whole range."""


def main() -> None:
    """Train it, or find it trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--width", type=float, help="means within bells: their deviation, in sides of the picture")
    kind.add_argument("--stiffness", type=float, help="the minimisers of (10): the weight of their variations")
    parser.add_argument("--profile", default="laptop", help="a name in profiles/, or the path of a .yaml file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    compute: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
    name, folder, compute = (("width", "local-colours", local_colours) if options.stiffness is None else
                             ("stiffness", "minimisers", minimisers))
    value = getattr(options, name)
    require_positive(parser.error, name, value)
    profile = profile_or(parser.error, options.profile)

    def energy(image: Tensor, partition: learners.Partition) -> dict[str, Tensor]:
        mask = partition.background_mask
        return segmentation_objective(image, mask, compute(image, mask, value))

    learners.ENERGIES = {**learners.ENERGIES, "chan_vese": energy}
    os.environ["BIPARTITION_RESULTS"] = str(runs.results_root() / f"{folder}-{value:g}")
    place, result = trial(profile, profile.sets["table1"], "chan_vese", options.seed, {})
    print("  ".join([f"{name} {value:g}  seed {options.seed}", *(f"{key} {number}" for key, number in result.items()),
                     str(place)]))


def require_positive(refuse: Callable[[str], NoReturn], name: str, value: float) -> None:
    """Tell `refuse` of an option's value that is no finite number greater than 0."""
    if not 0 < value < math.inf:  # nor is nan
        refuse(f"--{name} {value}: it must be a finite number greater than 0")


@torch.no_grad()
def local_colours(image: Tensor, background_mask: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """F and B: around each pixel the mean colour of the foreground ``1 - phi``, of the background ``phi``.

    Parameters
    ----------
    image : Tensor, shape (N, 3, S, S)
    background_mask : Tensor, shape (N, 1, S, S), in [0, 1]
        The paper's phi.
    width : float
        Deviation of the bell that weighs the pixels around, in sides S.

    Returns
    -------
    F, B : Tensor, shape (N, 3, S, S)
    """
    places = torch.arange(image.shape[-1], dtype=image.dtype, device=image.device) / (width * image.shape[-1])
    bell = torch.exp(-(places[:, None] - places).square() / 2)
    # Far from a region its bell weighs nothing; there its own colour is as good as any, as the mask is not there.
    return tuple((bell @ (region * image) @ bell) / (bell @ region @ bell).clamp_min(1e-6)
                 for region in (1 - background_mask, background_mask))


@torch.no_grad()
def minimisers(image: Tensor, background_mask: Tensor, stiffness: float) -> tuple[Tensor, Tensor]:
    """F and B of (10) for a mask that is given: a convex problem for each, `smoothest`.

    Parameters
    ----------
    image : Tensor, shape (N, 3, S, S)
    background_mask : Tensor, shape (N, 1, S, S), in [0, 1]
        The paper's phi.
    stiffness : float
        Weight of the variations of F and of B.

    Returns
    -------
    F, B : Tensor, shape (N, 3, S, S)
    """
    regions = torch.cat([1 - background_mask, background_mask])
    return smoothest(torch.cat([image, image]).contiguous(), regions, stiffness).chunk(2)


def smoothest(image: Tensor, region: Tensor, stiffness: float, rounds: int = ROUNDS) -> Tensor:
    """The u with the least ``mean(region (I - u)^2) + stiffness * total_variation(u)``, the nearer the more rounds.

    By the primal-dual method of Chambolle and Pock [1]_: the variation is the largest sum of differences times weights within
    plus or minus `stiffness`, and u and the weights step in turn.  Colours spread by a pixel a round; so pictures are solved at
    half their size first, where the variation weighs half, and what was found there is where the rounds begin.

    Parameters
    ----------
    image : Tensor, shape (N, C, S, S)
    region : Tensor, shape (N, 1, S, S), in [0, 1]
    stiffness : float
    rounds : int
        On the picture itself.

    Returns
    -------
    Tensor, shape (N, C, S, S)

    References
    ----------
    .. [1] Chambolle, Pock: A first-order primal-dual algorithm for convex problems with applications to imaging, JMIV 2011.
    """
    return _solved(image, region, stiffness, rounds)[0]


def _solved(image: Tensor, region: Tensor, stiffness: float, rounds: int) -> tuple[Tensor, list[Tensor]]:
    """The same u, and the weights of its differences along columns and along rows."""
    side = image.shape[-1]
    if side % 2 == 0 and side > COARSEST:
        share = F.avg_pool2d(region, 2)
        half = F.avg_pool2d(region * image, 2) / share.clamp_min(1e-6)
        u, weights = _solved(half, share, stiffness / 2, ROUNDS_ON_HALVES)
        u = F.interpolate(u, size=(side, side), mode="bilinear")
        weights = [2 * F.interpolate(weight, size=torch.diff(u, dim=axis).shape[2:], mode="bilinear")
                   for axis, weight in zip((2, 3), weights, strict=True)]
    else:
        u = region_means(image, 1 - region)[0].expand_as(image)
        weights = [torch.zeros_like(torch.diff(u, dim=axis)) for axis in (2, 3)]
    step = PRIMAL_STEP / (math.sqrt(8) * stiffness)  # times the other it must not exceed 1/8, the differences' squared norm
    pull = 2 * step * region
    shown, ahead = pull * image, u
    for _ in range(rounds):
        before, u = u, u.clone()
        for axis, weight in zip((2, 3), weights, strict=True):
            weight.add_(torch.diff(ahead, dim=axis), alpha=1 / (8 * step)).clamp_(-stiffness, stiffness)
            u.narrow(axis, 0, side - 1).add_(weight, alpha=step)
            u.narrow(axis, 1, side - 1).sub_(weight, alpha=step)
        u.add_(shown).div_(1 + pull)
        ahead = 2 * u - before
    return u, weights


if __name__ == "__main__":
    main()
