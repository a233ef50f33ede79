"""k-mixup (Greenewald et al., 2021): mix samples that optimal transport matches within blocks of k.

A batch is cut into blocks of k rows, and so is the batch in another order. The rows of a block and those of the other block in its
place are two uniform measures on k points; the optimal transport between them is a permutation, and mixing matched rows is the
displacement interpolation of the two. One batched matrix product on the device compares the rows of all blocks; SciPy
solves the assignments on the host, so a GPU waits for its host once a step.
"""

import math
from typing import ClassVar

import numpy as np
import torch
from scipy.special import betainc
from torch import Tensor, nn

from sba.core.divergence import full_precision
from sba.core.errors import ConfigError
from sba.core.hyper import configuration, hyper, shared
from sba.core.method import Method, check_layers
from sba.core.ranks import total
from sba.core.rng import Step
from sba.core.staged import Staged
from sba.methods.checks import check_range
from sba.methods.mixup import MIXED_LOSS, Mixup, beta, draw_mixture, mixed_terms

LARGEST = 100.0
"""Bound of α_k: that of the authors' code."""


def assign(mismatch: Tensor) -> Tensor:
    """Return the permutations whose sums are least, column j for each row i: from shape (blocks, k, k) to integers (blocks, k).

    Entries that are not finite count as 0: a network that has diverged should show in its loss.
    """
    from scipy.optimize import linear_sum_assignment

    host = mismatch.detach().cpu().numpy()
    finite = np.where(np.isfinite(host), host, 0)
    columns = np.stack([linear_sum_assignment(block)[1] for block in finite])
    return torch.from_numpy(columns).to(mismatch.device)


@torch.no_grad()
def pairs(x: Tensor, order: Tensor, k: int) -> Tensor:
    """Match each row with a partner: least sum of squared Euclidean distances within blocks of k.

    Rows ik … (i+1)k − 1 are matched with the rows ``order[ik]`` … ``order[(i+1)k − 1]``, and no others. If k does not divide the
    batch, the last block is smaller. Distances are squared, as the Wasserstein-2 distance of the paper asks; the authors' code
    takes plain ones. Their code also solves one problem of size B × B with the constant 1000 off the blocks, which pairs rows
    across blocks if distances are larger than that.

    A row may be its own partner if ``order`` leaves it in its block, as in the authors' code. With a random order that can
    happen to a share k/B of the rows, and with k = B it happens to all: then nothing is mixed. If B ≥ 2k, the order
    ``arange(B).roll(k)`` leaves no row in its block; on a batch that is shuffled already, blocks matched so are independent.

    Images or activations x have shape (B, …), the permutation ``order`` (B,), on the device of x; so has the permutation that is
    returned, for :func:`sba.methods.mixup.mix`. No gradient flows. k = 1 is ordinary mixup, whose partners are ``order``; below it
    is a :class:`ConfigError`.
    """
    if k < 1:
        raise ConfigError(f"k: blocks need at least 1 row, not {k}; give 1 for ordinary mixup")
    if k == 1:
        return order
    points = full_precision(x.flatten(1))
    whole = len(x) // k * k
    partners = []
    for rows, size in ((slice(0, whole), k), (slice(whole, len(x)), len(x) - whole)):
        if rows.start < rows.stop:
            targets = points.index_select(0, order[rows])
            # rounding is least then, and a shift of one side by a constant adds the same to every assignment
            targets -= targets.mean(0)
            left, right = (side.unflatten(0, (-1, size)) for side in (points[rows], targets))
            # half the squared distance is −x_iᵀy_j and two norms, whose sum is that of every assignment, too
            with torch.autocast(x.device.type, enabled=False):
                columns = assign(torch.bmm(left, right.mT).neg_())
            partners.append(order[rows].unflatten(0, (-1, size)).gather(1, columns).flatten())
    return torch.cat(partners)


@torch.no_grad()
def shrinkage(x: Tensor, order: Tensor, partners: Tensor) -> float:
    """Return how much closer matched rows of x, of shape (B, …), are than unmatched: the ratio of their mean squared distances.

    ``partners`` is what :func:`pairs` made of ``order``, itself one of the candidates: the ratio is in [0, 1] up to rounding, and 1
    if all distances are 0. The rows of all ranks count, so that a λ that depends on it is equal on all.
    """
    points = full_precision(x.flatten(1))
    sums = torch.stack([(points - points[p]).square().sum() for p in (order, partners)]).cpu()
    plain, matched = total(sums)
    return (matched / plain).item() if plain > 0 else 1.0


