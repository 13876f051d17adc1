"""Which masks does an energy prefer?  Asks (7) and (10) about masks that no network made; prints Markdown.

    python benchmarks/which_mask.py [--profile laptop] [--stiffness 0.3 1 3 10] [--pictures 320]

Each mask is given the colours that suit it best: the means of its regions in (7), the minimisers F and B in (10) with that
weight of their variations (`local_colours.minimisers`).  What is left is the energy of a mask; its own variation and area,
which are the same in both, are left out.  For each kind of mask, over the pictures that trials are measured on:

- how many times the truth's energy it has, of the means over the pictures;
- the share of the pictures in which the truth has less.

An energy that always prefers the truth to some kind of mask has 1.00 there, one that cannot tell 0.50.  Empty and full masks
are left out (n are not): any cut has less energy than none.  Nothing is trained.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bipartition.baselines import centred_ellipse, grabcut, two_means
from bipartition.datasets.prepare import prepare
from bipartition.energies import chan_vese, mumford_shah, total_variation
from bipartition.epochs import unit_range
from bipartition.evaluation import foreground_overlap, object_truth
from bipartition.profiles import profile_or
from bipartition.trials import options_of_trials
from limits import grown_and_shrunk, spread, steps
from local_colours import minimisers, require_positive

BATCH = 32


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="laptop", help="a name in profiles/, or the path of a .yaml file")
    parser.add_argument("--stiffness", type=float, nargs="+", default=[0.3, 1, 3, 10], help="of F and B in (10)")
    parser.add_argument("--pictures", type=int, default=320, help="at most so many, two or more")
    options = parser.parse_args()
    for stiffness in options.stiffness:
        require_positive(parser.error, "stiffness", stiffness)
    if options.pictures < 2:
        parser.error(f"--pictures {options.pictures}: it must be 2 or more, so that there is another picture's mask")
    profile = profile_or(parser.error, options.profile)
    dataset = profile.sets["table1"]
    val = prepare(dataset, profile.size(dataset), options_of_trials(profile, dataset)).split("val")
    objects, _ = object_truth(val.masks)
    there = np.flatnonzero(objects.any(axis=(1, 2)))  # at this size
    chosen = there[spread(len(there), options.pictures)]
    images, truth = np.array(val.images[chosen]), torch.from_numpy(objects[chosen])[:, None].float()
    energies = {"(7)": chan_vese} | {f"(10), {stiffness:g}": least_of(stiffness) for stiffness in options.stiffness}
    print(f"| {len(chosen)} pictures of {dataset}, {images.shape[-1]} pixels | n | IoU | {' | '.join(energies)} |")
    print(f"| :-- | --: | --: |{' :-: |' * len(energies)}")
    of_truth: list[Tensor] = []
    for name, mask in masks(images, truth).items():
        halves = (mask.amin(dim=(1, 2, 3)) == 0) & (mask.amax(dim=(1, 2, 3)) == 1)
        found = [energy_of(energy, images, mask) for energy in energies.values()]
        of_truth = of_truth or found
        pairs = [(least[halves], own[halves]) for least, own in zip(of_truth, found, strict=True)]
        cells = [f"{own.mean():.4f}" if found is of_truth else f"{own.mean() / least.mean():.2f}, {preferred(least, own):.2f}"
                 for least, own in pairs]
        overlap, union = foreground_overlap(mask[halves, 0].numpy() == 1, objects[chosen[halves.numpy()]], np.False_)
        print(f"| {name} | {halves.sum()} | {(overlap / union).mean():.2f} | {' | '.join(cells)} |", flush=True)


def masks(images: np.ndarray, truth: Tensor) -> dict[str, Tensor]:
    """Foregrounds to ask about, by name, the truth first: each of shape (N, 1, S, S), 0 or 1."""
    far = 2 * steps(truth.shape[-1])
    grown, shrunk = grown_and_shrunk(truth)
    made = {"centred ellipse": centred_ellipse, "2-means in colour, smaller region": two_means,
            "GrabCut from a centred box": grabcut}
    return {
        "the truth": truth,
        "the truth, grown": grown,
        "the truth, shrunk": shrunk,
        "the truth, moved": truth.roll((far, far), (2, 3)),
        "the truth, mirrored": truth.flip(3),
        "another picture's": truth.roll(1, 0),
    } | {name: torch.from_numpy(baseline(images))[:, None].float() / 255 for name, baseline in made.items()}


def least_of(stiffness: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The energy (10) of a mask with the F and B that suit it best: fidelity and both variations, shape (N,)."""
    def energy(image: Tensor, background_mask: Tensor) -> Tensor:
        foreground, background = minimisers(image, background_mask, stiffness)
        return (mumford_shah(image, background_mask, foreground, background)
                + stiffness * (total_variation(foreground) + total_variation(background)))
    return energy


def energy_of(energy: Callable[[Tensor, Tensor], Tensor], images: np.ndarray, foreground: Tensor) -> Tensor:
    """Energy of each picture, shape (N,)."""
    parts = (slice(first, first + BATCH) for first in range(0, len(images), BATCH))
    return torch.cat([energy(unit_range(torch.from_numpy(images[part])).contiguous(), 1 - foreground[part]) for part in parts])


def preferred(least: Tensor, own: Tensor) -> float:
    """Share of the pictures in which the one is less than the other; equal ones count half."""
    return ((least < own).float() + (least == own).float() / 2).mean().item()


if __name__ == "__main__":
    main()
