"""What a step costs, counted and not timed: multiply–adds of the forward pass behind each layer."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from sba.core.errors import ConfigError
from sba.core.staged import Staged
from sba.models.registry import evaluating


@dataclass(frozen=True)
class Counted:
    """A layer that may be augmented."""

    layer: str  #: its name; "input" for the images themselves
    behind: float  #: multiply–adds that one row takes from there to the logits
    width: int  #: number of features Q


def multiply_adds(network: Staged) -> list[Counted]:
    """Count what lies behind each layer of a network that knows the shape of its images, from its input on; torch counts products
    and convolutions."""
    h = torch.zeros(1, *network.shape("input"), device=next(network.parameters()).device)
    widths, flops = [], []
    with torch.no_grad(), evaluating(network):
        for layer, following in itertools.pairwise(("input", *network.stages)):
            widths.append(h[0].numel())
            with FlopCounterMode(display=False) as counter:
                h = network(h, until=following, after=layer)
            flops.append(counter.get_total_flops())
    behind = [total / 2 for total in itertools.accumulate(reversed(flops))]
    return [Counted(*one) for one in zip(("input", *network.stages), reversed(behind), widths, strict=False)]


def share_behind(layer: Counted, whole: float, basis: str = "hadamard", gaussian_share: float = 0.5) -> float:
    """Return what a virtual point costs in passes of a raw row, whose multiply–adds are ``whole``, the product with Σ included.

    The share p/M of points goes through Σ: the basis "colnorm" or "orthogonal" takes Q² for each, "hadamard" Q log₂ Q, "identity"
    nothing. For any other there is no count: :class:`ConfigError`.
    """
    q = layer.width
    through = {"colnorm": q**2, "orthogonal": q**2, "hadamard": q * math.log2(q), "identity": 0}
    if basis not in through:
        raise ConfigError(f"basis (Σ): no cost is known for {basis!r}; give one of {', '.join(through)}")
    return (layer.behind + gaussian_share * through[basis]) / whole


def step_cost(p: float, folds: int, share: float) -> float:
    """Return the expected cost of a forward pass of SBA in plain passes, 1 + p·M·share; Batch Augmentation costs M.

    ``p`` is the probability of augmenting, cos ω; ``folds`` is M; ``share`` of a virtual point is from :func:`share_behind`.

    >>> step_cost(p=0.5, folds=40, share=0.05)
    2.0
    """
    return 1 + p * folds * share
