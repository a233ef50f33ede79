"""Hoffer et al.'s adaptation of the gradient of several views (``--adapt-grad-norm`` in their code)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from sba.core.updates import Chunks, Terms, take_in, total


def adapted(chunks: Chunks, optimizer: Optimizer) -> Terms:
    """Do one step on the sum, with its gradient scaled to the mean length of the chunks' own gradients.

    The mean of several views' gradients is shorter than one view's, as far as they disagree. The optimiser's weight decay is no
    part of these lengths. One more gradient is kept than in :func:`sba.core.updates.joint`, and several processes exchange that of
    every chunk.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sums: list[Tensor | None] = [None] * len(parameters)
    means: Terms = {}
    lengths = []
    for compute in chunks:
        optimizer.zero_grad(set_to_none=True)
        terms = compute()
        total(terms).backward()
        lengths.append(length([p.grad for p in parameters]))
        for i, parameter in enumerate(parameters):
            if parameter.grad is not None:
                sums[i] = parameter.grad if sums[i] is None else sums[i] + parameter.grad
        take_in(means, terms, len(chunks))
    # a sum of 0 has no direction: it stays 0
    scale = torch.stack(lengths).mean() / length(sums).clamp_min(torch.finfo(lengths[0].dtype).tiny)
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = None if gradient is None else gradient * scale.to(gradient.dtype)
    optimizer.step()
    return means


def length(gradients: Sequence[Tensor | None]) -> Tensor:
    """Return the Euclidean norm of all gradients together, as a scalar on their device; None counts as 0."""
    return torch.nn.utils.get_total_norm([g for g in gradients if g is not None])
