"""From energies and class scores to the numbers that are minimised: eq. (6), (12)-(15), (19) and (22).

An objective is a dictionary of named parts, each of shape (N,), and their weighted sum: the training step differentiates the
sum, the history keeps the parts.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from bipartition.energies import area, chan_vese, mumford_shah, total_variation


def foreground_loss(foreground_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the foreground picture ``(1 - phi) I``, the first term of eq. (12) and (14): ``-y log f``.

    Parameters
    ----------
    foreground_logits : Tensor, shape (N, K)
        Class scores before the softmax.
    labels : Tensor of int64, shape (N,)
        Image-level class labels, the paper's y.

    Returns
    -------
    Tensor, shape (N,)
        In nats, computed in float32 or better.
    """
    return F.cross_entropy(_precise(foreground_logits), labels, reduction="none")


def background_loss(background_logits: Tensor, probability: str = "softmax") -> Tensor:
    """The paper's background loss, eq. (13): ``-log 4 b (1 - b)``, mean over the K classes.

    It asks every class probability b of the background picture ``phi I`` to be 1/2.  That can be met for K = 2, or with one
    sigmoid a class; a softmax over K > 2 classes can at best spread evenly, and `background_floor` is what remains.

    Parameters
    ----------
    background_logits : Tensor, shape (N, K)
        Class scores of the background picture.
    probability : {"softmax", "sigmoid"}
        How scores become the probabilities b (the paper only says "probabilities").

    Returns
    -------
    Tensor, shape (N,)
        In nats, computed from logarithms, so that saturated scores give large finite numbers; at least 0.

    Raises
    ------
    ValueError
        For another `probability`, or fewer than two classes.
    """
    logits = _precise(background_logits)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"background_logits has shape {tuple(logits.shape)}; it must be (N, K) with at least 2 classes")
    if probability == "softmax":
        log_b = F.log_softmax(logits, dim=1)
        log_rest = _log_of_the_others(logits)
    elif probability == "sigmoid":
        log_b, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    else:
        raise ValueError(f"probability is {probability!r}; it must be 'softmax' or 'sigmoid'")
    return -(math.log(4) + log_b + log_rest).mean(dim=1)


def background_floor(classes: int, probability: str = "softmax") -> float:
    """Smallest value that eq. (13) can take: 0 for a sigmoid or two classes, else that of the even spread 1/K.

    Parameters
    ----------
    classes : int
        K, at least 2.
    probability : {"softmax", "sigmoid"}
        As in `background_loss`.

    Returns
    -------
    float
        In nats, a class; 1.66 for the 20 classes of PASCAL VOC.
    """
    if probability == "sigmoid":
        return 0.0
    return max(0.0, -math.log(4 * (1 / classes) * (1 - 1 / classes)))  # not -0.0 for two classes


def segmentation_objective(
    image: Tensor,
    background_mask: Tensor,
    matrices: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Parts of the segmentation loss: eq. (7) without matrices, eq. (10) with F and B.

    Parameters
    ----------
    image : Tensor, shape (N, C, H, W)
        The picture I in [0, 1].
    background_mask : Tensor, shape (N, 1, H, W), in [0, 1]
        The paper's phi.
    matrices : (F, B), each of the image's shape, optional
        The smooth pictures of the Mumford-Shah model.

    Returns
    -------
    dict of Tensor, each of shape (N,)
        ``fidelity``, ``area``, ``variation`` and, with matrices, ``variation_foreground`` and ``variation_background``.
    """
    if matrices is None:
        return {"fidelity": chan_vese(image, background_mask)} | regularisation(background_mask)
    foreground_matrix, background_matrix = matrices
    return {
        "fidelity": mumford_shah(image, background_mask, foreground_matrix, background_matrix),
        **regularisation(background_mask),
        "variation_foreground": total_variation(foreground_matrix),
        "variation_background": total_variation(background_matrix),
    }


def regularisation(background_mask: Tensor) -> dict[str, Tensor]:
    """The two regularisers of eq. (15), ``area`` and ``variation``, each of shape (N,)."""
    return {"area": area(background_mask), "variation": total_variation(background_mask)}


def classification_objective(
    foreground_logits: Tensor, background_logits: Tensor, labels: Tensor, probability: str = "softmax"
) -> dict[str, Tensor]:
    """Parts of the classification loss S, eq. (12) and (14): ``foreground`` and ``background``, each of shape (N,)."""
    return {
        "foreground": foreground_loss(foreground_logits, labels),
        "background": background_loss(background_logits, probability),
    }


def weighted_sum(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Mean over the mini-batch of the weighted parts: eq. (6) with the 1/M of (19) and (22).

    Parameters
    ----------
    parts : mapping of name to Tensor of shape (N,)
        What `segmentation_objective` and `classification_objective` return.
    weights : mapping of name to float
        One for every part.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ValueError
        If a part has no weight.
    """
    if missing := [name for name in parts if name not in weights]:
        raise ValueError(f"the part {missing[0]!r} of the objective has no weight; give it one in objective_weights of "
                         "bipartition.learners")
    return torch.stack([weights[name] * part.mean() for name, part in parts.items()]).sum()


def _log_of_the_others(logits: Tensor) -> Tensor:
    """log(1 - softmax) without cancellation: log-sum-exp over the other classes minus that over all."""
    classes = logits.shape[1]
    itself = torch.eye(classes, dtype=torch.bool, device=logits.device)
    others = logits.unsqueeze(1).expand(-1, classes, -1).masked_fill(itself, -math.inf)
    return others.logsumexp(dim=2) - logits.logsumexp(dim=1, keepdim=True)


def _precise(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
