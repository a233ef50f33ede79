"""The processes of a distributed run as a method meets them; a single process is a run of one."""

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
