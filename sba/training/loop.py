"""Training: an iterator of epoch records. It knows no method by name."""

import dataclasses
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from sba.core import ranks
from sba.core.errors import ConfigError, SBAError
from sba.core.rng import Step, fold_in
from sba.core.updates import UPDATES, Terms, adapted
from sba.data.augment import Augmentation
from sba.data.datasets import Data, load
from sba.data.in_files import Stream, Views
from sba.data.in_memory import Split
from sba.models.registry import build, to_device
from sba.training import checkpoint, distributed
from sba.training.compiled import compile_stages
from sba.training.evaluation import evaluate
from sba.training.graphs import Graphs
from sba.training.machine import HERE, Machine, machine_of
from sba.training.objective import Objective
from sba.training.run import Run
from sba.training.vote import electorate

SAVE_SECONDS = 30.0
"""A checkpoint is written at most this often, and when a run stops or ends."""
TOP5_CLASSES = 100
"""A data set of this many classes has a top-5 error in its records, as ImageNet and its subsets have."""
AGREE_STEPS = 8
"""Several processes ask each other this often whether to stop, since they must all do it at the same step."""


class Diverged(SBAError):
    """The loss is not a finite number."""


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave.

    Attributes:
        epoch: epochs done, from 1.
        lr: learning rate.
        terms: mean of each term of the loss over the steps that had it, in nats.
        counts: number of steps that had it. "virtual" counts the steps with λ(t) = 1.
        error: misclassified test (or held-out) images in per cent, one plain pass in evaluation mode.
        nll: their mean negative log-likelihood in nats.
        seconds: time of the training steps alone: no evaluation, no checkpoint.
        images: raw images trained on.
        error_top5: images in per cent whose label is not among the five likeliest; None where it is
            not reported.
        skipped: training images that were left out since their files could not be read.
        skipped_test: likewise of the images evaluated on.
    """

    epoch: int
    lr: float
    terms: dict[str, float]
    counts: dict[str, int]
    error: float
    nll: float
    seconds: float
    images: int
    error_top5: float | None = None
    skipped: int = 0
    skipped_test: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them, without those that say nothing."""
        silent: dict[str, Any] = {"error_top5": None, "skipped": 0, "skipped_test": 0}
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in silent or v != silent[k]}


