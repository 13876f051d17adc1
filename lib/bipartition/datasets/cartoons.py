"""A data set with exact masks that needs no download: six drawn figures in front of photographs and painted scenery.

What a picture shows depends on ``(seed, index)`` alone; its size only says how finely it is drawn. Scenery, colours and
patterns are drawn without knowledge of the class, so the figure's shape is all there is to recognise it by, and the
figure is as often darker as brighter than the rest, so that no threshold knows which half is the object.
"""

import functools
import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
from skimage.io import imread

from bipartition.datasets.photographs import DataSet, Item
from bipartition.datasets.silhouettes import cosine_and_sine, distance, figure

CLASSES = ("dog", "cat", "horse", "cow", "car", "person")

# pictures inside the scikit-image wheel that show none of the six classes; PNG, so that all decoders agree on them
GREY_SCENES = ("brick.png", "grass.png", "gravel.png", "moon.png", "coins.png")
COLOUR_SCENES = ("coffee.png", "motorcycle_left.png", "motorcycle_right.png", "ihc.png")

SMALLEST_SIZE = 16
AREA_RANGE = (0.17, 0.4)
# how far a figure may reach beyond the picture, as a share of its width
OVERHANG = 0.03
# how much of its colour the scenery keeps: the figures are what is painted vividly
MUTED = np.float32(0.4)
# grids that placing and colouring measure on, whatever the size asked for: one picture at all sizes
PLACING_GRID, COLOURING_GRID = 48, 16
LUMA = (0.299, 0.587, 0.114)


