"""Disks that are full or may only be read: file systems of their own, in a namespace of its own."""

import json
import os
import subprocess
import sys

import pytest

from bipartition.configuration import Configuration

SPACE_OF_ITS_OWN = ["unshare", "--user", "--map-root-user", "--mount"]

pytestmark = pytest.mark.skipif(
    subprocess.run([*SPACE_OF_ITS_OWN, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode
    if sys.platform == "linux" else True,
    reason="this machine lets nobody mount a file system of one's own")

DRIVER = '''
import json, os, subprocess, sys
from pathlib import Path

from bipartition import runs
from bipartition.configuration import Configuration
from bipartition.datasets.prepare import prepare
from bipartition.training import train_row

disk, calm, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
prepared = prepare("cartoons", 32, {"train": 16, "val": 8})
configuration = Configuration(**json.loads(sys.argv[4]))


def mount(megabytes, *again):
    options = ",".join([f"size={megabytes}m", *again])
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def train(folder, report=print):
    train_row(configuration, prepared, folder / "classifier" / "seed0", profile="full disk", report=report)
    return folder / "classifier" / "seed0"


def fill(line):
    print(line)
    if when == "evaluation" and "epoch 2/2" in line:
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(1 << 20)):
                    pass
            except OSError:  # full; the masks shall fit, the model not
                ballast.truncate(ballast.tell() - (2 << 20))


whole = train(calm)
mount({"training": 200, "evaluation": 400}[when])
try:
    folder = train(disk, fill)
except OSError as error:
    print("ERROR", error)
else:
    sys.exit("the disk was full and nobody noticed")
folder = disk / "classifier" / "seed0"
print("LEFT", *sorted(path.name for path in folder.iterdir()))
(disk / "ballast").unlink(missing_ok=True)
mount(600, "remount")
train(disk, lambda line: print("AGAIN", line))
for name in ("history.csv", "masks.npy", "metrics.json"):
    assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
print("SAME")
'''

CONFIGURATION = Configuration(row="classifier", dataset="cartoons", seed=0, size=32, weights="none", optimiser="adam",
                              epochs=2, batch_size=8).to_dict()


@pytest.mark.slow
@pytest.mark.parametrize(("when", "file", "again"), [
    # one state of 135 MB fits, a second beside it does not
    ("training", "checkpoint.pt", ["epoch 2/2"]),
    ("evaluation", "model.safetensors", []),
])
def test_a_full_disk_is_named_and_costs_nothing_that_was_kept(tmp_path, when, file, again):
    (tmp_path / "disk").mkdir()
    ended = subprocess.run(
        [*SPACE_OF_ITS_OWN, sys.executable, "-c", DRIVER, str(tmp_path / "disk"), str(tmp_path / "calm"), when,
         json.dumps(CONFIGURATION)],
        env=os.environ | {"BIPARTITION_DATA": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    error = next(line for line in lines if line.startswith("ERROR"))
    assert error.endswith(f"cannot write {tmp_path / 'disk' / 'classifier' / 'seed0' / file}: No space left on device; "
                          "free some space"), error
    left = next(line for line in lines if line.startswith("LEFT")).split()
    assert "checkpoint.pt" in left and "metrics.json" not in left and not any(name.startswith(".") for name in left), left
    resumed = [line for line in lines if line.startswith("AGAIN")]
    assert len(resumed) == len(again) and all(part in line for part, line in zip(again, resumed, strict=True)), resumed
    assert lines[-1] == "SAME"


@pytest.mark.slow
def test_prepared_pictures_may_lie_where_nothing_can_be_written(trained, tmp_path):
    profile, environment = trained
    data = environment["BIPARTITION_DATA"]
    script = (f"mount --bind '{data}' '{data}' && mount -o remount,ro,bind '{data}' && ! touch '{data}/x' 2> /dev/null && "
              f"exec '{sys.executable}' -m bipartition.pipeline --profile '{profile}' --rows chan_vese --no-notebooks")
    ended = subprocess.run([*SPACE_OF_ITS_OWN, "sh", "-c", script], capture_output=True, text=True, check=False,
                           env=os.environ | environment | {"BIPARTITION_RESULTS": str(tmp_path / "results")})
    assert ended.returncode == 0 and "done: see" in ended.stdout, ended.stdout + ended.stderr
