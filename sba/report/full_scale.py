"""What runs on ImageNet would take, from what runs on ten of its classes took."""

import statistics
from collections.abc import Iterable

import torch

from sba.core.errors import ConfigError
from sba.core.scheduler import probability
from sba.methods import SBA
from sba.models.flops import multiply_adds, share_behind, step_cost
from sba.models.registry import NETWORKS, build
from sba.records.names import column, title
from sba.records.schema import Record, TrainRecord
from sba.studies.paper import stated
from sba.studies.paper_runs import IMAGENET_ROWS, IMAGENETTE
from sba.training.run import REGIMES, Run

IMAGES = 1_281_167
"""Training images of ImageNet (Russakovsky et al., 2015, ILSVRC 2012)."""


def timed(records: Iterable[Record]) -> dict[str, TrainRecord]:
    """Choose for each network, in the order of the rows, its newest run of plain training on ten classes: in whatever regime, it
    tells the speed."""
    own = [r for r in records if isinstance(r, TrainRecord) and r.study == IMAGENETTE.name and column(r.run) == "erm"]
    newest = {r.run.network: r for r in sorted(own, key=lambda r: r.date)}
    return {network: newest[network] for network in IMAGENET_ROWS if network in newest}


def with_folds(run: Run) -> str:
    """Write the method of a run with its M."""
    folds = run.views if run.views > 1 else getattr(run.method, "folds", None)
    return f"{title(column(run))}, M = {folds}" if folds else title(column(run))


def speed(record: TrainRecord) -> float:
    """Return raw images a second in the fastest epoch, training steps alone: a machine that does other work is slower at times."""
    return max(epoch.images / epoch.seconds for epoch in record.epochs)


def growth(network: str, side: int) -> float:
    """Return how many times more multiply–adds an image of the network's own size takes than one of ``side`` pixels."""
    # counted, not computed
    with torch.device("meta"):
        own, small = (multiply_adds(build(network, 1000, 3, s))[0].behind for s in (NETWORKS[network].side, side))
    return own / small


def cost(network: str, method: str) -> float:
    """Return the expected cost of a step on ImageNet in plain steps, by multiply–adds of the forward pass, for "erm", "sba" with
    the defaults of Table 1's study, or "ba"; both with the paper's M. Raise :class:`ConfigError` if row or method is unknown."""
    folds = stated("imagenet", network, "sba").folds or 1
    if method not in ("erm", "sba", "ba"):
        raise ConfigError(f"method: {method!r} is not counted here; give erm, sba or ba")
    if method != "sba":
        return 1.0 if method == "erm" else float(folds)
    with torch.device("meta"):
        own = build(network, 1000, 3, NETWORKS[network].side)
        counted = {one.layer: one for one in multiply_adds(own)}
    shares = [share_behind(counted[layer], counted["input"].behind) for layer in own.linear_inputs]
    return step_cost(probability(SBA().omega), folds, statistics.mean(shares))


def hours(network: str, method: str, speed: float) -> float:
    """Return the hours of a row's full regime on ImageNet, for a method as in :func:`cost`; ``speed`` is that of plain training, in
    raw images a second at the network's own size."""
    return IMAGES * REGIMES[network].epochs * cost(network, method) / speed / 3600
