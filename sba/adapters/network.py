"""Any module by the protocol of :class:`sba.core.staged.Staged`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils import _pytree as pytree

from sba.adapters.example import FAULTS, Example, call, untouched
from sba.adapters.replay import Cut, Kept, Pass, first_tensor, logits_of, repeated, with_first
from sba.core.errors import ConfigError
from sba.core.staged import INPUT


def spoiled(t: Tensor) -> Tensor:
    """Return a tensor that spoils whatever is computed from it; of integers, one that gives another result."""
    return torch.full_like(t, torch.nan) if t.is_floating_point() else torch.zeros_like(t)


POISONS: tuple[Callable[[Tensor], Tensor], ...] = (
    spoiled,
    lambda t: t if t.is_floating_point() else torch.ones_like(t),
)
"""What takes the place of a tensor, one after the other, to find out whether it is read."""


def changed(again: Callable[[], Tensor], reference: Tensor) -> bool:
    """Whether a call gives other logits, or fails: a poisoned list of tokens may not be one."""
    try:
        return not torch.equal(again(), reference)
    except (*FAULTS, ArithmeticError):
        return True


class Attached(nn.Module):
    """A model that can be stopped at a point and go on from there.

    Args:
        model: any module that puts out logits of shape (N, classes), alone or as "logits", an entry or an attribute.
        example: a small batch of at least two rows as the model takes it: a tensor, a tuple or a mapping of arguments. Every point
            is proved on it at its first use; weights, buffers and random streams stay as they are.

    Raises:
        ConfigError: the model is wrapped for several processes, keeps state between calls, or lets rows depend on each other.
    """

    through: Mapping[nn.Module, Any] = {}

    def __init__(self, model: nn.Module, example: Any):
        super().__init__()
        if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule | Attached):
            raise ConfigError(f"model: {model!r} is not allowed; give a torch.nn.Module, not scripted and not attached")
        if isinstance(model, DataParallel | DistributedDataParallel):
            raise ConfigError(
                f"model: {type(model).__name__}(network) is not allowed; attach to the network, and wrap the criterion"
            )
        self.model = model
        self.example = Example(self.bare, example)
        self.cuts: dict[str, Cut] = {}
        self.kept: dict[str, Kept] = {}
        # methods cut there without asking, in the middle of a step
        for point in self.linear_inputs:
            self.cut(point)

    @property
    def bare(self) -> nn.Module:
        """The model itself if it is compiled by ``torch.compile``, since compiled code cannot be cut."""
        return getattr(self.model, "_orig_mod", self.model)

    @property
    def stages(self) -> tuple[str, ...]:
        """Points in the order of a pass: children that are called once, what the last linear layer is given, and that layer."""
        root, last = self.example.calls[0], self.example.logits
        outer = [c.path for c in self.example.calls if c.parent is root and self.example.times(c.path) == 1]
        return (*(path for path in outer if path != last), *((f"{last}:in", last) if last else ()))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row of the first tensor of the example."""
        return self.shape(INPUT)

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def linear_inputs(self) -> tuple[str, ...]:
        """The input of the linear layer that puts out the logits; nothing if the model ends in something else."""
        return (f"{self.example.logits}:in",) if self.example.logits else ()

    @property
    def last_linear(self) -> nn.Linear:
        """The linear layer that puts out the logits.

        Raises:
            ConfigError: the model ends in something else.
        """
        layer = self.bare.get_submodule(self.example.logits) if self.example.logits else None
        if not isinstance(layer, nn.Linear):
            raise ConfigError("model: it must end in a linear layer that puts out the logits; give another model")
        return layer

    def position(self, layer: str) -> int:
        """Return where a point stands in a pass; 0 for "input".

        Raises:
            ConfigError: there is no such point, or the model cannot be cut there.
        """
        if layer != INPUT:
            return self.cut(layer).place
        if not first_tensor(self.example.x).is_floating_point():
            raise ConfigError(
                "layers: the input is made of integers, which have no vicinity; give a point behind an embedding"
            )
        return 0

    def behind(self, layer: str) -> list[nn.Module]:
        """List the modules, each once, whose own code runs behind a point."""
        if layer == INPUT:
            return list(self.bare.modules())
        cut = self.cut(layer)
        found = [m for path in cut.behind for m in self.bare.get_submodule(path).modules()]
        return list(dict.fromkeys([*found, *(self.bare.get_submodule(path) for path in cut.around)]))

    def isolated(self, layer: str) -> bool:
        """Whether what follows a point depends on its activation alone, so that activations may be mixed."""
        return isinstance(self.example.x, Tensor) if layer == INPUT else self.cut(layer).isolated

    def recomputed(self, layer: str) -> bool:
        """Whether a module behind a point runs again in the backward pass."""
        return any(c.checkpointed for c in self.example.calls) if layer == INPUT else self.cut(layer).recomputed

    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one activation at a point, without the batch."""
        return tuple(first_tensor(self.example.x).shape[1:]) if layer == INPUT else self.cut(layer).shape

    def forward(self, x: Any, until: str | None = None, after: str | None = None) -> Tensor:
        """Run the model, or a part of it, as :class:`sba.core.staged.Staged` does.

        Args:
            x: the model's arguments, or with ``after`` the activation at that point: as many rows as the last pass until there had,
                or M times as many.
            until: the point to stop at; the logits by default.
            after: the point that ``x`` belongs to.

        Returns:
            The activation at ``until``: logits of shape (N, classes) by default.
        """
        if after is None and until is None:
            return logits_of(call(self.model, x))
        if after is None and until == INPUT:
            self.kept[INPUT] = Kept(x, len(first_tensor(x)))
            return first_tensor(x)
        return self.part(x, until, after)

    @torch.compiler.disable
    def part(self, x: Any, until: str | None, after: str | None) -> Tensor:
        """Run a part of the model, compiled modules as they are written; arguments as for :meth:`forward`."""
        target, source, arguments = None if until is None else self.cut(until), None, x
        if after is not None:
            kept = self.kept.get(after)
            if kept is None:
                raise ConfigError(f"after: nothing was run until {after!r} yet; call with until={after!r} first")
            if len(x) % kept.rows:
                raise ConfigError(
                    f"after: {len(x)} rows are no multiple of the {kept.rows} that were run until {after!r}"
                )
            cut = None if after == INPUT else self.cut(after)
            read = cut is None or cut.reads_input
            arguments = repeated(kept.x, self.example.input_dims, len(x) // kept.rows, read)
            if cut is None:
                arguments = with_first(arguments, x)
            else:
                source = (cut, kept, x)
        one = Pass(self.bare, source, target)
        out = one.run(lambda: call(self.bare, arguments))
        if until is None:
            return logits_of(out)
        self.kept[until] = Kept(arguments, len(out), one.found, one.own)
        return out

    def cut(self, point: str) -> Cut:
        """Return how a pass is cut at a point, proved on the example at the first use.

        Raises:
            ConfigError: the point does not exist, or the model cannot be cut there.
        """
        if point not in self.cuts:
            draft, before = self.example.draft(point), dict(self.kept)
            with untouched(self.bare, first_tensor(self.example.x).device):
                try:
                    self.cuts[point] = draft
                    self.cuts[point] = self.proved(point, draft)
                except BaseException:
                    del self.cuts[point]
                    raise
                finally:
                    self.kept = before
        return self.cuts[point]

    def proved(self, point: str, draft: Cut) -> Cut:
        """Return a cut with what is read from before it, or raise :class:`ConfigError` if its pieces do not make the whole."""
        x = self.example.x
        torch.manual_seed(0)
        whole = logits_of(call(self.bare, x))
        torch.manual_seed(0)
        if not torch.equal(whole, self.part(self.part(x, point, None), None, point)):
            raise ConfigError(
                f"layers: at {point!r} the pieces do not make the whole model; a dropout by function before the point, or state "
                "that changes with every call, does that; give another point"
            )
        self.bare.eval()
        h = self.part(x, point, None)
        if not h.is_floating_point():
            raise ConfigError(f"layers: {point!r} is made of integers, which have no vicinity; give another point")
        reference = self.part(h, None, point)
        if not any(
            changed(functools.partial(self.part, other, None, point), reference) for other in (spoiled(h), h + 1)
        ):
            raise ConfigError(
                f"layers: the logits do not depend on the first tensor at {point!r}; give a point behind it"
            )
        self.cuts[point] = found = self.read(point, draft, lambda: self.part(h, None, point), reference)
        # what is not read is not repeated from here on
        double, scale = self.part(torch.cat([h, h]), None, point), reference.abs().max().item()
        if not torch.allclose(double, torch.cat([reference, reference]), rtol=1e-3, atol=1e-4 * scale):
            raise ConfigError(f"layers: at {point!r} rows depend on each other behind the point; give another point")
        return found

    def read(self, point: str, draft: Cut, again: Callable[[], Tensor], reference: Tensor) -> Cut:
        """Find out what is read behind a point: poison each piece before it, and see whether the logits notice."""

        def noticed(put: Callable[[Any], None], clean: Any) -> bool:
            floating = all(leaf.is_floating_point() for leaf in pytree.tree_leaves(clean) if isinstance(leaf, Tensor))
            try:
                for poison in POISONS[:1] if floating else POISONS:
                    put(pytree.tree_map_only(Tensor, poison, clean))
                    if changed(again, reference):
                        return True
                return False
            finally:
                put(clean)

        def put_all(values: tuple[Any, list[Any]]) -> None:
            kept.x, kept.outputs[:] = values

        kept = self.kept[point]
        outputs = list(kept.outputs)
        anything = noticed(put_all, (kept.x, outputs))
        puts = (functools.partial(kept.outputs.__setitem__, i) for i in range(len(outputs)))
        before = [
            dataclasses.replace(piece, read=anything and noticed(put, clean))
            for piece, put, clean in zip(draft.before, puts, outputs, strict=True)
        ]
        reads_input = anything and noticed(functools.partial(setattr, kept, "x"), kept.x)
        return dataclasses.replace(draft, before=tuple(before), reads_input=reads_input)