class Cartoons(DataSet):
    """Drawn pictures with exact masks, wherever this library is installed.

    Parameters
    ----------
    train, val : int, optional
        How many of each, 2,400 and 600 if not said; the splits are drawn from two seeds, so a longer one begins like a shorter
        one.
    """

    name = "cartoons"
    has_truth = True
    SEEDS = {"train": 1, "val": 2}

    def __init__(self, *, train: int | None = None, val: int | None = None) -> None:
        self.classes = CLASSES
        self.left_out: dict[str, int] = {}
        self._counts = {"train": 2400 if train is None else train, "val": 600 if val is None else val}

    @functools.cached_property  # whoever asks for the stamp alone need not wait for them
    def _items(self) -> list[Item]:
        """All names with their classes, which take turns: ``index % 6``."""
        return [Item(f"cartoon-{split}-{index:06d}", index % len(self.classes), split)
                for split, count in self._counts.items() for index in range(count)]

    def read(self, item: Item, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw one."""
        image, mask, label = draw(self.SEEDS[item.split], int(item.id.rsplit("-", 1)[1]), size)
        return image, (mask * (label + 1)).astype(np.uint8)

    def files(self, item: Item) -> list[Path]:
        """None: it is drawn."""
        return []

    def stamp(self) -> str:
        """Digest of the code that draws: a changed drawing is prepared anew."""
        digest = hashlib.sha256(repr(self._counts).encode())
        for module in ("cartoons.py", "silhouettes.py"):
            digest.update(Path(__file__).with_name(module).read_bytes())
        return digest.hexdigest()[:16]


def draw(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """One picture of the data set.

    Parameters
    ----------
    seed : int
        Names the data set; at least 0.
    index : int
        Position in the data set, at least 0; the class is ``index % 6``.
    size : int
        Height and width in pixels, at least 16.

    Returns
    -------
    image : np.ndarray, uint8, shape (size, size, 3)
    mask : np.ndarray, uint8, shape (size, size)
        1 where the figure is, 0 elsewhere.
    label : int
        Position in `CLASSES`.
    """
    for name, value, least in (("seed", seed, 0), ("index", index, 0), ("size", size, SMALLEST_SIZE)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    seed, index, size = int(seed), int(index), int(size)
    label = index % len(CLASSES)

    layers = figure(label, _generator(seed, index, "pose"))
    placement = _placement(_generator(seed, index, "place"), layers)
    scene = _scene(_generator(seed, index, "scene"), size)
    coarse_scene = _scene(_generator(seed, index, "scene"), COLOURING_GRID)
    coarse_mask = _silhouette(layers, *_figure_frame(placement, COLOURING_GRID)) < 0
    paint = _generator(seed, index, "paint")

    # every other round of the classes is brighter than its scenery, so that each class is so in half of its pictures
    colours = _colours(paint, coarse_scene[:, ~coarse_mask], brighter=index // len(CLASSES) % 2 == 0)
    planes, mask = _painted(paint, layers, placement, _with_shadow(scene, placement, size), colours)
    image = (np.clip(planes, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0)), mask.astype(np.uint8), label


_STREAMS = {"pose": 0, "place": 1, "scene": 2, "paint": 3}


def _generator(seed, index, stream):
    """A generator per concern, so that a change in one leaves the others' draws alone."""
    sequence = np.random.SeedSequence([seed, index], spawn_key=(_STREAMS[stream],))
    return np.random.Generator(np.random.PCG64(sequence))


def _between(rng, low, high):
    # spelled out: the compiled Generator.uniform may fuse the product and the sum on some processors
    return low + (high - low) * rng.random()


@functools.lru_cache(maxsize=16)
def _grid(size):
    """Pixel centres in [0, 1]: x and y, float32, read-only."""
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    y, x = (np.ascontiguousarray(a) for a in np.meshgrid(centres, centres, indexing="ij"))
    x.flags.writeable = y.flags.writeable = False
    return x, y


# --- where the figure stands -------------------------------------------------------------------------------------


class Placement(NamedTuple):
    """How a figure's frame lies in the picture: lengths are shares of the picture's width."""

    x: float
    y: float
    scale: float
    cosine: float
    sine: float
    mirror: float
    # left, top, right and bottom of the figure
    box: tuple[float, float, float, float]


def _placement(rng, layers):
    """A turn, mirror, size and position that give the wanted area and keep the figure in the picture."""
    cosine, sine = cosine_and_sine(_between(rng, -0.22, 0.22))
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    area = _between(rng, *AREA_RANGE)
    at_origin = Placement(0.5, 0.5, 1 / 2.6, cosine, sine, mirror, (0, 0, 1, 1))
    rows, columns = np.nonzero(_silhouette(layers, *_figure_frame(at_origin, PLACING_GRID)) < 0)
    cell = 2.6 / PLACING_GRID
    left, right = int(columns.min()) * cell - 1.3, (int(columns.max()) + 1) * cell - 1.3
    top, bottom = int(rows.min()) * cell - 1.3, (int(rows.max()) + 1) * cell - 1.3
    room = 1 + 2 * OVERHANG
    scale = min(math.sqrt(area / len(rows)) / cell, room / max(right - left, bottom - top))
    width, height = scale * (right - left), scale * (bottom - top)
    box_left, box_top = (room - width) * rng.random() - OVERHANG, (room - height) * rng.random() - OVERHANG
    return Placement(box_left - scale * left, box_top - scale * top, scale, cosine, sine, mirror,
                     (box_left, box_top, box_left + width, box_top + height))


def _figure_frame(placement, size):
    """Pixel centres in the figure's frame."""
    x, y = _grid(size)
    x, y = (x - placement.x) * (1 / placement.scale), (y - placement.y) * (1 / placement.scale)
    cosine, sine = placement.cosine, placement.sine
    return (x * cosine + y * sine) * placement.mirror, y * cosine - x * sine


def _silhouette(layers, x, y):
    return functools.reduce(np.minimum, (distance(layer, x, y) for layer in layers if not layer.detail))


def _with_shadow(scene, placement, size):
    """A soft dark patch on the ground under the figure."""
    x, y = _grid(size)
    left, _, right, bottom = placement.box
    across, down = (x - (left + right) / 2) * (1.9 / (right - left)), (y - bottom + 0.01) * (1 / 0.055)
    return scene * (1 - 0.4 * np.clip(1.2 - across * across - down * down, 0, 1))


# --- colours -----------------------------------------------------------------------------------------------------


def _colour(grey, chroma, angle):
    """Three planes of one colour: its grey, how far from grey at most, and the angle of its hue."""
    grey = min(max(grey, 0.06), 0.94)
    cosine, sine = cosine_and_sine(angle)
    red, blue = 1.402 * sine, 1.772 * cosine
    directions = (red, -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1], blue)
    # channels cut at 0 or 1 look like neon and change the grey: stay within reach of both ends
    reach = min((0.97 - grey) / d if d > 0 else (grey - 0.03) / -d for d in directions if d)
    return np.array([grey + min(chroma, reach) * d for d in directions], np.float32).reshape(3, 1, 1)


