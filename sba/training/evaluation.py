"""How good a network is on a data set: error and mean negative log-likelihood from one plain pass."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.data.datasets import Data
from sba.models.registry import evaluating

EVALUATION_BATCH = 1000
"""Images that are evaluated at once, or fewer if they are large."""
EVALUATION_PIXELS = 128 * 112 * 112
"""Pixels that are evaluated at once."""


@dataclass(frozen=True)
class Evaluation:
    """Of one network on the images of one data set."""

    error: float  #: misclassified images in per cent
    nll: float  #: mean negative log-likelihood of the labels in nats
    n: int  #: number of images
    #: images in per cent whose label is not among the five highest logits; None if that was not asked
    error_top5: float | None = None
    skipped: int = 0  #: images that could not be read, and count for nothing


@torch.no_grad()
def scored(network: nn.Module, data: Data) -> tuple[Tensor, Tensor, int]:
    """Return a network's logits for the data's ``test`` in evaluation mode, float32 of shape (N, classes), the labels of shape
    (N,), both in the order of the images, and how many images were left out. The network takes normalised images of shape
    (N, C, H, W) on the data's device; its mode is put back afterwards."""
    # a batch of large images is a matter of memory
    batch = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (data.test.shape[-1] * data.test.shape[-2])))
    with evaluating(network):
        parts = [(network(data.normalised(p.images)).float(), p.labels, p.skipped) for p in data.test.parts(batch)]
    scores, labels, skipped = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(labels), sum(skipped)


def logits(network: nn.Module, data: Data) -> Tensor:
    """Return a network's logits in evaluation mode, float32 of shape (N, classes); arguments as for :func:`scored`."""
    return scored(network, data)[0]


def evaluate(network: nn.Module, data: Data) -> Evaluation:
    """Evaluate a network; arguments as for :func:`scored`."""
    scores, labels, skipped = scored(network, data)
    wrong = (scores.argmax(1) != labels).sum().item()
    beyond = (scores.topk(min(5, scores.shape[1])).indices != labels[:, None]).all(1).sum().item()
    n = len(labels)
    return Evaluation(100 * wrong / n, F.cross_entropy(scores, labels).item(), n, 100 * beyond / n, skipped)
