"""Where do the energies of finished runs pull their masks, and how strongly?  Prints Markdown.

    python benchmarks/pull.py [--profile laptop] [--trials]

The fidelity of (7) and (10) pulls a pixel towards the foreground by ``(I - B)^2 - (I - F)^2``, its derivative with respect to
phi: F and B are the regions' two colours in (7), the smooth pictures of Figure 2 in (10).  Where F and B are equal the energy
has no say, and where they differ it may as well pull away from the object.  For each run, means over the pictures that it
was measured on:

- *F and B*: of ``|F - B|``, colours in [0, 1].
- *pull*: of its absolute value, alpha left out.
- *to the object*: of the pull's mean over the object less that over the background; negative is the wrong way.
- *at the truth*: the same if F and B were the two colours of the true regions.
- *F varies*, *B varies*: deviation of the mean colour of F, of B, from picture to picture; 0 is one colour for all.
- *by brightness*: correlation of the mask with the picture's brightness, within a picture.

Looks at true masks, as no training here does.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bipartition import files, runs
from bipartition.datasets.photographs import VOID
from bipartition.datasets.prepare import Prepared, Split, prepare
from bipartition.energies import region_means
from bipartition.epochs import unit_range
from bipartition.finished import finished_folders, restored_learner
from bipartition.learners import Learner
from bipartition.profiles import Profile, configuration_for, profile_or
from bipartition.rows import ROWS
from bipartition.trials import options_of_trials, summary

COLUMNS = ("row", "seed", "other settings", "IoU", "F and B", "pull", "to the object", "at the truth",
           "F varies", "B varies", "by brightness")
BATCH = 64


def main() -> None:
    """A line for every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="laptop", help="a name in profiles/, or the path of a .yaml file")
    parser.add_argument("--trials", action="store_true", help="those of `python -m bipartition.trials`, not the profile's runs")
    options = parser.parse_args()
    profile = profile_or(parser.error, options.profile)
    dataset = profile.sets["table1"]
    told = options_of_trials(profile, dataset) if options.trials else profile.options(dataset)
    prepared = prepare(dataset, profile.size(dataset), told)
    found = _trials(prepared) if options.trials else _runs(profile, prepared)
    if not found:
        parser.exit(1, f"error: no run with an energy on {dataset} is finished under {runs.results_root()}\n")
    print(f"| {' | '.join(COLUMNS)} |\n| :-- | :-: | :-- |{' --: |' * (len(COLUMNS) - 3)}")
    for folder in found:
        configuration = files.read_json(folder / "config.json")["configuration"]
        changed = _changed(profile, configuration)
        numbers = " | ".join(f"{value:.3f}" for value in (summary(folder)["iou"], *measured(folder, prepared.split("val"))))
        print(f"| {configuration['row']} | {configuration['seed']} | {changed} | {numbers} |", flush=True)


def measured(folder: Path, val: Split) -> list[float]:
    """The last seven of `COLUMNS` for a run."""
    _, learner = restored_learner(folder)
    learner.network.eval()
    numbers, colours = map(torch.cat, zip(*_by_batch(learner, val), strict=True))
    *means, brightness = numbers.nanmean(dim=0).tolist()
    return [*means, *colours.std(dim=0).mean(dim=1).tolist(), brightness]


@torch.no_grad()
def _by_batch(learner: Learner, val: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """For N pictures what is averaged, shape (N, 5), and the mean colours of F and B, shape (N, 2, 3)."""
    device = learner.accelerator.device
    for first in range(0, len(val.labels), BATCH):
        image = unit_range(torch.from_numpy(np.array(val.images[first:first + BATCH])).to(device))
        truth = torch.from_numpy(np.array(val.masks[first:first + BATCH]))[:, None].to(device)
        with learner.accelerator.autocast():
            partition = learner.network.segment(image)
        regions = ((truth > 0) & (truth < VOID)).float(), (truth == 0).float()
        own = partition.matrices or region_means(image, partition.background_mask)
        forces, at_the_truth = pull(image, *own), pull(image, *_means(image, *regions))
        numbers = ((own[0] - own[1]).abs(), forces.abs(), towards(forces, *regions), towards(at_the_truth, *regions),
                   correlation(1 - partition.background_mask, image.mean(dim=1, keepdim=True)))
        colours = torch.stack([each.mean(dim=(2, 3)) for each in own], dim=1)
        yield torch.stack([each.mean(dim=(1, 2, 3)) for each in numbers], dim=1).cpu(), colours.cpu()


def pull(image: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """``(I - B)^2 - (I - F)^2``, the mean over colours: positive towards the foreground; shape (N, 1, H, W)."""
    return ((image - background).square() - (image - foreground).square()).mean(dim=1, keepdim=True)


def towards(forces: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Mean over the object less mean over the background, shape (N, 1, 1, 1); not a number where a picture lacks one."""
    at_object, around = _means(forces, inside, outside)
    return at_object - around


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Of two maps over their pixels, shape (N, 1, 1, 1); not a number where one is constant."""
    one, other = (each - each.mean(dim=(2, 3), keepdim=True) for each in (one, other))
    products = [(a * b).sum(dim=(2, 3), keepdim=True) for a, b in ((one, other), (one, one), (other, other))]
    return products[0] / (products[1] * products[2]).sqrt()


def _means(image: Tensor, *regions: Tensor) -> list[Tensor]:
    """As `bipartition.energies.region_means`, for regions that leave pixels out; an empty one has no number."""
    return [(image * region).sum(dim=(2, 3), keepdim=True) / region.sum(dim=(2, 3), keepdim=True) for region in regions]


def _runs(profile: Profile, prepared: Prepared) -> list[Path]:
    folders, _ = finished_folders(profile, prepared.name, prepared.checksum, [name for name in ROWS if ROWS[name].energy])
    return [folder for seeds in folders.values() for folder in seeds.values()]


def _trials(prepared: Prepared) -> list[Path]:
    """Those with an energy, trained at the size of the pictures."""
    folders = [path.parent for path in
               sorted((runs.results_root() / "trials" / "runs").glob(f"{prepared.name}-*/*/seed*/metrics.json"))]
    read = [files.read_json(folder / "config.json")["configuration"] for folder in folders]
    return [folder for folder, configuration in zip(folders, read, strict=True)
            if configuration["size"] == prepared.size and getattr(ROWS.get(configuration["row"]), "energy", None)]


def _changed(profile: Profile, configuration: dict[str, Any]) -> str:
    """Settings that are other than the profile's."""
    usual = configuration_for(profile, configuration["dataset"], configuration["row"], configuration["seed"]).decisive()
    return ", ".join(f"{name} {configuration[name]}" for name, value in usual.items()
                     if json.dumps(configuration.get(name)) != json.dumps(value))


if __name__ == "__main__":
    main()
