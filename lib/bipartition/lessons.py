"""What the learning notebooks share: photographs at hand, descents on a mask without a network, film strips and diagrams."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from skimage import data
from skimage.transform import resize
from torch import Tensor

from bipartition.figures import COLOURS, STYLE, WIDTH
from bipartition.networks import BiPartitionNetwork

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
"""Of the classifier, each of which gives a map to the decoders."""


class Descent(NamedTuple):
    """What a descent leaves: the loss at every step, phi at the steps that were kept, and F and B at the end."""

    losses: list[float]
    masks: dict[int, Tensor]
    matrices: tuple[Tensor, Tensor] | None = None

    @property
    def background_mask(self) -> Tensor:
        """The last phi."""
        return self.masks[max(self.masks)]


def photograph(name: str, size: int) -> Tensor:
    """The middle square of a photograph that ships with scikit-image, shape (1, C, size, size), in [0, 1].

    Parameters
    ----------
    name : str
        A function of `skimage.data`, as ``"camera"``, ``"coins"`` or ``"chelsea"``; C is 1 for a grey one, else 3.
    size : int
        Height and width in pixels.
    """
    picture = np.atleast_3d(getattr(data, name)())[..., :3]
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    square = resize(picture[top:top + side, left:left + side], (size, size), anti_aliasing=True)
    return torch.tensor(square, dtype=torch.float32).permute(2, 0, 1)[None]


def descend_mask(loss: Callable[[Tensor], Tensor], logits: Tensor, *, steps: int = 100, rate: float = 0.3,
                 keep: Collection[int] = ()) -> Descent:
    """Gradient descent (Adam) on ``phi = sigmoid(logits)``, one variable a pixel, no network.

    Parameters
    ----------
    loss : callable
        From phi, shape (N, 1, H, W), to a loss of shape (N,) or ().
    logits : Tensor, shape (N, 1, H, W)
        Where to start; it is not changed.
    steps, rate : int, float
        How many steps, and how long.
    keep : collection of int
        After how many steps phi is kept; the end is always.
    """
    return descend_mask_and_matrices(loss, logits, (), steps=steps, rate=rate, keep=keep)


def descend_mask_and_matrices(loss: Callable[..., Tensor], logits: Tensor, matrices: tuple[Tensor, ...], *,
                              steps: int = 300, rate: float = 0.3, matrix_rate: float = 0.05,
                              keep: Collection[int] = ()) -> Descent:
    """The same on phi, F and B at once; `loss` takes the three, and `matrices` are the first F and B."""
    logits, *matrices = (one.clone().requires_grad_(True) for one in (logits, *matrices))
    optimiser = torch.optim.Adam([{"params": [logits], "lr": rate}, {"params": matrices, "lr": matrix_rate}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    losses, masks = [], {}
    for step in range(steps):
        phi = torch.sigmoid(logits)
        if step in keep:
            masks[step] = phi.detach()
        value = loss(phi, *matrices).sum()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        losses.append(value.item())
    masks[steps] = torch.sigmoid(logits).detach()
    return Descent(losses, masks, tuple(matrix.detach() for matrix in matrices) or None)


def two_balls(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures whose halves are bright and dark, with a blue ball that has no name, and one that does: red (0) or green (1).

    Returns
    -------
    image : Tensor, shape (count, 3, size, size), in [0, 1]
    labels : Tensor of int64, shape (count,)
        0, 1, 0, 1, ...
    objects : Tensor, shape (count, 1, size, size)
        1 where the named ball is.
    """
    rng = torch.Generator().manual_seed(seed)
    across = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(across, across, indexing="ij")
    paints = torch.tensor([[0.85, 0.3, 0.25], [0.35, 0.7, 0.25], [0.25, 0.4, 0.9]])
    labels = torch.arange(count) % 2
    image, objects = torch.empty(count, 3, size, size), torch.empty(count, 1, size, size)
    for index, label in enumerate(labels):
        angle, up, down, mirror = torch.rand(4, generator=rng).tolist()
        side = torch.sign((x - 0.5) * np.cos(2 * np.pi * angle) + (y - 0.5) * np.sin(2 * np.pi * angle))
        image[index] = 0.5 + 0.25 * side
        for paint, centre_x, centre_y in ((paints[2], 0.72, 0.25 + 0.5 * up), (paints[label], 0.28, 0.25 + 0.5 * down)):
            distance = torch.hypot(x - (centre_x if mirror < 0.5 else 1 - centre_x), y - centre_y) / 0.17
            image[index] = torch.where(distance < 1, paint[:, None, None] * (1.1 - 0.35 * distance), image[index])
        objects[index, 0] = (distance < 1).float()  # of the ball drawn last, the named one
    noise = 0.06 * (torch.rand(image.shape, generator=rng) - 0.5)
    return (image + noise).clamp(0, 1), labels, objects


