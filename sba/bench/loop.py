"""How fast this project's loop is on a processor, beside a plain loop with a DataLoader."""

import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from sba.bench.timing import BATCH, RandomImages, Ratio, on_device, ratio, steps_of, timed
from sba.models.registry import build
from sba.training.loop import Training
from sba.training.run import make_run

PREFETCHED = 4
"""Batches that two loader workers have ready before a round begins: they are used up outside the timed part."""


def plain_loop(
    images: RandomImages, network: str, workers: int = 2, device: str | torch.device = "cpu"
) -> Iterator[None]:
    """Train as most public code does: eager, float32, contiguous tensors, default SGD, a DataLoader; one step at each ``next``."""
    model = build(network, 10, 3, 32).to(device)
    run = make_run("cifar10", network)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, run.momentum, weight_decay=run.weight_decay)
    pinned = torch.device(device).type == "cuda"
    loader = DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True, pin_memory=pinned
    )
    while True:
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield


def step_gflop(step: Callable[[], Any]) -> float:
    """Count the floating-point operations of the matrix products and convolutions of one step, in GFLOP."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def against_loader(network: str, rounds: int, steps: int, amp: str = "none") -> Ratio:
    """Images per second of this project's loop over the plain loop's with two DataLoader workers.

    Everything that differs counts together: memory order, the optimiser's kernel, augmentation on tensors, no loader.
    """
    images = RandomImages(BATCH * 100)
    plain = plain_loop(images, network)
    ours = steps_of(Training(make_run("cifar10", network, batch_size=BATCH, amp=amp), on_device(images)))
    gflop = step_gflop(ours)
    a = torch.randn(2048, 2048)
    slow, fast, ceiling = [], [], []
    for _ in range(rounds):
        # a large matrix product is what convolutions can be held against
        ceiling.append(2 * len(a) ** 3 / min(timed(lambda: a @ a, 1) for _ in range(6)) / 1e9)
        timed(lambda: next(plain), PREFETCHED)
        slow.append(timed(lambda: next(plain), steps))
        ours()
        fast.append(timed(ours, steps))
    details = {
        "plain images/s": BATCH / statistics.median(slow),
        "ours images/s": BATCH / statistics.median(fast),
        "plain GFLOP/s": gflop / statistics.median(slow),
        "ours GFLOP/s": gflop / statistics.median(fast),
        "matmul GFLOP/s": statistics.median(ceiling),
        "threads": float(torch.get_num_threads()),
        # a busy machine slows the loader's processes most
        "load": os.getloadavg()[0],
    }
    name = f"{network} ({amp}): speed of our loop over a plain loop with 2 workers"
    return ratio(name, slow, fast, details, family="loop", network=network, method="erm", amp=amp)
