"""The one configuration: what it refuses, how sources are merged, and the table of readings."""

import dataclasses

import pytest
import torch
import yaml
from accelerate import Accelerator

import bipartition.configuration
from bipartition.configuration import READ_WITH, READS, Configuration, readings_table
from bipartition.epochs import Material, judges_turn, schedulers_for, train_epoch
from bipartition.learners import ENERGIES, build_learner
from bipartition.networks import Classifier
from bipartition.rows import ROWS, WARM_UP

REQUIRED = {"row": "chan_vese", "dataset": "cartoons", "seed": 0}


@pytest.mark.parametrize(("name", "value", "message"), [
    ("size", 98, "size = 98; it must be a multiple of 4"),
    ("size", 0, "size = 0; it must be greater than 0"),
    ("alpha", 0.0, "alpha = 0.0; it must be greater than 0"),
    ("alpha", "big", "alpha = 'big'; it must be a number"),
    ("alpha", float("nan"), "alpha = nan; it must be a finite number"),
    ("lambda1", -0.1, "lambda1 = -0.1; it must be 0 or greater"),
    ("epochs", 1.5, "epochs = 1.5; it must be a whole number"),
    ("epochs", True, "epochs = True; it must be a whole number"),
    ("seed", -1, "seed = -1; it must be 0 or greater"),
    ("casm_area", -1.0, "casm_area = -1.0; it must be 0 or greater"),
    ("initial_foreground", 1.0, "initial_foreground = 1.0; it must be between 0 and 1"),
    ("warmup_cuts", 1.5, "warmup_cuts = 1.5; it must be between 0 and 1"),
    ("mask", "hard", "mask = 'hard'; it must be one of 'soft', 'straight_through'"),
    ("judge", "older", "judge = 'older'; it must be one of 'live', 'snapshot', 'turns'"),
    ("batch_norm", "off", "batch_norm = 'off'; it must be one of"),
    ("regularised", "no", "regularised = 'no'; it must be one of True, False"),
    ("optimiser", "lion", "optimiser = 'lion'; it must be one of"),
])
def test_a_value_that_makes_no_sense_is_named_with_what_would(name, value, message):
    with pytest.raises(ValueError) as caught:
        Configuration(**REQUIRED | {name: value})
    assert str(caught.value).startswith(message)


def test_a_size_that_an_auto_encoder_cannot_halve_is_refused_for_its_rows_only():
    asked = {"size": 112, "autoencoder_poolings": 5}
    assert Configuration(**REQUIRED | asked).size == 112
    with pytest.raises(ValueError, match="size = 112; it must be a multiple of 32 = 2 to the power of autoencoder_poolings"):
        Configuration(**REQUIRED | asked | {"row": "mumford_shah_only"})


def test_later_sources_win():
    built = Configuration.build(REQUIRED, {"alpha": 2.0, "size": 64}, {"alpha": 3})
    assert (built.alpha, built.size) == (3, 64)


def test_however_a_number_is_written_it_is_one_setting():
    written = [Configuration.build(REQUIRED, {"alpha": alpha, "casm_area": 10}) for alpha in (150, 150.0, "150", "1.5e2")]
    assert {(repr(one.alpha), repr(one.casm_area)) for one in written} == {("150.0", "10.0")}
    for value in (True, [1.0]):
        with pytest.raises(ValueError, match="alpha = .*; it must be a number"):
            Configuration.build(REQUIRED, {"alpha": value})


def test_a_name_that_is_no_setting_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="'lambda_four' is no setting of a run .*; the settings are .*lambda4"):
        Configuration.build(REQUIRED, {"lambda_four": 1.0})


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Configuration(**REQUIRED).alpha = 3.0


def test_every_reading_says_its_default_alternatives_reason_and_place():
    table = readings_table(Configuration(**REQUIRED | {"alpha": 7.0}))
    assert {"alpha", "lambda1", "judge", "background_probability", "classifier_learns", "batch_norm", "regularised", "mask",
            "warmup_epochs"} <= set(table.index)
    assert table.loc["alpha", "here"] == 7.0 and table.loc["alpha", "default"] == 1.0
    casm = readings_table(Configuration(**REQUIRED | {"row": "casm"}))
    assert casm.loc["alpha", "here"] == "–" and casm.loc["casm_area", ["default", "here"]].tolist() == ["null", "null"]
    assert Configuration.build(REQUIRED, yaml.safe_load("casm_area: null")).casm_area is None  # as the table says
    assert casm.loc["decoder_rate", "here"] == 0.01
    assert (table[["alternatives", "why", "where in the paper"]].map(len) > 0).all().all()
    assert "size" not in table.index


