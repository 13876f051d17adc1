"""The picture of masks under one judge that keeps learning, and under one that is frozen: results/published/demo/one-judge.png.

    python benchmarks/one_judge.py --to one-judge.png [--profile demo] [--seed 0]

Trains four trials and two warm-ups, or finds them trained: some fifty minutes of one core in float32.  Their numbers are lines
of results/published/demo/one-judge.csv, the last one's of results/published/demo/trials.csv.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from bipartition.evaluation import CUT
from bipartition.figures import choose
from bipartition.lessons import film_strip
from bipartition.profiles import profile_or
from bipartition.tables import two
from bipartition.trials import trial

ONE_THAT_LEARNS_ON = {"judge": "live", "warmup_cuts": 0, "batch_norm": "shared", "initial_foreground": 0.5, "lambda1": 0.0175}
LINES = {
    "classification\nalone, 1 epoch": ("classification_only", ONE_THAT_LEARNS_ON),
    "Chan-Vese,\n1 epoch": ("chan_vese", ONE_THAT_LEARNS_ON),
    "Chan-Vese,\n3 epochs": ("chan_vese", ONE_THAT_LEARNS_ON | {"epochs": 3}),
    "Chan-Vese,\ndemo": ("chan_vese", {}),
}


def main() -> None:
    """Train what is not trained, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--to", type=Path, required=True, help="the picture, a .png")
    parser.add_argument("--profile", default="demo", help="a name in profiles/, or the path of a .yaml file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    profile = profile_or(parser.error, options.profile)
    photographs = profile.prepared("cartoons").split("val")
    chosen = choose(photographs.labels, 8)
    shown = {"picture": np.array(photographs.images[chosen]) / 255, "truth": photographs.masks[chosen, None] > 0}
    for title, (row, settings) in LINES.items():
        folder, found = trial(profile, "cartoons", row, options.seed, settings)
        shown[f"{title}\nIoU {two(found['iou'])}"] = np.load(folder / "masks.npy", mmap_mode="r")[chosen, None] >= CUT
    lines = [torch.from_numpy(pictures).float() for pictures in shown.values()]
    film_strip(lines, sides=list(shown)).savefig(options.to, dpi=200)


if __name__ == "__main__":
    main()
