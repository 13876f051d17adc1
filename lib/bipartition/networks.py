"""The networks: classifier A and its feature maps, the decoders, Figures 1 and 2, and the auto-encoder of section 4.2."""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

__all__ = ["AutoEncoder", "BiPartitionNetwork", "Classifier", "Decoder", "Partition", "PatchConvolution", "TapConvolution",
           "cut_pictures", "fused_decoders", "judged_before", "parameters_fixed"]

# What torchvision's ImageNet weights were trained on; the affine map belongs to the classifier, because the paper's
# own pre-processing (pictures in [0, 1]) is what the mask is multiplied with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
DECODER_CHANNELS = 64
LEAK = 0.2


class Partition(NamedTuple):
    """What the networks of Figures 1 to 3 say of a batch of N pictures; what a network does not have is None.

    Attributes
    ----------
    background_mask : Tensor, shape (N, 1, H, W), in [0, 1]
        The paper's phi.
    matrices : (F, B), each of shape (N, 3, H, W), in [0, 1]
        The smooth pictures of Figure 2.
    image_logits, foreground_logits, background_logits : Tensor, shape (N, K)
        Scores o, f, b of the picture I, of ``(1 - phi) I`` and of ``phi I``.
    """

    background_mask: Tensor
    matrices: tuple[Tensor, Tensor] | None = None
    image_logits: Tensor | None = None
    foreground_logits: Tensor | None = None
    background_logits: Tensor | None = None


class Classifier(nn.Module):
    """ResNet-18 that also hands out its feature maps: "classifier A" of Figures 1 and 2.

    Parameters
    ----------
    classes : int
        K, the number of classes; the last layer is new unless K is 1000.
    weights : path, optional
        A file with a ResNet-18 state dict to start from, as `bipartition.datasets.download.imagenet_weights`; None starts
        from scratch.

    Raises
    ------
    ValueError
        If a weights file is no ResNet-18 state dict; says what is missing, unexpected or of another shape.
    """

    CHANNELS = (64, 64, 128, 256, 512)
    """Channels of the five feature maps: after the stem's pooling and after layer1-4, at strides 4, 4, 8, 16, 32."""

    def __init__(self, classes: int, weights: Path | None = None) -> None:
        super().__init__()
        self.body = resnet18()
        if weights is not None:
            self.body.load_state_dict(_read_weights(weights, self.body))
        if classes != self.body.fc.out_features:
            self.body.fc = nn.Linear(self.body.fc.in_features, classes)
        for block in (*self.body.layer3, *self.body.layer4):
            block.conv1, block.conv2 = PatchConvolution(block.conv1), PatchConvolution(block.conv2)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Scores and feature maps, eq. (16): ``o, l <- C(I)``.

        Parameters
        ----------
        image : Tensor, shape (N, 3, H, W), in [0, 1]

        Returns
        -------
        logits : Tensor, shape (N, K)
        features : tuple of five Tensors, shapes (N, CHANNELS[i], H/4 ... H/32, W/4 ... W/32)
        """
        return self.read(self.normalise(image))

    def normalise(self, image: Tensor) -> Tensor:
        """From [0, 1] to what torchvision's ImageNet weights were trained on."""
        return (image - self.mean) / self.deviation

    def read(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same as calling the classifier, for a picture that is normalised already."""
        body = self.body
        x = body.maxpool(body.relu(body.bn1(body.conv1(x))))
        features = [x]
        for layer in (body.layer1, body.layer2, body.layer3, body.layer4):
            x = layer(x)
            features.append(x)
        return body.fc(body.avgpool(x).flatten(1)), tuple(features)

    def activation_map(self, feature: Tensor, classes: Tensor) -> Tensor:
        """Class activation map (CAM) [1]_: where in a picture the evidence for a class lies.

        ``relu(sum_k w_ck A_k)`` with the last feature map A and the weights w of the last layer.  Between the two there is
        only a mean over pixels, and then the gradient of the score with respect to ``A_k`` is ``w_ck`` over the number
        of pixels everywhere: Grad-CAM [2]_ is the same map up to that factor.

        Parameters
        ----------
        feature : Tensor, shape (N, 512, h, w)
            The last of the feature maps.
        classes : Tensor of int, shape (N,)
            One class for each picture.

        Returns
        -------
        Tensor, shape (N, 1, h, w), 0 or more
            In float32 or better also under autocast; the bias, which says nothing of places, is left out.

        References
        ----------
        .. [1] Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning deep features for discriminative localization, CVPR 2016.
        .. [2] Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM, ICCV 2017.
        """
        feature = feature if feature.dtype == torch.float64 else feature.float()
        weights = self.body.fc.weight[classes][:, :, None, None]
        return F.relu((weights * feature).sum(dim=1, keepdim=True))


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
    """A 3 x 3 convolution from many channels to few: its nine taps as one 1 x 1 convolution, then added up.

    oneDNN's own pads so few outputs to sixteen channels, at each tap.  The sum is in float32 or better also under autocast.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """From shape (N, inputs, H, W) to (N, outputs, H, W), zeros around the picture."""
        taps = F.conv2d(x, self.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, self.in_channels, 1, 1))
        taps = taps if taps.dtype == torch.float64 else taps.float()
        return F.fold(taps.flatten(2), x.shape[2:], kernel_size=3, padding=1) + self.bias.view(-1, 1, 1)


