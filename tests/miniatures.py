"""Data sets of a few tiny pictures in the true layouts, for tests."""

import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

VOC_CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
               "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
TABLE_1 = ("dog", "cat", "horse", "cow", "car", "person")


@dataclass(frozen=True)
class Photo:
    """One photograph of a miniature VOC; its split is train, val, aug (in trainaug, with an SBD mask only) or none."""

    id: str
    classes: tuple[str, ...]
    split: str
    difficult: bool = False
    in_lists: bool = True
    annotated: bool = False


def voc_photos(classes: tuple[str, ...] = TABLE_1, *, train: int = 1, val: int = 1, aug: int = 1) -> list[Photo]:
    """So many single-class photographs of each class and split."""
    kinds = [(name, split) for split, count in (("train", train), ("val", val), ("aug", aug))
             for name in classes for _ in range(count)]
    return [Photo(f"2008_{number:06d}", (name,), split) for number, (name, split) in enumerate(kinds, 1)]


def write_voc(folder: Path, photos: list[Photo] | None = None, *, size: tuple[int, int] = (48, 36)) -> Path:
    """Write ``VOCdevkit/VOC2012`` of photographs of `size` (width, height); returns the folder ``VOCdevkit``."""
    photos = voc_photos() if photos is None else photos
    root = folder / "VOCdevkit" / "VOC2012"
    main, segmentation = root / "ImageSets" / "Main", root / "ImageSets" / "Segmentation"
    augmented = any(photo.split == "aug" for photo in photos)
    folders = [root / "JPEGImages", root / "SegmentationClass", root / "Annotations", main, segmentation]
    for path in folders + [root / "SegmentationClassAug"] * augmented:
        path.mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(photos):
        image, codes = _picture(number, [VOC_CLASSES.index(name) + 1 for name in photo.classes], size)
        Image.fromarray(image).save(root / "JPEGImages" / f"{photo.id}.jpg", quality=90)
        if photo.split in ("train", "val"):
            _save_codes(codes, root / "SegmentationClass" / f"{photo.id}.png")
        if augmented and photo.split in ("train", "aug"):
            _save_codes(np.where(codes == 255, 0, codes), root / "SegmentationClassAug" / f"{photo.id}.png")
        if photo.annotated:
            objects = (f"<object><name>{name}</name><part><name>head</name></part></object>" for name in photo.classes)
            (root / "Annotations" / f"{photo.id}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    listed = [photo for photo in photos if photo.in_lists]
    for name in VOC_CLASSES:
        for suffix, splits in (("trainval", ("train", "val", "aug")), ("train", ("train", "aug")), ("val", ("val",))):
            (main / f"{name}_{suffix}.txt").write_text("".join(
                f"{photo.id} {'-1' if name not in photo.classes else ' 0' if photo.difficult else ' 1'}\n"
                for photo in listed if photo.split in splits))
    for name, splits in (("train", ("train",)), ("val", ("val",)), ("trainval", ("train", "val"))):
        (segmentation / f"{name}.txt").write_text("".join(f"{photo.id}\n" for photo in photos if photo.split in splits))
    if augmented:
        trained = (photo.id for photo in photos if photo.split in ("train", "aug"))
        (segmentation / "trainaug.txt").write_text("".join(f"{name}\n" for name in trained))
    return folder / "VOCdevkit"


def write_dogs_vs_cats(folder: Path, each: int = 10, *, size: tuple[int, int] = (40, 30)) -> Path:
    """Write ``train/cat.N.jpg`` and ``train/dog.N.jpg``, N from 0; returns `folder`."""
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for label, name in enumerate(("cat", "dog")):
        for number in range(each):
            image, _ = _picture(2 * number + label, [label + 1], size)
            Image.fromarray(image).save(folder / "train" / f"{name}.{number}.jpg", quality=90)
    return folder


def write_pet_images(folder: Path, numbers: list[int], broken: bool = True) -> Path:
    """Write ``PetImages/Cat/N.jpg`` and ``Dog/N.jpg`` with the archive's two empty files; returns `folder`."""
    for label, name in enumerate(("Cat", "Dog")):
        (folder / "PetImages" / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            image, _ = _picture(number, [label + 1], (40, 30))
            Image.fromarray(image).save(folder / "PetImages" / name / f"{number}.jpg")
        (folder / "PetImages" / name / "Thumbs.db").write_bytes(b"not a picture")
    if broken:
        (folder / "PetImages" / "Cat" / "666.jpg").touch()
        (folder / "PetImages" / "Dog" / "11702.jpg").touch()
    return folder


def write_oxford_pets(folder: Path, each: int = 4, *, size: tuple[int, int] = (40, 30)) -> Path:
    """Write ``images`` and ``annotations`` with so many cats and dogs in either official list, and one in neither.

    Breeds of cats begin with a capital letter; the lists mix the species.
    """
    lists = folder / "annotations"
    for path in (folder / "images", lists / "trimaps", lists / "xmls"):
        path.mkdir(parents=True, exist_ok=True)
    every = []
    for split in range(2):
        lines = []
        for number in range(1 + each * split, 1 + each * (split + 1)):
            for breed, class_id, species in (("Abyssinian", 1, 1), ("yorkshire_terrier", 37, 2)):
                lines.append(f"{breed}_{number} {class_id} {species} 1\n")
                image, codes = _picture(2 * number + species, [species], size)
                Image.fromarray(image).save(folder / "images" / f"{breed}_{number}.jpg", quality=90)
                trimap = np.where(codes == 255, 3, np.where(codes > 0, 1, 2)).astype(np.uint8)
                Image.fromarray(trimap).save(lists / "trimaps" / f"{breed}_{number}.png")
        (lists / ("trainval.txt", "test.txt")[split]).write_text("".join(lines))
        every += lines
    (lists / "list.txt").write_text("#Image CLASS-ID SPECIES BREED ID\n" + "".join(sorted(every)))
    Image.fromarray(_picture(0, [1], size)[0]).save(folder / "images" / "Birman_7.jpg")
    (folder / "images" / "Abyssinian_100.mat").write_bytes(b"not a picture")
    (lists / "trimaps" / "._Abyssinian_1.png").write_bytes(b"not a picture")
    return folder


def write_sbd(path: Path, masks: dict[str, np.ndarray], *, train: list[str], val: list[str]) -> Path:
    """Write ``benchmark.tgz`` with class masks in MATLAB's format, and a file that nobody needs."""
    from scipy.io import savemat

    with tarfile.open(path, "w:gz") as archive:
        for name, codes in masks.items():
            stream = io.BytesIO()
            savemat(stream, {"GTcls": {"Segmentation": codes.astype(np.uint8), "CategoriesPresent": np.unique(codes)}})
            add_member(archive, f"benchmark_RELEASE/dataset/cls/{name}.mat", stream.getvalue())
        add_member(archive, "benchmark_RELEASE/dataset/train.txt", "\n".join(train).encode())
        add_member(archive, "benchmark_RELEASE/dataset/val.txt", "\n".join(val).encode())
        add_member(archive, "benchmark_RELEASE/dataset/img/unwanted.jpg", b"photograph")
    return path


def write_tar(path: Path, folder: Path) -> Path:
    """Pack what lies in `folder`."""
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname=".")
    return path


def write_zip(path: Path, folder: Path) -> Path:
    """Pack what lies in `folder`."""
    with zipfile.ZipFile(path, "w") as archive:
        for member in sorted(folder.rglob("*")):
            archive.write(member, member.relative_to(folder).as_posix())
    return path


def add_member(archive: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE,
               target: str = "") -> None:
    """A member of any name and kind, links and devices too."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, len(content)
    archive.addfile(member, io.BytesIO(content))


def _picture(number: int, codes: list[int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Ellipses side by side on noise, and their codes with a ring of void."""
    width, height = size
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8) // 3
    truth = np.zeros((height, width), np.uint8)
    y, x = np.mgrid[:height, :width]
    for place, code in enumerate(codes):
        middle, reach = width * (place + 0.5) / len(codes), 0.38 * width / len(codes)
        distance = np.hypot((x - middle) / reach, (y - height / 2) / (0.38 * height))
        truth[distance < 1.15] = 255
        truth[distance < 1] = code
        image[distance < 1.08] = (97 * code % 256, 31 * code % 256, 200)
    return image, truth


def _save_codes(codes: np.ndarray, path: Path) -> None:
    """A palette PNG with colours that give nothing away about the codes."""
    image = Image.fromarray(codes.astype(np.uint8))
    image.putpalette([value for code in range(256) for value in (255 - code, 37 * code % 256, 128)])
    image.save(path)
