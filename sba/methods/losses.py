"""Losses as modules, for people with loops and heads of their own: what they remember is in their state dict.

For whole models there is :func:`sba.attach`, which finds the features by itself and takes every method.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sba.core.divergence import check_labels, cross_entropy
from sba.core.errors import ConfigError
from sba.core.method import Method, Stepping
from sba.core.rng import Step
from sba.core.staged import Staged
from sba.core.updates import total
from sba.methods.decoupled import DecoupledMixup, Mode
from sba.methods.implicit import ImplicitSBA
from sba.methods.isda import ISDA, Form


class HeadLoss(Stepping):
    """A method that works on the features and the linear layer that reads them.

    Give the layer itself: gradients flow into its weights through the loss, too. In evaluation mode a call is plain cross-entropy,
    and nothing is remembered. Under DistributedDataParallel wrap one module that holds the model and calls the loss.

    Args:
        method: whose loss.
        classes, features: C and Q.
        seed: of the method's random streams.

    Attributes:
        terms: the weighted terms of the last loss, detached.
        step: calls in training so far.
    """

    def __init__(self, method: Method, classes: int, features: int, seed: int = 0):
        super().__init__()
        if classes < 2 or features < 1:
            raise ConfigError(f"classes, features: {classes}, {features} are not allowed; give at least 2 and 1")
        self.method, self.classes, self.features, self.seed = method, classes, features, seed
        self.step, self.terms = 0, dict[str, Tensor]()
        self.memory = method.memory(chain(nn.Linear(features, classes, device="meta")))

    def forward(self, features: Tensor, head: nn.Linear, labels: Tensor, progress: float | None = None) -> Tensor:
        """Return the loss of a batch, a scalar, and take the batch into what the method remembers.

        Args:
            features: of shape (B, Q).
            head: the linear layer that reads them.
            labels: classes of shape (B,), or probabilities of shape (B, C) if the method takes them.
            progress: share t/T of the training that is done, in [0, 1]; ISDA's strength grows with it.

        Raises:
            ConfigError: an argument does not fit.
        """
        if not isinstance(head, nn.Linear) or tuple(head.weight.shape) != (self.classes, self.features):
            raise ConfigError(
                f"head: {head!r} is not allowed; give the nn.Linear from {self.features} features to {self.classes} classes"
            )
        if features.ndim != 2 or features.shape[1] != self.features:
            raise ConfigError(
                f"features: shape {tuple(features.shape)} is not allowed; give (B, {self.features}), as the head reads them"
            )
        check_labels(labels, torch.empty(len(features), self.classes, device="meta"), self.method.soft)
        if not self.training:
            return cross_entropy(head(features), labels)
        now = Step(self.seed, self.step, progress=progress)
        terms = self.method.terms(chain(head), features, labels, now, self.memory)
        self.step += 1
        self.terms = {name: term.detach() for name, term in terms.items()}
        return total(terms)


def chain(head: nn.Linear) -> Staged:
    """Return the head as the network that methods ask for: features, and the layer that puts out the logits."""
    return Staged([("features", nn.Identity()), ("head", head)], (head.in_features,))


class ISDALoss(HeadLoss):
    """ISDA's bound of the expected cross-entropy; the covariances of the classes are its buffers.

    Args:
        classes, features: C and Q.
        lambda0: λ₀ of the strength λ₀·t/T.
        form: "full" covariances, or "diagonal".

    >>> head, loss = nn.Linear(8, 3), ISDALoss(classes=3, features=8)
    >>> loss(torch.randn(16, 8), head, torch.arange(16) % 3, progress=0.5).shape
    torch.Size([])
    """

    def __init__(self, classes: int, features: int, lambda0: float = 0.5, form: Form = "full"):
        super().__init__(ISDA(lambda0=lambda0, form=form), classes, features)


class ClosedFormSBA(HeadLoss):
    """Cross-entropy and, when λ(t) = 1, SBA's expected divergence over the vicinity of the features: M → ∞.

    Args:
        classes, features: C and Q.
        seed: of λ(t), which is drawn anew at each call.
        settings: hyper-parameters of :class:`sba.methods.implicit.ImplicitSBA` by name, such as η and σ; ``omega=0`` for
            λ(t) = 1 at every call.

    >>> head, loss = nn.Linear(8, 3), ClosedFormSBA(classes=3, features=8, eta=0.1, omega=0.0)
    >>> sorted(loss(torch.randn(16, 8), head, torch.arange(16) % 3).backward() or loss.terms)
    ['cross_entropy', 'virtual']
    """

    def __init__(self, classes: int, features: int, seed: int = 0, **settings: Any):
        if loop := sorted({"update", "schedule"} & set(settings)):
            raise ConfigError(f"{loop[0]}: it belongs to the loop, not to its loss; leave it out")
        super().__init__(ImplicitSBA(**settings), classes, features, seed)


class DecoupledLoss(nn.Module):
    """The loss of mixed samples with the decoupled term, whoever mixed them: mixup, CutMix, or a mixer of one's own.

    Args:
        eta: weight η of the decoupled term.
        mode: classes that take part: "both", "more" for shares of at least ½, "less" for at most ½.
        power: exponent of a class's share in its weight.
        loss: "ce", or "bce" for the binary form, which takes the place of the whole and has neither η nor mode.
    """

    def __init__(self, eta: float = 0.1, mode: Mode = "both", power: float = 1.0, loss: str = "ce"):
        super().__init__()
        self.method = DecoupledMixup(eta=eta, mode=mode, power=power, loss=loss)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor) -> Tensor:
        """Return the loss of a mixed batch, a scalar.

        Args:
            logits: of the mixed samples, shape (B, C).
            labels: of the samples with share λ, shape (B,).
            partner_labels: of the samples with share 1 − λ, shape (B,).
            lam: λ in [0, 1], or one for each row, of shape (B,).

        Raises:
            ConfigError: an argument does not fit.
        """
        return total(self.method.parts(logits, labels, partner_labels, lam))
