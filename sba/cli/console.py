"""What a sweep says on the command line: its runs with their state and commands, its progress, what came of it."""

import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from sba.cli.forecast import Forecast
from sba.records.commands import command_of
from sba.records.file import check_writable
from sba.report.averages import settings
from sba.studies.jobs import Event, Executor, Stop
from sba.studies.planned import PlannedRun
from sba.studies.sweep import Sweep


class Told:
    """Does a sweep and tells of it.

    Args:
        task: the sweep.
        say: prints a line.

    Attributes:
        status: for the shell, after :meth:`do`: 0 when every run has a record, 3 when some are left, 2 when some failed.
        verdict: the last thing to say.
    """

    def __init__(self, task: Sweep, say: Callable[[str], None]):
        self.task, self.say = task, say

    def do(self, start: Callable[[], Executor], stop: Stop = lambda: False) -> None:
        """Do what is left to do, by the executor that ``start`` makes if any run is left, and say what happens. ``stop`` is as for
        :meth:`sba.studies.sweep.Sweep.do`; records that could not be appended raise a :class:`sba.core.errors.ResultsError`."""
        store, bar = self.task.store, "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs{postfix}"
        while left := self.task.left():
            check_writable(store.results)
            self.last: dict[int, Event] = {}
            planned, executor = self.task.planned, start()
            self.say(f"{len(left)} of {len(planned)} runs are left; records go to {store.results}")
            self.forecast, self.said = Forecast([one.run for one in planned], left, executor.slots), time.monotonic()
            try:
                with tqdm(total=sum(self.forecast.epochs.values()), disable=None, bar_format=bar) as self.bar:
                    self.task.do(executor, self.hear, stop)
            finally:
                executor.close()
            # what is planned anew is left, even if it is time to stop
            if not self.task.again() or stop():
                break
        self.settle()

    def hear(self, event: Event) -> None:
        """Take in what happened, and say it if it matters."""
        self.last[event.index] = event
        self.forecast.note(event)
        rest = f"{len(self.forecast.epochs)} left, {self.forecast}"
        self.bar.set_postfix_str(rest, refresh=False)
        self.bar.update(self.bar.total - sum(self.forecast.epochs.values()) - self.bar.n)
        # without a bar something is said every minute
        late = event.kind == "epoch" and self.bar.disable and time.monotonic() - self.said > 60
        if late or event.kind in ("done", "diverged", "stopped", "failed", "lost"):
            self.said, planned = time.monotonic(), self.task.planned[event.index]
            what = {
                "epoch": f"epoch {event.epoch} of {planned.run.epochs}",
                "done": f"record {event.record}: {event.text}",
            }
            start = what.get(event.kind, f"{event.kind} {event.record}".strip() + f": {event.text}")
            with tqdm.external_write_mode():
                self.say(f"{start}, {described(planned)} [{rest}]")

    def settle(self) -> None:
        """Look at the store again, and decide what to say and how to exit."""
        planned = self.task.planned
        if not (left := self.task.left()):
            self.status, self.verdict = 0, f"all {len(planned)} runs have records"
            return
        ends = [(one, self.last[i]) for i, one in enumerate(planned) if i in left and i in self.last]
        failed = [f"error: {described(one)}: {end.text}" for one, end in ends if end.kind in ("failed", "lost")]
        under_way = sum(state == "under way" for state, _ in self.task.states())
        theirs = f", {under_way} of them under way in another process" if under_way else ""
        rest = f"{len(left)} of {len(planned)} runs have no record{theirs}"
        self.status, self.verdict = 2 if failed else 3, "\n".join([*failed, f"{rest}; the same command goes on"])


def listed(task: Sweep) -> Iterator[str]:
    """Write every run, its state, and the command that does it alone."""
    threads = task.machine.threads if task.machine.device == "cpu" else None
    for planned, (_, text) in zip(task.planned, task.states(), strict=True):
        yield f"{text}: {described(planned)}"
        yield f"    {command_of(planned.run, task.machine.device, threads)}" + " --vote" * task.study.vote


def described(planned: PlannedRun) -> str:
    """Write what a planned run is: its name, and what its method is set to."""
    run = planned.run
    cut, held = f"Cutout {run.cutout}" * bool(run.cutout), f"{run.holdout} held out" * bool(run.holdout)
    return ", ".join(
        filter(None, [run.title, settings(run), cut, held, f"reduced to {run.epochs} epochs" * planned.reduced])
    )
