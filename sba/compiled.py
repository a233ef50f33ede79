"""Convolutional stages compiled by torch: what follows a convolution, normalisation, ReLU and shortcut, becomes few kernels.

A step on small images is bound by memory traffic and by the number of kernels, and compilation takes from both. Stages are compiled
one by one: equal ones share their code, so that the 21 blocks of a ResNet-44 cost five compilations, and the chain can still be
entered and left anywhere. What runs seldom or in another form runs as it is written: evaluation, and the way of virtual points
through what follows their layer, where batch normalisation is handled from outside (:mod:`sba.tail`).

The function is the same; its roundings are not, and a resumed run that is compiled on another machine may differ in last digits.
"""

import contextlib
from collections.abc import Iterable

import torch
from torch import nn

from sba.staged import Staged

VARIANTS = 64
"""Kinds of stage that may be compiled in one process; torch gives up after eight, fewer than VGG-16 has."""


def compile_stages(network: Staged) -> None:
    """Compile the stages that hold a convolution, in place and for training; names of weights and the state dict stay.

    Args:
        network: on its device, in its memory order.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    # asked for later, shapes would be computed by compiled stages
    network.shapes()
    for stage in network.links.values():
        if any(isinstance(module, nn.Conv2d) for module in stage.modules()):
            stage.compile(dynamic=False)


def is_compiled(stage: nn.Module) -> bool:
    """Say whether a stage was compiled."""
    return stage._compiled_call_impl is not None


def as_written(stages: Iterable[nn.Module]) -> contextlib.AbstractContextManager:
    """Let stages run as they are written for a while, whether compiled or not."""
    if any(is_compiled(stage) for stage in stages):
        return torch.compiler.set_stance("force_eager")
    return contextlib.nullcontext()
