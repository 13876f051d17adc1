"""The auto-encoder of section 4.2, which knows no classes: an encoder like VGG-16's, and its mirror."""

import math

import torch
from torch import Tensor, nn

from bipartition.networks import Partition

LEAK = 0.2


class AutoEncoder(nn.Module):
    """VGG-16 encoder, mirrored transposed convolutions, no skip connections: the loss-only networks of section 4.2.

    Parameters
    ----------
    matrices : bool
        False: one sigmoid channel, phi.  True: seven, phi with F and B.
    width : int
        Channels of the first block; 64 is VGG-16.  A smaller one keeps every layer and divides all channels.
    poolings : int from 1 to 5
        How many of the five blocks halve the picture; VGG-16's all do.  A code of 2 x 2, all that would be left of 64 pixels,
        holds no contour: with 3 its grid is 8 x 8, close to the 7 x 7 that 224 pixels leave.

    Notes
    -----
    It starts from scratch: the paper does not say that the encoder is pretrained, and the energies need no classes.  Both
    halves have batch norm, as torchvision's ``vgg16_bn``: without it these 26 layers died within a few steps of (10).
    """

    DOWN = (2, 2, 3, 3, 3)
    """Convolutions in each of VGG-16's five blocks."""

    def __init__(self, *, matrices: bool, width: int = 64, poolings: int = 5) -> None:
        super().__init__()
        blocks = list(zip([width, 2 * width, 4 * width, 8 * width, 8 * width], self.DOWN, strict=True))
        self.matrices = matrices
        self.encoder = _vgg16_features(blocks, poolings)
        self.decoder = _mirrored(blocks, poolings, outputs=7 if matrices else 1)
        for module in [*self.encoder, *self.decoder]:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                _keep_variance(module)
        # The first mask is grey everywhere, so that neither half starts with an advantage.  F and B must start apart: at
        # F = B the mask has no gradient, and at a grey mask F and B have the same.  0.69 and 0.24 lie evenly about
        # 0.46, the mean of cartoons scaled to [0, 1].
        nn.init.normal_(self.decoder[-1].weight, std=1e-2)
        if matrices:
            nn.init.constant_(self.decoder[-1].bias[1:4], 0.8)
            nn.init.constant_(self.decoder[-1].bias[4:7], -1.15)

    def forward(self, image: Tensor) -> Partition:
        """Mask (and F, B) of a picture of shape (N, 3, H, W) in [0, 1]; H and W are multiples of 2**poolings.

        There are no scores.
        """
        x = self.decoder(self.encoder(image))
        maps = torch.sigmoid(x.to(torch.promote_types(x.dtype, torch.float32)))
        matrices = (maps[:, 1:4], maps[:, 4:7]) if self.matrices else None
        return Partition(maps[:, :1], matrices)

    def segment(self, image: Tensor) -> Partition:
        """The same: there is only one pass."""
        return self(image)


def _vgg16_features(blocks: list[tuple[int, int]], poolings: int) -> nn.Sequential:
    """VGG-16's convolutions, given as (channels, depth) of each block; the first `poolings` blocks end with a halving."""
    layers: list[nn.Module] = []
    before = 3
    for index, (width, depth) in enumerate(blocks):
        for _ in range(depth):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            before = width
        if index < poolings:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _mirrored(blocks: list[tuple[int, int]], poolings: int, outputs: int) -> nn.Sequential:
    """Transposed convolutions in reverse order; the last one has neither batch norm nor ReLU.

    The ReLUs leak: where plain ones answer 0, the last layer has only its bias to say, and half of the mask stays grey.
    """
    layers: list[nn.Module] = []
    for index, (width, depth) in reversed(list(enumerate(blocks))):
        if index < poolings:
            layers += [nn.ConvTranspose2d(width, width, 2, stride=2), *_normalised(width)]
        targets = [width] * (depth - 1) + [blocks[index - 1][0] if index else outputs]
        for target in targets:
            layers += [nn.ConvTranspose2d(width, target, 3, padding=1), *_normalised(target)]
    return nn.Sequential(*layers[:-2])


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.LeakyReLU(LEAK, inplace=True)]


def _keep_variance(module: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """He initialisation.  PyTorch's own takes the fan of a transposed convolution from the wrong side."""
    taps = math.prod(module.kernel_size) / math.prod(module.stride)
    nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
    nn.init.zeros_(module.bias)