def _colours(rng, surroundings, brighter):
    """Colour of every role in a figure, told apart from its surroundings by brightness, by hue or by both."""
    # whole-number sums are exact on every machine, whatever the order of adding
    sums = (np.clip(surroundings, 0, 1) * 255).astype(np.int64).sum(axis=1)
    red, green, blue = (int(total) / (255 * surroundings.shape[1]) for total in sums)
    mean_grey = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    mean_cb, mean_cr = (blue - mean_grey) / 1.772, (red - mean_grey) / 1.402

    def distance_in_hue(hue):
        cosine, sine = cosine_and_sine(hue[1])
        return abs(hue[0] * cosine - mean_cb) + abs(hue[0] * sine - mean_cr)

    # the constant makes up for ink, tyres and rims
    grey = mean_grey + 0.022 + _between(rng, 0.02, 0.3) * (1 if brighter else -1)
    grey = min(max(grey, 0.12), 0.88)
    chroma, angle = max(((_between(rng, 0.13, 0.27), _between(rng, 0, 6.283)) for _ in range(4)), key=distance_in_hue)
    shift = _between(rng, 0.12, 0.25) * (1 if rng.random() < 0.5 else -1)
    coat = _colour(grey, chroma, angle)
    return {"coat": coat,
            "far": coat * np.float32(0.78),
            "second": _colour(grey + shift, chroma * _between(rng, 0.4, 1.0), angle + _between(rng, -0.7, 0.7)),
            "pale": _colour(0.4 * grey + 0.5, 0.07, _between(rng, 1.6, 2.6)),
            "dark": _colour(0.3 * grey + 0.06, 0.03, angle),
            "glass": _colour(0.35 * grey + 0.35, 0.06, _between(rng, -0.6, -0.1)),
            "ink": _colour(0.08, 0.01, 0),
            "white": _colour(0.94, 0.02, 2.2)}


# --- the figure's paint ------------------------------------------------------------------------------------------


def _painted(rng, layers, placement, scene, colours):
    """The figure laid over the scene, back to front: image planes and mask."""
    size, scale = scene.shape[-1], placement.scale
    x, y = _figure_frame(placement, size)
    colours = colours | {"coat": _patterned_coat(rng, colours, x, y)}
    light_x, light_y = cosine_and_sine(_between(rng, 0, 6.283))
    strength = _between(rng, 0.05, 0.22)
    light = 1.04 + x * (strength * light_x) + y * (strength * light_y)
    silhouette = np.ones_like(x)
    for layer in layers:
        d, shade = distance(layer, x, y), light
        if layer.detail:
            d = np.maximum(d, silhouette)
        else:
            np.minimum(silhouette, d, out=silhouette)
            # a darker rim, as drawn with a soft pencil, and a little roundness
            shade = shade * (0.62 + 0.3 * np.clip(d * (-scale / 0.02), 0, 1) + 0.08 * np.clip(d * -5, 0, 1))
        _lay_over(scene, colours[layer.role] * shade, np.clip(0.5 - d * (scale * size), 0, 1))
    return scene, silhouette < 0


def _patterned_coat(rng, colours, x, y):
    """Coat colour per pixel: plain, striped, spotted, patched or two-toned, fixed to the figure's frame."""
    coat, second = colours["coat"], colours["second"]
    kind = int(5 * rng.random())
    cosine, sine = cosine_and_sine(_between(rng, 0, 3.1416))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    if kind == 0:
        return coat
    if kind == 1:
        waves = along * _between(rng, 2.2, 3.6)
        amount = (np.abs(waves - np.floor(waves) - 0.5) - _between(rng, 0.12, 0.22)) * -14
    elif kind == 2:
        count = _between(rng, 2.2, 3.4)
        along, across = along * count, across * count
        along = along + 0.5 * (np.floor(across) % 2)
        along, across = along - np.floor(along) - 0.5, across - np.floor(across) - 0.5
        amount = (_between(rng, 0.24, 0.34) - np.sqrt(along * along + across * across)) * 10
    elif kind == 3:
        lattice = rng.random((7, 7), dtype=np.float32)
        amount = (_sampled(lattice, (x + 1.3) * (6 / 2.6), (y + 1.3) * (6 / 2.6)) - _between(rng, 0.5, 0.6)) * 16
    else:
        amount = (along - _between(rng, -0.25, 0.25)) * 14
    return coat + (second - coat) * np.clip(amount + 0.5, 0, 1)


