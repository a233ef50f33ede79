"""What runs on ImageNet would take, from what runs on ten of its classes took."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from sba.config import REGIMES
from sba.counts import multiply_adds
from sba.names import title
from sba.networks import NETWORKS, build
from sba.report import column
from sba.reproductions import IMAGENET_ROWS, IMAGENETTE

IMAGES = 1_281_167
"""Training images of ImageNet (Russakovsky et al., 2015, ILSVRC 2012)."""


@dataclass(frozen=True)
class Reduced:
    """A run on ten classes.

    Attributes:
        record: of the run.
    """

    record: dict[str, Any]

    @property
    def network(self) -> str:
        """Name of the network."""
        return self.record["settings"]["network"]

    @property
    def method(self) -> str:
        """Column of Table 1 that the run's method belongs to."""
        return column(self.record)

    @property
    def title(self) -> str:
        """The method with its M, as tables write it."""
        settings = self.record["settings"]
        folds = settings["views"] if self.method == "ba" else settings["method"].get("folds")
        return f"{title(self.method)}, M = {folds}" if folds else title(self.method)

    @property
    def speed(self) -> float:
        """Raw images a second, training steps alone."""
        return self.record["epochs"][-1]["images"] / self.record["seconds_per_epoch"]

    def hours(self, growth: float) -> float:
        """Return the hours of the full regime on ImageNet at this speed.

        Args:
            growth: how many times more an image of the full size asks for (:func:`growth`).
        """
        return IMAGES * REGIMES[self.network].epochs * growth / self.speed / 3600


def reduced(records: Iterable[dict[str, Any]]) -> list[Reduced]:
    """Choose the runs on ten classes, in the order of the paper's rows and columns; of several of a kind the first."""
    found: dict[tuple[str, str], Reduced] = {}
    for record in records:
        if record.get("kind") == "train" and record.get("study") == IMAGENETTE.name:
            one = Reduced(record)
            found.setdefault((one.network, one.method), one)
    order = [(network, method) for network in IMAGENET_ROWS for method in ("erm", "sba", "ba")]
    return [found[key] for key in order if key in found]


def growth(network: str, side: int) -> float:
    """Return how many times more multiply–adds an image of the network's own size takes than one of ``side`` pixels."""
    # counted, not computed
    with torch.device("meta"):
        own, small = (multiply_adds(build(network, 1000, 3, s))[0].behind for s in (NETWORKS[network].side, side))
    return own / small


def relative(found: Iterable[Reduced]) -> dict[tuple[str, str], float]:
    """Return (network, method) → time of an epoch over plain training's of the same network, where both were run."""
    seconds = {(one.network, one.method): one.record["seconds_per_epoch"] for one in found}
    return {key: taken / seconds[key[0], "erm"] for key, taken in seconds.items() if (key[0], "erm") in seconds}
