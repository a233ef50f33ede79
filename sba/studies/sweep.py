"""A sweep does the runs of a study that have no record yet: in order, as many side by side as wanted, each by one process.

It keeps no plan: what is left to do is what has no record. It can therefore be stopped, killed and started again at any moment,
and several sweeps may work on one store.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sba.core.errors import SBAError
from sba.data.datasets import Data, DataCache
from sba.records.record import record_of, record_of_divergence
from sba.records.schema import RunRecord
from sba.studies.planned import PlannedRun, Study
from sba.studies.store import Store, claimed
from sba.training.loop import Diverged, Training
from sba.training.machine import HERE, Machine
from sba.training.run import Run
from sba.training.vote import check_vote, vote_error


@dataclass(frozen=True)
class Event:
    """What happened to a planned run.

    Attributes:
        kind: "found" (it has a record), "started" (or taken up again), "epoch", "done", "diverged", "stopped" (with a checkpoint),
            "failed", or "lost" (a process died).
        index: in the list of planned runs, from 0.
        epoch: epochs done.
        text: what to say about it.
        record: identifier of the record, for "found", "done" and "diverged".
    """

    kind: str
    index: int
    epoch: int = 0
    text: str = ""
    record: str = ""


@dataclass(frozen=True)
class Options:
    """How the runs of a sweep are done; nothing here changes what they are.

    Attributes:
        machine: as for :class:`sba.training.loop.Training`; its threads and workers are those of each run.
        deadline: of ``time.monotonic()``, which all processes of a machine share; None for none.
        keep: keep the checkpoints of finished runs.
        jobs: how many processes of this sweep share the machine; records say so, since it decides what their seconds mean.
    """

    machine: Machine = HERE
    deadline: float | None = None
    keep: bool = False
    jobs: int = 1

    @functools.cached_property
    def data(self) -> DataCache:
        """The data sets that the runs share."""
        return DataCache(self.machine.data_root, self.machine.download)

    def data_of(self, run: Run) -> Data:
        """Load the data of a run, once for all runs that share it."""
        return self.data(run.dataset, run.holdout, run.side, run.draw)

    @property
    def left(self) -> float | None:
        """Seconds until the deadline."""
        return None if self.deadline is None else self.deadline - time.monotonic()


def work(
    study: Study,
    planned: Sequence[PlannedRun],
    store: Store,
    options: Options,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Do the runs that have no record and that no other process is doing, until none is left or it is time to stop.

    Args:
        study: they belong to.
        planned: in order.
        store: of records and checkpoints.
        options: how to run them.
        stop: called between two steps; says whether to stop.

    Yields:
        What happens.
    """
    over: set[int] = set()
    again = True
    # a run that another process held may be free by now, if that process was killed
    while again:
        again = False
        for index, one in enumerate(planned):
            if index in over:
                continue
            if stop() or (options.left is not None and options.left <= 0):
                return
            for event in attempt(study, index, one, store, options, stop):
                again = again or event.kind in ("done", "diverged")
                if event.kind in ("found", "done", "diverged", "failed"):
                    over.add(index)
                yield event
                if event.kind == "stopped":
                    return


def attempt(
    study: Study, index: int, planned: PlannedRun, store: Store, options: Options, stop: Callable[[], bool]
) -> Iterator[Event]:
    """Do one run, from its checkpoint if there is one; nothing happens if it has a record or belongs to another process."""
    try:
        data = options.data_of(planned.run)
        if record := store.found(planned, data.fingerprint, study.exclusive):
            yield Event("found", index, planned.run.epochs, record=record.id)
            return
        with claimed(store.folder_of(planned.run)) as mine:
            # whoever held it until now may have finished it
            if mine and not store.found(planned, data.fingerprint, study.exclusive):
                yield from perform(study, index, planned, data, store, options, stop)
    # memory may be short because of a neighbour: another sweep tries again
    except (SBAError, torch.OutOfMemoryError) as error:
        yield Event("failed", index, text=str(error))


def perform(
    study: Study, index: int, planned: PlannedRun, data: Data, store: Store, options: Options, stop: Callable[[], bool]
) -> Iterator[Event]:
    """Do one run that is this process's own."""
    last = options.machine.evaluate_last or study.evaluate_last
    training = Training(
        planned.run,
        data,
        dataclasses.replace(options.machine, evaluate_last=last),
        folder=store.folder_of(planned.run),
        budget=options.left,
        stop=stop,
    )
    if study.vote:
        check_vote(training)
    yield Event("started", index, len(training.history))
    done = len(training.history)
    try:
        for epoch in training:
            if epoch.epoch > done:
                yield Event("epoch", index, epoch.epoch)
    except Diverged as error:
        lost = record_of_divergence(training, str(error), planned.study, planned.reduced)
        yield settle(store, planned, lost, options, Event("diverged", index, len(training.history), str(error)))
        return
    if not training.finished:
        yield Event("stopped", index, len(training.history), f"stopped at step {training.step}")
        return
    more: dict[str, Any] = study.measure(training) if study.measure else {}
    if study.vote:
        more["error_vote"] = vote_error(training)
    if options.jobs > 1:
        more["jobs"] = options.jobs
    record = record_of(training, planned.study, study.last, planned.reduced, more)
    yield settle(store, planned, record, options, Event("done", index, planned.run.epochs, f"{record.error:.2f} %"))


def settle(store: Store, planned: PlannedRun, record: RunRecord, options: Options, event: Event) -> Event:
    """Append a run's record, and delete its checkpoint once that is safe."""
    store.add(record)
    if not options.keep:
        store.forget(planned.run)
    return Event(event.kind, event.index, event.epoch, event.text, record.id)
