"""The standard deviation of each feature: the unit that σ is counted in, unless it is absolute (open point 6)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sba.core.divergence import full_precision
from sba.core.errors import ConfigError

MOMENTUM = 0.1
"""Share of the newest batch in the running variance; that of torch's batch normalisation."""


def batch_variance(h: Tensor) -> Tensor:
    """Return the variance of each of Q features over activations of shape (B, …), in float32 at least, without a gradient."""
    return full_precision(h.detach().flatten(1)).var(0, correction=0)


class RunningFeatureStd(nn.Module):
    """Exponentially weighted variance of each feature of some layers, with the bias of its start corrected as in Adam.

    A layer's average moves only when that layer is augmented: a plain step stays the plain step it is.

    Args:
        widths: number of features Q of each layer by name.
    """

    def __init__(self, widths: Mapping[str, int]):
        super().__init__()
        self.layers = tuple(widths)
        for layer, width in widths.items():
            layer = layer.replace(".", "/")  # torch allows no dot in a name, and points of other models have some
            self.register_buffer(f"variance_{layer}", torch.zeros(width))
            self.register_buffer(f"updates_{layer}", torch.zeros(()))

    @torch.no_grad()
    def update(self, layer: str, h: Tensor) -> Tensor:
        """Take a layer's activations of shape (B, …) in, and return the standard deviation of each feature, of shape (Q,)."""
        if layer not in self.layers:
            raise ConfigError(f"layer: no average is kept for {layer!r}; give one of {', '.join(self.layers)}")
        variance, updates = (self.get_buffer(f"{kind}_{layer.replace('.', '/')}") for kind in ("variance", "updates"))
        variance.lerp_(batch_variance(h).to(variance.dtype), MOMENTUM)
        updates += 1
        return (variance / (1 - (1 - MOMENTUM) ** updates)).sqrt()
