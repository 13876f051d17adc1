"""The networks: classifier A and its feature maps, the decoders, and Figures 1 and 2."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bipartition.convolutions import PatchConvolution, StemConvolution, TapConvolution

# What torchvision's ImageNet weights were trained on; the affine map belongs to the classifier, because the paper's
# own pre-processing (pictures in [0, 1]) is what the mask is multiplied with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
DECODER_CHANNELS = 64


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
        from torchvision.models import resnet18  # not above: it brings PyTorch's compiler, a second for who only looks

        super().__init__()
        self.body = resnet18()
        if weights is not None:
            self.body.load_state_dict(_read_weights(weights, self.body))
        if classes != self.body.fc.out_features:
            self.body.fc = nn.Linear(self.body.fc.in_features, classes)
        self.body.conv1 = StemConvolution(self.body.conv1)
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
        return (image - self.mean).div_(self.deviation)

    def read(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same as calling the classifier, for a picture that is normalised already."""
        body = self.body
        x = body.relu(body.maxpool(body.bn1(body.conv1(x))))  # both ways round the same, this one on a quarter of the pixels
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
        feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
        weights = self.body.fc.weight[classes][:, :, None, None]
        return F.relu((weights * feature).sum(dim=1, keepdim=True))


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
            x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False).to(x.dtype)  # float32 of CUDA's autocast
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


def saved_network(path: Path) -> dict[str, Tensor]:
    """State dict of a finished run's ``model.safetensors``.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} holds no network, or is damaged ({error}); delete it and metrics.json beside it, and `make "
                         "train` makes the run anew") from error


def belongs_to_a_judge(name: str) -> bool:
    """Is this entry of a state dict a classifier's of earlier, which judges in training and is no part of the result?"""
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
