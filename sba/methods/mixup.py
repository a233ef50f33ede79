"""Mixtures of two samples and of their labels: mixup (Zhang et al., 2018), manifold mixup (Verma et al., 2019), CutMix.

The functions are pure: the weight λ, the partners and the box are arguments. Row i is mixed with row ``partners[i]`` and keeps the
share λ. The methods draw one λ for a whole batch, as in the authors' code of all three; interpolation and losses take one for each
row, too. At λ = 1 every function returns what plain training computes, bit for bit.

Logits of the mixed samples have shape (B, C) and are compared in float32 at least. Labels y_a have the share λ, ``partner_labels``
y_b the rest: classes of shape (B,), or probabilities of shape (B, C). λ is in [0, 1], a number, or one for each row, of shape (B,).
"""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor, nn

from sba.core.divergence import check_labels, cross_entropy, full_precision
from sba.core.hyper import configuration, hyper
from sba.core.method import Method, check_layers, sample_layer
from sba.core.rng import Step
from sba.core.staged import Staged
from sba.methods.checks import check_range, check_share

Box = tuple[int, int, int, int]


def beta(u: float, alpha: float) -> float:
    """Turn a draw from U[0, 1) into λ ~ Beta(α, α) by the inverse distribution function (Zhang et al., 2018, mixup).

    α = 0 gives λ = 1, plain training, as in the authors' code. λ(1 − u) is 1 − λ(u). λ is flushed to 0 when 1 − λ rounds to 1: for
    small α the share of one sample falls below any float, and then both sides should know that nothing is mixed.
    """
    check_range("alpha (α)", alpha, 0, math.inf)
    check_range("u", u, 0, 1)
    if alpha == 0:
        return 1.0
    if u > 0.5:
        return 1.0 - beta(1.0 - u, alpha)
    lam = float(betaincinv(alpha, alpha, u))
    return 0.0 if 1.0 - lam == 1.0 else lam


def mix(x: Tensor, partners: Tensor, lam: float | Tensor) -> Tensor:
    """Interpolate rows: λ x_i + (1 − λ) x_{partners[i]} (Zhang et al., 2018; Verma et al., 2019).

    Images or activations x have shape (B, …), partners are indices of shape (B,); type and memory format are kept. If λ is the
    number 1, ``x`` itself is returned.
    """
    check_share(lam, len(x))
    if isinstance(lam, Tensor):
        return torch.lerp(x[partners], x, lam.to(x).unflatten(0, (-1, *(1 for _ in x.shape[1:]))))
    return x if lam == 1 else torch.lerp(x[partners], x, lam)


def mixed_labels(logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor) -> Tensor:
    """Return λ 1_{y_a} + (1 − λ) 1_{y_b}, of the shape and type of the logits."""
    both = (labels, partner_labels)
    own, other = ((t if t.ndim == 2 else F.one_hot(t, logits.shape[1])).to(logits) for t in both)
    lam = lam.to(logits)[:, None] if isinstance(lam, Tensor) else lam
    return lam * own + (1 - lam) * other


def mixed_cross_entropy(logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor) -> Tensor:
    """λ CE(y_a) + (1 − λ) CE(y_b) in nats, averaged over the batch: the cross-entropy against the mixed label. The number λ = 1
    gives the plain one, by the same call."""
    check_mixture(logits, labels, partner_labels, lam)
    logits = full_precision(logits)
    if not isinstance(lam, Tensor) and lam == 1:
        return cross_entropy(logits, labels)
    if isinstance(lam, Tensor) or labels.ndim == 2 or partner_labels.ndim == 2:
        return cross_entropy(logits, mixed_labels(logits, labels, partner_labels, lam))
    log_y = logits.log_softmax(-1)
    return lam * F.nll_loss(log_y, labels) + (1 - lam) * F.nll_loss(log_y, partner_labels)


def check_mixture(
    logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor, soft: bool = True
) -> None:
    """Raise :class:`sba.core.errors.ConfigError` for a share, logits or labels that are none."""
    check_share(lam, len(logits))
    check_labels(labels, logits, soft)
    check_labels(partner_labels, logits, soft)


