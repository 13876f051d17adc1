"""Downloads, against a server on this machine that also misbehaves."""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import http.server
import json
import pickle
import re
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights

from bipartition import runs
from bipartition.configuration import Configuration
from bipartition.datasets import download, open_dataset, photographs, transfer
from bipartition.datasets import prepare as preparation
from bipartition.datasets.download import fetch, imagenet_weights, unpack
from bipartition.networks import Classifier
from miniatures import (
    Photo,
    add_member,
    voc_photos,
    write_dogs_vs_cats,
    write_oxford_pets,
    write_pet_images,
    write_sbd,
    write_tar,
    write_voc,
    write_zip,
)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; the folder in the address says how it misbehaves, or that it can send a part of a file.

    ``asked`` is what was asked for, with the range; ``sent`` counts bytes of content; ``trouble`` counts down how often a
    server that recovers still fails; ``pace`` is a pause after each piece.
    """

    asked: list[str] = []
    sent: list[int] = []
    trouble = {"left": 0}
    pace = 0.0

    def do_GET(self):
        kind, _, name = self.path[1:].rpartition("/")
        asked = self.headers.get("Range", "")
        self.asked.append(self.path + asked.replace("bytes=", " from "))
        if kind == "missing":
            return self.send_error(404)
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", f"/ranges/{name}")
            return self.end_headers()
        troubled = self.trouble["left"] > 0
        self.trouble["left"] -= troubled
        if kind == "busy" and troubled:
            return self.send_error(503)
        if kind == "silent" and troubled:
            return time.sleep(0.6)
        self.trickles = kind == "trickle" and troubled
        with open(self.translate_path(f"/{name}"), "rb") as stream:
            content = stream.read()
        if kind == "wrong":
            content = bytes(len(content))
        if kind == "login":
            content = b"<html>log in first</html>"
        self.send(content, kind, asked, drop=kind == "short" or (kind.startswith("drops") and troubled))

    def send(self, content, kind, asked, drop):
        """All of it, or the rest where a rest is asked for, or half of that."""
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        start = 0
        same = self.headers.get("If-Range") in (None, tag)
        if kind in ("ranges", "drops", "wrong-tail") and asked and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        rest = content[start:]
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        rest = rest[:len(rest) // 2] if drop else rest
        with contextlib.suppress(ConnectionError):
            for first in range(0, len(rest), 2**14):
                if self.trickles:  # never silent for long, and never done
                    for byte in range(100):
                        self.wfile.write(rest[first + byte:first + byte + 1])
                        time.sleep(0.05)
                self.wfile.write(rest[first:first + 2**14])
                self.sent.append(len(rest[first:first + 2**14]))
                time.sleep(self.pace)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, what serves it, and ``offer``: set the mirrors of an archive that lies in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in download.VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.setattr(transfer, "TIMEOUT", (0.3, 0.3))
    monkeypatch.setattr(transfer, "WATCHED", 0.3)
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(Handler, "sent", [])
    monkeypatch.setattr(Handler, "trouble", {"left": 0})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"

    def offer(part, mirrors=("/",)):
        content = (folder / download.ARCHIVES[part].file).read_bytes()
        monkeypatch.setitem(download.ARCHIVES, part, dataclasses.replace(
            download.ARCHIVES[part], checksum=f"sha256:{hashlib.sha256(content).hexdigest()}", packed=len(content),
            unpacked=10 * len(content), mirrors=tuple(url + mirror for mirror in mirrors)))

    yield SimpleNamespace(folder=folder, offer=offer, asked=Handler.asked, sent=Handler.sent, trouble=Handler.trouble,
                          data=tmp_path / "data", cache=tmp_path / "cache", url=url)
    server.shutdown()
    server.server_close()


@pytest.fixture
def pets(served, tmp_path):
    """Dogs vs. Cats, on offer."""
    write_zip(served.folder / "kagglecatsanddogs_5340.zip", write_pet_images(tmp_path / "pets", list(range(10))))
    served.offer("dogs-vs-cats")
    return served


def test_registry_is_complete():
    for archive in download.ARCHIVES.values():
        kind, digest = archive.checksum.split(":")
        assert len(digest) == {"sha256": 64, "md5": 32}[kind]
        assert archive.packed > 0 and archive.mirrors and all(mirror.endswith("/") for mirror in archive.mirrors)


def test_archive_is_downloaded_unpacked_and_opened(pets, capsys):
    assert len(open_dataset("dogs-vs-cats").items()) == 20
    assert "downloading kagglecatsanddogs_5340.zip, about 0." in capsys.readouterr().out
    assert pets.asked == ["/kagglecatsanddogs_5340.zip"]


def test_second_fetch_asks_for_nothing(pets):
    assert fetch("dogs-vs-cats") == fetch("dogs-vs-cats")
    assert len(pets.asked) == 1


def test_verified_archive_is_used_again(pets):
    (pets.data / "raw" / "archives").mkdir(parents=True)
    name = "kagglecatsanddogs_5340.zip"
    (pets.data / "raw" / "archives" / name).write_bytes((pets.folder / name).read_bytes())
    fetch("dogs-vs-cats")
    assert pets.asked == []


def test_damaged_archive_is_fetched_again(pets):
    (pets.data / "raw" / "archives").mkdir(parents=True)
    (pets.data / "raw" / "archives" / "kagglecatsanddogs_5340.zip").write_bytes(b"half of it")
    assert (fetch("dogs-vs-cats") / "PetImages" / "Cat" / "1.jpg").is_file()
    assert len(pets.asked) == 1


def addresses(served):
    """Folders that were asked, each once, in their order."""
    return list(dict.fromkeys(path.split(" ")[0].rpartition("/")[0] + "/" for path in served.asked))


@pytest.mark.parametrize("bad", ["/missing/", "/wrong/", "/short/", "/login/", "/busy/", "/silent/", "/trickle/", "/drops/"])
def test_next_mirror_serves_when_one_fails(pets, bad):
    pets.trouble["left"] = transfer.PATIENCE
    pets.offer("dogs-vs-cats", (bad, "/"))
    assert (fetch("dogs-vs-cats") / "PetImages" / "Dog" / "1.jpg").is_file()
    assert addresses(pets) == ([bad, "/"] if bad != "/drops/" else [bad])
    assert [path.name for path in (pets.data / "raw" / "archives").iterdir()] == ["kagglecatsanddogs_5340.zip"]


@pytest.mark.parametrize(("kind", "times"), [
    ("busy", 1), ("busy", 3), ("silent", 1), ("drops", 2), ("drops-without-ranges", 2)])
def test_a_server_that_recovers_is_asked_again(pets, kind, times, capsys):
    pets.trouble["left"] = times
    pets.offer("dogs-vs-cats", (f"/{kind}/",))
    assert (fetch("dogs-vs-cats") / "PetImages" / "Dog" / "1.jpg").is_file()
    assert len(pets.asked) == times + 1
    assert capsys.readouterr().out.count("trying again in 0.0") == times


def test_what_has_arrived_is_not_sent_again_where_the_server_can_send_a_part(pets):
    size = download.ARCHIVES["dogs-vs-cats"].packed
    pets.trouble["left"] = 2
    pets.offer("dogs-vs-cats", ("/drops/",))
    fetch("dogs-vs-cats")
    assert sum(pets.sent) == size
    half, more = size // 2, size // 2 + (size - size // 2) // 2
    assert [path.partition(" from ")[2] for path in pets.asked] == ["", f"{half}-", f"{more}-"]


def test_another_mirror_goes_on_where_one_stopped(pets):
    pets.trouble["left"] = 10
    pets.offer("dogs-vs-cats", ("/short/", "/ranges/"))
    fetch("dogs-vs-cats")
    size = download.ARCHIVES["dogs-vs-cats"].packed
    assert pets.asked[-1] == f"/ranges/kagglecatsanddogs_5340.zip from {size // 2}-"


def test_a_redirect_to_another_mirror_is_followed(pets):
    pets.offer("dogs-vs-cats", ("/moved/",))
    fetch("dogs-vs-cats")
    assert addresses(pets) == ["/moved/", "/ranges/"]


def begin(served, content, **about):
    """What a killed download has left."""
    archive = download.ARCHIVES["dogs-vs-cats"]
    work = served.data / "raw" / "archives" / f".{archive.file}.part"
    work.mkdir(parents=True)
    (work / "bytes").write_bytes(content)
    (work / "tmpabc").write_bytes(content)
    (work / "about.json").write_text(json.dumps({"url": "elsewhere", "length": archive.packed, "validator": None} | about))
    return (served.folder / archive.file).read_bytes()


@pytest.mark.parametrize("kind", ["/ranges/", "/"])
def test_a_wrong_beginning_does_not_spoil_a_good_mirror(pets, kind):
    pets.offer("dogs-vs-cats", (kind,))
    begin(pets, b"wrong" * 100)
    assert fetch("dogs-vs-cats").is_dir()


def test_a_beginning_of_an_older_file_is_begun_anew(pets):
    pets.offer("dogs-vs-cats", ("/ranges/",))
    begin(pets, b"old" * 100, url=f"{pets.url}/ranges/kagglecatsanddogs_5340.zip", validator='"old"')
    assert fetch("dogs-vs-cats").is_dir() and len(pets.asked) == 1


def test_a_download_that_only_lacked_its_check_is_not_downloaded_again(pets):
    content = (pets.folder / "kagglecatsanddogs_5340.zip").read_bytes()
    begin(pets, content)
    assert fetch("dogs-vs-cats").is_dir() and pets.asked == []


def test_when_all_fail_each_mirror_is_listed_with_its_reason_and_the_way_out(pets):
    pets.offer("dogs-vs-cats", ("/missing/", "/wrong/", "/login/", "/short/"))
    with pytest.raises(OSError, match="no mirror gave kagglecatsanddogs_5340.zip") as caught:
        fetch("dogs-vs-cats")
    message = str(caught.value)
    assert "/missing/kagglecatsanddogs_5340.zip: 404" in message
    assert "hash" in message.split("/wrong/")[1].split("\n")[0].lower()
    assert "/login/kagglecatsanddogs_5340.zip: announces 25 bytes, not about" in message
    assert "/short/kagglecatsanddogs_5340.zip: was dropped after" in message
    assert "DOGS_VS_CATS_ROOT=..." in message and download.KAGGLE_PAGE in message
    assert not (pets.data / "raw" / "dogs-vs-cats").exists()
    assert [path.name for path in (pets.data / "raw" / "archives").iterdir()] == [".kagglecatsanddogs_5340.zip.part"]


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """Kaggle's program, installed beside the library, as its answers look from here: ``answer`` is its function's body."""
    def installed(answer):
        (tmp_path / "program").mkdir()
        (tmp_path / "program" / "kagglehub.py").write_text(f"def competition_download(handle, path=None):\n    {answer}\n")
        monkeypatch.syspath_prepend(tmp_path / "program")
        monkeypatch.delitem(sys.modules, "kagglehub", raising=False)
    yield installed
    sys.modules.pop("kagglehub", None)


def test_with_kaggles_program_its_own_archive_serves_where_the_open_one_does_not(pets, kaggle, tmp_path):
    (tmp_path / "kagglehub").mkdir()
    packed = write_zip(tmp_path / "kagglehub" / "train.zip", write_dogs_vs_cats(tmp_path / "layout", each=20))
    kaggle(f"return {str(packed)!r} if (handle, path) == ('dogs-vs-cats-redux-kernels-edition', 'train.zip') else None")
    pets.offer("dogs-vs-cats", ("/missing/",))
    folder = fetch("dogs-vs-cats")
    assert len(list((folder / "train").glob("*.jpg"))) == 40 and len(open_dataset("dogs-vs-cats").items()) == 40
    assert packed.is_file()


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b"PK\x03\x04 and no more", None],
                         ids=["page", "cut short", "folder"])
def test_what_is_no_archive_from_kaggles_program_is_named_among_the_reasons(pets, kaggle, tmp_path, content):
    given = tmp_path / "train.zip"
    given.mkdir() if content is None else given.write_bytes(content)
    kaggle(f"return {str(given)!r}")
    pets.offer("dogs-vs-cats", ("/missing/",))
    with pytest.raises(OSError, match=r"by kagglehub: .*train\.zip is not a zip file; delete it") as caught:
        fetch("dogs-vs-cats")
    assert download.KAGGLE_PAGE in str(caught.value) and not (pets.data / "raw" / "dogs-vs-cats").exists()


def test_the_open_archive_comes_first_because_its_checksum_is_known(pets, kaggle):
    kaggle("raise RuntimeError('asked for nothing')")
    assert (fetch("dogs-vs-cats") / "PetImages").is_dir()


def test_rules_that_were_not_accepted_are_named_with_the_page(pets, kaggle):
    kaggle("raise RuntimeError('403 Client Error. You must accept the rules')")
    pets.offer("dogs-vs-cats", ("/missing/",))
    with pytest.raises(OSError, match="no mirror gave") as caught:
        fetch("dogs-vs-cats")
    assert "train.zip of dogs-vs-cats-redux-kernels-edition by kagglehub: 403 Client Error" in str(caught.value)
    assert download.KAGGLE_PAGE in str(caught.value) and not (pets.data / "raw" / "dogs-vs-cats").exists()


def test_nobody_listening_is_not_waited_for(pets, capsys):
    pets.offer("dogs-vs-cats")
    archive = download.ARCHIVES["dogs-vs-cats"]
    download.ARCHIVES["dogs-vs-cats"] = dataclasses.replace(archive, mirrors=("http://127.0.0.1:9/", *archive.mirrors))
    fetch("dogs-vs-cats")
    assert "trying again" not in capsys.readouterr().out and len(pets.asked) == 1


@pytest.mark.parametrize("place", ["data/raw/", "data/", "cache/pooch/", "cache/pooch/0a1b-"])
def test_a_verified_copy_of_another_program_is_used(pets, place):
    path = Path(f"{pets.data.parent}/{place}kagglecatsanddogs_5340.zip")
    path.parent.mkdir(parents=True)
    path.write_bytes((pets.folder / "kagglecatsanddogs_5340.zip").read_bytes())
    assert fetch("dogs-vs-cats").is_dir() and pets.asked == [] and path.is_file()


def test_an_unverified_copy_of_another_program_is_not_used_and_not_touched(pets):
    path = pets.cache / "pooch" / "kagglecatsanddogs_5340.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of it")
    assert fetch("dogs-vs-cats").is_dir() and len(pets.asked) == 1 and path.read_bytes() == b"half of it"


@pytest.fixture
def weights(served, monkeypatch):
    """A file of weights, on offer; nothing of torch's own is looked at."""
    monkeypatch.delenv("TORCH_HOME", raising=False)
    torch.save(Classifier(1000).body.state_dict(), served.folder / "resnet18-f37072fd.pth")
    monkeypatch.setattr(transfer, "TIMEOUT", (30, 30))  # a busy machine must not ask twice: what is asked for is counted
    served.offer("resnet18")
    return served


