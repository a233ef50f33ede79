"""Every switch of SBA does something, and what cannot be is refused."""

import functools
import math

import pytest
import torch
from helpers import deep_network
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from sba import ERM, METHODS, SBA, Staged, train
from sba.core.errors import ConfigError
from sba.core.hyper import choices, definitions
from sba.core.rng import Step
from sba.methods import Method
from sba.models.registry import build
from sba.training.run import make_run

ALWAYS = {"omega": 0.0}


# ---------------------------------------------------------------------------------------------------------- every switch


@pytest.mark.parametrize("half", [False, True])
@settings(max_examples=60)
@given(
    fields=st.fixed_dictionaries({
        **{name: st.sampled_from(choices(field)) for name, field in definitions(SBA).items() if choices(field)},
        **{name: st.booleans() for name, field in definitions(SBA).items() if field.annotation is bool},
        "folds": st.integers(1, 4), "gaussian_share": st.sampled_from([0.0, 0.5, 1.0]), "sigma": st.floats(0, 2),
        "tau": st.floats(0.1, 5), "dropout_rate": st.floats(0, 0.9),
        "layers": st.sampled_from([("input",), ("conv1",), ("conv2",), ("flatten",), ("fc1",)]),
    }),
)  # fmt: skip
def test_every_combination_of_switches_is_finite_and_has_gradients(fields, half):
    assume(fields["objective"] == "sum" or fields["update"] == "joint")
    network = small_network()
    method = SBA(omega=0.0, eta=1.0, **fields)
    method.check(network)
    memory = method.memory(network)
    before = {name: id(value) for name, value in network.named_buffers()}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        terms = method.terms(network, torch.randn(5, 1, 8, 8), torch.arange(5), Step(0), memory)
    assert list(terms) == (["virtual"] if method.objective == "either_or" else ["cross_entropy", "virtual"])
    assert all(t.shape == () and t.isfinite() and t.dtype == torch.float32 for t in terms.values())
    gradients = torch.autograd.grad(sum(terms.values()), list(network.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in gradients)
    assert before == {name: id(value) for name, value in network.named_buffers()}
    assert all(m.training for m in network.modules())
    if method.label == "soft" and not half:
        assert terms["virtual"] >= -1e-6


@functools.cache
def small_network():
    """Maps, batch normalisation and dropout, with few features."""
    torch.manual_seed(0)
    stages = [
        ("conv1", nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())),
        ("conv2", nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3))),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))),
        ("fc2", nn.Linear(8, 10)),
    ]
    return Staged(stages, (1, 8, 8)).train()


@pytest.mark.parametrize("detach", [True, False])
def test_detach_decides_whether_the_teacher_learns(detach):
    network = build("mlp", 3, 2, 1)
    seen = []
    network.get_submodule("fc3").register_forward_hook(lambda module, args, out: seen.append(out))
    method = SBA(detach=detach, **ALWAYS)
    virtual = method.terms(network, torch.randn(4, 2, 1, 1), torch.tensor([0, 1, 2, 1]), Step(0), None)["virtual"]
    (gradient,) = torch.autograd.grad(virtual, seen[0], allow_unused=True)
    assert len(seen) == 2
    assert (gradient is None) == detach


def test_virtual_points_teach_the_layers_below_them():
    network = build("mlp", 3, 2, 1)
    method = SBA(layers=("fc2",), **ALWAYS)
    virtual = method.terms(network, torch.randn(4, 2, 1, 1), torch.tensor([0, 1, 2, 1]), Step(0), None)["virtual"]
    virtual.backward()
    assert network.get_submodule("fc1")[0].weight.grad.any()


def test_at_the_last_layer_the_second_term_still_teaches_the_convolutions_of_alexnet():
    """Decisions, Plausibility: only what the last map makes of a feature is compared, but the feature is moved as well."""
    torch.manual_seed(0)
    network = build("alexnet", 10, 3, 32)
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8)
    SBA(layers=network.linear_inputs, **ALWAYS).terms(network, x, y, Step(0), None)["virtual"].backward()
    last = set(network.last_linear.parameters())
    lengths = [sum(p.grad.square().sum() for p in network.parameters() if (p in last) == at).sqrt() for at in (0, 1)]
    assert network.linear_inputs == network.stages[-2:-1] and lengths[0] > 0.1 * lengths[1] > 0


