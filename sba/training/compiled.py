"""Convolutional stages compiled by torch: what follows a convolution, normalisation, ReLU and shortcut, becomes few kernels.

Stages are compiled one by one. Equal ones share their code, so that the 21 blocks of a ResNet-44 cost five compilations, and the
chain can still be entered and left anywhere. Two things run as they are written: evaluation, whose batches have another shape, and
the pass of virtual points, whose batch normalisation is handled from outside (:mod:`sba.core.tail`).

The function is the same, but not its roundings: a resumed run that is compiled on another machine may differ in its last digits.
"""

import importlib.util
import os
import shutil
import sys

import torch
from torch import Tensor, nn

from sba.core.errors import ConfigError
from sba.core.staged import Staged

VARIANTS = 64
"""Kinds of stage that may be compiled in one process. Torch's own limit is eight, and VGG-16 has more."""


def passed(stage: nn.Module, x: Tensor) -> Tensor:
    """Pass a tensor through a stage. This function is what gets compiled: torch does not compile a container of its own."""
    return stage(x)


def check(device: torch.device) -> None:
    """Raise :class:`ConfigError` if torch lacks its compiler: one for C++ on a processor, Triton on a GPU."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(
            f"compile: there is no C++ compiler {compiler!r}; install it, name one in CXX, or leave it out"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError("compile: the package triton, which torch compiles with for a GPU, is missing; leave it out")


def compile_stages(network: Staged) -> None:
    """Compile the stages of a network, on its device and in its memory order, that hold a convolution; its modules, their names and
    its state dict stay as they are. Raise :class:`ConfigError` if torch lacks its compiler.
    """
    import torch._dynamo

    stages = [s for s in network.links.values() if any(isinstance(module, nn.Conv2d) for module in s.modules())]
    if not stages:
        return
    check(next(network.parameters()).device)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    network.through = dict.fromkeys(stages, torch.compile(passed, dynamic=False))