# --- scenery -----------------------------------------------------------------------------------------------------


def _scene(rng, size):
    """Scenery in [0, 1] or slightly beyond, float32 planes, shape (3, size, size)."""
    x, y = _grid(size)
    scene = _material(rng, size)
    kind = rng.random()
    if kind < 0.5:
        horizon, tilt = _between(rng, 0.25, 0.8), _between(rng, -0.25, 0.25)
        wave = _sampled(rng.random((2, 6), dtype=np.float32), x * 5, np.zeros_like(y)) - 0.5
        depth = y - (horizon + tilt * (x - 0.5) + _between(rng, 0, 0.25) * wave)
        _lay_over(scene, _material(rng, size), np.clip(0.5 + depth * size, 0, 1))
    elif kind < 0.85:
        for _ in range(2 + int(3 * rng.random())):
            _lay_over(scene, _duotone(rng, _noise(rng, size, (3, 7, 15))), _blob(rng, x, y, size))
    strength = _between(rng, 0, 0.3)
    cosine, sine = cosine_and_sine(_between(rng, 0, 6.283))
    grey = LUMA[0] * scene[0] + LUMA[1] * scene[1] + LUMA[2] * scene[2]
    muted = grey + MUTED * (scene - grey)
    return muted * (1 + (x - 0.5) * (strength * cosine) + (y - 0.5) * (strength * sine))


def _lay_over(below, above, coverage):
    """Cover the planes of ``below``, in place, with those of ``above``."""
    below += (above - below) * coverage


def _blob(rng, x, y, size):
    """Coverage of one boulder, cloud or cushion: an ellipse with a wavy rim."""
    cosine, sine = cosine_and_sine(_between(rng, 0, 3.1416))
    px, py = x - rng.random(), y - rng.random()
    px, py = px * cosine + py * sine, py * cosine - px * sine
    wide, tall = _between(rng, 0.12, 0.4), _between(rng, 0.1, 0.25)
    px, py = px * (1 / wide), py * (1 / tall)
    wobble = _sampled(rng.random((6, 6), dtype=np.float32), x * 5, y * 5) - 0.5
    return np.clip(0.5 - (np.sqrt(px * px + py * py) - 1 + 0.6 * wobble) * (tall * size), 0, 1)


def _material(rng, size):
    """A photograph's crop, or a texture or noise in two colours."""
    kind = rng.random()
    if kind < 0.4:
        return _recoloured(rng, _crop(rng, COLOUR_SCENES[int(rng.random() * len(COLOUR_SCENES))], size))
    if kind < 0.75:
        return _duotone(rng, _crop(rng, GREY_SCENES[int(rng.random() * len(GREY_SCENES))], size)[0])
    return _duotone(rng, _noise(rng, size, (2, 4, 9, 19, 39)))


def _recoloured(rng, photograph):
    """A photograph in other light: channels exchanged, colours paler, tinted, brighter or darker."""
    order = ((0, 1, 2), (0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))[int(5 * rng.random())]
    grey = sum(photograph[c] * LUMA[c] for c in range(3))
    vivid, gain, offset = _between(rng, 0.2, 0.9), _between(rng, 0.7, 1.1), _between(rng, -0.05, 0.18)
    return np.stack([(grey + (photograph[c] - grey) * vivid) * (gain * _between(rng, 0.85, 1.15)) + offset
                     for c in order])


