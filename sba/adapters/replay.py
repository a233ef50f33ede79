"""Any module by the protocol of :class:`sba.core.staged.Staged`: a call is recorded up to a point, and played again from there.

A point is "a.b" (what the module a.b puts out), "a.b:in" (what it is given) or "input". ``net(x, until=point)`` calls the model,
keeps what the outermost modules before the point put out, and stops there. ``net(h, after=point)`` calls the model again: those
modules hand out what was kept, the point hands out ``h``, and only what follows is computed, with the skips around the point,
masks and second inputs. If ``h`` has M·B rows, what was kept is repeated M times, in the order of the virtual points.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sba.core.errors import ConfigError

CHECKPOINT = "torch/utils/checkpoint.py"
Original = Callable[..., Any]
Handler = Callable[[Original, tuple, dict], Any]


class Reached(BaseException):
    """Carries the activation out of the model's own code; no exception that such code would catch."""

    def __init__(self, value: Tensor):
        super().__init__()
        self.value = value


@dataclass(eq=False)
class Call:
    """One call of a module in a pass: its path, when it began and ended, the call that made it, and what it met, leaf by leaf:
    shapes, and the dimension that holds the batch."""

    path: str
    start: int
    parent: "Call | None"
    checkpointed: str
    end: int = -1
    given: list[tuple[int, ...] | None] = field(default_factory=list)
    out: list[tuple[int, ...] | None] = field(default_factory=list)
    given_dims: tuple[int, ...] = ()
    out_dims: tuple[int, ...] = ()
    result: Any = None

    def chain(self) -> "list[Call]":
        """Return the calls around this one, the model's own last."""
        return [] if self.parent is None else [self.parent, *self.parent.chain()]


@dataclass(frozen=True)
class Piece:
    """One outermost call before a point: its path, along which dimension each of its tensors holds the batch (−1 for none), and
    whether anything behind the point reads what it put out."""

    path: str
    dims: tuple[int, ...]
    read: bool = True


@dataclass(frozen=True)
class Cut:
    """How a pass is cut at a point."""

    path: str  #: of the point's module
    given: bool  #: whether the point is what the module is given, and not what it puts out
    before: tuple[Piece, ...]  #: the outermost calls that end before the point, in order
    behind: tuple[str, ...]  #: paths of the outermost modules that are called after it
    around: frozenset[str]  #: paths of the modules whose call the point lies in
    dims: tuple[int, ...]  #: of the module's own output, as in :class:`Piece`
    place: int  #: where the point stands in a pass
    shape: tuple[int, ...]  #: of one activation, without the batch
    #: whether a module behind it runs again in the backward pass, inside ``torch.utils.checkpoint``
    recomputed: bool = False
    reads_input: bool = True  #: whether anything behind the point reads the model's own input

    @property
    def isolated(self) -> bool:
        """Whether what follows depends on the activation alone, so that activations of several rows may be mixed."""
        return not self.reads_input and not any(piece.read for piece in self.before)


@dataclass
class Kept:
    """What a pass up to a point leaves for later ones."""

    x: Any
    rows: int
    outputs: list[Any] = field(default_factory=list)
    own: Any = None


def first_tensor(value: Any) -> Tensor:
    """Return the first tensor of a nested value.

    Raises:
        ConfigError: there is none.
    """
    found = next((leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)), None)
    if found is None:
        raise ConfigError(f"layers: a {type(value).__name__} without a tensor cannot be augmented; give another point")
    return found


