"""What a notebook asks for first: the photographs of a profile, and its finished runs."""

import dataclasses

import numpy as np
import pandas as pd

from bipartition import runs
from bipartition.configuration import Configuration
from bipartition.datasets.prepare import Prepared, prepare
from bipartition.profiles import Profile, configuration_for
from bipartition.rows import ROWS
from bipartition.tables import finished_runs

__all__ = ["changed_here", "finished_masks", "history", "open_photographs", "stale_runs"]


def open_photographs(profile: Profile, dataset: str) -> Prepared:
    """A data set of the profile, decoded now if it is not yet; see `bipartition.datasets.prepare.prepare`."""
    return prepare(dataset, profile.size(dataset), profile.options(dataset))


def finished_masks(profile: Profile, dataset: str, row: str, prepared: Prepared) -> tuple[int, np.ndarray] | None:
    """Seed and foreground masks of the finished run with the lowest seed, None if there is no run on these pictures.

    The masks are uint8, shape (N, S, S), ``round(255 (1 - phi))``, in the order of ``prepared.split("val")``.
    """
    shape = prepared.split("val").images.shape
    for seed in finished_runs(profile.name, dataset, row, prepared):
        path = runs.run_folder(profile.name, dataset, row, seed) / "masks.npy"
        if path.is_file():
            masks = np.load(path, mmap_mode="r")
            if masks.shape == (shape[0], *shape[2:]):
                return seed, masks
    return None


def stale_runs(profile: Profile, dataset: str, prepared: Prepared) -> list[str]:
    """Finished runs that today's profile, code or data would make differently, ``row/seed<k>``; they are shown too."""
    return [
        f"{row}/seed{seed}"
        for row in ROWS
        for seed in finished_runs(profile.name, dataset, row, prepared)
        if not runs.is_finished(
            runs.run_folder(profile.name, dataset, row, seed),
            runs.made_by(configuration_for(profile, dataset, row, seed), prepared.checksum),
        )
    ]


def history(profile: Profile, dataset: str, row: str, seed: int) -> pd.DataFrame:
    """``history.csv`` of a run, one line an epoch; what begins with ``val_`` was measured on the validation part."""
    return pd.read_csv(runs.run_folder(profile.name, dataset, row, seed) / "history.csv")


def changed_here(configuration: Configuration) -> str:
    """What a caption has to say: size of networks and training where it is not the paper's."""
    defaults = {item.name: item.default for item in dataclasses.fields(Configuration)}
    words = {
        "size": "pictures of {} pixels",
        "autoencoder_width": "auto-encoders of width {} at their first layer",
        "autoencoder_poolings": "with {} poolings",
        "epochs": "epochs: {}",
        "weights": "first weights: {}",
    }
    said = [
        text.format(getattr(configuration, name))
        for name, text in words.items()
        if getattr(configuration, name) != defaults[name]
    ]
    return f"Smaller than in the paper: {', '.join(said)}." if said else ""
