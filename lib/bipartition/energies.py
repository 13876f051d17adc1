"""The energies of section 2.2 and 3.2.1, term by term in the paper's order: pure functions of tensors, nothing else.

Every integral of the paper is read as a mean over the pixels (and the colour channels) of one picture: sums over
224 x 224 x 3 numbers would drown the classification terms.  So fidelity and area mean the same at every picture size; the
variation of the same contour, or of the same smooth picture, halves as the side doubles.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def region_means(image: Tensor, background_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colours c1 and c2 of the two regions, eq. (8) (and (5), with 1 - phi in place of the Heaviside function).

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
        The picture I.
    background_mask : Tensor, shape (N, 1, H, W), in [0, 1]
        The paper's phi: 1 where a pixel is background.

    Returns
    -------
    c1, c2 : Tensor, shape (N, C, 1, 1)
        Mean over the foreground ``1 - phi`` and over the background ``phi``.  A region without pixels has no mean; the
        colour given for it is 0, and it weighs nothing in the energy.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    _check(image, background_mask)
    foreground_mask = 1 - background_mask
    return _mean_within(image, foreground_mask), _mean_within(image, background_mask)


def chan_vese(image: Tensor, background_mask: Tensor) -> Tensor:
    """Sum of the two fidelity terms of eq. (7), ``E(I, phi, c1, c2)`` in (9): foreground plus background fidelity.

    ``mean((1 - phi)(I - c1)^2) + mean(phi (I - c2)^2)``.  With c1 and c2 at their optimum (8) the sum is what is left of
    the picture's variance inside the regions, so it is computed in one pass from the moments
    ``mean(I^2) - mean((1-phi) I)^2 / mean(1-phi) - mean(phi I)^2 / mean(phi)``; same value, same gradient
    (the derivatives with respect to c1 and c2 are zero there).  For a binary mask it is Otsu's criterion.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
        The picture I, usually in [0, 1].
    background_mask : Tensor, shape (N, 1, H, W), in [0, 1]
        The paper's phi.

    Returns
    -------
    Tensor, shape (N,)
        Mean over channels and pixels; 0 if each region is of one colour.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    _check(image, background_mask)
    # Centred first: the two squares below would cancel to nothing for a bright, flat picture in float32.
    centred = image - image.mean(dim=(2, 3), keepdim=True)
    # Each mask is summed up by itself: 1 less the other's share would be all rounding where one region is small.
    explained = sum((mask * centred).mean(dim=(2, 3)).square() * _inverse(mask.mean(dim=(2, 3)))
                    for mask in (1 - background_mask, background_mask))
    return (centred.square().mean(dim=(2, 3)) - explained).mean(dim=1)


