"""Training: an iterator of epoch records. It knows no method by name."""

import dataclasses
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sba.core.errors import ConfigError, SBAError
from sba.core.hyper import definitions, suggestion
from sba.core.rng import Step, fold_in
from sba.core.updates import Terms
from sba.data.datasets import Data
from sba.data.in_files import Stream, Views
from sba.data.in_memory import Split
from sba.training import checkpoint, distributed
from sba.training.epoch import EpochRecord, Tally, tally_from
from sba.training.evaluation import Evaluation, evaluate
from sba.training.graphs import Graphs
from sba.training.machine import Machine
from sba.training.run import Run
from sba.training.setup import (
    autotuned,
    captured,
    check_views,
    data_of,
    objective_of,
    own_randomness,
    synchronise,
    update_of,
)

SAVE_SECONDS = 30.0
"""A checkpoint is written at most this often, and when a run stops or ends."""
TOP5_CLASSES = 100
"""A data set of this many classes has a top-5 error in its records, as ImageNet and its subsets have."""
AGREE_STEPS = 8
"""Several processes ask each other this often whether to stop, since they must all do it at the same step."""


class Diverged(SBAError):
    """The loss is not a finite number."""


class Training:
    """One run under way. Iterate over it for its epoch records; those done before a resume come first.

    Args:
        run: what to do.
        data: the data, if it is loaded already; else it is loaded from the machine's ``data_root``.
        machine: the device, and how this machine is used; the processor, and nothing that is not the default, if it is not given.
        folder: where checkpoints are kept; None for none. A checkpoint of the same run there is resumed.
        budget: seconds after which training stops with a checkpoint, between two steps.
        stop: called between steps; training stops likewise when it returns true.
        given: fields of :class:`sba.training.machine.Machine`, as ``device="cuda"``, in place of ``machine``; a ``device`` may be
            torch's.

    Attributes:
        network: as trained so far.
        history: the records so far.
        compiled: whether any stage is.
        finished: whether all epochs are done.

    Raises:
        ConfigError: the run does not fit the data, the network or the machine; a machine is given beside its fields, or a field is
            unknown or out of range.
        DataError: the data is missing or corrupted.
        CheckpointError: the folder holds something else.
    """

    def __init__(
        self,
        run: Run,
        data: Data | None = None,
        machine: Machine | None = None,
        *,
        folder: str | pathlib.Path | None = None,
        budget: float | None = None,
        stop: Callable[[], bool] = lambda: False,
        **given: Any,
    ):
        if strangers := [name for name in given if name not in definitions(Machine)]:
            options = [*definitions(Machine), "folder", "budget", "stop"]
            raise ConfigError(f"{strangers[0]}: train() has no such option; {suggestion(strangers[0], options)}")
        if machine and given:
            raise ConfigError(f"machine: it is given beside {', '.join(given)}; give one or the other")
        machine = machine or Machine(**given | {"device": str(given.get("device", "cpu"))})
        self.run, self.budget, self.stop = run, budget, stop
        self.evaluated_from = run.epochs - (machine.evaluate_last or run.epochs)
        self.device = machine.prepare()
        self.folder = pathlib.Path(folder) if folder is not None else None
        self.data = data_of(run, data, machine).to(self.device)
        self.supply = self.data.train.supply()
        self.steps_per_epoch = len(self.data.train) // run.batch_size
        self.objective = objective_of(run, self.data, machine, self.device)
        self.network = self.objective.network
        self.compiled = bool(self.network.through)
        # all that had a part in the run: a record that is cut from its checkpoint must not name another
        self.made = [{"device": self.device.type, "torch": str(torch.__version__)}]
        self.share = distributed.share(run.batch_size)
        run.method.check_batch(run.batch_size // distributed.world(), 1 if run.chunked else run.views)
        check_views(run, self.data, self.network)
        self.model, self.update = update_of(run, self.objective, self.device)
        capturing = captured(run, self.data, self.device, machine.graphs)
        self.graphs = Graphs(self.take_step, self.device) if capturing else None
        settings = {name: getattr(run, name) for name in ("lr", "momentum", "weight_decay", "nesterov")}
        self.optimizer = torch.optim.SGD(self.objective.parameters(), **settings, fused=True)
        self.step = 0
        self.history: list[EpochRecord] = []
        self.tally = Tally()
        self.saved_at = time.monotonic()
        self.resume()
        if self.folder:
            checkpoint.prepare(self.folder)

    @property
    def finished(self) -> bool:
        return len(self.history) == self.run.epochs

    def now(self) -> Step:
        """Return the next step."""
        total = self.run.epochs * self.steps_per_epoch
        return Step(self.run.seed, self.step, self.step // self.steps_per_epoch, self.step / total, distributed.rank())

    def __iter__(self) -> Iterator[EpochRecord]:
        deadline = time.monotonic() + (math.inf if self.budget is None else self.budget)
        yield from list(self.history)
        while not self.finished:
            if not self.run_epoch(deadline):
                self.save()
                return
            self.history.append(self.close_epoch())
            if self.finished or distributed.of_first(time.monotonic() - self.saved_at > SAVE_SECONDS):
                self.save()
            yield self.history[-1]

    def run_epoch(self, deadline: float) -> bool:
        """Do the steps that this epoch still lacks; return false if the deadline or ``stop`` came first."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(fold_in(self.run.seed, "order", epoch))
        order = torch.randperm(len(self.data.train), generator=generator).split(self.run.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = self.run.rate(epoch)
        self.objective.train()
        synchronise(self.device)
        start = time.perf_counter()
        shares = [rows[self.share] for rows in order[done : self.steps_per_epoch]]
        batches = self.supply.plan(shares, self.now(), self.run.views)
        capturing = self.graphs.running(self.run.rate(epoch)) if self.graphs else nullcontext()
        with own_randomness(self.device), autotuned(self.device), capturing:
            for rows in batches:
                if self.must_stop(deadline):
                    break
                self.run_step(rows)
        synchronise(self.device)
        self.tally.seconds += time.perf_counter() - start
        return self.step == (epoch + 1) * self.steps_per_epoch

    def must_stop(self, deadline: float) -> bool:
        """Say whether to stop before the next step; all processes give the same answer."""
        if distributed.world() == 1:
            return time.monotonic() > deadline or self.stop()
        if self.step % AGREE_STEPS:
            return False
        return any(distributed.gathered(time.monotonic() > deadline or self.stop()))

    def run_step(self, rows: Any) -> None:
        """Train on this process's share of a batch, as ``supply`` names it."""
        now = self.now()
        branch = self.run.method.branch(self.network, now) if self.graphs else None
        self.tally.add(self.graphs(rows, now, branch) if self.graphs else self.take_step(rows, now))
        self.step += 1

    def take_step(self, rows: Any, now: Step) -> Terms:
        """Move the weights by what a batch gives at a moment; return the terms of the loss."""
        batch = self.supply[rows]
        self.tally.skipped += batch.skipped
        return self.update(self.chunks(batch, now), self.optimizer)

    def chunks(self, batch: Split | Views, now: Step) -> list[Callable[[], Terms]]:
        """Return functions that compute the terms of the batch's augmented views: of all at once, or of one view each."""
        views = [dataclasses.replace(now, view=view) for view in range(self.run.views)]
        groups = [[view] for view in views] if self.run.chunked else [views]
        return [functools.partial(self.compute, batch, group) for group in groups]

    def compute(self, batch: Split | Views, views: list[Step]) -> Terms:
        """Augment a batch once for each view, and return the terms of the loss over all copies. A second call gives the same."""
        x, y = self.augmented(batch, views)
        views[0].seed_layers()
        with self.precision():
            return self.model(x, y, views[0])

    def precision(self) -> torch.autocast:
        """Let the network pass in the run's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.run.amp == "bf16")

    def augmented(self, batch: Split | Views, views: list[Step]) -> tuple[Tensor, Tensor]:
        """Return the images of all views, normalised, of shape (views·B, C, H, W), and their labels."""
        mean, std = self.data.mean, self.data.std
        copies = [self.run.augmentation(batch.view(view.view), mean, std, view) for view in views]
        x = copies[0] if len(copies) == 1 else torch.cat(copies)
        y = batch.labels if len(copies) == 1 else batch.labels.repeat(len(copies))
        if self.run.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, y

    def close_epoch(self) -> EpochRecord:
        """Evaluate, and turn what was summed up into a record."""
        terms, skipped = self.tally.means(), sum(distributed.gathered(self.tally.skipped))
        # buffers differ between ranks until the next pass: the first one's network is the one that is saved
        with self.precision(), autotuned(self.device):
            asked = distributed.rank() == 0 and len(self.history) >= self.evaluated_from
            found = distributed.of_first(evaluate(self.network, self.data) if asked else None)
        result = found or Evaluation(math.nan, math.nan, 0)
        if not all(map(math.isfinite, [*terms.values(), *([result.nll] if found else [])])):
            raise Diverged(
                f"lr: the loss is not finite in epoch {len(self.history) + 1}, step {self.step} "
                f"({terms}, test nll {result.nll}); give a lower --lr"
            )
        has_top5 = isinstance(self.data.test, Stream) or len(self.data.classes) >= TOP5_CLASSES
        record = EpochRecord(
            epoch=len(self.history) + 1,
            lr=self.run.rate(len(self.history)),
            terms=terms,
            counts=self.tally.counts,
            error=result.error,
            nll=result.nll,
            seconds=self.tally.seconds,
            images=self.steps_per_epoch * self.run.batch_size - skipped,
            error_top5=result.error_top5 if has_top5 else None,
            skipped=skipped,
            skipped_test=result.skipped,
        )
        self.tally = Tally()
        return record

    def save(self) -> None:
        """Write a checkpoint if there is a folder for it; of several processes the first one writes."""
        self.saved_at = time.monotonic()
        if self.folder is None:
            return
        summed = self.tally.state()
        if distributed.rank():
            return
        state = {
            "step": self.step,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": json.dumps([r.as_json() for r in self.history]),
            "made": self.made,
            **summed,
        }
        checkpoint.save(self.folder, self.run, self.data.fingerprint, state)

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it has one."""
        state = checkpoint.load(self.folder, self.run, self.data.fingerprint) if self.folder else None
        if state is None:
            return
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [EpochRecord(**record) for record in json.loads(state["history"])]
        self.step, self.tally = state["step"], tally_from(state, self.device)
        self.made = [*(one for one in state.get("made", []) if one not in self.made), *self.made]


def train(
    run: Run,
    data: Data | None = None,
    machine: Machine | None = None,
    *,
    folder: str | pathlib.Path | None = None,
    budget: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    **given: Any,
) -> Training:
    """Train a network: ``for record in train(run): …``. Arguments and errors are those of :class:`Training`.

    >>> from sba import make_run, train
    >>> training = train(make_run("moons", method="sba", epochs=2))
    >>> [(record.epoch, sorted(record.terms), record.counts["virtual"]) for record in training]
    [(1, ['cross_entropy', 'virtual'], 2), (2, ['cross_entropy', 'virtual'], 1)]
    """
    return Training(run, data, machine, folder=folder, budget=budget, stop=stop, **given)
