"""Implicit semantic data augmentation, ISDA (Wang et al., 2019): the expected loss over features that vary as their class does.

ISDA trains on features ã ~ N(a, λ Σ_y) around a, where Σ_y is the covariance of the features of class y, without drawing any. The
expected cross-entropy is at most the cross-entropy of the logits

    z_c + (λ/2) (w_c − w_y)ᵀ Σ_y (w_c − w_y),

by Jensen's inequality on the logarithm and the moments of e^{(w_c − w_y)ᵀã}. The second summand depends on a sample only through
its label: it is an entry of one table of C×C numbers.
"""

import math
import warnings
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sba.core.divergence import check_labels, full_precision, sba_objective
from sba.core.errors import ConfigError
from sba.core.hyper import check_choice, configuration, hyper
from sba.core.method import Method
from sba.core.ranks import total
from sba.core.rng import Step
from sba.core.staged import Staged
from sba.methods.checks import check_linear_end, check_range

Form = Literal["full", "diagonal"]
LIMIT = 2**30
"""Most bytes of the class covariances."""


class Moments(NamedTuple):
    """How many samples of each class were seen, their mean, and their covariance (divided by n, not n − 1)."""

    #: n, int64 of shape (C,)
    count: Tensor  # type: ignore[assignment]
    mean: Tensor  #: shape (C, Q); 0 if n = 0
    covariance: Tensor  #: shape (C, Q, Q), or only its diagonal, of shape (C, Q); 0 if n ≤ 1


@torch.no_grad()
def moments(h: Tensor, labels: Tensor, classes: int, form: Form = "full") -> Moments:
    """Return the moments of one batch, that of all ranks together, in float32 at least, without a tensor of shape (B, C, Q).

    Features have shape (B, …), flattened to Q, labels (B,). Deviations are taken from the mean before they are multiplied, so that
    a mean far from 0 costs no digits.
    """
    with torch.autocast(h.device.type, enabled=False):
        flat = full_precision(h).flatten(1)
        one_hot = flat.new_zeros(len(flat), classes).scatter_(1, labels[:, None], 1)
        count = total(one_hot.sum(0))
        divisor = count.clamp_min(1)[:, None]
        mean = total(one_hot.T @ flat) / divisor
        centred = flat - mean[labels]
        if form == "diagonal":
            return Moments(count.long(), mean, total(one_hot.T @ centred.square()) / divisor)
        # on an accelerator the host would have to wait for the sizes of the groups
        scatter = _grouped_scatter(centred, labels, classes) if h.device.type == "cpu" else _scatter(centred, one_hot)
        return Moments(count.long(), mean, total(scatter) / divisor[..., None])


