"""The reader of Dogs vs. Cats: two layouts, one split."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from bipartition.datasets import open_dataset
from miniatures import write_dogs_vs_cats, write_pet_images

REAL = os.environ.get("DOGS_VS_CATS_ROOT")


@pytest.fixture
def opened(monkeypatch):
    def open_at(root: Path, **options):
        monkeypatch.setenv("DOGS_VS_CATS_ROOT", str(root))
        return open_dataset("dogs-vs-cats", **options)
    return open_at


def test_a_tenth_of_each_class_is_validation(opened, tmp_path):
    dataset = opened(write_dogs_vs_cats(tmp_path, each=20))
    assert Counter((item.id[:3], item.split) for item in dataset.items()) == {
        ("cat", "train"): 18, ("cat", "val"): 2, ("dog", "train"): 18, ("dog", "val"): 2}
    assert all(dataset.classes[item.label] == item.id[:3] for item in dataset.items())


def test_split_does_not_depend_on_the_order_of_files(opened, tmp_path, monkeypatch):
    root = write_dogs_vs_cats(tmp_path, each=20)
    first = opened(root)
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: reversed(list(scan(path))))
    assert opened(root).items() == first.items()


def test_split_is_pinned(opened, tmp_path):
    dataset = opened(write_dogs_vs_cats(tmp_path, each=20))
    assert [item.id for item in dataset.items() if item.split == "val"] == ["cat.5", "cat.9", "dog.2", "dog.8"]


def test_both_layouts_give_the_same_items(opened, tmp_path):
    kaggle = write_dogs_vs_cats(tmp_path / "kaggle", each=20)
    archive = write_pet_images(tmp_path / "archive", list(range(20)), broken=False)
    assert opened(kaggle).items() == opened(archive).items()


def test_empty_files_of_the_archive_leave_without_changing_the_split(opened, tmp_path):
    archive = write_pet_images(tmp_path / "archive", list(range(20)))
    broken = opened(archive)
    assert len(broken.items()) == 40 and broken.left_out == {"known to be empty (cat.666, dog.11702)": 2}
    numbers = {"cat": [*range(20), 666], "dog": [*range(20), 11702]}
    for name, listed in numbers.items():
        (tmp_path / "kaggle" / "train").mkdir(parents=True, exist_ok=True)
        for number in listed:
            (tmp_path / "kaggle" / "train" / f"{name}.{number}.jpg").touch()
    whole = opened(tmp_path / "kaggle")
    assert set(broken.items()) < set(whole.items()) and len(whole.items()) == 42


@pytest.mark.parametrize("inner", ["train", "PetImages"])
def test_root_may_be_the_folder_of_photographs_itself(opened, tmp_path, inner):
    write_dogs_vs_cats(tmp_path) if inner == "train" else write_pet_images(tmp_path, list(range(10)))
    assert len(opened(tmp_path / inner).items()) == 20


def test_data_raw_serves_without_an_environment_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("DOGS_VS_CATS_ROOT", raising=False)
    monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path))
    write_dogs_vs_cats(tmp_path / "raw" / "dogs-vs-cats")
    assert len(open_dataset("dogs-vs-cats").items()) == 20


def test_other_files_are_ignored(opened, tmp_path):
    root = write_dogs_vs_cats(tmp_path)
    shutil.copy(root / "train" / "cat.1.jpg", root / "train" / "cat.1 (copy).jpg")
    (root / "train" / ".DS_Store").touch()
    assert len(opened(root).items()) == 20


def test_limits_are_balanced(opened, tmp_path):
    dataset = opened(write_dogs_vs_cats(tmp_path, each=30), train=6, val=2)
    assert Counter((item.label, item.split) for item in dataset.items()) == {
        (0, "train"): 3, (1, "train"): 3, (0, "val"): 1, (1, "val"): 1}


def test_there_is_no_truth(opened, tmp_path):
    dataset = opened(write_dogs_vs_cats(tmp_path))
    image, mask = dataset.read(dataset.items()[0], 24)
    assert image.shape == (24, 24, 3) and mask is None and not dataset.has_truth


def test_wrong_root_is_named(opened, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DOGS_VS_CATS_ROOT=.*elsewhere holds neither train/"):
        opened(tmp_path / "elsewhere")


@pytest.mark.skipif(not REAL, reason="DOGS_VS_CATS_ROOT is not set: no real photographs")
def test_counts_of_the_real_photographs_agree_with_the_folder():
    names = [path.name[:3].lower() if path.parent.name == "train" else path.parent.name.lower()
             for path in Path(REAL).rglob("*.jpg") if path.stat().st_size]
    dataset = open_dataset("dogs-vs-cats")
    assert Counter(dataset.classes[item.label] for item in dataset.items()) == Counter(names)
    share = sum(item.split == "val" for item in dataset.items()) / len(names)
    assert share == pytest.approx(0.1, abs=1 / len(names))
