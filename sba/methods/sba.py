"""Stochastic Batch Augmentation (Li et al., 2020)."""

import math
from typing import ClassVar, Literal

from torch import Tensor, nn

from sba.divergence import sba_objective
from sba.errors import ConfigError
from sba.hyper import configuration, hyper
from sba.methods.method import Method
from sba.moment import Moment
from sba.networks import Staged
from sba.scheduler import Scheduler
from sba.vicinity import Vicinity


@configuration
class SBA(Method):
    """Augment in latent space when λ(t) = 1, and pull the virtual points' predictions to the raw point's own (Eq. 11)."""

    name: ClassVar[str] = "sba"
    title: ClassVar[str] = "SBA"

    omega: float = hyper(
        math.pi / 3, "angle of the scheduler; a step is augmented with probability cos ω", symbol="ω", unit="rad",
        source="§3.2; the experiments' value is not given", ge=0, le=math.pi / 2,
    )  # fmt: skip
    eta: float = hyper(
        0.01, "weight of the divergence", symbol="η", source="Eq. 11; 0.01 and 0.1 in §4.2", ge=0
    )  # fmt: skip
    folds: int = hyper(32, "virtual points per raw point", symbol="M", source="Table 1: 40, 32, 8 or 4", ge=1)
    gaussian_share: float = hyper(
        0.5,
        "share of Gaussian points, p/M; the rest are dropout points (p is rounded, halves up)",
        symbol="p/M",
        source="ours",
        ge=0,
        le=1,
    )
    sigma: float = hyper(0.25, "standard deviation of the noise", symbol="σ", source="Eq. 7; no value given", ge=0)
    scale: Literal["batch", "absolute"] = hyper(
        "batch", "σ counts in each feature's standard deviation over the batch, or in absolute units", source="ours"
    )
    tau: float = hyper(2.0, "bound of the noise as a multiple of σ", symbol="τ/σ", source="§3.3; no value given", gt=0)
    bound: Literal["clip", "truncate"] = hyper("clip", "how the noise is bounded", source="§3.3")
    basis: Literal["colnorm", "orthogonal", "identity"] = hyper(
        "colnorm", "the random normalised basis matrix", symbol="Σ", source="§3.3, undefined there"
    )
    dropout_rate: float = hyper(0.5, "probability of deleting a feature", source="Eq. 8; no value given", ge=0, lt=1)
    dropout_rescale: bool = hyper(True, "divide what is kept by 1 − rate", source="Eq. 8 does not")
    layers: tuple[str, ...] = hyper(
        (), "the eligible layers; empty for the inputs of all linear layers", symbol="S", source="§3.1, §4.3"
    )
    schedule: Literal["iteration", "epoch"] = hyper(
        "iteration", "how often λ is drawn", symbol="λ(t)", source="§3.2 and Algorithm 1; the opening of §3 says epoch"
    )
    detach: bool = hyper(True, "treat the raw point's prediction as a constant", source="§3.3 calls it the teacher")
    label: Literal["soft", "hard"] = hyper("soft", "what virtual points are pulled to", source="Eq. 10 or Eq. 9")

    @property
    def vicinity(self) -> Vicinity:
        """The vicinity distribution of §3.3 with this method's settings."""
        return Vicinity(**{name: getattr(self, name) for name in Vicinity.__dataclass_fields__})

    def eligible(self, network: Staged) -> tuple[str, ...]:
        """Return S, the layers one of which is drawn at each augmented iteration."""
        return self.layers or network.linear_inputs

    def check(self, network: Staged) -> None:
        if not self.eligible(network):
            raise ConfigError(
                "layers: this network has no linear layer whose input could be augmented; name the layers"
            )
        for layer in self.eligible(network):
            network.position(layer)
            if layer == network.stages[-1]:
                raise ConfigError(
                    f"layers: {layer!r} puts out the logits, and nothing comes after it; choose an earlier layer"
                )

    def augmented_layer(self, network: Staged, now: Moment) -> str | None:
        """Return the layer k to augment at this iteration, or None where λ(t) = 0. Equal on all ranks.

        Where η = 0 no virtual point is made at all: behind k there may be batch normalisation, whose statistics they would move.
        """
        if self.eta == 0 or not Scheduler(self.omega, self.schedule).state(now):
            return None
        layers = self.eligible(network)
        return layers[now.index("layer", len(layers))]

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Moment, memory: nn.Module | None) -> dict[str, Tensor]:
        layer = self.augmented_layer(network, now)
        if layer is None:
            return sba_objective(network(x), y, None, self.eta)
        h = network(x, until=layer)
        logits = network(h, after=layer)
        virtual = network(self.vicinity.sample(h, now.generator("vicinity", h.device)), after=layer)
        return sba_objective(logits, y, virtual, self.eta, self.detach, self.label)
