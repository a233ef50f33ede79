"""What is minimised, as one module."""

from torch import Tensor, nn

from sba.core.rng import Step
from sba.core.staged import Staged
from sba.methods import Method


class Objective(nn.Module):
    """Network, method and memory together; its forward gives the loss. Data-parallel wrappers go around this, not the network."""

    def __init__(self, network: Staged, method: Method):
        super().__init__()
        self.network = network
        self.method = method
        self.memory = method.memory(network)

    def forward(self, x: Tensor, y: Tensor, now: Step) -> dict[str, Tensor]:
        """Return the terms of the loss, which is their sum, for normalised images of shape (B, C, H, W) and labels (B,)."""
        return self.method.terms(self.network, x, y, now, self.memory)
