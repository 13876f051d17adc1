"""What notebooks say besides: photographs of a profile, how a run went, what is other than in the paper, what is left out."""

from collections.abc import Iterable

import pandas as pd

from bipartition import runs
from bipartition.configuration import DEFAULTS, Configuration
from bipartition.datasets.prepare import Prepared, prepare
from bipartition.profiles import Profile, training_command
from bipartition.rows import WARM_UP

__all__ = ["changed_here", "history", "name_stale_runs", "open_photographs"]


def open_photographs(profile: Profile, dataset: str) -> Prepared:
    """A data set of the profile, decoded now if it is not yet; see `bipartition.datasets.prepare.prepare`."""
    return prepare(dataset, profile.size(dataset), profile.options(dataset))


def name_stale_runs(names: Iterable[str], profile: str) -> None:
    """Print which finished runs today's profile, code, data or first weights would make differently: no page has them.

    Parameters
    ----------
    names : iterable of str
        Such as ``"casm/seed0"``.
    profile : str
        As `bipartition.profiles.load_profile` takes it.
    """
    for name in names:
        row, _, seed = name.partition("/seed")
        command = training_command(profile) if row == WARM_UP else training_command(profile, "", row, seed)
        print(f"{name} was made by another configuration than today's and is left out; `{command}` makes it anew, in its place "
              "(first weights are a part of it: was RESNET18_WEIGHTS set then as it is now?)")


def history(profile: Profile, dataset: str, row: str, seed: int) -> pd.DataFrame:
    """``history.csv`` of a run, one line an epoch; what begins with ``val_`` was measured on the validation part."""
    return pd.read_csv(runs.run_folder(profile.name, dataset, row, seed) / "history.csv")


def changed_here(*configurations: Configuration) -> str:
    """What a caption has to say: how pictures, networks and first weights differ from the paper's, where the rows have them."""
    changed: dict[str, list[str]] = {}
    for configuration in configurations:
        for name, value in configuration.decisive().items():
            if name in DEFAULTS and value != DEFAULTS[name] and str(value) not in changed.setdefault(name, []):
                changed[name].append(str(value))
    words = {
        "size": "pictures of {} pixels",
        "autoencoder_width": "auto-encoders of width {} at their first layer",
        "autoencoder_poolings": "with {} poolings" if "autoencoder_width" in changed else "auto-encoders with {} poolings",
        "weights": "first weights drawn at random (the paper does not say which)",
    }
    said = [text.format(" or ".join(changed[name])) for name, text in words.items() if name in changed]
    return f"Other than in the paper: {', '.join(said)}; how method and training are read: see METHOD.md." if said else ""
