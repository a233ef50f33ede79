"""The spread of each feature, the unit that σ is counted in where it is not absolute (open point 6)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sba.core.errors import ConfigError

MOMENTUM = 0.1
"""Share of the newest batch in the running variance; that of torch's batch normalisation."""


def batch_variance(h: Tensor) -> Tensor:
    """Return the variance of each feature over the batch, float32 or better of shape (Q,); no gradient flows through it.

    Args:
        h: activations of shape (B, …), flattened to Q features.
    """
    flat = h.detach().flatten(1)
    return (flat if flat.dtype == torch.float64 else flat.float()).var(0, correction=0)


class RunningFeatureStd(nn.Module):
    """Exponentially weighted variance of each feature of some layers, with the bias of its start corrected as in Adam.

    A layer's average moves only when that layer is augmented: a plain step stays the plain step it is.

    Args:
        widths: number of features Q of each layer by name.
    """

    def __init__(self, widths: Mapping[str, int]):
        super().__init__()
        for layer, width in widths.items():
            self.register_buffer(f"variance_{layer}", torch.zeros(width))
            self.register_buffer(f"updates_{layer}", torch.zeros(()))

    @torch.no_grad()
    def update(self, layer: str, h: Tensor) -> Tensor:
        """Take a batch in, and return the layer's spread, of shape (Q,).

        Args:
            layer: one of those given.
            h: its activations, of shape (B, …).
        """
        if f"variance_{layer}" not in self._buffers:
            known = ", ".join(name.removeprefix("variance_") for name in self._buffers if name.startswith("variance_"))
            raise ConfigError(f"layer: no running spread is kept for {layer!r}; give one of {known}")
        variance = self.get_buffer(f"variance_{layer}")
        updates = self.get_buffer(f"updates_{layer}")
        variance.lerp_(batch_variance(h).to(variance.dtype), MOMENTUM)
        updates += 1
        return (variance / (1 - (1 - MOMENTUM) ** updates)).sqrt()
