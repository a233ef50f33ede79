"""Decoupled mixup (Liu et al., 2023): any mixup, and a term that tells each mixed class from all but the other."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from sba.decoupled import decoupled_binary_cross_entropy, decoupled_loss
from sba.errors import ConfigError
from sba.hyper import configuration, definitions, hyper, shared
from sba.methods.method import Method, check_layers, drawn
from sba.methods.mixup import Mixup, other_order
from sba.mixing import beta, cutmix, cutmix_box, mix, mixed_cross_entropy
from sba.moment import Moment
from sba.staged import Staged


@configuration
class DecoupledMixup(Method):
    """Add η times the decoupled term to the mixed cross-entropy, or take the rescaled binary cross-entropy in its place."""

    name: ClassVar[str] = "decoupled"
    title: ClassVar[str] = "decoupled mixup"
    formula: ClassVar[str] = (
        r"\mathcal L_{\text{mixup}} "
        r"- \frac \eta B \sum_i \bigl[f(\lambda) \log \phi_i^{a, b} + f(1 - \lambda) \log \phi_i^{b, a}\bigr],\quad "
        r"\phi^{a, b} = e^{z^a} \big/ \textstyle\sum_{c \ne b} e^{z^c}"
    )
    cited: ClassVar[tuple[str, ...]] = ("liu2023decoupled",)

    mixer: Literal["mixup", "cutmix"] = hyper(
        "mixup", "all pixels or features are mixed, or a box of pixels", source="Liu et al."
    )
    alpha: float = hyper(
        1.0, "λ ~ Beta(α, α); 0 for λ = 1, plain training", symbol="α", source="Zhang et al.; Yun et al.", ge=0
    )
    layers: tuple[str, ...] = shared(Mixup, "layers")
    eta: float = hyper(0.1, "weight of the decoupled term", symbol="η", source="openmixup's configurations", ge=0)
    mode: Literal["both", "more", "less"] = hyper(
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
        check_layers(self.layers, network)
        if self.mixer == "cutmix" and self.layers != ("input",):
            raise ConfigError(f"layers: {self.layers} cannot be cut as images are; give layers input with mixer cutmix")
        if self.mixer == "cutmix" and network.input_shape and min(network.input_shape[-2:]) < 2:
            height, width = network.input_shape[-2:]
            raise ConfigError(f"mixer: 'cutmix' finds no box in images of {height}×{width} pixels; give mixup")

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Moment, memory: nn.Module | None) -> dict[str, Tensor]:
        lam = beta(now.uniform("weight"), self.alpha)
        partners = other_order(len(x), now, x.device)
        layer = drawn(self.layers, now)
        h, lam = self.mixed(network(x, until=layer), partners, lam, now)
        logits = network(h, after=layer)
        # α = 0 is plain training; an empty box of CutMix, λ = 1, is not: its loss is of the same kind as its neighbours'
        if self.loss == "bce" and self.alpha:
            return {"cross_entropy": decoupled_binary_cross_entropy(logits, y, y[partners], lam, self.power)}
        terms = {"cross_entropy": mixed_cross_entropy(logits, y, y[partners], lam)}
        if self.eta and 0 < lam < 1:
            terms["decoupled"] = self.eta * decoupled_loss(logits, y, y[partners], lam, self.mode, self.power)
        return terms

    def mixed(self, h: Tensor, partners: Tensor, lam: float, now: Moment) -> tuple[Tensor, float]:
        """Mix, and return the mixture and the share of the first sample in it."""
        if self.mixer == "mixup":
            return mix(h, partners, lam), lam
        height, width = h.shape[-2:]
        row, column = now.index("box row", height), now.index("box column", width)
        return cutmix(h, partners, cutmix_box(lam, height, width, row, column))
