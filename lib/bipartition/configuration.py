"""The one configuration object: what a training run is made of, and the readings of the paper behind it.

A value comes from five places, the later the stronger: the default here, the profile (``profiles/*.yaml``) for all rows, the
profile for one data set, the row (`bipartition.rows`), the profile for one row.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bipartition.rows import ROWS, WARM_UP

if TYPE_CHECKING:
    import pandas as pd

_ALL_READ = frozenset({"row", "dataset", "seed", "size", "batch_size", "epochs", "crops", "optimiser"})
WARM_UP_SETTINGS = ("size", "warmup_batch_size", "warmup_epochs", "warmup_rate", "warmup_cuts", "warmup_crops",
                    "warmup_contours", "weights", "optimiser")
"""What a row's configuration says of the warm-up, which all rows of a data set share."""
_WITH_A_CLASSIFIER = frozenset(WARM_UP_SETTINGS) | {"classifier_rate", "decoder_rate"}
_ENERGY = frozenset({"decoder_rate", "alpha", "area_weight", "lambda1", "lambda2", "lambda3", "lambda4"})
READS = {
    WARM_UP: _ALL_READ | {"warmup_cuts", "warmup_contours", "weights", "classifier_rate"},
    "casm": _ALL_READ | _WITH_A_CLASSIFIER | {"casm_area"},
    "autoencoder": _ALL_READ | _ENERGY | {"autoencoder_width", "autoencoder_poolings"},
    "bipartition": _ALL_READ | _WITH_A_CLASSIFIER | _ENERGY | {
        "matrix_rate", "background_probability", "classifier_learns", "judge", "judge_turns", "judge_crops", "batch_norm",
        "regularised", "mask", "features", "initial_foreground"},
}
"""Settings that decide the result of the bare classifier and of each kind of network; no other changes it."""
READ_WITH = {
    None: frozenset({"regularised"}),
    "chan_vese": frozenset(),
    "mumford_shah": frozenset({"lambda3", "lambda4", "matrix_rate"}),
}
"""Those of `READS` that one energy alone reads; None is a row without."""


