"""The one configuration: what it refuses, how sources are merged, and the table of readings."""

import dataclasses

import pytest

from bipartition.configuration import Configuration, readings_table

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


def test_a_name_that_is_no_setting_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="'lambda5' is no setting of a run .*; the settings are .*lambda4"):
        Configuration.build(REQUIRED, {"lambda5": 1.0})


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Configuration(**REQUIRED).alpha = 3.0


def test_every_reading_says_its_default_alternatives_reason_and_place():
    table = readings_table(Configuration(**REQUIRED | {"alpha": 7.0}))
    assert {"alpha", "lambda1", "judge", "background_probability", "classifier_learns", "batch_norm", "regularised", "mask",
            "warmup_epochs"} <= set(table.index)
    assert table.loc["alpha", "here"] == 7.0 and table.loc["alpha", "default"] == 1.0
    assert (table[["alternatives", "why", "where in the paper"]].map(len) > 0).all().all()
    assert "size" not in table.index


ENCODER, MATRICES = {"autoencoder_width", "autoencoder_poolings"}, {"lambda3", "lambda4", "matrix_rate"}


@pytest.mark.parametrize(("row", "unread"), [
    ("casm", {"features", "judge_turns"} | MATRICES | ENCODER),
    ("chan_vese", {"judge_turns", "casm_area"} | MATRICES | ENCODER),
    ("mumford_shah", {"judge_turns", "casm_area"} | ENCODER),
    ("mumford_shah_only", {"features", "judge_turns", "casm_area"}),
])
def test_what_decides_a_run_is_all_but_what_its_row_does_not_read(row, unread):
    configuration = Configuration(row=row, dataset="cartoons", seed=0)
    assert configuration.to_dict().keys() - configuration.decisive().keys() == unread


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