@mpl.rc_context(STYLE)
def film_strip(lines: Sequence[Sequence[Tensor | np.ndarray | None]], heads: Sequence[str] = (), sides: Sequence[str] = (), *,
               notes: Sequence[Sequence[str]] = (), panel: float = 1.6) -> Figure:
    """Lines of square pictures with heads above the first line, names at the left, and notes below each.

    Parameters
    ----------
    lines : sequence of sequences of pictures
        Each of shape (C, H, W) or (1, C, H, W) in [0, 1]; None leaves a place empty.
    heads, sides : sequence of str
        One for each column, one for each line.
    notes : sequence of sequences of str
        One for each picture, as the number it has.
    panel : float
        The widest a picture may be, in inches.
    """
    columns = max(map(len, lines))
    side = min(panel, WIDTH / columns)
    height = len(lines) * (side + (0.18 if notes else 0.04)) + 0.35
    figure = Figure(figsize=(columns * side + (0.3 if sides else 0), height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    panels = figure.subplots(len(lines), columns, squeeze=False)
    for row, (across, line) in enumerate(zip(panels, lines, strict=True)):
        for column, axes in enumerate(across):
            picture = line[column] if column < len(line) else None
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=picture is not None, linewidth=0.3, color="0.6")
            if picture is None:
                continue
            axes.imshow(_shown(picture), vmin=0, vmax=1)
            if notes and column < len(notes[row]):
                axes.set_xlabel(notes[row][column], labelpad=2)
        if row < len(sides):
            across[0].set_ylabel(sides[row])
    for axes, head in zip(panels[0], heads, strict=False):
        axes.set_title(head)
    return figure


@mpl.rc_context(STYLE)
def network_diagram(network: BiPartitionNetwork, image: Tensor) -> Figure:
    """Figure 1 or 2 of the paper, with shapes (channels, height, width) seen in a forward pass, and what each loss is of.

    Parameters
    ----------
    network : BiPartitionNetwork
    image : Tensor, shape (N, 3, H, W)
        What goes in; only its shape matters.
    """
    shapes = _shapes(network, image)
    decoders = [("mask_decoder", r"$\phi$")]
    if network.matrices:
        decoders += [("foreground_decoder", "$F$"), ("background_decoder", "$B$")]
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.1, 12), ylim=(-0.4, 7.9))
    axes.set_axis_off()
    _box(axes, 0, 6.4, f"$I$\n{shapes['image']}", "white", width=1.5)
    for place, stage in enumerate(STAGES):
        x = 1.95 + 1.7 * place
        _box(axes, x, 6.4, f"{stage}\n{shapes[stage]}", COLOURS[5], width=1.45)
        _arrow(axes, (x - (0.45 if place == 0 else 0.25), 6.9), (x - 0.03, 6.9))
        _arrow(axes, (x + 0.72, 6.35), (x + 0.72, 5.55))
    _box(axes, 10.75, 6.4, f"$\\hat o$\n{shapes['logits']}", "white", width=1.2)
    _arrow(axes, (10.22, 6.9), (10.72, 6.9))
    axes.text(0, 7.55, f"Figure {2 if network.matrices else 1}", fontsize=9)
    axes.text(1.95, 7.55, "classifier A: ResNet-18", color=COLOURS[0], fontsize=9)
    axes.plot([1.95, 10.2], [5.5, 5.5], color="0.3", linewidth=0.7)
    axes.text(10.3, 5.4, "five maps $l$,\nfor each decoder", color=COLOURS[0], fontsize=8, va="center")
    for place, (name, letter) in enumerate(decoders):
        x = 0.2 + 3.95 * place
        _arrow(axes, (max(x + 1.8, 2.2), 5.45), (max(x + 1.8, 2.2), 4.95))
        _box(axes, x, 3.9, f"1×1 to 64, upsampled, ReLU,\nconcatenated: {shapes['combined']}", COLOURS[4], width=3.6)
        _arrow(axes, (x + 1.8, 3.85), (x + 1.8, 3.45))
        _box(axes, x, 2.4, f"3×3, upsampled, sigmoid\n{letter}: {shapes[name]}", COLOURS[4], width=3.6)
    for place, (name, letter) in enumerate((("$(1-\\phi)\\odot I$", "\\hat f"), ("$\\phi\\odot I$", "\\hat b"))):
        x = 0.2 + 6.2 * place
        _box(axes, x, 0.3, f"{name}\n{shapes['image']}", "white", width=1.9)
        _arrow(axes, (x + 1.9, 0.8), (x + 2.2, 0.8))
        _box(axes, x + 2.25, 0.3, "classifier A\nonce more", COLOURS[5], width=1.7)
        _arrow(axes, (x + 3.95, 0.8), (x + 4.25, 0.8))
        _box(axes, x + 4.3, 0.3, f"${letter}$\n{shapes['logits']}", "white", width=1.1)
        _arrow(axes, (1.2 + 1.5 * place, 2.35), (x + 0.95, 1.35))
    axes.text(1.5, 1.55, r"the picture times $1-\phi$, and times $\phi$", color=COLOURS[0], fontsize=8)
    energy = (9.6, 1.95, r"$\phi, F, B, I$: energy (10)") if network.matrices else (4, 2.9, r"$\phi, I$: energy (7)")
    for x, y, loss in (energy, (10.75, 6.1, r"$\hat o$: CE, (20)"), (0.2, -0.1, r"$\hat f, \hat b$: classification loss (14)")):
        axes.text(x, y, loss, color=COLOURS[1], fontsize=8, va="center")
    return figure


