"""How local may the colours of the two regions be, before the energy loses its say?  Between Chan-Vese and Mumford-Shah.

    python benchmarks/local_colours.py --width 0.25 [--profile laptop] [--seed 0]

Chan-Vese with classification as the profile has it, but for F and B: in place of the regions' means each pixel has the mean of
its region around it, weighed by a Gauss bell whose deviation is `width` times the picture's side.  A very wide bell is
Chan-Vese, a narrow one makes F and B smooth pictures as (10) wants them; but they are computed from the mask at every step and
not learnt by decoders as in Figure 2.  They hold still while the mask learns.

Prints what `python -m bipartition.trials` does, measured on the same pictures; the runs go to ``results/local-colours-WIDTH/``.
"""

import argparse
import os

import torch
from torch import Tensor

from bipartition import learners, runs
from bipartition.objectives import segmentation_objective
from bipartition.profiles import profile_or
from bipartition.trials import trial


def main() -> None:
    """Train it, or find it trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, required=True, help="deviation of the bell, in sides of the picture")
    parser.add_argument("--profile", default="laptop", help="a name in profiles/, or the path of a .yaml file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.width > 0:  # nor is nan
        parser.error(f"--width {options.width}: it must be greater than 0")
    profile = profile_or(parser.error, options.profile)

    def energy(image: Tensor, partition: learners.Partition) -> dict[str, Tensor]:
        mask = partition.background_mask
        return segmentation_objective(image, mask, local_colours(image, mask, options.width))

    learners.ENERGIES = {**learners.ENERGIES, "chan_vese": energy}
    os.environ["BIPARTITION_RESULTS"] = str(runs.results_root() / f"local-colours-{options.width:g}")
    folder, result = trial(profile, profile.sets["table1"], "chan_vese", options.seed, {})
    print("  ".join([f"width {options.width:g}  seed {options.seed}", *(f"{name} {value}" for name, value in result.items()),
                     str(folder)]))


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


if __name__ == "__main__":
    main()
