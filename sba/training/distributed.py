"""The processes of a run and their devices: torchrun starts them, torch's engine joins them; a single process is a run of one."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from sba.core.errors import ConfigError
from sba.core.ranks import rank, world


def share(batch_size: int) -> slice:
    """Return this rank's rows of a batch, or raise :class:`ConfigError` if the ranks cannot have equal parts."""
    if batch_size % world():
        raise ConfigError(
            f"batch_size: {batch_size} cannot be shared equally by {world()} processes; give a multiple of {world()}, or other "
            "processes"
        )
    part = batch_size // world()
    return slice(rank() * part, (rank() + 1) * part)


def gathered(value: Any) -> list[Any]:
    """Return the values of all ranks, in their order, on every rank; they travel on the host."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def of_first(value: Any) -> Any:
    """Return the first rank's value on every rank."""
    return gathered(value)[0]


@contextlib.contextmanager
def launched(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, give the device of this one, and leave them at the end; nothing happens if it
    started none. ``device`` is "cpu", or "cuda" for one card for each process of a machine; raise :class:`ConfigError` if a single
    card is named for several processes, or a machine has fewer cards than processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if torch.device(device).type == "cuda":
        if torch.device(device).index is not None:
            raise ConfigError(
                f"device: {device!r} is one card for {os.environ['WORLD_SIZE']} processes; give --device cuda"
            )
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"device: process {local} of this machine has no card ({torch.cuda.device_count()} found); "
                "give torchrun a lower --nproc-per-node"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    # decisions and records travel between hosts, gradients between cards
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
