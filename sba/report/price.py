"""What a study costs on cards, from what runs took on one and from counted multiply–adds, and how many cards it can use."""

import functools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from sba.core.errors import ConfigError, DataError
from sba.core.scheduler import probability
from sba.core.staged import Staged
from sba.models.flops import Counted, multiply_adds, share_behind, step_cost
from sba.models.registry import NETWORKS, build, count_parameters
from sba.records.schema import Record, TrainRecord
from sba.report.full_scale import IMAGES
from sba.training.run import Run

SIZES = {"cifar10": (50_000, 10), "cifar100": (50_000, 100), "imagenet": (IMAGES, 1000)}
"""Data set → training images and classes (Krizhevsky, 2009; Russakovsky et al., 2015)."""


@dataclass(frozen=True)
class Speed:
    """What a card does."""

    images: float  #: raw images a second of plain training, of all runs that share the card
    rate: float  #: multiply–adds of their forward passes, a second
    record: str  #: identifier of the record that says so


@functools.cache
def counted(network: str, classes: int) -> tuple[Staged, dict[str, Counted]]:
    """Return a network without weights, and what lies behind each of its layers."""
    with torch.device("meta"):
        built = build(network, classes, 3, NETWORKS[network].side)
        return built, {one.layer: one for one in multiply_adds(built)}


def size(run: Run) -> tuple[int, int]:
    """Return how many images an epoch of a run has, and how many classes.

    Raises:
        ConfigError: the data set is none of :data:`SIZES`.
    """
    if run.dataset not in SIZES:
        raise ConfigError(f"dataset: the cost of {run.dataset!r} is not counted; give one of {', '.join(SIZES)}")
    images, classes = SIZES[run.dataset]
    return images - run.holdout, classes


def steps(run: Run) -> float:
    """Return the expected cost of a step of a run in plain steps, by multiply–adds of the forward pass.

    Mixing, pairing and class covariances count nothing: no benchmark of the book finds them above a few per cent.
    """
    folds = getattr(run.method, "folds", 0)
    if not folds:
        return float(run.views)
    network, layers = counted(run.network, size(run)[1])
    at = getattr(run.method, "layers", ()) or network.linear_inputs
    basis = getattr(run.method, "basis", "identity")
    share = statistics.mean(share_behind(layers[k], layers["input"].behind, basis) for k in at)
    p = probability(run.method.omega) if hasattr(run.method, "omega") else 1.0
    return run.views * step_cost(p, folds, share)


def speeds(records: Iterable[Record], device: str) -> dict[str, Speed]:
    """Return the fastest that a card did with each network; runs that shared it count together.

    Args:
        records: of any studies.
        device: its maker's name for it.

    Raises:
        DataError: no run on such a card has a record.
    """
    found: dict[str, Speed] = {}
    for one in records:
        if (
            isinstance(one, TrainRecord)
            and one.device_name == device
            and one.run.dataset in SIZES
            and one.processes == 1
        ):
            images = size(one.run)[0] * (one.jobs or 1) * steps(one.run) / one.seconds_per_epoch
            _, layers = counted(one.run.network, size(one.run)[1])
            speed = Speed(images, images * layers["input"].behind, one.id)
            found[one.run.network] = max(speed, found.get(one.run.network, speed), key=lambda s: s.images)
    if not found:
        raise DataError(f"records: no run on {device!r} has one; name another device")
    return found


def hours(run: Run, measured: dict[str, Speed]) -> float:
    """Return the hours of a card that a run takes; a network that was not measured runs at the best rate of those that were."""
    images, classes = size(run)
    if run.network in measured:
        speed = measured[run.network].images
    else:
        speed = max(one.rate for one in measured.values()) / counted(run.network, classes)[1]["input"].behind
    return images * run.epochs * steps(run) / speed / 3600


def checkpoint_bytes(run: Run) -> int:
    """Return the size of a run's checkpoint: its weights and their momentum, four bytes each."""
    return 2 * 4 * count_parameters(counted(run.network, size(run)[1])[0])
