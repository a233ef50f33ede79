"""What it costs to work on any model: an augmented step through ``attach`` against the same step of the chain."""

import torch

from sba.adapters.criterion import attach
from sba.bench.timing import BATCH, Ratio, in_turns
from sba.core.rng import Step
from sba.core.sba import SBA
from sba.core.updates import total
from sba.models.registry import build

POINTS = {"resnet44": (("pool", 40), ("block3_4", 4))}
"""Network → layers with the number of virtual points there: the usual layer, and one behind which much is computed."""
LIMIT = 1.1
"""What a step through ``attach`` should cost at most, in steps of the chain."""


def against_chain(network: str, rounds: int, batch: int = BATCH) -> list[Ratio]:
    """Compare forward and backward passes of augmented steps on random images of CIFAR's shape, one at a time, since such a step
    is long and a machine's load changes; a network of :data:`POINTS` is built twice with equal weights."""
    return [at_point(network, layer, folds, rounds, batch) for layer, folds in POINTS[network]]


def at_point(network: str, layer: str, folds: int, rounds: int, batch: int) -> Ratio:
    """Compare them at one layer."""
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    chain, other = (build(network, 10, 3, 32).train() for _ in range(2))
    other.load_state_dict(chain.state_dict())
    method = SBA(omega=0.0, folds=folds, layers=(layer,), basis="hadamard")
    criterion = attach(other, method, x[:2], total_steps=1)
    return in_turns(
        f"{network}: augmented step through attach over the chain's, layer {layer}, M={folds}",
        lambda: criterion(x, y).backward(),
        lambda: total(method.terms(chain, x, y, Step(0), None)).backward(),
        6 * rounds, calls=1, limit=LIMIT, family="attach", network=network, method="sba", layer=layer, folds=folds,
    )  # fmt: skip