def test_the_label_chooses_the_loss():
    network, x, y = build("mlp", 3, 2, 1), torch.randn(4, 2, 1, 1), torch.tensor([0, 1, 2, 1])
    soft, hard = (
        SBA(eta=1.0, sigma=0.0, dropout_rate=0.0, label=label, **ALWAYS).terms(network, x, y, Step(0), None)
        for label in ("soft", "hard")
    )
    # With the virtual points equal to the raw ones the divergence vanishes, and the hard loss is the cross-entropy.
    assert soft["virtual"].item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(hard["virtual"], hard["cross_entropy"])


def test_the_raw_pass_draws_its_dropout_first():
    """The cross-entropy of an augmented step is that of the plain step, dropout included."""
    network = deep_network().train()
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8)

    def cross_entropy(method):
        torch.manual_seed(5)
        return method.terms(network, x, y, Step(0), None)["cross_entropy"]

    assert torch.equal(cross_entropy(ERM()), cross_entropy(SBA(layers=("fc1",), **ALWAYS)))


def test_layers_are_drawn_uniformly_and_only_when_lambda_is_one():
    network, method = build("mlp", 3, 2, 1), SBA(omega=math.pi / 3)
    layers = [method.augmented_layer(network, Step(0, step)) for step in range(6000)]
    counts = [layers.count(name) for name in (None, "flatten", "fc1", "fc2")]
    assert sum(counts) == 6000
    assert abs(counts[0] - 3000) < 3.5 * math.sqrt(6000 / 4)
    assert all(abs(n - 1000) < 3.5 * math.sqrt(6000 * (1 / 6) * (5 / 6)) for n in counts[1:])


def test_given_layers_replace_the_usual_ones():
    network = build("digits", 10, 1, 8)
    assert SBA().eligible(network) == ("flatten", "fc1")
    method = SBA(layers=("conv1", "input"), **ALWAYS)
    assert {method.augmented_layer(network, Step(0, t)) for t in range(50)} == {"conv1", "input"}


def test_epoch_schedule_reaches_the_scheduler():
    network, method = build("mlp", 3, 2, 1), SBA(schedule="epoch", layers=("fc1",))
    layers = [[method.augmented_layer(network, Step(0, 9 * e + t, e)) for t in range(9)] for e in range(20)]
    assert all(len(set(epoch)) == 1 for epoch in layers)
    assert {epoch[0] for epoch in layers} == {None, "fc1"}


def test_virtual_points_depend_on_the_moment_alone():
    network, x, y = build("mlp", 3, 2, 1), torch.randn(4, 2, 1, 1), torch.tensor([0, 1, 2, 1])

    def virtual(step):
        return SBA(layers=("fc1",), **ALWAYS).terms(network, x, y, Step(0, step), None)["virtual"]

    assert torch.equal(virtual(1), virtual(1)) and not torch.equal(virtual(1), virtual(2))


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("fc9",), "layers: there is no layer 'fc9' in this network; choose from input, conv1"),
        (("flatten", "fc2"), "layers: 'fc2' puts out the logits, nothing comes after it"),
    ],
    ids=["unknown", "last"],
)
def test_a_layer_that_cannot_be_augmented_is_refused_before_training(small, layers, message):
    with pytest.raises(ConfigError, match=message):
        train(make_run(method="sba", layers=layers), small)


def test_a_network_without_linear_layers_needs_named_layers():
    network = Staged([("conv1", nn.Conv2d(1, 4, 3)), ("pool", nn.Flatten())])
    with pytest.raises(ConfigError, match="no linear layer"):
        SBA().check(network)
    SBA(layers=("conv1",)).check(network)


def test_every_method_keeps_the_contract():
    network, x, y = build("mlp", 3, 2, 1, 0.5), torch.randn(32, 2, 1, 1), torch.arange(32) % 3
    for name, cls in METHODS.items():
        method = cls()
        assert issubclass(cls, Method) and cls.__base__ is Method and cls.name == name and cls.title
        terms = method.terms(network, x, y, Step(0, progress=0.0), method.memory(network))
        assert "cross_entropy" in terms
        assert all(t.shape == () and t.requires_grad for t in terms.values())