def test_weights_are_downloaded_once_and_checked_whenever_they_are_used(weights, capsys):
    path = imagenet_weights()
    assert path == imagenet_weights() == weights.data / "raw" / "archives" / "resnet18-f37072fd.pth"
    assert "resnet18: downloading resnet18-f37072fd.pth, about" in capsys.readouterr().out and len(weights.asked) == 1
    path.write_bytes(b"half of it")
    assert imagenet_weights().read_bytes() == (weights.folder / path.name).read_bytes() and len(weights.asked) == 2


@pytest.mark.parametrize("home", ["", "torch"])
def test_weights_in_torchs_cache_are_used_and_a_trap_there_is_not(weights, monkeypatch, home, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "it-ran").mkdir, ()

    if home:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / home))
    cached = (tmp_path / home if home else weights.cache / "torch") / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes((weights.folder / cached.name).read_bytes())
    assert imagenet_weights() == cached and not weights.asked
    with open(cached, "wb") as stream:
        pickle.dump({"conv1.weight": Trap()}, stream, protocol=2)
    Classifier(6, imagenet_weights())
    assert len(weights.asked) == 1 and not (tmp_path / "it-ran").exists()


def test_weights_that_cannot_be_had_are_named_with_the_way_out(weights):
    weights.offer("resnet18", ("/missing/",))
    with pytest.raises(OSError, match=r"no mirror gave resnet18-f37072fd.pth:\n.*404.*\n.*RESNET18_WEIGHTS=\.\.\./resnet18"):
        imagenet_weights()


