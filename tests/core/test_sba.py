"""ERM and SBA: what they add to the loss, where, and that their null settings are plain training."""

import functools
import math

import numpy as np
import oracles
import pytest
import torch
from helpers import deep_network, outcome, same
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sba import ERM, METHODS, SBA, Scheduler, Staged, train
from sba.core.errors import ConfigError
from sba.core.hyper import choices, definitions
from sba.core.rng import Step, fold_in
from sba.core.vicinity import Vicinity
from sba.data.augment import Augmentation
from sba.methods import Method
from sba.models.registry import build
from sba.records.record import record_of
from sba.training.run import make_run

ALWAYS = {"omega": 0.0}


# ----------------------------------------------------------------------------------------------- null settings and ERM


@pytest.mark.parametrize(
    "null", [{"eta": 0.0, "omega": 0.0}, {"omega": math.pi / 2, "eta": 5.0}], ids=["eta=0", "omega=π/2"]
)
@pytest.mark.parametrize("layers", [(), ("input",), ("flatten",)], ids=["fc", "input", "flatten"])
def test_null_settings_equal_erm_bit_for_bit(run, small, null, layers):
    """On the digits network; behind its input there is batch normalisation."""
    plain = outcome(run(), small)
    sba = outcome(run(method="sba", layers=layers, **null), small)
    assert sba[0] == plain[0]
    assert same(sba[1], plain[1])


@pytest.mark.parametrize(
    "null", [{"eta": 0.0, "omega": 0.0}, {"omega": math.pi / 2, "eta": 5.0}], ids=["eta=0", "omega=π/2"]
)
def test_null_settings_equal_erm_with_batch_norm_and_dropout_behind_the_layer(run, small, deep, null):
    plain = outcome(run(), small)
    sba = outcome(run(method="sba", **null), small)
    assert sba[0] == plain[0]
    assert same(sba[1], plain[1])


def test_settings_that_are_not_null_differ_from_erm(run, small):
    """Without it the two tests above could not fail."""
    plain, sba = (outcome(run(**p), small)[1] for p in ({}, {"method": "sba", "eta": 0.1, **ALWAYS}))
    assert not torch.equal(plain["network.fc1.0.weight"], sba["network.fc1.0.weight"])


