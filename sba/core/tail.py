"""g_{k+1}, the network after layer k, as virtual points meet it: its randomness and its batch normalisation (points 13, 14)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from sba.core.divergence import full_precision
from sba.core.errors import ConfigError
from sba.core.hyper import check_choice
from sba.core.staged import Staged

BatchNorm = Literal["raw", "tracked", "untracked", "running"]


@dataclass
class Tail:
    """The modules behind a layer, in one training step. No pass changes the activations that it is given."""

    #: in training mode; modules of it that are in evaluation mode, such as frozen batch normalisation, stay so
    network: Staged
    layer: str  #: k
    dropout: bool  #: whether the tail's own randomness acts on virtual points: dropout in any form, stochastic depth
    #: how batch normalisation in the tail treats virtual points: "raw" (with the raw batch's statistics, as constants),
    #: "tracked" (with their own, which enter the running averages, as in any training pass), "untracked" (with their
    #: own, which do not), or "running" (with the running averages)
    batch_norm: BatchNorm
    statistics: dict[_BatchNorm, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("batch_norm", self.batch_norm, BatchNorm)
        switching = not self.dropout or (self.batch_norm != "tracked" and self.norms())
        if switching and self.network.recomputed(self.layer):
            raise ConfigError(
                f"layers: checkpointed modules behind {self.layer!r} run again in the backward pass, unswitched; "
                "give virtual_dropout and batch_norm 'tracked', a later layer, or no checkpoints"
            )

    def norms(self) -> list[_BatchNorm]:
        """List the tail's batch normalisation that takes the statistics of its batch."""
        return [m for m in self.network.behind(self.layer) if isinstance(m, _BatchNorm) and m.training]

    def as_written(self) -> contextlib.AbstractContextManager:
        """Keep compiled code out of the tail, whose modules are watched and switched from here."""
        if any(module in self.network.through for module in self.network.behind(self.layer)):
            return torch.compiler.set_stance("force_eager")
        return contextlib.nullcontext()

    def raw(self, h: Tensor, until: str | None = None) -> Tensor:
        """Return the logits of raw activations of shape (B, …), or what a later stage puts out, as plain training computes them."""
        self.statistics.clear()
        norms = self.norms() if self.batch_norm == "raw" else []
        with self.as_written(), hooked(norms, self.observe):
            return self.network(h.clone(), until=until, after=self.layer)

    def observe(self, norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
        """Keep the statistics of one call: a module may be called several times."""
        x = full_precision(inputs[0].detach())
        variance, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
        self.statistics.setdefault(norm, []).append((mean, variance))

    def evaluation(self, h: Tensor) -> Tensor:
        """Return the logits of raw activations in evaluation mode: nothing random, batch normalisation by running averages."""
        with self.as_written(), switched(self.network.behind(self.layer), training=False):
            return self.network(h.clone(), after=self.layer)

    def virtual(self, points: Tensor) -> Tensor:
        """Return the logits of virtual points of shape (M·B, …)."""
        norms = self.norms()
        with self.as_written(), contextlib.ExitStack() as stack:
            if not self.dropout:
                others = [m for m in self.network.behind(self.layer) if not isinstance(m, _NormBase)]
                stack.enter_context(switched(others, training=False))
            if self.batch_norm == "untracked":
                stack.enter_context(switched(norms, track_running_stats=False))
            if self.batch_norm in ("raw", "running"):
                stack.enter_context(switched(norms, training=False))
            if self.batch_norm == "raw":
                calls = {norm: iter(self.statistics.get(norm, ())) for norm in norms}

                def replay(norm: _BatchNorm, _: tuple[Tensor]) -> None:
                    norm.running_mean, norm.running_var = next(calls[norm], (None, None))
                    if norm.running_mean is None:
                        raise ConfigError(
                            "batch_norm: 'raw' needs the raw batch's statistics; call raw() before virtual()"
                        )

                stack.enter_context(switched(norms, running_mean=None, running_var=None))
                stack.enter_context(hooked(norms, replay))
            return self.network(points, after=self.layer)


@contextlib.contextmanager
def hooked(modules: list[_BatchNorm], hook: Callable[..., None]) -> Iterator[None]:
    """Call a function with each module and its inputs before every call of the module, for a while."""
    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def switched(modules: Sequence[nn.Module], **values: object) -> Iterator[None]:
    """Give attributes of modules other values for a while."""
    before = [{name: getattr(module, name) for name in values} for module in modules]
    try:
        for module in modules:
            for name, value in values.items():
                setattr(module, name, value)
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            for name, value in old.items():
                setattr(module, name, value)
