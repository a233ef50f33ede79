"""The losses of virtual points: hard (Eq. 9), soft (Eq. 10), and the objective of an iteration (Eq. 11).

All of them work in float32 at least: a KL divergence is a difference of nearly equal numbers. Logits that come in bfloat16 were
rounded before, and that puts a floor of about 1e-5 nats under the divergences they can resolve.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sba.core.errors import ConfigError
from sba.core.hyper import check_choice

Label = Literal["soft", "hard"]


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or unchanged if it is more precise already."""
    return x if x.dtype == torch.float64 else x.float()


def check_labels(labels: Tensor, logits: Tensor, soft: bool = True) -> None:
    """Raise :class:`ConfigError` unless logits have the shape (B, C), C ≥ 2, and labels are int64 of shape (B,) in 0 … C − 1, or,
    if ``soft``, probabilities: floats of shape (B, C) whose rows sum to 1, up to the digits of bfloat16.

    An accelerator keeps the values of its labels to itself: its host would have to wait.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ConfigError(f"logits: shape {tuple(logits.shape)} is not allowed; give (B, C) of two classes or more")
    shape, fit = tuple(getattr(labels, "shape", ())), f"torch.int64 of shape ({len(logits)},)"
    found = f"{getattr(labels, 'dtype', type(labels))} of shape {shape}"
    if soft and shape == logits.shape and labels.is_floating_point():
        if labels.device.type != "cpu" or ((labels >= 0).all() and ((labels.double().sum(1) - 1).abs() < 0.01).all()):
            return
        found = "rows that are no probabilities"
    elif found == fit:
        if labels.device.type != "cpu" or not len(labels) or 0 <= labels.min() <= labels.max() < logits.shape[1]:
            return
        found = f"values from {labels.min()} to {labels.max()}"
    others = (
        f", or probabilities, floats of shape {tuple(logits.shape)}" if soft else " (its formula has one class a row)"
    )
    raise ConfigError(f"labels: {found} are not allowed; give classes, {fit}, in 0 … {logits.shape[1] - 1}{others}")


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy in nats of logits (B, C) against classes (B,) or probabilities (B, C), averaged over rows; of labels
    with ``smoothing`` ε it is (1 − ε) times that and ε/C times the sum of those against each class."""
    check_labels(labels, logits)
    logits = full_precision(logits)
    return F.cross_entropy(logits, labels.to(logits) if labels.ndim == 2 else labels, label_smoothing=smoothing)


def kl(reference: Tensor, virtual: Tensor) -> Tensor:
    """D_KL(Y ‖ Y′) in nats between softmax distributions, row by row.

    Args:
        reference: logits z of shape (…, C); Y = softmax(z).
        virtual: logits z′ of shape (…, C), broadcast against ``reference``; Y′ = softmax(z′).

    Returns:
        Divergences of shape (…), never below 0 up to rounding. A class of probability 0 in Y, such as a masked one with a logit
        of −∞, adds nothing.
    """
    log_y = full_precision(reference).log_softmax(-1)
    log_v = full_precision(virtual).log_softmax(-1)
    return (log_y.exp() * (log_y - log_v).masked_fill(log_y.isneginf(), 0.0)).sum(-1)


def hard_loss(virtual: Tensor, labels: Tensor) -> Tensor:
    """Eq. 9: the cross-entropy of the virtual points against the raw points' labels, averaged over M·B rows.

    Args:
        virtual: logits of shape (M·B, C), grouped by fold as :meth:`sba.core.vicinity.Vicinity.sample` puts them.
        labels: classes of shape (B,), or probabilities of shape (B, C).
    """
    return cross_entropy(virtual, labels.repeat(len(virtual) // len(labels), *(1 for _ in labels.shape[1:])))


def soft_loss(reference: Tensor, virtual: Tensor, detach: bool = True) -> Tensor:
    """Eq. 10: D_KL(Y_i ‖ Y_ij), averaged over the M·B virtual points (not over classes).

    Args:
        reference: logits of the raw points, of shape (B, C).
        virtual: logits of the virtual points, of shape (M·B, C), grouped by fold.
        detach: treat Y_i as a constant, a teacher (open point 15).
    """
    reference = reference.detach() if detach else reference
    return kl(reference, virtual.unflatten(0, (-1, reference.shape[0]))).mean()


def sba_objective(
    logits: Tensor, labels: Tensor, virtual: Tensor | None, eta: float,
    detach: bool = True, label: Label = "soft", reference: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Eq. 11: (1/B) Σ CE(1_{y_i}, Y_i) + η·λ(t)/(M·B) Σ Σ D_KL(Y_i ‖ Y_ij), as named terms whose sum is the loss.

    Args:
        logits: of the raw points, shape (B, C).
        labels: classes of shape (B,), or probabilities of shape (B, C).
        virtual: logits of the virtual points, shape (M·B, C); None if λ(t) = 0.
        eta: weight η ≥ 0 of the second term.
        detach: see :func:`soft_loss`.
        label: "soft" (Eq. 10) or "hard" (Eq. 9).
        reference: logits of the teacher, shape (B, C), if they are not ``logits`` (open point 13).
    """
    check_choice("label", label, Label)
    terms = {"cross_entropy": cross_entropy(logits, labels)}
    if virtual is not None:
        if virtual.shape[1:] != logits.shape[1:] or len(virtual) % len(logits):
            fix = f"give M times as many rows as logits of {tuple(logits.shape)} have"
            raise ConfigError(f"virtual: shape {tuple(virtual.shape)} is not allowed; {fix}")
        teacher = logits if reference is None else reference
        loss = soft_loss(teacher, virtual, detach) if label == "soft" else hard_loss(virtual, labels)
        terms["virtual"] = eta * loss
    return terms
