"""How long the rest of a sweep will take, from the time that its epochs took so far."""

import statistics
from collections import defaultdict, deque
from collections.abc import Sequence

from sba.studies.sweep import Event
from sba.training.run import Run

RECENT = 50
"""Epochs of one kind that are remembered."""


def kinds(run: Run) -> list[tuple]:
    """Say which runs have epochs like this one's: the same work, the same network, any."""
    method = (run.method.name, getattr(run.method, "folds", 1), getattr(run.method, "layers", ()), run.views)
    return [(run.dataset, run.network, run.holdout, *method), (run.dataset, run.network), ()]


class Forecast:
    """Counts what is left and what it costs.

    Args:
        runs: all of them, in order.
        left: places of those that have no record yet.
        jobs: how many are done side by side.
    """

    def __init__(self, runs: Sequence[Run], left: Sequence[int], jobs: int):
        self.runs, self.jobs = runs, jobs
        self.epochs = {index: runs[index].epochs for index in left}
        self.begun: dict[int, float] = {}
        self.seconds: dict[tuple, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))

    def note(self, event: Event, now: float) -> None:
        """Take in what happened, at a time in seconds of any clock that goes evenly."""
        if event.kind in ("started", "epoch"):
            if event.kind == "epoch" and event.index in self.begun:
                for kind in kinds(self.runs[event.index]):
                    self.seconds[kind].append(now - self.begun[event.index])
            self.begun[event.index] = now
            self.epochs[event.index] = self.runs[event.index].epochs - event.epoch
        else:
            self.begun.pop(event.index, None)
            if event.kind != "stopped":
                self.epochs.pop(event.index, None)

    @property
    def runs_left(self) -> int:
        """The number of runs that are left, those under way among them."""
        return len(self.epochs)

    def rate(self, run: Run) -> float | None:
        """Return the median time of the latest epochs most like this run's, in seconds, evaluation included; None for none yet."""
        return next((statistics.median(self.seconds[k]) for k in kinds(run) if self.seconds[k]), None)

    @property
    def remaining(self) -> float | None:
        """The seconds that are left, None before the first epoch."""
        each = []
        for index, epochs in self.epochs.items():
            if (rate := self.rate(self.runs[index])) is None:
                return None
            each.append(epochs * rate)
        # the last run is done by one process, however many there are
        return max(sum(each) / self.jobs, *each) if each else 0.0


def spoken(seconds: float | None) -> str:
    """Write a duration as people say it."""
    if seconds is None:
        return "—"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