def mixed_binary_cross_entropy(logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor) -> Tensor:
    """Return the binary cross-entropy between softmax probabilities and mixed labels: manifold mixup as its authors train it.

    Their code calls ``BCELoss`` on softmax outputs, for its baseline too; the paper (Verma et al., 2019) does not explain it. Each
    class counts as a yes-or-no question although the probabilities are tied by the softmax. The mean is over B·C numbers, so the
    loss is about C times smaller than a cross-entropy, and a learning rate for one does not suit the other. The scalar is in nats.
    ``BCELoss`` cuts each logarithm off at −100 and has rounded 1 − p to 0 long before; this does neither.
    """
    check_mixture(logits, labels, partner_labels, lam)
    logits = full_precision(logits)
    log_p = logits.log_softmax(-1)
    # 1 − p is accurate as it stands if p ≤ ½, and only the largest p can be above: there it is the sum of the others.
    top = logits.argmax(-1, keepdim=True)
    log_others = log_p.scatter(-1, top, -math.inf).logsumexp(-1, keepdim=True)
    log_not_p = log_p.exp().scatter(-1, top, 0.0).neg().log1p().scatter(-1, top, log_others)
    log_odds = log_p - log_not_p
    if isinstance(lam, Tensor) or labels.ndim == 2 or partner_labels.ndim == 2:
        targets = mixed_labels(logits, labels, partner_labels, lam)
        pulled = (targets * log_odds).masked_fill(targets == 0, 0.0)  # the odds of a masked class are infinite
    else:
        pulled = lam * log_odds.gather(-1, labels[:, None])
        if lam != 1:
            pulled = pulled + (1 - lam) * log_odds.gather(-1, partner_labels[:, None])
    return -(log_not_p.sum() + pulled.sum()) / log_p.numel()


def cutmix_box(lam: float, height: int, width: int, row: int, column: int) -> Box:
    """Place the box of CutMix (Yun et al., 2019): sides √(1 − λ) of the image's in pixels, cut off at the borders.

    λ is the one before the correction that :func:`cutmix` makes; the box's centre is a row in [0, height), a column in [0, width).
    Return its first and last row, first and last column; the last are exclusive.
    """
    check_range("lam (λ)", lam, 0, 1)
    share = math.sqrt(1 - lam)
    half_height, half_width = int(height * share) // 2, int(width * share) // 2
    return (
        max(row - half_height, 0),
        min(row + half_height, height),
        max(column - half_width, 0),
        min(column + half_width, width),
    )


def cutmix(x: Tensor, partners: Tensor, box: Box) -> tuple[Tensor, float]:
    """Put the partners' pixels into a box of :func:`cutmix_box` in images of shape (B, C, H, W) (Yun et al., 2019).

    Return the images, ``x`` itself if the box is empty, and λ as it really is: the share of pixels outside the box. It differs from
    the λ that was drawn by rounding and by what the borders cut off.
    """
    top, bottom, left, right = box
    area = (bottom - top) * (right - left)
    if area == 0:
        return x, 1.0
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[:, :, top:bottom, left:right][partners]
    return mixed, 1 - area / (x.shape[-2] * x.shape[-1])


def draw_mixture(h: Tensor, now: Step, alpha: float) -> tuple[Tensor, float]:
    """Draw another order of the rows of h, of shape (B,), and λ ~ Beta(α, α) for all of them."""
    order = torch.randperm(len(h), generator=now.generator("partners", h.device), device=h.device)
    return order, beta(now.uniform("weight"), alpha)


def mixed_terms(
    network: Staged,
    x: Tensor,
    y: Tensor,
    now: Step,
    layers: tuple[str, ...],
    match: Callable[[Tensor], tuple[Tensor, float]],
    form: Callable[..., Tensor] = mixed_cross_entropy,
) -> dict[str, Tensor]:
    """Mix a batch at one of the layers with the partners and λ that ``match`` gives its activations; return the loss as
    :meth:`sba.core.method.Method.terms` does."""
    layer = sample_layer(layers, now)
    h = network(x, until=layer)
    partners, lam = match(h)
    logits = network(mix(h, partners, lam), after=layer)
    check_labels(y, logits)
    return {"cross_entropy": form(logits, y, y[partners], lam)}