def test_a_run_names_the_weights_that_the_registry_checks(monkeypatch):
    monkeypatch.delenv("RESNET18_WEIGHTS", raising=False)
    named = runs.weights_source(Configuration(row="chan_vese", dataset="cartoons", seed=0, weights="imagenet"))
    assert download.ARCHIVES["resnet18"].file == named["source"] and named["source"].endswith(f"-{named['sha256'][:8]}.pth")
    assert download.ARCHIVES["resnet18"].checksum == f"sha256:{named['sha256']}"
    assert ResNet18_Weights.IMAGENET1K_V1.url == download.ARCHIVES["resnet18"].mirrors[0] + named["source"]


def offer_pets(served, folder, mirrors=("/",)):
    """Pack a miniature of Oxford-IIIT Pet as it is published."""
    for part, inner in (("pets-images", "images"), ("pets-annotations", "annotations")):
        with tarfile.open(served.folder / download.ARCHIVES[part].file, "w:gz") as archive:
            archive.add(folder / inner, arcname=inner)
        served.offer(part, mirrors)


def test_oxford_pets_come_in_two_archives(served, tmp_path):
    offer_pets(served, write_oxford_pets(tmp_path / "made"))
    assert len(open_dataset("oxford-pets").items()) == 16
    assert served.asked == ["/images.tar.gz", "/annotations.tar.gz"]


