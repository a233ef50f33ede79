"""The step of a training, and the random streams that belong to it.

Randomness is a pure function of (seed, purpose, step, rank), as in JAX's ``fold_in``: there is no hidden generator whose state
must be carried along. The scheduler can be replayed without a network, a resumed run continues exactly, every rank of a
distributed run takes the same branch, and two methods compared at one seed see the same data in the same order.
"""

import hashlib
from dataclasses import dataclass, field

import torch

from sba.core.errors import ConfigError


def fold_in(seed: int, purpose: str, step: int = 0, rank: int = 0) -> int:
    """Map (seed, purpose, step, rank) to 64 pseudo-random bits, an integer in [0, 2**64).

    Args:
        seed: the seed of the run, any integer.
        purpose: the name of the stream ("order", "crop", "scheduler", ...). Streams of different names are independent.
        step: what counts in this stream: the iteration, or the epoch for streams drawn once an epoch.
        rank: the process, for streams that must differ between processes; 0 for those that must agree.

    A number that is no integer is a :class:`sba.core.errors.ConfigError`: 0.0 would be another stream than 0.

    >>> fold_in(0, "order", 3) == fold_in(0, "order", 3), fold_in(0, "order", 3) == fold_in(0, "crop", 3)
    (True, False)
    """
    try:
        message = f"{seed:d}\x1f{purpose}\x1f{step:d}\x1f{rank:d}".encode()
    except (TypeError, ValueError):
        raise ConfigError(f"seed, step, rank: {(seed, step, rank)} are not all integers; give integers") from None
    return int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "little")


def uniform(seed: int, purpose: str, step: int = 0, rank: int = 0) -> float:
    """Draw one number uniformly from [0, 1), straight from the 64 bits of :func:`fold_in` (53 of them are kept).

    torch's CPU generator keeps only 32 bits of its seed, so decisions that are a single number do not go through it.
    """
    return (fold_in(seed, purpose, step, rank) >> 11) / 2**53


class Source:
    """Makes the generators of steps: fresh ones, seeded with the bits of the step. Captured steps have a source of their own."""

    def generator(self, now: "Step", purpose: str, device: torch.device | str) -> torch.Generator:
        return torch.Generator(device).manual_seed(now.bits(purpose))

    def seed_layers(self, now: "Step") -> None:
        torch.manual_seed(now.bits("network"))


@dataclass(frozen=True)
class Step:
    """One iteration of one run."""

    seed: int  #: the seed of the run
    step: int = 0  #: iterations done since the start of training, from 0
    epoch: int = 0  #: epochs done, from 0
    #: fraction of the training done, in [0, 1]; None if it is not known, for methods that need none
    progress: float | None = None
    rank: int = 0  #: the process of a distributed run
    view: int = 0  #: which of a batch's several augmented copies is being worked on, from 0
    #: of the generators; no part of what makes two steps equal
    source: Source = field(default=Source(), compare=False, repr=False)

    def uniform(self, purpose: str) -> float:
        """Draw from U[0, 1) for this iteration; equal on all ranks."""
        return uniform(self.seed, purpose, self.step)

    def index(self, purpose: str, n: int) -> int:
        """Draw one of 0 … n−1 with equal probability for this iteration; equal on all ranks."""
        return int(self.uniform(purpose) * n)

    def bits(self, purpose: str) -> int:
        """Return the 64 bits that seed the tensors of this iteration; different on every rank and in every view."""
        # the first view has the stream of a batch that has no other
        return fold_in(self.seed, f"{purpose}, view {self.view}" if self.view else purpose, self.step, self.rank)

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return the generator of this iteration's tensors for a purpose, seeded with :meth:`bits`."""
        return self.source.generator(self, purpose, device)

    def seed_layers(self) -> None:
        """Seed torch's global generators, which dropout layers draw from, for this iteration."""
        self.source.seed_layers(self)
