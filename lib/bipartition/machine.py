"""What can be said of this machine without PyTorch, which would open a card, and takes seconds to import."""

import os
from pathlib import Path

ASKED = "ACCELERATE_TORCH_DEVICE"
"""Accelerate's own variable: the device that is wanted, where the choice is not to be left to it."""
DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/usr/lib/wsl/lib/libcuda.so.1"))
"""One is there while NVIDIA's kernel module is loaded, or Windows lends its card to Linux."""


def at_a_time() -> int:
    """How many notebooks: two on a CPU, whose cores one training of small pictures cannot fill; one beside a GPU."""
    return 1 if card_is_wanted() else min(2, threads())


def card_is_wanted() -> bool:
    """Whether there is an NVIDIA card, and nobody asked for the CPU."""
    return any(path.exists() for path in DRIVERS) and os.environ.get(ASKED) != "cpu"


def cores() -> int:
    """How many cores the system gives this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launched() -> int:
    """How many processes ``accelerate launch`` started to train one model."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def threads() -> int:
    """How many threads may compute at a time: what OMP_NUM_THREADS says, else one for each core."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(said) if said.isdecimal() and int(said) else cores()
