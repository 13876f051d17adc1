"""The reader of Oxford-IIIT Pet: official lists, species as class, trimaps as masks."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bipartition.datasets import dogs_vs_cats, open_dataset, oxford_pets
from bipartition.datasets.prepare import prepare
from miniatures import write_oxford_pets

REAL = os.environ.get("OXFORD_PETS_ROOT")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A miniature that OXFORD_PETS_ROOT names."""
    folder = write_oxford_pets(tmp_path / "pets")
    monkeypatch.setenv("OXFORD_PETS_ROOT", str(folder))
    monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path / "data"))
    return folder


def test_splits_are_the_official_lists_and_classes_the_species(root):
    dataset = open_dataset("oxford-pets")
    assert Counter((item.split, dataset.classes[item.label], item.id.rsplit("_", 1)[0]) for item in dataset.items()) == {
        (split, name, breed): 4 for split in ("train", "val") for name, breed in (("cat", "Abyssinian"),
                                                                                  ("dog", "yorkshire_terrier"))}
    test = (root / "annotations" / "test.txt").read_text().split("\n")
    assert [item.id for item in dataset.items() if item.split == "val"] == [line.split()[0] for line in test if line]


def test_classes_are_those_of_dogs_vs_cats():
    assert oxford_pets.CLASSES == dogs_vs_cats.CLASSES


def test_photographs_in_no_list_are_left_out_and_counted(root):
    assert open_dataset("oxford-pets").left_out == {"in neither official list": 1}


def test_trimap_becomes_class_background_and_void(root):
    dataset = open_dataset("oxford-pets")
    for item in dataset.items():
        image, mask = dataset.read(item, 30)
        assert image.shape == (30, 30, 3) and set(np.unique(mask).tolist()) == {0, item.label + 1, 255}
        assert mask[15, 15] == item.label + 1 and mask[0, 0] == 0


@pytest.mark.parametrize(("trimap", "message"), [
    (np.full((30, 40), 4), r"holds \[4\]"), (np.zeros((30, 40)), r"Abyssinian_1.png holds \[0\]"),
    (np.ones((30, 41)), "is 41 x 30 and its photograph 40 x 30")])
def test_trimap_of_another_kind_is_refused(root, trimap, message):
    Image.fromarray(trimap.astype(np.uint8)).save(root / "annotations" / "trimaps" / "Abyssinian_1.png")
    dataset = open_dataset("oxford-pets")
    with pytest.raises(ValueError, match=message):
        dataset.read(dataset.items()[0], 16)


@pytest.mark.parametrize("line", ["Abyssinian_1 1 1", "Abyssinian_1 1 3 1", "Abyssinian_1 1 cat 1"])
def test_line_that_is_no_entry_is_named(root, line):
    (root / "annotations" / "test.txt").write_text(f"# a comment\n{line}\n")
    with pytest.raises(ValueError, match=f"test.txt, line 2 is '{line}'"):
        open_dataset("oxford-pets")


def test_missing_list_and_wrong_root_are_named(root, monkeypatch):
    (root / "annotations" / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match="there is no list .*annotations/test.txt"):
        open_dataset("oxford-pets")
    monkeypatch.setenv("OXFORD_PETS_ROOT", str(root / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="OXFORD_PETS_ROOT=.*elsewhere does not hold images/ and annotations/"):
        open_dataset("oxford-pets")


@pytest.mark.parametrize("place", ["data/oxford-iiit-pet", "data/raw/oxford-iiit-pet", "data/raw/oxford-pets"])
def test_what_torchvision_or_an_earlier_call_unpacked_is_found(tmp_path, root, monkeypatch, place):
    monkeypatch.delenv("OXFORD_PETS_ROOT")
    write_oxford_pets(tmp_path / place)
    assert len(open_dataset("oxford-pets").items()) == 16


def test_they_are_prepared_with_limits(root):
    prepared = prepare("oxford-pets", 16, {"val": 4})
    assert prepared.classes == ("cat", "dog") and prepared.left_out == {"in neither official list": 1}
    val = prepared.split("val")
    assert sorted(val.labels.tolist()) == [0, 0, 1, 1] and val.masks.shape == (4, 16, 16)


@pytest.mark.skipif(not REAL, reason="OXFORD_PETS_ROOT is not set: no real photographs")
def test_counts_of_the_real_photographs_agree_with_the_lists():
    lines = [line.split() for name in ("trainval", "test")
             for line in (Path(REAL) / "annotations" / f"{name}.txt").read_text().splitlines()]
    dataset = open_dataset("oxford-pets")
    assert Counter(item.label for item in dataset.items()) == Counter(int(words[2]) - 1 for words in lines)