class Training:
    """One run under way. Iterate over it for its epoch records; those done before a resume come first.

    Args:
        run: what to do.
        data: the data, if it is loaded already; else it is loaded from the machine's ``data_root``.
        machine: the device, and with which settings of this machine to train there.
        folder: where checkpoints are kept; None for none. A checkpoint of the same run there is resumed.
        budget: seconds after which training stops with a checkpoint, between two steps.
        stop: called between steps; training stops likewise when it returns true.

    Attributes:
        network: as trained so far.
        history: the records so far.
        compiled: whether any stage is.
        finished: whether all epochs are done.

    Raises:
        ConfigError: the run does not fit the data, the network or the machine.
        DataError: the data is missing or corrupted.
        CheckpointError: the folder holds something else.
    """

    def __init__(
        self,
        run: Run,
        data: Data | None = None,
        machine: Machine = HERE,
        *,
        folder: str | pathlib.Path | None = None,
        budget: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ):
        self.run, self.budget, self.stop = run, budget, stop
        self.device = machine.prepare()
        self.folder = pathlib.Path(folder) if folder is not None else None
        data = data or load(run.dataset, machine.data_root, machine.download, run.holdout, run.side)
        self.data = data.reading(run.unreadable, machine.workers).to(self.device)
        self.refuse_other_data()
        self.supply = self.data.train.supply()
        self.steps_per_epoch = len(self.data.train) // run.batch_size
        if not self.steps_per_epoch:
            raise ConfigError(
                f"batch_size: {run.batch_size} exceeds the {len(self.data.train)} training images; give fewer"
            )
        if run.cutout > self.data.side:
            raise ConfigError(
                f"cutout: a square of side {run.cutout} is larger than the images of side {self.data.side}; give at most that"
            )
        if machine.compiled and run.method.update == "sequential_stale":
            # compiled code gives up what it kept for the way back after the first time
            raise ConfigError(
                "compile: update 'sequential_stale' goes back through the stages twice, compiled ones cannot; leave one out"
            )
        with self.own_randomness():
            torch.manual_seed(fold_in(run.seed, "weights"))
            network = build(run.network, len(self.data.classes), self.data.channels, self.data.side)
            run.method.check(network)
            if run.vote:
                electorate(run.method).check(network)
            self.network = to_device(network, self.device, run.channels_last)
            if machine.compiled:
                compile_stages(self.network)
            self.compiled = bool(self.network.through)
            self.objective = Objective(self.network, run.method).to(self.device)
        self.share = distributed.share(run.batch_size, "batch_size")
        run.method.check_batch(len(range(run.batch_size)[self.share]), 1 if run.chunked else run.views)
        if (
            run.views > 1
            and run.augmentation == Augmentation()
            and not any(isinstance(m, _DropoutNd) for m in self.network.modules())
        ):
            raise ConfigError(
                f"views: the {run.views} of an image would be equal; give padding, flip or cutout, or a network with dropout"
            )
        self.model: nn.Module = self.objective
        update: Any = adapted if run.adapt_norm else UPDATES[run.method.update]
        if ranks.world() > 1:
            cards = [self.device.index] if self.device.type == "cuda" else None
            self.model = parallel = DistributedDataParallel(self.objective, device_ids=cards)
            if run.chunked and not run.adapt_norm:
                update = functools.partial(update, no_sync=parallel.no_sync)
        self.update: Callable[..., Terms] = update
        self.graphs = Graphs(self.take_step, self.device) if self.captured(machine.graphs) else None
        self.optimizer = torch.optim.SGD(
            self.objective.parameters(),
            lr=run.lr,
            momentum=run.momentum,
            weight_decay=run.weight_decay,
            nesterov=run.nesterov,
            fused=True,
        )
        self.step = 0
        self.history: list[EpochRecord] = []
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.skipped = 0
        self.seconds = 0.0
        self.saved_at = time.monotonic()
        self.resume()
        if self.folder:
            checkpoint.prepare(self.folder)

    def captured(self, wanted: bool | None) -> bool:
        """Say whether to capture steps, or raise :class:`ConfigError` where that is wanted and cannot be."""
        reasons = {
            f"needs a GPU, not the device {self.device.type!r}": self.device.type != "cuda",
            f"is for one process, not {ranks.world()}": ranks.world() > 1,
            "cannot be done for images that stay in files": isinstance(self.data.train, Stream),
            "cannot be done for copies that pass one after the other": self.run.chunked,
            f"cannot be done with update {self.run.method.update!r}": self.run.method.update != "joint",
        }
        if wanted and (against := next((reason for reason, holds in reasons.items() if holds), None)):
            raise ConfigError(f"graphs: capturing steps {against}; leave it out")
        return wanted is not False and not any(reasons.values())

    def own_randomness(self) -> Any:
        """Leave torch's global generators as they were: initialisation and dropout layers draw from them, seeded at every step."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def refuse_other_data(self) -> None:
        """Raise :class:`ConfigError` where the data handed in is not what the run says: its record would be false."""
        if self.data.name != self.run.dataset:
            raise ConfigError(
                f"data: {self.data.name!r} was given to a run on {self.run.dataset!r}; load that, or change the run"
            )
        if self.run.side and self.data.side != self.run.side:
            raise ConfigError(
                f"side: the data has images of side {self.data.side}, the run says {self.run.side}; give load() the same side"
            )
        if (self.data.evaluated_on == "holdout") != bool(self.run.holdout):
            raise ConfigError(
                f"data: it was loaded to be evaluated on the {self.data.evaluated_on} set, the run holds out {self.run.holdout} "
                "images; give load() the same holdout"
            )

    @property
    def finished(self) -> bool:
        return len(self.history) == self.run.epochs

    @property
    def has_top5(self) -> bool:
        """Whether the top-5 error is reported, too."""
        return isinstance(self.data.test, Stream) or len(self.data.classes) >= TOP5_CLASSES

    def now(self) -> Step:
        """Return the next step."""
        total = self.run.epochs * self.steps_per_epoch
        return Step(self.run.seed, self.step, self.step // self.steps_per_epoch, self.step / total, ranks.rank())

    def __iter__(self) -> Iterator[EpochRecord]:
        deadline = time.monotonic() + (math.inf if self.budget is None else self.budget)
        yield from list(self.history)
        while not self.finished:
            if not self.run_epoch(deadline):
                self.save()
                return
            self.history.append(self.close_epoch())
            if self.finished or ranks.of_first(time.monotonic() - self.saved_at > SAVE_SECONDS):
                self.save()
            yield self.history[-1]

    def run_epoch(self, deadline: float) -> bool:
        """Do the steps that this epoch still lacks; return false where the deadline or ``stop`` came first."""
        epoch = self.step // self.steps_per_epoch
        generator = torch.Generator().manual_seed(fold_in(self.run.seed, "order", epoch))
        order = torch.randperm(len(self.data.train), generator=generator).split(self.run.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = self.run.rate(epoch)
        self.objective.train()
        self.synchronise()
        start = time.perf_counter()
        shares = [rows[self.share] for rows in order[: self.steps_per_epoch]]
        batches = self.supply.plan(shares, self.step % self.steps_per_epoch, self.now(), self.run.views)
        complete = True
        capturing = self.graphs.running(self.run.rate(epoch)) if self.graphs else nullcontext()
        with self.own_randomness(), autotuned(self.device), capturing:
            for i in range(self.step % self.steps_per_epoch, self.steps_per_epoch):
                if self.must_stop(deadline):
                    complete = False
                    break
                self.run_step(batches[i])
        self.synchronise()
        self.seconds += time.perf_counter() - start
        return complete

    def must_stop(self, deadline: float) -> bool:
        """Say whether to stop before the next step; all processes give the same answer."""
        if ranks.world() == 1:
            return time.monotonic() > deadline or self.stop()
        if self.step % AGREE_STEPS:
            return False
        return any(ranks.gathered(time.monotonic() > deadline or self.stop()))

    def run_step(self, rows: Any) -> None:
        """Train on this process's share of a batch, as ``supply`` names it."""
        now = self.now()
        terms = (
            self.graphs(rows, now, self.run.method.branch(self.network, now))
            if self.graphs
            else self.take_step(rows, now)
        )
        for name, term in terms.items():
            # a captured step writes its terms to the same place again
            self.sums[name] = self.sums[name] + term.detach() if name in self.sums else term.detach().clone()
            self.counts[name] = self.counts.get(name, 0) + 1
        self.step += 1

    def take_step(self, rows: Any, now: Step) -> Terms:
        """Move the weights by what a batch gives at a moment; return the terms of the loss."""
        batch = self.supply[rows]
        self.skipped += batch.skipped
        return self.update(self.chunks(batch, now), self.optimizer)

    def chunks(self, batch: Split | Views, now: Step) -> list[Callable[[], Terms]]:
        """Return functions that compute the terms of the batch's augmented views: of all at once, or of one view each."""
        views = [dataclasses.replace(now, view=view) for view in range(self.run.views)]
        groups = [[view] for view in views] if self.run.chunked else [views]
        return [functools.partial(self.compute, batch, group) for group in groups]

    def compute(self, batch: Split | Views, views: list[Step]) -> Terms:
        """Augment a batch once for each view, and return the terms of the loss over all copies.

        The draws are pure functions of the views, so a second call gives the same.
        """
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
        parts = ranks.gathered({name: total.item() / self.counts[name] for name, total in self.sums.items()})
        terms = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        skipped = sum(ranks.gathered(self.skipped))
        first = ranks.rank() == 0
        # buffers differ between ranks until the next pass: the first one's network is the one that is saved
        with self.precision(), autotuned(self.device):
            result = ranks.of_first(
                evaluate(self.network, self.data.test, self.data.mean, self.data.std) if first else None
            )
        if not all(map(math.isfinite, [*terms.values(), result.nll])):
            raise Diverged(
                f"lr: the loss is not finite in epoch {len(self.history) + 1}, step {self.step} "
                f"({terms}, test nll {result.nll}); give a lower --lr"
            )
        record = EpochRecord(
            epoch=len(self.history) + 1,
            lr=self.run.rate(len(self.history)),
            terms=terms,
            counts=self.counts,
            error=result.error,
            nll=result.nll,
            seconds=self.seconds,
            images=self.steps_per_epoch * self.run.batch_size - skipped,
            error_top5=result.error_top5 if self.has_top5 else None,
            skipped=skipped,
            skipped_test=result.skipped,
        )
        self.sums, self.counts, self.skipped, self.seconds = {}, {}, 0, 0.0
        return record

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def save(self) -> None:
        """Write a checkpoint, where there is a folder for it; the first of several processes does."""
        self.saved_at = time.monotonic()
        if self.folder is None:
            return
        sums = ranks.gathered({name: total.cpu() for name, total in self.sums.items()})
        skipped = sum(ranks.gathered(self.skipped))
        if ranks.rank():
            return
        state = {
            "step": self.step,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": json.dumps([r.as_json() for r in self.history]),
            "sums": sums[0] if len(sums) == 1 else {name: torch.stack([s[name] for s in sums]) for name in sums[0]},
            "counts": self.counts,
            "skipped": skipped,
            "seconds": self.seconds,
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
        self.step, self.counts, self.seconds = state["step"], dict(state["counts"]), state["seconds"]
        self.skipped = state.get("skipped", 0) if ranks.rank() == 0 else 0
        self.sums = {name: self.own_part(total).to(self.device) for name, total in state["sums"].items()}

    def own_part(self, total: Tensor) -> Tensor:
        """Return this rank's part of a saved sum; the mean of the parts where the number of processes has changed."""
        if total.shape == (ranks.world(),):
            return total[ranks.rank()]
        return total.mean()


@contextmanager
def autotuned(device: torch.device) -> Iterator[None]:
    """Let cuDNN time its kernels for a shape when it first meets it and keep the fastest: its guess is far off for the 16 channels
    of a small ResNet. Nothing happens on a processor, or where deterministic kernels are asked for."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    deterministic = cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    cudnn.benchmark = before or (device.type == "cuda" and not deterministic)
    try:
        yield
    finally:
        cudnn.benchmark = before


def train(
    run: Run,
    data: Data | None = None,
    *,
    machine: Machine | None = None,
    folder: str | pathlib.Path | None = None,
    budget: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    **given: Any,
) -> Training:
    """Train a network: ``for record in train(run): …``. Arguments as for :class:`Training`.

    Args:
        given: fields of :class:`sba.training.machine.Machine`, as ``device="cuda"``, in place of ``machine``.

    Raises:
        ConfigError: both are given; likewise what :class:`Training` raises.

    >>> from sba import make_run, train
    >>> training = train(make_run("moons", method="sba", epochs=2))
    >>> [(record.epoch, sorted(record.terms), record.counts["virtual"]) for record in training]
    [(1, ['cross_entropy', 'virtual'], 2), (2, ['cross_entropy', 'virtual'], 1)]
    """
    return Training(run, data, machine_of(machine, **given), folder=folder, budget=budget, stop=stop)
