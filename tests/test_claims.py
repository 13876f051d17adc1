"""The paper's claims from fake runs and made-up trials, and the proof that the second cannot be told."""

import copy
import csv
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from bipartition import runs
from bipartition.claims import (
    CLAIMS,
    COLUMNS,
    HEADS,
    claims,
    explanation,
    markdown,
    published_trials,
    verdict,
)
from bipartition.configuration import Configuration
from bipartition.evaluation import Interval
from bipartition.learners import objective_parts, objective_weights
from bipartition.networks import Classifier, Decoder, Partition
from bipartition.objectives import weighted_sum
from bipartition.profiles import configuration_for, load_profile
from bipartition.rows import ROWS
from bipartition.sensitivities import sensitivities
from bipartition.tables import difference, line_metrics, write_table
from test_sensitivities import trial
from test_tables import PROFILE, FakePrepared, write_run

USUALLY = Configuration(row="chan_vese", dataset="voc2012", seed=0, lambda1=1.0, warmup_epochs=10).to_dict()


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    monkeypatch.setenv("BIPARTITION_RESULTS", str(tmp_path))
    return FakePrepared(count=30)


def claims_of(prepared, dataset="voc2012", **trials):
    return claims(line_metrics(PROFILE, dataset, prepared, baselines=("everything_foreground", "otsu")), **trials)


def of(table, number, *words):
    mine = table[[line.number == number and all(word in line.measure for word in words) for line in table.itertuples()]]
    assert len(mine) == 1, mine["measure"].tolist()
    return mine.iloc[0]


@pytest.mark.parametrize(("found", "direction", "said"), [
    ((0.1, 0.05, 0.2), 1, "holds here"), ((-0.1, -0.2, -0.05), 1, "does not hold here"), ((0.1, -0.05, 0.2), 1, "undecided"),
    ((-0.1, -0.2, -0.05), -1, "holds here"), ((0.1, 0.05, 0.2), -1, "does not hold here"),
    ((0.0, 0.0, 0.0), 1, "undecided"), ((np.nan, np.nan, np.nan), 1, "not measured")])
def test_the_verdict_asks_on_which_side_of_zero_the_interval_lies(found, direction, said):
    assert verdict(Interval(*found), 2, direction) == said
    assert verdict(Interval(*found), 1, direction) == ("not measured" if said == "not measured" else "one run each: no verdict")


def test_without_runs_every_claim_has_its_lines_and_none_is_decided(prepared):
    table = claims_of(prepared)
    assert tuple(table.columns) == COLUMNS and sorted(table["number"].unique()) == list(CLAIMS)
    assert set(table.loc[~table["number"].isin([3, 4]), "verdict"]) == {"not measured"}
    assert of(table, 3)["verdict"].startswith("cannot be told apart") and of(table, 4)["verdict"] == "not testable as written"
    assert table["value"].isna().all() and (table["seeds"] == 0).all()


def test_rows_are_compared_as_table_1_compares_them(prepared):
    for seed in (0, 1):
        write_run(prepared, "chan_vese", seed, flips=0.05)
        write_run(prepared, "casm", seed, flips=0.2)
        write_run(prepared, "classification_only", seed, flips=0.1)
    table = claims_of(prepared)
    for number, key in ((1, "iou"), (2, "boundary_f"), (2, "boundary_iou")):
        word = {"iou": "IoU,", "boundary_f": "boundary F", "boundary_iou": "boundary IoU"}[key]
        line = of(table, number, word, ROWS["chan_vese"].title)
        found = line_metrics(PROFILE, "voc2012", prepared, baselines=())
        assert tuple(line[["value", "low", "high"]]) == difference(found, "chan_vese", "casm", key)[0]
        assert line["verdict"] == "holds here" and line["seeds"] == 2
        assert of(table, number, word, ROWS["mumford_shah"].title)["verdict"] == "not measured"
    alone = of(table, 6, "classification alone minus everything foreground")
    assert alone["verdict"] == "holds here" and alone["seeds"] == 2 and " against " in alone["note"]


