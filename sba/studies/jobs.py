"""A planned run on its way to where it is done, what is heard of it, and what does it."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import torch

from sba.core.errors import DataError, SBAError
from sba.data.datasets import Data, DataCache
from sba.records.record import record_of, record_of_divergence
from sba.records.schema import RunRecord
from sba.studies.kept import NODE, Kept
from sba.studies.planned import PlannedRun, Study
from sba.training.loop import Diverged, Training
from sba.training.machine import Machine
from sba.training.run import Run
from sba.training.vote import check_vote, vote_error

OVER = ("found", "done", "diverged", "failed")
"""What happens last to a run in one sweep."""


@dataclass(frozen=True)
class Event:
    """What happened to a planned run."""

    #: "found" (it has a record), "started" (or taken up again), "epoch", "done", "diverged", "stopped" (with a
    #: checkpoint), "failed", or "lost" (its process died)
    kind: str
    index: int  #: in the list of planned runs, from 0
    epoch: int = 0  #: epochs done
    text: str = ""  #: what to say about it; for "started" and "epoch", the node of a cluster
    record: str = ""  #: identifier of the record, for "found", "done" and "diverged"
    seconds: float = 0.0  #: that an epoch took, evaluation included
    resumed: bool = False  #: of "started": whether the run goes on from a checkpoint, maybe in the middle of an epoch


Say = Callable[[Event], None]
Stop = Callable[[], bool]
Result = tuple[Event, RunRecord | None]


def which(run: Run) -> tuple[Any, ...]:
    """Return what names the data of a run, for :class:`sba.data.datasets.DataCache`."""
    return run.dataset, run.holdout, run.side, run.draw


@dataclass(frozen=True)
class Job:
    """A planned run on its way to where it is done; nothing beside ``planned`` and ``study`` changes what its record says."""

    index: int  #: in the list of planned runs, from 0
    planned: PlannedRun  #: the run
    study: Study  #: that it belongs to
    fingerprint: str  #: of its data
    checkpoints: str  #: where they are kept (:class:`sba.studies.kept.Kept`)
    machine: Machine  #: as for :class:`sba.training.loop.Training`
    jobs: int = 1  #: runs that share the machine; the record says so, since it decides what its seconds mean

    def do(self, data: Callable[..., Data], say: Say, stop: Stop) -> Result:
        """Do the run, from its checkpoint if there is one; return how it ended, and its record if it has one.

        ``data`` loads a data set, as :class:`sba.data.datasets.DataCache`; ``say`` is told when the run starts and when an epoch
        ends; ``stop`` is called between two steps and says whether to stop with a checkpoint.
        """
        run = self.planned.run
        try:
            found = data(*which(run))
            if found.fingerprint != self.fingerprint:
                raise DataError(
                    f"dataset: {run.dataset!r} has the fingerprint {found.fingerprint} where the run is done, and "
                    f"{self.fingerprint} where the sweep was started; make them the same"
                )
            with Kept(self.checkpoints, run.title) as kept:
                training = Training(run, found, self.machine, folder=kept.folder, stop=stop)
                return self.follow(training, kept, say)
        # memory may be short because of a neighbour: another sweep tries again
        except (SBAError, torch.OutOfMemoryError) as error:
            return Event("failed", self.index, text=str(error)), None

    def follow(self, training: Training, kept: Kept, say: Say) -> Result:
        """Do what a training lacks."""
        if self.study.vote:
            check_vote(training)
        done, since = len(training.history), time.monotonic()
        event = Event("started", self.index, done)
        say(replace(event, resumed=training.step > 0))
        try:
            for epoch in training:
                if epoch.epoch > done:
                    kept.send()
                    now = time.monotonic()
                    say(replace(event, kind="epoch", epoch=epoch.epoch, seconds=now - since))
                    since = now
        except Diverged as error:
            event = replace(event, kind="diverged", epoch=len(training.history), text=str(error))
            return event, record_of_divergence(training, str(error), self.planned.study, self.planned.reduced)
        event = replace(event, epoch=len(training.history))
        if not training.finished:
            kept.send()
            return replace(event, kind="stopped", text=f"stopped at step {training.step}"), None
        more: dict[str, Any] = {**(self.study.measure(training) if self.study.measure else {}), "jobs": self.jobs}
        if self.study.vote:
            more["error_vote"] = vote_error(training)
        record = record_of(training, self.planned.study, self.study.last, self.planned.reduced, more)
        if self.checkpoints == NODE:
            kept.forget()
        return replace(event, kind="done", text=f"{record.error:.2f} %"), record


class Lost(Exception):
    """The process that did a job died."""


class Executor:
    """What does jobs: this process, several of this machine, or a cluster."""

    slots = 1  #: how many jobs it does side by side
    ahead = 1  #: how many it takes at once
    tries = 1  #: how often it is given a job whose process dies

    def submit(self, job: Job, data: DataCache, say: Say, stop: Stop) -> "Future[Result]":
        """Take a job. One that does it at once tells ``say`` and asks ``stop``; others collect what happens for :meth:`news`."""
        raise NotImplementedError

    def result(self, future: "Future[Result]") -> Result:
        """Return what a job came to; :class:`Lost` is raised if its process died."""
        return future.result()

    def news(self) -> list[Event]:
        """Return the events that came since the last call."""
        return []

    def stop(self) -> None:
        """Let all jobs stop, with checkpoints."""

    def close(self) -> None:
        """Give back what was taken; nothing goes on afterwards."""
