"""The processes of a distributed run, as a method or a loop meets them; a single process is a run of one."""

from typing import Any

import torch.distributed as dist
from torch import Tensor


def joined() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return the number of this process, from 0; the first one writes what is written."""
    return dist.get_rank() if joined() else 0


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if joined() else 1


def total(part: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, equal on all of them; in place if there are several."""
    if joined():
        dist.all_reduce(part)
    return part


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