def test_full_disk_is_noticed_before_the_download(pets, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=r"dogs-vs-cats needs .* and 0.00 MB are free; .*DOGS_VS_CATS_ROOT"):
        fetch("dogs-vs-cats")
    assert pets.asked == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_disk_or_a_quota_that_fills_up_is_no_dropped_connection(pets, monkeypatch, code):
    def full(*_, **__):
        raise OSError(code, "no room")

    monkeypatch.setattr(transfer.Resuming, "_tell", full)
    pets.offer("dogs-vs-cats", ("/", "/ranges/"))
    with pytest.raises(OSError, match="no room") as caught:
        fetch("dogs-vs-cats")
    assert caught.value.errno == code and len(pets.asked) == 1


def test_unknown_name_lists_what_there_is():
    with pytest.raises(ValueError, match="'cartoons' cannot be downloaded; .* voc2012, dogs-vs-cats, oxford-pets, sbd"):
        fetch("cartoons")


@pytest.fixture
def voc(served, tmp_path):
    """VOC without augmented masks and SBD, on offer; SBD repeats one photograph of each VOC split and adds two."""
    photos = [*voc_photos(("dog", "cow"), train=2, val=1, aug=0),
              Photo("2009_000001", ("sheep",), "none"),
              Photo("2009_000002", ("bus",), "none", in_lists=False, annotated=True)]
    root = write_voc(tmp_path / "made", photos)
    main = root / "VOC2012" / "ImageSets" / "Main"
    for path in main.glob("*_trainval.txt"):
        path.write_text(path.read_text() + f"2009_000001 {' 1' if path.name == 'sheep_trainval.txt' else '-1'}\n")
    write_tar(served.folder / "VOCtrainval_11-May-2012.tar", tmp_path / "made")
    masks = {name: np.full((36, 48), 17 if name == "2009_000001" else 6)
             for name in ("2008_000001", "2008_000005", "2009_000001", "2009_000002")}
    write_sbd(served.folder / "benchmark.tgz", masks, train=["2008_000005", "2009_000001"],
              val=["2008_000001", "2009_000002"])
    served.offer("voc2012")
    served.offer("sbd")
    return served


