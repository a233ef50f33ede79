"""Time contestants that take turns in one process, so that a machine's moods strike both; what is kept is their ratio.

The pixels are random: no operation's time depends on them.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from sba.core.scheduler import probability
from sba.data.datasets import Data
from sba.data.in_memory import Split
from sba.records.comparison import Comparison
from sba.training.loop import Training
from sba.training.run import make_run
from sba.training.setup import synchronise

BATCH = 128
Name = TypeVar("Name")
"""Of a contestant: a text, or several."""
PROCESSOR = torch.device("cpu")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Ratio:
    """How many times A is of B."""

    name: str  #: what was compared
    value: float  #: median over rounds
    low: float  #: smallest round
    high: float  #: largest round
    rounds: int  #: number of rounds
    details: dict[str, float]  #: medians of what was timed, with their units in the names
    about: Comparison = field(default_factory=Comparison)  #: what was compared, as fields
    limit: float | None = None  #: what the project wants it to be at most; None for no limit

    def __str__(self) -> str:
        details = ", ".join(f"{k} {v:.4g}" for k, v in self.details.items())
        kept = self.limit is None or self.value <= self.limit
        verdict = "" if self.limit is None else f", limit {self.limit} {'kept' if kept else 'MISSED'}"
        return f"{self.name}: {self.value:.3f}{verdict} ({self.low:.3f} … {self.high:.3f} over {self.rounds} rounds; {details})"


def ratio(
    name: str,
    top: Sequence[float],
    bottom: Sequence[float],
    details: dict[str, float],
    limit: float | None = None,
    **about: Any,
) -> Ratio:
    """Pair the seconds of what is compared with those of what it is compared with, round by round; the quartiles of the ratios join
    the details. ``about`` are fields of :class:`sba.records.comparison.Comparison`."""
    pairs = [a / b for a, b in zip(top, bottom, strict=True)]
    lower, upper = np.quantile(pairs, [0.25, 0.75]).tolist()
    details = details | {"lower quartile": lower, "upper quartile": upper}
    median = statistics.median(pairs)
    return Ratio(name, median, min(pairs), max(pairs), len(pairs), details, Comparison(**about), limit)


class RandomImages(Dataset):
    """Random CIFAR-shaped images through torchvision's transforms, opened as ``torchvision.datasets.CIFAR10`` opens its own."""

    def __init__(self, n: int):
        generator = np.random.default_rng(0)
        self.pixels = generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        self.labels = generator.integers(0, 10, n)
        steps = [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
        self.transform = v2.Compose([*steps, v2.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def on_device(images: RandomImages) -> Data:
    """The same images as this project keeps them."""
    split = Split(torch.from_numpy(images.pixels.transpose(0, 3, 1, 2).copy()), torch.from_numpy(images.labels))
    return Data("cifar10", split, split[:1000], "test", tuple("0123456789"), MEAN, STD, "random")


def timed(step: Callable[[], Any], n: int, device: torch.device = PROCESSOR) -> float:
    """Return seconds per call over n calls, until the device has finished them."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(n):
        step()
    synchronise(device)
    return (time.perf_counter() - start) / n


def rounds_of(contestants: Mapping[Any, Callable[[], Any]], rounds: int, warm: int = 1) -> dict[Any, list[Any]]:
    """Let contestants take turns; return what each measured in every round, without the first ``warm`` ones, which do not count."""
    turns = [[measure() for measure in contestants.values()] for _ in range(warm + rounds)][warm:]
    return {name: list(found) for name, found in zip(contestants, zip(*turns, strict=True), strict=True)}


def steps_of(training: Training, batch: int = BATCH) -> Callable[[], None]:
    """Return a function that does the next step of a training, epoch after epoch."""
    generator = torch.Generator().manual_seed(0)
    training.objective.train()

    def step() -> None:
        training.run_step(torch.randint(len(training.data.train), (batch,), generator=generator))

    return step


def step_costs(
    network: str, contestants: Mapping[Name, dict[str, Any]], pairs: int, batch: int = BATCH
) -> tuple[list[float], dict[Name, list[float]]]:
    """Time plain steps and those of contestants, name → parameters of :func:`sba.training.run.make_run`, that take turns on random
    images of CIFAR's shape; return the seconds of each of ``pairs`` plain steps, and of each step of the contestants."""
    data = on_device(RandomImages(batch * 20))
    steps = {
        name: steps_of(Training(make_run("cifar10", network, batch_size=batch, **given), data), batch)
        for name, given in [(None, {}), *contestants.items()]
    }
    times = rounds_of({name: functools.partial(timed, step, 1) for name, step in steps.items()}, pairs)
    plain = times.pop(None)
    return plain, times


def expected_cost(name: str, augmented: list[float], plain: list[float], omega: float, **about: Any) -> Ratio:
    """Return the cost of a step at ω over a plain step: the mean of augmented and plain steps weighted by cos ω.

    Counting the augmented steps of a short stream would add the luck of the draw.
    """
    p = probability(omega)
    expected = [p * a + (1 - p) * b for a, b in zip(augmented, plain, strict=True)]
    details = {"plain ms": 1e3 * statistics.median(plain), "augmented ms": 1e3 * statistics.median(augmented), "p": p}
    return ratio(f"{name}, ω={omega:.4f}, over a plain step", expected, plain, details, **about)


def in_turns(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int, calls: int = 10, **about: Any
) -> Ratio:
    """Compare two functions that take turns, so many calls at a time."""
    timed(ours, 2), timed(theirs, 2)
    times = rounds_of({"ours": lambda: timed(ours, calls), "theirs": lambda: timed(theirs, calls)}, rounds, warm=0)
    details = {f"{side} ms": 1e3 * statistics.median(taken) for side, taken in times.items()}
    return ratio(name, times["ours"], times["theirs"], details, **about)
