"""What an epoch gives: a record at its end, and the sums that it is made from."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sba.core.updates import Terms
from sba.training import distributed


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What one epoch gave."""

    epoch: int  #: epochs done, from 1
    lr: float  #: learning rate
    terms: dict[str, float]  #: mean of each term of the loss over the steps that had it, in nats
    counts: dict[str, int]  #: number of steps that had it. "virtual" counts the steps with λ(t) = 1
    #: misclassified test (or held-out) images in per cent, one plain pass in evaluation mode; NaN if the machine leaves
    #: this epoch's evaluation out
    error: float = math.nan
    nll: float = math.nan  #: their mean negative log-likelihood in nats; likewise
    seconds: float  #: time of the training steps alone: no evaluation, no checkpoint
    images: int  #: raw images trained on
    #: images in per cent whose label is not among the five likeliest; None if it is not reported
    error_top5: float | None = None
    skipped: int = 0  #: training images that were left out since their files could not be read
    skipped_test: int = 0  #: likewise of the images evaluated on

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them, without those that say nothing: they have their defaults."""
        default = {f.name: f.default for f in dataclasses.fields(self)}
        # NaN differs from itself
        return {k: v for k, v in dataclasses.asdict(self).items() if v == v and v != default[k]}


@dataclasses.dataclass
class Tally:
    """What this process has summed up in the epoch under way."""

    #: of each term of the loss, in nats; they stay on the device
    sums: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)  #: steps that had it
    skipped: int = 0  #: images that were left out
    seconds: float = 0.0  #: time of the steps

    def add(self, terms: Terms) -> None:
        """Add the terms of a step."""
        for name, term in terms.items():
            # a captured step writes its terms to the same place again
            self.sums[name] = self.sums[name] + term.detach() if name in self.sums else term.detach().clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the mean of each term over its steps and over all processes."""
        parts = distributed.gathered({name: total.item() / self.counts[name] for name, total in self.sums.items()})
        return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of all processes: their sums, stacked if there are several, and the rest."""
        sums = distributed.gathered({name: total.cpu() for name, total in self.sums.items()})
        return {
            "sums": sums[0] if len(sums) == 1 else {name: torch.stack([s[name] for s in sums]) for name in sums[0]},
            "counts": self.counts,
            "skipped": sum(distributed.gathered(self.skipped)),
            "seconds": self.seconds,
        }


def tally_from(state: Mapping[str, Any], device: torch.device) -> Tally:
    """Return this process's part of what :meth:`Tally.state` kept; an equal part if the number of processes has changed."""

    def own(total: Tensor) -> Tensor:
        return (total[distributed.rank()] if total.shape == (distributed.world(),) else total.mean()).to(device)

    sums = {name: own(total) for name, total in state["sums"].items()}
    skipped = state.get("skipped", 0) if distributed.rank() == 0 else 0
    return Tally(sums, dict(state["counts"]), skipped, state["seconds"])
