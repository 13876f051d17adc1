"""Profiles: all that differs between "one minute" and "the paper", read from ``profiles/*.yaml`` and checked at once."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from bipartition import runs
from bipartition.configuration import NAMED, WARM_UP_SETTINGS, Configuration, SettingError
from bipartition.datasets import NAMES, WITH_TRUTH, check_options
from bipartition.rows import ROWS

if TYPE_CHECKING:
    from bipartition.datasets.prepare import Prepared

SETS = ("table1", "gallery")
"""What a profile needs a data set for: Table 1 and Figure 6; Figures 4 and 5."""

RESERVED = ("published", "trials")
"""Folders in ``results/`` that are no profile's."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One file of ``profiles/``.

    Attributes
    ----------
    name : str
        The file's name without ``.yaml``; results go to ``results/<name>/``.
    about : str
        One sentence: what to expect.
    sets : mapping
        ``table1`` and ``gallery``: the data set of Table 1 and Figure 6, and that of Figures 4 and 5.
    seeds, rows : tuple
        What is trained unless the command line says otherwise.
    data : mapping
        Options of `open_dataset` for each data set.
    training, per_row, per_dataset : mapping
        Fields of `Configuration` for all runs, for one row, for one data set.
    """

    name: str
    about: str
    sets: Mapping[str, str]
    seeds: tuple[int, ...]
    rows: tuple[str, ...]
    data: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    per_row: Mapping[str, Mapping[str, Any]]
    per_dataset: Mapping[str, Mapping[str, Any]]

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets in use, each once, that of Table 1 first."""
        return tuple(dict.fromkeys(self.sets[name] for name in SETS))

    @property
    def folder(self) -> Path:
        """``results/<name>/``."""
        return runs.results_root() / self.name

    def size(self, dataset: str) -> int:
        """Width and height in pixels of the pictures of one data set, whether the profile trains on it or not."""
        return {**self.training, **self.per_dataset.get(dataset, {})}.get("size", Configuration.size)

    def options(self, dataset: str) -> dict[str, Any]:
        """Options of `open_dataset` for one data set."""
        return dict(self.data.get(dataset, {}))

    def prepared(self, dataset: str) -> "Prepared":
        """The pictures of one data set, decoded now if they are not yet; see `bipartition.datasets.prepare.prepare`."""
        from bipartition.datasets.prepare import prepare  # a second ``make reproduce`` opens no pictures
        return prepare(dataset, self.size(dataset), self.options(dataset))


def profile_or(refuse: Callable[[str], NoReturn], name: str) -> Profile:
    """`load_profile` for a command line, whose parser refuses what is wrong: ``profile_or(parser.error, options.profile)``."""
    try:
        return load_profile(name)
    except ValueError as error:
        refuse(str(error))


def profile_names() -> list[str]:
    """Names of the profiles that the project brings."""
    return sorted(path.stem for path in runs.profiles_root().glob("*.yaml"))


def load_profile(name: str | Path) -> Profile:
    """Read and check a profile, by name or by the path of a ``.yaml`` file.

    Raises
    ------
    ValueError
        For an unknown profile, key, row, data set or setting, and for a value that a run would refuse: before anything
        starts, with the file, the key and the allowed names.
    """
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        path = runs.profiles_root() / f"{name}.yaml"
        if str(name) not in profile_names():
            raise ValueError(
                f"unknown profile {str(name)!r}; the profiles are {', '.join(profile_names())}, or the "
                "path of a .yaml file"
            )
    try:
        raw = path.read_bytes() if path.is_file() else None
    except OSError as error:  # forbidden, or a name that is too long
        raise ValueError(f"the profile {path} cannot be read: {error.strerror}; check its name and its permissions") from error
    if raw is None:
        raise ValueError(f"there is no profile file {path}")
    if path.stem in profile_names() and path.resolve().parent != runs.profiles_root().resolve():
        raise ValueError(f"{path}: {path.stem} is a profile of the project, whose results this one would replace; give the "
                         "file another name")
    if path.stem in RESERVED:
        raise ValueError(f"{path}: results/{path.stem}/ is not for the results of a profile; give the file another name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", path.stem):
        raise ValueError(f"{path}: a profile's name becomes a folder; use letters, digits, - and _ only")
    try:
        content = yaml.load(raw.decode("utf-8"), Loader=_EachKeyOnce)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as YAML in UTF-8: {error}") from error
    try:
        profile = _checked(path.stem, content)
        for dataset in dict.fromkeys((*profile.datasets, *profile.per_dataset)):
            for row in ROWS:
                _check_merged(profile, dataset, row)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return profile


def configuration_for(profile: Profile, dataset: str, row: str, seed: int) -> Configuration:
    """The configuration of one run: profile, then profile for this data set, then row, then profile for this row.

    Raises
    ------
    ValueError
        For an unknown row, or a data set that the profile does not use.
    """
    _only_known("row", [row], ROWS)
    _only_known("data set", [dataset], profile.datasets)
    return _merged(profile, dataset, row, seed)


def _merged(profile: Profile, dataset: str, row: str, seed: int) -> Configuration:
    return Configuration.build(
        {"row": row, "dataset": dataset, "seed": seed},
        profile.training,
        profile.per_dataset.get(dataset, {}),
        ROWS[row].settings,
        profile.per_row.get(row, {}),
    )


