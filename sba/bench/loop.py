"""How fast this project's loop is beside a plain loop with a DataLoader: on a processor, and how long an epoch takes on a GPU, with
steps captured, compiled, or launched one by one."""

import functools
import math
import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from sba.bench.timing import BATCH, RandomImages, Ratio, on_device, ratio, rounds_of, steps_of, timed
from sba.models.registry import build
from sba.training.loop import Training
from sba.training.machine import Machine
from sba.training.run import make_run
from sba.training.setup import autotuned

PREFETCHED = 4
"""Batches that two loader workers have ready before a round begins: they are used up outside the timed part."""
STEPS, EPOCH_STEPS = 100, 390
"""Steps that are timed, and those of an epoch of CIFAR at batch 128: seconds are given for the latter."""
IMAGES = EPOCH_STEPS * BATCH
"""Images of such an epoch: the last incomplete batch is dropped."""
PROFILED = 5
"""Steps whose kernels are counted."""
WANTED = {"resnet44": 0.5, "vgg16": 0.7, "alexnet": 0.12}
"""Seconds that an epoch of CIFAR should take at most on one H200, at batch 128."""
WORKERS = 8


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


def against_compiled(network: str, rounds: int, steps: int, amp: str = "none") -> Ratio:
    """Images per second of this project's loop on a processor with compiled stages over those without; compilation is not timed."""
    data = on_device(RandomImages(BATCH * 20))
    run = make_run("cifar10", network, batch_size=BATCH, amp=amp)
    kinds = {compiled: steps_of(Training(run, data, Machine(compiled=compiled))) for compiled in (False, True)}
    for step in kinds.values():
        step()
    times = rounds_of({kind: functools.partial(timed, step, steps) for kind, step in kinds.items()}, rounds)
    details = {f"{'compiled' if kind else 'eager'} images/s": BATCH / statistics.median(s) for kind, s in times.items()}
    details |= {"threads": float(torch.get_num_threads()), "load": os.getloadavg()[0]}
    about: dict[str, Any] = {
        "family": "compiled",
        "network": network,
        "method": "erm",
        "variant": "compiled",
        "amp": amp,
    }
    return ratio(
        f"{network} ({amp}): speed of compiled stages over eager ones", times[False], times[True], details, **about
    )


def kernels_of(training: Training, device: torch.device) -> tuple[float, float]:
    """Return how many kernels a step runs on the device, and the seconds they would take in an epoch, one after the other."""
    first = training.step
    training.stop = lambda: training.step >= first + PROFILED
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        training.run_epoch(math.inf)
        torch.cuda.synchronize(device)
    training.stop = lambda: False
    events = seen.key_averages()
    microseconds = sum(event.self_device_time_total for event in events)
    return sum(event.count for event in events) / PROFILED, microseconds / 1e6 / PROFILED * EPOCH_STEPS


def epochs(network: str, rounds: int, device: torch.device, amp: str) -> list[Ratio]:
    """Compare epochs of random images of CIFAR's shape on a GPU, ours at the precision ``amp``; everything that differs counts
    together.

    Return the speed of an epoch over the DataLoader loop's, captured and compiled as well, and the cost of SBA. Seconds are in the
    details, with the number of kernels of a step and the time they take: what is missing to the epoch's is spent between them.
    """
    images = RandomImages(STEPS * BATCH)
    data = on_device(images).to(device)
    steps = plain_loop(images, network, WORKERS, device)

    def loader() -> None:
        with autotuned(device):
            for _ in range(STEPS):
                next(steps)

    contestants: dict[str, Callable[[], Any]] = {"loader": loader}
    trainings: dict[str, Training] = {}
    kinds: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("plain, eager", {}, {"graphs": False}),
        ("plain", {}, {"graphs": True}),
        ("plain, compiled", {}, {"graphs": True, "compiled": True}),
        ("SBA", {"method": "sba"}, {"graphs": True}),
    ]
    for name, parameters, options in kinds:
        run = make_run("cifar10", network, batch_size=BATCH, amp=amp, **parameters)
        trainings[name] = Training(run, data, Machine(device=str(device), **options))
        contestants[name] = functools.partial(trainings[name].run_epoch, math.inf)
    measured = {name: functools.partial(timed, epoch, 1, device) for name, epoch in contestants.items()}
    times = rounds_of(measured, rounds)
    details = {f"{name} s": statistics.median(taken) / STEPS * EPOCH_STEPS for name, taken in times.items()}
    details["wanted s"] = WANTED[network]
    for name in ("plain", "plain, compiled"):
        details[f"{name}: kernels"], details[f"{name}: kernels s"] = kernels_of(trainings[name], device)
    where = f"{network} ({amp}), an epoch on {torch.cuda.get_device_name(device)}"
    comparisons: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        (f"speed over a plain loop with {WORKERS} workers", "loader", "plain", {"method": "erm"}),
        ("speed of the compiled one over it", "plain", "plain, compiled", {"method": "erm", "variant": "compiled"}),
        ("SBA over plain", "SBA", "plain", {"method": "sba"}),
    )
    shared: dict[str, Any] = {"family": "epochs", "network": network, "amp": amp}
    return [
        ratio(f"{where}: {name}", times[top], times[bottom], details, **shared, **about)
        for name, top, bottom, about in comparisons
    ]
