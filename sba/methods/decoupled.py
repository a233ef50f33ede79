"""Decoupled mixup (Liu et al., 2023): any mixup, and a term that tells each mixed class from all but the other.

The forms are those of the authors' code (openmixup: the loss in ``cross_entropy_loss.py``, its weights in ``cls_mixup_head.py``);
the abstract of the paper has no formula. That code matches the weights of the two classes to them by class index: if y_a > y_b in
its first row, they are swapped for the whole batch. It leaves the term out at λ = ½. Here weights are matched row by row.

Logits z of the mixed samples have shape (N, C) and are compared in float32 at least; a are their classes with share λ, b the
partners', of shape (N,). λ is in [0, 1], one number for the whole batch, or one for each row, of shape (N,).
"""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.core.divergence import check_labels, cross_entropy, full_precision
from sba.core.errors import ConfigError
from sba.core.hyper import check_choice, configuration, definitions, hyper, shared
from sba.core.method import Method, check_layers, sample_layer
from sba.core.rng import Step
from sba.core.staged import Staged
from sba.methods.checks import check_range
from sba.methods.mixup import Mixup, check_mixture, cutmix, cutmix_box, draw_mixture, mix, mixed_cross_entropy

Mode = Literal["both", "more", "less"]
"""Classes that take part: both, those with a share of at least ½, or those with at most ½; at λ = ½ all three agree."""
Share = float | Tensor
"""A number for the whole batch, or one for each row."""


def class_weight(share: Share, power: float) -> Share:
    """Return f, the weight of a class with a share of the mixture, λ or 1 − λ: share^power, and 0 for a share of 0.

    A power (``lam_idx`` in the authors' code) of 0 gives the same weight whatever the share, 1 a weight in proportion.
    """
    check_range("power", power, 0, math.inf)
    if isinstance(share, Tensor):
        return (share**power).masked_fill(share <= 0, 0.0)
    check_range("share (λ)", share, 0, 1)
    return share**power if share > 0 else 0.0


def weights(lam: Share, mode: Mode = "both", power: float = 0.0) -> tuple[Share, Share]:
    """Return the weights of the two classes, f(λ) and f(1 − λ) of :func:`class_weight`, or 0 for a class that does not take part.

    They are (0, 0) if λ is 0 or 1: nothing is mixed, and there is nothing to decouple. The authors' code has no term there either.
    """
    check_choice("mode", mode, Mode)
    if not isinstance(lam, Tensor):
        check_range("lam (λ)", lam, 0, 1)
    mixed = (lam > 0) * (lam < 1)
    takes_part = {"both": lambda s: True, "more": lambda s: s >= 0.5, "less": lambda s: s <= 0.5}[mode]
    first, second = (class_weight(s, power) * takes_part(s) * mixed for s in (lam, 1 - lam))
    return first, second


