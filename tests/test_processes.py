"""Several processes train one model: the same gradients as one, one run directory, another number of them goes on."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from bipartition import files
from bipartition.configuration import Configuration

HEAD = '''
import atexit, dataclasses, json, sys
from pathlib import Path

import torch
from accelerate import Accelerator

from bipartition import runs, training
from bipartition.configuration import Configuration
from bipartition.cuts import random_cuts
from bipartition.datasets.prepare import prepare
from bipartition.devices import accelerator_for_this_machine, mean_over_processes, my_share
from bipartition.epochs import Material, train_epoch, unit_range
from bipartition.learners import build_learner
from bipartition.networks import Classifier

atexit.register(lambda: print("a group is left:", torch.distributed.is_initialized(), flush=True))
folder, configuration = Path(sys.argv[1]), Configuration(**json.loads(sys.argv[2]))
accelerator = accelerator_for_this_machine()
'''

# One step of each row on 8 pictures: every gradient, the losses, and the warm-up's cuts.  In float32: bfloat16 would hide
# what this is about.
GRADIENTS = HEAD.replace("accelerator_for_this_machine()", "Accelerator(mixed_precision='no', cpu=True)") + '''
found = {"processes": accelerator.num_processes}
for row in ("chan_vese", "mumford_shah"):
    torch.manual_seed(0)
    configuration = dataclasses.replace(configuration, row=row)
    learner = build_learner(configuration, Classifier(6), accelerator)
    for parameter in learner.network.parameters():  # away from the flat start, where some gradients are nothing
        parameter.data += 0.01 * torch.randn_like(parameter)
    material = Material(pictures=torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8),
                        labels=torch.arange(8) % 6, ids=list(map(str, range(8))))
    losses = train_epoch(learner, material, configuration, 0, 1, {})
    named = learner.network.named_parameters()
    found[row] = {"losses": losses, "gradients": {name: one.grad for name, one in named if one.grad is not None}}
for contours in (0.0, 0.5):
    cuts = random_cuts(unit_range(material.pictures[my_share()]), torch.Generator().manual_seed(0), contours=contours)
    found[f"cuts {contours}"] = mean_over_processes(cuts.square().mean(dim=0))
if accelerator.is_main_process:
    torch.save(found, folder)
accelerator.end_training()
'''

TRAINED = HEAD + '''
prepared = prepare("cartoons", 32, {"train": 24, "val": 12})
training.train_row(configuration, prepared, folder / "chan_vese" / "seed0", profile="test", report=report)
'''
GOES_ON = TRAINED.replace("report=report", "report=lambda line: print(line, flush=True)")
# The first process stops after an epoch of the row.
STOPPED = TRAINED.replace("prepared = ", '''def report(line):
    print(line, flush=True)
    if "chan_vese" in line:
        raise KeyboardInterrupt

prepared = ''')


def configured(**settings):
    return Configuration(**{"row": "chan_vese", "dataset": "cartoons", "seed": 0, "size": 32, "batch_size": 8, "epochs": 2,
                            "warmup_epochs": 1, "warmup_batch_size": 8, "weights": "none", "batch_norm": "frozen",
                            "area_weight": "root", "optimiser": "adam", "classifier_rate": 1e-4,
                            "decoder_rate": 1e-3} | settings)


def launched(processes, code, *arguments, module=()):
    """What ended of `processes` processes that ran a script or a module, each on one thread; as README starts them."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_TORCH_DEVICE": "cpu"}
    several = ["--multi_gpu", "--main_process_port", "0"] if processes > 1 else []
    start = [sys.executable, "-m", "accelerate.commands.launch", *several, "--num_processes", str(processes)]
    return subprocess.run([*start, *(("-m", *module) if module else (code,)), *map(str, arguments)], env=environment,
                          capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def script(tmp_path):
    def write(code):
        path = tmp_path / "script.py"
        path.write_text(code, encoding="utf-8")
        return path
    return write


@pytest.mark.slow(seconds=27)
def test_two_processes_have_the_gradients_and_the_cuts_of_one_on_all_pictures(script, tmp_path):
    one, two = (gradients(processes, script(GRADIENTS), tmp_path / str(processes)) for processes in (1, 2))
    assert [one.pop("processes"), two.pop("processes")] == [1, 2]
    for contours in (0.0, 0.5):
        torch.testing.assert_close(two.pop(f"cuts {contours}"), one.pop(f"cuts {contours}"))
    assert len(one) == 2
    for row, expected in one.items():
        assert two[row]["losses"] == pytest.approx(expected["losses"], rel=1e-5)
        assert two[row]["gradients"].keys() == expected["gradients"].keys()
        for name, gradient in expected["gradients"].items():
            scale = float(gradient.abs().max()) or 1.0
            found = two[row]["gradients"][name] / scale
            torch.testing.assert_close(found, gradient / scale, rtol=1e-3, atol=1e-4, msg=f"{row}: {name}")


def gradients(processes, script, path):
    """What `GRADIENTS` leaves with so many processes; pictures and halves are cropped, each in its own way."""
    ended = launched(processes, script, path, json.dumps(configured(crops=0.5, judge_crops=0.5).to_dict()))
    assert ended.returncode == 0, ended.stderr
    return torch.load(path, weights_only=True)


@pytest.mark.slow(seconds=35)
def test_another_number_of_processes_goes_on_where_the_first_were_stopped(script, tmp_path, places):
    given = tmp_path / "runs", json.dumps(configured(epochs=3).to_dict())
    folder = tmp_path / "runs" / "chan_vese" / "seed0"
    ended = launched(2, script(STOPPED), *given)
    assert ended.returncode != 0
    assert spoken(ended) == [("classifier", "1"), ("chan_vese", "1")], ended.stderr
    assert files.read_json(folder / "config.json")["device"].startswith("2 x cpu")
    ended = launched(1, script(STOPPED), *given)
    assert ended.returncode != 0 and spoken(ended) == [("chan_vese", "2")], ended.stderr
    assert not files.read_json(folder / "config.json")["device"].startswith("2 x cpu")
    ended = launched(2, script(GOES_ON), *given)
    assert ended.returncode == 0 and spoken(ended) == [("chan_vese", "3")], ended.stderr
    assert ended.stdout.count("a group is left: False") == 2
    assert len((folder / "history.csv").read_text().splitlines()) == 4 and (folder / "metrics.json").is_file()


def test_nothing_that_is_loaded_later_holds_on_to_a_group_that_has_ended():
    code = """
import sys
from bipartition import devices
from bipartition.networks import Classifier
devices.torch.distributed.init_process_group("gloo", store=devices.torch.distributed.HashStore(), rank=0, world_size=1)
group = devices.torch.distributed.group.WORLD
Classifier(2)
devices.torch.distributed.destroy_process_group()
print(sys.getrefcount(group))"""  # the name and the call are two
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "2"


def spoken(ended):
    """Row and epoch of each line that was printed."""
    return re.findall(r"(\w+)/seed0  epoch (\d)", ended.stdout)


@pytest.mark.slow
def test_the_pipeline_is_run_by_two_processes_and_speaks_once(tiny_profile, places):
    command = ("bipartition.pipeline", "--profile", tiny_profile, "--rows", "chan_vese")
    ended = launched(2, None, module=(*command, "--no-notebooks"))
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == len(set(lines)) and len([line for line in lines if "epoch 1/1" in line]) == 2, lines
    refused = launched(2, None, module=command)
    assert refused.returncode != 0 and "2 processes cannot share a notebook; add --no-notebooks" in refused.stderr


def test_a_batch_that_cannot_be_shared_is_refused():
    from bipartition.training import _check
    with pytest.raises(ValueError, match="batch_size = 8 cannot be shared by 3 processes"):
        _check(configured(), Prepared(), 3)
    with pytest.raises(ValueError, match="warmup_batch_size = 4 cannot be shared by 8 processes"):
        _check(configured(judge="turns", judge_turns=1, warmup_batch_size=4), Prepared(), 8)


class Prepared:
    """As far as the check looks before it comes to the batches."""

    size = 32
