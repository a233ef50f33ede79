"""A record of the epochs that a checkpoint has done: of the whole run, or, as a reduced one, of its beginning."""

import dataclasses
import json
import pathlib
from typing import Any

import torch

from sba.core.errors import CheckpointError, ResultsError
from sba.records.record import record_of
from sba.records.schema import TrainRecord
from sba.training.checkpoint import FILE
from sba.training.loop import Training
from sba.training.machine import HERE, Machine
from sba.training.run import Run, from_settings


def run_in(folder: pathlib.Path) -> Run:
    """Return the run whose checkpoint lies in a folder; raise :class:`CheckpointError` if there is none, or it cannot be read."""
    return opened(folder)[0]


def opened(folder: pathlib.Path) -> tuple[Run, list[dict[str, str]]]:
    """Return the run of a checkpoint, and the kinds of device and versions of torch that made it, which old ones do not tell."""
    try:
        content = torch.load(folder / FILE, map_location="cpu", weights_only=True, mmap=True)
        return from_settings(json.loads(content["settings"])), content["state"].get("made", [])
    except Exception as error:
        raise CheckpointError(
            f"from: {folder / FILE} is no checkpoint ({type(error).__name__}); give its folder"
        ) from error


def cut_from(folder: pathlib.Path, machine: Machine = HERE) -> TrainRecord:
    """Record what a checkpoint has done, on the machine that did it: device and versions of the record are those of here, and a
    checkpoint of another kind of device or another torch is refused.

    The first epochs of a run are those of a shorter run with the milestones that lie in them: the record has that run's settings,
    is marked as reduced, and says in ``note`` what it was cut from.

    Raises:
        CheckpointError: there is no checkpoint to read, or it was not made here.
        ResultsError: no epoch is done, or the method depends on how long the whole run is.
    """
    run, made = opened(folder)
    here = {"device": torch.device(machine.device).type, "torch": str(torch.__version__)}
    for name, fix in (("device", "give --device {}"), ("torch", "install torch {}")):
        for other in {one[name] for one in made} - {here[name]}:
            raise CheckpointError(
                f"from: the checkpoint in {folder} was made with {name} {other}, and the record would say {here[name]}; "
                + (fix.format(other) if len(made) == 1 else "finish the run")
            )
    training = Training(run, machine=machine, folder=folder)
    done = len(training.history)
    if training.finished:
        return record_of(training)
    if not done:
        raise ResultsError(f"from: {folder} holds no epoch that is done; go on with its run first")
    if hasattr(run.method, "lambda0"):
        raise ResultsError(
            f"from: λ of {run.method.name!r} grows with the share of the whole run that is done, so {done} of {run.epochs} epochs "
            "are no shorter run; finish it"
        )
    training.run = dataclasses.replace(run, epochs=done, milestones=tuple(m for m in run.milestones if m < done))
    more: dict[str, Any] = {"note": f"the first {done} epochs of a run of {run.epochs}"}
    if training.step > done * training.steps_per_epoch:
        # the weights are those of the middle of the next epoch
        more["right"] = None
    return record_of(training, reduced=True, more=more)
