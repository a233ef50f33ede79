"""What a sweep says on the command line: its runs with their state and commands, its progress, what came of it."""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator

from sba.cli.forecast import Forecast, spoken
from sba.records.commands import command_of
from sba.records.file import check_writable
from sba.records.schema import Record
from sba.report.averages import settings
from sba.studies.catalogue import study_named
from sba.studies.executors import sweep
from sba.studies.planned import PlannedRun, planned_runs
from sba.studies.store import Store
from sba.studies.sweep import Event, Options
from sba.training.machine import HERE, Machine

QUIET_SECONDS = 60.0
"""Something is said at least this often, as long as epochs end."""


class Sweep:
    """One call of ``python -m sba sweep``; arguments are its options.

    Attributes:
        status: for the shell, after :meth:`lines`: 0 when every run has a record, 3 when some are left, 2 when some failed.
        verdict: the last thing to say.
    """

    def __init__(
        self,
        name: str,
        where: str = "",
        methods: tuple[str, ...] | None = None,
        seeds: int | None = None,
        first_seed: int = 0,
        jobs: int = 1,
        budget: float | None = None,
        epochs_scale: float = 1.0,
        amp: str | None = None,
        store: pathlib.Path = pathlib.Path("runs"),
        results: pathlib.Path | None = None,
        keep: bool = False,
        machine: Machine = HERE,
    ):
        machine.prepare()
        self.study = study_named(name)
        self.store = Store(store, name, results)
        wanted = range(first_seed, first_seed + (seeds or self.study.seeds))
        self.plan = functools.partial(
            planned_runs, self.study, wanted, where, epochs_scale, {"amp": amp} if amp else {}, methods
        )
        self.planned = self.plan(self.made)
        deadline = None if budget is None else time.monotonic() + budget
        self.options = Options(machine, deadline, keep, jobs)
        self.jobs = jobs
        self.failed: dict[int, str] = {}
        self.lost = 0
        self.status, self.verdict = 0, ""

    @property
    def made(self) -> list[Record]:
        """The records that later runs follow from."""
        return self.store.records() if self.study.follows else []

    def states(self) -> list[tuple[str, str]]:
        """Return the state of every planned run, as :meth:`sba.studies.store.Store.state` does."""
        found = []
        for planned in self.planned:
            data = self.options.data_of(planned.run)
            found.append(self.store.state(planned, data.fingerprint, self.study.exclusive))
        return found

    def listing(self) -> Iterator[str]:
        """Write every run, its state, and the command that does it alone."""
        machine = self.options.machine
        threads = machine.threads if machine.device == "cpu" else None
        for planned, (_, text) in zip(self.planned, self.states(), strict=True):
            yield f"{text}: {described(planned)}"
            yield f"    {command_of(planned.run, machine.device, threads)}" + " --vote" * self.study.vote

    def lines(self, stop: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """Do what is left to do, and say what happens.

        Raises:
            ResultsError: records could not be appended.
        """
        while left := [i for i, (state, _) in enumerate(self.states()) if state not in ("record", "diverged")]:
            check_writable(self.store.results)
            yield f"{len(left)} of {len(self.planned)} runs are left; records go to {self.store.results}"
            yield from self.progress(left, stop)
            before, self.planned = len(self.planned), self.plan(self.made)
            if len(self.planned) == before:
                break
        self.settle()

    def progress(self, left: list[int], stop: Callable[[], bool]) -> Iterator[str]:
        """Do what is left, and say what happens."""
        forecast = Forecast([planned.run for planned in self.planned], left, self.jobs)
        said = time.monotonic()
        for event in sweep(self.study, self.planned, self.store, self.options, self.jobs, stop):
            now = time.monotonic()
            if event.index >= 0:
                forecast.note(event, now)
            if event.kind == "failed":
                self.failed[event.index] = event.text
            self.lost += event.kind == "lost"
            if event.kind in ("done", "diverged", "stopped", "failed", "lost") or (
                event.kind == "epoch" and now - said > QUIET_SECONDS
            ):
                said = now
                yield f"{self.told(event)} [{forecast.runs_left} left, {spoken(forecast.remaining)}]"

    def told(self, event: Event) -> str:
        """Write what happened."""
        if event.kind == "lost":
            return f"lost: {event.text}; its run has a checkpoint"
        planned = self.planned[event.index]
        what = {"epoch": f"epoch {event.epoch} of {planned.run.epochs}", "done": f"record {event.record}: {event.text}"}
        start = what.get(event.kind, f"{event.kind} {event.record}".strip() + f": {event.text}")
        return f"{start}, {described(planned)}"

    def settle(self) -> None:
        """Look at the store again, and decide what to say and how to exit."""
        states = self.states()
        missing = [i for i, (state, _) in enumerate(states) if state not in ("record", "diverged")]
        if not missing:
            self.status, self.verdict = 0, f"all {len(self.planned)} runs have records"
            return
        under_way = sum(states[i][0] == "under way" for i in missing)
        failed = [f"{described(self.planned[i])}: {self.failed[i]}" for i in missing if i in self.failed]
        rest = f"{len(missing)} of {len(self.planned)} runs have no record"
        rest += f"; {self.lost} processes died" if self.lost else ""
        rest += f", {under_way} of them under way in another process" if under_way else ""
        self.status = 2 if failed or self.lost else 3
        self.verdict = "\n".join([*(f"error: {f}" for f in failed), f"{rest}; the same command goes on"])


def described(planned: PlannedRun) -> str:
    """Write what a planned run is: its name, and what its method is set to."""
    parts = [planned.run.title, settings(planned.run)]
    if planned.run.cutout:
        parts.append(f"Cutout {planned.run.cutout}")
    if planned.run.holdout:
        parts.append(f"{planned.run.holdout} held out")
    if planned.reduced:
        parts.append(f"reduced to {planned.run.epochs} epochs")
    return ", ".join(filter(None, parts))
