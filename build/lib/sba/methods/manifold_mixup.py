"""Manifold mixup (Verma et al., 2019): mixup at a layer drawn anew at each iteration."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from sba.hyper import configuration, hyper
from sba.methods.method import Method, check_layers, drawn
from sba.methods.mixup import Mixup, other_order
from sba.mixing import beta, mix, mixed_binary_cross_entropy, mixed_cross_entropy
from sba.moment import Moment
from sba.staged import Staged


@configuration
class ManifoldMixup(Method):
    """Mix the activations of a batch at a random layer, and the labels with them."""

    name: ClassVar[str] = "manifold-mixup"
    title: ClassVar[str] = "manifold mixup"
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
        check_layers(self.eligible(network), network)

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Moment, memory: nn.Module | None) -> dict[str, Tensor]:
        lam = beta(now.uniform("weight"), self.alpha)
        partners = other_order(len(x), now, x.device)
        layer = drawn(self.eligible(network), now)
        logits = network(mix(network(x, until=layer), partners, lam), after=layer)
        form = mixed_cross_entropy if self.loss == "ce" else mixed_binary_cross_entropy
        return {"cross_entropy": form(logits, y, y[partners], lam)}


def resolution_ends(network: Staged) -> list[str]:
    """List the layers after which the height of the feature maps changes, or their end: the groups of a ResNet."""
    shapes = [network.shape(stage) for stage in network.stages]
    heights = [shape[1] if len(shape) == 3 else 0 for shape in shapes]
    return [
        stage for stage, own, after in zip(network.stages, heights, heights[1:], strict=False) if own and own != after
    ]