def _shown(picture: Tensor | np.ndarray) -> np.ndarray:
    array = np.asarray(picture, dtype=float)
    array = array[0] if array.ndim == 4 else array
    return (array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)).clip(0, 1)


def _shapes(network: BiPartitionNetwork, image: Tensor) -> dict[str, str]:
    """What passes through the parts of a network, without the batch, as ``64×56×56``."""
    training = network.training
    try:
        with torch.no_grad():
            partition = network.eval().segment(image)  # in which no running statistics move
            logits, maps = network.classifier(image)
    finally:
        network.train(training)
    decoders = [name for name, _ in network.named_children() if name.endswith("_decoder")]
    seen = {"image": image, "logits": logits, **dict(zip(STAGES, maps, strict=True)),
            **dict(zip(decoders, (partition.background_mask, *(partition.matrices or ())), strict=True))}
    shapes = {name: "×".join(map(str, one.shape[1:])) for name, one in seen.items()}
    side = shapes["stem"].partition("×")[2]
    return shapes | {"combined": f"{network.mask_decoder.combine.in_channels}×{side}"}


def _box(axes, x: float, y: float, text: str, colour: str, *, width: float) -> None:
    look = {"facecolor": mpl.colors.to_rgba(colour, 0.45), "edgecolor": "0.3", "linewidth": 0.6}
    axes.add_patch(mpl.patches.FancyBboxPatch((x, y), width, 1.0, boxstyle="round,pad=0,rounding_size=0.08", **look))
    axes.text(x + width / 2, y + 0.5, text, ha="center", va="center", fontsize=8, linespacing=1.3)


def _arrow(axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3", "linewidth": 0.7})
