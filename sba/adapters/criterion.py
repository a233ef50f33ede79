"""A method on any model and in any loop: ``criterion = attach(model, SBA(), example=x[:2], total_steps=T)``."""

import warnings
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from sba.adapters.example import FAULTS, arguments
from sba.adapters.network import Attached
from sba.core import ranks
from sba.core.divergence import check_labels, cross_entropy
from sba.core.errors import ConfigError, SBAError
from sba.core.method import Method, Stepping
from sba.core.rng import Step, fold_in
from sba.core.updates import total


class Criterion(Stepping):
    """The loss of a method on a model, with all that it remembers: what a loop minimises, and what DistributedDataParallel wraps.

    In training mode a call is a step of the method. In evaluation mode it is plain cross-entropy, and no step is counted.

    Attributes:
        terms: the weighted terms of the last loss, detached.
        step: steps done.
    """

    def __init__(self, network: Attached, method: Method, total_steps: int, steps_per_epoch: int | None, seed: int):
        super().__init__()
        self.network, self.method, self.seed = network, method, seed
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch or total_steps
        self.memory = method.memory(network)  # type: ignore[arg-type]
        self.step = 0
        self.terms: dict[str, Tensor] = {}
        self.called = False

    # compiled code cannot hold a step, whose draws and branch depend on its number; a compiled model stays compiled
    @torch.compiler.disable
    def forward(self, x: Any, y: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            x: the model's arguments, as in the example.
            y: classes in 0 … C − 1, int64 of shape (B,), or probabilities of shape (B, C) if the method takes them.

        Raises:
            ConfigError: the labels are something else, the batch is not like the example, or gradients are off in training mode. An
                accelerator's values are looked at in the first call alone.
        """
        x = arguments(x)
        rows = len(self.network.example.check(x, self.called))
        self.check(y, rows)
        alone = self.training and rows == 1 and getattr(self.method, "scale", "") == "batch"
        if alone and getattr(self.method, "gaussian_share", 1.0) > 0:
            warnings.warn(
                "x: one row has no standard deviation of features, so its Gaussian points equal it; leave such batches out "
                "(drop_last=True), or give scale 'absolute' or 'running'",
                stacklevel=2,
            )
        self.called = True
        try:
            if not self.training:
                return cross_entropy(self.network(x), y)
            terms = self.next_terms(x, y)
        except (SBAError, torch.OutOfMemoryError):
            raise
        except FAULTS as error:
            self.network.example.explain(x, error)
            raise
        self.terms = {name: term.detach() for name, term in terms.items()}
        return total(terms)

    def check(self, y: Tensor, rows: int) -> None:
        """Raise :class:`ConfigError` for labels that are none, or a step that could not be followed by a backward pass."""
        if self.training and not torch.is_grad_enabled():
            raise ConfigError("criterion: a step without gradients is not allowed; call criterion.eval() to validate")
        if isinstance(y, Tensor) and y.is_meta:
            raise ConfigError("labels: a tensor on meta has no values; give labels on the device of the batch")
        logits = torch.empty(rows, self.network.example.classes, device="meta")
        check_labels(y if self.called or not isinstance(y, Tensor) else y.cpu(), logits, self.method.soft)

    def next_terms(self, x: Any, y: Tensor) -> dict[str, Tensor]:
        """Do a step of the method; return the terms of its loss."""
        progress = min(self.step / self.total_steps, 1.0)
        now = Step(self.seed, self.step, self.step // self.steps_per_epoch, progress, ranks.rank())
        try:
            terms = self.method.terms(self.network, x, y, now, self.memory)  # type: ignore[arg-type]
        finally:
            self.network.kept.clear()
        self.step += 1
        return terms

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise ConfigError(
            "criterion: DataParallel calls copies, whose steps are lost; use DistributedDataParallel, one process a device"
        )


def attach(
    model: nn.Module, method: Method, example: Any, total_steps: int, steps_per_epoch: int | None = None, seed: int = 0
) -> Criterion:
    """Put a method on a model that tells apart two classes or more by a softmax over its logits.

    Args:
        model: any module that puts out logits; its parameters are the criterion's.
        method: its ``layers`` name points: "a.b" is what the module a.b puts out, "a.b:in" what it is given. By default the input
            of the linear layer that puts out the logits.
        example: see :class:`Attached`.
        total_steps: of the training, for methods whose strength grows with it.
        steps_per_epoch: for schedules by epochs; all of them by default.
        seed: of the method's random streams.

    Raises:
        ConfigError: the method cannot work on this model, with what to change.
    """
    if isinstance(model, Criterion):
        raise ConfigError("model: a criterion is not allowed; give the model that it was made of")
    if not isinstance(method, Method):
        raise ConfigError(f"method: {method!r} is not allowed; give a method with its settings, such as SBA(eta=0.1)")
    if method.update != "joint":
        raise ConfigError(
            f"update: {method.update!r} belongs to the loop, not to its loss; leave it out, or give joint"
        )
    counts = {"total_steps": total_steps, "steps_per_epoch": 1 if steps_per_epoch is None else steps_per_epoch}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name}: {value!r} is not allowed; give an integer from 1")
    fold_in(seed, "")
    network = Attached(model, example)
    method.check(network)  # type: ignore[arg-type]
    return Criterion(network, method, total_steps, steps_per_epoch, seed)
