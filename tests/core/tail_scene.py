"""Networks with batch normalisation and dropout behind their layers."""

import pytest
import torch
from helpers import deep_network
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sba import build

READINGS = ["raw", "tracked", "untracked", "running"]
ALWAYS = {"omega": 0.0, "eta": 1.0, "folds": 3}
every_reading = pytest.mark.parametrize("batch_norm", READINGS)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(dropout=0.5):
    """Two stages of linear layer, batch normalisation and dropout, and a linear one; its averages have moved from their start."""
    torch.manual_seed(0)
    net = deep_network(side=2, classes=3).double()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    for seed in range(3):
        net(2 * normal(9, 1, 2, 2, seed=seed) + 1)
    return net.train()


def convolutional():
    torch.manual_seed(0)
    return build("digits", 3, 1, 8).double().train()


def scene(net, layer):
    """A tail and the activations that enter it."""
    side = 2 if layer == "fc1" else 8
    return net(normal(6, 1, side, side), until=layer)


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def moved(net, before):
    """Names of what is not, bit for bit, what it was."""
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def virtual_norms(net, layer="fc1"):
    return [m for m in net.behind(layer) if isinstance(m, _BatchNorm)]