def mumford_shah(image: Tensor, background_mask: Tensor, foreground_matrix: Tensor, background_matrix: Tensor) -> Tensor:
    """Sum of the two fidelity terms of eq. (10): the picture against F inside and against B outside.

    ``mean((1 - phi)(I - F)^2) + mean(phi (I - B)^2)``.  It is 0 for every mask at F = B = I, therefore (10) also
    punishes the variation of F and B (see `total_variation`).

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
        The picture I.
    background_mask : Tensor, shape (N, 1, H, W), in [0, 1]
        The paper's phi.
    foreground_matrix, background_matrix : Tensor, shape (N, C, H, W)
        The paper's F and B, smooth pictures that explain I inside and outside.

    Returns
    -------
    Tensor, shape (N,)
        Mean over channels and pixels.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    _check(image, background_mask)
    for name, matrix in (("foreground_matrix", foreground_matrix), ("background_matrix", background_matrix)):
        if matrix.shape != image.shape:
            raise ValueError(f"{name} has shape {tuple(matrix.shape)}; it must be that of the image, {tuple(image.shape)}")
    # Pictures that are trained on are channels last, the maps of decoders are not: all is done in the maps' layout.
    return _Fidelity.apply(image.contiguous(), 1 - background_mask, background_mask, foreground_matrix, background_matrix)


def area(background_mask: Tensor) -> Tensor:
    """Share of the picture called foreground: mask region regularisation, the third term of eq. (7) and (10).

    It punishes *foreground*: the classification loss (14) alone has nothing against ``phi = 0``, everything foreground.

    Parameters
    ----------
    background_mask : Tensor, shape (N, 1, H, W), in [0, 1]
        The paper's phi.

    Returns
    -------
    Tensor, shape (N,)
        Mean of ``|1 - phi|`` over the pixels; 0 for an all-background mask.
    """
    return (1 - background_mask).abs().mean(dim=(1, 2, 3))


def total_variation(u: Tensor) -> Tensor:
    """Anisotropic total variation with forward differences: the smooth regularisations of eq. (7), (10) and (15).

    ``mean(|u(x+1, y) - u(x, y)| + |u(x, y+1) - u(x, y)|)``, where a difference that would leave the picture counts as 0.

    Parameters
    ----------
    u : Tensor, shape (N, C, H, W)
        A mask phi, or a matrix F or B.

    Returns
    -------
    Tensor, shape (N,)
        Mean over channels and pixels; 0 for a constant u.
    """
    return _Variation.apply(u)


# Full-size maps are so large that what counts is how often they are read and written.  The gradients of the two functions
# below are written down, with fewer passes over memory than autograd needs, and can be taken once.  Their sums keep its order
# (hence u and v = 1 - u, each with a gradient of its own): the same to the bit, if the variation of a map is its last term.


class _Fidelity(torch.autograd.Function):
    """``mean(u (I - F)^2 + v (I - B)^2)`` of a picture, and its gradients: ``(I - F)^2`` for u, ``-2 u (I - F)`` for F."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, u: Tensor, v: Tensor, foreground_matrix: Tensor, background_matrix: Tensor) -> Tensor:
        inside, outside = image - foreground_matrix, image - background_matrix
        ctx.save_for_backward(u, v, inside, outside)
        return (inside.square() * u + outside.square() * v).mean(dim=(1, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        u, v, inside, outside = ctx.saved_tensors
        share = _each_number_of(inside, gradient)
        for_u, for_v = ((rest.square() * share).sum(dim=1, keepdim=True) for rest in (inside, outside))
        for_matrices = inside * (-2 * share * u), outside * (-2 * share * v)
        for_image = -sum(for_matrices) if ctx.needs_input_grad[0] else None
        return for_image, for_u, for_v, *for_matrices


class _Variation(torch.autograd.Function):
    """``mean |difference|`` of a picture, and its gradient: a pixel's share of the signs of the four differences it is in."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        down, right = (_difference(u, axis).abs_().sum(dim=(1, 2, 3)) for axis in (2, 3))
        return (down + right) / u.shape[1:].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        u, = ctx.saved_tensors
        share = _each_number_of(u, gradient)
        found = torch.zeros_like(u)
        for axis in (3, 2):
            pull = _difference(u, axis).sgn_().mul_(share)
            found.narrow(axis, 0, pull.shape[axis]).sub_(pull)
            found.narrow(axis, 1, pull.shape[axis]).add_(pull)
        return found


def _each_number_of(u: Tensor, gradient: Tensor) -> Tensor:
    """What the gradient of a picture's mean is for each of its numbers, shape (N, 1, 1, 1)."""
    return (gradient / u.shape[1:].numel()).view(-1, 1, 1, 1)


def _difference(u: Tensor, axis: int) -> Tensor:
    """Forward differences along an axis, one fewer than there are pixels."""
    return u.narrow(axis, 1, u.shape[axis] - 1) - u.narrow(axis, 0, u.shape[axis] - 1)


def _mean_within(image: Tensor, mask: Tensor) -> Tensor:
    return (image * mask).mean(dim=(2, 3), keepdim=True) * _inverse(mask.mean(dim=(2, 3), keepdim=True))


def _inverse(share: Tensor) -> Tensor:
    """1 / share, and 0 for an empty region: eq. (8) divides by zero when a mask saturates."""
    smallest = torch.finfo(share.dtype).eps
    return torch.where(share > smallest, 1 / share.clamp_min(smallest), torch.zeros_like(share))


def _check(image: Tensor, background_mask: Tensor) -> None:
    if image.ndim != 4:
        raise ValueError(f"image has shape {tuple(image.shape)}; it must be (N, C, H, W)")
    expected = (image.shape[0], 1, *image.shape[2:])
    if tuple(background_mask.shape) != expected:
        raise ValueError(f"background_mask has shape {tuple(background_mask.shape)}; for this image it must be {expected}")
