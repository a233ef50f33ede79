"""The command line, ``python -m sba VERB``. What a verb does is a function elsewhere; that of a sweep is in ``sweeping``."""

import contextlib
import dataclasses
import pathlib
import sys
import warnings
from typing import Any

import click

from sba import __version__
from sba.cli.options import PATH, hyper_options, machine_options
from sba.cli.sweeping import sweep
from sba.core.errors import SBAError
from sba.data.sources import DATASETS
from sba.methods import METHODS
from sba.records.comparison import FAMILIES
from sba.records.file import FOLDER
from sba.training.machine import Machine
from sba.training.run import Run, make_run


class Group(click.Group):
    """Prints warnings and the errors a user can mend as messages, without a place in the code; exits with status 2 for errors."""

    def invoke(self, context: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
                return super().invoke(context)
        except SBAError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(2)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """Stochastic Batch Augmentation: training, notebooks, tables, measurements."""


@main.command()
@click.option("--dataset", default="digits", help=", ".join(DATASETS) + ", or folder:PATH")
@click.option("--network", help="the data set's own by default")
@click.option("--method", default="erm", help=", ".join(METHODS))
@click.option("--preset", help="named choice of a method's options, e.g. paper for sba")
@hyper_options
@click.option("--vote", is_flag=True, help="at the end, evaluate by the majority vote of raw and virtual points, too")
@machine_options()
@click.option("--folder", type=PATH, help="checkpoints; runs/<title> by default")
@click.option("--results", type=PATH, default=pathlib.Path("runs/results.jsonl"))
@click.option("--budget", type=click.FloatRange(min=0), help="seconds; then stop with a checkpoint")
@click.option("--quiet", is_flag=True, help="no progress bar")
def train(
    machine: Machine,
    vote: bool,
    folder: pathlib.Path | None,
    results: pathlib.Path,
    budget: float | None,
    quiet: bool,
    **parameters: Any,
) -> None:
    """Train one network; resume it if its folder holds a checkpoint; append its record when it is finished.

    Under torchrun the processes share each batch.
    """
    from sba.cli.progress import stopping
    from sba.training import distributed

    run = make_run(**parameters)
    with stopping() as stop, distributed.launched(machine.device) as own:
        message, status = train_once(
            run,
            results,
            quiet or distributed.rank() > 0,
            vote,
            machine=dataclasses.replace(machine, device=own),
            folder=folder or pathlib.Path("runs") / run.title,
            budget=budget,
            stop=stop,
        )
        if distributed.rank() == 0:
            click.echo(message, err=status != 0)
        # torchrun takes any other status for a crash and would start a run anew that was to stop
        sys.exit(status if distributed.world() == 1 else 0)


def train_once(run: Run, results: pathlib.Path, quiet: bool, vote: bool = False, **options: Any) -> tuple[str, int]:
    """Train a run that has no record yet; return what to say and the exit status."""
    from sba.cli.progress import follow
    from sba.records.file import append, check_writable, made_before
    from sba.records.record import record_of
    from sba.studies.store import claimed
    from sba.training import distributed
    from sba.training.loop import Training
    from sba.training.vote import check_vote, vote_error

    check_writable(results)
    training = Training(run, **options)
    assert training.folder is not None
    if vote:
        check_vote(training)
    with claimed(training.folder) if distributed.rank() == 0 else contextlib.nullcontext() as mine:
        if not distributed.of_first(mine):
            return f"another process is at work in {training.folder}; wait for it, or give another --folder", 3
        if found := distributed.of_first(made_before(results, training, vote)):
            return f"{results} has this run already, made by the same code on the same data and machine: {found}", 0
        follow(training, quiet)
        if not training.finished:
            return f"stopped at step {training.step}; the same command goes on from {training.folder}", 3
        if distributed.rank():
            return "", 0
        record = record_of(training, more={"error_vote": vote_error(training)} if vote else {})
        append(results, record)
        error = f"error {record.error:.2f} % (median of the last five epochs)"
        return f"record {record.id} appended to {results}: {error}", 0


@main.command()
@click.option("--from", "folder", type=PATH, required=True, help="the checkpoint's folder")
@click.option("--results", type=PATH, default=pathlib.Path("runs/results.jsonl"))
@machine_options()
def record(folder: pathlib.Path, results: pathlib.Path, machine: Machine) -> None:
    """Record the epochs that a checkpoint has done, as a reduced run of so many; give it on the machine that did them."""
    from sba.records.cut import cut_from
    from sba.records.file import append

    made = cut_from(folder, machine)
    append(results, made)
    click.echo(f"record {made.id} appended to {results}: {len(made.epochs)} epochs, error {made.error:.2f} %")


@main.command()
@click.option("--source", type=PATH, default=pathlib.Path("notebooks"))
@click.option("--stage", type=PATH, default=pathlib.Path("_build/stage"))
@click.option(
    "-p", "--parameter", "parameters", type=(str, str), multiple=True, help="name and value, for every notebook"
)
@click.option("--only", multiple=True, help="names of notebooks; all if not given")
@click.option("--jobs", type=click.IntRange(1), help="notebooks side by side")
@click.option("--force", is_flag=True, help="execute what is up to date, too")
@click.option("--clean", is_flag=True, help="execute nothing; take outputs and traces of runs out of the sources")
def notebooks(
    source: pathlib.Path,
    stage: pathlib.Path,
    parameters: tuple[tuple[str, str], ...],
    only: tuple[str, ...],
    jobs: int | None,
    force: bool,
    clean: bool,
) -> None:
    """Execute the notebooks into the stage that the book is built from."""
    from sba.book.execution import execute, values
    from sba.book.hygiene import clean_files

    if clean:
        click.echo("\n".join(["cleaned:", *map(str, clean_files(source))]))
        return
    done = execute(source, stage, values(parameters), only=only, jobs=jobs, force=force)
    click.echo(f"{len(done)} notebooks executed into {stage}; the rest was up to date")


@main.command()
@click.option("--results", type=PATH, default=FOLDER, help="file or folder of records")
@click.option("--readme", type=PATH, help="write the table into this file")
@click.option("--check", is_flag=True, help="write nothing; fail if the file's table is not the generated one")
def table(results: pathlib.Path, readme: pathlib.Path | None, check: bool) -> None:
    """Print the table of results, or write it into the README with the picture and the table of ingredients."""
    from sba.records.file import read
    from sba.report.ingredients import ingredients_markdown
    from sba.report.tables import insert_table, readme_table

    records = read(results)
    if readme is None:
        click.echo(readme_table(records))
        return
    from sba.book.answer import picture_markdown, write_picture

    insert_table(readme, readme_table(records), check)
    insert_table(readme, picture_markdown(records), check, "picture")
    insert_table(readme, ingredients_markdown(records), check, "ingredients")
    if not check:
        write_picture(records, readme.parent)


@main.command()
@click.option("--results", type=PATH, help="append the record here")
@click.option("--quick", is_flag=True, help="few repetitions, to see that it runs; never recorded")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all cores if not given")
@click.option("--amp", type=click.Choice(["none", "bf16"]), default="none", help="precision of our loop")
@click.option("--device", default="cpu", help="cpu, or cuda for the time of an epoch there")
@click.option("--only", multiple=True, type=click.Choice(FAMILIES), help="all of the device by default")
def bench(
    results: pathlib.Path | None, quick: bool, threads: int | None, amp: str, device: str, only: tuple[str, ...]
) -> None:
    """Measure speeds as ratios within one process."""
    import torch

    from sba.bench.contestants import run_benchmarks
    from sba.studies.fitting import cores

    torch.set_num_threads(threads or cores())
    run_benchmarks(results, quick, amp, only, device)


main.add_command(sweep)
