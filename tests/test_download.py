"""Downloads, against a server on this machine that also misbehaves."""

import dataclasses
import functools
import hashlib
import http.server
import stat
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bipartition.datasets import download, open_dataset
from bipartition.datasets.download import fetch, unpack
from miniatures import Photo, add_member, voc_photos, write_pet_images, write_sbd, write_tar, write_voc, write_zip


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; below ``/wrong/`` other bytes, below ``/short/`` only the first half of what it announces."""

    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        kind, _, name = self.path[1:].rpartition("/")
        path = self.translate_path(f"/{name}")
        if kind not in ("wrong", "short"):
            return super().do_GET()
        with open(path, "rb") as stream:
            content = stream.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:len(content) // 2] if kind == "short" else b"\0" * len(content))
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, what serves it, and ``offer``: set the mirrors of an archive that lies in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("BIPARTITION_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("VOC_ROOT", raising=False)
    monkeypatch.delenv("DOGS_VS_CATS_ROOT", raising=False)
    monkeypatch.setattr(Handler, "asked", [])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"

    def offer(part, mirrors=("/",)):
        content = (folder / download.ARCHIVES[part].file).read_bytes()
        monkeypatch.setitem(download.ARCHIVES, part, dataclasses.replace(
            download.ARCHIVES[part], checksum=f"sha256:{hashlib.sha256(content).hexdigest()}", packed=len(content),
            unpacked=len(content), mirrors=tuple(url + mirror for mirror in mirrors)))

    yield SimpleNamespace(folder=folder, offer=offer, asked=Handler.asked, data=tmp_path / "data")
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


@pytest.mark.parametrize("bad", ["/missing/", "/wrong/", "/short/"])
def test_next_mirror_serves_when_one_fails(pets, bad):
    pets.offer("dogs-vs-cats", (bad, "/"))
    assert (fetch("dogs-vs-cats") / "PetImages" / "Dog" / "1.jpg").is_file()
    assert [path.rpartition("/")[0] + "/" for path in pets.asked] == [bad, "/"]


def test_when_all_fail_each_mirror_is_listed_with_its_reason_and_the_way_out(pets):
    pets.offer("dogs-vs-cats", ("/missing/", "/wrong/", "/short/"))
    with pytest.raises(OSError, match="no mirror gave kagglecatsanddogs_5340.zip") as caught:
        fetch("dogs-vs-cats")
    message = str(caught.value)
    assert "/missing/kagglecatsanddogs_5340.zip: 404" in message
    assert "hash" in message.split("/wrong/")[1].split("\n")[0].lower()
    assert "/short/" in message and "DOGS_VS_CATS_ROOT=..." in message
    assert not (pets.data / "raw" / "dogs-vs-cats").exists()
    assert list((pets.data / "raw" / "archives").iterdir()) == []


def test_full_disk_is_noticed_before_the_download(pets, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=r"dogs-vs-cats needs .* and 0.00 MB are free; .*DOGS_VS_CATS_ROOT"):
        fetch("dogs-vs-cats")
    assert pets.asked == []


def test_unknown_name_lists_what_there_is():
    with pytest.raises(ValueError, match="'cartoons' cannot be downloaded; what can is voc2012, dogs-vs-cats, sbd"):
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


def test_trainaug_is_train_and_sbd_minus_val(voc):
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
    ({"name": "pipe", "kind": tarfile.FIFOTYPE}, "neither a file nor a folder")],
    ids=["..", "absolute", "symbolic link", "hard link", "device", "pipe"])
def test_tar_members_that_are_not_plain_files_inside_are_refused(tmp_path, member, message):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        add_member(archive, "good.txt", b"good")
        add_member(archive, **member)
    with pytest.raises(ValueError, match=f"bad.tar is refused: its member .* {message}"):
        unpack(tmp_path / "bad.tar", tmp_path / "here")
    assert not (tmp_path / "here").exists() and not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(("name", "mode", "message"), [
    ("../outside.txt", 0o100644, "leaves the folder"), ("/outside.txt", 0o100644, "leaves the folder"),
    ("a\\..\\..\\outside.txt", 0o100644, "leaves the folder"),
    ("link", stat.S_IFLNK | 0o777, "neither a file nor a folder")])
def test_zip_members_that_are_not_plain_files_inside_are_refused(tmp_path, name, mode, message):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, b"/etc/passwd")
    with pytest.raises(ValueError, match=message):
        unpack(tmp_path / "bad.zip", tmp_path / "here")
    assert not (tmp_path / "here").exists()
