"""Compiled stages compute what the stages are, where they are used at all; the rest of a run does not notice them."""

import functools
import math
import os
import shutil

import pytest
import torch
from torch import nn

from sba import Staged, build, train
from sba.core.errors import ConfigError
from sba.models.cifar import conv_bn
from sba.records.record import record_of
from sba.training.compiled import check, compile_stages
from sba.training.evaluation import logits

# torch's compiler looks at whatever it meets, and what it meets may warn
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a processor with g++")


def network_of(classes=10, channels=1, side=8):
    """Four stages with convolutions, three of them alike, and a linear one."""
    stages = [(f"conv{i}", conv_bn(channels if i == 1 else 8, 8)) for i in range(1, 5)]
    linear = nn.Linear(8 * side * side, classes)
    return Staged([*stages, ("flatten", nn.Flatten()), ("fc1", linear)], (channels, side, side))


@pytest.fixture
def stages(monkeypatch):
    """Let every training build that network, and count the graphs that torch compiles from here on."""
    from torch._dynamo.utils import counters

    if not os.environ.get("SBA_NIGHTLY"):
        # the same graphs, but no code is written for them
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr("sba.training.setup.build", lambda name, *shape: network_of(*shape[:3]))
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["resnet44", "vgg16", "alexnet"])
def test_shapes_are_those_of_the_activations(name):
    network = build(name, 10, 3, 32).eval()
    h, before = torch.randn(1, 3, 32, 32), "input"
    found = {before: (3, 32, 32)}
    for stage in network.stages:
        h, before = network(h, until=stage, after=before), stage
        found[stage] = tuple(h.shape[1:])
    assert network.shapes() == found


@compiles
def test_values_gradients_and_statistics_are_those_of_the_network(stages, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="inductor"))
    torch.manual_seed(0)
    plain, compiled = network_of(), network_of()
    compiled.load_state_dict(plain.state_dict())
    compile_stages(compiled)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    x = torch.randn(6, 1, 8, 8)
    losses = [network.train()(x).logsumexp(1).sum() for network in (plain, compiled)]
    for loss in losses:
        loss.backward()
    assert stages() == 2, "stages that are alike share their code"
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    for a, b in zip(plain.buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    # entered and left in the middle, as SBA does
    h = compiled(x, until="conv2")
    torch.testing.assert_close(h, plain(x, until="conv2"), rtol=1e-4, atol=1e-5)
    assert stages() == 2


@compiles
def test_evaluation_runs_as_written(stages, small):
    torch.manual_seed(0)
    plain, compiled = network_of(), network_of()
    compiled.load_state_dict(plain.state_dict())
    compile_stages(compiled)
    scores = [logits(network, small) for network in (plain, compiled)]
    assert torch.equal(*scores) and stages() == 0


@compiles
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"method": "sba", "eta": 0.5, "omega": 0.0, "layers": ("flatten",)},
        # virtual points pass a compiled stage's batch normalisation, which takes the statistics of raw rows
        {"method": "sba", "eta": 0.5, "omega": 0.0, "layers": ("conv2",), "folds": 2},
        {"method": "sba", "eta": 0.5, "omega": 0.0, "update": "sequential_fresh"},
        {"views": 2, "chunked": True, "adapt_norm": True, "padding": 1},
    ],
    ids=["erm", "sba behind the stages", "sba between them", "fresh", "chunked"],
)
def test_a_compiled_run_is_the_run(stages, run, small, parameters):
    usual, compiled = (train(run(**parameters, lr=0.01), small, compiled=c) for c in (False, True))
    for a, b in zip(usual, compiled, strict=True):
        assert a.counts == b.counts and a.terms.keys() == b.terms.keys()
        assert all(math.isclose(a.terms[k], b.terms[k], rel_tol=1e-3, abs_tol=1e-6) for k in a.terms), (a, b)
    assert stages() > 0
    assert record_of(compiled).compiled is True and "compiled" not in record_of(usual).as_json()


def test_a_network_without_a_convolution_has_nothing_to_compile(run):
    training = train(run(dataset="moons", epochs=1), compiled=True)
    list(training)
    assert not training.compiled and "compiled" not in record_of(training)


def test_what_torch_compiles_with_is_asked_for_first(run, small, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ConfigError, match=r"compile: there is no C\+\+ compiler 'no-such-compiler'; install it, name one"
    ):
        train(run(), small, compiled=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="compile: the package triton"):
        check(torch.device("cuda"))


def test_stages_that_are_passed_back_through_twice_are_not_compiled(run, small):
    with pytest.raises(ConfigError, match="compile: update 'sequential_stale' goes back through the stages twice"):
        train(run(method="sba", update="sequential_stale"), small, compiled=True)