def _check_merged(profile: Profile, dataset: str, row: str) -> None:
    """Refuse what a run would refuse, and say where it stands: in the profile, or among what the row itself asks for."""
    try:
        read = _merged(profile, dataset, row, 0).decisive()
    except SettingError as error:
        places = {f"per_row: {row}": profile.per_row.get(row, {}),
                  f"settings of {row} in bipartition/rows.py": ROWS[row].settings,
                  f"per_dataset: {dataset}": profile.per_dataset.get(dataset, {}), "training": profile.training}
        where = next((f"{place}: " for place, settings in places.items() if error.setting in settings), "")
        raise ValueError(f"{where}{error}") from error
    if unread := sorted(profile.per_row.get(row, {}).keys() - read.keys()):
        raise ValueError(f"per_row: {row}: {unread[0]}: this row does not read it, with the other settings as they are; take "
                         "it out, or set it in training for the rows that do")


class _EachKeyOnce(yaml.SafeLoader):
    """YAML whose mappings hold each key once; PyYAML would let the last one win."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"the key {key.value!r} is there twice; keep one of them", key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def _checked(name: str, content: Any) -> Profile:
    if not isinstance(content, dict):
        raise ValueError("a profile is a list of `key: value` lines")
    keys = [item.name for item in fields(Profile) if item.name != "name"]
    _only_known("key", content, keys)
    missing = [key for key in ("about", "sets", "seeds", "rows", "training") if key not in content]
    if missing:
        raise ValueError(f"the key {missing[0]!r} is missing")
    for key in ("sets", "data", "training", "per_row", "per_dataset"):
        content[key] = _mapping(key, content.get(key))
    for key in ("data", "per_row", "per_dataset"):
        content[key] = {inner: _mapping(f"{key}: {inner}", value) for inner, value in content[key].items()}
    _check_sets(content)
    _check_rows(content["rows"])
    _check_settings(content)
    _check_seeds(content["seeds"])
    for key in ("seeds", "rows"):
        if twice := [one for place, one in enumerate(content[key]) if one in content[key][:place]]:
            raise ValueError(f"{key}: {twice[0]} is there twice; name each once")
    frozen = {key: _frozen(content[key]) for key in ("sets", "data", "training", "per_row", "per_dataset")}
    return Profile(name=name, about=str(content["about"]), seeds=tuple(content["seeds"]), rows=tuple(content["rows"]), **frozen)


def _check_sets(content: Mapping[str, Any]) -> None:
    """Which data sets, with which options."""
    _only_known("key of sets", content["sets"], SETS)
    if set(content["sets"]) != set(SETS):
        raise ValueError(f"sets needs both {' and '.join(SETS)}")
    _only_known("data set", [*content["sets"].values()], NAMES)
    for key in ("data", "per_dataset"):
        _only_known(f"data set in {key}", content[key], NAMES)
    for dataset, options in content["data"].items():
        check_options(dataset, options)
    if content["sets"]["table1"] not in WITH_TRUTH:
        raise ValueError(f"sets: table1: {content['sets']['table1']} has no masks to measure IoU on; those that have are "
                         f"{', '.join(WITH_TRUTH)} (WITH_TRUTH of bipartition.datasets)")


def _check_rows(rows: Any) -> None:
    if not rows:
        raise ValueError(f"rows is empty; name one at least of {', '.join(ROWS)}")
    if not isinstance(rows, list):
        raise ValueError(f"rows = {rows!r}; it must be a list such as [casm, chan_vese]")
    _only_known("row", rows, ROWS)


def _check_settings(content: Mapping[str, Any]) -> None:
    """Which settings stand where; their values are those of a `Configuration`, which refuses them itself."""
    _only_known("row in per_row", content["per_row"], ROWS)
    for row, settings in content["per_row"].items():
        for setting in settings:
            if setting in WARM_UP_SETTINGS:
                raise ValueError(f"per_row: {row}: {setting}: all rows of a data set share its pictures and their warm-up; set "
                                 "it in training or per_dataset")
    named = {"training": content["training"]} | {f"{key}: {inner}": settings for key in ("per_row", "per_dataset")
                                                 for inner, settings in content[key].items()}
    for key, settings in named.items():
        for setting in NAMED & set(settings):
            raise ValueError(f"{key}: {setting}: that is what a run is called by; choose it with rows, seeds and sets")


def _check_seeds(seeds: Any) -> None:
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds = {seeds!r}; it must be a list of whole numbers such as [0, 1]")


def _mapping(key: str, value: Any) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{key} = {value!r}; it must be a list of `name: value` lines")
    return value


def _frozen(mapping: dict) -> Mapping:
    return MappingProxyType(
        {key: _frozen(value) if isinstance(value, dict) else value for key, value in mapping.items()}
    )


def _only_known(what: str, names: Any, known: Any) -> None:
    for name in names:
        if name not in tuple(known):  # a list has no hash
            raise ValueError(f"unknown {what} {name!r}; known are {', '.join(known)}")


def training_command(profile: str, dataset: str = "", row: str = "", seed: int | str = "") -> str:
    """What to type to train a row, or all that is not given; `profile` as `load_profile` takes it."""
    given = {"PROFILE": profile, "DATASETS": dataset, "ROWS": row, "SEEDS": seed}
    return " ".join(["make train", *(f"{name}={shlex.quote(str(value))}" for name, value in given.items() if value != "")])