MIXED_LOSS = (
    r"\frac 1 B \sum_i \bigl[\lambda \operatorname{CE}(\mathbf 1_{y_i}, Y_i) "
    r"+ (1 - \lambda) \operatorname{CE}(\mathbf 1_{y_{\pi(i)}}, Y_i)\bigr]"
)
"""The loss of mixed samples in TeX, of all methods that mix pairs with the labels."""


@configuration
class Mixup(Method):
    """Mix each batch with itself in another order at a layer, by default the input; one weight λ for the batch."""

    name: ClassVar[str] = "mixup"
    title: ClassVar[str] = "mixup"
    colour: ClassVar[str] = "#009E73"
    marker: ClassVar[str] = "^"
    bench_limit: ClassVar[float | None] = 1.05
    formula: ClassVar[str] = (
        MIXED_LOSS + r",\quad \mathbf h_i \leftarrow \lambda \mathbf h_i + (1 - \lambda) \mathbf h_{\pi(i)}"
    )
    cited: ClassVar[tuple[str, ...]] = ("zhang2018mixup",)

    alpha: float = hyper(
        1.0,
        "λ ~ Beta(α, α); 0 for λ = 1, plain training",
        symbol="α",
        source="Zhang et al., CIFAR; the authors advise 0.2 to 0.4 for small networks",
        ge=0,
    )
    layers: tuple[str, ...] = hyper(
        ("input",), "layers, one of which is mixed at each step", symbol="S", source="input"
    )

    def check(self, network: Staged) -> None:
        check_layers(self.layers, network, mixing=True)

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        return mixed_terms(network, x, y, now, self.layers, lambda h: draw_mixture(h, now, self.alpha))


@configuration
class ManifoldMixup(Method):
    """Mix the activations of a batch at a random layer, and the labels with them."""

    name: ClassVar[str] = "manifold-mixup"
    title: ClassVar[str] = "manifold mixup"
    colour: ClassVar[str] = "#56B4E9"
    marker: ClassVar[str] = "v"
    formula: ClassVar[str] = Mixup.formula
    cited: ClassVar[tuple[str, ...]] = ("verma2019manifold",)

    alpha: float = hyper(
        2.0, "λ ~ Beta(α, α); 0 for λ = 1, plain training", symbol="α", source="Verma et al., CIFAR", ge=0
    )
    layers: tuple[str, ...] = hyper(
        (),
        "layers, one of which is mixed at each step; empty for the input and the ends of the first two resolutions",
        symbol="S",
        source="Verma et al.: the input and the first two groups of a ResNet",
    )
    loss: Literal["ce", "bce"] = hyper(
        "ce", "cross-entropy, or binary cross-entropy on softmax outputs as in the authors' code", source="ours"
    )

    def eligible(self, network: Staged) -> tuple[str, ...]:
        """Return the layers one of which is drawn at each iteration."""
        return self.layers or ("input", *resolution_ends(network)[:2])

    def check(self, network: Staged) -> None:
        check_layers(self.eligible(network), network, mixing=True)

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        form = mixed_cross_entropy if self.loss == "ce" else mixed_binary_cross_entropy
        return mixed_terms(network, x, y, now, self.eligible(network), lambda h: draw_mixture(h, now, self.alpha), form)


def resolution_ends(network: Staged) -> list[str]:
    """List the layers after which the height of the feature maps changes, or their end: the groups of a ResNet."""
    shapes = [network.shape(stage) for stage in network.stages]
    heights = [shape[1] if len(shape) == 3 else 0 for shape in shapes]
    return [
        stage for stage, own, after in zip(network.stages, heights, heights[1:], strict=False) if own and own != after
    ]
