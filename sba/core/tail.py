"""g_{k+1}, the network after layer k, as virtual points meet it: its own dropout and its batch normalisation (points 13, 14)."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sba.core.errors import ConfigError
from sba.core.staged import Staged

MODES = ("raw", "tracked", "untracked", "running")


@dataclass
class Tail:
    """The stages after a layer, in one training step.

    Args:
        network: in training mode.
        layer: k.
        dropout: whether the tail's own dropout acts on virtual points.
        batch_norm: how batch normalisation in the tail treats virtual points: "raw" (with the raw batch's statistics, as
            constants), "tracked" (with their own, which enter the running averages, as in any training pass), "untracked" (with
            their own, which do not), or "running" (with the running averages).
    """

    network: Staged
    layer: str
    dropout: bool
    batch_norm: str
    statistics: dict[_BatchNorm, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_norm not in MODES:
            raise ConfigError(f"batch_norm: {self.batch_norm!r} is not known; give one of {', '.join(MODES)}")

    def modules(self, kind: type[nn.Module]) -> list:
        """List the tail's modules of a kind."""
        return [m for stage in self.network.after(self.layer) for m in stage.modules() if isinstance(m, kind)]

    def as_written(self) -> contextlib.AbstractContextManager:
        """Keep compiled code out of the tail, whose modules are watched and switched from here."""
        if any(stage in self.network.through for stage in self.network.after(self.layer)):
            return torch.compiler.set_stance("force_eager")
        return contextlib.nullcontext()

    def raw(self, h: Tensor, until: str | None = None) -> Tensor:
        """Return the logits of raw activations of shape (B, …), or what a later stage puts out, as plain training computes them."""
        hooks = []
        if self.batch_norm == "raw":
            hooks = [norm.register_forward_pre_hook(self.observe) for norm in self.modules(_BatchNorm)]
        try:
            with self.as_written():
                return self.network(h, until=until, after=self.layer)
        finally:
            for hook in hooks:
                hook.remove()

    def observe(self, norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
        x = inputs[0].detach()
        x = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
        self.statistics[norm] = mean, variance

    def evaluation(self, h: Tensor) -> Tensor:
        """Return the logits of raw activations in evaluation mode: no dropout, batch normalisation by running averages."""
        with self.as_written(), switched(self.modules(nn.Module), training=False):
            return self.network(h, after=self.layer)

    def virtual(self, points: Tensor) -> Tensor:
        """Return the logits of virtual points of shape (M·B, …)."""
        with self.as_written(), contextlib.ExitStack() as stack:
            if not self.dropout:
                stack.enter_context(switched(self.modules(_DropoutNd), training=False))
            norms = self.modules(_BatchNorm)
            if self.batch_norm == "untracked":
                stack.enter_context(switched(norms, track_running_stats=False))
            if self.batch_norm in ("raw", "running"):
                stack.enter_context(switched(norms, training=False))
            if self.batch_norm == "raw":
                for norm in norms:
                    if norm not in self.statistics:
                        raise ConfigError(
                            "batch_norm: 'raw' needs the raw batch's statistics; call raw() before virtual()"
                        )
                    mean, variance = self.statistics[norm]
                    stack.enter_context(switched([norm], running_mean=mean, running_var=variance))
            return self.network(points, after=self.layer)


@contextlib.contextmanager
def switched(modules: list[nn.Module], **values: object) -> Iterator[None]:
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