@pytest.mark.parametrize("nesterov", [False, True])
def test_erm_is_textbook_gradient_descent(run, small, nesterov):
    """Same batches, same weights as a loop of a few lines, over a milestone."""
    given = run(epochs=3, milestones=(1,), lr=0.1, weight_decay=0.01, nesterov=nesterov, channels_last=False)
    training = train(given, small)
    network = build("digits", 10, 1, 8)
    network.load_state_dict(training.network.state_dict())
    records = list(training)
    batches, rates = [], []
    for epoch in range(3):
        order = torch.randperm(100, generator=torch.Generator().manual_seed(fold_in(0, "order", epoch)))
        for i in range(6):
            batch = small.train[order[16 * i : 16 * (i + 1)]]
            x = Augmentation(padding=1)(batch.images, small.mean, small.std, Step(0, 6 * epoch + i))
            batches.append((x, batch.labels))
            rates.append(0.1 if epoch < 1 else 0.01)
    losses = oracles.plain_training(network, batches, rates, 0.9, 0.01, nesterov)
    assert [r.terms["cross_entropy"] for r in records] == pytest.approx(np.reshape(losses, (3, 6)).mean(1), rel=1e-5)
    for ours, theirs in zip(training.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_eta_scales_the_gradient_of_the_second_term(small):
    """From the same weights and draws: g(η) = g(0) + η·(g(1) − g(0))."""
    torch.manual_seed(0)
    network = deep_network().double()
    network.get_submodule("fc1")[3].p = network.get_submodule("fc2")[3].p = 0.0
    x, y = torch.randn(8, 1, 8, 8, dtype=torch.float64), small.train.labels[:8]

    def gradient(eta):
        terms = SBA(eta=eta, **ALWAYS).terms(network, x, y, Step(0, 3), None)
        return torch.autograd.grad(sum(terms.values()), network.get_submodule("fc3").weight)[0]

    torch.testing.assert_close(gradient(0.3), gradient(0) + 0.3 * (gradient(1) - gradient(0)))


# --------------------------------------------------------------------------------------------------------- terms of SBA


def test_eq11_of_a_whole_step_against_the_oracle(monkeypatch):
    """The virtual rows pass through what follows layer k, and each is compared with its own raw row."""
    torch.manual_seed(0)
    network = build("mlp", 3, 2, 1).double()
    x, y = torch.randn(4, 2, 1, 1, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    h = network(x, until="fc1")
    points = h.repeat(3, 1) + 0.3 * torch.randn(12, 64, dtype=torch.float64)

    def sample(self, given, generator, spread):
        assert torch.equal(given, h) and torch.equal(spread, h.std(0, correction=0))
        return points

    monkeypatch.setattr(Vicinity, "sample", sample)
    terms = SBA(eta=0.7, layers=("fc1",), **ALWAYS).terms(network, x, y, Step(0), None)
    virtual = network(points, after="fc1").tolist()
    expected = oracles.objective(network(x).tolist(), y.tolist(), virtual, 0.7)
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-12)


class Literal:
    """Eq. 11 as printed on a small network, its draws taken from the stream that SBA draws from and everything else by loops."""

    labels, eta = (0, 1, 2, 1), 5.0

    def __init__(self, **fields):
        torch.manual_seed(0)
        self.network = build("mlp", 3, 2, 1).double()
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.mul_(3)
        self.x = torch.randn(4, 2, 1, 1, dtype=torch.float64)
        settings = {"eta": self.eta, "folds": 5, "gaussian_share": 0.4, "sigma": 0.3, "tau": 1.5, "dropout_rate": 0.4}
        self.method = make_run(
            "moons", "mlp", "sba", preset="paper", layers=("fc1",), **ALWAYS, **settings, **fields
        ).method
        draws = Step(0).generator("vicinity")
        matrix = torch.randn(64, 64, generator=draws).double()
        noise = (0.3 * torch.randn(2, 4, 64, generator=draws).double()).clamp(-0.45, 0.45)
        # absolute noise, so its points around 0 are shifted to those around h
        self.shift = oracles.gaussian_points(
            torch.zeros(4, 64), matrix / matrix.square().sum(0).sqrt(), noise, torch.ones(64)
        )
        self.keep = (torch.rand(3, 4, 64, generator=draws) >= 0.4).numpy()

    def gradient(self, parameter):
        terms = self.method.terms(self.network, self.x, torch.tensor(self.labels), Step(0), None)
        return terms, torch.autograd.grad(sum(terms.values()), parameter)[0]

    @torch.no_grad()
    def value(self):
        """Masks without rescaling, and the mean over M·B of sums over classes."""
        h = self.network(self.x, until="fc1")
        dropout = oracles.dropout_points(h, self.keep, 0.4, rescale=False)
        points = torch.tensor(np.concatenate([h.numpy() + self.shift, dropout]).reshape(20, 64))
        virtual = self.network(points, after="fc1").tolist()
        return oracles.objective(self.network(self.x).tolist(), self.labels, virtual, self.eta)


def test_eq11_literally_with_the_preset_of_the_paper():
    scene = Literal()
    terms, _ = scene.gradient(scene.network[-1].weight)
    assert sum(terms.values()).item() == pytest.approx(scene.value(), rel=1e-7)
    assert terms["virtual"] > 0.01


@pytest.mark.parametrize(("layer", "entry"), [("fc1.0", (0, 1)), ("fc2.0", (3, 7)), ("fc3", (1, 2)), ("fc3", (2, 60))])
@pytest.mark.parametrize("detach", [None, True], ids=["paper", "detached"])
def test_the_gradient_of_the_preset_of_the_paper_has_the_teachers_part(layer, entry, detach):
    """It is the slope of the printed objective, which moves both of its distributions; a detached teacher's is not."""
    scene = Literal(detach=detach)
    parameter = scene.network.get_parameter(f"{layer}.weight")
    gradient = scene.gradient(parameter)[1][entry].item()
    start = parameter[entry].item()

    def value(point):
        with torch.no_grad():
            parameter[entry] = point[0]
        return scene.value()

    (slope,) = oracles.central_differences(value, [start], step=1e-4)
    assert (gradient == pytest.approx(slope, rel=1e-4, abs=1e-7)) == (detach is None)


# ------------------------------------------------------------------------------------------------------------- either-or


@pytest.mark.parametrize("label", ["soft", "hard"])
def test_eq4_either_the_raw_points_or_the_virtual_ones(label):
    """With the hard label and η = 1 the loss of an augmented iteration is that of the virtual points with their labels."""
    network = build("mlp", 3, 2, 1).double()
    x, y = torch.randn(4, 2, 1, 1, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    method = SBA(objective="either_or", label=label, eta=1.0, folds=3, layers=("fc1",), omega=1.0)
    states = {Scheduler(1.0).state(Step(0, step)): step for step in range(20)}
    assert list(method.terms(network, x, y, Step(0, states[False]), None)) == ["cross_entropy"]
    now = Step(0, states[True])
    terms = method.terms(network, x, y, now, None)
    assert list(terms) == ["virtual"]
    h = network(x, until="fc1")
    virtual = network(method.virtual_points(h, now.generator("vicinity")), after="fc1").tolist()
    soft = oracles.soft_loss(network(x).tolist(), virtual)
    expected = {"soft": soft, "hard": oracles.hard_loss(virtual, y.tolist())}
    assert terms["virtual"].item() == pytest.approx(expected[label], rel=1e-12)


def test_either_or_trains_and_makes_one_step(run, small):
    given = {"method": "sba", "objective": "either_or", "label": "hard", "eta": 1.0, "epochs": 10}
    records, _ = outcome(run(**given), small)
    training = train(run(**given), small)
    counts = [r.counts for r in training]
    assert all(sum(c.values()) == 6 for c in counts) and {"cross_entropy", "virtual"} == set().union(*counts)
    assert records[-1][1] < 50


def test_either_or_without_a_plain_step_has_records_without_a_cross_entropy(run, small):
    training = train(run(method="sba", objective="either_or", eta=1.0, omega=0.0), small)
    assert [set(r.terms) for r in training] == [{"virtual"}, {"virtual"}]
    assert set(record_of(training).epochs[0].terms) == {"virtual"}


@pytest.mark.parametrize("detach", [True, False])
def test_either_or_with_a_soft_label_saves_the_raw_rows_backward_pass_behind_the_layer_of_a_detached_teacher(detach):
    """Counted by torch, as the chapter on the scheduler says: twice the raw rows' products behind k."""
    network = build("mlp", 3, 2, 1)
    x, y = torch.randn(4, 2, 1, 1), torch.tensor([0, 1, 2, 1])

    def products(objective):
        method = SBA(objective=objective, detach=detach, layers=("fc1",), basis="identity", **ALWAYS)
        with FlopCounterMode(display=False) as counter:
            torch.stack(list(method.terms(network, x, y, Step(0), None).values())).sum().backward()
        return counter.get_total_flops()

    behind = sum(2 * 4 * m.weight.numel() for m in network.behind("fc1") if isinstance(m, nn.Linear))
    assert products("sum") - products("either_or") == (2 * behind if detach else 0)


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