def _grouped_scatter(centred: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Σ_i d_i d_iᵀ of each class, of shape (C, Q, Q): B·Q² products, one matrix product a class."""
    sizes = torch.bincount(labels, minlength=classes).tolist()
    groups = centred[labels.argsort(stable=True)].split(sizes)
    out = centred.new_empty(classes, centred.shape[1], centred.shape[1])
    for c, group in enumerate(groups):
        out[c] = group.T @ group
    return out


def _scatter(centred: Tensor, one_hot: Tensor) -> Tensor:
    """The same from one-hot labels of shape (B, C): B·C·Q² products, and no size that depends on the labels."""
    batch, width = centred.shape
    # what a block of classes needs is no larger than the result
    blocks = one_hot.T.split(max(1, one_hot.shape[1] * width // max(1, batch)))
    products = [(block[:, None] * centred.T).flatten(0, 1) @ centred for block in blocks]
    return torch.cat(products).unflatten(0, (-1, width))


@torch.no_grad()
def merge(a: Moments, b: Moments) -> Moments:
    """Return the moments of two sets of samples taken together, exactly (Chan et al., 1979).

    With w = n_b/(n_a + n_b) the covariance is (1 − w) Σ_a + w Σ_b + w (1 − w) (μ_b − μ_a)(μ_b − μ_a)ᵀ. A class that neither has
    seen stays at 0. Up to rounding the order of several merges does not matter.
    """
    count = a.count + b.count
    share = (b.count.to(a.mean.dtype) / count.clamp_min(1))[:, None]
    step = b.mean - a.mean
    left, right, weight = share * (1 - share) * step, step, share
    if a.covariance.ndim == 3:
        left, right, weight = left[:, :, None], right[:, None], share[..., None]
    return Moments(count, a.mean + share * step, a.covariance.lerp(b.covariance, weight).addcmul_(left, right))


class ClassCovariances(nn.Module):
    """The mean and covariance of each class over all batches since the start: never decayed, never reset.

    The buffers are those of :class:`Moments`; the form "diagonal" keeps the variances alone, as the authors do on ImageNet.
    The full form needs C·Q² numbers, and for its table C²·Q: if the larger of the two exceeds :data:`LIMIT`, a
    :class:`ConfigError` says so, and names the ``layer`` whose features they are.
    """

    count: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(self, classes: int, features: int, form: Form = "full", layer: str = ""):
        super().__init__()
        check_choice("form", form, Form)
        needed = 4 * classes * features * max(classes, features)
        if form == "full" and needed > LIMIT:
            room = LIMIT // 4 // classes
            raise ConfigError(
                f"form: 'full' needs {needed / 2**30:.1f} GiB for {classes} classes and {features} features of "
                f"{layer or 'a layer'}; give form 'diagonal', or a layer of at most {min(math.isqrt(room), room // classes)} "
                "features"
            )
        self.form = form
        shape = (classes, features, features) if form == "full" else (classes, features)
        self.register_buffer("count", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(classes, features))
        self.register_buffer("covariance", torch.zeros(shape))

    def update(self, h: Tensor, labels: Tensor) -> None:
        """Take a batch in, without a gradient; a class that is absent from it keeps its moments. Arguments as for :func:`moments`.

        The authors do so between the forward pass and the loss, which then uses the new covariances.

        A batch whose moments are not finite would stay in them for ever. It is left out, with a warning on a CPU; an accelerator
        does not tell its host, which would have to wait.
        """
        batch = moments(h.to(self.mean.dtype), labels, len(self.count), self.form)
        good = batch.mean.isfinite().all() & batch.covariance.isfinite().all()
        if h.device.type == "cpu" and not good:
            warnings.warn("ISDA left out a batch: its features are not finite, or too large to square", stacklevel=2)
            return
        for name, value in merge(Moments(self.count, self.mean, self.covariance), batch)._asdict().items():
            old = getattr(self, name)
            old.copy_(value if h.device.type == "cpu" else torch.where(good, value, old))


class _QuadraticTable(torch.autograd.Function):
    """T[y, c] = dᵀ Σ_y d with d = w_c − w_y. The derivative in d is 2 Σ_y d, a by-product of the table itself."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, covariance: Tensor) -> Tensor:
        differences = weight - weight[:, None]
        products = differences @ covariance
        ctx.save_for_backward(products)
        return torch.linalg.vecdot(products, differences)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (products,) = ctx.saved_tensors
        moved = 2 * gradient[..., None] * products
        return moved.sum(0) - moved.sum(1), None


def quadratic_table(weight: Tensor, covariance: Tensor) -> Tensor:
    """Return T[y, c] = (w_c − w_y)ᵀ Σ_y (w_c − w_y) for all pairs of classes, in float32 at least.

    Gradients flow into ``weight``, once for full covariances, and never into ``covariance``. The full form takes a product of
    C·C·Q² and a tensor of C·C·Q, whatever the size of the batch. The diagonal form takes two products of C·C·Q and no tensor
    larger than C·C or C·Q; rounding may leave entries below 0 in their last digits.

    W of the last linear layer has shape (C, Q), Σ is symmetric, of shape (C, Q, Q), or its diagonal, of shape (C, Q). T has shape
    (C, C), label first; its diagonal is 0, exactly.
    """
    with torch.autocast(weight.device.type, enabled=False):
        dtype = torch.promote_types(full_precision(weight).dtype, covariance.dtype)
        weight, covariance = weight.to(dtype), covariance.detach().to(dtype)
        if covariance.ndim == 3:
            return _QuadraticTable.apply(weight, covariance)
        # only differences of rows count, in the derivative too, and smaller numbers leave smaller rounding errors
        weight = weight - weight.detach().mean(0)
        table = covariance @ weight.square().T - 2 * (covariance * weight) @ weight.T
        return table - table.diagonal()[:, None]


def isda_logits(logits: Tensor, labels: Tensor, table: Tensor, strength: float) -> Tensor:
    """Return z_c + (λ/2) T[y, c]: their cross-entropy is at least the expected one over ã ~ N(a, λ Σ_y).

    Logits z have shape (B, C), labels y (B,), and T is that of :func:`quadratic_table`; λ ≥ 0. The result has shape (B, C), in
    float32 at least; with λ = 0 it is ``logits`` themselves. The logit of the label is always that of ``logits``.
    """
    check_range("strength (λ)", strength, 0, math.inf)
    if not strength:
        return logits
    logits = full_precision(logits)
    return logits + (strength / 2) * table[labels].to(logits.dtype)


@configuration
class ISDA(Method):
    """Replace the cross-entropy by a bound of its expectation over features that vary as their class does."""

    name: ClassVar[str] = "isda"
    title: ClassVar[str] = "ISDA"
    colour: ClassVar[str] = "#CC79A7"
    marker: ClassVar[str] = ">"
    bench_limit: ClassVar[float | None] = 1.05
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, \operatorname{softmax}(\tilde{\mathbf z}_i)),\quad "
        r"\tilde z_i^c = z_i^c + \tfrac{\lambda_0 t}{2T} "
        r"(\mathbf w_c - \mathbf w_{y_i})^{\mathsf T} \mathbf C_{y_i} (\mathbf w_c - \mathbf w_{y_i})"
    )
    cited: ClassVar[tuple[str, ...]] = ("wang2019isda", "wang2022isda")
    soft: ClassVar[bool] = False  # each row is counted in the covariance of its class

    lambda0: float = hyper(
        0.5, "λ₀ of the strength λ₀·t/T", symbol="λ₀", source="Wang et al., CIFAR; 7.5 on ImageNet", ge=0
    )
    form: Form = hyper(
        "full",
        "covariances of each class, or its variances alone",
        source="Wang et al.: full on CIFAR, diagonal on ImageNet",
    )

    def memory(self, network: Staged) -> nn.Module | None:
        last = network.last_linear
        return ClassCovariances(last.out_features, last.in_features, self.form, layer=network.stages[-2])

    def check(self, network: Staged) -> None:
        check_linear_end(self.name, network)

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        h = network(x, until=network.stages[-2])
        logits = network(h, after=network.stages[-2])
        return sba_objective(self.widened(network, h, logits, y, now, memory), y, None, 0.0)

    def widened(
        self, network: Staged, h: Tensor, logits: Tensor, y: Tensor, now: Step, memory: nn.Module | None
    ) -> Tensor:
        """Take a batch into the covariances, and return logits whose cross-entropy is the bound, of shape (B, C).

        Arguments as for :meth:`sba.core.method.Method.terms`; besides, ``h`` of shape (B, Q) enters the last stage, which puts out
        ``logits``. The covariances mean little at the start, hence the strength λ = λ₀ t/T. The authors' code counts t in whole
        epochs from 0, so that the first is plain cross-entropy.
        """
        if not self.lambda0:
            return logits
        check_labels(y, logits, self.soft)
        if not isinstance(memory, ClassCovariances):
            raise ConfigError(f"memory: {memory!r} holds no covariances; give method.memory(network)")
        if now.progress is None:
            raise ConfigError(
                "progress: None would leave ISDA plain cross-entropy for ever, since its strength is λ₀·t/T; give "
                "Step(…, progress=step / total_steps), or let sba.attach count"
            )
        check_range("progress", now.progress, 0, 1)
        memory.update(h, y)
        if not now.progress:
            return logits
        table = quadratic_table(network.last_linear.weight, memory.covariance)
        return isda_logits(logits, y, table, self.lambda0 * now.progress)
