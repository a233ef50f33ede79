"""How long the rest of a sweep will take, from the time that its epochs took so far."""

import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from tqdm import tqdm

from sba.studies.jobs import OVER, Event
from sba.studies.schedule import makespan
from sba.training.run import Run


def kinds(run: Run) -> list[tuple]:
    """Say which runs have epochs like this one's: the same work, the same network, any."""
    method = (run.method.name, getattr(run.method, "folds", 1), getattr(run.method, "layers", ()), run.views)
    return [(run.dataset, run.network, run.holdout, *method), (run.dataset, run.network), ()]


class Forecast:
    """Counts what is left and what it costs; as text, the time that is left.

    Args:
        runs: all of them, in order.
        left: places of those that have no record yet.
        slots: how many are done side by side.
    """

    def __init__(self, runs: Sequence[Run], left: Iterable[int], slots: int):
        self.runs, self.slots = runs, slots
        #: place of each run that is left → epochs that it lacks
        self.epochs = {index: runs[index].epochs for index in left}
        self.seconds: dict[tuple, deque[float]] = defaultdict(lambda: deque(maxlen=50))
        #: places of runs taken up again, whose next epoch may be the rest of one
        self.resumed: set[int] = set()

    def note(self, event: Event) -> None:
        """Take in what happened."""
        if event.kind == "started":
            (self.resumed.add if event.resumed else self.resumed.discard)(event.index)
        elif event.kind == "epoch" and event.index in self.resumed:
            self.resumed.remove(event.index)
        elif event.kind == "epoch":
            for kind in kinds(self.runs[event.index]):
                self.seconds[kind].append(event.seconds)
        if event.kind in OVER:
            self.epochs.pop(event.index, None)
        # news may come late
        elif event.index in self.epochs:
            self.epochs[event.index] = self.runs[event.index].epochs - event.epoch

    @property
    def remaining(self) -> float | None:
        """The seconds that are left, None before the first whole epoch: the median time of the latest epochs most like a run's."""
        if not self.seconds[()]:
            return None
        of = {i: next(self.seconds[k] for k in kinds(self.runs[i]) if self.seconds[k]) for i in self.epochs}
        return makespan((epochs * statistics.median(of[i]) for i, epochs in self.epochs.items()), self.slots)

    def __str__(self) -> str:
        return "—" if (seconds := self.remaining) is None else tqdm.format_interval(seconds)
