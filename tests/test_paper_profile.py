"""PROFILE=paper in earnest: 224 pixels, its two data sets in their true layouts, its settings, a step or two of every row."""

import numpy as np
import pytest
import torch
import yaml
from torchvision.models import resnet18

from bipartition import files, runs
from bipartition.pipeline import main
from bipartition.profiles import load_profile
from bipartition.rows import ROWS
from bipartition.tables import line_metrics, table1
from miniatures import voc_photos, write_dogs_vs_cats, write_voc


@pytest.fixture
def miniatures(places, monkeypatch):
    """VOC with lists and SBD-style masks, Dogs vs. Cats as in train.zip, and a weights file in ImageNet's layout."""
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), places / "resnet18.pth")
    monkeypatch.setenv("VOC_ROOT", str(write_voc(places, voc_photos(train=1, val=1, aug=1))))
    monkeypatch.setenv("DOGS_VS_CATS_ROOT", str(write_dogs_vs_cats(places / "dogs-vs-cats")))
    monkeypatch.setenv("RESNET18_WEIGHTS", str(places / "resnet18.pth"))
    return places


@pytest.mark.slow(seconds=27)
def test_two_steps_of_every_row_on_both_data_sets(miniatures, root, capsys):
    """Only the number of steps and the batch are cut down; what is left of the profile is the paper's."""
    content = yaml.safe_load((root / "profiles" / "paper.yaml").read_text(encoding="utf-8"))
    content["training"] |= {"epochs": 2, "warmup_epochs": 1, "batch_size": 2, "warmup_batch_size": 2,
                            "autoencoder_width": 16}
    content["seeds"] = [0]
    content["data"] = {"voc2012": {"train": 2, "val": 6}, "dogs-vs-cats": {"train": 2, "val": 2}}
    path = miniatures / "paper-in-miniature.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert main(["--profile", str(path), "--no-notebooks"]) == 0, capsys.readouterr()

    profile = load_profile(str(path))
    for dataset in ("voc2012", "dogs-vs-cats"):
        assert len(profile.rows) >= 6
        for row in profile.rows:
            folder = runs.run_folder(profile.name, dataset, row, 0)
            config = files.read_json(folder / "config.json")
            assert config["configuration"]["size"] == 224
            first = "none" if ROWS[row].network == "autoencoder" else "resnet18.pth"
            assert config["made_by"]["weights"]["source"] == first
            assert np.load(folder / "masks.npy").shape[1:] == (224, 224)
            mean = files.read_json(folder / "metrics.json")["mean_iou"]
            assert (mean is None) == (dataset == "dogs-vs-cats")
    prepared = profile.prepared("voc2012")
    table = table1(line_metrics(profile, "voc2012", prepared, baselines=()))
    measured = table[(table["row"] == "chan_vese") & (table["n"] > 0)]
    assert measured["seeds"].eq(1).all() and measured["iou"].between(0, 1).all()
