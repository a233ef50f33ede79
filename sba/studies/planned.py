"""Studies: which runs belong together, as data, in an order that makes their tables useful early."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sba.core.errors import ConfigError
from sba.records.names import column
from sba.records.schema import Record, RunRecord
from sba.training.loop import Training
from sba.training.run import Run, make_run


@dataclass(frozen=True)
class Setting:
    """What is run at every seed, or at its own."""

    parameters: dict[str, Any]  #: for :func:`sba.training.run.make_run`; a seed among them stays, and no other is run
    #: what its records say that they were made for; "" if they stand among the results of the book's tables
    study: str = ""

    @functools.cached_property
    def run(self) -> Run:
        """The run at its own seed, or at seed 0."""
        return make_run(**self.parameters)

    @property
    def where(self) -> str:
        """Data set and network, as "cifar10/alexnet"."""
        return f"{self.run.dataset}/{self.run.network}"


@dataclass(frozen=True)
class Study:
    """Runs that belong together. Its functions are those of a module, so that other processes find them."""

    name: str  #: on the command line
    about: str  #: what it measures, in a line
    settings: Callable[[], Iterable[Setting]]  #: what is run, the most wanted first
    seeds: int = 5  #: how many, unless told otherwise
    last: int | None = None  #: how many epochs a record keeps, from the end; None for all
    #: what a record keeps beside the usual, from the finished training
    measure: Callable[[Training], dict[str, Any]] | None = None
    vote: bool = False  #: keep the error of the majority vote, too
    exclusive: bool = False  #: only records made for this study count, since others keep less
    #: what is run beside, as far as the records that there are decide it
    follows: Callable[[Iterable[Record]], Iterable[Setting]] | None = None
    evaluate_last: int | None = None  #: as for :class:`sba.training.machine.Machine`, unless that says otherwise


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    run: Run  #: what to do
    study: str  #: what its record says that it was made for
    reduced: bool  #: whether it was shortened, by its regime's measure or by the study's

    def counts(self, record: RunRecord, exclusive: bool) -> bool:
        """Say whether a record of the same run and data may stand for this planned run. One that is kept out of the tables never
        stands for a result of theirs, while a result of theirs may serve a study unless that is exclusive."""
        return record.study == self.study or not (record.study or exclusive)


def planned_runs(
    study: Study,
    seeds: Iterable[int],
    where: str = "",
    scale: float = 1.0,
    amp: str | None = None,
    methods: Iterable[str] | None = None,
    records: Iterable[Record] = (),
) -> list[PlannedRun]:
    """List the runs of a study, every run at one seed before any at a second; a run that stands twice comes once.

    Args:
        study: that they belong to.
        seeds: in their order.
        where: "dataset" or "dataset/network", to keep only these.
        scale: factor of the epochs of every run; below 1 all are marked as reduced.
        amp: precision of all runs; None for their own.
        methods: columns of Table 1 to keep, as "erm" or "cutout+sba"; None for all.
        records: made so far, for a study whose later runs follow from earlier ones.

    Raises:
        ConfigError: nothing is kept, or a parameter is out of range.
    """
    if not scale > 0:
        raise ConfigError(f"epochs-scale: {scale} is not allowed; give a number above 0")
    settings = [*study.settings(), *(study.follows(records) if study.follows else ())]
    kept = [s for s in settings if where in ("", s.run.dataset, s.where)]
    if not kept:
        parts = ", ".join(dict.fromkeys(s.where for s in settings))
        raise ConfigError(f"where: {where!r} is no part of the study {study.name!r}; choose from {parts}")
    if methods is not None:
        wanted, columns = set(methods), [column(s.run) for s in kept]
        if strangers := sorted(wanted.difference(columns)):
            there = ", ".join(dict.fromkeys(columns))
            raise ConfigError(
                f"methods: {strangers[0]!r} is no part of the study {study.name!r} here; choose from {there}"
            )
        kept = [s for s, one in zip(kept, columns, strict=True) if one in wanted]
    found: dict[str, PlannedRun] = {}
    given = {"amp": amp} if amp else {}
    for seed in seeds:
        for setting in kept:
            run = make_run(**scaled({"seed": seed} | setting.parameters, scale) | given)
            found.setdefault(run.key, PlannedRun(run, setting.study, run.reduced or scale < 1))
    return list(found.values())


def scaled(parameters: dict[str, Any], scale: float) -> dict[str, Any]:
    """Multiply the epochs of a run, given or the regime's, and its milestones if given."""
    if scale == 1:
        return parameters
    whole = make_run(**parameters).epochs
    changed: dict[str, Any] = {"epochs": max(1, round(scale * whole))}
    if "milestones" in parameters:
        moved = {round(m * changed["epochs"] / whole) for m in parameters["milestones"]}
        changed["milestones"] = tuple(sorted(m for m in moved if m > 0))
    return parameters | changed
