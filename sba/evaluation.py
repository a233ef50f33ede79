"""How good a network is on a split: error and mean negative log-likelihood from one plain pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.augment import normalise
from sba.data import Split

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Evaluation:
    """Of one network on one split.

    Attributes:
        error: misclassified images in per cent.
        nll: mean negative log-likelihood of the labels in nats.
        n: number of images.
    """

    error: float
    nll: float
    n: int


@torch.no_grad()
def logits(
    network: nn.Module,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    batch: int = EVALUATION_BATCH,
) -> Tensor:
    """Return the network's logits in evaluation mode, float32 of shape (N, classes); its mode is put back afterwards.

    Args:
        network: of images of shape (N, C, H, W).
        split: images and labels on the network's device.
        mean: of each channel in [0, 1].
        std: likewise.
        batch: images per pass.
    """
    was_training = network.training
    network.eval()
    try:
        return torch.cat([network(normalise(part, mean, std)).float() for part in split.images.split(batch)])
    finally:
        network.train(was_training)


def evaluate(network: nn.Module, split: Split, mean: Sequence[float], std: Sequence[float]) -> Evaluation:
    """Evaluate a network on a split; arguments as for :func:`logits`."""
    scores = logits(network, split, mean, std)
    wrong = (scores.argmax(1) != split.labels).sum().item()
    return Evaluation(100 * wrong / len(split), F.cross_entropy(scores, split.labels).item(), len(split))