def test_trainaug_is_train_and_sbd_minus_val(voc, capsys):
    root = fetch("voc2012") / "VOCdevkit" / "VOC2012"
    names = (root / "ImageSets" / "Segmentation" / "trainaug.txt").read_text().split()
    assert names == ["2008_000001", "2008_000002", "2008_000003", "2008_000004", "2009_000001", "2009_000002"]
    assert sorted(path.stem for path in (root / "SegmentationClassAug").iterdir()) == names
    official, added = root / "SegmentationClass" / "2008_000001.png", root / "SegmentationClassAug" / "2009_000001.png"
    assert (root / "SegmentationClassAug" / official.name).read_bytes() == official.read_bytes()
    with Image.open(added) as image, Image.open(official) as other:
        assert image.mode == "P" and set(np.unique(np.asarray(image)).tolist()) == {17}
        assert image.getpalette()[:30] == other.getpalette()[:30]
    assert not list(root.rglob("unwanted.jpg")) and not list(root.glob(".sbd*"))
    assert "sbd: 6 photographs in trainaug, where VOC 2012 and SBD as published give 10,582" in capsys.readouterr().out


def test_downloaded_voc_is_opened_with_trainaug(voc):
    items = {item.id: item for item in open_dataset("voc2012").items()}
    assert items["2009_000001"].split == items["2009_000002"].split == "train" and len(items) == 8


