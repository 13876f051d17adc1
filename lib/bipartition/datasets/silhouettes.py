"""The six figures of the cartoons data set, as data: a pose is drawn at random, then any grid of points can measure it.

Figures live in a frame of their own: x to the right, y downwards, about [-1, 1] wide, facing right.
"""

import math
from typing import NamedTuple

import numpy as np


class Bone(NamedTuple):
    """A limb: two circles and what lies between them; one circle where both ends agree."""

    x0: float
    y0: float
    r0: float
    x1: float
    y1: float
    r1: float


class Oval(NamedTuple):
    """An ellipse, turned by ``turn`` radians."""

    x: float
    y: float
    rx: float
    ry: float
    turn: float = 0.0


class Plate(NamedTuple):
    """A convex polygon, corners in clockwise order on the screen, grown by ``round`` with round corners."""

    corners: tuple[tuple[float, float], ...]
    round: float = 0.04


class Layer(NamedTuple):
    """Parts of one colour, melted together over the width ``melt``.

    ``role`` names the colour; a ``detail`` is paint on what lies below it, not a part of the silhouette.
    """

    role: str
    parts: tuple
    melt: float = 0.0
    detail: bool = False


def figure(label: int, rng: np.random.Generator) -> tuple[Layer, ...]:
    """Layers of one randomly posed figure, from the back to the front.

    Parameters
    ----------
    label : int
        0 dog, 1 cat, 2 horse, 3 cow, 4 car, 5 person.
    rng : np.random.Generator
        Source of the pose.
    """
    return (_dog, _cat, _horse, _cow, _car, _person)[label](lambda low, high: low + (high - low) * rng.random())


