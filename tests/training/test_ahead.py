"""A step waits for nobody: what is begun a step ahead gives the same numbers, and nothing else of a step crosses to or from a GPU.

Three kinds of tests: of the order of things, on a processor; a rehearsal of every method on torch's device without data, where
reading a number is an error and copies can be seen; and the real thing, where there is a GPU.
"""

import contextlib
import dataclasses
import functools
import math

import pytest
import torch
from test_every_method import ACTIVE, outcome, same
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sba import METHODS, train
from sba.core.rng import Step
from sba.methods import KMixup, Method
from sba.methods.ahead import Ahead, from_host, tensors, to_host
from sba.methods.kmixup import begin_pairs, pairs
from sba.training.loop import Training

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

# ------------------------------------------------------------------------------------------------------- the order of things


def test_what_was_begun_is_finished_once_and_what_was_not_is_nothing():
    ahead, log = Ahead(torch.device("cpu")), []

    def begin(x):
        log.append("begun")
        return lambda: log.append("finished") or 2 * x

    ahead.begin("a", begin, torch.tensor([1.0, 2.0]))
    assert log == ["begun"]
    assert ahead.finish("a").tolist() == [2, 4] and log == ["begun", "finished"]
    assert ahead.finish("a") is None and ahead.finish("b") is None
    ahead.begin("a", begin, torch.tensor([1.0]))
    ahead.forget()
    assert ahead.finish("a") is None


def test_tensors_of_nested_results():
    a, b, c = torch.zeros(3).unbind()
    assert [id(t) for t in tensors((a, [b, (c, 0.5)], "x", None))] == [id(a), id(b), id(c)]


def test_journeys_to_the_host_and_back():
    parts = [torch.randn(2, 3), torch.arange(4)]
    assert all(torch.equal(a, b) for a, b in zip(to_host(parts)(), parts, strict=True))
    assert torch.equal(from_host(parts[0], torch.device("cpu")), parts[0])


def test_begun_pairs_are_pairs():
    x, order = torch.randn(23, 5, generator=torch.Generator().manual_seed(0)), torch.arange(23).roll(4)
    assert torch.equal(begin_pairs(x, order, 4)(), pairs(x, order, 4))


def log_of(monkeypatch, run, data):
    """Note when the method begins and finishes and when steps are made, and by which step's number."""
    log = []
    step, ahead, terms = Training.run_step, KMixup.ahead, KMixup.terms

    def logged(self, now):
        function = ahead(self, now)

        def begin(x):
            log.append(("begin", now.step, now.view))
            finish = function(x)
            return lambda: log.append(("finish", now.step, now.view)) or finish()

        return begin

    def noted(self, network, x, y, now, memory, *prepared):
        log.append(("terms", now.step, now.view))
        assert prepared
        return terms(self, network, x, y, now, memory, *prepared)

    monkeypatch.setattr(KMixup, "ahead", logged)
    monkeypatch.setattr(KMixup, "terms", noted)
    monkeypatch.setattr(
        Training, "run_step", lambda self, rows: step(self, rows) or log.append(("stepped", self.step - 1, 0))
    )
    training = train(run, data)
    training.run_epoch(math.inf)
    return log, training


def test_a_step_is_begun_before_the_one_ahead_of_it_and_finished_after(monkeypatch, run, small):
    """Begun while the device has work, and nothing waits for what was begun just before."""
    log, training = log_of(monkeypatch, run(method="k-mixup", k=4), small)
    for step in range(1, 6):
        begun, finished = log.index(("begin", step, 0)), log.index(("finish", step, 0))
        assert begun < log.index(("terms", step - 1, 0)) < log.index(("stepped", step - 1, 0)) < finished
        assert finished < log.index(("terms", step, 0))
        if step < 5:
            assert log.index(("begin", step + 1, 0)) < finished
    assert len(log) == 4 * 6 and not training.ahead.begun


def test_all_views_of_a_step_are_begun_together(monkeypatch, run, small):
    log, _ = log_of(monkeypatch, run(method="k-mixup", k=4, views=2, chunked=True), small)
    assert [entry for entry in log if entry[0] != "finish"][:7] == [
        ("begin", 1, 0),
        ("begin", 1, 1),
        ("begin", 0, 0),
        ("terms", 0, 0),
        ("begin", 0, 1),
        ("terms", 0, 1),
        ("stepped", 0, 0),
    ]


