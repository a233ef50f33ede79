"""How long runs take side by side: a schedule that hands each run, in order, to the slot that is free first."""

import heapq
from collections.abc import Iterable


def makespan(seconds: Iterable[float], slots: int) -> float:
    """Return when the last run is over, if runs that take so many seconds each are handed out to slots in this order."""
    free = [0.0] * slots
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def idle_share(seconds: Iterable[float], slots: int) -> float:
    """Return the share of the slots' time, until the last run is over, in which they have nothing to do; 0 for no runs."""
    seconds = list(seconds)
    whole = slots * makespan(seconds, slots)
    return 1 - sum(seconds) / whole if whole else 0.0
