"""What a step needs of the host, begun a step earlier, so that a GPU need not wait for the host nor the host for the GPU.

A number that the host must know before it can launch the rest of a step is an interruption: the host waits until the device has
worked off its queue, and the device then waits for the host. But what depends on the images alone, and not on the weights, can
be had on a second stream of the device while the first one still works on the steps before. In the order of the host's launches:

    begin step t + 1 on the side stream  →  finish step t there  →  launch step t  →  begin step t + 2  →  …

To begin is to launch, never to wait. To finish is to wait for the side stream alone, which holds no step's work. Meanwhile the
default stream has a step in its queue; it waits for the side stream, and never the other way round. No thread is needed. On a
processor the order is the same, and so are the results, which are pure functions of the step.
"""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class Ahead:
    """Computations that were begun, to be finished where they are needed.

    What they read must have been on the device before the first of them is begun: the side stream waits for nothing.

    Args:
        device: where they run; on anything but a GPU there is no second stream, and they take their turn.
    """

    def __init__(self, device: torch.device):
        # a higher priority: its few small kernels must not queue behind those of a whole step
        self.stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self.begun: dict[Hashable, Callable[[], Any]] = {}

    def begin(self, key: Hashable, begin: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
        """Call ``begin(*arguments)``, which launches work and returns a function that finishes it, and keep that under a key."""
        if self.stream is not None:
            for tensor in tensors(arguments):
                tensor.record_stream(self.stream)
        with self.side():
            self.begun[key] = begin(*arguments)

    def finish(self, key: Hashable) -> Any | None:
        """Finish what was begun under a key and return its result, for use on the current stream; None where nothing was."""
        finish = self.begun.pop(key, None)
        if finish is None:
            return None
        with self.side():
            result = finish()
        if self.stream is not None:
            current = torch.cuda.current_stream(self.stream.device)
            current.wait_stream(self.stream)
            for tensor in tensors(result):
                tensor.record_stream(current)
        return result

    def forget(self) -> None:
        """Drop what was begun and will not be used."""
        self.begun.clear()

    def side(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


def tensors(value: Any) -> Iterator[Tensor]:
    """List the tensors in nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)


def to_host(parts: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Launch copies to the host, and return a function that waits for them and gives them.

    On a GPU it waits for what the current stream held when the copies were launched, and for nothing launched later.

    Args:
        parts: contiguous tensors, all on one device.
    """
    if parts[0].device.type != "cuda":
        copies = [part.cpu() for part in parts]
        return lambda: copies
    # only a copy to pinned memory leaves the host free to go on
    copies = [torch.empty_like(part, device="cpu", pin_memory=True).copy_(part, non_blocking=True) for part in parts]
    arrival = torch.cuda.current_stream(parts[0].device).record_event()

    def wait() -> list[Tensor]:
        arrival.synchronize()
        return copies

    return wait


def from_host(part: Tensor, device: torch.device) -> Tensor:
    """Return a copy on the device, where a GPU's host does not wait for it; the tensor itself where the device is the host."""
    return part.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else part.to(device)