def test_without_sbd_nothing_looks_finished(voc):
    voc.offer("sbd", ("/missing/",))
    with pytest.raises(OSError, match="no mirror gave benchmark.tgz"):
        fetch("voc2012")
    assert not (voc.data / "raw" / "voc2012").exists()


def test_sbd_can_be_added_later(voc, tmp_path):
    with pytest.raises(FileNotFoundError, match="fetch voc2012"):
        fetch("sbd")
    unpack(voc.folder / "VOCtrainval_11-May-2012.tar", voc.data / "raw" / "voc2012")
    assert len(open_dataset("voc2012").items()) == 6
    fetch("sbd")
    assert len(open_dataset("voc2012").items()) == 8
    fetch("sbd")
    assert voc.asked == ["/benchmark.tgz"]


@pytest.mark.parametrize(("member", "message"), [
    ({"name": "../outside.txt", "content": b"x"}, "leaves the folder"),
    ({"name": "/tmp/outside.txt", "content": b"x"}, "leaves the folder"),
    ({"name": "link", "kind": tarfile.SYMTYPE, "target": "/etc/passwd"}, "neither a file nor a folder"),
    ({"name": "hard", "kind": tarfile.LNKTYPE, "target": "good.txt"}, "neither a file nor a folder"),
    ({"name": "device", "kind": tarfile.CHRTYPE}, "neither a file nor a folder"),
    ({"name": "pipe", "kind": tarfile.FIFOTYPE}, "neither a file nor a folder"),
    ({"name": "good\nhidden.txt", "content": b"x"}, "has a name with control characters"),
    ({"name": "huge.txt", "content": bytes(2 * 10**6)}, "declares 1.00 MB more than may be unpacked")],
    ids=["..", "absolute", "symbolic link", "hard link", "device", "pipe", "newline", "bomb"])
def test_tar_members_that_are_not_plain_files_inside_are_refused(tmp_path, member, message):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        add_member(archive, "good.txt", b"good")
        add_member(archive, **member)
    with pytest.raises(ValueError, match=f"bad.tar is refused: its member {re.escape(repr(member['name']))} .*{message}"):
        unpack(tmp_path / "bad.tar", tmp_path / "here", limit=10**6)
    assert not (tmp_path / "here").exists() and not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(("name", "mode", "message"), [
    ("../outside.txt", 0o100644, "leaves the folder"), ("/outside.txt", 0o100644, "leaves the folder"),
    ("a\\..\\..\\outside.txt", 0o100644, "leaves the folder"),
    ("link", stat.S_IFLNK | 0o777, "neither a file nor a folder"),
    ("device", stat.S_IFCHR | 0o600, "neither a file nor a folder"),
    ("good\nhidden.txt", 0o100644, "has a name with control characters")])
