"""The same training as most would write it at first: what `bipartition` is compared with by ``step.py``, and nothing else.

A DataLoader that opens, decodes and resizes each JPEG every time with Pillow; float32 in PyTorch's usual memory layout; feature
maps brought to full size before their 1 x 1 convolutions; every decoder and every energy term for itself, as the
equations stand; three passes of the classifier.  Same parameters by name, same losses: ``tests/test_plain_loop.py``.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from bipartition.networks import DECODER_CHANNELS, Classifier


class Photographs(Dataset):
    """JPEG files in a folder, named after their class: ``3_0001.jpg``."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths, self.size = sorted(folder.glob("*.jpg")), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as photograph:
            pixels = np.array(photograph.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR))
        picture = torch.from_numpy(pixels).permute(2, 0, 1).float()
        if torch.rand(()) < 0.5:
            picture = picture.flip(-1)
        picture = (picture - picture.min()) / (picture.max() - picture.min()).clamp_min(1)
        return picture, int(self.paths[index].name.partition("_")[0])


def loader(folder: Path, size: int, batch_size: int, workers: int) -> DataLoader:
    """Shuffled mini-batches of a folder of `Photographs`."""
    return DataLoader(Photographs(folder, size), batch_size=batch_size, shuffle=True, num_workers=workers, drop_last=True,
                      persistent_workers=workers > 0)


class PlainDecoder(nn.Module):
    """Upsample, convolve, concatenate, convolve, upsample."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(channels, DECODER_CHANNELS, 1) for channels in Classifier.CHANNELS)
        self.combine = nn.Conv2d(len(Classifier.CHANNELS) * DECODER_CHANNELS, outputs, 3, padding=1)

    def forward(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        grid = features[0].shape[2:]
        maps = [F.relu(convolution(F.interpolate(feature, size=grid, mode="bilinear", align_corners=False)))
                for convolution, feature in zip(self.reduce, features, strict=True)]
        x = self.combine(torch.cat(maps, dim=1))
        return torch.sigmoid(F.interpolate(x, size=size, mode="bilinear", align_corners=False))


class PlainNetwork(nn.Module):
    """Figure 1, or Figure 2 with `matrices`."""

    def __init__(self, classes: int, *, matrices: bool) -> None:
        super().__init__()
        self.classifier = Classifier(classes)
        self.classifier.body = resnet18(num_classes=classes)
        self.mask_decoder = PlainDecoder(1)
        if matrices:
            self.foreground_decoder, self.background_decoder = PlainDecoder(3), PlainDecoder(3)
        self.matrices = matrices

    def forward(self, image: Tensor, labels: Tensor, *, alpha: float, lambda1: float, lambda2: float, lambda3: float,
                lambda4: float) -> Tensor:
        """The loss of update (20) or (23)."""
        image_logits, features = self.classifier(image)
        size = tuple(image.shape[2:])
        phi = self.mask_decoder(features, size)
        foreground = self.classifier((1 - phi) * image)[0]
        background = self.classifier(phi * image)[0]
        if self.matrices:
            inside, outside = self.foreground_decoder(features, size), self.background_decoder(features, size)
            smooth = lambda3 * variation(inside) + lambda4 * variation(outside)
        else:
            inside, outside = two_colours(image, phi)
            smooth = torch.zeros((), dtype=image.dtype, device=image.device)
        energy = fidelity(image, phi, inside, outside) + lambda1 * (1 - phi).abs().mean() + lambda2 * variation(phi) + smooth
        b = torch.softmax(background, dim=1)
        named = F.cross_entropy(foreground, labels) - (math.log(4) + b.log() + (1 - b).log()).mean()
        return alpha * energy + named + F.cross_entropy(image_logits, labels)


def two_colours(image: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """(8)."""
    return ((image * (1 - phi)).sum(dim=(2, 3), keepdim=True) / (1 - phi).sum(dim=(2, 3), keepdim=True),
            (image * phi).sum(dim=(2, 3), keepdim=True) / phi.sum(dim=(2, 3), keepdim=True))


def fidelity(image: Tensor, phi: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """First two terms of (7) and (10)."""
    return ((1 - phi) * (image - inside) ** 2).mean() + (phi * (image - outside) ** 2).mean()


def variation(u: Tensor) -> Tensor:
    """Mean over the pixels of the differences to the neighbours below and to the right."""
    across = F.pad((u[:, :, :, 1:] - u[:, :, :, :-1]).abs(), (0, 1))
    down = F.pad((u[:, :, 1:] - u[:, :, :-1]).abs(), (0, 0, 0, 1))
    return (across + down).mean()
