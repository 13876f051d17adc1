"""Device and precision, and what is said where a GPU is asked for or present and cannot be used."""

import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from bipartition import devices, machine
from conftest import on_glibc

OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver."


@pytest.mark.parametrize(("able", "expected"), [
    ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": False}, "no"), ({}, "no")])
def test_bfloat16_where_the_processor_computes_in_it(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(devices, "is_initialized", lambda: False)
    asked = []
    monkeypatch.setattr(devices, "Accelerator", lambda **options: asked.append(options))
    devices.accelerator_for_this_machine()
    assert asked == [{"mixed_precision": expected, "cpu": True, "kwargs_handlers": None}]


@pytest.mark.parametrize(("cuda", "asked", "cpu"), [
    (True, "", False), (True, "cpu", True), (True, "cuda:1", False), (False, "", True), (False, "cpu", True),
    (False, "mps", False)])
def test_a_gpu_of_another_maker_is_taken_only_where_it_is_asked_for(monkeypatch, cuda, asked, cpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(devices, "is_initialized", lambda: False)
    monkeypatch.setenv(devices.ASKED, asked)
    given, current = [], []
    monkeypatch.setattr(devices, "Accelerator", lambda **options: given.append(options["cpu"]))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "ones", lambda count, device: torch.zeros(count))
    devices.accelerator_for_this_machine()
    assert given == [cpu]
    assert current == ([] if cpu or not cuda else [asked or "cuda:0"])  # by which the precision is chosen


@pytest.fixture
def card(monkeypatch):
    """A card that PyTorch sees; gives monkeypatch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "is_initialized", lambda: False)
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    return monkeypatch


def test_a_card_that_pytorch_has_no_code_for_is_an_error_before_anything_is_trained(card):
    def refuse(name):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with ...")

    card.setattr(torch.cuda, "set_device", refuse)
    with pytest.raises(RuntimeError, match=r"cannot compute on cuda:0 \(CUDA error: no kernel image is available for execution "
                                           r"on the device\); .* ACCELERATE_TORCH_DEVICE=cpu to train on the CPU"):
        devices.accelerator_for_this_machine()


def test_each_launched_process_tries_its_own_card_and_none_may_be_asked_for(card):
    taken = []
    card.setattr(torch.cuda, "set_device", taken.append)
    card.setattr(torch, "ones", lambda count, device: torch.zeros(count))
    card.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    card.setattr(devices, "Accelerator", lambda **options: options)
    card.setenv("WORLD_SIZE", "4")
    card.setenv("LOCAL_RANK", "3")
    options = devices.accelerator_for_this_machine()
    assert (options["mixed_precision"], options["cpu"], taken) == ("bf16", False, ["cuda:3"])
    assert [one.timeout for one in options["kwargs_handlers"]] == [devices.PATIENCE]
    card.setenv("ACCELERATE_TORCH_DEVICE", "cuda")
    with pytest.raises(RuntimeError, match="'cuda' would put all 4 processes on one card; unset it"):
        devices.accelerator_for_this_machine()


def test_the_choice_of_an_earlier_accelerator_stays():
    other = "no" if devices.accelerator_for_this_machine().mixed_precision == "bf16" else "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(mixed_precision=other, cpu=True)
    assert devices.accelerator_for_this_machine().mixed_precision == other


def no_gpu(monkeypatch, why):
    def refuse():
        raise RuntimeError(why)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", refuse)


@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
def test_a_gpu_that_is_asked_for_and_cannot_be_used_is_an_error(monkeypatch, asked):
    no_gpu(monkeypatch, OLD_DRIVER)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", asked)
    with pytest.raises(RuntimeError, match=rf"ACCELERATE_TORCH_DEVICE = '{asked}', but PyTorch .*driver .* is too old.*unset"):
        devices.accelerator_for_this_machine()


def test_cards_that_are_hidden_are_said_to_be_hidden(monkeypatch):
    no_gpu(monkeypatch, "never asked")
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RuntimeError, match="CUDA_VISIBLE_DEVICES = '' hides all cards"):
        devices.accelerator_for_this_machine()


def test_the_cpu_may_be_asked_for(monkeypatch):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
    assert devices.accelerator_for_this_machine().device.type == "cpu"


def test_a_card_beside_which_the_cpu_trains_is_named_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "DRIVERS", (tmp_path / "elsewhere", tmp_path / "version"))
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    no_gpu(monkeypatch, OLD_DRIVER)
    assert devices.unused_card() is None
    (tmp_path / "version").touch()
    assert "too old" in devices.unused_card() and "training on the CPU" in devices.unused_card()
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
    assert devices.unused_card() is None
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.unused_card() is None


@on_glibc
@pytest.mark.parametrize(("before", "kept"), [
    ("", False), ("accelerator_for_this_machine()", True), ("Accelerator(cpu=True); accelerator_for_this_machine()", True)])
def test_a_process_that_trains_keeps_the_memory_of_a_large_tensor_for_the_next(before, kept):
    code = f"""
import resource
import torch
from accelerate import Accelerator
from bipartition.devices import accelerator_for_this_machine
{before}
pages = []
for _ in range(20):  # glibc needs up to ten pieces before one fits
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**26, dtype=torch.uint8).fill_(1)
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
print(min(pages[-5:]))"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages = int(answer.stdout.split()[-1])  # of 4 KiB or, where the system chooses to, of 2 MiB
    assert pages < 10 if kept else pages >= 16