def test_zip_members_that_are_not_plain_files_inside_are_refused(tmp_path, name, mode, message):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, b"/etc/passwd")
    with pytest.raises(ValueError, match=f"bad.zip is refused: its member {re.escape(repr(name))} .*{message}"):
        unpack(tmp_path / "bad.zip", tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_zip_that_declares_far_more_than_the_registry_is_refused_before_anything_is_written(pets):
    with zipfile.ZipFile(pets.folder / "kagglecatsanddogs_5340.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("PetImages/Cat/9.jpg.bomb", bytes(10**7))
    pets.offer("dogs-vs-cats")
    with pytest.raises(ValueError, match=r"member 'PetImages/Cat/9.jpg.bomb' declares \d\.\d+ MB more than may be unpacked"):
        fetch("dogs-vs-cats")
    assert not (pets.data / "raw" / "dogs-vs-cats").exists()


SLOWLY = """
import json, sys, tarfile, time
from bipartition.datasets import download, photographs, prepare, transfer

def slowly(function, seconds):
    def slow(*arguments, **options):
        time.sleep(seconds)
        return function(*arguments, **options)
    return slow

archives = json.load(open(sys.argv[1]))
download.ARCHIVES.update({part: download.Archive(**about) for part, about in archives.items()})
prepare.BLOCK, transfer.CHUNK = 8, 2**13
tarfile.TarFile.makefile = slowly(tarfile.TarFile.makefile, 0.003)
photographs.read_photograph = slowly(photographs.read_photograph, 0.012)
print("ready", flush=True)
prepare.prepare("oxford-pets", 24)
print("done", flush=True)
"""
"""Slow enough for a kill to fall anywhere; on an idle machine the three parts take about as long as each other."""


@pytest.mark.slow(seconds=35)
def test_a_kill_at_any_moment_loses_nothing_and_the_next_call_completes(served, tmp_path, monkeypatch):
    made = write_oxford_pets(tmp_path / "made", each=12, size=(120, 90))
    offer_pets(served, made, ("/ranges/",))
    files = sorted(path.relative_to(made) for path in made.rglob("*"))
    parts = ("pets-images", "pets-annotations")
    (tmp_path / "archives.json").write_text(json.dumps({part: dataclasses.asdict(download.ARCHIVES[part]) for part in parts}))
    monkeypatch.setattr(Handler, "pace", 0.3 / (sum(download.ARCHIVES[part].packed for part in parts) / 2**14))
    monkeypatch.setattr(preparation, "BLOCK", 8)
    monkeypatch.setattr(preparation, "cores", lambda: 1)  # here; those that are killed have two, or what there is

    def start(data):
        monkeypatch.setenv("BIPARTITION_DATA", str(data))
        command = [sys.executable, "-c", SLOWLY, str(tmp_path / "archives.json")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        return child

    child = start(tmp_path / "undisturbed")
    began = time.monotonic()
    assert child.communicate()[0].endswith("done\n")
    whole = time.monotonic() - began
    expected = preparation.prepare("oxford-pets", 24).checksum

    interrupted = Counter()
    for number, moment in enumerate(np.random.default_rng(4).uniform(0, whole, 20)):
        data = tmp_path / f"data{number}"
        child = start(data)
        time.sleep(moment)
        child.kill()
        child.communicate()

        raw, prepared = data / "raw", data / "prepared"
        begun = {}
        for part in parts:
            archive = download.ARCHIVES[part]
            if (path := raw / "archives" / archive.file).is_file():
                assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == archive.checksum
            elif (left := raw / "archives" / f".{archive.file}.part" / "bytes").is_file() and left.stat().st_size:
                begun[archive.file] = left.stat().st_size, archive.packed
        if (raw / "oxford-pets").exists():
            assert sorted(path.relative_to(raw / "oxford-pets") for path in (raw / "oxford-pets").rglob("*")) == files
        for about in prepared.glob("[!.]*/prepared.json"):
            assert json.loads(about.read_text())["checksum"] == expected
        record = next(prepared.glob(".*.partial/sources.csv"), None)
        done = record.read_text().count("\n") - 1 if record else 0
        interrupted["prepare" if record else "unpack" if list(raw.glob(".*.partial")) else "download" if begun else "else"] += 1

        served.asked.clear()
        decoded, read = [], photographs.read_photograph
        with monkeypatch.context() as patch:
            patch.setattr(photographs, "read_photograph",
                          lambda *a, read=read, decoded=decoded, **how: decoded.append(a) or read(*a, **how))
            assert preparation.prepare("oxford-pets", 24).checksum == expected
        for file, (have, size) in begun.items():
            assert [path for path in served.asked if file in path] == ([f"/ranges/{file} from {have}-"] if have < size else [])
        if record:
            assert len(decoded) == 48 - done
        assert not [path for path in data.rglob("*") if path.name.endswith((".part", ".partial"))]
    assert min(interrupted[stage] for stage in ("download", "unpack", "prepare")) > 0, interrupted


def test_a_reader_of_ones_own_is_told_which_variable_names_its_folder(served, tmp_path, monkeypatch):
    monkeypatch.setitem(download.VARIABLES, "shapes", "SHAPES_ROOT")
    with pytest.raises(ValueError, match="^'shapes' cannot be downloaded; set SHAPES_ROOT to its folder$"):
        download.located("shapes")
    monkeypatch.setenv("SHAPES_ROOT", str(tmp_path))
    assert download.located("shapes") == (tmp_path, f"SHAPES_ROOT={tmp_path}")


@pytest.mark.parametrize("name", download.VARIABLES)
def test_a_named_folder_that_may_not_be_read_is_told_with_its_variable(name, tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    variable = download.VARIABLES[name]
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(download.os, "scandir", forbidden)  # nothing is forbidden to root
    with pytest.raises(PermissionError, match=f"{variable}={tmp_path} may not be read; check the permissions"):
        open_dataset(name)