SETTINGS = {
    "input": {},
    "a block too many": {"k": 5},
    "input and layers": {"layers": ("input", "conv1", "flatten")},
    "chunked": {"views": 3, "chunked": True},
    "matched": {"alpha": 0.3, "match_mixup": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_begun_ahead_changes_no_bit(monkeypatch, run, small, name):
    settings = run(**{"method": "k-mixup", "k": 4} | SETTINGS[name])
    ahead = outcome(settings, small)
    asked = []
    monkeypatch.setattr(Training, "look_ahead", lambda self, rows: None)
    monkeypatch.setattr(KMixup, "ahead", lambda self, now: asked.append(now))
    at_once = outcome(settings, small)
    assert asked and ahead[0] == at_once[0] and same(ahead[1], at_once[1])


@pytest.mark.parametrize("stop_at", [1, 5, 6, 7])
def test_stopped_with_a_step_begun_is_uninterrupted_bit_for_bit(run, small, tmp_path, stop_at):
    settings = run(method="k-mixup", k=4, views=2, chunked=True)
    part = train(settings, small, folder=tmp_path)
    part.stop = lambda: part.step >= stop_at
    list(part)
    assert part.step == stop_at and not part.ahead.begun
    records, state = outcome(settings, small)
    rest = train(settings, small, folder=tmp_path)
    assert [(r.terms, r.error, r.nll) for r in rest] == records and same(rest.objective.state_dict(), state)


def test_k_mixup_looks_ahead_where_partners_do_not_depend_on_weights():
    now = Step(0)
    assert KMixup().ahead(now) and not KMixup(layers=("conv1",)).ahead(now)
    assert not KMixup(k=1).ahead(now) and not KMixup(alpha=0.0).ahead(now)
    assert {name for name, cls in METHODS.items() if cls.ahead is not Method.ahead} == {"k-mixup"}


# ------------------------------------------------------------------------------------------- streams, with stand-ins for them


class Stream:
    """Notes what happens on it, in a log that all streams share."""

    device = torch.device("cpu")

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append((self.name, "waits for", other.name))


def test_work_is_on_the_side_and_the_current_stream_waits_for_it_never_the_other_way_round(monkeypatch):
    log, here = [], ["default"]
    side, default = Stream("side", log), Stream("default", log)

    @contextlib.contextmanager
    def stream(s):
        here.append(s.name)
        yield
        here.pop()

    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: default)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda t, s: log.append((t.item(), "is used on", s.name)))
    ahead = Ahead(torch.device("cpu"))
    ahead.stream = side

    def begin(x):
        log.append(("begin", "on", here[-1]))
        return lambda: log.append(("finish", "on", here[-1])) or (x + 1, (x + 2, 0.5))

    ahead.begin("key", begin, torch.tensor(1))
    ahead.finish("key")
    assert log == [
        (1, "is used on", "side"),
        ("begin", "on", "side"),
        ("finish", "on", "side"),
        ("default", "waits for", "side"),
        (2, "is used on", "default"),
        (3, "is used on", "default"),
    ]


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
        if len({t.device.type for t in tensors((args, tuple((kwargs or {}).values()), out))}) > 1:
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
        for name in ("run_step", "look_ahead"):
            monkeypatch.setattr(training, name, functools.partial(watched, watch, getattr(training, name)))
        training.run_epoch(math.inf)
    assert training.step == 2 * training.steps_per_epoch
    return watch.found


def watched(watch, function, rows):
    with watch:
        return function(rows)


def elsewhere(monkeypatch):
    """Let the two journeys of :mod:`sba.methods.ahead` pass unseen and bring zeros."""

    def quietly(part, device):
        with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
            return part.to(device)

    monkeypatch.setattr("sba.methods.kmixup.to_host", lambda parts: lambda: [torch.zeros(part.shape) for part in parts])
    monkeypatch.setattr("sba.methods.kmixup.from_host", quietly)


FREE = {name: {"method": name} | ACTIVE.get(name, {}) for name in METHODS} | {
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
    "k-mixup, chunked": {"method": "k-mixup", "k": 3, "views": 2, "chunked": True},
    "k-mixup, matched": {"method": "k-mixup", "k": 4, "match_mixup": True},
}
"""Settings whose steps are meant to leave host and GPU free of each other."""

free = pytest.mark.parametrize("name", FREE)


@free
def test_no_step_reads_a_number_of_the_device_or_sends_one_there(monkeypatch, run, small, name):
    """Beside the two journeys of k-mixup, which leave both free."""
    elsewhere(monkeypatch)
    few = dataclasses.replace(small, train=small.train[:48])
    assert rehearse(monkeypatch, run(**FREE[name]), few) == []


def test_the_rehearsal_sees_k_mixups_journeys(monkeypatch, run, small):
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


@gpu
@free
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_the_steps_of_an_epoch_synchronise_nothing(run, small, name):
    """The first epoch makes what is made once. torch then refuses whatever waits for the queue or copies from unpinned memory."""
    training = train(run(**FREE[name]), small, device="cuda")
    training.run_epoch(math.inf)

    def strict(function, rows):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return function(rows)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    for method in ("run_step", "look_ahead"):
        setattr(training, method, functools.partial(strict, getattr(training, method)))
    training.run_epoch(math.inf)
    assert training.step == 2 * training.steps_per_epoch


@gpu
@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_begun_ahead_is_the_same_on_a_gpu(monkeypatch, run, small, name):
    """Several short epochs, so that memory is used again. The order of sums in atomic additions may differ."""
    settings = run(**{"method": "k-mixup", "k": 4, "epochs": 5} | SETTINGS[name])
    runs = []
    for look in (Training.look_ahead, lambda self, rows: None):
        monkeypatch.setattr(Training, "look_ahead", look)
        training = train(settings, small, device="cuda")
        runs.append([r.terms["cross_entropy"] for r in training])
    assert runs[0] == pytest.approx(runs[1], rel=1e-2)


@gpu
def test_the_host_does_not_wait_for_the_steps_in_the_queue():
    """The default stream is busy for long; what was begun on the side is finished meanwhile."""
    device = torch.device("cuda")
    x, order = torch.randn(64, 100, device=device), torch.arange(64, device=device).roll(8)
    expected = pairs(x, order, 8)
    ahead = Ahead(device)
    for _ in range(2):  # the first time memory and the library's workspace are allocated, which may wait
        torch.cuda.synchronize()
        ahead.begin("key", lambda x, order: begin_pairs(x, order, 8), x, order)
        assert torch.equal(ahead.finish("key"), expected)
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # clock cycles: about a second
    busy = torch.cuda.current_stream().record_event()
    ahead.begin("key", lambda x, order: begin_pairs(x, order, 8), x, order)
    found = ahead.finish("key")
    assert not busy.query()
    assert torch.equal(found, expected)


@gpu
def test_constants_of_the_augmentation_are_those_of_the_host():
    from sba.data.augment import _scale_and_shift

    host, there = (_scale_and_shift((0.49, 0.48), (0.25, 0.24), torch.device(d)) for d in ("cpu", "cuda"))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(host, there, strict=True))
