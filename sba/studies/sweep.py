"""A sweep does the runs of a study that have no record yet, in order, each once, wherever an executor does them.

It keeps no plan: what is left to do is what has no record. It can therefore be stopped, killed and started again at any moment,
and several sweeps may work on one store.
"""

import functools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace

from sba.core.errors import SBAError
from sba.data.datasets import DataCache
from sba.records.file import append
from sba.studies.jobs import Event, Executor, Job, Lost, Result, Say, Stop, which
from sba.studies.kept import Kept
from sba.studies.planned import PlannedRun, Study
from sba.studies.store import Store, claimed
from sba.training.machine import HERE, Machine

POLL_SECONDS = 0.2


@dataclass
class Sweep:
    """The runs of a study, and where they are done and kept."""

    study: Study  #: they belong to
    planned: Sequence[PlannedRun]  #: in order
    store: Store  #: of records and checkpoints
    machine: Machine = HERE  #: of each run
    keep: bool = False  #: keep the checkpoints of finished runs
    #: lists the runs anew, for a study whose later runs follow from records
    plan: Callable[[], Sequence[PlannedRun]] | None = None

    @functools.cached_property
    def data(self) -> DataCache:
        """The data sets that the runs share."""
        return DataCache(self.machine.data_root, self.machine.download)

    def fingerprint(self, index: int) -> str:
        """Return the fingerprint of a run's data."""
        return self.data(*which(self.planned[index].run)).fingerprint

    def states(self) -> list[tuple[str, str]]:
        """Return the state of every planned run, as :meth:`sba.studies.store.Store.state` does."""
        each = enumerate(self.planned)
        return [self.store.state(one, self.fingerprint(index), self.study.exclusive) for index, one in each]

    def left(self) -> list[int]:
        """Return the places of the runs without a record."""
        return [i for i, (state, _) in enumerate(self.states()) if state not in ("record", "diverged")]

    def again(self) -> bool:
        """Plan anew; say whether runs came to those that were planned."""
        before = len(self.planned)
        self.planned = self.plan() if self.plan else self.planned
        return len(self.planned) > before

    def do(self, executor: Executor, say: Say = lambda event: None, stop: Stop = lambda: False) -> None:
        """Do the runs that have no record and that no other process is doing, until none is left or it is time to stop.

        ``say`` is told what happens; ``stop`` is called often and says whether to stop, with checkpoints.
        """
        waiting, held, tried = deque(range(len(self.planned))), list[int](), Counter[int]()
        flying: dict[Future[Result], tuple[Job, ExitStack]] = {}
        told = fruit = False
        while True:
            while waiting and len(flying) < executor.ahead and not stop():
                index = waiting.popleft()
                with ExitStack() as claim:
                    begun = self.begin(index, claim)
                    if isinstance(begun, Job):
                        tried[index] += 1
                        flying[executor.submit(begun, self.data, say, stop)] = begun, claim.pop_all()
                    elif begun is None:
                        held.append(index)
                    else:
                        say(begun)
            if not flying:
                # a run that another process held may be free by now, if that process was killed
                if not (held and fruit) or stop():
                    return
                waiting, held, fruit = deque(held), [], False
                continue
            if stop() and not told:
                told = True
                executor.stop()
            done, _ = wait(flying, POLL_SECONDS, FIRST_COMPLETED)
            for event in executor.news():
                say(event)
            for future in done:
                job, claim = flying.pop(future)
                with claim:
                    event = self.landed(executor, future, job)
                fruit = fruit or event.kind in ("done", "diverged")
                if event.kind == "lost" and tried[job.index] < executor.tries:
                    waiting.appendleft(job.index)
                # told to stop, a process may end before it says so
                if not (event.kind == "lost" and stop()):
                    say(event)

    def begin(self, index: int, claim: ExitStack) -> Job | Event | None:
        """Claim a run; return what is to be done, or what is known about it; None if it belongs to another process."""
        one = self.planned[index]
        try:
            fingerprint = self.fingerprint(index)
            if record := self.store.found(one, fingerprint, self.study.exclusive):
                return Event("found", index, one.run.epochs, record=record.id)
            if not claim.enter_context(claimed(self.store.folder_of(one.run))):
                return None
            # whoever held it until now may have finished it
            if record := self.store.found(one, fingerprint, self.study.exclusive):
                return Event("found", index, one.run.epochs, record=record.id)
            machine = replace(self.machine, evaluate_last=self.machine.evaluate_last or self.study.evaluate_last)
            return Job(index, one, self.study, fingerprint, self.store.checkpoints, machine)
        except SBAError as error:
            return Event("failed", index, text=str(error))

    def landed(self, executor: Executor, future: "Future[Result]", job: Job) -> Event:
        """Append the record of a run that is over, and delete its checkpoint once that is safe; return what to say."""
        try:
            event, record = executor.result(future)
        except Lost as error:
            return Event("lost", job.index, text=f"{error}")
        try:
            if record:
                append(self.store.results, record)
                event = replace(event, record=record.id)
                if not self.keep:
                    Kept(self.store.checkpoints, record.run.title).forget()
        except SBAError as error:
            return Event("failed", job.index, text=f"{error}")
        return event