def log_decoupled_softmax(logits: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Return log φ^{i,j} = z_i − log Σ_{c≠j} e^{z_c}, of shape (N,): the log-probability in nats of class i if j is no option.

    Classes i and j have shape (N,). Where they are equal the result is the log-odds of i, not a log-probability.
    """
    rest = logits.scatter(1, other[:, None], -math.inf).logsumexp(1)
    return logits.gather(1, own[:, None])[:, 0] - rest


def decoupled_loss(
    logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: Share, mode: Mode = "both", power: float = 0.0
) -> Tensor:
    """Return −[f(λ) log φ^{a,b} + f(1 − λ) log φ^{b,a}] averaged over all N rows, to be added to mixup's loss.

    It is a scalar ≥ 0 in nats, without the weight η; 0 if λ is 0 or 1, and if C = 2: then no other class is left. Rows with a = b
    contribute 0, and count in N. (a, b, λ) and (b, a, 1 − λ) give the same.
    """
    check_mixture(logits, labels, partner_labels, lam, soft=False)
    logits = full_precision(logits)
    first, second = weights(lam, mode, power)
    loss = logits.new_zeros(len(logits))
    if isinstance(first, Tensor) or first:
        loss = loss - first * log_decoupled_softmax(logits, labels, partner_labels)
    if isinstance(second, Tensor) or second:
        loss = loss - second * log_decoupled_softmax(logits, partner_labels, labels)
    # not torch.where(…, 0.0, …): it sends the number to a GPU and waits
    return loss.masked_fill(labels == partner_labels, 0.0).mean()


def decoupled_binary_cross_entropy(
    logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: Share, power: float = 1.0
) -> Tensor:
    """Return the binary cross-entropy of σ(z) with targets f(λ) for class a and f(1 − λ) for class b, in place of mixup's loss.

    It is a scalar in nats: summed over classes, averaged over rows. Binary questions are decoupled as they stand; what couples the
    two classes is that their targets sum to 1. The authors' code rescales them: with power 1 the targets are mixup's own, with
    power 0 both are 1. Its threshold, from which a weight is 1, and its other scale, "exp", are left out. Rows with a = b have
    target 1: the sample is of that class alone. Their code adds the two targets, and a target above 1 makes the loss unbounded
    below.
    """
    check_mixture(logits, labels, partner_labels, lam, soft=False)
    logits = full_precision(logits)
    same = labels == partner_labels
    targets = torch.zeros_like(logits)
    for classes, share in ((labels, lam), (partner_labels, 1 - lam)):
        weight = class_weight(share, power)
        target = weight.to(logits) if isinstance(weight, Tensor) else logits.new_full(labels.shape, weight)
        target = target.masked_fill(same, 1.0)
        targets.scatter_(1, classes[:, None], target[:, None])
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)


@configuration
class DecoupledMixup(Method):
    """Add η times the decoupled term to the mixed cross-entropy, or take the rescaled binary cross-entropy in its place."""

    name: ClassVar[str] = "decoupled"
    title: ClassVar[str] = "decoupled mixup"
    colour: ClassVar[str] = "#B8A800"  # the yellow of Okabe and Ito, darkened: its lines would vanish on white
    marker: ClassVar[str] = "P"
    bench_limit: ClassVar[float | None] = 1.05
    formula: ClassVar[str] = (
        r"\mathcal L_{\text{mixup}} "
        r"- \frac \eta B \sum_i \bigl[f(\lambda) \log \phi_i^{a, b} + f(1 - \lambda) \log \phi_i^{b, a}\bigr],\quad "
        r"\phi^{a, b} = e^{z^a} \big/ \textstyle\sum_{c \ne b} e^{z^c}"
    )
    cited: ClassVar[tuple[str, ...]] = ("liu2023decoupled",)
    soft: ClassVar[bool] = False  # the term is about a pair of classes

    mixer: Literal["mixup", "cutmix"] = hyper(
        "mixup", "all pixels or features are mixed, or a box of pixels", source="Liu et al."
    )
    alpha: float = hyper(
        1.0, "λ ~ Beta(α, α); 0 for λ = 1, plain training", symbol="α", source="Zhang et al.; Yun et al.", ge=0
    )
    layers: tuple[str, ...] = shared(Mixup, "layers")
    eta: float = hyper(0.1, "weight of the decoupled term", symbol="η", source="openmixup's configurations", ge=0)
    mode: Mode = hyper(
        "both", "classes that take part: both, those with a share of at least ½, or of at most ½", source="openmixup"
    )
    power: float = hyper(1.0, "exponent of a class's share in its weight", source="openmixup: 0, 0.5 or 1", ge=0, le=1)
    loss: Literal["ce", "bce"] = hyper("ce", "softmax form, or binary form with rescaled targets", source="Liu et al.")

    def __post_init__(self) -> None:
        # the binary form takes the place of the loss that η and mode belong to
        for name in ("eta", "mode"):
            if self.loss == "bce" and getattr(self, name) != definitions(DecoupledMixup)[name].default:
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} has no place in loss 'bce', which has one term; leave it out, or give loss ce"
                )

    def check(self, network: Staged) -> None:
        check_layers(self.layers, network, mixing=True)
        if self.mixer == "cutmix" and self.layers != ("input",):
            raise ConfigError(f"layers: {self.layers} cannot be cut as images are; give layers input with mixer cutmix")
        if self.mixer == "cutmix" and network.input_shape and min(network.input_shape[-2:]) < 2:
            height, width = network.input_shape[-2:]
            raise ConfigError(f"mixer: 'cutmix' finds no box in images of {height}×{width} pixels; give mixup")

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        layer = sample_layer(self.layers, now)
        h = network(x, until=layer)
        partners, lam = draw_mixture(h, now, self.alpha)
        if self.mixer == "mixup":
            h = mix(h, partners, lam)
        else:
            height, width = h.shape[-2:]
            box = cutmix_box(lam, height, width, now.index("box row", height), now.index("box column", width))
            h, lam = cutmix(h, partners, box)
        logits = network(h, after=layer)
        check_labels(y, logits, self.soft)
        # α = 0 is plain training; an empty box of CutMix, λ = 1, is not: its loss is of the same kind as its neighbours'
        if not self.alpha:
            return {"cross_entropy": cross_entropy(logits, y)}
        return self.parts(logits, y, y[partners], lam)

    def parts(self, logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: Share) -> dict[str, Tensor]:
        """Compute the terms from the logits of mixed samples; arguments as for :func:`decoupled_loss`."""
        check_mixture(logits, labels, partner_labels, lam, self.soft)
        if self.loss == "bce":
            return {"cross_entropy": decoupled_binary_cross_entropy(logits, labels, partner_labels, lam, self.power)}
        terms = {"cross_entropy": mixed_cross_entropy(logits, labels, partner_labels, lam)}
        if self.eta and (isinstance(lam, Tensor) or 0 < lam < 1):
            terms["decoupled"] = self.eta * decoupled_loss(logits, labels, partner_labels, lam, self.mode, self.power)
        return terms