def test_masks_that_hit_half_of_the_pixels_mean_nothing_and_the_oracle_is_told(prepared):
    for row in ("chan_vese_only", "casm", "classification_only"):
        for seed in (0, 1) if row == "chan_vese_only" else (0,):
            write_run(prepared, row, seed, flips=0.9 if row == "chan_vese_only" else 0.3)
    table = claims_of(prepared)
    line = of(table, 7, "IoU, Chan-Vese only minus everything foreground")
    assert line["verdict"] == "holds here" and line["value"] < 0 and "if the truth chose the half" in line["note"]
    precise = of(table, 7, "boundary F, Chan-Vese only minus CASM")
    assert precise["seeds"] == 1 and precise["verdict"] == "one run each: no verdict"


def test_notes_on_boundaries_tell_what_needs_no_training_and_where_casm_is_below_it(prepared):
    for seed in (0, 1):
        write_run(prepared, "chan_vese", seed, flips=0.05)
        write_run(prepared, "casm", seed, flips=0.9 + 0.05 * seed)
    table, floors = claims_of(prepared), line_metrics(PROFILE, "voc2012", prepared, baselines=("everything_foreground", "otsu"))
    share = {name: np.nanmean([np.mean([one["boundary_f"] for one in floors.lines[name][-1]["per_image"]
                                        if one["class"] == label]) for label in ("dog", "cat")])
             for name in ("everything_foreground", "otsu")}
    everything, otsu = share.values()
    contours, finds = (of(table, *one, ROWS["chan_vese"].title)["note"] for one in ((2, "boundary F"), (1,)))
    assert contours.endswith(f"everything foreground has {everything:.2f}, cutting by Otsu has {otsu:.2f}")
    before, below, classes = finds.partition("; CASM is below everything foreground in ")
    assert below and "has" not in before and "dog (IoU 0.0" in classes and "its lowest run" in classes and "cat (" in classes
    assert table["note"].str.contains("CASM is below").sum() == 1
    for seed in (0, 1):
        write_run(prepared, "casm", seed)
    assert "below" not in of(claims_of(prepared), 1, ROWS["chan_vese"].title)["note"]


def test_grey_shares_and_warm_ups_come_from_the_trials(prepared):
    trials = pd.DataFrame([trial(0.47), trial(0.25, lambda1=0.0) | {"grey": 0.5},
                           trial(0.29, lambda1=0.3) | {"area": 1.0, "grey": 0.0},
                           trial(0.30, warmup_epochs=1) | {"accuracy": 0.4}, trial(0.46, warmup_epochs=5)])
    assert {of(claims_of(prepared, trials=trials, usual=USUALLY), *which)["verdict"]
            for which in ((5, "λ1 = 0 minus 1"), (8,))} == {"one run each: no verdict"}
    trials = pd.concat([trials, trials.assign(seed=1)])
    table = claims_of(prepared, trials=trials, usual=USUALLY)
    grey = of(table, 5, "λ1 = 0 minus 1")
    assert grey["verdict"] == "holds here" and grey["value"] == pytest.approx(0.4) and 0.3 < grey["low"] < grey["high"] < 0.5
    whole = of(table, 5, "λ1 = 0.3 minus 1")
    assert whole["verdict"] == "does not hold here" and "all is foreground" in whole["note"]
    warm_up = of(table, 8)
    assert warm_up["measure"].endswith("after a warm-up of 10 epochs minus after 1") and warm_up["verdict"] == "holds here"
    half = np.hypot(0.03, 0.03)
    assert tuple(warm_up[["value", "low", "high"]]) == pytest.approx((0.17, 0.17 - half, 0.17 + half))
    assert "0.40 [" in warm_up["note"]


def test_masks_with_grey_pixels_are_not_only_0_and_1(prepared):
    for row, grey in (("chan_vese", 0.0), ("mumford_shah", 0.2)):
        for seed in (0, 1):
            write_run(prepared, row, seed, grey=grey)
    table = claims_of(prepared)
    binary, undecided = of(table, 5, "grey share, Chan-Vese", "none"), of(table, 5, "grey share, Mumford-Shah", "none")
    assert (binary["value"], binary["verdict"]) == (0, "holds here")
    assert undecided["value"] == pytest.approx(0.2, abs=0.03) and undecided["verdict"] == "does not hold here"


