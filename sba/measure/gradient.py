"""The gradient of an iteration as §3.4 takes it apart: Eqs. 12–15, each as a function to examine it with.

Training does not need them: it differentiates the exact losses of :mod:`sba.core.divergence`. Here are the closed forms of those
derivatives, the paper's approximation of them, and the one that holds. Small differences of probabilities want float64.

Logits z and z′, probabilities Y and Y′, and δ = Y′ − Y have shape (…, C); those of virtual points are broadcast against those of
raw ones. The base b of logarithms is e for nats, and 2 for the equations as printed (open point 19).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sba.core.divergence import full_precision


def divergence_gradient(reference: Tensor, virtual: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 12: the derivatives of D_KL(Y ‖ Y′) in both logits, for every pair, in nats.

    In z′ it is Y′ − Y. In z it is Y ⊙ (log Y − log Y′ − D_KL), which equals −(diag Y − Y Yᵀ)(z′ − z): it is *exactly* linear
    in the step of the logits. Neither is averaged; Eq. 12 divides their sum over all pairs by M·B. A teacher that is a constant
    (open point 15) drops the first.
    """
    log_y = full_precision(reference).log_softmax(-1)
    log_v = full_precision(virtual).log_softmax(-1)
    y = log_y.exp()
    gap = log_y - log_v
    return y * (gap - (y * gap).sum(-1, keepdim=True)), log_v.exp() - y


def log_linear(y: Tensor, delta: Tensor, base: float = math.e) -> Tensor:
    """Eq. 13: log Y + δ/(Y ln b), of shape (…, C), the logarithm of Y + δ to base b and to first order in δ."""
    y = positive(y)
    return (y.log() + full_precision(delta) / y) / math.log(base)


def inconsistency(y: Tensor, y_virtual: Tensor, base: float = math.e) -> Tensor:
    """Eq. 14: −δ/ln b for every class, of shape (…, C), what Eq. 13 makes of the summands of Eq. 12.

    Δ_i is their sum over classes, averaged over virtual points, and vanishes identically: Y and Y′ both sum to one (open
    point 20). Per class they are signed.
    """
    return (full_precision(y) - full_precision(y_virtual)) / math.log(base)


def half_chi_square(y: Tensor, y_virtual: Tensor) -> Tensor:
    """½ Σ_c δ²/Y, of shape (…): half of Pearson's χ², the leading term of D_KL(Y ‖ Y′) in nats (open point 20). It is never below
    0; a class that neither prediction sees adds 0."""
    delta = full_precision(y_virtual) - full_precision(y)
    return 0.5 * (delta.square() / positive(y)).sum(-1)


def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 15 with the minus sign it lacks (open point 18): (Y − 1_y)/B, of shape (B, C), the derivative of the mean cross-entropy
    in nats in the logits of the raw points, at labels of shape (B,)."""
    return (full_precision(logits).softmax(-1) - F.one_hot(labels, logits.shape[1])) / len(labels)


def positive(y: Tensor) -> Tensor:
    """Return probabilities in float32 at least, none below the smallest normal number of its type."""
    y = full_precision(y)
    return y.clamp_min(torch.finfo(y.dtype).tiny)
