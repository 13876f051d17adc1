"""The reader of PASCAL VOC 2012: which photographs, which label, which mask."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bipartition.datasets import open_dataset
from bipartition.datasets.photographs import Item
from bipartition.datasets.voc2012 import CHOOSING_SHARE, CLASSES
from miniatures import Photo, voc_photos, write_voc

REAL = os.environ.get("VOC_ROOT")


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """Write a miniature and point VOC_ROOT at it; returns the folder VOC2012."""
    def write(photos=None, **options):
        root = write_voc(tmp_path, photos, **options)
        monkeypatch.setenv("VOC_ROOT", str(root))
        return root / "VOC2012"
    return write


def found(dataset) -> dict[str, tuple[str, str]]:
    return {item.id: (CLASSES[item.label], item.split) for item in dataset.items()}


def test_items_are_single_class_photographs_of_trainaug_and_val(voc):
    photos = voc_photos(("dog", "train", "person"))
    voc(photos)
    dataset = open_dataset("voc2012")
    assert found(dataset) == {p.id: (p.classes[0], "val" if p.split == "val" else "train") for p in photos}
    assert dataset.left_out == {}


def test_photographs_with_several_classes_or_none_are_left_out_and_counted(voc):
    voc([*voc_photos(("dog",)), Photo("a", ("dog", "person"), "train"), Photo("b", ("cat", "sofa"), "val"),
         Photo("c", (), "aug"), Photo("d", ("cow",), "val", in_lists=False)])
    dataset = open_dataset("voc2012")
    assert not {"a", "b", "c", "d"} & set(found(dataset))
    assert dataset.left_out == {"train: several classes": 1, "train: no class": 1, "val: several classes": 1,
                                "val: no image-level label": 1}


def test_settings_are_chosen_on_training_photographs_set_apart_and_never_on_val(voc):
    names = [f"2008_{number:06d}" for number in range(60)]
    reported = [Photo("2009_000001", ("dog",), "val"), Photo("2009_000002", ("cat",), "val")]
    voc([*(Photo(name, (("dog", "cat")[i % 2],), "aug" if i % 3 else "train") for i, name in enumerate(names)), *reported])
    dataset, usual = open_dataset("voc2012", evaluated="choosing"), open_dataset("voc2012")
    parts = {split: {item.id for item in dataset.items() if item.split == split} for split in ("train", "val")}
    assert parts["train"] | parts["val"] == set(names) and not parts["train"] & parts["val"]
    assert 60 / CHOOSING_SHARE / 3 < len(parts["val"]) < 60 / CHOOSING_SHARE * 2
    assert {item.id for item in usual.items() if item.split == "train"} == set(names)
    assert dataset.stamp() != usual.stamp()
    for item in dataset.items():
        assert dataset.read(item, 32)[1].max() > 0


def test_only_voc_has_a_part_for_choosing(voc):
    with pytest.raises(ValueError, match="evaluated = 'choosing' for cartoons"):
        open_dataset("cartoons", evaluated="choosing")


def test_difficult_counts_as_present(voc):
    voc([*voc_photos(("dog",)), Photo("easy", ("cat",), "train"), Photo("hard", ("cat",), "train", difficult=True)])
    assert found(open_dataset("voc2012"))["hard"] == ("cat", "train")


def test_annotations_serve_where_the_lists_know_nothing(voc):
    voc([*voc_photos(("dog",)), Photo("2007_000001", ("sheep",), "aug", in_lists=False, annotated=True)])
    assert found(open_dataset("voc2012"))["2007_000001"] == ("sheep", "train")


def test_train_and_val_lists_serve_where_trainval_is_missing(voc):
    photos = voc_photos(("dog", "train"))
    root = voc(photos)
    for path in (root / "ImageSets" / "Main").glob("*_trainval.txt"):
        path.unlink()
    assert len(found(open_dataset("voc2012"))) == len(photos)


def test_labels_do_not_depend_on_masks(voc):
    root = voc(voc_photos(("dog", "cow")))
    before = found(open_dataset("voc2012"))
    for path in [*root.glob("SegmentationClass*/*.png")]:
        path.unlink()
    (root / "SegmentationClassAug").mkdir(exist_ok=True)
    assert found(open_dataset("voc2012")) == before


def test_without_augmented_masks_the_training_split_is_train(voc):
    voc(voc_photos(("dog", "cow"), train=2, aug=0))
    assert Counter(split for _, split in found(open_dataset("voc2012")).values()) == {"train": 4, "val": 2}


def test_val_is_taken_out_of_trainaug(voc):
    root = voc(voc_photos(("dog",), val=2))
    path = root / "ImageSets" / "Segmentation" / "trainaug.txt"
    path.write_text(path.read_text() + (root / "ImageSets" / "Segmentation" / "val.txt").read_text())
    assert Counter(split for _, split in found(open_dataset("voc2012")).values()) == {"train": 2, "val": 2}


@pytest.mark.parametrize("level", ["parent", "VOCdevkit", "VOC2012"])
def test_root_may_be_the_devkit_its_parent_or_its_child(voc, monkeypatch, level):
    root = voc()
    folders = {"parent": root.parent.parent, "VOCdevkit": root.parent, "VOC2012": root}
    monkeypatch.setenv("VOC_ROOT", str(folders[level]))
    assert len(open_dataset("voc2012").items()) == 18


@pytest.mark.parametrize("place", ["raw/voc2012", "", "raw"], ids=["ours", "torchvision's data", "torchvision's data/raw"])
def test_what_an_earlier_call_or_torchvision_unpacked_is_found_before_anything_is_fetched(tmp_path, monkeypatch, place):
    monkeypatch.delenv("VOC_ROOT", raising=False)
    monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path))
    monkeypatch.setattr("bipartition.datasets.download.fetch", lambda name: pytest.fail(f"{name} was fetched"))
    write_voc(tmp_path / place)
    assert len(open_dataset("voc2012").items()) == 18


def test_masks_are_read_as_codes_not_as_colours(voc):
    photos = voc_photos(("train",), aug=1)
    voc(photos, size=(32, 32))
    dataset = open_dataset("voc2012")
    code = CLASSES.index("train") + 1
    masks = {item.id: dataset.read(item, 32)[1] for item in dataset.items()}
    assert all(mask.dtype == np.uint8 and mask[16, 16] == code and mask[0, 0] == 0 for mask in masks.values())
    assert {p.split: set(np.unique(masks[p.id]).tolist()) for p in photos} == {
        "train": {0, code, 255}, "val": {0, code, 255}, "aug": {0, code}}


def test_image_and_mask_are_squashed_alike(voc):
    voc(voc_photos(("bus",)), size=(64, 24))
    dataset = open_dataset("voc2012")
    image, mask = dataset.read(dataset.items()[0], 48)
    assert image.shape == (48, 48, 3) and mask.shape == (48, 48)
    inside = mask == CLASSES.index("bus") + 1
    assert image[..., 2][inside].mean() > 150 > 90 > image[..., 2][mask == 0].mean()


def test_mask_of_another_size_names_both(voc):
    root = voc(voc_photos(("dog",), train=1, aug=0), size=(48, 36))
    Image.fromarray(np.zeros((30, 48), np.uint8)).save(root / "SegmentationClass" / "2008_000001.png")
    dataset = open_dataset("voc2012")
    with pytest.raises(ValueError, match=r"2008_000001.png is 48 x 30 and its photograph 48 x 36"):
        dataset.read(Item("2008_000001", 11, "train"), 16)


@pytest.mark.parametrize(("picture", "message"), [
    (Image.new("RGB", (48, 36)), "is RGB"), (Image.new("L", (48, 36), 21), r"holds \[21\]")])
def test_mask_of_another_kind_is_refused(voc, picture, message):
    root = voc(voc_photos(("dog",), aug=0))
    picture.save(root / "SegmentationClass" / "2008_000001.png")
    with pytest.raises(ValueError, match=message):
        open_dataset("voc2012").read(Item("2008_000001", 11, "train"), 16)


def test_limits_take_classes_in_turn_and_smaller_ones_are_part_of_larger_ones(voc):
    voc(voc_photos(("dog", "cat", "cow"), train=4, val=3, aug=0) + [Photo("z", ("car",), "train")])
    few, more = (open_dataset("voc2012", train=count, val=count - 1).items() for count in (4, 6))
    assert set(few) < set(more) and len(more) == 11
    assert sorted(Counter(item.label for item in few if item.split == "train").values()) == [1, 1, 1, 1]
    assert sorted(Counter(item.label for item in more if item.split == "train").values()) == [1, 1, 2, 2]
    assert len(open_dataset("voc2012", train=1000).items()) == 22


def test_missing_root_and_missing_list_are_named(voc, tmp_path, monkeypatch):
    root = voc()
    (root / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no list .*Segmentation/val.txt"):
        open_dataset("voc2012")
    monkeypatch.setenv("VOC_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"VOC_ROOT=.*nowhere holds no VOC2012"):
        open_dataset("voc2012")


def test_broken_list_and_annotation_are_named(voc):
    root = voc([*voc_photos(("dog",)), Photo("x", ("cat",), "train", in_lists=False, annotated=True)])
    (root / "Annotations" / "x.xml").write_text("<annotation><object><name>dragon</name></object></annotation>")
    with pytest.raises(ValueError, match=r"x.xml names dragon"):
        open_dataset("voc2012")
    (root / "Annotations" / "x.xml").write_text("<annotation><obj")
    with pytest.raises(ValueError, match=r"x.xml is not readable as XML"):
        open_dataset("voc2012")
    (root / "ImageSets" / "Main" / "cow_trainval.txt").write_text("2008_000001 2\n")
    with pytest.raises(ValueError, match=r"cow_trainval.txt, line 1 is '2008_000001 2'"):
        open_dataset("voc2012")


@pytest.mark.skipif(not REAL, reason="VOC_ROOT is not set: no real photographs")
class TestRealPhotographs:
    """Against the lists of the folder, read in another way."""

    @pytest.fixture
    def root(self):
        candidates = (Path(REAL), Path(REAL) / "VOC2012", Path(REAL) / "VOCdevkit" / "VOC2012")
        return next(path for path in candidates if (path / "JPEGImages").is_dir())

    def test_counts_agree_with_the_lists(self, root):
        dataset = open_dataset("voc2012")
        if (root / "Annotations").is_dir():
            pytest.skip("photographs outside the lists are labelled by Annotations; counted only where there are none")
        present = Counter()
        label = {}
        for name in CLASSES:
            for line in (root / "ImageSets" / "Main" / f"{name}_trainval.txt").open():
                photo, value = line.split()
                present[photo] += value != "-1"
                if value != "-1":
                    label[photo] = name
        lists = root / "ImageSets" / "Segmentation"
        val = set((lists / "val.txt").read_text().split())
        augmented = (lists / "trainaug.txt").is_file() and (root / "SegmentationClassAug").is_dir()
        train = set((lists / f"train{'aug' * augmented}.txt").read_text().split()) - val
        expected = {photo: (label[photo], "val" if photo in val else "train")
                    for photo in train | val if present[photo] == 1}
        assert found(dataset) == expected
        assert sum(dataset.left_out.values()) == len(train | val) - len(expected)

    @pytest.mark.slow
    def test_masks_hold_codes_of_classes_and_void_only_and_each_its_own_class(self):
        dataset, seen = open_dataset("voc2012"), set()
        for item in dataset.items():
            with Image.open(dataset.files(item)[1]) as mask:
                codes = set(np.unique(np.asarray(mask)).tolist())
            assert item.label + 1 in codes, item
            seen |= codes
        assert seen <= {*range(21), 255} and {0, 255} <= seen

    def test_a_few_masks_hold_their_class(self):
        dataset = open_dataset("voc2012", train=12, val=12)
        for item in dataset.items():
            image, mask = dataset.read(item, 64)
            assert image.std() > 5
            assert (mask == item.label + 1).any()
