"""What a training begins with: data, network, objective, update. What does not fit is refused here, before the first step."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from sba.core import ranks
from sba.core.errors import ConfigError, DataError
from sba.core.rng import Step, fold_in
from sba.core.staged import Staged
from sba.core.updates import UPDATES, Terms
from sba.data.augment import Augmentation
from sba.data.datasets import Data, load
from sba.data.in_files import Stream
from sba.methods import Method
from sba.models.registry import build, to_device
from sba.training.adapted import adapted
from sba.training.compiled import compile_stages
from sba.training.machine import Machine
from sba.training.run import Run


class Objective(nn.Module):
    """Network, method and memory together; its forward gives the loss. Data-parallel wrappers go around this, not the network."""

    def __init__(self, network: Staged, method: Method):
        super().__init__()
        self.network = network
        self.method = method
        self.memory = method.memory(network)

    def forward(self, x: Tensor, y: Tensor, now: Step) -> dict[str, Tensor]:
        """Return the terms of the loss, which is their sum, for normalised images of shape (B, C, H, W) and labels (B,)."""
        return self.method.terms(self.network, x, y, now, self.memory)


def data_of(run: Run, data: Data | None, machine: Machine) -> Data:
    """Return the data of a run, loaded if they are not, and read as the run and the machine say.

    Raises:
        ConfigError: the data handed in are not what the run says, or the run does not fit them.
        DataError: they are missing or corrupted, or have a single class.
    """
    data = data or load(run.dataset, machine.data_root, machine.download, run.holdout, run.side, run.draw)
    if len(data.classes) < 2:
        raise DataError(f"dataset: {data.name!r} has only the class {', '.join(data.classes)}; give two or more")
    held_out = len(data.test) if data.evaluated_on == "holdout" else 0
    for name, found, asked, fix in (
        ("dataset", data.name, run.dataset, "load() that"),
        ("side", data.side, run.side or data.side, "load() that"),
        ("holdout", held_out, run.holdout, "load() or Data.from_arrays() that number"),
        ("draw", data.draw, run.draw, "data.drawn(run.draw)"),
    ):
        if found != asked:
            raise ConfigError(f"data: {name} is {found!r}, the run asks for {asked!r}; give {fix}, or change the run")
    if run.batch_size > len(data.train):
        raise ConfigError(f"batch_size: {run.batch_size} exceeds the {len(data.train)} training images; give fewer")
    if run.cutout > data.side:
        raise ConfigError(
            f"cutout: a square of side {run.cutout} is larger than the images of side {data.side}; give at most that"
        )
    return data.reading(run.unreadable, machine.workers)


def objective_of(run: Run, data: Data, machine: Machine, device: torch.device) -> Objective:
    """Build the network with the weights that the run's seed draws, and what it minimises; raise :class:`ConfigError` if the method
    does not fit it, or it cannot be compiled."""
    if machine.compiled and run.method.update == "sequential_stale":
        # compiled code gives up what it kept for the way back after the first time
        raise ConfigError(
            "compile: update 'sequential_stale' goes back through the stages twice, compiled ones cannot; leave one out"
        )
    with own_randomness(device):
        torch.manual_seed(fold_in(run.seed, "weights"))
        network = build(run.network, len(data.classes), data.channels, data.side, run.feature_dropout)
        run.method.check(network)
        network = to_device(network, device, run.channels_last)
        if machine.compiled:
            compile_stages(network)
        return Objective(network, run.method).to(device)


def check_views(run: Run, data: Data, network: Staged) -> None:
    """Raise :class:`ConfigError` if all views of an image would be equal. Each view of a file is another random crop."""
    if run.views == 1 or run.augmentation != Augmentation() or isinstance(data.train, Stream):
        return
    if not any(isinstance(module, _DropoutNd) for module in network.modules()):
        raise ConfigError(
            f"views: the {run.views} of an image would be equal; give padding, flip or cutout, or a network with dropout"
        )


def update_of(run: Run, objective: Objective, device: torch.device) -> tuple[nn.Module, Callable[..., Terms]]:
    """Return what computes the loss, wrapped if several processes share a batch, and what moves the weights by it."""
    update: Any = adapted if run.adapt_norm else UPDATES[run.method.update]
    if ranks.world() == 1:
        return objective, update
    model = DistributedDataParallel(objective, device_ids=[device.index] if device.type == "cuda" else None)
    if run.chunked and not run.adapt_norm:
        update = functools.partial(update, no_sync=model.no_sync)
    return model, update


def captured(run: Run, data: Data, device: torch.device, wanted: bool | None) -> bool:
    """Say whether to capture steps as CUDA graphs: if it is possible, or as ``wanted`` says unless that is None; raise
    :class:`ConfigError` if it is wanted and not possible."""
    obstacles = {
        f"needs a GPU, not the device {device.type!r}": device.type != "cuda",
        f"is for one process, not {ranks.world()}": ranks.world() > 1,
        "cannot be done for images that stay in files": isinstance(data.train, Stream),
        "cannot be done for copies that pass one after the other": run.chunked,
        f"cannot be done with update {run.method.update!r}": run.method.update != "joint",
    }
    against = [what for what, holds in obstacles.items() if holds]
    if wanted and against:
        raise ConfigError(f"graphs: capturing steps {against[0]}; leave it out")
    return wanted is not False and not against


def own_randomness(device: torch.device) -> AbstractContextManager[None]:
    """Leave torch's global generators as they were: initialisation and dropout layers draw from them, seeded at every step."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def autotuned(device: torch.device) -> Iterator[None]:
    """Let cuDNN time its kernels for a shape when it first meets it, and keep the fastest: its guess is far off for the 16
    channels of a small ResNet. Nothing happens on a processor, or if deterministic kernels are asked for."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    deterministic = cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    cudnn.benchmark = before or (device.type == "cuda" and not deterministic)
    try:
        yield
    finally:
        cudnn.benchmark = before
