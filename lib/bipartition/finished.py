"""Finished runs: which of them count today, their masks, and what their networks make of other pictures."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bipartition import files, runs
from bipartition.configuration import DEFAULTS, NAMED, Configuration, warm_up_configuration
from bipartition.datasets.prepare import checksum_at_hand
from bipartition.profiles import Profile, configuration_for, training_command
from bipartition.rows import ANY_WITH_A_CLASSIFIER, ROWS, WARM_UP


def finished_folders(profile: Profile, dataset: str, checksum: str | None,
                     rows: Iterable[str] = (*ROWS, WARM_UP)) -> tuple[dict[str, dict[int, Path]], list[str]]:
    """Folders of the finished runs that count, by row and by seed in ascending order; names of those that do not.

    Parameters
    ----------
    checksum : str or None
        Of the prepared pictures.  None looks for them without fetching or decoding any; where there are none, each run is
        compared with the checksum that it recorded itself.
    """
    checksum = checksum or checksum_at_hand(dataset, profile.size(dataset), profile.options(dataset))
    found: dict[str, dict[int, Path]] = {row: {} for row in rows}
    stale = []
    for row, by_seed in found.items():
        for seed, folder in runs.finished_seeds(profile.name, dataset, row).items():
            data = checksum or files.read_json(folder / "config.json").get("made_by", {}).get("data")
            made_by = made_today(profile, dataset, row, seed, data)
            if made_by and runs.is_finished(folder, made_by):
                by_seed[seed] = folder
            else:
                stale.append(f"{row}/seed{seed}")
    return found, stale


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


def made_today(profile: Profile, dataset: str, row: str, seed: int, checksum: str) -> dict[str, Any] | None:
    """`bipartition.runs.made_by` of a run as today's profile would make it; None for a warm-up that it does not have."""
    if row != WARM_UP:
        return runs.made_by(configuration_for(profile, dataset, row, seed), checksum)
    any_row = configuration_for(profile, dataset, ANY_WITH_A_CLASSIFIER, seed)
    return runs.made_by(warm_up_configuration(any_row), checksum) if any_row.warmup_epochs else None


def first_masks(folders: Mapping[int, Path]) -> tuple[int | None, np.ndarray | None]:
    """Seed and foreground masks of the first of a row's `finished_folders` that has left any; None for both if none has.

    The masks are uint8, shape (N, S, S), ``round(255 (1 - phi))``, in the order of ``prepared.split("val")``.

    Raises
    ------
    ValueError
        If the file of masks is damaged.
    """
    for seed, folder in folders.items():
        if not (path := folder / "masks.npy").is_file():
            continue
        try:
            return seed, np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} holds no masks, or is damaged; delete it, and `make train` makes the run anew") from error
    return None, None


def predicted_masks(folder: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What the network of a finished run makes of pictures of any data set; see `bipartition.prediction.predict`.

    Parameters
    ----------
    folder : Path
        Of the run.
    images : ndarray of uint8, shape (N, 3, S, S)

    Returns
    -------
    foreground_masks : ndarray of uint8, shape (N, S, S)
        ``round(255 (1 - phi))``
    logits : ndarray of float32, shape (N, K), or None for a row without a classifier
        In the order of the classes that the run was trained on.

    Raises
    ------
    ValueError
        If the run was trained at another size than that of the pictures, or its file does not fit today's networks.
    """
    from bipartition.prediction import predict

    size, learner = restored_learner(folder)
    if size != images.shape[-1]:
        raise ValueError(f"{folder} was trained at {size} pixels, the pictures have {images.shape[-1]}; prepare them at its "
                         "size, or train it anew")
    return predict(learner, images, learner.accelerator)


def restored_learner(folder: Path) -> tuple[int, Any]:
    """Side of the pictures that a finished run was trained on, and its `bipartition.learners.Learner` with the trained network.

    Raises
    ------
    ValueError
        If its file does not fit today's networks.
    """
    from bipartition.devices import accelerator_for_this_machine
    from bipartition.learners import build_learner
    from bipartition.networks import Classifier, belongs_to_a_judge, saved_network

    recorded = files.read_json(folder / "config.json")["configuration"]
    known = DEFAULTS.keys() | NAMED
    configuration = Configuration(**{name: value for name, value in recorded.items() if name in known} | {"weights": "none"})
    state, accelerator = saved_network(folder / "model.safetensors"), accelerator_for_this_machine()
    # an auto-encoder has no classifier, and any number of classes will do
    classes = next((len(weight) for name, weight in state.items() if name.endswith("body.fc.weight")), 1)
    learner = build_learner(configuration, Classifier(classes), accelerator)
    own = {name for name in learner.network.state_dict() if not belongs_to_a_judge(name)}
    if own != set(state):
        raise ValueError(f"{folder / 'model.safetensors'} is no network of row {configuration.row}: {len(own ^ set(state))} "
                         "names differ; train it anew")
    learner.network.load_state_dict(state, strict=False)
    learner.network.to(accelerator.device)
    return configuration.size, learner