class SettingError(ValueError):
    """A setting that no run has, or a value that it may not have; `setting` is its name."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True)
class Range:
    """What a number may be: as the table of readings shows it, as an error says it, and the test."""

    shown: str
    said: str
    holds: Callable[[float], bool]


ABOVE_0 = Range("> 0", "greater than 0", lambda value: value > 0)
FROM_0 = Range(">= 0", "0 or greater", lambda value: value >= 0)
SHARE = Range("in [0, 1]", "between 0 and 1", lambda value: 0 <= value <= 1)
PROPER_SHARE = Range("in (0, 1)", "between 0 and 1", lambda value: 0 < value < 1)
SOME_SHARE = Range("in (0, 1]", "greater than 0 and at most 1", lambda value: 0 < value <= 1)
POOLINGS = Range("in [1, 5]", "from 1 to 5, VGG-16's number", lambda value: 1 <= value <= 5)


def reading(default: Any, *, alternatives: tuple | Range, why: str, where: str, remark: str = "") -> Any:
    """A field that the paper leaves open: default, the alternatives that the code knows, why, and the place in the paper.

    `remark` is what the table says of the alternatives beside their range.
    """
    return field(default=default, metadata={"allowed": alternatives, "why": why, "where": where, "remark": remark})


def number(allowed: Range, default: Any = dataclasses.MISSING) -> Any:
    """A field that is no reading: the run's seed, or the size of the experiment."""
    return field(default=default, metadata={"allowed": allowed})


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that decides the result of one run.

    Fields made with `reading` are open points of the paper; `readings_table` prints them.  The others are the size of the
    experiment.  Two runs with equal configurations, data and weights give the same result on the CPU.

    Raises
    ------
    SettingError
        For a value outside its alternatives or its range; the message names field, value and what is allowed.
    """

    row: str
    dataset: str
    seed: int = number(FROM_0)
    size: int = number(ABOVE_0, 224)
    batch_size: int = number(ABOVE_0, 32)
    epochs: int = number(ABOVE_0, 20)
    warmup_batch_size: int = number(ABOVE_0, 32)
    autoencoder_width: int = number(ABOVE_0, 64)
    autoencoder_poolings: int = number(POOLINGS, 5)

    warmup_epochs: int = reading(
        5, alternatives=FROM_0, remark="0 = train everything from the first step", where="algorithms 1 and 2",
        why="a classifier that knows nothing lets the area term push the foreground to nothing in the first epoch")
    warmup_cuts: float = reading(
        0.0, alternatives=SHARE, where="not said",
        why="share of warm-up pictures that are shown through a random smooth mask, so that the classifier knows what part "
            "of a picture says how much")
    warmup_crops: float = reading(
        1.0, alternatives=SOME_SHARE, where="not said",
        why="smallest share of a picture that the warm-up crops and stretches to full size; 1 crops nothing")
    warmup_contours: float = reading(
        0.0, alternatives=SHARE, where="not said",
        why="how closely the cuts of the warm-up may follow the picture's own colours; 0 are blobs that know nothing of it, "
            "and a judge that saw no others takes a blob about the object for better evidence than the object alone")
    crops: float = reading(
        1.0, alternatives=SOME_SHARE, where="not said",
        why="smallest share of a picture that is cropped, and stretched, for the decoders to learn from; 1 shows all of it")
    weights: str = reading(
        "imagenet", alternatives=("imagenet", "none"), where="4.1 \"we use ResNet-18 as a classifier\"",
        why="CASM, whose structure the paper exploits, starts from ImageNet")
    alpha: float = reading(
        1.0, alternatives=ABOVE_0, where="(6)",
        why="never given, and missing from (19) and (22); scales energy and regularisers alike, as (6) is written")
    lambda1: float = reading(
        1.0, alternatives=FROM_0, where="(7), (10), (15)",
        why="weight of |1 - phi|, which punishes foreground; never given")
    area_weight: str = reading(
        "constant", alternatives=("constant", "share", "root"), where="(7), (10), (15)",
        why="constant: lambda1, as printed; share: lambda1 times the foreground share of the mini-batch at hand, which pushes "
            "while everything is foreground and lets go as the masks shrink; root: the same on the whole, but on the square "
            "root of each picture's area, which pulls less at a large object and more at a small one")
    lambda2: float = reading(
        1.0, alternatives=FROM_0, where="(7), (10), (15)", why="weight of |grad phi|; never given")
    lambda3: float = reading(
        1.0, alternatives=FROM_0, where="(10)", why="weight of |grad F|; 0 would let F = I explain any mask")
    lambda4: float = reading(
        1.0, alternatives=FROM_0, where="(10)", why="weight of |grad B|; 0 would let B = I explain any mask")
    background_probability: str = reading(
        "softmax", alternatives=("softmax", "sigmoid"), where="(13)",
        why="\"probabilities corresponding to each class\"; with a softmax the minimum is 0 only for two classes")
    classifier_learns: str = reading(
        "everything", alternatives=("everything", "mask", "foreground", "clean", "nothing"), where="(20), (23)",
        why="(20) gives the classifier the gradient of L and of CE(o); mask: all but what comes through F and B, whose fit to "
            "the colours would take the feature maps over; foreground: all but what comes through the scores of the "
            "background picture, so that (13) teaches it nothing but where to cut; clean: CE(o) only; nothing: it stays as "
            "the warm-up left it")
    judge: str = reading(
        "live", alternatives=("live", "snapshot", "turns"), where="3.1 \"like Siamese networks\", (18)",
        why="live: one classifier for all three passes; snapshot: the cut pictures are scored by the classifier as the warm-up "
            "left it, so that it cannot learn to read crumbs; turns: by a copy that learns S of (20) while the masks hold "
            "still, and is frozen while the masks learn")
    judge_turns: int = reading(
        3, alternatives=FROM_0, remark="from 1 to epochs - 1 where judge is turns", where="(20)",
        why="how often the judge has its turn, where judge is turns: after each of the first epochs; more turns, and judge and "
            "masks may agree on a crumb")
    judge_crops: float = reading(
        1.0, alternatives=SOME_SHARE, where="(12), (13)",
        why="smallest share of the cut pictures that is shown to whoever scores them, at random and stretched to full size; 1 "
            "shows them whole. A name has to be there in every part of the object, and in no part of the rest")
    batch_norm: str = reading(
        "shared", alternatives=("shared", "separate", "frozen"), where="Figure 1 \"classifier A\"",
        why="shared: three passes through one network in train mode; separate: only clean pictures move the running "
            "statistics; frozen: running statistics normalise everything after the warm-up")
    regularised: bool = reading(
        True, alternatives=(True, False), where="(12), (15), 3.2.2 and 4.2",
        why="\"only classification loss\" is (12) alone in 4.2, (12) with (15) in 3.2.2, and (12) with the area term in the "
            "text on Figure 4b; false: the first, lambda2 = 0: the last")
    mask: str = reading(
        "soft", alternatives=("soft", "straight_through"), where="3 \"binarized with 0 and 1\"",
        why="soft in training, cut at 0.5 for evaluation and pictures")
    features: str = reading(
        "raw", alternatives=("raw", "even"), where="4.1, the decoders",
        why="raw: the decoders read the feature maps as the classifier gives them; even: each is divided by its mean in the "
            "picture, so that Adam moves all five alike, and not the coarsest ten times as fast")
    initial_foreground: float = reading(
        0.5, alternatives=PROPER_SHARE, where="not said",
        why="share of foreground that the untrained decoder proposes, set by its bias")
    optimiser: str = reading(
        "sgd", alternatives=("sgd", "adam", "sgd+adam"), where="3.3 \"Stochastic Gradient Descent\"",
        why="one SGD with momentum 0.9 for all; sgd+adam is CASM's pair (classifier SGD, decoders Adam)")
    warmup_rate: float = reading(
        0.01, alternatives=ABOVE_0, where="not said", why="rate of the warm-up")
    classifier_rate: float = reading(
        0.01, alternatives=ABOVE_0, where="eta in (20), (23)",
        why="never given; rises over the first tenth of the steps, then falls to zero along half a cosine")
    casm_area: float | None = reading(
        None, alternatives=FROM_0, remark="or null", where="the baseline of Table 1",
        why="lambda_r of CASM. null: its authors' 10 for 1,000 classes, times ln K / ln 1000 for K, as the entropy that it is "
            "weighed against grows")
    decoder_rate: float = reading(
        0.01, alternatives=ABOVE_0, where="eta in (20), (23)", why="never given; the same schedule")
    matrix_rate: float = reading(
        0.01, alternatives=ABOVE_0, where="eta in (23)",
        why="of the decoders of F and B; where these learn before the mask has left its start, the matrix of the larger region "
            "fits better, wins more pixels, and ends with the whole picture")

    def __post_init__(self) -> None:
        _require(self, "row", self.row in (*ROWS, WARM_UP), f"one of {', '.join(map(repr, ROWS))}")
        for kind, value, known in (("network", self.network, READS), ("energy", self.energy, READ_WITH)):
            if value not in known:
                names = ", ".join(map(repr, known))
                raise SettingError("row", f"the {kind} of row {self.row!r} is {value!r}; known are {names}; correct it in "
                                   f"rows.py, or say in bipartition/configuration.py what a new {kind} reads")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            allowed = item.metadata.get("allowed")
            if isinstance(allowed, tuple):
                _require(self, item.name, value in allowed, f"one of {', '.join(map(repr, allowed))}")
            if isinstance(allowed, Range) and not (value is None and item.type == float | None):
                if item.type is int:
                    _require(self, item.name, type(value) is int, "a whole number")
                else:
                    _require(self, item.name, isinstance(value, float) or type(value) is int, "a number")
                    _require(self, item.name, math.isfinite(value), "a finite number")
                _require(self, item.name, allowed.holds(value), allowed.said)
        if self.judge_has_turns:
            _require(self, "judge_turns", 1 <= self.judge_turns < self.epochs, f"from 1 to epochs - 1 = {self.epochs - 1}")
        _require(self, "size", self.size >= 16, "16 or greater: smaller pictures show nothing")
        _require(self, "size", self.size % 4 == 0, "a multiple of 4, the stride of the decoders' grid")
        if self.network == "autoencoder":
            step = 2**self.autoencoder_poolings
            _require(self, "size", self.size % step == 0, f"a multiple of {step} = 2 to the power of autoencoder_poolings")

    @classmethod
    def build(cls, *sources: Mapping[str, Any]) -> "Configuration":
        """Merge mappings, the later the stronger.

        Raises
        ------
        SettingError
            For a name that is no field, with the names that are.
        """
        merged: dict[str, Any] = {}
        types = {item.name: item.type for item in dataclasses.fields(cls)}
        names = list(types)
        for source in sources:
            for name in source:
                if name not in names:
                    near = difflib.get_close_matches(str(name), names, 1)
                    meant = f" (did you mean {near[0]!r}?)" if near else ""
                    raise SettingError(name, f"{name!r} is no setting of a run{meant}; the settings are {', '.join(names)}")
            merged |= source
        return cls(**{name: _number(value) if types[name] in (float, float | None) else value
                      for name, value in merged.items()})

    @property
    def network(self) -> str:
        """That of the row, see `bipartition.rows.Row`; the warm-up has the classifier alone."""
        return WARM_UP if self.row == WARM_UP else ROWS[self.row].network

    @property
    def energy(self) -> str | None:
        """That of the row, see `bipartition.rows.Row`; the warm-up has none."""
        return None if self.row == WARM_UP else ROWS[self.row].energy

    @property
    def judge_has_turns(self) -> bool:
        """Whether a copy of the classifier judges, and learns between epochs."""
        return self.judge == "turns" and self.network == "bipartition"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def decisive(self) -> dict[str, Any]:
        """`to_dict` without what the row does not read: another value of these gives the same run."""
        read = READS[self.network].difference(*(READ_WITH[other] for other in READ_WITH.keys() - {self.energy}))
        if not self.judge_has_turns:
            read = read - {"judge_turns"}
        return {name: value for name, value in self.to_dict().items() if name in read}


NAMED = frozenset({"row", "dataset", "seed"})
"""What a run is called by; no profile and no trial sets these."""

DEFAULTS = MappingProxyType({item.name: item.default for item in dataclasses.fields(Configuration)
                             if item.default is not dataclasses.MISSING})
"""Of all settings but row, data set and seed."""


def warm_up_configuration(configuration: Configuration) -> Configuration:
    """The run that a row starts from: only what concerns the bare classifier is kept, so that all rows share it."""
    return Configuration(row=WARM_UP, epochs=configuration.warmup_epochs, classifier_rate=configuration.warmup_rate,
                         crops=configuration.warmup_crops, batch_size=configuration.warmup_batch_size,
                         **{name: getattr(configuration, name) for name in ("dataset", "seed", *WARM_UP_SETTINGS)})


def readings_table(configuration: Configuration | None = None) -> "pd.DataFrame":
    """What the paper leaves open and how it is read here.

    Parameters
    ----------
    configuration : Configuration, optional
        Adds a column ``here`` with the values of one run; a dash for what its row does not read.

    Returns
    -------
    pandas.DataFrame
        One line for each reading: name, default, alternatives, why, where in the paper.
    """
    import pandas as pd  # not above: every command reads a configuration, and few show this table

    lines = []
    for item in dataclasses.fields(Configuration):
        if "why" not in item.metadata:
            continue
        allowed, remark = item.metadata["allowed"], item.metadata["remark"]
        values = [allowed.shown] if isinstance(allowed, Range) else map(str, allowed)
        line = {
            "reading": item.name,
            "default": "null" if item.default is None else item.default,  # as profiles write it
            "alternatives": ", ".join([*values, *filter(None, [remark])]),
            "why": item.metadata["why"],
            "where in the paper": item.metadata["where"],
        }
        if configuration is not None:
            here = configuration.decisive().get(item.name, "–")
            line["here"] = "null" if here is None else here
        lines.append(line)
    return pd.DataFrame(lines).set_index("reading")


def _number(value: Any) -> Any:
    """1e-3 is text in YAML, which wants a point before the e; 150 and 150.0 are one setting, and are to be recorded as one."""
    try:
        return value if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value
    except OverflowError:
        return math.inf


def _require(configuration: Configuration, name: str, holds: bool, what: str) -> None:
    if not holds:
        raise SettingError(name, f"{name} = {getattr(configuration, name)!r}; it must be {what}")
