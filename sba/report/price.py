"""What runs would take, from what others took on a card or a processor and from counted multiply–adds."""

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
from sba.records.names import column, title
from sba.records.schema import Record, TrainRecord
from sba.studies.paper_runs import IMAGENET_ROWS, IMAGENETTE
from sba.training.run import Run

IMAGES = 1_281_167
"""Training images of ImageNet (Russakovsky et al., 2015, ILSVRC 2012)."""
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
    """Return how many images an epoch of a run has, and how many classes; raise :class:`ConfigError` if the data set is none of
    :data:`SIZES`."""
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
    """Return the fastest that a card, by its maker's name, did with each network; runs that shared it count together. Raise
    :class:`DataError` if no run on such a card has a record."""
    found: dict[str, Speed] = {}
    for one in (r for r in records if isinstance(r, TrainRecord)):
        if one.device_name == device and one.run.dataset in SIZES and one.processes == 1:
            images = size(one.run)[0] * (one.jobs or 1) * steps(one.run) / one.seconds_per_epoch
            _, layers = counted(one.run.network, size(one.run)[1])
            speed = Speed(images, images * layers["input"].behind, one.id)
            found[one.run.network] = max(speed, found.get(one.run.network, speed), key=lambda s: s.images)
    if not found:
        raise DataError(f"records: no run on {device!r} has one; name another device")
    return found


def hours(run: Run, measured: dict[str, Speed]) -> float:
    """Return the hours of a card that a run takes; a network that was not measured runs at the best rate of those that were."""
    if run.network in measured:
        return hours_at(run, measured[run.network].images)
    best = max(one.rate for one in measured.values())
    return hours_at(run, best / counted(run.network, size(run)[1])[1]["input"].behind)


def hours_at(run: Run, speed: float) -> float:
    """Return the hours that a run takes where plain training of its network passes ``speed`` raw images a second."""
    return size(run)[0] * run.epochs * steps(run) / speed / 3600


def checkpoint_bytes(run: Run) -> int:
    """Return the size of a run's checkpoint: its weights and their momentum, four bytes each."""
    return 2 * 4 * count_parameters(counted(run.network, size(run)[1])[0])


def newest_plain(records: Iterable[Record]) -> dict[str, TrainRecord]:
    """Choose for each network, in the order of the rows, its newest run of plain training on ten classes, in whatever regime."""
    own = [r for r in records if isinstance(r, TrainRecord) and r.study == IMAGENETTE.name and column(r.run) == "erm"]
    newest = {r.run.network: r for r in sorted(own, key=lambda r: r.date)}
    return {network: newest[network] for network in IMAGENET_ROWS if network in newest}


def with_folds(run: Run) -> str:
    """Write the method of a run with its M."""
    folds = run.views if run.views > 1 else getattr(run.method, "folds", None)
    return f"{title(column(run))}, M = {folds}" if folds else title(column(run))


def images_per_second(record: TrainRecord) -> float:
    """Return raw images a second in the fastest epoch, training steps alone: a machine that does other work is slower at times."""
    return max(epoch.images / epoch.seconds for epoch in record.epochs)


def growth(network: str, side: int) -> float:
    """Return how many times more multiply–adds an image of the network's own size takes than one of ``side`` pixels."""
    # counted, not computed
    with torch.device("meta"):
        own, small = (multiply_adds(build(network, 1000, 3, s))[0].behind for s in (NETWORKS[network].side, side))
    return own / small
