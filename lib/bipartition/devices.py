"""Which device trains, in which precision, and what is said where it cannot."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import is_initialized

__all__ = ["accelerator_for_this_machine", "device_name", "unused_card"]

ASKED = "ACCELERATE_TORCH_DEVICE"
"""Accelerate's own variable: the device that is wanted, where the choice is not to be left to it."""
DRIVER = Path("/proc/driver/nvidia/version")
"""Is there while NVIDIA's kernel module is loaded."""


def accelerator_for_this_machine() -> Accelerator:
    """Device and precision: bfloat16 where the GPU or the processor computes in it, else float32.

    A process has one precision: where an `Accelerator` was made before, its choice stays.

    Raises
    ------
    RuntimeError
        If ACCELERATE_TORCH_DEVICE asks for a GPU that PyTorch cannot use; says why it cannot.
    """
    asked = os.environ.get(ASKED, "")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(f"{ASKED} = {asked!r}, but PyTorch {torch.__version__} cannot use a GPU: {_why_not()}; mend that, "
                           f"or unset {ASKED} to train on the CPU")
    if is_initialized():
        return Accelerator()
    if torch.cuda.is_available() and asked != "cpu":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        bf16 = any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return Accelerator(mixed_precision="bf16" if bf16 else "no")


def unused_card() -> str | None:
    """One line if this machine has an NVIDIA card that PyTorch cannot use, so that nobody trains beside it unawares."""
    if not DRIVER.exists() or torch.cuda.is_available() or os.environ.get(ASKED) == "cpu":
        return None
    return f"this machine has an NVIDIA card that PyTorch {torch.__version__} cannot use ({_why_not()}): training on the CPU"


def device_name(accelerator: Accelerator) -> str:
    """The card's name, or "cpu" with its threads."""
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    return f"{accelerator.device.type} ({torch.get_num_threads()} threads)"


def _why_not() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES = {hidden!r} hides all cards"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).split("\n")[0].rstrip(".")
    return "no card was found"
