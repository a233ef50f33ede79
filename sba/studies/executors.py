"""Runs are done by this process, or by several of this machine. A cluster is in :mod:`sba.studies.cluster`."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any

from sba.data.datasets import DataCache
from sba.studies.jobs import Event, Executor, Job, Lost, Result, Say, Stop
from sba.training.machine import Machine


class Here(Executor):
    """Does each job at once, in this process."""

    def submit(self, job: Job, data: DataCache, say: Say, stop: Stop) -> "Future[Result]":
        future: Future[Result] = Future()
        future.set_result(job.do(data, say, stop))
        return future


class Pool(Executor):
    """Does jobs in so many processes of this machine. One that dies ends the others, too; new ones go on from the checkpoints."""

    tries, method = 3, "spawn"

    def __init__(self, slots: int):
        self.slots = self.ahead = slots
        self.pool: ProcessPoolExecutor | None = None

    def submit(self, job: Job, data: DataCache, say: Say, stop: Stop) -> "Future[Result]":
        # a terminal sends Ctrl-C to all processes; those that start here are told by their parent
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if self.pool is None:
                context = multiprocessing.get_context(self.method)
                self.queue, self.told = context.SimpleQueue(), context.Event()
                self.pool = ProcessPoolExecutor(self.slots, context, begin, (self.queue, self.told, job.machine))
            return self.pool.submit(do, dataclasses.replace(job, jobs=self.slots))
        except BrokenExecutor:
            self.pool = None
            return self.submit(job, data, say, stop)
        finally:
            signal.signal(signal.SIGINT, handler)

    def result(self, future: "Future[Result]") -> Result:
        try:
            return future.result()
        except BrokenExecutor as error:
            raise Lost(str(error)) from error

    def news(self) -> list[Event]:
        return [self.queue.get() for _ in iter(self.queue.empty, True)]

    def stop(self) -> None:
        self.told.set()

    def close(self) -> None:
        if self.pool:
            self.stop()
            self.pool.shutdown()


own: dict[str, Any] = {"ended": False, "busy": False}
"""What a process of a pool has: the queue of events, its data, whether it is told to stop, has to end, is at work."""


def begin(queue: Any, told: Any, machine: Machine) -> None:
    """Prepare a process of a pool: it ends, with a checkpoint, at a SIGTERM and when its parent is gone."""
    own.update(queue=queue, told=told, data=DataCache(machine.data_root, machine.download))
    signal.signal(signal.SIGTERM, end)
    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: end(wait([parent.sentinel])), daemon=True).start()


def end(*_: Any) -> None:
    """End this process: now, or when its run has stopped."""
    own["ended"] = True
    if not own["busy"]:
        os._exit(128 + signal.SIGTERM)


def do(job: Job) -> Result:
    """Do a job in a process of a pool."""
    own["busy"] = True
    result = job.do(own["data"], own["queue"].put, lambda: own["ended"] or own["told"].is_set())
    own["busy"] = False
    if own["ended"]:
        end()
    return result
