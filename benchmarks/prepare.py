"""How close is preparing to what Pillow can do?  Prints photographs a second and peak memory as Markdown.

    VOC_ROOT=... DOGS_VS_CATS_ROOT=... python benchmarks/prepare.py [--size 224] [--rounds 5] [--datasets voc2012 ...]

The limit is Pillow's bare work on all cores: open, decode, make RGB, resize, for the photograph and where there is one its
mask; nothing is checked, kept or written.  Preparing is all of `bipartition.datasets.prepare.prepare`, from the lists to the
checksum of what was written.  The last line of the first table, and the memory, are of photographs as large as published:
those of Dogs vs. Cats in turn, enlarged to a long side of 500 pixels.  Each measurement is a process of its own, without its
imports; the two take turns, and the files are in the page cache.  On a machine that does other things only the ratios mean
something.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from bipartition.datasets import open_dataset
from bipartition.datasets import prepare as preparation
from bipartition.datasets.download import VARIABLES, located
from bipartition.machine import cores

VALIDATION = 40
MEMORY_AT = (1000, 3000)
LONG_SIDE = 500


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--datasets", nargs="+", default=["voc2012", "dogs-vs-cats"])
    parser.add_argument("--one", nargs=3, metavar=("KIND", "DATASET", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, dataset, count = options.one
        print(json.dumps(_measured(kind, dataset, int(count), options.size)))
        return

    for dataset in {*options.datasets, "dogs-vs-cats"} & VARIABLES.keys():  # found or fetched here, once for all processes
        os.environ[VARIABLES[dataset]] = str(located(dataset)[0])
    print(f"{cores()} cores, Pillow {Image.__version__}, {options.size} pixels, {options.rounds} rounds; "
          "median [smallest, largest]\n")
    print("| data set | photographs | Pillow alone, photographs/s | prepared, photographs/s | share of Pillow's |")
    print("| :-- | --: | --: | --: | :-: |")
    for dataset in options.datasets:
        _compare(dataset, dataset, options)
    with tempfile.TemporaryDirectory() as folder:
        _enlarge(Path(folder))
        os.environ["DOGS_VS_CATS_ROOT"] = folder
        _compare("dogs-vs-cats", f"dogs-vs-cats, {LONG_SIDE} pixels", options)
        print("\n| photographs | peak memory while preparing, MB | of a process that decodes | before it, MB |")
        print("| --: | --: | --: | --: |")
        for count in MEMORY_AT:
            done = _child("prepare", "dogs-vs-cats", count, options.size)
            print(f"| {done['photographs']} | {done['peak']:.0f} | {done['decoding']:.0f} | {done['before']:.0f} |", flush=True)


def _compare(dataset: str, title: str, options: argparse.Namespace) -> None:
    count = min(MEMORY_AT[-1], len(open_dataset(dataset).items()))
    _child("bare", dataset, count, options.size)
    rounds = [[_child(kind, dataset, count, options.size) for kind in ("bare", "prepare")] for _ in range(options.rounds)]
    rates = [[done["photographs"] / done["seconds"] for done in pair] for pair in rounds]
    shares = [prepared / bare for bare, prepared in rates]
    bare, prepared = (f"{statistics.median(column):.0f}" for column in zip(*rates, strict=True))
    print(f"| {title} | {rounds[0][0]['photographs']} | {bare} | {prepared} | {statistics.median(shares):.2f} "
          f"[{min(shares):.2f}, {max(shares):.2f}] |", flush=True)


def _enlarge(folder: Path) -> None:
    """A set in the layout of Dogs vs. Cats with more photographs than `MEMORY_AT` asks for."""
    source = open_dataset("dogs-vs-cats")
    items = {label: [item for item in source.items() if item.label == label] for label in (0, 1)}
    (folder / "train").mkdir()
    for number in range(MEMORY_AT[-1] * 6 // 10):
        for label, name in enumerate(("cat", "dog")):
            with Image.open(source.files(items[label][number % len(items[label])])[0]) as image:
                share = LONG_SIDE / max(image.size)
                image.resize([round(side * share) for side in image.size], Image.Resampling.LANCZOS).save(
                    folder / "train" / f"{name}.{number}.jpg", quality=90)


def _child(kind: str, dataset: str, count: int, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--size", str(size), "--one", kind, dataset, str(count)]
    with tempfile.TemporaryDirectory() as data:
        places = os.environ | {"BIPARTITION_DATA": data}
        ended = subprocess.run(command, env=places, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


def _measured(kind: str, dataset: str, count: int, size: int) -> dict[str, float]:
    limits = {"train": count - VALIDATION, "val": VALIDATION}
    source = open_dataset(dataset, **limits)
    files = [source.files(item) for item in source.items()]
    before, began = _peak(), time.perf_counter()
    if kind == "prepare":
        preparation.prepare(dataset, size, limits)
    else:
        with ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(lambda paths: _bare(paths, size), files):
                pass
    return {"photographs": len(files), "seconds": time.perf_counter() - began, "before": before, "peak": _peak(),
            "decoding": _peak(resource.RUSAGE_CHILDREN)}


def _bare(paths: list[Path], size: int) -> None:
    with Image.open(paths[0]) as image:
        image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    for path in paths[1:]:
        with Image.open(path) as mask:
            mask.resize((size, size), Image.Resampling.NEAREST)


def _peak(whose: int = resource.RUSAGE_SELF) -> float:
    """Largest resident memory of this process so far, or of one that it started, in MB."""
    return resource.getrusage(whose).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
