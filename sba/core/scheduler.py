"""The stochastic batch scheduler λ(t): a Bernoulli process that decides at which iterations a batch is augmented (§3.2)."""

import math
from typing import Literal

import numpy as np

from sba.core.hyper import hyper, positional
from sba.core.rng import Step, uniform

PURPOSE = "scheduler"


def probability(omega: float) -> float:
    """p(ω) = cos ω, the probability of augmenting at an iteration (§3.2).

    Args:
        omega: angle in radians, in [0, π/2]. ω = π/2 gives exactly 0; floating point would give 6e-17.
    """
    return 0.0 if omega >= math.pi / 2 else math.cos(omega)


@positional
class Scheduler:
    """λ(t) ~ Bernoulli(cos ω), drawn anew at every iteration, or once an epoch (open point 1).

    >>> coin = Scheduler(math.pi / 3)
    >>> [coin.state(Step(seed=0, step=t)) for t in range(6)]
    [True, True, False, False, True, False]
    """

    omega: float = hyper(
        math.pi / 3, "angle of the scheduler; a step is augmented with probability cos ω", symbol="ω", unit="rad",
        source="§3.2; the experiments' value is not given", ge=0, le=math.pi / 2,
        slider=(0, math.pi / 2, math.pi / 96),
    )  # fmt: skip
    schedule: Literal["iteration", "epoch"] = hyper(
        "iteration", "how often λ is drawn", symbol="λ(t)", source="§3.2 and Algorithm 1; the opening of §3 says epoch"
    )

    def state(self, now: Step) -> bool:
        """Return λ(t). It depends on the seed and the iteration only, so all ranks agree and it can be replayed."""
        clock = now.step if self.schedule == "iteration" else now.epoch
        return uniform(now.seed, PURPOSE, clock) < probability(self.omega)

    def stream(self, seed: int, steps: int, steps_per_epoch: int = 1) -> np.ndarray:
        """Return λ(0), …, λ(steps−1) as booleans of shape (steps,), without a network.

        Args:
            seed: the seed of the run.
            steps: how many iterations.
            steps_per_epoch: iterations in an epoch; matters for ``schedule="epoch"`` only.
        """
        every = (Step(seed, step=t, epoch=t // steps_per_epoch) for t in range(steps))
        return np.fromiter((self.state(now) for now in every), dtype=bool, count=steps)