def mean_squared_step(alpha: float) -> float:
    """Return E min(λ, 1 − λ)² for λ ~ Beta(α, α): the mean squared share of the way from the nearer end.

    It grows with α from 0 to ¼, and is 1/12 at α = 1. The distance is counted from the nearer of the two mixed points, as the
    authors' code does; counted from one and the same end it would shrink as α grows.
    """
    check_range("alpha (α)", alpha, 0, math.inf)
    # 2 ∫ λ² over [0, ½] against the density: λ² turns Beta(α, α) into Beta(α + 2, α), with E λ² = (α + 1) / (2 (2α + 1)) in front.
    return float((alpha + 1) / (2 * alpha + 1) * betainc(alpha + 2, alpha, 0.5))


def alpha_for(alpha: float, shrinkage: float) -> float:
    """Return α_k, for which k-mixup moves points as far as mixup does with α ≥ 0, in the mean square.

    Matched partners are closer, by the ratio that :func:`shrinkage` returns, so the same λ moves less. α_k solves
    E_{α_k} min(λ, 1 − λ)² · shrinkage = E_α min(λ, 1 − λ)². The abstract of the paper does not give this correction; it is derived
    from the comment in the authors' code, "squared match distances correspond to k = 1". That code searches for the square root of
    the ratio instead, and trains without the result.

    α_k is α itself if the shrinkage is 1 or more, and :data:`LARGEST` if no α_k below it moves points far enough: the left side is
    below ¼ for all α_k, so from α = 1 a shrinkage below ⅓ cannot be made up for.
    """
    from scipy.optimize import brentq

    check_range("alpha (α)", alpha, 0, math.inf)
    if alpha == 0 or shrinkage >= 1 or alpha >= LARGEST:
        return alpha
    if shrinkage * mean_squared_step(LARGEST) <= mean_squared_step(alpha):
        return LARGEST
    return float(brentq(lambda a: shrinkage * mean_squared_step(a) - mean_squared_step(alpha), alpha, LARGEST))


@configuration
class KMixup(Method):
    """Match two orders of a batch in blocks of k by least squared distance, then mix as mixup does; k = 1 is mixup."""

    name: ClassVar[str] = "k-mixup"
    title: ClassVar[str] = "k-mixup"
    colour: ClassVar[str] = "#E69F00"
    marker: ClassVar[str] = "<"
    formula: ClassVar[str] = (
        MIXED_LOSS
        + r",\quad \pi|_{B_j} = \arg\min_{\pi \colon B_j \to B'_j} "
        + r"\sum_{i \in B_j} \lVert \mathbf h_i - \mathbf h_{\pi(i)} \rVert^2"
    )
    cited: ClassVar[tuple[str, ...]] = ("greenewald2021kmixup",)

    k: int = hyper(16, "samples in a block that is matched", symbol="k", source="example of the authors' code", ge=1)
    alpha: float = hyper(
        10.0, "λ ~ Beta(α, α); 0 for λ = 1, plain training", symbol="α", source="example of the authors' code", ge=0
    )
    match_mixup: bool = hyper(
        False,
        "raise α, to 100 at most, so that points move as far as mixup's do with the given α; where 100 is not enough they do not",
        source="in the authors' code, unused there",
    )
    layers: tuple[str, ...] = shared(Mixup, "layers")

    def check(self, network: Staged) -> None:
        check_layers(self.layers, network, mixing=True)

    def check_batch(self, rows: int, views: int) -> None:
        if self.k == 1 or not self.alpha:
            return
        if rows < 2 * self.k:
            raise ConfigError(
                f"k: {self.k} leaves a batch of {rows} no two blocks to match; give at most {max(1, rows // 2)}"
            )
        if views > 1:
            # the nearest partner of a view is another view of the same image, and then nothing is mixed
            raise ConfigError(f"views: {views} in one pass would be matched with each other by k-mixup; give chunked")

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        return mixed_terms(network, x, y, now, self.layers, lambda h: self.matching(h, now))

    def matching(self, h: Tensor, now: Step) -> tuple[Tensor, float]:
        """Match the rows of h; return their partners and λ, one number for all ranks."""
        if self.k == 1 or not self.alpha:
            return draw_mixture(h, now, self.alpha)
        self.check_batch(len(h), 1)
        # no block meets itself; batches are shuffled already, so blocks matched with the next ones are independent
        order = torch.arange(len(h), device=h.device).roll(self.k)
        partners, alpha = pairs(h, order, self.k), self.alpha
        if self.match_mixup:
            alpha = alpha_for(alpha, shrinkage(h, order, partners))
        return partners, beta(now.uniform("weight"), alpha)