def _duotone(rng, tone):
    """A grey texture in [0, 1] stretched between two colours."""
    middle, reach = _between(rng, 0.25, 0.75), _between(rng, 0.1, 0.5)
    reach = reach if rng.random() < 0.5 else -reach
    angle = _between(rng, 0, 6.283)
    low = _colour(middle - reach, _between(rng, 0, 0.14), angle)
    high = _colour(middle + reach, _between(rng, 0, 0.14), angle + _between(rng, -0.8, 0.8))
    return low + (high - low) * tone


def _noise(rng, size, cells):
    """Value noise in [0, 1]: one random lattice per number of cells, each finer one weaker."""
    total, weight, norm = 0, 1.0, 0.0
    for count in cells:
        lattice = rng.random((1, count + 1, count + 1), dtype=np.float32)
        total = total + weight * _resampled(lattice, 0, 0, count, size, smooth=True)[0]
        norm += weight
        weight *= 0.6
    # stretched: sums of octaves crowd around one half
    return np.clip((total * (1 / norm) - 0.5) * 1.8 + 0.5, 0, 1)


def _sampled(lattice, x, y):
    """Bilinear values of a small lattice at the given positions; beyond its rim the rim goes on."""
    x, y = np.clip(x, 0, lattice.shape[1] - 1.001), np.clip(y, 0, lattice.shape[0] - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    x, y = x - column.astype(np.float32), y - row.astype(np.float32)
    flat, at = lattice.ravel(), row * lattice.shape[1] + column
    above = flat[at] + (flat[at + 1] - flat[at]) * x
    at = at + lattice.shape[1]
    below = flat[at] + (flat[at + 1] - flat[at]) * x
    return above + (below - above) * y


def _resampled(planes, top, left, side, size, smooth=False):
    """A square window of planes brought to (size, size) by bilinear interpolation, first rows, then columns."""
    row, part = _steps(top, side, size, planes.shape[1], smooth)
    below, above = planes[:, row + 1], planes[:, row]
    rows = above + (below - above) * part[:, None]
    column, part = _steps(left, side, size, planes.shape[2], smooth)
    right, left = rows[:, :, column + 1], rows[:, :, column]
    return left + (right - left) * part


def _steps(start, side, size, length, smooth):
    at = np.clip(start + side * ((np.arange(size) + 0.5) / size), 0, length - 1.001)
    whole = at.astype(np.intp)
    part = (at - whole).astype(np.float32)
    return whole, part * part * (3 - 2 * part) if smooth else part


def _crop(rng, name, size):
    """A random window of a scene, mirrored and turned by quarters at random, float32 in [0, 1]."""
    levels = _scene_levels(name)
    height, width = levels[0].shape[1:]
    side = min(height, width) * _between(rng, 0.35, 1.0)
    top, left = (height - side) * rng.random(), (width - side) * rng.random()
    quarters, mirror = int(4 * rng.random()), rng.random() < 0.5
    level = 0
    while level + 1 < len(levels) and side >= size * 2 ** (level + 1):
        level += 1
    shrink = 2.0 ** -level
    crop = _resampled(levels[level], top * shrink - 0.5, left * shrink - 0.5, side * shrink, size)
    crop = crop.transpose(0, 2, 1) if quarters % 2 else crop
    crop = crop[:, ::-1] if quarters >= 2 else crop
    return crop[:, :, ::-1] if mirror else crop


@functools.cache
def _scene_levels(name):
    """A scene's planes and their halvings, float32: averaging before shrinking keeps fine textures calm."""
    picture = imread(scene_path(name))
    picture = picture[None] if picture.ndim == 2 else picture[..., :3].transpose(2, 0, 1)
    levels = [np.ascontiguousarray(picture, np.float32) / 255]
    while min(levels[-1].shape[1:]) >= 64:
        last = levels[-1]
        last = last[:, : last.shape[1] // 2 * 2, : last.shape[2] // 2 * 2]
        levels.append((last[:, ::2, ::2] + last[:, 1::2, ::2] + last[:, ::2, 1::2] + last[:, 1::2, 1::2]) * 0.25)
    return levels


def scene_path(name: str) -> Path:
    """Where the scikit-image wheel keeps a picture."""
    return Path(skimage.__file__).parent / "data" / name