class Decoder(nn.Module):
    """From the classifier's feature maps to a mask or a matrix, section 4.1; eq. (17).

    Each feature map is brought to the first one's size and to 64 channels (1 x 1 convolution, ReLU), all are
    concatenated, convolved once (3 x 3), brought to the picture's size and put through a sigmoid.  The 1 x 1 convolution is
    done before the bilinear upsampling: one mixes channels alone and the other pixels alone, with weights that sum to 1, so
    that they commute, at a fifth of the operations.

    Parameters
    ----------
    outputs : int
        1 for the mask phi, 3 for F and B.
    initial : float in (0, 1)
        What the untrained decoder answers everywhere, on average: sets the last layer's bias.
    even : bool
        True divides each feature map by its mean in the picture and by its channels first.  A step of Adam is as long for
        each weight; with maps as they come it moves the 1 x 1 convolution of layer4, the coarsest, ten times as far as others.
    """

    def __init__(self, outputs: int, initial: float = 0.5, *, even: bool = False) -> None:
        super().__init__()
        self.even = even
        self.reduce = nn.ModuleList(nn.Conv2d(channels, DECODER_CHANNELS, 1) for channels in Classifier.CHANNELS)
        if even:
            for convolution in self.reduce:
                nn.init.normal_(convolution.weight, std=math.sqrt(convolution.in_channels) / (3 * DECODER_CHANNELS))
                nn.init.zeros_(convolution.bias)
        self.combine = TapConvolution(len(Classifier.CHANNELS) * DECODER_CHANNELS, outputs)
        # Nearly flat at first: pictures that vary at once would be flattened by (10) in the saturated end of the sigmoid.
        nn.init.normal_(self.combine.weight, std=1e-3)
        nn.init.constant_(self.combine.bias, math.log(initial / (1 - initial)))

    def forward(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """Map of shape (N, outputs, *size) in [0, 1], in float32 or better also under autocast."""
        return fused_decoders([self], features, size)[0]


def fused_decoders(decoders: list[Decoder], features: tuple[Tensor, ...], size: tuple[int, int]) -> list[Tensor]:
    """Several decoders on the same feature maps, sharing one 1 x 1 convolution and one upsampling a map.

    Parameters
    ----------
    decoders : list of D decoders
    features : tuple of Tensor
        As `Classifier` hands them out.
    size : (H, W)
        Of the picture.

    Returns
    -------
    list of Tensor, shapes (N, outputs of the decoder, H, W), in [0, 1]
        The same as calling the decoders one by one.
    """
    if decoders[0].even:
        features = tuple(map(_even, features))
    grid = features[0].shape[2:]
    levels = []
    for level, feature in enumerate(features):
        weight = torch.cat([decoder.reduce[level].weight for decoder in decoders])
        bias = torch.cat([decoder.reduce[level].bias for decoder in decoders])
        x = F.conv2d(feature, weight, bias)
        if x.shape[2:] != grid:
            x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
        levels.append(x.split(DECODER_CHANNELS, dim=1))
    maps = []
    for decoder, own in zip(decoders, zip(*levels, strict=True), strict=True):
        maps.append(decoder.combine(torch.cat(own, dim=1).relu_()))
    # In float32 or better: a sigmoid in bfloat16 cannot tell 1 - phi from 0.
    x = torch.sigmoid(F.interpolate(torch.cat(maps, dim=1), size=size, mode="bilinear", align_corners=False))
    return list(x.split([decoder.combine.out_channels for decoder in decoders], dim=1))


def _even(feature: Tensor) -> Tensor:
    """A feature map whose values sum, over its channels, to `DECODER_CHANNELS` in the mean over the picture's pixels."""
    mean = feature.mean(dim=(1, 2, 3), keepdim=True, dtype=torch.promote_types(feature.dtype, torch.float32))
    return feature * (DECODER_CHANNELS / feature.shape[1] / mean.clamp_min(1e-6)).to(feature.dtype)


def judged_before(name: str) -> bool:
    """Does an entry of a state dict belong to a classifier of earlier, a judge in training and no part of the result?"""
    return name.startswith(("snapshot.", "snapshots."))


@contextmanager
def parameters_fixed(network: nn.Module) -> Iterator[None]:
    """Passes within it leave no gradient in the network's parameters; what flows through it to its input does."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def cut_pictures(image: Tensor, background_mask: Tensor,
                 view: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """The two pictures that are scored in (18): ``(1 - phi) I`` and ``phi I``.

    Parameters
    ----------
    image : Tensor, shape (N, 3, H, W), in [0, 1]
    background_mask : Tensor, shape (N, 1, H, W), in [0, 1]
        The paper's phi.
    view : callable, optional
        What is shown of both: from shape (N, 6, H, W), foreground before background, to the same.
    """
    foreground, background = (1 - background_mask) * image, background_mask * image
    if view is None:
        return foreground, background
    return view(torch.cat([foreground, background], dim=1)).chunk(2, dim=1)


class BiPartitionNetwork(nn.Module):
    """Figure 1 (one decoder: phi) or Figure 2 (three decoders: phi, F, B), with one classifier for all three passes.

    Parameters
    ----------
    classifier : Classifier
        Classifier A.
    matrices : bool
        True adds the decoders of F and B: the whole difference between the Chan-Vese and the Mumford-Shah network.
    initial_foreground : float in (0, 1)
        Share of foreground proposed by the untrained mask decoder.
    judge : {"live", "snapshot", "turns"}
        Who scores the two cut pictures: the classifier itself (Siamese, as in the paper), or a copy of it as it is now, which
        learns nothing while the decoders do.
    batch_norm, classifier_learns, mask, features : str
        Readings of the paper, see `bipartition.configuration.Configuration`.
    """

    def __init__(self, classifier: Classifier, *, matrices: bool, initial_foreground: float = 0.5, judge: str = "live",
                 batch_norm: str = "shared", classifier_learns: str = "everything", mask: str = "soft",
                 features: str = "raw") -> None:
        super().__init__()
        self.classifier = classifier
        self.mask_decoder = Decoder(1, initial=1 - initial_foreground, even=features == "even")
        if matrices:
            self.foreground_decoder = Decoder(3, even=features == "even")
            # F = B at first, and the mask is left to S and the regularisers until they have learnt something.  Started apart,
            # the matrix of the larger region learns faster, fits better, wins more pixels, and ends with the whole picture.
            self.background_decoder = copy.deepcopy(self.foreground_decoder)
        self.matrices = matrices
        self.batch_norm, self.classifier_learns, self.mask = batch_norm, classifier_learns, mask
        self.snapshot = copy.deepcopy(classifier).requires_grad_(False) if judge != "live" else None
        if classifier_learns == "nothing":
            classifier.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "BiPartitionNetwork":
        """Training mode, except for the classifier's batch norm where that is to stay as the warm-up left it."""
        super().train(mode)
        if self.batch_norm == "frozen" or self.classifier_learns == "nothing":
            self.classifier.eval()
        if self.snapshot is not None:
            self.snapshot.eval()
        return self

    def segment(self, image: Tensor) -> Partition:
        """One pass: scores o, mask phi, and F and B in Figure 2; eq. (16), (17), (21).  The test network, Figure 3.

        Parameters
        ----------
        image : Tensor, shape (N, 3, H, W), in [0, 1]
        """
        logits, features = self.classifier(image)
        if self.classifier_learns in ("clean", "nothing"):
            features = tuple(feature.detach() for feature in features)
        size = tuple(image.shape[2:])
        if not self.matrices:
            return Partition(self.mask_decoder(features, size), None, logits)
        smooth = [self.foreground_decoder, self.background_decoder]
        if self.classifier_learns == "mask":
            background_mask = self.mask_decoder(features, size)
            matrices = fused_decoders(smooth, tuple(feature.detach() for feature in features), size)
        else:
            background_mask, *matrices = fused_decoders([self.mask_decoder, *smooth], features, size)
        return Partition(background_mask, tuple(matrices), logits)

    def forward(self, image: Tensor, view: Callable[[Tensor], Tensor] | None = None) -> Partition:
        """All three passes of Figures 1 and 2; eq. (16) to (18), (21).

        Parameters
        ----------
        image : Tensor, shape (N, 3, H, W), in [0, 1]
        view : callable, optional
            What is shown of the cut pictures, see `cut_pictures`.
        """
        partition = self.segment(image)
        phi = partition.background_mask
        if self.mask == "straight_through":
            phi = phi + ((phi > 0.5).to(phi.dtype) - phi).detach()
        foreground, background = cut_pictures(image, phi, view)
        if self.snapshot is not None:
            foreground_logits, background_logits = self.snapshot(torch.cat([foreground, background]))[0].chunk(2)
            return partition._replace(foreground_logits=foreground_logits, background_logits=background_logits)
        with self._running_statistics_kept() if self.batch_norm == "separate" else nullcontext():
            foreground_logits = self._judge(foreground, self.classifier_learns in ("everything", "mask", "foreground"))
            background_logits = self._judge(background, self.classifier_learns in ("everything", "mask"))
        return partition._replace(foreground_logits=foreground_logits, background_logits=background_logits)

    def _judge(self, image: Tensor, learning: bool) -> Tensor:
        """Scores of a cut picture by the live classifier; the gradient reaches its parameters only if `learning`."""
        with nullcontext() if learning else parameters_fixed(self.classifier):
            return self.classifier(image)[0]

    @contextmanager
    def _running_statistics_kept(self) -> Iterator[None]:
        """Batch norm uses the statistics of the batch at hand without moving its running ones."""
        norms = [module for module in self.classifier.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


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
        maps = torch.sigmoid(x if x.dtype == torch.float64 else x.float())
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


def _read_weights(path: Path, body: nn.Module) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist; set RESNET18_WEIGHTS to a ResNet-18 state dict or unset it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # PyTorch's own text recommends weights_only=False, which lets the file run code
        raise ValueError(f"weights file {path} is not a PyTorch state dict of tensors alone ({type(error).__name__}); give "
                         "one like torchvision's resnet18-f37072fd.pth, or unset RESNET18_WEIGHTS") from error
    expected = body.state_dict()
    if not isinstance(state, dict):
        raise ValueError(f"weights file {path} holds a {type(state).__name__}; it must hold the state dict of a ResNet-18")
    if strange := [name for name, value in state.items() if not isinstance(value, Tensor) or not torch.isfinite(value).all()]:
        raise ValueError(f"weights file {path}: {strange[0]!r}, one of {len(strange)} such entries, is no tensor of finite "
                         "numbers; it must hold the state dict of a ResNet-18")
    missing = sorted(set(expected) - set(state) - {name for name in expected if name.endswith("num_batches_tracked")})
    unexpected = sorted(set(state) - set(expected))
    wrong = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if missing or unexpected or wrong:
        raise ValueError(
            f"weights file {path} is not a ResNet-18 of torchvision with 1000 outputs: missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}, of another shape {wrong[:3]} "
            f"({len(missing)}, {len(unexpected)} and {len(wrong)} in all)")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in (expected | state).items()}