def test_seeds_that_disagree_widen_the_interval_of_trials(prepared):
    trials = pd.DataFrame([trial(0.50), trial(0.50), trial(0.50, warmup_epochs=3), trial(0.30, warmup_epochs=3)])
    trials["seed"] = [0, 1, 0, 1]
    worse = trials["settings"].str.contains("warmup")
    line = of(claims_of(prepared, trials=trials.assign(accuracy=np.where(worse, 0.2, 0.8)), usual=USUALLY), 8)
    assert line["value"] == pytest.approx(0.1) and line["low"] < 0 < line["high"] and line["verdict"] == "undecided"


def test_a_shorter_warm_up_that_leaves_as_good_a_classifier_says_nothing_of_worse_ones(prepared):
    trials = pd.DataFrame([trial(0.50), trial(0.50), trial(0.30, warmup_epochs=3), trial(0.30, warmup_epochs=3)])
    trials["seed"] = [0, 1, 0, 1]
    line = of(claims_of(prepared, trials=trials, usual=USUALLY), 8)
    assert line["low"] > 0 and line["verdict"] == "not measured" and "no less often" in line["note"]


def test_trials_that_never_changed_these_settings_alone_decide_nothing(prepared):
    table = claims_of(prepared, trials=pd.DataFrame([trial(0.47, epochs=1)]), usual=USUALLY)
    assert of(table, 5, "λ1")["verdict"] == of(table, 8)["verdict"] == "not measured"
    assert "no trial with" in of(table, 5, "λ1")["note"] and "no trial with" in of(table, 8)["note"]


def test_trials_on_photographs_say_nothing_of_cartoons(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "tracked_trials", lambda dataset: tmp_path / f"{dataset}.csv")
    assert published_trials(USUALLY, {}) is None
    pd.DataFrame([trial(0.47)]).to_csv(tmp_path / "voc2012.csv", index=False)
    drawn, options = USUALLY | {"dataset": "cartoons"}, load_profile("demo").options("cartoons")
    assert len(published_trials(USUALLY, {})) == 1 and published_trials(drawn, options) is None
    pd.DataFrame([trial(0.47), trial(0.48)]).to_csv(tmp_path / "cartoons.csv", index=False)
    assert len(published_trials(drawn, options)) == 2 and published_trials(drawn, options | {"val": 60}) is None
    assert published_trials(USUALLY | {"dataset": "dogs-vs-cats"}, {}) is None


def test_another_profile_reads_the_tracked_trials_from_its_own_settings(tmp_path, monkeypatch):
    """A trial that changed one thing of the tracked profile changes two of another, and the other way round."""
    path = tmp_path / "search.csv"
    monkeypatch.setattr(runs, "tracked_trials", lambda _: path)
    theirs = configuration_for(load_profile("laptop"), "voc2012", "chan_vese", 0).to_dict()
    mine = theirs | {"alpha": 2 * theirs["alpha"]}
    lines = [trial(0.5), trial(0.4, lambda1=0.0), trial(0.3, alpha=mine["alpha"]), trial(0.2, alpha=mine["alpha"], lambda1=0.0)]
    pd.DataFrame(lines).to_csv(path, index=False)
    seen = sensitivities(published_trials(mine, {}), mine, "chan_vese")
    assert dict(zip(seen["field"], seen["iou"], strict=True)) == {"usual": 0.3, "lambda1": 0.2, "alpha": 0.5}
    seen = sensitivities(published_trials(theirs, {}), theirs, "chan_vese")
    assert dict(zip(seen["field"], seen["iou"], strict=True)) == {"usual": 0.5, "lambda1": 0.4, "alpha": 0.3}


