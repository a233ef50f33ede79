"""How long an epoch takes on a GPU: captured steps, the same steps launched one by one, and a plain loop with a DataLoader."""

import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from sba.config import make_run
from sba.networks import build
from sba.timing import BATCH, RandomImages, Ratio, on_device, ratio
from sba.training import Training

IMAGES = 50_000
WANTED = {"resnet44": 0.5, "vgg16": 0.7, "alexnet": 0.12}
"""Seconds that an epoch of CIFAR should take at most on one H200, at batch 128."""
WORKERS = 8


def loader_epoch(images: RandomImages, network: str, device: torch.device) -> Callable[[], None]:
    """Return a function that trains for an epoch as most public code does: eager, float32, a DataLoader with pinned memory."""
    model = build(network, 10, 3, 32).to(device)
    run = make_run("cifar10", network)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, run.momentum, weight_decay=run.weight_decay)
    loader = DataLoader(
        images, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True, pin_memory=True
    )

    def epoch() -> None:
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def seconds_of(epoch: Callable[[], Any], device: torch.device) -> float:
    """Time an epoch until the device has finished it."""
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    epoch()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def epochs(network: str, rounds: int, device: torch.device, amp: str) -> list[Ratio]:
    """Compare epochs of 50,000 random images; everything that differs counts together.

    Args:
        network: trained on images of CIFAR's shape.
        rounds: epochs of each that are timed, in turns, after one that is not.
        device: a GPU.
        amp: precision of this project's epochs.

    Returns:
        The speed of a plain and of an augmented epoch over the DataLoader loop's, and the cost of SBA; seconds are in the details.
    """
    images = RandomImages(IMAGES)
    data = on_device(images).to(device)
    contestants: dict[str, Callable[[], Any]] = {"loader": loader_epoch(images, network, device)}
    kinds: list[tuple[str, dict[str, Any], bool]] = [
        ("plain", {}, True),
        ("plain, eager", {}, False),
        ("SBA", {"method": "sba"}, True),
    ]
    for name, parameters, graphs in kinds:
        run = make_run("cifar10", network, batch_size=BATCH, amp=amp, **parameters)
        training = Training(run, data, device=device, graphs=graphs)
        contestants[name] = functools.partial(training.run_epoch, math.inf)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, epoch in contestants.items():
            taken = seconds_of(epoch, device)
            if turn:
                times[name].append(taken)
    details = {f"{name} s": statistics.median(taken) for name, taken in times.items()}
    details["wanted s"] = WANTED[network]
    where = f"{network} ({amp}), an epoch on {torch.cuda.get_device_name(device)}"
    return [
        ratio(f"{where}: speed over a plain loop with {WORKERS} workers", times["loader"], times["plain"], details),
        ratio(f"{where}: SBA over plain", times["SBA"], times["plain"], details),
    ]
