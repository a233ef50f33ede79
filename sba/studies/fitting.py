"""How many runs side by side, with how many threads each, does a processor do fastest? A short measurement says."""

import dataclasses
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from sba.core.errors import ConfigError
from sba.training.loop import Training
from sba.training.machine import Machine
from sba.training.run import Run

WARM_STEPS = 3
"""Before these are done, nothing is timed: memory is allocated and kernels are chosen."""

together: Any = None
"""Where the processes of a measurement meet before they are timed."""


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fitting(run: Run, machine: Machine, seconds: float = 3.0) -> dict[tuple[int, int], float]:
    """Measure every way to share the processors out equally: (runs side by side, threads of each) → raw images a second of all, the
    fastest first. Raise :class:`ConfigError` if the device is no processor.

    Args:
        run: whose steps are timed.
        machine: its threads are not looked at.
        seconds: of each measurement, beside the start of its processes.
    """
    if machine.device != "cpu":
        raise ConfigError(f"jobs: auto measures processors, not the device {machine.device!r}; give a number")
    found, context = {}, multiprocessing.get_context("spawn")
    for jobs in (n for n in range(1, cores() + 1) if cores() % n == 0):
        own = dataclasses.replace(machine, threads=cores() // jobs)
        with ProcessPoolExecutor(jobs, context, meet, (context.Barrier(jobs),)) as pool:
            found[jobs, cores() // jobs] = sum(pool.map(rate, [run] * jobs, [own] * jobs, [seconds] * jobs))
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def meet(barrier: Any) -> None:
    """Prepare a process."""
    global together
    together = barrier


def rate(run: Run, machine: Machine, seconds: float) -> float:
    """Return the raw images a second of a run's steps, while the other processes do theirs; an epoch's end counts as it comes."""
    steps, start = 0, 0.0

    def stop() -> bool:
        nonlocal steps, start
        if steps == WARM_STEPS:
            together.wait()
            start = time.perf_counter()
        steps += 1
        return steps > WARM_STEPS and time.perf_counter() - start > seconds

    for _ in Training(run, machine=machine, stop=stop):
        pass
    return (steps - 1 - WARM_STEPS) * run.batch_size / (time.perf_counter() - start)
