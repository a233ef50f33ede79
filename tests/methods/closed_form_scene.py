"""A last layer small enough for exact expectations."""

import numpy as np
import oracles
import torch
from hypothesis import strategies as st

CLASSES = 3
BOUNDS = ("clip", "truncate")
numbers = st.floats(-4, 4)
seeds = st.integers(0, 10_000)


def normal(*shape, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, **options)


class Scene:
    """A linear layer of few features, and one activation for which every expectation can be written out."""

    def __init__(self, width=2, seed=0, size=1.0):
        self.weight, self.bias = normal(CLASSES, width, seed=seed), 2 * normal(CLASSES, seed=seed + 1)
        self.h = size * normal(1, width, seed=seed + 2)
        self.logits = self.at(self.h)

    def at(self, h):
        return h @ self.weight.T + self.bias

    def virtual(self, point):
        return oracles.linear(self.weight.tolist(), self.bias.tolist(), point)

    def spread(self, law, centre):
        """E lse(z′) − lse(z_μ), exactly."""
        mean = oracles.expectation(lambda point: oracles.log_sum_exp(self.virtual(point)), law)
        return mean - oracles.log_sum_exp(centre[0].tolist())

    def divergence(self, law):
        """E D_KL(Y ‖ Y′), exactly."""
        z = self.logits[0].tolist()
        return oracles.expectation(lambda point: oracles.divergence(z, self.virtual(point)), law)

    def dropout(self, rate, rescale):
        """Logits at the mean of the vicinity, and the exact spread around them."""
        centre = self.at(self.h if rescale else (1 - rate) * self.h)
        return centre, self.spread(oracles.dropout_law(self.h[0].tolist(), rate, rescale), centre)

    def gaussian(self, sigma, tau=1.0, bound="none", units=(1.0, 1.0)):
        """The exact spread around z."""
        return self.spread(oracles.gaussian_law(self.h[0].tolist(), units, sigma, tau, bound), self.logits)


def slope(x, y):
    return np.polyfit(np.log(x), np.log(np.abs(y)), 1)[0]
