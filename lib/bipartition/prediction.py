"""Figure 3, the test network: masks and scores of pictures, from a network that learns no more."""

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from bipartition.epochs import unit_range
from bipartition.learners import Learner
from bipartition.networks import Classifier

CAM_CUT = 0.2
"""Share of its maximum from which on a class activation map is foreground, as Zhou et al. (2016) cut it."""


@torch.no_grad()
def predict(learner: Learner, images: np.ndarray, accelerator: Accelerator,
            batch_size: int = 64) -> tuple[np.ndarray, np.ndarray | None]:
    """Figure 3: masks and scores in evaluation mode.

    Parameters
    ----------
    learner : Learner
    images : array of uint8, shape (N, 3, S, S)
    accelerator : Accelerator
        Whose device and precision are used.
    batch_size : int
        Pictures at a time; decides the memory, not the result.

    Returns
    -------
    foreground_masks : array of uint8, shape (N, S, S)
        ``round(255 (1 - phi))``; of a bare classifier, which makes no mask, its `activation_mask`.
    logits : array of float32, shape (N, K), or None
    """
    learner.network.eval()
    masks, scores = [], []
    for first in range(0, len(images), batch_size):
        pictures = unit_range(torch.from_numpy(np.array(images[first:first + batch_size])).to(accelerator.device))
        with accelerator.autocast():
            if isinstance(learner.network, Classifier):
                mask, logits = activation_mask(learner.network, pictures)
            else:
                partition = learner.network.segment(pictures)
                mask, logits = 1 - partition.background_mask, partition.image_logits
        masks.append((mask[:, 0] * 255).round().to(torch.uint8).cpu().numpy())
        if logits is not None:
            scores.append(logits.float().cpu().numpy())
    return np.concatenate(masks), np.concatenate(scores) if scores else None


def activation_mask(classifier: Classifier, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Where a bare classifier sees the class that it predicts: its class activation map as a foreground mask.

    The map is divided by its maximum in the picture and brought to the picture's size.  `CAM_CUT` of the maximum becomes
    one half, where every mask is cut; below and above it the mask rises in a straight line, so that the order stays.

    Parameters
    ----------
    classifier : Classifier
        In evaluation mode.
    pictures : Tensor, shape (N, 3, H, W), in [0, 1]

    Returns
    -------
    mask : Tensor, shape (N, 1, H, W), in [0, 1]
        0 everywhere if nothing in the picture speaks for the class.
    logits : Tensor, shape (N, K)
    """
    logits, features = classifier(pictures)
    evidence = classifier.activation_map(features[-1], logits.argmax(dim=1))
    peak = evidence.amax(dim=(2, 3), keepdim=True)
    evidence = evidence / torch.where(peak > 0, peak, 1)
    evidence = F.interpolate(evidence, size=pictures.shape[2:], mode="bilinear", align_corners=False)
    above = 0.5 + 0.5 * (evidence - CAM_CUT) / (1 - CAM_CUT)
    return torch.where(evidence < CAM_CUT, 0.5 * evidence / CAM_CUT, above), logits
