"""Whole training steps captured as CUDA graphs and replayed, for a GPU that is faster than its host can launch kernels.

A captured step always does the same; only what lies in the memory it reads may differ. So two things stay with the host, which
knows them before the step begins: which graph a step needs (one for λ(t) = 0 and one for each augmented layer), and the seeds of
its random streams, which are pure functions of the step and are given to the graph before each replay. A step that cannot be
captured is done as usual.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sba.core.rng import Source, Step
from sba.core.updates import Terms

WARM_STEPS = 3
"""Steps of each branch that are done as usual before one is captured: the first ones load kernels and fill caches and buffers."""

Stream = tuple[str, int]
"""A purpose and a view."""


class Noting(Source):
    """Makes generators as usual, and notes which streams are asked for, in their order."""

    def __init__(self) -> None:
        self.asked: list[Stream] = []

    def generator(self, now: Step, purpose: str, device: torch.device | str) -> torch.Generator:
        self.asked.append((purpose, now.view))
        return super().generator(now, purpose, device)


class Handing(Source):
    """Hands out the generators of a graph, each with its stream, in the order in which a step of its branch asked for them."""

    def __init__(self, streams: Sequence[tuple[Stream, torch.Generator]]):
        self.streams = iter(streams)

    def generator(self, now: Step, purpose: str, device: torch.device | str) -> torch.Generator:
        stream, generator = next(self.streams, (None, None))
        if stream != (purpose, now.view) or generator is None:
            raise RuntimeError(
                f"a step asked for the random stream {purpose!r} of view {now.view} where an equal one asked for {stream}"
            )
        return generator

    def seed_layers(self, now: Step) -> None:
        """Leave torch's global generators alone: they are seeded before each replay."""


class Graphs:
    """Steps of a training on a GPU: captured after a few of each branch, and replayed from then on.

    ``step`` does one on rows of the training set, of shape (B,); the host must decide nothing in it beyond what the branch stands
    for."""

    def __init__(self, step: Callable[[Tensor, Step], Terms], device: torch.device):
        self.step = step
        self.device = device
        # the legacy default stream cannot be captured, nor be waited for by what is
        self.stream = torch.cuda.Stream(device)
        self.asked: dict[Hashable, list[list[Stream]]] = {}
        self.captured: dict[Hashable, Captured] = {}
        self.failed: set[Hashable] = set()
        self.rate: float | None = None

    @contextlib.contextmanager
    def running(self, rate: float) -> Iterator[None]:
        """Run the steps of an epoch on the captured stream; graphs of another learning rate, a constant of a graph, are dropped."""
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
        """Do a step on rows of the training set, always as many, and return the terms of the loss, which the next step overwrites.

        ``branch`` is that of :meth:`sba.core.method.Method.branch`. Without one a step is done as usual, and so it is if its branch
        could not be captured.
        """
        if branch is None or branch in self.failed:
            return self.step(rows, now)
        if branch not in self.captured:
            if len(self.asked.setdefault(branch, [])) < WARM_STEPS:
                source = Noting()
                self.asked[branch].append(source.asked)
                return self.step(rows, dataclasses.replace(now, source=source))
            try:
                self.captured[branch] = Captured(self, rows, now, self.asked[branch][-1])
            except RuntimeError as error:
                self.failed.add(branch)
                reason = str(error).partition("\n")[0]
                warnings.warn(
                    f"graphs: a step could not be captured ({reason}); such steps are done as usual", stacklevel=2
                )
                return self.step(rows, now)
        return self.captured[branch](rows, now)


def capture(
    step: Callable[[], Terms], generators: Sequence[torch.Generator], pool: Any, stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, Terms]:
    """Capture what a function launches, without doing it; return the graph and the terms that each replay writes."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    try:
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            terms = step()
    except RuntimeError:
        # torch's own generator still waits for the end of the capture; another state frees it
        own = torch.cuda.default_generators[stream.device_index]
        own.graphsafe_set_state(torch.Generator(stream.device).graphsafe_get_state())
        raise
    return graph, terms


class Captured:
    """A step of ``owner``, captured. ``asked`` are the random streams that a step of this branch asks for, in their order."""

    def __init__(self, owner: Graphs, rows: Tensor, now: Step, asked: Sequence[Stream]):
        self.rows = rows.clone()
        self.streams = [(stream, torch.Generator(owner.device)) for stream in asked]

        def step() -> Terms:
            return owner.step(self.rows, dataclasses.replace(now, source=Handing(self.streams)))

        self.graph, self.terms = capture(step, [g for _, g in self.streams], owner.pool, owner.stream)

    def __call__(self, rows: Tensor, now: Step) -> Terms:
        """Do another step of the same branch, on its rows."""
        self.rows.copy_(rows)
        for (purpose, view), generator in self.streams:
            generator.manual_seed(dataclasses.replace(now, view=view).bits(purpose))
        now.seed_layers()
        self.graph.replay()
        return self.terms
