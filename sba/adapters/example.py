"""What a call of a model on a small example shows: which modules it calls, in which order, with which shapes."""

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sba.adapters.replay import (
    Call,
    Cut,
    Original,
    Piece,
    as_written,
    batch_dims,
    checkpointing,
    first_tensor,
    intercepted,
    logits_of,
    shapes_of,
)
from sba.core.errors import ConfigError
from sba.core.hyper import suggestion

FAULTS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
"""What modules raise if they are given what they cannot take."""


def likeness(x: Any) -> list[Any]:
    """Return what a batch must share with the example: its structure, and number of dimensions, dtype and device of each tensor."""
    leaves, structure = pytree.tree_flatten(x)
    kinds = [
        f"{leaf.dtype} ({', '.join('N' if i == 0 else '…' for i in range(leaf.dim()))}) on {leaf.device}"
        for leaf in leaves
        if isinstance(leaf, Tensor)
    ]
    return [str(structure), *kinds]


def arguments(x: Any) -> Any:
    """Return a batch with any mapping of arguments as a dict, whose tensors can be found."""
    return dict(x) if isinstance(x, Mapping) else x


def call(model: nn.Module, x: Any) -> Any:
    """Call a model with a tensor, a tuple of arguments or a mapping of them."""
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def over_rows(x: Any, change: Any) -> Any:
    """Apply a function to the tensors of a batch that have its number of rows."""
    rows = len(first_tensor(x))
    return pytree.tree_map(
        lambda leaf: change(leaf) if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == rows else leaf, x
    )


def twice(x: Any) -> Any:
    """Return a batch of twice the rows."""
    return over_rows(x, lambda leaf: torch.cat([leaf, leaf]))


@contextlib.contextmanager
def untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run modules as they are written; leave buffers, modes and random streams as they are, and record no gradient."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    with as_written(), torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])


def trace(model: nn.Module, x: Any) -> list[Call]:
    """Call a model and list the calls of its modules, in the order of their beginnings."""
    calls: list[Call] = []
    stack: list[Call] = []
    clock = itertools.count()

    def record(path: str, own: Original, args: tuple, kwargs: dict) -> Any:
        given = shapes_of((args, kwargs))
        one = Call(path, next(clock), stack[-1] if stack else None, checkpointing(), given=given)
        calls.append(one)
        stack.append(one)
        try:
            one.result = own(*args, **kwargs)
        finally:
            stack.pop()
        one.end, one.out = next(clock), shapes_of(one.result)
        return one.result

    with intercepted(model, {path: functools.partial(record, path) for path, _ in model.named_modules()}):
        call(model, x)
    return calls


