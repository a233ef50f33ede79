"""Which operations of a step a second thread makes faster."""

import functools
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sba.bench.timing import BATCH, RandomImages, Ratio, on_device, ratio, rounds_of, steps_of
from sba.training.loop import Training
from sba.training.run import make_run

THREADS = (1, 2)
SHARE = 0.02
"""Operations that take less of a step than this are not told apart."""
WEIGHTS = {"convolution": 1, "convolution_backward": 2}
"""Operations that the shape of their weight tells apart, and where that is among the arguments."""


class Clock(TorchDispatchMode):
    """Adds up the milliseconds that the calling thread works in each operation, waiting left out."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.thread_time()
        found = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").removesuffix(".default")
        if place := WEIGHTS.get(name):
            name += f" {tuple(args[place].shape)}"
        self.taken[name] += 1e3 * (time.thread_time() - start)
        return found


def milliseconds(step: Callable[[], Any]) -> dict[str, float]:
    """Return what the calling thread works in each operation of a step."""
    with Clock() as clock:
        step()
    return dict(clock.taken)


def against_threads(network: str, rounds: int, amp: str) -> Ratio:
    """Compare a step at one thread with one at two, which take turns, on random images of CIFAR's shape.

    What is measured is the work of the calling thread, so that other work on the machine weighs less than in seconds. Give
    ``OMP_WAIT_POLICY=passive`` in the environment, or threads that wait for each other count as working. The details have each
    larger operation's median at one thread and at two, and the machine's load.
    """
    step = steps_of(
        Training(make_run("cifar10", network, batch_size=BATCH, amp=amp), on_device(RandomImages(BATCH * 20)))
    )
    before = torch.get_num_threads()

    def at(n: int) -> dict[str, float]:
        torch.set_num_threads(n)
        return milliseconds(step)

    try:
        found = rounds_of({n: functools.partial(at, n) for n in THREADS}, rounds, warm=2)
    finally:
        torch.set_num_threads(before)
    one, two = ([sum(taken.values()) for taken in found[n]] for n in THREADS)
    details = {"one thread ms": statistics.median(one), "two threads ms": statistics.median(two)}
    middle = {n: {key: statistics.median(t.get(key, 0.0) for t in found[n]) for key in found[1][0]} for n in THREADS}
    for key in sorted(middle[1], key=lambda key: -middle[1][key]):
        if middle[1][key] > SHARE * sum(middle[1].values()):
            details |= {f"{key}, {n} thread{'s' * (n > 1)} ms": middle[n][key] for n in THREADS}
    details["load"] = os.getloadavg()[0]
    about: dict[str, Any] = {"family": "threads", "network": network, "method": "erm", "amp": amp}
    return ratio(f"{network} ({amp}): a step at one thread over one at two", one, two, details, **about)
