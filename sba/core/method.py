"""The contract of a training method, and the simplest one: ERM, the baseline."""

import abc
import json
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from sba.core.divergence import sba_objective
from sba.core.errors import ConfigError
from sba.core.hyper import configuration, definitions
from sba.core.rng import Step
from sba.core.staged import Staged

if TYPE_CHECKING:
    from sba.core.sba import SBA


class Method(abc.ABC):
    """A training method: a frozen dataclass whose fields are its hyper-parameters.

    Subclasses are final: a method is one file, and none inherits from another.

    Attributes:
        name: as written on the command line and in records.
        title: as written in tables.
        formula: the loss of an iteration in TeX, in the letters of ``book/notation.md``.
        cited: whose method it is, keys of ``book/references.bib``; empty for what needs no source.
        presets: named choices of several hyper-parameters.
        colour: of its lines in figures, "#rrggbb".
        marker: of its points in figures, as matplotlib names it.
        bench: hyper-parameters of the step that is timed against a plain one; None if it is not timed as a relative.
        bench_limit: what such a step on ResNet-44 should cost at most, in plain steps.
        soft: whether labels may be probabilities; not if a method works with the class of each row.
        update: how the terms become a step, one of :data:`sba.core.updates.UPDATES`; a method may make it a hyper-parameter.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    cited: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    colour: ClassVar[str]
    marker: ClassVar[str]
    bench: ClassVar[dict[str, Any] | None] = {}
    bench_limit: ClassVar[float | None] = None
    soft: ClassVar[bool] = True
    update: Any = "joint"

    @abc.abstractmethod
    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        """Compute the weighted terms of the loss of one iteration; the loss is their sum.

        Args:
            network: in training mode.
            x: augmented, normalised images of shape (B, C, H, W).
            y: classes of shape (B,), or probabilities of shape (B, C) if the method is ``soft``.
            now: the step; the only source of randomness.
            memory: what :meth:`Method.memory` returned.

        Returns:
            Name → scalar. "cross_entropy", if it is among them, is that of the raw points.
        """

    def memory(self, network: Staged) -> nn.Module | None:
        """Return what the method must remember between iterations, as a module whose buffers are saved with the network's."""
        return None

    def branch(self, network: Staged, now: Step) -> Hashable:
        """Return all that the host decides in a step's terms, such as its layer: steps of one branch differ in data and random
        tensors alone. A step of unknown branch, None, cannot be captured (:mod:`sba.training.graphs`)."""
        return None

    def voting_vicinity(self) -> "SBA":
        """Return the SBA whose virtual points vote (open point 22): of the method's own vicinity, or else SBA's defaults."""
        from sba.core.sba import SBA  # it is a method itself

        return SBA()

    def check(self, network: Staged) -> None:  # noqa: B027 - most methods work on every network
        """Raise :class:`sba.core.errors.ConfigError` if the method cannot work on this network."""

    def check_batch(self, rows: int, views: int) -> None:  # noqa: B027 - likewise
        """Raise :class:`sba.core.errors.ConfigError` if the method cannot work on the images of a pass.

        A pass has ``views`` copies of ``rows`` different images: those of this process, if several share a batch.
        """

    def settings(self) -> dict[str, Any]:
        """Return the method's name and hyper-parameters as JSON can hold them."""
        values = {name: getattr(self, name) for name in definitions(type(self))}
        return {"name": self.name, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}


@configuration
class ERM(Method):
    """Minimise the cross-entropy of the augmented batch (Eq. 2). Crop, flip and Cutout belong to the run, not to the method."""

    name: ClassVar[str] = "erm"
    title: ClassVar[str] = "Baseline"
    colour: ClassVar[str] = "#000000"
    marker: ClassVar[str] = "o"
    bench: ClassVar[dict[str, Any] | None] = None
    formula: ClassVar[str] = r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, Y_i)"

    def branch(self, network: Staged, now: Step) -> Hashable:
        return "plain"

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        return sba_objective(network(x), y, None, 0.0)


def sample_layer(layers: tuple[str, ...], now: Step) -> str:
    """Draw one of the layers for this iteration; equal on all ranks."""
    return layers[now.index("layer", len(layers))]


def check_layers(layers: tuple[str, ...], network: Staged, mixing: bool = False) -> None:
    """Raise :class:`ConfigError` if a layer does not exist, none is given, or its activations are not to be mixed."""
    if not layers:
        raise ConfigError(f"layers: none is given; choose from input, {', '.join(network.stages[:-1])}")
    if len(set(layers)) < len(layers):
        raise ConfigError(f"layers: {layers} names one twice, it would be drawn more often; give each once")
    for layer in layers:
        network.position(layer)
        if layer == network.stages[-1]:
            raise ConfigError(f"layers: {layer!r} puts out the logits, nothing comes after it; choose an earlier layer")
        if mixing and not network.isolated(layer):
            raise ConfigError(
                f"layers: what follows {layer!r} reads more than its activation, and that would not be mixed; choose another layer"
            )


class Stepping(nn.Module):
    """A loss that does a method's steps; its state dict holds which is next."""

    method: Method
    step: int
    seed: int

    # a tensor of JSON's bytes: libraries save state dicts as safetensors, which hold nothing else
    def get_extra_state(self) -> Tensor:
        state = {"step": self.step, "seed": self.seed, "method": self.method.settings()}
        return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        saved = json.loads(bytes(state.tolist()))
        if saved["method"] != (own := self.method.settings()):
            raise ConfigError(f"method: the state is of {saved['method']}, not of {own}; give the same method")
        self.step, self.seed = saved["step"], saved["seed"]
