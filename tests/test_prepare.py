"""Decoding once: what is written, when it is made again, and what happens to broken pictures."""

import csv
import errno
import filecmp
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bipartition import datasets, files, runs
from bipartition.datasets import decoding, download, open_dataset, photographs
from bipartition.datasets import prepare as module
from bipartition.datasets.photographs import VOID, Item
from bipartition.datasets.prepare import checksum_at_hand, prepare, prepared_before
from miniatures import Photo, voc_photos, write_dogs_vs_cats, write_voc

FEW = {"train": 12, "val": 6}
REAL = os.environ.get("VOC_ROOT")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A data folder of this test's own, and no real data set."""
    monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path / "data"))
    for name in ("VOC_ROOT", "DOGS_VS_CATS_ROOT", "OXFORD_PETS_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


@pytest.fixture
def voc(tmp_path, monkeypatch):
    root = write_voc(tmp_path / "voc", voc_photos(("dog", "train", "cat"), train=2, val=1, aug=1))
    monkeypatch.setenv("VOC_ROOT", str(root))
    return root / "VOC2012"


@pytest.fixture
def pets(tmp_path, monkeypatch):
    root = write_dogs_vs_cats(tmp_path / "pets")
    monkeypatch.setenv("DOGS_VS_CATS_ROOT", str(root))
    return root / "train"


@pytest.fixture
def decoded(monkeypatch):
    """Sizes of the jobs that were really decoded."""
    jobs, decode = [], module._decode
    monkeypatch.setattr(module, "_decode",
                        lambda dataset, items, *rest: jobs.append(len(items)) or decode(dataset, items, *rest))
    return jobs


def leftovers(data):
    """Everything in the prepared folder but locks."""
    root = data / "prepared"
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock")) if root.exists() else []


def test_arrays_hold_what_the_reader_reads(voc):
    prepared, dataset = prepare("voc2012", 32), open_dataset("voc2012")
    for name in ("train", "val"):
        split, items = prepared.split(name), [item for item in dataset.items() if item.split == name]
        assert split.ids == [item.id for item in items]
        assert isinstance(split.images, np.memmap) and split.images.dtype == split.masks.dtype == np.uint8
        for place, item in enumerate(items):
            image, mask = dataset.read(item, 32)
            assert np.array_equal(split.images[place], image.transpose(2, 0, 1))
            assert np.array_equal(split.masks[place], mask)
            assert dataset.classes[item.label] == prepared.classes[split.labels[place]]
            assert split.truth_codes[place] == item.label + 1 == mask[16, 16]
    with pytest.raises(ValueError, match="no split 'test'"):
        prepared.split("test")


def test_classes_are_those_that_occur_in_training(voc, tmp_path, monkeypatch):
    monkeypatch.setenv("VOC_ROOT", str(write_voc(tmp_path / "other", [
        *voc_photos(("train", "dog")), Photo("only_val", ("cow",), "val")])))
    prepared = prepare("voc2012", 32)
    assert prepared.classes == ("dog", "train") and len(prepared.all_classes) == 20
    assert prepared.split("val").labels.tolist() == [1, 0] and prepared.split("val").truth_codes.tolist() == [19, 12]
    assert prepared.left_out == {"val: class without a training picture": 1}


def test_cartoons_are_prepared_with_masks(data):
    prepared = prepare("cartoons", 32, FEW)
    train, val = prepared.split("train"), prepared.split("val")
    assert train.images.shape == (12, 3, 32, 32) and val.masks.shape == (6, 32, 32)
    assert val.ids[0] == "cartoon-val-000000" and val.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert [int(mask.max()) for mask in val.masks] == val.truth_codes.tolist() == [1, 2, 3, 4, 5, 6]
    assert prepare("cartoons", 32, {"train": 6, "val": 6}).checksum != prepared.checksum


def test_the_checksum_is_known_without_decoding_or_fetching_anything(voc, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda name: pytest.fail(f"{name} is fetched"))
    assert checksum_at_hand("voc2012", 32, {}) is None
    made = prepare("voc2012", 32)
    assert checksum_at_hand("voc2012", 32, {}) == made.checksum and checksum_at_hand("voc2012", 64, {}) is None
    monkeypatch.setenv("VOC_ROOT", str(tmp_path / "nothing"))
    assert checksum_at_hand("voc2012", 32, {}) is None
    monkeypatch.delenv("VOC_ROOT")
    assert checksum_at_hand("voc2012", 32, {}) is None and checksum_at_hand("oxford-pets", 32, {}) is None


def test_a_place_that_cannot_be_locked_is_named_with_its_own_way_out(data, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with pytest.raises(OSError, match="cannot be locked: No locks available; name a place on another file system in .*DATA"):
        prepare("cartoons", 32, {"train": 6, "val": 6})


def test_without_truth_there_are_no_masks(pets):
    prepared = prepare("dogs-vs-cats", 32)
    assert prepared.split("val").masks is None and not (prepared.folder / "masks.npy").exists()


def test_second_time_nothing_is_read(voc, decoded, monkeypatch):
    first = prepare("voc2012", 32, {"train": 4})
    monkeypatch.setattr(photographs, "read_photograph", lambda *_, **__: pytest.fail("a photograph was read"))
    assert prepare("voc2012", 32, {"train": 4}) == first and decoded == [7]


def test_it_is_the_same_from_another_place(voc, decoded, tmp_path, monkeypatch):
    first = prepare("voc2012", 32)
    shutil.move(voc.parent, tmp_path / "moved")
    monkeypatch.setenv("VOC_ROOT", str(tmp_path / "moved"))
    assert prepare("voc2012", 32) == first and len(decoded) == 1


@pytest.mark.parametrize("change", ["size", "options", "version", "photograph", "label"])
def test_what_has_changed_is_prepared_anew(voc, decoded, monkeypatch, change):
    prepare("voc2012", 32)
    size, options = 32, {}
    if change == "size":
        size = 16
    elif change == "options":
        options = {"val": 2}
    elif change == "version":
        monkeypatch.setattr(module, "PREPARE_VERSION", 99)
    elif change == "photograph":
        Image.new("RGB", (48, 36), "red").save(voc / "JPEGImages" / "2008_000001.jpg")
    else:
        for name in ("dog", "cow"):
            path = voc / "ImageSets" / "Main" / f"{name}_trainval.txt"
            path.write_text(path.read_text().replace("2008_000001  1" if name == "dog" else "2008_000001 -1",
                                                     "2008_000001 -1" if name == "dog" else "2008_000001  1"))
    prepare("voc2012", size, options)
    assert len(decoded) == 2


def test_checksum_is_that_of_the_content(pets):
    first = prepare("dogs-vs-cats", 32)
    shutil.rmtree(first.folder)
    assert prepare("dogs-vs-cats", 32).checksum == first.checksum
    (pets / "cat.0.jpg").write_bytes((pets / "dog.0.jpg").read_bytes())
    assert prepare("dogs-vs-cats", 32).checksum != first.checksum


@pytest.mark.parametrize("damage", ["truncated", "removed", "unfinished"])
def test_damage_is_repaired(voc, decoded, damage):
    folder = prepare("voc2012", 32).folder
    if damage == "truncated":
        os.truncate(folder / "images.npy", 1000)
    else:
        (folder / ("masks.npy" if damage == "removed" else "prepared.json")).unlink()
    assert prepare("voc2012", 32).split("val").images[-1].any() and len(decoded) == 2


def test_bad_pictures_are_listed_in_one_error_and_nothing_stays(voc, data):
    (voc / "JPEGImages" / "2008_000001.jpg").unlink()
    (voc / "JPEGImages" / "2008_000002.jpg").write_bytes(b"")
    whole = (voc / "JPEGImages" / "2008_000003.jpg").read_bytes()
    (voc / "JPEGImages" / "2008_000003.jpg").write_bytes(whole[:len(whole) // 2])
    (voc / "SegmentationClass" / "2008_000007.png").unlink()
    with pytest.raises(ValueError, match="4 of 12 pictures of voc2012 cannot be used") as caught:
        prepare("voc2012", 32)
    message = str(caught.value)
    assert "2008_000001: there is no file" in message and "2008_000002: cannot identify" in message
    assert "2008_000003: image file is truncated" in message and "SegmentationClass/2008_000007.png" in message
    assert leftovers(data) == []


def test_of_many_bad_pictures_ten_are_listed(pets):
    for path in pets.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(ValueError, match="20 of 20 pictures(.*\n){11}.*and 10 more"):
        prepare("dogs-vs-cats", 32)


def test_empty_split_says_what_was_left_out(tmp_path, monkeypatch):
    photos = [Photo("a", ("dog",), "train"), Photo("b", ("dog", "cat"), "val")]
    root = str(write_voc(tmp_path, photos))
    monkeypatch.setenv("VOC_ROOT", root)
    said = r"no usable picture in its split 'val'; left out: 1 \(val: several classes\)"
    with pytest.raises(ValueError, match=said) as error:
        prepare("voc2012", 32)
    assert f"VOC_ROOT={root}" in str(error.value)


@pytest.mark.parametrize(("names", "words"), [
    ({"NAMES": ("cartoons", "shapes")}, ["'shapes' stands in NAMES", "add it to open_dataset of bipartition.datasets"]),
    ({"WITH_TRUTH": ("voc2012",)}, ["cartoons says has_truth = True", "WITH_TRUTH of bipartition.datasets does not have it"])])
def test_whoever_adds_a_data_set_is_told_what_is_missing(monkeypatch, names, words):
    for name, value in names.items():
        monkeypatch.setattr(datasets, name, value)
    with pytest.raises(ValueError) as caught:
        datasets.open_dataset(datasets.NAMES[-1] if "NAMES" in names else "cartoons")
    assert not [word for word in words if word not in str(caught.value)], caught.value


@pytest.mark.parametrize(("arguments", "message"), [
    (("birds", 32), "no data set 'birds'; the data sets are cartoons, voc2012, dogs-vs-cats, oxford-pets"),
    (("cartoons", 0), "size = 0"), (("cartoons", 32, {"train": 0}), "train = 0 pictures of cartoons"),
    (("cartoons", 32, {"val": "many"}), "val = 'many'")])
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        prepare(*arguments)


def test_full_disk_is_noticed_before_decoding(pets, decoded, data, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"MB are needed and 0 MB free; free some space"):
        prepare("dogs-vs-cats", 32)
    assert decoded == [] and leftovers(data) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_disk_that_fills_up_leaves_nothing(pets, data, monkeypatch, code):
    def full(*_):
        raise OSError(code, "No space left on device")
    monkeypatch.setattr(module.os, "pwrite", full)
    with pytest.raises(OSError, match=r"cannot write .*cats-32.*No space left on device; free some space"):
        prepare("dogs-vs-cats", 32)
    assert leftovers(data) == []


def test_folder_without_permission_is_named(data, monkeypatch):
    data.write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"cannot write .*prepared.*check the folder and its permissions") as caught:
        prepare("cartoons", 32, FEW)
    assert str(caught.value).count("cannot write") == 1 and str(caught.value).count("check the folder") == 1


def test_what_a_killed_process_left_is_cleared(pets, data):
    command = ("import os, bipartition.datasets.prepare as module\n"
               "module._checksum = lambda paths: os.kill(os.getpid(), 9)\n"
               "module.prepare('dogs-vs-cats', 32)")
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, check=False).returncode == -9
    assert [name for name in leftovers(data) if name.endswith(".partial")] == leftovers(data) != []
    assert prepare("dogs-vs-cats", 32).split("val").images.any()
    assert len(leftovers(data)) == 1


def test_what_is_not_whole_does_not_count_as_prepared(pets):
    prepared, stamp = prepare("dogs-vs-cats", 32), open_dataset("dogs-vs-cats").stamp()
    assert prepared_before("dogs-vs-cats", 32, {}, stamp) == prepared
    assert prepared_before("dogs-vs-cats", 32, {}, "another") is None
    (prepared.folder / "images.npy").unlink()
    assert prepared_before("dogs-vs-cats", 32, {}, stamp) is None


def test_concurrent_preparations_decode_once(pets, decoded):
    results = []
    threads = [threading.Thread(target=lambda: results.append(prepare("dogs-vs-cats", 32))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len(set(result.checksum for result in results)) == 1 and decoded == [20]


def test_each_picture_is_recorded_with_its_size_and_the_checksum_of_its_files(voc):
    prepared, dataset = prepare("voc2012", 32), open_dataset("voc2012")
    with open(prepared.folder / "sources.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["id"] for line in lines] == prepared.split("train").ids + prepared.split("val").ids
    for line, item in zip(lines, dataset.items(), strict=True):
        content = b"".join(path.read_bytes() for path in dataset.files(item))
        assert (line["width"], line["height"]) == ("48", "36") and line["sha256"] == hashlib.sha256(content).hexdigest()
    assert prepare("cartoons", 32, FEW).folder.joinpath("sources.csv").read_text().split()[1] == "cartoon-train-000000,,,"


def test_an_interrupted_preparation_goes_on_where_it_was(voc, data, monkeypatch):
    expected = prepare("voc2012", 32)
    shutil.rmtree(expected.folder)
    monkeypatch.setattr(module, "BLOCK", 4)
    monkeypatch.setattr(module, "cores", lambda: 1)
    read, calls = photographs.read_photograph, []

    def interrupted(path, size, **how):
        calls.append(path)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return read(path, size, **how)

    monkeypatch.setattr(photographs, "read_photograph", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("voc2012", 32)
    partial, = (data / "prepared").glob(".*.partial")
    with open(partial / "sources.csv", "a") as stream:
        stream.write("2008_000005,48,3")  # a line that a power cut has left
    calls.append(None)
    before = len(calls)
    there = sum(path.stat().st_blocks * 512 for path in partial.iterdir())
    assert there >= 4 * 4 * 32 * 32
    # room for the rest, and not for everything once more
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=12 * 4 * 32 * 32 - there + 2**20 + 1024))
    assert prepare("voc2012", 32) == expected and len(calls) - before == 12 - 4


def prepared_by(processes, monkeypatch, name="voc2012", size=32, *, few=True):
    """Everything, decoded by so many processes, even if it is little."""
    monkeypatch.setattr(module, "cores", lambda: processes)
    if few:
        monkeypatch.setattr(module, "BLOCK", 2)
        monkeypatch.setattr(decoding, "CHUNK", 1)
    return prepare(name, size)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_preparing_with_one_process_and_with_three_gives_the_same(voc, data, monkeypatch, start):
    monkeypatch.setattr(decoding, "multiprocessing", multiprocessing.get_context(start))
    kept = []
    for processes in (1, 3):
        folder = prepared_by(processes, monkeypatch).folder
        kept.append({path.name: path.read_bytes() for path in folder.iterdir()})
        shutil.rmtree(folder)
    assert kept[0] == kept[1] and not leftovers(data) and not multiprocessing.active_children()


def test_broken_photographs_are_named_whichever_process_reads_them(voc, data, monkeypatch):
    dataset = open_dataset("voc2012")
    paths = [dataset.files(item)[0] for item in dataset.items()[5:7]]
    for path in paths:
        path.write_bytes(b"no photograph")
    with pytest.raises(ValueError, match="2 of 12 pictures of voc2012 cannot be used") as caught:
        prepared_by(3, monkeypatch)
    assert all(path.stem in str(caught.value) for path in paths) and not multiprocessing.active_children()


@pytest.mark.parametrize(("codes", "message"), [
    ({12: 77}, "its mask has the value 77; known are 0 .background., 1 to 20 .the classes in their order. and 255"),
    ({8: VOID, 12: VOID, 19: VOID}, "no mask of the validation pictures of voc2012 has an object pixel; .*255 is undecided")])
def test_masks_that_nothing_can_be_measured_by_are_refused(voc, data, monkeypatch, codes, message):
    dataset = open_dataset("voc2012")
    read = type(dataset).read
    assert {dataset.classes.index(name) + 1 for name in ("cat", "dog", "train")} == {8, 12, 19}

    def other(self, item, size):
        image, mask = read(self, item, size)
        return image, np.vectorize(lambda code: codes.get(code, code))(mask).astype(np.uint8)

    monkeypatch.setattr(type(dataset), "read", other)
    with pytest.raises(ValueError, match=message):
        prepare("voc2012", 32)
    assert not [name for name in leftovers(data) if not name.startswith(".")]


def test_a_name_that_two_pictures_bear_is_told(voc, monkeypatch):
    dataset = open_dataset("voc2012")
    dataset._items = [*dataset.items(), dataset.items()[0]]
    monkeypatch.setattr(module, "open_dataset", lambda name, **options: dataset)
    with pytest.raises(ValueError, match=f"voc2012 has 1 names that more than one picture bears, as '{dataset.items()[0].id}'"):
        prepare("voc2012", 32)


def test_a_changed_reader_prepares_anew(voc, tmp_path, monkeypatch):
    before, reader = open_dataset("voc2012").stamp(), sys.modules[type(open_dataset("voc2012")).__module__]
    changed = tmp_path / "voc2012.py"
    changed.write_bytes(Path(reader.__file__).read_bytes() + b"\nMORE = 1\n")
    monkeypatch.setattr(reader, "__file__", str(changed))
    assert open_dataset("voc2012").stamp() != before


def test_a_full_disk_is_told_by_the_process_that_meets_it(voc, monkeypatch):
    write = module.ArrayFile.write

    def full(self, place, entry):
        if place == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, place, entry)

    monkeypatch.setattr(module.ArrayFile, "write", full)
    with pytest.raises(OSError, match="No space left on device; free some space") as caught:
        prepared_by(3, monkeypatch)
    assert caught.value.errno == errno.ENOSPC and not multiprocessing.active_children()


def test_pixels_that_were_recorded_and_are_gone_are_told(voc, data, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    record = module._record
    monkeypatch.setattr(module, "_record", lambda path, lines: record(path, lines) or pytest.fail("a power cut"))
    with pytest.raises(pytest.fail.Exception, match="a power cut"):
        prepare("voc2012", 32)
    monkeypatch.setattr(module, "_record", record)
    partial, = (data / "prepared").glob(".*.partial")
    os.truncate(partial / "images.npy", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(module.ArrayFile, "write", lambda *_: None)
        with pytest.raises(RuntimeError, match="images.npy ends before picture 8, which had been written; .* start again"):
            prepare("voc2012", 32)
    assert not partial.exists() and prepare("voc2012", 32).folder.is_dir()


def test_any_other_error_reaches_the_caller_as_it_is(voc, monkeypatch):
    monkeypatch.setattr(open_dataset("voc2012").__class__, "read", lambda self, item, size: (np.zeros((3, 3, 3)), None))
    with pytest.raises(ValueError, match=r"entry \d has shape \(3, 3, 3\) of float64, not \(3, 32, 32\)"):
        prepared_by(3, monkeypatch)
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_noticed_and_the_next_call_goes_on(voc, data, monkeypatch):
    read, here, last = photographs.read_photograph, os.getpid(), open_dataset("voc2012").items()[-1].id
    calls = []

    def killed(path, size, **how):
        calls.append(path)
        if path.stem == last and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, size, **how)

    monkeypatch.setattr(photographs, "read_photograph", killed)
    with pytest.raises(RuntimeError, match=r"ended with exit code -9 .* it goes on where it stopped"):
        prepared_by(3, monkeypatch)
    assert not calls and not multiprocessing.active_children()
    assert prepared_by(1, monkeypatch).folder.is_dir() and len(calls) == 2  # 10 of 12 were recorded


def test_in_a_process_that_may_start_none_it_decodes_by_itself(voc, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert prepared_by(3, monkeypatch).folder.is_dir()


def test_the_processes_end_when_the_one_that_reads_them_is_killed(voc):
    driver = """
import os, time
from bipartition.datasets import decoding, prepare

def work(*_):
    os.write(1, f"{os.getpid()}\\n".encode())  # in one piece, as others write too
    return None, ("more than a pipe holds" * 9999,)

prepare._work, decoding._received = work, lambda *_: time.sleep(600)
prepare.BLOCK, decoding.CHUNK, prepare.cores = 2, 1, lambda: 3
prepare.prepare("voc2012", 32)
"""
    with subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline().startswith("voc2012: preparing")
        workers = {int(child.stdout.readline()) for _ in range(3)}  # each waits in its first message
        assert len(workers) == 3 and all(alive(worker) for worker in workers)
        child.kill()
    waited = time.monotonic()
    while any(alive(worker) for worker in workers):
        assert time.monotonic() - waited < 10, f"{workers} are still there"
        time.sleep(0.05)


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="VOC_ROOT is not set: no real photographs")
def test_all_real_photographs_give_the_same_bytes_twice_with_one_and_with_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("VOC_ROOT", REAL)
    dataset = open_dataset("voc2012")
    lists = Path(REAL) / "VOC2012" / "ImageSets" / "Segmentation"
    every = [Item(line, 11, split) for split, listed in (("train", "trainaug"), ("val", "val"))
             for line in (lists / f"{listed}.txt").read_text().split()]  # those of several classes too
    dataset._items = every
    monkeypatch.setattr(module, "open_dataset", lambda name, **options: dataset)
    found = []
    for place, processes in enumerate((1, 2)):
        monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path / f"data{place}"))
        found.append(prepared_by(processes, monkeypatch, size=224, few=False))
    assert len({prepared.checksum for prepared in found}) == len({prepared.folder.name for prepared in found}) == 1
    assert len(found[0].split("train").ids) + len(found[0].split("val").ids) == len(every)
    for name in ("images.npy", "masks.npy", "index.csv", "sources.csv", "prepared.json"):
        assert filecmp.cmp(found[0].folder / name, found[1].folder / name, shallow=False)


def test_prepared_json_says_what_made_it(voc):
    about = json.loads((prepare("voc2012", 32, {"val": 2}).folder / "prepared.json").read_text())
    assert about["made_by"] | {"source": ""} == {
        "name": "voc2012", "size": 32, "options": {"val": 2}, "version": module.PREPARE_VERSION, "source": ""}
    assert str(voc.parent) not in json.dumps(about)
    assert runs.prepared_root().is_dir()
