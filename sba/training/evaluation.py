"""How good a network is on a split: error and mean negative log-likelihood from one plain pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.data.augment import normalise
from sba.data.in_files import Stream
from sba.data.in_memory import Split

EVALUATION_BATCH = 1000
"""Images that are evaluated at once, or fewer if they are large."""
EVALUATION_PIXELS = 128 * 112 * 112
"""Pixels that are evaluated at once."""


@dataclass(frozen=True)
class Evaluation:
    """Of one network on one split.

    Attributes:
        error: misclassified images in per cent.
        nll: mean negative log-likelihood of the labels in nats.
        n: number of images.
        error_top5: images in per cent whose label is not among the five highest logits; None if that was not
            asked.
        skipped: images that could not be read, and count for nothing.
    """

    error: float
    nll: float
    n: int
    error_top5: float | None = None
    skipped: int = 0


def logits(
    network: nn.Module,
    split: Split | Stream,
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
    return torch.cat([scores for scores, _, _ in passes(network, split, mean, std, batch)])


@torch.no_grad()
def passes(
    network: nn.Module, split: Split | Stream, mean: Sequence[float], std: Sequence[float], batch: int
) -> list[tuple[Tensor, Tensor, int]]:
    """Return logits, labels and how many images were left out, part by part; arguments as for :func:`logits`."""
    was_training = network.training
    network.eval()
    try:
        return [
            (network(normalise(part.images, mean, std)).float(), part.labels, part.skipped)
            for part in split.parts(batch)
        ]
    finally:
        network.train(was_training)


def scored(
    network: nn.Module, split: Split | Stream, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor, int]:
    """Return logits of shape (N, classes), labels of shape (N,), both in the split's order, and how many images were left out;
    arguments as for :func:`logits`."""
    # a batch of large images is a matter of memory
    batch = max(1, EVALUATION_PIXELS // (split.shape[-1] * split.shape[-2]))
    found = passes(network, split, mean, std, min(EVALUATION_BATCH, batch))
    scores, labels, skipped = zip(*found, strict=True)
    return torch.cat(scores), torch.cat(labels), sum(skipped)


def evaluate(network: nn.Module, split: Split | Stream, mean: Sequence[float], std: Sequence[float]) -> Evaluation:
    """Evaluate a network on a split; arguments as for :func:`logits`."""
    scores, labels, skipped = scored(network, split, mean, std)
    wrong = (scores.argmax(1) != labels).sum().item()
    beyond = (scores.topk(min(5, scores.shape[1])).indices != labels[:, None]).all(1).sum().item()
    n = len(labels)
    return Evaluation(100 * wrong / n, F.cross_entropy(scores, labels).item(), n, 100 * beyond / n, skipped)
