"""Nothing of a step crosses to or from a GPU, but for the assignment of k-mixup, which the host solves.

Two kinds of tests: a rehearsal of every method on torch's device without data, where reading a number is an error and copies can be
seen; and the real thing, if there is a GPU.
"""

import contextlib
import dataclasses
import functools
import math

import pytest
import torch
from helpers import settings_of
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sba import METHODS, train
from sba.core.rng import Step

# ---------------------------------------------------------------------------------- a rehearsal, on the device without data


class Draws(TorchFunctionMode):
    """Lets draws take place on the device without data, for which torch has no generator."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not None and "device" in kwargs:
            kwargs["device"] = "meta"
        if getattr(function, "__name__", "") == "exponential_":
            del kwargs["generator"]
        return function(*args, **kwargs)


class Crossings(TorchFunctionMode):
    """Notes what would bring numbers of the host to a GPU. Reading a number of the device is an error there by itself."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        there = any(isinstance(t, torch.Tensor) and t.device.type == "meta" for t in args)
        there |= torch.device(kwargs.get("device") or "cpu").type == "meta"
        if there and (
            name in ("tensor", "as_tensor", "new_tensor") or (name == "where" and not all(map(torch.is_tensor, args)))
        ):
            self.found.append(name)
        with Mixed(self.found):
            return function(*args, **kwargs)


class Mixed(TorchDispatchMode):
    """Notes operations that see tensors of the host and of the device together."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if len({t.device.type for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t)}) > 1:
            self.found.append(str(function))
        return out


def rehearse(monkeypatch, run, data):
    """Return what would make the steps of a run's second epoch wait on a GPU."""
    watch = Crossings()
    monkeypatch.setattr(
        Step, "generator", lambda self, purpose, device: torch.Generator().manual_seed(self.bits(purpose))
    )
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    plain = functools.partial(torch.optim.SGD, foreach=True)
    monkeypatch.setattr(torch.optim, "SGD", lambda *args, fused, **kwargs: plain(*args, **kwargs))
    training = train(run, data, device="meta")
    with Draws():
        training.run_epoch(math.inf)
        monkeypatch.setattr(training, "run_step", functools.partial(watched, watch, training.run_step))
        training.run_epoch(math.inf)
    assert training.step == 2 * training.steps_per_epoch
    return watch.found


def watched(watch, function, rows):
    with watch:
        return function(rows)


FREE = {name: settings_of(name) for name in METHODS} | {
    "cutout and flip": {"cutout": 4, "flip": True},
    "views": {"views": 2},
    "views, chunked": {"views": 2, "chunked": True},
    "views, adapted": {"views": 2, "chunked": True, "adapt_norm": True},
    "two updates": {"method": "sba", "update": "sequential_fresh", "omega": 0.0},
    "sba, running scale": {"method": "sba", "scale": "running", "omega": 0.0},
    "sba, truncated": {"method": "sba", "bound": "truncate", "omega": 0.0},
    "sba, orthogonal": {"method": "sba", "basis": "orthogonal", "omega": 0.0},
    "sba, hadamard": {"method": "sba", "basis": "hadamard", "omega": 0.0, "layers": ("conv1",), "folds": 2},
    "sba, channel": {"method": "sba", "basis": "channel", "omega": 0.0, "layers": ("conv1",), "folds": 2},
    "sba, either-or": {"method": "sba", "objective": "either_or", "label": "hard", "teacher": "evaluation"},
    "implicit, bound": {"method": "implicit-sba", "expectation": "bound", "omega": 0.0, "scale": "running"},
    "isda, diagonal": {"method": "isda", "form": "diagonal"},
    "bamboo, 1": {"method": "bamboo", "norm": "1"},
    "manifold, bce": {"method": "manifold-mixup", "loss": "bce"},
    "decoupled, bce": {"method": "decoupled", "loss": "bce"},
    "decoupled, cutmix": {"method": "decoupled", "mixer": "cutmix"},
}
"""Settings whose steps are meant to leave host and GPU free of each other."""

free = pytest.mark.parametrize("name", FREE)


@free
def test_no_step_reads_a_number_of_the_device_or_sends_one_there(monkeypatch, run, small, name):
    """The assignment of k-mixup is replaced by another permutation, which needs no host."""
    monkeypatch.setattr("sba.methods.kmixup.assign", lambda mismatch: mismatch.argsort(-1)[..., 0])
    few = dataclasses.replace(small, train=small.train[:48])
    assert rehearse(monkeypatch, run(**FREE[name]), few) == []


def test_the_rehearsal_sees_k_mixups_assignment(monkeypatch, run, small):
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        rehearse(monkeypatch, run(method="k-mixup", k=4), small)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.new_tensor(0.5),
        lambda x: torch.tensor([0.5], device=x.device),
        lambda x: torch.where(x > 0, 0.0, x),
        lambda x: torch.arange(3).to(x.device),
        lambda x: x[torch.arange(3)],
    ],
)
def test_the_rehearsal_sees_what_is_sent(monkeypatch, run, small, wait):
    terms = METHODS["erm"].terms
    monkeypatch.setattr(
        METHODS["erm"], "terms", lambda self, net, x, *rest: wait(x) is None or terms(self, net, x, *rest)
    )
    assert rehearse(monkeypatch, run(), small)


@pytest.mark.parametrize(
    "read", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: bool((x > 0).any()), torch.Tensor.cpu]
)
def test_the_rehearsal_sees_what_is_read(monkeypatch, run, small, read):
    terms = METHODS["erm"].terms
    monkeypatch.setattr(
        METHODS["erm"], "terms", lambda self, net, x, *rest: read(x) is None or terms(self, net, x, *rest)
    )
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        rehearse(monkeypatch, run(), small)


# -------------------------------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@free
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_the_steps_of_an_epoch_synchronise_nothing(monkeypatch, run, small, name):
    """The first epoch makes what is made once. torch then refuses whatever waits for the queue or copies from unpinned memory."""
    monkeypatch.setattr("sba.methods.kmixup.assign", lambda mismatch: mismatch.argsort(-1)[..., 0])
    training = train(run(**FREE[name]), small, device="cuda")
    training.run_epoch(math.inf)

    def strict(function, rows):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return function(rows)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    training.run_step = functools.partial(strict, training.run_step)
    training.run_epoch(math.inf)
    assert training.step == 2 * training.steps_per_epoch


@pytest.mark.gpu
def test_constants_of_the_augmentation_are_those_of_the_host():
    from sba.data.augment import _scale_and_shift

    host, there = (_scale_and_shift((0.49, 0.48), (0.25, 0.24), torch.device(d)) for d in ("cpu", "cuda"))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(host, there, strict=True))
