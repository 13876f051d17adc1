"""Three convolutions that are those of PyTorch, computed in a way that is quicker for their shapes."""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import grad


class PatchConvolution(nn.Module):
    """A 3 x 3 convolution, on a CPU and maps of a few pixels as one product of matrices: patches times kernels.

    Where a map has fewer pixels than kernels have channels, nearly all of the work is moving the kernels, and oneDNN's
    convolutions bring them into another order first.  On a GPU, and on larger maps, it is the usual convolution.

    Parameters
    ----------
    convolution : nn.Conv2d
        3 x 3, with a rim of one pixel and without bias: the numbers to start with.

    Notes
    -----
    The weight has the shape (out, 9 in), taps before channels, as it is read here and as `torch.channels_last` would hold it;
    fused optimisers copy the gradient of a weight whose memory is in another order than its shape.  A state dict has it as
    torchvision does.  Patches are picked by a product with zeros and ones: on the way back it adds up the gradients of the
    up to nine patches that share a pixel in float32 also under autocast, which indexing would do in bfloat16.
    """

    PIXELS = 16
    """What an answer may have at most to be such a product, see ``results/published/speed.md``."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.inputs, self.stride = convolution.in_channels, convolution.stride[0]
        self.weight = nn.Parameter(_taps_first(convolution.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """From shape (N, in, H, W) to (N, out, ceil(H / stride), ceil(W / stride)), zeros around the picture."""
        height, width = x.shape[2:]
        rows, columns = math.ceil(height / self.stride), math.ceil(width / self.stride)
        if x.device.type != "cpu" or rows * columns > self.PIXELS:
            return F.conv2d(x, self._kernels(), stride=self.stride, padding=1)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        patches = (_patches(height, width, self.stride).to(x.dtype) @ pixels).view(len(x), rows, columns, -1)
        return F.linear(patches, self.weight).permute(0, 3, 1, 2)

    def _kernels(self) -> Tensor:
        """The weight as others have it, shape (out, in, 3, 3); a view."""
        return self.weight.view(-1, 3, 3, self.inputs).permute(0, 3, 1, 2)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self._kernels().detach()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        kernels = state.get(f"{prefix}weight")
        if kernels is not None and kernels.shape[1:] == (self.inputs, 3, 3):  # else it is refused as any other
            state[f"{prefix}weight"] = _taps_first(kernels)
        super()._load_from_state_dict(state, prefix, *others)


def _taps_first(kernels: Tensor) -> Tensor:
    """From shape (out, in, 3, 3) to (out, 9 in), in memory too."""
    return kernels.permute(0, 2, 3, 1).flatten(1).contiguous()


@functools.cache
def _patches(height: int, width: int, stride: int) -> Tensor:
    """Which pixel each of nine taps of each answer sees: zeros and ones, shape (9 answers, pixels); outside is none."""
    inside = F.unfold(torch.eye(height * width).view(-1, 1, height, width), 3, padding=1, stride=stride)
    return inside.permute(2, 1, 0).flatten(0, 1).contiguous()


class TapConvolution(nn.Conv2d):
    """A 3 x 3 convolution from many channels to few: on a CPU its nine taps as one 1 x 1 convolution, then added up.

    oneDNN's own pads so few outputs to sixteen channels, at each tap.  The answer is in float32 or better also under autocast,
    and on a CPU so is the sum.  On a GPU it is the usual convolution: there the way back would take a call for each picture.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """From shape (N, inputs, H, W) to (N, outputs, H, W), zeros around the picture."""
        if x.device.type != "cpu":
            x = super().forward(x)
            return x.to(torch.promote_types(x.dtype, torch.float32))
        taps = F.conv2d(x, self.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, self.in_channels, 1, 1))
        taps = taps.to(torch.promote_types(taps.dtype, torch.float32))
        return F.fold(taps.flatten(2), x.shape[2:], kernel_size=3, padding=1) + self.bias.view(-1, 1, 1)


class StemConvolution(nn.Module):
    """ResNet's first convolution, 7 x 7 and every second pixel; on a CPU its gradient to a large picture is a convolution too.

    The two cut pictures need that gradient and a bare classifier does not.  oneDNN pads its 3 channels to 16.  A block of 2 x 2
    pixels is seen by 4 x 4 answers, so that one 4 x 4 convolution of the answers' gradient to 4 x 3 channels has it.  It cannot
    be differentiated again.

    Parameters
    ----------
    convolution : nn.Conv2d
        7 x 7, with a stride of two, a rim of three pixels and without bias; its weight is shared.
    """

    SIDE = 128
    """Of smaller pictures the gradient is PyTorch's own, whose last digits the published runs at 64 and 112 pixels have."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight = convolution.weight

    def forward(self, x: Tensor) -> Tensor:
        """From shape (N, 3, H, W) to (N, out, ceil(H / 2), ceil(W / 2)), zeros around the picture."""
        if x.device.type != "cpu" or not x.requires_grad or min(x.shape[2:]) < self.SIDE:
            return F.conv2d(x, self.weight, stride=2, padding=3)
        weight = self.weight
        if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:  # as PyTorch's own
            x, weight = (each.to(torch.get_autocast_dtype("cpu")) for each in (x, weight))
        return _Stem.apply(x, weight)


class _Stem(torch.autograd.Function):
    """The convolution as it is, and its two gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=2, padding=3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        # Pixel 2 i + r has the tap r + 5 - 2 k of the answer i - 1 + k, k = 0 to 3, where there is such a tap.
        taps = F.pad(weight, (1, 0, 1, 0)).unflatten(3, (4, 2)).unflatten(2, (4, 2)).flip(2, 4)
        kernels = taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2).contiguous(memory_format=torch.channels_last)
        blocks = F.conv2d(gradient, kernels, padding=2)[:, :, 1:, 1:]
        own = F.pixel_shuffle(blocks, 2)[:, :, :x.shape[2], :x.shape[3]]
        learning = ctx.needs_input_grad[1]
        return own, grad.conv2d_weight(x, weight.shape, gradient, stride=2, padding=3) if learning else None
