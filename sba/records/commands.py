"""From a record to the command that repeats it."""

import shlex

from sba.core.errors import ConfigError
from sba.core.hyper import definitions
from sba.data.sources import ARRAYS
from sba.records.schema import RunRecord, TrainRecord
from sba.training.run import Run, make_run

SAID = ("dataset", "network", "method", "seed", "epochs", "full_epochs")
"""Fields of a run that a command line says first, or not at all."""


def command(record: RunRecord) -> str:
    """Write the command line that repeats a run."""
    # the order of floating-point sums on a CPU depends on the threads
    threads = record.threads if record.device == "cpu" else None
    told = command_of(record.run, record.device, threads, record.processes)
    if record.compiled:
        told += " --compile"
    if isinstance(record, TrainRecord) and record.written_vote is not None:
        told += " --vote"
    return told


def command_of(run: Run, device: str = "cpu", threads: int | None = None, processes: int = 1) -> str:
    """Write the command line of a run: data set, network, method, and what differs from the defaults; raise :class:`ConfigError` if
    none can repeat it, since its images are a program's own."""
    if run.dataset.startswith(ARRAYS):
        raise ConfigError(
            f"dataset: {run.dataset!r} is a program's own, no command repeats the run; run that program again"
        )
    default = make_run(run.dataset, run.network, run.method.name, epochs=run.epochs)
    parts = ["--dataset", run.dataset, "--network", run.network, "--method", run.method.name, "--seed", str(run.seed)]
    if run.epochs != run.full_epochs:
        parts += ["--epochs", str(run.epochs)]
    for asked, usual in ((run, default), (run.method, default.method)):
        for name in definitions(type(asked)):
            value = getattr(asked, name)
            if name in SAID or value == getattr(usual, name):
                continue
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                parts.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                parts += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    machine = ["--device", device, *(["--threads", str(threads)] if threads else [])]
    start = ["python"] if processes == 1 else ["torchrun", "--nproc-per-node", str(processes)]
    return shlex.join([*start, "-m", "sba", "train", *parts, *machine])