def with_first(value: Any, new: Tensor) -> Any:
    """Return a nested value whose first tensor is another one."""
    leaves, spec = pytree.tree_flatten(value)
    place = next(i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
    return pytree.tree_unflatten([*leaves[:place], new, *leaves[place + 1 :]], spec)


def repeated(value: Any, dims: Sequence[int], times: int, read: bool = True) -> Any:
    """Repeat the tensors of a nested value along the dimension of the batch; what nobody reads keeps its shape alone."""
    leaves, spec = pytree.tree_flatten(value)

    def more(leaf: Any, dim: int) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        counts = [times if d == dim else 1 for d in range(leaf.dim())]
        if not read and leaf.is_floating_point():
            return leaf.new_zeros(()).expand([n * size for n, size in zip(counts, leaf.shape, strict=True)])
        # a module behind the point may work in place
        return leaf.repeat(counts) if times > 1 and dim >= 0 else leaf.clone()

    return pytree.tree_unflatten([more(leaf, dim) for leaf, dim in zip(leaves, dims, strict=True)], spec)


def shapes_of(value: Any) -> list[tuple[int, ...] | None]:
    """List the shapes of the leaves of a nested value, None for what is no tensor."""
    return [tuple(leaf.shape) if isinstance(leaf, Tensor) else None for leaf in pytree.tree_leaves(value)]


def batch_dims(one: list[tuple[int, ...] | None], two: list[tuple[int, ...] | None]) -> tuple[int, ...]:
    """Return along which dimension each leaf holds the batch, from its shapes for a batch and for twice that batch."""

    def dim(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> int:
        return next((d for d, (m, n) in enumerate(zip(a or (), b or (), strict=False)) if n == 2 * m and m), -1)

    return tuple(dim(a, b) for a, b in zip(one, two, strict=True))


def logits_of(output: Any) -> Tensor:
    """Return the logits in what a model puts out: its "logits", an entry or an attribute, or else its only tensor.

    Raises:
        ConfigError: there is neither.
    """
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    tensors = [leaf for leaf in pytree.tree_leaves(output if named is None else named) if isinstance(leaf, Tensor)]
    if len(tensors) != 1:
        raise ConfigError(
            f"model: it puts out a {type(output).__name__} in which {len(tensors)} tensors may be the logits; put them out alone, "
            'or name them "logits"'
        )
    return tensors[0]


def checkpointing() -> str:
    """Say whether the caller runs inside ``torch.utils.checkpoint``: "reentrant", "non-reentrant", or "" if it does not."""
    frame, found = sys._getframe(1), ""
    while frame is not None:
        if frame.f_code.co_filename.replace("\\", "/").endswith(CHECKPOINT):
            found = "reentrant" if found == "reentrant" or frame.f_code.co_name == "forward" else "non-reentrant"
        frame = frame.f_back  # type: ignore[assignment]
    return found


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Keep compiled code and the fused kernel of ``nn.TransformerEncoder`` out for a while: they skip the modules inside."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextlib.contextmanager
def intercepted(model: nn.Module, handlers: Mapping[str, Handler]) -> Iterator[None]:
    """Let handlers answer the calls of modules for a while; a handler is given the module's own call, with its hooks."""
    modules = {path: model.get_submodule(path) for path in handlers}
    compiled = {path: module.__dict__.pop("_compiled_call_impl", None) for path, module in modules.items()}

    def answer(module: nn.Module, handler: Handler) -> Original:
        own = type(module)._call_impl.__get__(module)
        return lambda *args, **kwargs: handler(own, args, kwargs)

    for path, module in modules.items():
        module.__dict__["_call_impl"] = answer(module, handlers[path])
    try:
        with as_written():
            yield
    finally:
        for path, module in modules.items():
            del module.__dict__["_call_impl"]
            if compiled[path] is not None:
                module.__dict__["_compiled_call_impl"] = compiled[path]


class Pass:
    """One pass of a model that begins at a point, ends at a point, or both.

    Args:
        model: whose.
        source: where it begins, with what an earlier pass kept, and the activation of M·B rows; None for a whole beginning.
        target: where it ends; None for a whole end.
    """

    def __init__(self, model: nn.Module, source: tuple[Cut, Kept, Tensor] | None, target: Cut | None):
        self.model, self.target = model, target
        self.source, self.begun = None if source is None else source[0], source
        self.times = 1 if source is None else len(source[2]) // source[1].rows
        self.handed, self.reached, self.busy = 0, source is None, False
        self.found: list[Any] = []
        self.own: Any = None

    def run(self, call: Callable[[], Any]) -> Any:
        """Call the model; return what it puts out, or the activation at the target."""
        cuts = [cut for cut in (self.source, self.target) if cut is not None]
        paths = {path for cut in cuts for path in (cut.path, *(piece.path for piece in cut.before))}
        try:
            with intercepted(self.model, {path: functools.partial(self.answer, path) for path in paths}):
                out = call()
        except Reached as point:
            return point.value
        if self.target is not None or not self.reached:
            raise differs((self.target or cuts[0]).path)
        return out

    def answer(self, path: str, own: Original, args: tuple, kwargs: dict) -> Any:
        if self.busy:
            return own(*args, **kwargs)
        out, done = None, False
        if not self.reached and (self.source is None or path not in self.source.around):
            out, done, args, kwargs = self.hand_out(path, args, kwargs)
        target = self.target
        if target is not None and path == target.path and len(self.found) == len(target.before):
            if target.given:
                raise Reached(first_tensor((args, kwargs)))
            self.own = out if done else self.through(path, own, args, kwargs)
            raise Reached(first_tensor(self.own))
        if not done:
            out = self.through(path, own, args, kwargs)
        if target is not None and len(self.found) < len(target.before) and path == target.before[len(self.found)].path:
            self.found.append(out)
        return out

    def hand_out(self, path: str, args: tuple, kwargs: dict) -> tuple[Any, bool, tuple, dict]:
        """Answer a call before the source with what was kept, and that of the source itself with the activation."""
        assert self.begun is not None
        source, kept, h = self.begun
        if self.handed < len(source.before) and path == source.before[self.handed].path:
            piece = source.before[self.handed]
            self.handed += 1
            return repeated(kept.outputs[self.handed - 1], piece.dims, self.times, piece.read), True, args, kwargs
        if path != source.path or self.handed < len(source.before):
            raise differs(path)
        self.reached = True
        if not source.given:
            return with_first(repeated(kept.own, source.dims, self.times), h), True, args, kwargs
        args, kwargs = with_first((args, kwargs), h)
        return None, False, args, kwargs

    def through(self, path: str, own: Original, args: tuple, kwargs: dict) -> Any:
        """Let a module do its own call; unless the source lies in it, nothing in it is answered from here."""
        self.busy = self.source is None or path not in self.source.around
        try:
            return own(*args, **kwargs)
        finally:
            self.busy = False


def differs(path: str) -> ConfigError:
    return ConfigError(
        f"layers: the model called its modules in another order than on the example, at {path!r}; give a point before which "
        "its control flow is always the same"
    )
