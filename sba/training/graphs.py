"""Whole training steps captured as CUDA graphs and replayed, for a GPU that is faster than its host can launch kernels.

A captured step does always the same; only what lies in the memory it reads may differ. Two things therefore stay with the host,
which knows them before the step begins: which graph a step needs (one for λ(t) = 0 and one for each augmented layer), and the seeds
of its random streams, which are pure functions of the step and reach the graph with each replay.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from sba.core.rng import Step
from sba.core.updates import Terms

WARM_STEPS = 3
"""Steps of each branch that are done as usual before one is captured: the first ones load kernels and fill caches and buffers."""

Stream = tuple[str, int]
"""A purpose and a view."""


@dataclasses.dataclass(frozen=True)
class Noted(Step):
    """A moment that notes which random streams are asked for, in which order."""

    asked: list[Stream] = dataclasses.field(default_factory=list, compare=False)

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        self.asked.append((purpose, self.view))
        return super().generator(purpose, device)


@dataclasses.dataclass(frozen=True)
class Handed(Step):
    """A moment whose random streams are those of a graph, handed out in the order in which they were asked for before.

    Attributes:
        streams: what is to be asked for, with the generators.
    """

    streams: Iterator[tuple[Stream, torch.Generator]] = dataclasses.field(
        default_factory=lambda: iter(()), compare=False
    )

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        stream, generator = next(self.streams, (None, None))
        if stream != (purpose, self.view) or generator is None:
            raise RuntimeError(
                f"a step asked for the random stream {purpose!r} of view {self.view} where an equal one asked for {stream}"
            )
        return generator

    def seed_layers(self) -> None:
        """Leave torch's global generators alone: they are seeded before each replay."""


M = TypeVar("M", bound=Step)
"""A kind of moment."""


def as_kind(kind: type[M], now: Step, **more: Any) -> M:
    """Return the same moment as one of another class."""
    values: dict[str, Any] = {f.name: getattr(now, f.name) for f in dataclasses.fields(Step)}
    return kind(**values, **more)


class Graphs:
    """Steps of a training: captured after a few of each branch, and replayed from then on.

    Args:
        step: does a step on rows of the training set, of shape (B,), at a moment; must be free of decisions of the host beyond
            those that the branch stands for.
        device: a GPU.
    """

    def __init__(self, step: Callable[[Tensor, Step], Terms], device: torch.device):
        self.step = step
        self.device = device
        # the legacy default stream cannot be captured, nor be waited for by what is
        self.stream = torch.cuda.Stream(device)
        self.asked: dict[Hashable, list[list[Stream]]] = {}
        self.captured: dict[Hashable, Captured] = {}
        self.rate: float | None = None

    @contextlib.contextmanager
    def running(self, rate: float) -> Iterator[None]:
        """Let the steps of an epoch run on the stream that is captured. The learning rate is a constant of a graph.

        Args:
            rate: the epoch's; graphs with another one are dropped.
        """
        if rate != self.rate:
            self.captured.clear()
            # memory that all graphs take turns in; that of dropped ones cannot be joined again
            self.pool = torch.cuda.graph_pool_handle()
            self.rate = rate
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def __call__(self, rows: Tensor, now: Step, branch: Hashable) -> Terms:
        """Do a step.

        Args:
            rows: of the training set, of shape (B,), always the same B.
            now: its moment.
            branch: what the host decides in this step; equal for steps that launch the same. None where that
                is unknown, and the step is done as usual.

        Returns:
            The terms of the loss. They are overwritten by the next step.
        """
        if branch is None:
            return self.step(rows, now)
        if branch not in self.captured:
            if len(self.asked.setdefault(branch, [])) < WARM_STEPS:
                noted = as_kind(Noted, now)
                self.asked[branch].append(noted.asked)
                return self.step(rows, noted)
            self.captured[branch] = Captured(self, rows, now, self.asked[branch][-1])
        return self.captured[branch](rows, now)


def capture(
    step: Callable[[], Terms], generators: Sequence[torch.Generator], pool: Any, stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, Terms]:
    """Capture what a function launches, without doing it; return the graph and the terms that each replay writes."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        terms = step()
    return graph, terms


class Captured:
    """One captured step.

    Args:
        owner: whose step it is.
        rows: of a batch.
        now: a moment of the branch.
        asked: the random streams that a step of this branch asks for, in their order.
    """

    def __init__(self, owner: Graphs, rows: Tensor, now: Step, asked: Sequence[Stream]):
        self.rows = rows.clone()
        self.streams = [(stream, torch.Generator(owner.device)) for stream in asked]

        def step() -> Terms:
            return owner.step(self.rows, as_kind(Handed, now, streams=iter(self.streams)))

        self.graph, self.terms = capture(step, [g for _, g in self.streams], owner.pool, owner.stream)

    def __call__(self, rows: Tensor, now: Step) -> Terms:
        """Do the step on other rows, at another moment of the same branch."""
        self.rows.copy_(rows)
        for (purpose, view), generator in self.streams:
            generator.manual_seed(dataclasses.replace(now, view=view).bits(purpose))
        now.seed_layers()
        self.graph.replay()
        return self.terms
