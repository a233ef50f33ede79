"""Bamboo (Yang et al., 2019): hard labels for points of a ball around each sample, as the SBA paper describes it (Eq. 9)."""

from collections.abc import Hashable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sba.balls import ball
from sba.divergence import sba_objective
from sba.hyper import configuration, hyper, shared
from sba.methods.method import Method, check_layers, drawn
from sba.methods.sba import SBA
from sba.moment import Moment
from sba.spread import batch_variance
from sba.staged import Staged
from sba.tail import Tail


@configuration
class Bamboo(Method):
    """Add the cross-entropy of points drawn uniformly from a ball, with the label of its centre; at the input or a layer."""

    name: ClassVar[str] = "bamboo"
    title: ClassVar[str] = "Bamboo"
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, Y_i) "
        r"+ \frac{\eta}{MB} \sum_{i,j} \operatorname{CE}(\mathbf 1_{y_i}, Y_{ij}),\quad "
        r"\lVert \mathbf h_{ij} - \mathbf h_i \rVert_p \le r"
    )
    cited: ClassVar[tuple[str, ...]] = ("yang2019bamboo", "li2020sba")

    eta: float = hyper(1.0, "weight of the balls' cross-entropy", symbol="η", source="ours", ge=0)
    folds: int = hyper(4, "points in each ball", symbol="M", source="ours", ge=1)
    radius: float = hyper(
        0.25, "radius of the ball, in units of the ℓ_p norm of the spreads", symbol="r", source="ours", ge=0
    )
    norm: Literal["1", "2", "inf"] = hyper("2", "p of the ℓ_p ball", symbol="p", source="§3.3 of the SBA paper")
    layers: tuple[str, ...] = hyper(
        ("input",), "layers, around one of whose activations the balls lie", symbol="S", source="input"
    )
    batch_norm: Literal["raw", "tracked", "untracked", "running"] = shared(SBA, "batch_norm")

    def check(self, network: Staged) -> None:
        check_layers(self.layers, network)

    def branch(self, network: Staged, now: Moment) -> Hashable:
        return drawn(self.layers, now) if self.eta else "plain"

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Moment, memory: nn.Module | None) -> dict[str, Tensor]:
        if not self.eta:
            return sba_objective(network(x), y, None, 0.0)
        layer = drawn(self.layers, now)
        h = network(x, until=layer)
        tail = Tail(network, layer, dropout=True, batch_norm=self.batch_norm)
        logits = tail.raw(h)
        virtual = tail.virtual(self.points(h, now))
        return sba_objective(logits, y, virtual, self.eta, label="hard")

    def points(self, h: Tensor, now: Moment) -> Tensor:
        """Draw M points of the ball around each activation of shape (B, …); first all of j = 1, then all of j = 2, …"""
        flat = h.flatten(1)
        offsets = ball((self.folds, *flat.shape), float(self.norm), 1.0, now.generator("ball", h.device))
        length = torch.linalg.vector_norm(batch_variance(h).sqrt(), float(self.norm))
        return (flat + (self.radius * length * offsets).to(flat.dtype)).reshape(-1, *h.shape[1:])
