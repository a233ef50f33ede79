"""ERM and SBA: what they add to the loss, where, and that their null settings are plain training."""

import math

import numpy as np
import oracles
import pytest
import torch
from helpers import deep_network, outcome, same
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sba import SBA, Scheduler, train
from sba.core.rng import Step, fold_in
from sba.core.vicinity import Vicinity
from sba.data.augment import Augmentation
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