KINDS = {row: {} for row in (*ROWS, WARM_UP)} | {"chan_vese": {"judge": "turns"}, "mumford_shah": {"judge": "snapshot"}}
OTHER = {"autoencoder_width": 4, "autoencoder_poolings": 1, "warmup_epochs": 3, "warmup_batch_size": 2, "warmup_rate": 0.5,
         "warmup_cuts": 0.5, "warmup_contours": 0.5, "warmup_crops": 0.5, "crops": 0.5, "weights": "none", "alpha": 3.0,
         "lambda1": 0.1, "lambda2": 0.1, "lambda3": 0.1, "lambda4": 0.1, "area_weight": "root", "judge_turns": 2,
         "judge_crops": 0.5, "background_probability": "sigmoid", "classifier_learns": "clean", "judge": "snapshot",
         "batch_norm": "frozen", "regularised": False, "mask": "straight_through", "features": "even",
         "initial_foreground": 0.8, "optimiser": "adam", "classifier_rate": 0.05, "decoder_rate": 0.5, "matrix_rate": 0.5,
         "casm_area": 3.0}


def other_than_usual(name):
    """A value of a setting that no test here starts from."""
    assert name in OTHER, f"add another value of {name!r} to OTHER in tests/test_configuration.py"
    return OTHER[name]


def test_whoever_adds_a_setting_is_told_that_another_value_is_wanted():
    with pytest.raises(AssertionError, match="add another value of 'lambda_four' to OTHER in tests/test_configuration.py"):
        other_than_usual("lambda_four")


def small_run(row, **changed):
    return Configuration(row=row, dataset="cartoons", seed=0, size=32, batch_size=4, epochs=4, judge_turns=1,
                         autoencoder_width=8, autoencoder_poolings=2, **KINDS[row] | changed)


def after_an_epoch(configuration):
    """Parameters of the learner after its first epoch, with all that `train_row` reads but the first weights."""
    size, rng = configuration.size, torch.Generator().manual_seed(0)
    material = Material(pictures=torch.randint(256, (8, 3, size, size), generator=rng, dtype=torch.uint8),
                        labels=torch.arange(8) % 3, ids=list(map(str, range(8))))
    torch.manual_seed(0)
    learner = build_learner(configuration, Classifier(3), Accelerator(cpu=True))
    learner.network.to(memory_format=torch.channels_last)
    for epoch in range(2):
        judges_turn(learner, material, configuration, epoch)
        train_epoch(learner, material, configuration, epoch, 2, schedulers_for(learner, 4))
    return [value.clone() for value in learner.network.state_dict().values()]


@pytest.mark.parametrize("row", KINDS)
def test_what_is_said_to_decide_nothing_decides_nothing(row):
    """Unread settings at other values: the same bits after an epoch.  The others are tested where they are used."""
    usual = small_run(row)
    expected = after_an_epoch(usual)
    unread = usual.to_dict().keys() - usual.decisive().keys()
    assert unread & {"casm_area", "autoencoder_width", "judge_turns", "matrix_rate"}
    assert all(getattr(usual, name) != other_than_usual(name) for name in unread)

    def is_same(names):
        changed = after_an_epoch(dataclasses.replace(usual, **{name: other_than_usual(name) for name in names}))
        return all(map(torch.equal, expected, changed))

    silencing = {"judge", "mask", "regularised"} & unread  # these at other values could hide that others are read
    if not (is_same(unread - silencing) and all(is_same([name]) for name in silencing)):
        read = ", ".join(name for name in sorted(unread) if not is_same([name])) or "some settings, if changed together,"
        pytest.fail(f"{row} reads {read}, and READS and READ_WITH in configuration.py do not say so: a changed value would "
                    "leave old runs standing")


@pytest.mark.parametrize("row", ROWS)
def test_what_a_row_asks_for_it_reads(row):
    unread = sorted(ROWS[row].settings.keys() - Configuration(row=row, dataset="cartoons", seed=0).decisive().keys())
    assert not unread, f"{row} does not read {', '.join(unread)}; take it out of its settings in rows.py"


BY_THE_WARM_UP = {"warmup_epochs", "warmup_batch_size", "warmup_rate", "warmup_cuts", "warmup_crops", "warmup_contours",
                  "optimiser"}
"""Settings that a row need not read itself: the classifier that it starts from was trained with them."""


