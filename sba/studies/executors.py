"""A sweep by several processes of one machine. Each does :func:`sba.studies.sweep.work` by itself; they meet in the store alone."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from sba.studies.planned import PlannedRun, Study
from sba.studies.store import Store
from sba.studies.sweep import Event, Options, work

POLL_SECONDS = 0.2


def together(
    study: Study,
    planned: Sequence[PlannedRun],
    store: Store,
    options: Options,
    jobs: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Do the runs of a study with several processes; arguments as for :func:`sba.studies.sweep.work`.

    A process that dies leaves its run to the others, which take it up from its checkpoint.

    Args:
        jobs: how many processes.

    Yields:
        What happens, as it arrives; "lost" (with index −1) if a process died.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[Any, SpawnProcess] = {}
    stopping = False
    try:
        with undisturbed():
            for job in range(jobs):
                receiver, sender = context.Pipe(duplex=False)
                arguments = (sender, os.getpid(), study, planned, store, options)
                worker = context.Process(target=serve, name=f"{study.name}-{job}", args=arguments)
                worker.start()
                sender.close()
                workers[receiver] = worker
        while workers:
            if stop() and not stopping:
                stopping = True
                for worker in workers.values():
                    worker.terminate()
            ready: list[Any] = wait(list(workers), timeout=POLL_SECONDS)
            for receiver in ready:
                try:
                    yield receiver.recv()
                # the last message of a process that was killed may have arrived in part
                except (EOFError, OSError):
                    worker = workers.pop(receiver)
                    worker.join()
                    if worker.exitcode and not (stopping and worker.exitcode == -signal.SIGTERM):
                        yield Event("lost", -1, text=f"a process ended with exit code {worker.exitcode}")
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let the processes that are started here ignore Ctrl-C, which a terminal sends to all: they are told by their parent."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def serve(
    sender: Connection, parent: int, study: Study, planned: Sequence[PlannedRun], store: Store, options: Options
) -> None:
    """Do runs until none is left, and send what happens; stop when told to, and when the parent is gone."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    options.machine.prepare()
    for event in work(study, planned, store, options, stop=lambda: bool(told) or os.getppid() != parent):
        try:
            sender.send(event)
        except BrokenPipeError:
            told.append(signal.SIGPIPE)


def sweep(
    study: Study,
    planned: Sequence[PlannedRun],
    store: Store,
    options: Options,
    jobs: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Do the runs of a study that have no record yet: here, or by several processes. Arguments as for :func:`together`."""
    if jobs == 1:
        return work(study, planned, store, options, stop)
    return together(study, planned, store, options, jobs, stop)
