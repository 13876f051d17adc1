"""Which device trains, in which precision, what is said where it cannot, and how several processes train one model.

Each process of ``accelerate launch`` takes its share of every mini-batch; gradients are averaged, so that all hold the same
parameters at every step.  All draw what one process would draw for the whole mini-batch, and keep their share.
"""

import atexit
import ctypes
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

import torch
import torch.distributed.nn.functional  # before there is a group: loaded after, its functions hold on to it past its end
from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.utils import InitProcessGroupKwargs
from torch import Generator, Tensor, nn

from bipartition.machine import ASKED, card_is_wanted, launched

PATIENCE = timedelta(hours=12)
"""How long processes wait for one of them, which may wait for somebody else's training; GPUs would give up after 10 minutes."""
TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""What `mallopt` may change, by the numbers of glibc's ``malloc.h``."""


def accelerator_for_this_machine() -> Accelerator:
    """Device and precision: CUDA or the CPU unless ACCELERATE_TORCH_DEVICE asks for another; bfloat16 where it computes in it.

    Memory that its main thread frees stays with the process from here on.  A process has one precision: where an `Accelerator`
    was made before, its choice stays.

    Raises
    ------
    RuntimeError
        If ACCELERATE_TORCH_DEVICE asks for a GPU that PyTorch cannot use, or the card that is there is none that it can
        compute on; says why.
    """
    asked = os.environ.get(ASKED, "")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(f"{ASKED} = {asked!r}, but PyTorch {torch.__version__} cannot use a GPU: {_why_not()}; mend that, "
                           f"or unset {ASKED} to train on the CPU")
    keep_freed_memory()
    if is_initialized():
        return Accelerator()
    cuda = torch.cuda.is_available() and asked != "cpu"
    if cuda:
        _take_card(asked)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        bf16 = any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    # Accelerate lets processes on CPUs work together only where it is told that these are CPUs, and would choose other
    # makers' GPUs, on which nothing here was ever tried, without being asked.
    together = launched() > 1
    on_cpus = asked == "cpu" or (not cuda and (together or not asked))
    if together:
        atexit.register(_end_group)
    return Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=on_cpus,
                       kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)] if together else None)


def _end_group() -> None:
    """End the processes' group while its threads can be waited for: one that still runs later aborts the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Ask glibc to keep what the main thread frees for the next tensor; does nothing where there is another C library.

    It gives large pieces back to the system and asks for them again, 250,000 pages of 4 KiB for a step of Mumford-Shah with 32
    pictures of 224 pixels, each of which is cleared and looked up when it is first touched.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)  # all from the heap, whose end
        mallopt(TRIM_THRESHOLD, -1)  # is never given back


def sent(drawn: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU, as random numbers are, on the device; a GPU is not waited for until it has it."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)


def my_share() -> slice:
    """Which pictures of a mini-batch this process learns from: all of them where there is one process."""
    return slice(torch.distributed.get_rank(), None, _processes()) if _processes() > 1 else slice(None)


def drawn(draw: Callable[..., Tensor], count: int, *shape: int, rng: Generator) -> Tensor:
    """A random tensor for each picture of this process's share: what one process alone would draw for the same pictures.

    Parameters
    ----------
    draw : callable
        `torch.rand` or `torch.randn`.
    count : int
        Pictures of the share.
    shape : int
        Of what is drawn for each.
    rng : torch.Generator
        In the same state in all processes.

    Returns
    -------
    Tensor, shape (count, *shape)
    """
    return draw(count * _processes(), *shape, generator=rng)[my_share()].contiguous()


def unused_card() -> str | None:
    """One line if this machine has an NVIDIA card that PyTorch cannot use, so that nobody trains beside it unawares."""
    if not card_is_wanted() or torch.cuda.is_available():
        return None
    return f"this machine has an NVIDIA card that PyTorch {torch.__version__} cannot use ({_why_not()}): training on the CPU"


def device_name(accelerator: Accelerator) -> str:
    """The card's name, or "cpu" with its threads; with several processes, how many of these."""
    threads = torch.get_num_threads()
    name = f"{accelerator.device.type} ({threads} thread{'s' if threads > 1 else ''})"
    if accelerator.device.type == "cuda":
        name = torch.cuda.get_device_name(accelerator.device)
    return name if accelerator.num_processes == 1 else f"{accelerator.num_processes} x {name}"


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradient of each parameter by its mean over the processes; does nothing where there is one."""
    _average([parameter.grad for parameter in parameters if parameter.grad is not None])


def descend(optimisers: Mapping[str, torch.optim.Optimizer], loss: Tensor, accelerator: Accelerator, *,
            longest: float | None = None) -> None:
    """One step of every optimiser down the slope of `loss`; a gradient longer than `longest` is shortened to it."""
    for optimiser in optimisers.values():
        optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    for optimiser in optimisers.values():
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        average_gradients(parameters)
        if longest is not None:
            accelerator.clip_grad_norm_(parameters, longest)
        optimiser.step()


def average_statistics(network: nn.Module) -> None:
    """The same for batch norm's running statistics, which each process has of its own share of the pictures.

    On GPUs, where `torch.nn.SyncBatchNorm` normalises over all of them, they are equal already; it has no version for CPUs.
    """
    _average([buffer for buffer in network.buffers() if buffer.is_floating_point()])


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over the processes, without gradient; the tensor itself where there is one."""
    if _processes() == 1:
        return value
    value = value.detach().clone()
    _average([value])
    return value


def _processes() -> int:
    """How many train one model."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _average(tensors: Sequence[Tensor]) -> None:
    """In place, in one message."""
    if not tensors or _processes() == 1:
        return
    together = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(together)
    together /= _processes()
    for tensor, mean in zip(tensors, together.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def _take_card(asked: str) -> None:
    """Make the card of this process the current one, by which its precision is chosen, and try whether it computes."""
    if asked.startswith("cuda") and launched() > 1:
        raise RuntimeError(f"{ASKED} = {asked!r} would put all {launched()} processes on one card; unset it, and accelerate "
                           "launch gives each its own")
    card = asked if asked.startswith("cuda:") else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        torch.cuda.set_device(card)
        torch.ones(1, device=card).item()
    except RuntimeError as error:
        raise RuntimeError(f"PyTorch {torch.__version__} cannot compute on {card} ({_in_short(error)}); set "
                           f"CUDA_VISIBLE_DEVICES to another card, or {ASKED}=cpu to train on the CPU") from error


def _why_not() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES = {hidden!r} hides all cards"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return _in_short(error)
    return "no card was found"


def _in_short(error: Exception) -> str:
    """What CUDA says first; hints for those who debug it follow."""
    return str(error).split("\n")[0].rstrip(".")
