"""How far a network's confidence can be believed: reliability bins, expected calibration error, Brier score.

Pure functions of logits and labels, computed in float64.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sba.core.errors import ConfigError

BINS = 15
"""Bins of equal width, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Reliability:
    """Predictions sorted by confidence, the probability of the predicted class, into bins of equal width."""

    counts: Tensor  #: images in each bin, int64 of shape (bins,)
    confidence: Tensor  #: their mean confidence in [0, 1], float64 of shape (bins,); 0 for an empty bin
    accuracy: Tensor  #: the share of them that is classified correctly, likewise

    @property
    def error(self) -> float:
        """The expected calibration error in [0, 1]: the mean over all images of how far confidence and accuracy of their bin
        are apart (Naeini et al., 2015)."""
        return ((self.confidence - self.accuracy).abs() * self.counts).sum().item() / self.counts.sum().item()


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Sort predictions by confidence into the bins [0, 1/bins), [1/bins, 2/bins), …; confidence 1 belongs to the last one.

    Logits have shape (N, C), labels (N,); :class:`ConfigError` says that there is no image, or no bin.
    """
    check(logits)
    if bins < 1:
        raise ConfigError(f"bins: {bins} is not allowed; give an integer from 1")
    confidence, predicted = logits.double().softmax(1).max(1)
    place = (confidence * bins).long().clamp(max=bins - 1)
    counts = torch.bincount(place, minlength=bins)
    sums = [
        torch.bincount(place, weights=values, minlength=bins) / counts.clamp(min=1)
        for values in (confidence, (predicted == labels).double())
    ]
    return Reliability(counts, *sums)


def brier_score(logits: Tensor, labels: Tensor) -> float:
    """Return the Brier score in [0, 2]: the mean squared distance of the predicted distribution from the label's (Brier, 1950);
    arguments and error as for :func:`reliability`."""
    check(logits)
    wanted = F.one_hot(labels, logits.shape[1])
    return (logits.double().softmax(1) - wanted).square().sum(1).mean().item()


def calibration(scores: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return calibration error, Brier score and reliability bins of logits of shape (N, C), as JSON holds them."""
    bins = reliability(scores, labels)
    return {
        "ece": round(bins.error, 6),
        "brier": round(brier_score(scores, labels), 6),
        "count": bins.counts.tolist(),
        "confidence": [round(v, 4) for v in bins.confidence.tolist()],
        "accuracy": [round(v, 4) for v in bins.accuracy.tolist()],
    }


def check(logits: Tensor) -> None:
    """Raise :class:`ConfigError` if there is nothing to average over."""
    if logits.dim() != 2 or not len(logits):
        raise ConfigError(f"logits: shape {tuple(logits.shape)} is not allowed; give (N, C) with N from 1")