def distance(layer: Layer, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a layer, negative inside, in units of the figure's frame.

    Only sums, products, quotients and square roots touch the arrays: these are rounded alike on every machine.

    Parameters
    ----------
    layer : Layer
        What to measure.
    x, y : np.ndarray, float32, shape (H, W)
        Points, in the figure's frame.

    Returns
    -------
    np.ndarray, float32, shape (H, W)
    """
    nearest = None
    for part in layer.parts:
        d = _PART_DISTANCES[type(part)](part, x, y)
        if nearest is None:
            nearest = d
        elif layer.melt:
            overlap = np.maximum(layer.melt - np.abs(nearest - d), 0)
            nearest = np.minimum(nearest, d) - overlap * overlap * (0.25 / layer.melt)
        else:
            nearest = np.minimum(nearest, d)
    return nearest


def cosine_and_sine(angle: float) -> tuple[float, float]:
    """Cosine and sine to 6 decimals: the last digits differ between mathematics libraries."""
    return round(math.cos(angle), 6), round(math.sin(angle), 6)


def _bone_distance(bone, x, y):
    dx, dy = bone.x1 - bone.x0, bone.y1 - bone.y0
    px, py = x - bone.x0, y - bone.y0
    squared_length = dx * dx + dy * dy
    if squared_length < 1e-9:
        return np.sqrt(px * px + py * py) - bone.r0
    along = np.clip(px * (dx / squared_length) + py * (dy / squared_length), 0, 1)
    px -= along * dx
    py -= along * dy
    return np.sqrt(px * px + py * py) - (bone.r0 + (bone.r1 - bone.r0) * along)


def _oval_distance(oval, x, y):
    px, py = x - oval.x, y - oval.y
    if oval.turn:
        cosine, sine = cosine_and_sine(oval.turn)
        px, py = px * cosine + py * sine, py * cosine - px * sine
    px *= 1 / oval.rx
    py *= 1 / oval.ry
    level = np.sqrt(px * px + py * py)
    px *= 1 / oval.rx
    py *= 1 / oval.ry
    # first-order distance: the level over the length of its gradient; exact where it counts, at the border
    return level * (level - 1) / (np.sqrt(px * px + py * py) + 1e-6)


def _plate_distance(plate, x, y):
    nearest, outside = None, None
    for (x0, y0), (x1, y1) in zip(plate.corners, plate.corners[1:] + plate.corners[:1], strict=False):
        dx, dy = x1 - x0, y1 - y0
        px, py = x - x0, y - y0
        beyond = px * dy - py * dx
        along = np.clip(px * (dx / (dx * dx + dy * dy)) + py * (dy / (dx * dx + dy * dy)), 0, 1)
        px -= along * dx
        py -= along * dy
        squared = px * px + py * py
        nearest = squared if nearest is None else np.minimum(nearest, squared)
        outside = beyond if outside is None else np.maximum(outside, beyond)
    nearest = np.sqrt(nearest)
    return np.where(outside > 0, nearest, -nearest) - plate.round


_PART_DISTANCES = {Bone: _bone_distance, Oval: _oval_distance, Plate: _plate_distance}


def _dot(x, y, r):
    return Bone(x, y, r, x, y, r)


def _chain(points, r0, r1):
    """Bones through the points, the radius going evenly from r0 to r1: tails and horns."""
    radii = [r0 + (r1 - r0) * i / (len(points) - 1) for i in range(len(points))]
    return tuple(Bone(*a, ra, *b, rb) for a, ra, b, rb in zip(points, radii, points[1:], radii[1:], strict=False))


def _eye(x, y, r):
    return (Layer("white", (_dot(x, y, r),), detail=True),
            Layer("ink", (_dot(x + r * 0.25, y, r * 0.62),), detail=True))


def _legs(between, role, xs, top, ground, thick, stride, shoe, shoe_role="dark"):
    """Two legs at xs stepping apart by stride, and their hooves, paws or shoes."""
    legs, shoes = [], []
    for x, side in zip(xs, (-1, 1), strict=False):
        foot = x + side * stride + between(-0.03, 0.03)
        legs.append(Bone(x, top, thick * 1.25, foot, ground - thick, thick))
        shoes.append(Plate(((foot - thick, ground - shoe), (foot + thick * 1.2, ground - shoe),
                            (foot + thick * 1.2, ground), (foot - thick, ground)), 0.02))
    return Layer(role, tuple(legs), 0.05), Layer(shoe_role, tuple(shoes), detail=True)


def _dog(between):
    return _sitting_dog(between) if between(0, 1) < 0.4 else _standing_dog(between)


def _dog_head(between, x, y):
    """A head in profile: a brow, a long blunt muzzle with a nose at its tip, ears that hang or stand."""
    drop, long = between(-0.02, 0.12), between(0.36, 0.46)
    tip_x, tip_y = x + long, y + 0.06 + drop
    if between(0, 1) < 0.75:
        ear = Bone(x - 0.1, y - 0.14, 0.09, x - 0.17 + between(-0.05, 0.03), y + between(0.16, 0.26), 0.13)
    else:
        ear_tip = (x - 0.14 + between(-0.06, 0), y - between(0.34, 0.42))
        ear = Plate(((x - 0.18, y - 0.12), ear_tip, (x + 0.04, y - 0.18)), 0.05)
    head = Layer("coat", (_dot(x, y, between(0.24, 0.27)), Bone(x + 0.08, y + 0.06, 0.17, tip_x, tip_y, 0.125)), 0.1)
    return (head,
            Layer("pale", (Bone(x + 0.22, y + 0.16, 0.1, tip_x, tip_y + 0.05, 0.12),), detail=True),
            Layer("second", (ear,)),
            Layer("ink", (Oval(tip_x + 0.07, tip_y - 0.06, 0.085, 0.065),), detail=True),
            *_eye(x + 0.1, y - 0.06, 0.06))


def _standing_dog(between):
    ground, stride, girth = between(0.54, 0.66), between(-0.06, 0.12), between(0.22, 0.28)
    head_x, head_y = between(0.5, 0.6), between(-0.58, -0.4)
    wag = between(-0.1, 0.2)
    tail = _chain(((-0.55, -0.1), (-0.78, -0.28 - wag / 2), (-0.82 + wag, -0.58 - wag / 2)), 0.115, 0.105)
    far, far_paws = _legs(between, "far", (-0.36, 0.3), 0.12, ground - 0.03, 0.12, -stride, 0.06, "far")
    near, near_paws = _legs(between, "coat", (-0.5, 0.22), 0.1, ground, 0.13, stride, 0.07, "pale")
    body = Layer("coat", (Bone(-0.45, 0.0, girth, 0.24, -0.02, girth + 0.03), *near.parts,
                          Bone(0.25, -0.1, 0.23, head_x - 0.02, head_y + 0.08, 0.18), *tail), 0.09)
    collar = Bone(head_x - 0.25, head_y + 0.17, 0.05, head_x + 0.1, head_y + 0.33, 0.05)
    return far, far_paws, body, near_paws, Layer("second", (collar,), detail=True), *_dog_head(between, head_x, head_y)


def _sitting_dog(between):
    ground, lean = between(0.66, 0.74), between(-0.06, 0.06)
    head_x, head_y = 0.18 + lean, between(-0.56, -0.48)
    tail = _chain(((-0.45, 0.52), (-0.72, 0.5), (-0.86, between(0.1, 0.35))), 0.115, 0.105)
    body = Layer("coat", (Bone(-0.25, 0.34, 0.34, 0.1, -0.12, 0.25), Bone(0.1, -0.2, 0.22, head_x, head_y, 0.2),
                          Bone(0.2, 0.05, 0.14, 0.26, ground - 0.11, 0.11),
                          Bone(-0.1, ground - 0.1, 0.11, 0.04, ground - 0.09, 0.1), *tail), 0.07)
    far = Layer("far", (Bone(0.3, 0.05, 0.12, 0.42, ground - 0.13, 0.1),))
    chest = Layer("pale", (Oval(0.24, 0.05, 0.12, 0.24, -0.2),), detail=True)
    thigh = Layer("coat", (Oval(-0.2, 0.42, 0.24, 0.27, 0.4),))
    collar = Bone(head_x - 0.26, head_y + 0.22, 0.05, head_x + 0.22, head_y + 0.3, 0.05)
    return far, body, chest, thigh, Layer("second", (collar,), detail=True), *_dog_head(between, head_x, head_y)


def _cat(between):
    return _sitting_cat(between) if between(0, 1) < 0.55 else _standing_cat(between)


def _cat_head(between, x, y, r):
    """A face seen from the front: wide cheeks, two pointed ears, two eyes, a small nose."""
    tall, apart = r * between(0.75, 0.95), r * between(0.6, 0.7)
    ears, linings, eyes, pupils, cheeks = [], [], [], [], []
    for side in (-1, 1):
        ear_x, eye_x = x + side * apart, x + side * 0.4 * r
        tip_x = x + side * (apart + 0.16 * r)
        ears.append(Plate(((ear_x - 0.3 * r, y - 0.5 * r), (tip_x, y - 0.55 * r - tall),
                           (ear_x + 0.3 * r, y - 0.5 * r)), 0.05))
        linings.append(Plate(((ear_x - 0.14 * r, y - 0.6 * r), (tip_x, y - 0.5 * r - 0.65 * tall),
                              (ear_x + 0.14 * r, y - 0.6 * r)), 0.02))
        eyes.append(Oval(eye_x, y - 0.02 * r, 0.17 * r, 0.2 * r))
        pupils.append(Oval(eye_x, y - 0.02 * r, 0.09 * r, 0.18 * r))
        cheeks.append(Oval(x + side * 0.2 * r, y + 0.42 * r, 0.34 * r, 0.26 * r))
    nose = Plate(((x - 0.1 * r, y + 0.24 * r), (x + 0.1 * r, y + 0.24 * r), (x, y + 0.36 * r)), 0.02)
    return (Layer("coat", (Oval(x, y, r * 1.1, r * 0.92), *ears), 0.04),
            Layer("second", tuple(linings), detail=True),
            Layer("pale", tuple(cheeks), detail=True),
            Layer("white", tuple(eyes), detail=True),
            Layer("ink", (*pupils, nose), detail=True))


def _sitting_cat(between):
    r, lean, ground = between(0.31, 0.36), between(-0.08, 0.08), 0.78
    swing = between(-0.1, 0.12)
    tail = _chain(((0.2, 0.66), (0.55, 0.62), (0.7, 0.32), (0.6 + swing, 0.02)), 0.12, 0.11)
    body = Layer("coat", (Bone(0, 0.4, between(0.34, 0.4), lean, -0.1, 0.24),
                          _dot(-0.28, 0.64, 0.14), _dot(0.28, 0.64, 0.14)), 0.06)
    legs = Layer("coat", tuple(Bone(x, 0.3, 0.1, x, ground - 0.1, 0.11) for x in (-0.12, 0.12)))
    belly = Layer("pale", (Oval(lean / 2, 0.14, 0.15, 0.24),), detail=True)
    return Layer("far", tail, 0.03), body, legs, belly, *_cat_head(between, lean * 1.5, -0.38, r)


def _standing_cat(between):
    ground, stride, girth = between(0.5, 0.58), between(-0.05, 0.12), between(0.2, 0.24)
    head_x, head_y = between(0.46, 0.56), between(-0.34, -0.2)
    curl = between(-0.22, 0.2)
    tail = _chain(((-0.52, -0.02), (-0.74, -0.25), (-0.72, -0.52), (-0.72 + curl, -0.78)), 0.11, 0.11)
    far, far_paws = _legs(between, "far", (-0.36, 0.26), 0.1, ground - 0.03, 0.11, -stride, 0.06, "far")
    near, near_paws = _legs(between, "coat", (-0.48, 0.18), 0.1, ground, 0.12, stride, 0.07, "pale")
    body = Layer("coat", (Bone(-0.42, 0.02, girth, 0.26, 0.02, girth), *near.parts, *tail), 0.08)
    return far, far_paws, body, near_paws, *_cat_head(between, head_x, head_y, between(0.29, 0.33))


def _horse(between):
    ground, stride, girth = between(0.68, 0.78), between(-0.02, 0.14), between(0.25, 0.29)
    poll_x, poll_y = between(0.52, 0.66), between(-0.7, -0.52)
    nose_x, nose_y = poll_x + between(0.24, 0.34), poll_y + between(0.22, 0.36)
    sway = between(-0.12, 0.06)
    tail = Layer("second", _chain(((-0.56, -0.12), (-0.78 + sway / 2, 0.08), (-0.8 + sway, 0.5)), 0.11, 0.14), 0.05)
    far, far_hooves = _legs(between, "far", (-0.38, 0.24), 0.1, ground - 0.03, 0.115, -stride, 0.1)
    near, near_hooves = _legs(between, "coat", (-0.5, 0.18), 0.08, ground, 0.12, stride, 0.11)
    body = Layer("coat", (Bone(-0.42, -0.02, girth, 0.2, 0.0, girth), *near.parts,
                          Bone(0.2, -0.1, 0.24, poll_x - 0.02, poll_y + 0.04, 0.15)), 0.09)
    crest = ((0.16, -0.34), ((0.1 + poll_x) / 2, poll_y / 2 - 0.2), (poll_x - 0.08, poll_y - 0.1))
    mane = Layer("second", _chain(crest, 0.1, 0.09), 0.04)
    ear = Plate(((poll_x - 0.09, poll_y - 0.1), (poll_x - 0.02, poll_y - 0.27), (poll_x + 0.05, poll_y - 0.1)), 0.035)
    head = Layer("coat", (Bone(poll_x, poll_y, 0.155, nose_x, nose_y, 0.105), ear), 0.04)
    muzzle = Layer("pale", (Bone(nose_x - 0.02, nose_y - 0.02, 0.11, nose_x + 0.03, nose_y + 0.05, 0.12),), detail=True)
    nostril = Layer("ink", (_dot(nose_x + 0.05, nose_y - 0.02, 0.03),), detail=True)
    return (tail, far, far_hooves, body, near_hooves, mane, head, muzzle, nostril,
            *_eye(poll_x + 0.07, poll_y - 0.01, 0.05))


def _cow(between):
    ground, stride, deep = between(0.62, 0.72), between(-0.03, 0.08), between(0.2, 0.27)
    x, y = between(0.58, 0.66), between(-0.32, -0.1)
    tail = Layer("far", _chain(((-0.62, -0.2), (-0.82, 0.0), (-0.84, between(0.2, 0.36))), 0.095, 0.095), 0.03)
    tuft = Layer("second", (_dot(tail.parts[-1].x1, tail.parts[-1].y1 + 0.06, 0.11),))
    far, far_hooves = _legs(between, "far", (-0.36, 0.24), 0.15, ground - 0.03, 0.12, -stride, 0.09)
    near, near_hooves = _legs(between, "coat", (-0.54, 0.16), 0.15, ground, 0.13, stride, 0.1)
    udder = Layer("pale", (Oval(-0.24, deep + 0.12, 0.17, 0.13),))
    body = Layer("coat", (Plate(((-0.58, -0.26), (0.3, -0.22), (0.34, deep - 0.06), (-0.56, deep)), 0.14), *near.parts,
                          Bone(0.3, -0.12, 0.22, x - 0.08, y + 0.02, 0.17)), 0.07)
    up = between(0.2, 0.28)
    horns = Layer("white", _chain(((x - 0.12, y - 0.16), (x - 0.24, y - 0.26), (x - 0.22, y - 0.18 - up)), 0.075, 0.06)
                  + _chain(((x + 0.14, y - 0.16), (x + 0.26, y - 0.26), (x + 0.24, y - 0.18 - up)), 0.075, 0.06))
    ears = Layer("second", (Oval(x - 0.28, y - 0.06, 0.15, 0.085, 0.3), Oval(x + 0.3, y - 0.06, 0.15, 0.085, -0.3)))
    head = Layer("coat", (Bone(x, y - 0.08, 0.21, x + 0.02, y + 0.18, 0.17),), 0.05)
    muzzle = Layer("pale", (Oval(x + 0.03, y + 0.25, 0.22, 0.145),))
    nostrils = Layer("ink", (_dot(x - 0.05, y + 0.24, 0.035), _dot(x + 0.11, y + 0.24, 0.035)), detail=True)
    return (tail, tuft, far, far_hooves, udder, body, near_hooves, horns, ears, head, muzzle, nostrils,
            *_eye(x - 0.09, y - 0.06, 0.055), *_eye(x + 0.11, y - 0.06, 0.055))


def _car(between):
    belt, roof, floor = between(-0.1, 0.0), between(-0.52, -0.4), between(0.26, 0.32)
    nose, rear = between(0.78, 0.9), -between(0.78, 0.9)
    # saloon, hatchback or van, by where the cabin's pillars start and end
    kind = int(between(0, 3))
    foot_rear, top_rear, top_front, foot_front = ((-0.6, -0.34, 0.14, 0.42), (-0.8, -0.62, 0.08, 0.4),
                                                  (-0.8, -0.74, 0.34, 0.6))[kind]
    roof -= 0.12 if kind == 2 else 0
    wheel, left, right = between(0.19, 0.23), between(-0.54, -0.46), between(0.44, 0.54)
    hull = Plate(((rear, belt + 0.06), (nose - 0.12, belt + between(0.06, 0.12)), (nose, belt + 0.2),
                  (nose, floor), (rear, floor)), 0.08)
    cabin = Plate(((foot_rear, belt + 0.1), (top_rear, roof), (top_front, roof), (foot_front, belt + 0.1)), 0.07)
    body = Layer("coat", (hull, cabin), 0.04)
    sill_top, sill_end = floor - 0.08, floor + 0.2
    sill = Layer("second", (Plate(((rear - 0.2, sill_top), (nose + 0.2, sill_top),
                                   (nose + 0.2, sill_end), (rear - 0.2, sill_end)), 0),), detail=True)
    post, low, high = between(-0.24, -0.06), belt + 0.02, roof + 0.05
    rear_pane = Plate(((foot_rear + 0.13, low), (top_rear + 0.08, high), (post - 0.06, high), (post - 0.06, low)), 0.03)
    front_pane = Plate(((post + 0.06, low), (post + 0.06, high), (top_front - 0.04, high),
                        (foot_front - 0.12, low)), 0.03)
    panes = Layer("glass", (rear_pane, front_pane), detail=True)
    lamps = Layer("white", (Oval(nose + 0.02, belt + 0.24, 0.1, 0.075),), detail=True)
    handle = Layer("ink", (Bone(post - 0.2, belt + 0.14, 0.022, post - 0.1, belt + 0.14, 0.022),), detail=True)
    axle = floor + 0.06
    return (body, sill, panes, lamps, handle, Layer("dark", (_dot(left, axle, wheel), _dot(right, axle, wheel))),
            Layer("pale", (_dot(left, axle, wheel * 0.52), _dot(right, axle, wheel * 0.52)), detail=True))


def _person(between):
    r, wide, hip = between(0.27, 0.31), between(0.24, 0.29), 0.21
    head_y, ground, stride = -0.6, between(0.74, 0.82), between(0.02, 0.11)
    arms, hands = [], []
    for side in (-1, 1):
        cosine, sine = cosine_and_sine(between(-0.9, 1.2))
        elbow = (side * (wide + 0.04 + 0.18 * cosine), -0.16 + 0.18 * sine)
        bend_cosine, bend_sine = cosine_and_sine(between(-1.4, 1.3))
        hand = (elbow[0] + side * 0.17 * bend_cosine, elbow[1] + 0.18 * bend_sine)
        arms += _chain(((side * wide, -0.18), elbow, hand), 0.14, 0.13)
        hands.append(_dot(*hand, 0.135))
    legs, shoes = _legs(between, "second", (-0.18, 0.18), 0.2, ground, 0.155, stride, 0.1)
    skirt = between(0, 1) < 0.4
    hem = 0.42 if skirt else 0.2
    flare = 0.4 if skirt else 0.25
    trunk = Layer("coat", (Plate(((-wide, -0.24), (wide, -0.24), (hip + 0.03, 0.08), (-hip - 0.03, 0.08)), 0.08),
                           Plate(((-hip, -0.05), (hip, -0.05), (flare, hem), (-flare, hem)), 0.05)), 0.04)
    strands = (Bone(side * r, head_y, 0.1, side * r, head_y + 0.26, 0.1) for side in (-1, 1))
    locks = (_dot(0, head_y + 0.16, r), *strands)
    hair = Layer("dark", (_dot(0, head_y - 0.03, r + 0.045), *(locks if between(0, 1) < 0.5 else ())), 0.03)
    face = Layer("pale", (Oval(0, head_y + 0.05, r * 0.92, r * 0.9),))
    fringe = Layer("dark", (Oval(between(-0.12, 0.12), head_y - r * 0.85, r * 1.1, r * 0.6),), detail=True)
    eyes = Layer("ink", (_dot(-0.1, head_y + 0.05, 0.04), _dot(0.1, head_y + 0.05, 0.04)), detail=True)
    smile = ((-0.07, head_y + 0.17), (0, head_y + 0.205), (0.07, head_y + 0.17))
    mouth = Layer("ink", _chain(smile, 0.016, 0.016), detail=True)
    return (legs, shoes, hair, Layer("pale", (_dot(0, -0.36, 0.11),)), trunk, Layer("coat", tuple(arms), 0.03),
            Layer("pale", tuple(hands)), face, fringe, eyes, mouth)
