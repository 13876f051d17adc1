"""The experiments by name: the four rows of Table 1 and the six columns of Figure 4, with their values in the paper."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

CLASSES = ("dog", "cat", "horse", "cow", "car", "person")
"""The columns of Table 1."""

MEAN = "mean"
"""The last column: over the classes that have pictures."""

WARM_UP = "classifier"
"""The shared start of every row that needs a classifier; a run of its own, shown in no figure."""

CAM = "cam"
"""The line of the tables for the warm-up's own class activation map: what its classifier can do without any decoder."""

CEILING = "mask_ceiling"
"""The line for the truth itself, after it went through the grid that our decoders compute on."""

CASM_CEILING = "casm_ceiling"
"""The same with CASM's grid."""

OTHER_TITLES = {
    CAM: "CAM of the warmed-up classifier",
    CEILING: "The truth on the decoder's grid (peeks at the truth)",
    CASM_CEILING: "The truth on CASM's grid (peeks at the truth)",
}
"""Titles of the lines of the tables that are neither rows nor baselines."""


def table_classes(present: Iterable[str]) -> tuple[str, ...]:
    """Columns of the tables, by the classes that have pictures: the paper's, or the data set's own where it has none of these.

    "" is no class.
    """
    own = tuple(sorted(set(present) - {""}))
    return CLASSES if not own or set(own) & set(CLASSES) else own


@dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment.

    Attributes
    ----------
    name, title, about : str
        As it is typed, as tables call it, and what it is in a sentence.
    network : str
        ``"bipartition"`` (Figures 1 and 2), ``"autoencoder"`` (section 4.2) or ``"casm"``.
    energy : str or None
        ``"chan_vese"`` is (7), ``"mumford_shah"`` is (10).
    letter : str
        Column of Figure 4.
    paper : mapping
        IoU in Table 1 by class; empty for what is not in Table 1.
    settings : mapping
        What the row needs of `bipartition.configuration.Configuration`, whatever the profile has for all rows.
    changes : int
        How often what this row alone computes has been changed; counts beside `bipartition.runs.METHOD_VERSION`.
    """

    name: str
    title: str
    letter: str
    about: str
    network: str
    energy: str | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: int = 0


def _table_row(*values: float) -> Mapping[str, float]:
    return dict(zip(CLASSES, values, strict=True))


# Without S the area term alone would decide: the foreground would vanish.
NOTHING_HOLDS_THE_FOREGROUND = {"lambda1": 0.0, "lambda2": 3e-4, "decoder_rate": 1e-3}

ROWS: Mapping[str, Row] = MappingProxyType({row.name: row for row in (
    Row(
        name="casm", title="CASM (baseline)", letter="a", network="casm",
        about="Zolna et al.: a decoder hides the object from a classifier that learns to find it all the same.",
        settings={"classifier_rate": 1e-3, "decoder_rate": 1e-3},
        paper=_table_row(0.79, 0.80, 0.81, 0.79, 0.66, 0.63),
    ),
    Row(
        name="classification_only", title="Classification loss only", letter="b",
        network="bipartition",
        about="Figure 1 without the Chan-Vese energy: S of (14) and the two regularisers of (15).",
        paper=_table_row(0.56, 0.54, 0.42, 0.36, 0.21, 0.62),
    ),
    Row(
        name="chan_vese", title="Chan-Vese + classification", letter="e",
        network="bipartition", energy="chan_vese",
        about="Figure 1, Algorithm 1: two regions of constant colour, and a classifier that names one of them.",
        changes=1,
        paper=_table_row(0.86, 0.82, 0.83, 0.79, 0.65, 0.65),
    ),
    Row(
        name="mumford_shah", title="Mumford-Shah + classification", letter="f",
        network="bipartition", energy="mumford_shah",
        about="Figure 2, Algorithm 2: two regions of smoothly varying colour F and B, and the same classifier.",
        paper=_table_row(0.88, 0.82, 0.80, 0.76, 0.75, 0.64),
    ),
    Row(
        name="chan_vese_only", title="Chan-Vese only", letter="c",
        network="autoencoder", energy="chan_vese",
        about="An auto-encoder that minimises (7) without its area term: precise, and blind to meaning.",
        settings=NOTHING_HOLDS_THE_FOREGROUND, changes=1,
    ),
    # F and B so stiff that neither can explain a whole picture.
    Row(
        name="mumford_shah_only", title="Mumford-Shah only", letter="d",
        network="autoencoder", energy="mumford_shah",
        about="An auto-encoder that minimises (10) without its area term: precise, and blind to meaning.",
        settings=NOTHING_HOLDS_THE_FOREGROUND | {"lambda3": 5.0, "lambda4": 5.0},
    ),
)})

TABLE_ROWS = tuple(name for name, row in ROWS.items() if row.paper)

ANY_WITH_A_CLASSIFIER = "casm"
"""Stands for all rows with a classifier where it is the same for them: a data set's warm-up, and its first weights."""
