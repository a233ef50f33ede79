"""Bamboo (Yang et al., 2019), as the SBA paper describes it in §3.3: hard labels (Eq. 9) for points of a ball around each sample.

The functions return offsets; added to activations of shape (B, Q), those of shape (M, B, Q) are M virtual points of each.
"""

import math
from collections.abc import Hashable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sba.core.divergence import sba_objective
from sba.core.errors import ConfigError
from sba.core.feature_std import batch_variance
from sba.core.hyper import configuration, hyper, shared
from sba.core.method import Method, check_layers, sample_layer
from sba.core.rng import Step
from sba.core.sba import SBA
from sba.core.staged import Staged
from sba.core.tail import BatchNorm, Tail
from sba.methods.checks import check_range

NORMS = (1, 2, math.inf)


def ball_offsets(directions: Tensor, uniform: Tensor, p: float, radius: float) -> Tensor:
    """Scale draws to points of the ball ‖x‖_p ≤ r: x = r u^{1/d} g/‖g‖_p, uniform by volume if u is uniform on [0, 1).

    The volume within a radius grows as its d-th power, hence u^{1/d}: in many dimensions nearly all points lie next to the
    surface. With u in its place they would crowd around the centre.

    Args:
        directions: g of shape (…, d), independent draws of density ∝ e^{−|g|^p} on any scale (Barthe et al., 2005): exponential
            of random sign for p = 1, normal for p = 2, uniform on [−1, 1] for p = ∞. Others fill the ball unevenly.
        uniform: u, one draw a point, of shape (…).
        p: 1, 2 or ``math.inf``; a :class:`ConfigError` if it is none of the three.
        radius: r ≥ 0, in the units of the activations.
    """
    if p not in NORMS:
        raise ConfigError(f"p: {p!r} is not a norm of the ball; give 1, 2 or inf")
    check_range("radius (r)", radius, 0, math.inf)
    norm = torch.linalg.vector_norm(directions, p, dim=-1, keepdim=True)
    reach = radius * uniform[..., None] ** (1 / directions.shape[-1])
    # in few dimensions all draws of a direction can be 0
    return directions / norm.clamp_min(torch.finfo(norm.dtype).tiny) * reach


def ball(shape: tuple[int, ...], p: float, radius: float, generator: torch.Generator) -> Tensor:
    """Draw points uniformly from the ball ‖x‖_p ≤ r: float32 of the given shape (…, d), on the generator's device.

    Arguments and errors as for :func:`ball_offsets`. An activation with positions is one point, so flatten it first.
    """
    options: Any = {"generator": generator, "device": generator.device}
    if p == 2:
        directions = torch.randn(shape, **options)
    else:
        directions = 2 * torch.rand(shape, **options) - 1
        if p == 1:
            directions = directions.sign() * torch.empty_like(directions).exponential_(generator=generator)
    return ball_offsets(directions, torch.rand(shape[:-1], **options), p, radius)


@configuration
class Bamboo(Method):
    """Add the cross-entropy of points drawn uniformly from a ball, with the label of its centre; at the input or a layer."""

    name: ClassVar[str] = "bamboo"
    title: ClassVar[str] = "Bamboo"
    colour: ClassVar[str] = "#6F7F3F"
    marker: ClassVar[str] = "*"
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, Y_i) "
        r"+ \frac{\eta}{MB} \sum_{i,j} \operatorname{CE}(\mathbf 1_{y_i}, Y_{ij}),\quad "
        r"\lVert \mathbf h_{ij} - \mathbf h_i \rVert_p \le r"
    )
    cited: ClassVar[tuple[str, ...]] = ("yang2019bamboo", "li2020sba")

    eta: float = hyper(1.0, "weight of the balls' cross-entropy", symbol="η", source="ours", ge=0)
    folds: int = hyper(4, "points in each ball", symbol="M", source="ours", ge=1)
    radius: float = hyper(
        0.25,
        "radius of the ball, in units of the ℓ_p norm of the features' standard deviations",
        symbol="r",
        source="ours",
        ge=0,
    )
    norm: Literal["1", "2", "inf"] = hyper("2", "p of the ℓ_p ball", symbol="p", source="§3.3 of the SBA paper")
    layers: tuple[str, ...] = hyper(
        ("input",), "layers, around one of whose activations the balls lie", symbol="S", source="input"
    )
    batch_norm: BatchNorm = shared(SBA, "batch_norm")

    def voting_vicinity(self) -> SBA:
        """Return SBA's points at this method's layers, as many as in a ball and, as there, without a basis Σ."""
        return SBA(folds=self.folds, layers=self.layers, basis="identity")

    def check(self, network: Staged) -> None:
        check_layers(self.layers, network)

    def branch(self, network: Staged, now: Step) -> Hashable:
        return sample_layer(self.layers, now) if self.eta else "plain"

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        if not self.eta:
            return sba_objective(network(x), y, None, 0.0)
        layer = sample_layer(self.layers, now)
        h = network(x, until=layer)
        tail = Tail(network, layer, dropout=True, batch_norm=self.batch_norm)
        logits = tail.raw(h)
        virtual = tail.virtual(self.points(h, now))
        return sba_objective(logits, y, virtual, self.eta, label="hard")

    def points(self, h: Tensor, now: Step) -> Tensor:
        """Draw M points of the ball around each activation of shape (B, …); first all of j = 1, then all of j = 2, …"""
        flat = h.flatten(1)
        offsets = ball((self.folds, *flat.shape), float(self.norm), 1.0, now.generator("ball", h.device))
        length = torch.linalg.vector_norm(batch_variance(h).sqrt(), float(self.norm))
        return (flat + (self.radius * length * offsets).to(flat.dtype)).reshape(-1, *h.shape[1:])