def test_page_and_file_tell_each_claim_once(prepared, tmp_path):
    write_run(prepared, "chan_vese", 0, flips=0.05)
    write_run(prepared, "casm", 0, flips=0.2)
    table = claims_of(prepared, "cartoons")
    write_table(table, tmp_path / "claims", markdown(table))
    with open(tmp_path / "claims.csv", newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert tuple(lines[0]) == COLUMNS and [line["verdict"] for line in lines] == table["verdict"].tolist()
    text = (tmp_path / "claims.md").read_text(encoding="utf-8")
    head, _, *body = text.split("\n\n")[0].splitlines()
    assert text == markdown(table) and head == "| " + " | ".join(HEADS) + " |" and len(body) == len(table)
    assert all(one.replace("\\|", "").count("|") == head.count("|") for one in body)
    for number, (claim, _) in CLAIMS.items():
        assert text.count(f"{number}. {claim}".replace("|", "\\|")) == 1
    assert "drawn pictures" in explanation("cartoons") and "drawn pictures" not in explanation("voc2012")
    assert "drawn" not in explanation("oxford-pets") and "not the paper's photographs" in explanation("oxford-pets")
    assert "these pictures too" in explanation("cartoons") and "set apart" in explanation("voc2012")


def test_phi_or_one_minus_phi_as_the_foreground_is_one_model_with_the_last_layer_negated():
    torch.manual_seed(0)
    configuration = Configuration(row="chan_vese", dataset="voc2012", seed=0, alpha=3.0, lambda1=0.7, lambda2=0.2)
    classifier, decoder = Classifier(3).double().eval(), Decoder(1, initial=0.2).double()
    torch.nn.init.normal_(decoder.combine.weight, std=0.05)
    other_classifier, mirrored = copy.deepcopy(classifier), copy.deepcopy(decoder)
    with torch.no_grad():
        mirrored.combine.weight.neg_()
        mirrored.combine.bias.neg_()
    image, labels = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 2])

    def descend(classifier, decoder, mask_is_foreground):
        """One step on L; the names of the two regions are exchanged where the mask itself is the foreground."""
        logits, features = classifier(image)
        mask = decoder(features, (32, 32))
        background = 1 - mask if mask_is_foreground else mask
        judged = [classifier(part * image)[0] for part in (1 - background, background)]
        parts = objective_parts(image, Partition(background, None, logits, *judged), labels, ROWS["chan_vese"], configuration)
        optimiser = torch.optim.Adam([*classifier.parameters(), *decoder.parameters()], lr=1e-2)
        loss = weighted_sum(parts, objective_weights(configuration))
        loss.backward()
        gradients = decoder.combine.weight.grad.clone()
        optimiser.step()
        return loss, gradients, mask

    loss, gradients, mask = descend(classifier, decoder, False)
    other_loss, other_gradients, other_mask = descend(other_classifier, mirrored, True)
    torch.testing.assert_close(other_mask, 1 - mask)
    torch.testing.assert_close(other_loss, loss)
    assert gradients.abs().max() > 1e-3
    torch.testing.assert_close(other_gradients, -gradients)
    for name, parameter in mirrored.named_parameters():
        sign = -1 if name.startswith("combine") else 1
        torch.testing.assert_close(parameter, sign * decoder.get_parameter(name))
    for one, other in zip(other_classifier.parameters(), classifier.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_difference_that_rounds_to_nothing_has_no_minus(prepared):
    table = claims_of(prepared)
    table.loc[0, ["value", "low", "high"]] = (0.02, -0.0004, 0.05)
    assert "| +0.020<br>[+0.000, +0.050] |" in markdown(table)


def test_a_run_that_was_left_out_is_named_below_the_claims(prepared):
    write_run(prepared, "chan_vese", 4, profile=dataclasses.replace(PROFILE, training=PROFILE.training | {"alpha": 1.0}))
    assert "otherwise: chan_vese/seed4." in markdown(claims_of(prepared))


@pytest.mark.parametrize(("folder", "profile", "dataset"), [("demo", "demo", "cartoons"), ("voc-animals", "laptop", "voc2012")])
def test_the_published_verdicts_on_trials_are_those_of_the_tracked_ones(prepared, root, folder, profile, dataset):
    loaded = load_profile(profile)
    usual = configuration_for(loaded, dataset, "chan_vese", 0).to_dict()
    table = claims_of(prepared, trials=published_trials(usual, loaded.options(dataset)), usual=usual)
    now = table[table["measure"].str.contains("λ1 = 0|after a warm-up")].round(4)
    published = pd.read_csv(root / "results" / "published" / folder / "claims.csv")
    there = published[published["measure"].isin(now["measure"])]
    columns = ["measure", "seeds", "value", "low", "high", "verdict", "note"]
    pd.testing.assert_frame_equal(there[columns].reset_index(drop=True), now[columns].reset_index(drop=True))
    assert len(now) == 2
