"""``python -m sba sweep``: its options, and the sweep that they ask for."""

import dataclasses
import math
import pathlib
import sys
import time
from typing import Any

import click

from sba.cli.options import PATH, Auto, Comma, machine_options
from sba.core.errors import ConfigError
from sba.training.machine import Machine


@click.command()
@click.argument("name")
@click.option("--where", default="", help="only this data set, or data set and network, as cifar10/alexnet")
@click.option("--methods", type=Comma(str), help="only these columns of Table 1, as erm,cutout,cutout+sba")
@click.option("--seeds", type=click.IntRange(1), help="how many; the study's own number by default")
@click.option("--first-seed", type=click.IntRange(0), default=0, help="to share the work between machines")
@click.option(
    "--jobs", type=Auto(True), default=1, help="processes side by side; auto measures how many, and --threads"
)
@click.option("--budget", type=click.FloatRange(min=0), help="seconds; then stop with checkpoints")
@click.option(
    "--epochs-scale", "scale", type=float, default=1.0, help="factor of all epochs; below 1 all runs are reduced"
)
@click.option("--amp", type=click.Choice(["none", "bf16"]), help="precision of all runs")
@machine_options(threads=1)
@click.option("--store", type=PATH, default=pathlib.Path("runs"), help="folder")
@click.option("--results", type=PATH, help="file to append to; one of its own in the store by default")
@click.option("--ray", "address", help="do the runs on a Ray cluster: auto, local, or ray://HOST:PORT")
@click.option("--cpus-per-run", "cpus", type=click.FloatRange(0, min_open=True), help="[ray] its threads by default")
@click.option("--gpus-per-run", "gpus", type=click.FloatRange(min=0), help="[ray] 0.25 packs 4 on a card")
@click.option("--checkpoints", help="folder or URL of fsspec, or node to lose them with it; the store by default")
@click.option("--keep", is_flag=True, help="leave the checkpoints of finished runs in the store")
@click.option("--list", "--dry-run", "listing", is_flag=True, help="do nothing; print each run, its state, its command")
@click.option("--quiet", is_flag=True, help="print no line for each run")
def sweep(
    name: str,
    seeds: int | None,
    first_seed: int,
    jobs: Any,
    budget: float | None,
    machine: Machine,
    store: pathlib.Path,
    results: pathlib.Path | None,
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    checkpoints: str | None,
    keep: bool,
    listing: bool,
    quiet: bool,
    **which: Any,
) -> None:
    """Do the runs of a study that have no record yet, and append their records.

    NAME is table1-cifar, fig2, fig3, vgg-baseline, table1-imagenet, imagenette, omega-eta, switches, switches-subsets,
    robustness, small-data or full-size. Stopped by the budget or Ctrl-C, or killed, the same command goes on where it was.
    Records count wherever they were made: in the store, in the file of results, in book/results. The exit status is 0 when
    every run has a record, 3 when some are left, 2 when some failed.
    """
    from sba.cli.console import Told, listed
    from sba.cli.progress import stopping
    from sba.records.file import read
    from sba.studies.catalogue import study_named
    from sba.studies.cluster import Ray
    from sba.studies.executors import Here, Pool
    from sba.studies.fitting import fitting
    from sba.studies.planned import PlannedRun, planned_runs
    from sba.studies.store import Store
    from sba.studies.sweep import Executor, Sweep

    deadline = time.monotonic() + (math.inf if budget is None else budget)
    if address is None:
        machine.prepare()
        if strangers := [flag for flag, given in (("cpus-per-run", cpus), ("gpus-per-run", gpus)) if given is not None]:
            raise ConfigError(f"{strangers[0]}: it is for --ray; give that, or leave it out")
    elif jobs != 1:
        raise ConfigError("jobs: Ray decides how many runs are done side by side; give --cpus-per-run")
    study = study_named(name)
    own = Store(store, name, results, checkpoints=checkpoints)
    wanted = range(first_seed, first_seed + (seeds or study.seeds))

    def plan() -> list[PlannedRun]:
        return planned_runs(study, wanted, records=read(own.files()) if study.follows else (), **which)

    task = Sweep(study, plan(), own, machine, keep, plan)
    if listing:
        click.echo("\n".join(listed(task)))
        return
    told = Told(task, (lambda line: None) if quiet else click.echo)

    def start() -> Executor:
        if address:
            return Ray(address, task, cpus, gpus)
        side_by_side = jobs
        if jobs == "auto":
            found = fitting(task.planned[task.left()[0]].run, machine)
            (side_by_side, threads), *_ = found
            task.machine = dataclasses.replace(machine, threads=threads)
            told.say("; ".join(f"{n} x {t} threads: {speed:,.0f} images/s" for (n, t), speed in found.items()))
        return Here() if side_by_side == 1 else Pool(side_by_side)

    with stopping() as stop:
        told.do(start, lambda: stop() or time.monotonic() >= deadline)
    click.echo(told.verdict, err=told.status != 0)
    sys.exit(told.status)