@pytest.mark.slow
@pytest.mark.parametrize("row", KINDS)
def test_what_is_said_to_decide_something_decides_something(row):
    """Each setting that is read at another value: other bits.  A wire that came loose would train with the default."""
    usual = small_run(row, **{"warmup_cuts": 0.4} if row == WARM_UP else {})
    not_here = {"row", "dataset", "seed", "size", "batch_size", "epochs", "judge_turns", "weights"}  # `after_an_epoch` is told
    not_here |= {"casm": BY_THE_WARM_UP, WARM_UP: set()}.get(row, BY_THE_WARM_UP - {"optimiser"})
    read = {name for name in usual.decisive().keys() - not_here if getattr(usual, name) != other_than_usual(name)}
    assert len(read) > 3
    expected = after_an_epoch(usual)
    for name in sorted(read):
        changed = after_an_epoch(dataclasses.replace(usual, **{name: other_than_usual(name)}))
        same = len(changed) == len(expected) and all(map(torch.equal, expected, changed))
        assert not same, (f"{name} is said to be read by {row} (READS in configuration.py), and changes nothing here; "
                          "if it is read only beside another setting, give that a value there, in KINDS")


@pytest.mark.parametrize(("row", "read"), [
    ("casm", {"casm_area", "warmup_cuts", "weights", "decoder_rate"}),
    ("chan_vese", {"alpha", "area_weight", "judge", "mask", "features", "warmup_contours", "weights", "initial_foreground"}),
    ("mumford_shah", {"lambda3", "lambda4", "matrix_rate", "classifier_learns", "batch_norm"}),
    ("mumford_shah_only", {"lambda3", "lambda4", "autoencoder_width", "autoencoder_poolings", "alpha", "area_weight"}),
    ("classification_only", {"alpha", "lambda1", "lambda2", "regularised", "background_probability"})])
def test_what_decides_a_run_retrains_it(row, read):
    configuration = Configuration(row=row, dataset="cartoons", seed=0)
    for name in read:
        assert dataclasses.replace(configuration, **{name: other_than_usual(name)}).decisive() != configuration.decisive(), name


def test_the_warm_up_is_made_anew_for_what_a_bare_classifier_reads_and_nothing_else():
    warm_up = Configuration(row="classifier", dataset="cartoons", seed=0)
    for name, value in {"alpha": 7.0, "lambda1": 0.3, "judge": "snapshot", "decoder_rate": 0.5, "warmup_epochs": 9}.items():
        assert dataclasses.replace(warm_up, **{name: value}).decisive() == warm_up.decisive()
    for name, value in {"epochs": 7, "seed": 3, "warmup_cuts": 0.4, "classifier_rate": 0.5, "weights": "none"}.items():
        assert dataclasses.replace(warm_up, **{name: value}).decisive() != warm_up.decisive()


def test_how_often_a_judge_has_its_turn_is_read_where_it_has_turns():
    turns = {"judge": "turns", "epochs": 4, "judge_turns": 2}
    assert Configuration(**REQUIRED | turns).decisive()["judge_turns"] == 2
    assert "judge_turns" not in Configuration(**REQUIRED | turns | {"row": "casm"}).decisive()


@pytest.mark.parametrize("count", [0, 4])
def test_a_judge_has_its_turn_once_at_least_and_before_the_last_epoch(count):
    with pytest.raises(ValueError, match=rf"judge_turns = {count}; it must be from 1 to epochs - 1 = 3"):
        Configuration(**REQUIRED | {"judge": "turns", "epochs": 4, "judge_turns": count})


@pytest.mark.parametrize(("changed", "message"), [
    ({"energy": "chan_veze"}, "the energy of row 'mine' is 'chan_veze'; known are None, 'chan_vese', 'mumford_shah'.*; correct "
                              "it in rows.py, or say in bipartition/configuration.py what a new energy reads"),
    ({"network": "unet"}, "the network of row 'mine' is 'unet'; known are .*'casm', 'autoencoder', 'bipartition'")])
def test_a_row_of_an_unknown_kind_has_no_configuration_and_says_where_the_known_ones_are(changed, message, monkeypatch):
    mine = dataclasses.replace(ROWS["chan_vese"], name="mine", **changed)
    monkeypatch.setattr(bipartition.configuration, "ROWS", {**ROWS, "mine": mine})
    with pytest.raises(ValueError, match=message):
        Configuration(**REQUIRED | {"row": "mine"})


def test_every_energy_says_what_it_reads_and_has_its_parts():
    assert READ_WITH.keys() == {None, *ENERGIES}
    for name, energy_alone in READ_WITH.items():
        assert energy_alone <= READS["bipartition"], name
