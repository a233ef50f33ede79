"""mixup (Zhang et al., 2018): train on convex combinations of pairs of samples and of their labels."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sba.hyper import configuration, hyper
from sba.methods.method import Method, check_layers, drawn
from sba.mixing import beta, mix, mixed_cross_entropy
from sba.moment import Moment
from sba.staged import Staged

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
        check_layers(self.layers, network)

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Moment, memory: nn.Module | None) -> dict[str, Tensor]:
        lam = beta(now.uniform("weight"), self.alpha)
        partners = other_order(len(x), now, x.device)
        layer = drawn(self.layers, now)
        logits = network(mix(network(x, until=layer), partners, lam), after=layer)
        return {"cross_entropy": mixed_cross_entropy(logits, y, y[partners], lam)}


def other_order(n: int, now: Moment, device: torch.device) -> Tensor:
    """Draw the batch's second order, of shape (n,)."""
    return torch.randperm(n, generator=now.generator("partners", device), device=device)
