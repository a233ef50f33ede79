"""A last layer and a batch for it."""

import itertools

import oracles
import pytest
import torch
from torch import nn

from sba import ImplicitSBA, Staged

ALWAYS = {"omega": 0.0, "eta": 1.0}
every_vicinity = pytest.mark.parametrize(
    ("scale", "bound", "rescale"),
    [*itertools.product(["batch", "running", "absolute"], ["clip", "truncate"], [True, False])],
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Scene:
    """A tiny network, h in front of its last layer, and logits; small weights, where the second order is accurate."""

    def __init__(self, width=3, scale=0.15):
        self.network = Staged([("flatten", nn.Flatten()), ("fc1", nn.Linear(width, 4))]).double()
        with torch.no_grad():
            self.network[-1].weight.copy_(scale * normal(4, width, seed=1))
            self.network[-1].bias.copy_(normal(4, seed=2))
        self.h = 1 + normal(5, width) * torch.linspace(0.5, 2, width)
        self.logits = self.network(self.h, after="flatten")

    def divergence(self, memory=None, **fields):
        return ImplicitSBA(**fields).divergence(self.network, self.h, self.logits, memory)

    def expected(self, law):
        """E D_KL(Y_i ‖ Y_ij) of each row over a law of its points."""
        weight, bias = self.network[-1].weight.tolist(), self.network[-1].bias.tolist()
        raw = self.logits.tolist()
        return [
            oracles.expectation(lambda point, z=z: oracles.divergence(z, oracles.linear(weight, bias, point)), law(h))
            for z, h in zip(raw, self.h.tolist(), strict=True)
        ]
