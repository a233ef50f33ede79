"""From the terms of a loss to a step of the optimiser: Eq. 11's one step, or Algorithm 1's two (open point 17).

The loss of a step may be cut into chunks, whose mean it is: functions that compute the terms of one chunk each.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sba.core.errors import ConfigError
from sba.core.ranks import world

Terms = dict[str, Tensor]
Chunks = Sequence[Callable[[], Terms]]
FIRST = "cross_entropy"
"""The term of Algorithm 1's first update, I₁; the rest is its second."""


def total(terms: Terms) -> Tensor:
    """Return the sum of the terms."""
    return torch.stack(list(terms.values())).sum() if len(terms) > 1 else next(iter(terms.values()))


def descend(loss: Tensor, optimizer: Optimizer) -> None:
    """Do one step down a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def halves(terms: Terms) -> tuple[Terms, Terms]:
    """Split the terms into those of the first and of the second update; a half may be empty."""
    return {k: v for k, v in terms.items() if k == FIRST}, {k: v for k, v in terms.items() if k != FIRST}


def joint(chunks: Chunks, optimizer: Optimizer, no_sync: Callable[[], Any] = contextlib.nullcontext) -> Terms:
    """Do one step on the sum: Eq. 11. Of several chunks, whose gradients add up, only one graph is held at a time.

    In ``no_sync`` of a data-parallel wrapper gradients stay in their process: the last chunk's pass sends their sum.
    """
    optimizer.zero_grad(set_to_none=True)
    means: Terms = {}
    for i, compute in enumerate(chunks, start=1):
        with no_sync() if i < len(chunks) else contextlib.nullcontext():
            terms = compute()
            (total(terms) / len(chunks)).backward()
        take_in(means, terms, len(chunks))
    optimizer.step()
    return means


def take_in(means: Terms, terms: Terms, chunks: int) -> None:
    """Add a chunk's share of the mean terms to what others gave."""
    for name, term in terms.items():
        means[name] = means.get(name, 0) + term.detach() / chunks


def sequential(chunks: Chunks, optimizer: Optimizer, fresh: bool) -> Terms:
    """Do Algorithm 1's two updates, the second with its gradient at the old weights, or with one at those the first update left.

    The old gradient equals :func:`joint` in gradient descent without momentum and weight decay. With momentum μ older gradients
    decay by μ² at such a step, and weight decay acts twice on every parameter that the second term reaches. Processes that share a
    batch are refused with a :class:`ConfigError`. A fresh gradient costs a whole pass, with the draws of the first, whose raw rows
    running averages see twice: those of batch normalisation and of the unit of σ.
    """
    (compute,) = chunks
    terms = compute()
    first, second = halves(terms)
    if not first or not second:
        descend(total(terms), optimizer)
        return terms
    if fresh:
        descend(total(first), optimizer)
        second = halves(compute())[1]
        descend(total(second), optimizer)
        return first | second
    if world() > 1:
        # a data-parallel wrapper averages the gradients of one backward pass for each forward pass
        raise ConfigError("update: 'sequential_stale' cannot be shared by processes; give joint or sequential_fresh")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad(set_to_none=True)
    # .backward() and not autograd.grad(): it gives gradients their parameters' memory order, which fused optimisers rely on
    total(second).backward(retain_graph=True)
    stale = [parameter.grad for parameter in parameters]
    descend(total(first), optimizer)
    for parameter, gradient in zip(parameters, stale, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return terms


UPDATES: dict[str, Callable[[Chunks, Optimizer], Terms]] = {
    "joint": joint,
    "sequential_stale": functools.partial(sequential, fresh=False),
    "sequential_fresh": functools.partial(sequential, fresh=True),
}
"""Name → function that computes the terms of a step, moves the weights, and returns the terms. Two updates need a single chunk."""
