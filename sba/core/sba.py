"""Stochastic Batch Augmentation (Li et al., 2020)."""

import dataclasses
import math
from collections.abc import Hashable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sba.core.bases import Kind, check_basis
from sba.core.divergence import Label, sba_objective
from sba.core.errors import ConfigError
from sba.core.feature_std import RunningFeatureStd, batch_variance
from sba.core.hyper import configuration, definitions, hyper, shared
from sba.core.method import Method, check_layers, sample_layer
from sba.core.rng import Step
from sba.core.scheduler import Scheduler
from sba.core.staged import Staged
from sba.core.tail import BatchNorm, Tail
from sba.core.vicinity import Bound, Vicinity


@configuration
class SBA(Method):
    """Augment in latent space when λ(t) = 1, and pull the virtual points' predictions to the raw point's own (Eq. 11)."""

    name: ClassVar[str] = "sba"
    title: ClassVar[str] = "SBA"
    colour: ClassVar[str] = "#D55E00"
    marker: ClassVar[str] = "s"
    bench: ClassVar[dict[str, Any] | None] = None
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, Y_i) + "
        r"\lambda(t)\, \frac{\eta}{MB} \sum_{i,j} D_{\mathrm{KL}}(Y_i \,\Vert\, Y_{ij})"
    )
    cited: ClassVar[tuple[str, ...]] = ("li2020sba",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        # the literal reading of Eqs. 5-12: no unit for σ, no rescaling, no stop-gradient; virtual rows pass as any batch does
        "paper": {"scale": "absolute", "dropout_rescale": False, "detach": False, "batch_norm": "tracked"},
        # Batch Augmentation at a layer (Hoffer et al.): M dropout masks on each activation and its own label, at every step
        "latent-ba": {"omega": 0.0, "eta": 1.0, "gaussian_share": 0.0, "label": "hard", "objective": "either_or"},
    }

    omega: float = shared(Scheduler, "omega")
    eta: float = hyper(
        0.01, "weight of the divergence", symbol="η", source="Eq. 11; 0.01 and 0.1 in §4.2", ge=0,
        slider=(1e-3, 10**1.5, 0.25), log=True,
    )  # fmt: skip
    folds: int = shared(Vicinity, "folds")
    gaussian_share: float = shared(Vicinity, "gaussian_share")
    sigma: float = shared(Vicinity, "sigma")
    scale: Literal["batch", "running", "absolute"] = hyper(
        "batch",
        "σ counts in each feature's standard deviation over the batch, or over a running average, or in absolute units",
        symbol="s", source="ours; the paper has no unit",
    )  # fmt: skip
    tau: float = shared(Vicinity, "tau")
    bound: Bound = shared(Vicinity, "bound")
    basis: Kind = shared(Vicinity, "basis")
    dropout_rate: float = shared(Vicinity, "dropout_rate")
    dropout_rescale: bool = shared(Vicinity, "dropout_rescale")
    layers: tuple[str, ...] = hyper(
        (), "the eligible layers; empty for the inputs of all linear layers", symbol="S", source="§3.1, §4.3"
    )
    schedule: Literal["iteration", "epoch"] = shared(Scheduler, "schedule")
    objective: Literal["sum", "either_or"] = hyper(
        "sum", "where λ(t) = 1, add the virtual term to the cross-entropy, or put it in its place",
        source="Eq. 11, or Eq. 4",
    )  # fmt: skip
    label: Label = hyper("soft", "what virtual points are pulled to", source="Eq. 10 or Eq. 9")
    teacher: Literal["training", "evaluation"] = hyper(
        "training", "the raw prediction is that of the cross-entropy's pass, or of one more pass behind k in evaluation mode",
        source="Figure 1 draws one pass",
    )  # fmt: skip
    detach: bool = hyper(True, "treat the raw point's prediction as a constant", source="§3.3 calls it the teacher")
    virtual_dropout: bool = hyper(True, "the network's own dropout behind k acts on virtual points", source="ours")
    batch_norm: BatchNorm = hyper(
        "raw",
        "virtual points are normalised behind k with the raw batch's statistics, with their own that enter the running averages "
        "or do not, or with the running averages",
        source="ours; the paper is silent",
    )
    update: Literal["joint", "sequential_stale", "sequential_fresh"] = hyper(
        "joint", "one step on the sum, or Algorithm 1's two, the second on the gradient before the first or after it",
        source="Eq. 11, or Algorithm 1",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.objective == "either_or" and self.update != "joint":
            raise ConfigError(
                f"update: {self.update!r} is not allowed with objective 'either_or', which leaves a step one term; give joint"
            )

    @property
    def vicinity(self) -> Vicinity:
        """The vicinity distribution with this method's settings."""
        return Vicinity(**{name: getattr(self, name) for name in definitions(Vicinity)})

    def eligible(self, network: Staged) -> tuple[str, ...]:
        """Return S, the layers one of which is drawn at each augmented iteration."""
        return self.layers or network.linear_inputs

    def voting_vicinity(self) -> "SBA":
        """Return the method itself. A running scale gives way to the batch's: its averages belong to the training set."""
        return dataclasses.replace(self, scale="batch") if self.scale == "running" else self

    def memory(self, network: Staged) -> nn.Module | None:
        if self.scale != "running":
            return None
        return RunningFeatureStd({layer: math.prod(network.shape(layer)) for layer in self.eligible(network)})

    def check(self, network: Staged) -> None:
        if not self.eligible(network):
            raise ConfigError("layers: this network has no linear layer to augment the input of; name the layers")
        check_layers(self.eligible(network), network)
        for layer in self.eligible(network):
            Tail(network, layer, self.virtual_dropout, self.batch_norm)
            if self.vicinity.gaussian and network.input_shape:
                check_basis(self.basis, network.shape(layer), layer)

    def augmented_layer(self, network: Staged, now: Step) -> str | None:
        """Return the layer k to augment at this iteration, or None if λ(t) = 0. Equal on all ranks.

        If η = 0 no virtual point is made at all: behind k there may be batch normalisation, whose statistics it would move.
        """
        if self.eta == 0 or not Scheduler(self.omega, self.schedule).state(now):
            return None
        return sample_layer(self.eligible(network), now)

    def branch(self, network: Staged, now: Step) -> Hashable:
        layer = self.augmented_layer(network, now)
        # no graph can hold the QR of an orthogonal Σ
        return None if layer and self.basis == "orthogonal" and self.vicinity.gaussian else layer or "plain"

    def feature_std(self, h: Tensor, layer: str = "", memory: nn.Module | None = None) -> Tensor | None:
        """Return the unit of σ for each feature of activations of shape (B, …), of shape (Q,), or None if σ is absolute.

        A running scale asks for the layer and for what :meth:`memory` returned, which takes the batch in.
        """
        if self.scale == "absolute":
            return None
        if self.scale == "batch":
            return batch_variance(h).sqrt()
        if not isinstance(memory, RunningFeatureStd):
            raise ConfigError("scale (s): 'running' needs the method's memory; give method.memory(network), or 'batch'")
        return memory.update(layer, h)

    def virtual_points(
        self, h: Tensor, generator: torch.Generator, layer: str = "", memory: nn.Module | None = None
    ) -> Tensor:
        """Draw the virtual points of a batch, of shape (M·B, …), as training does.

        Arguments as for :meth:`sba.core.vicinity.Vicinity.sample` and :meth:`feature_std`.
        """
        return self.vicinity.sample(h, generator, self.feature_std(h, layer, memory))

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        layer = self.augmented_layer(network, now)
        if layer is None:
            return sba_objective(network(x), y, None, self.eta)
        tail = Tail(network, layer, self.virtual_dropout, self.batch_norm)
        h = network(x, until=layer)
        logits = tail.raw(h)
        reference = logits if self.teacher == "training" else tail.evaluation(h)
        virtual = tail.virtual(self.virtual_points(h, now.generator("vicinity", h.device), layer, memory))
        terms = sba_objective(logits, y, virtual, self.eta, self.detach, self.label, reference)
        return terms if self.objective == "sum" else {"virtual": terms["virtual"]}