class Example:
    """The calls of a model on an example.

    Args:
        model: not compiled, not wrapped.
        x: a batch of at least two rows.

    Attributes:
        calls: of all modules, in the order of their beginnings; the first one is the model's own.
        logits: path of the linear layer that puts out the logits; "" if there is none.
        classes: how many logits a row has.
        input_dims: along which dimension each tensor of the batch holds its rows.

    Raises:
        ConfigError: another size of the batch leads to other calls, equal calls differ, or rows depend on each other.
    """

    def __init__(self, model: nn.Module, x: Any):
        self.model, x = model, arguments(x)
        if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(x)):
            raise ConfigError(f"example: {type(x).__name__} holds no tensor; give a small batch as the model takes it")
        self.x = pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, x)
        if len(self.check(x, False, "example")) < 2:
            raise ConfigError("example: one row is not enough to see where a model keeps its batch; give two or more")
        self.input_dims = batch_dims(shapes_of(self.x), shapes_of(twice(self.x)))
        with untouched(model, first_tensor(x).device):
            try:
                self.calls, more = trace(model, self.x), trace(model, twice(self.x))
            except FAULTS as error:
                raise ConfigError(
                    f"example: the model cannot take {', '.join(likeness(x)[1:])} ({type(error).__name__}: {error}); give a "
                    "small batch as the model takes it, on its device"
                ) from error
            if [c.path for c in self.calls] != [c.path for c in more]:
                raise ConfigError(
                    "model: it calls other modules for another size of the batch; this cannot be replayed"
                )
            for a, b in zip(self.calls, more, strict=True):
                a.given_dims, a.out_dims = batch_dims(a.given, b.given), batch_dims(a.out, b.out)
            self.logits = self.find_logits()
            self.prove_rows()

    def check(self, x: Any, seen: bool, name: str = "x") -> Tensor:
        """Return the first tensor of a batch, or raise :class:`ConfigError` if it has no tensor, no rows, or, unless a batch was
        seen before, a NaN; messages call it ``name``."""
        tensors = [leaf for leaf in pytree.tree_leaves(x) if isinstance(leaf, Tensor)]
        if not tensors or not tensors[0].dim() or not len(tensors[0]):
            fix = "two or more, in the first tensor" if name == "example" else "batches like the example"
            raise ConfigError(f"{name}: {', '.join(likeness(x)[1:]) or type(x).__name__} has no rows; give {fix}")
        if any(leaf.is_meta for leaf in tensors):
            raise ConfigError(f"{name}: a tensor on meta has no values; move the batch to the device of the model")
        if not seen and any(leaf.is_floating_point() and leaf.isnan().any() for leaf in tensors):
            raise ConfigError(f"{name}: it has numbers that are NaN; mend the data")
        return tensors[0]

    def explain(self, x: Any, error: BaseException) -> None:
        """Raise :class:`ConfigError` if a batch that the model could not take is unlike the example."""
        (ours, its), rows = (likeness(x), likeness(self.x)), [tuple(first_tensor(v).shape[1:]) for v in (x, self.x)]
        if ours != its or rows[0] != rows[1]:
            raise ConfigError(
                f"x: {', '.join(ours[1:])}, rows of {rows[0]}, is unlike the example ({', '.join(its[1:])}, rows of {rows[1]}), "
                f"and the model cannot take it ({type(error).__name__}: {error}); give batches like the example"
            ) from error

    def times(self, path: str) -> int:
        """Return how often a module is called."""
        return sum(call.path == path for call in self.calls)

    def find_logits(self) -> str:
        logits = logits_of(self.calls[0].result)
        found = [
            c.path for c in self.calls if c.result is logits and isinstance(self.model.get_submodule(c.path), nn.Linear)
        ]
        for one in self.calls:
            one.result = None
        return found[-1] if found and self.times(found[-1]) == 1 else ""

    def prove_rows(self) -> None:
        """Raise :class:`ConfigError` if equal calls differ, or if the logits of a row depend on the other rows."""
        self.model.eval()
        first = over_rows(self.x, lambda leaf: leaf[:1].expand_as(leaf))
        logits, again, alone = (logits_of(call(self.model, x)) for x in (self.x, self.x, first))
        rows = len(first_tensor(self.x))
        if logits.dim() != 2 or len(logits) != rows or logits.shape[1] < 2:
            raise ConfigError(
                f"model: logits of shape {tuple(logits.shape)} for {rows} rows are not allowed; "
                "put out (N, classes), two classes or more"
            )
        self.classes = logits.shape[1]
        if logits.isnan().any():
            raise ConfigError("model: logits of the example are NaN; look at its weights")
        if not torch.equal(logits, again):
            raise ConfigError(
                "model: two equal calls in evaluation mode differ; a model that keeps state between calls cannot be replayed"
            )
        if not torch.allclose(logits[0], alone[0], rtol=1e-3, atol=1e-4 * logits.abs().max().item()):
            raise ConfigError(
                "model: the logits of a row depend on the other rows in evaluation mode; virtual points would change them"
            )

    def draft(self, point: str) -> Cut:
        """Find a point among the calls.

        Raises:
            ConfigError: there is no such point, or a pass cannot be cut there.
        """
        path, given = point.removesuffix(":in"), point.endswith(":in")
        named = dict(self.model.named_modules(remove_duplicate=False))
        mine = [c for c in self.calls if path and named.get(path) is self.model.get_submodule(c.path)]
        if not mine:
            known = [p for p, _ in self.model.named_modules() if p and self.times(p) == 1]
            raise ConfigError(
                f"layers: {point!r} is no point of this model, or is not called; {suggestion(path, known)} "
                '("a.b" is what the module a.b puts out, "a.b:in" what it is given)'
            )
        if len(mine) > 1:
            raise ConfigError(
                f"layers: {path!r} is called {len(mine)} times in a pass; give a module that is called once"
            )
        (own,) = mine
        if own.checkpointed:
            raise ConfigError(
                f"layers: {point!r} lies in a checkpointed block, which runs again in the backward pass; give a point outside"
            )
        if any(c.checkpointed == "reentrant" for c in self.calls):
            raise ConfigError(
                "model: reentrant checkpoints run real modules again in the backward pass; give checkpoint(…, use_reentrant=False)"
            )
        chain = own.chain()
        outer = [c for c in self.calls if c.parent in chain and c not in chain and c is not own]
        place = own.start if given else own.end
        shapes, dims = (own.given, own.given_dims) if given else (own.out, own.out_dims)
        first = next((i for i, shape in enumerate(shapes) if shape is not None), None)
        if first is None or dims[first] != 0:
            raise ConfigError(f"layers: {point!r} has no tensor whose first dimension is the batch; give another point")
        behind = [own.path] * given + [c.path for c in outer if c.start > place]
        return Cut(
            path=own.path,
            given=given,
            before=tuple(Piece(c.path, c.out_dims) for c in outer if c.end < own.start),
            behind=tuple(dict.fromkeys(behind)),
            around=frozenset(c.path for c in chain),
            dims=dims,
            place=place + 1,
            shape=tuple(shapes[first] or ())[1:],
            recomputed=any(c.checkpointed for c in self.calls if c.start > place),
        )
