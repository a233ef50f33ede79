"""SBA without virtual points as a method."""

import math

import oracles
import pytest
import torch
from helpers import deep_network, outcome, same
from implicit_scene import ALWAYS, Scene, normal
from torch import nn

from sba import ERM, SBA, ImplicitSBA, Staged, Step, build, train
from sba.core.errors import ConfigError


@pytest.mark.parametrize(
    "null", [{"eta": 0.0, "omega": 0.0}, {"omega": math.pi / 2, "eta": 5.0}], ids=["eta=0", "omega=π/2"]
)
@pytest.mark.parametrize("network", ["digits", "digits_dropout"])
def test_null_settings_equal_erm_bit_for_bit(run, small, null, network):
    plain, implicit = (outcome(run(network=network, **p), small) for p in ({}, {"method": "implicit-sba", **null}))
    assert implicit[0] == plain[0]
    assert same(implicit[1], plain[1])


@pytest.mark.parametrize(
    "null", [{"eta": 0.0, "omega": 0.0}, {"omega": math.pi / 2, "eta": 5.0}], ids=["eta=0", "omega=π/2"]
)
def test_null_settings_equal_erm_with_batch_norm_and_dropout(run, small, deep, null):
    plain, implicit = outcome(run(), small), outcome(run(method="implicit-sba", **null), small)
    assert implicit[0] == plain[0]
    assert same(implicit[1], plain[1])


def test_settings_that_are_not_null_differ_from_erm(run, small):
    plain, implicit = (outcome(run(**p), small)[1] for p in ({}, {"method": "implicit-sba", **ALWAYS}))
    assert not torch.equal(plain["network.fc1.0.weight"], implicit["network.fc1.0.weight"])


def test_the_second_term_is_eta_times_the_mean_divergence():
    scene, x = Scene(), normal(5, 3)
    method = ImplicitSBA(omega=0.0, eta=0.3)
    y = torch.tensor([0, 1, 2, 3, 0])
    terms = method.terms(scene.network, x, y, Step(0), None)
    logits = scene.network(x)
    expected = 0.3 * method.divergence(scene.network, x, logits).mean()
    assert list(terms) == ["cross_entropy", "virtual"]
    assert terms["virtual"].item() == pytest.approx(expected.item(), rel=1e-12) and expected > 0
    assert terms["cross_entropy"].item() == pytest.approx(oracles.cross_entropy(logits.tolist(), y.tolist()), rel=1e-12)


@pytest.mark.parametrize("schedule", ["iteration", "epoch"])
def test_it_follows_the_scheduler_of_sba(schedule):
    scene, (x, y) = Scene(), (normal(5, 3), torch.tensor([0, 1, 2, 3, 0]))
    implicit, sampled = (cls(schedule=schedule) for cls in (ImplicitSBA, SBA))
    network = build("mlp", 4, 3, 1)
    for step in range(40):
        now = Step(0, step, step // 5)
        augmented = "virtual" in implicit.terms(scene.network, x, y, now, None)
        assert augmented == (sampled.augmented_layer(network, now) is not None)


def test_nothing_is_drawn():
    scene = Scene()
    before = torch.get_rng_state()
    values = [
        ImplicitSBA(**ALWAYS).terms(scene.network, scene.h, torch.arange(5) % 4, Step(0, t), None)["virtual"].item()
        for t in range(2)
    ]
    assert values[0] == values[1] and torch.equal(before, torch.get_rng_state())


def test_cross_entropy_of_an_augmented_step_is_that_of_a_plain_one(deep):
    network = deep_network()
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8)

    def cross_entropy(method):
        torch.manual_seed(5)
        return method.terms(network, x, y, Step(0), None)["cross_entropy"]

    assert torch.equal(cross_entropy(ERM()), cross_entropy(ImplicitSBA(**ALWAYS)))


def test_the_memory_of_a_running_scale():
    network = build("digits", 10, 1, 8)
    memory = ImplicitSBA(scale="running").memory(network)
    assert {name: value.shape for name, value in memory.named_buffers()} == {"variance_last": (64,), "updates_last": ()}
    assert ImplicitSBA().memory(network) is None
    method, x, y = ImplicitSBA(scale="running", omega=0.8), torch.randn(4, 1, 8, 8), torch.arange(4)
    augmented = ["virtual" in method.terms(network, x, y, Step(0, t), memory) for t in range(20)]
    assert memory.updates_last.item() == sum(augmented) and 0 < sum(augmented) < 20
    with pytest.raises(ConfigError, match="'running' needs the method's memory"):
        method.divergence(network, torch.zeros(2, 64), torch.zeros(2, 10))


def test_a_network_that_ends_otherwise_is_refused(small, monkeypatch):
    endless = Staged([("fc1", nn.Linear(64, 10)), ("norm", nn.BatchNorm1d(10))])
    with pytest.raises(
        ConfigError, match=r"method: 'implicit-sba' needs a network that ends in a linear layer, .*'norm'; give sba"
    ):
        ImplicitSBA().check(endless)
    with pytest.raises(ConfigError, match="'implicit-sba' needs"):
        ImplicitSBA().check(Staged([("fc1", nn.Linear(64, 10))]))
    ImplicitSBA().check(Staged([("flatten", nn.Flatten()), ("fc1", nn.Linear(64, 10))]))
    monkeypatch.setattr("sba.training.setup.build", lambda *_: endless)
    from sba import make_run

    with pytest.raises(ConfigError, match="ends in a linear layer"):
        train(make_run(method="implicit-sba"), small)


@pytest.mark.parametrize("scale", ["batch", "running", "absolute"])
@pytest.mark.parametrize("expectation", ["second_order", "bound"])
def test_training_with_mixed_precision_is_finite_and_close_to_full(run, small, scale, expectation):
    given = {"method": "implicit-sba", "scale": scale, "expectation": expectation, **ALWAYS, "epochs": 1}
    (low,), (full,) = (list(train(run(**given, amp=amp), small)) for amp in ("bf16", "none"))
    assert low.terms["virtual"] == pytest.approx(full.terms["virtual"], rel=0.15)


def test_it_teaches_the_layers_below():
    network = build("mlp", 4, 2, 1)
    terms = ImplicitSBA(**ALWAYS).terms(network, torch.randn(4, 2, 1, 1), torch.arange(4), Step(0), None)
    terms["virtual"].backward()
    assert all(p.grad.any() for name, p in network.named_parameters() if name != "fc3.bias")
