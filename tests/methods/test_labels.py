"""What methods and losses take for labels: classes or probabilities; the rest is refused at the first call, in one message."""

import re

import oracles
import pytest
import torch
from helpers import ACTIVE, scene
from torch import nn

from sba import METHODS, SBA, Staged, attach
from sba.core.divergence import cross_entropy, hard_loss, sba_objective
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.methods.decoupled import decoupled_binary_cross_entropy, decoupled_loss
from sba.methods.mixup import mixed_binary_cross_entropy, mixed_cross_entropy

FIX = "are not allowed; give classes, torch.int64 of shape ({rows},), in 0 … {last}"
WRONG = {
    "odds": (lambda y, c: torch.eye(c)[y][1:], "labels: torch.float32 of shape ({less}, {c}) "),
    "target": (lambda y, c: y.float(), "labels: torch.float32 of shape ({rows},) "),
    "column": (lambda y, c: y[:, None], "labels: torch.int64 of shape ({rows}, 1) "),
    "int32": (lambda y, c: y.int(), "labels: torch.int32 of shape ({rows},) "),
    "uint8": (lambda y, c: y.byte(), "labels: torch.uint8 of shape ({rows},) "),
    "short": (lambda y, c: y[:-1], "labels: torch.int64 of shape ({less},) "),
    "one": (lambda y, c: y[:1], "labels: torch.int64 of shape (1,) "),
    "long": (lambda y, c: torch.cat([y, y]), "labels: torch.int64 of shape ({more},) "),
    "from 1": (lambda y, c: torch.full_like(y, c), "labels: values from {c} to {c} "),
    "ignored": (lambda y, c: torch.full_like(y, -100), "labels: values from -100 to -100 "),
}
wrong = pytest.mark.parametrize("kind", WRONG)


SOFT = [name for name, cls in METHODS.items() if cls.soft]
HARD = [name for name in METHODS if name not in SOFT]


def spoiled(kind, y, classes):
    """Labels of a kind, and what is said of them."""
    make, message = WRONG[kind]
    rows = len(y)
    said = (message + FIX).format(rows=rows, c=classes, last=classes - 1, less=rows - 1, more=2 * rows)
    return make(y, classes), re.escape(said)


@pytest.mark.parametrize("name", METHODS)
@wrong
def test_every_method_refuses_wrong_labels_in_one_message(name, kind):
    network, x, y = scene()
    y, message = spoiled(kind, y, network(x).shape[1])
    method = METHODS[name](**ACTIVE.get(name, {}))
    with pytest.raises(ConfigError, match=message):
        method.terms(network, x, y, Step(0, 3, 1, 0.5), method.memory(network))


@wrong
def test_every_loss_refuses_wrong_labels(kind):
    logits, right = torch.randn(6, 4), torch.arange(6) % 4
    y, message = spoiled(kind, right, 4)
    for loss in (mixed_cross_entropy, mixed_binary_cross_entropy, decoupled_loss, decoupled_binary_cross_entropy):
        for pair in ((y, right), (right, y)):
            with pytest.raises(ConfigError, match=message):
                loss(logits, *pair, 1.0)
    with pytest.raises(ConfigError, match=message):
        sba_objective(logits, y, None, 0.0)


def own(classes=5):
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, classes))


@wrong
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", METHODS)
def test_a_criterion_refuses_them_before_anything_moves(name, kind, training):
    x, y = torch.randn(8, 6), torch.arange(8) % 5
    model = own()
    criterion = attach(model, METHODS[name](), x, total_steps=5).train(training)
    y, message = spoiled(kind, y, 5)
    before = {key: value.clone() for key, value in criterion.state_dict().items() if isinstance(value, torch.Tensor)}
    with pytest.raises(ConfigError, match=message):
        criterion(x, y)
    assert criterion.step == 0 and all(torch.equal(criterion.state_dict()[k], v) for k, v in before.items())


def test_a_list_is_refused_too():
    x = torch.randn(8, 6)
    with pytest.raises(ConfigError, match=r"labels: <class 'list'> of shape \(\) are not allowed; give classes"):
        attach(own(), SBA(), x, total_steps=5)(x, [0] * 8)


@pytest.mark.parametrize("name", METHODS)
def test_a_single_logit_is_refused(name):
    """Its cross-entropy is 0 whatever it is: a regression trained at a loss of −0.0."""
    network = Staged([("fc1", nn.Linear(6, 8)), ("act", nn.Dropout(0.1)), ("fc2", nn.Linear(8, 1))], (6,))
    layers = {"layers": ("fc1",)} if "layers" in METHODS[name].__dataclass_fields__ else {}
    method = METHODS[name](**layers)
    with pytest.raises(
        ConfigError, match=r"logits: shape \(32, 1\) is not allowed; give \(B, C\) of two classes or more"
    ):
        method.terms(network, torch.randn(32, 6), torch.zeros(32).long(), Step(0, 0, 0, 0.5), method.memory(network))
    with pytest.raises(ConfigError, match=r"model: logits of shape \(8, 1\) .*; put out \(N, classes\), two classes"):
        attach(own(1), METHODS[name](), torch.randn(8, 6), total_steps=5)


# ---------------------------------------------------------------------------------------------------------- soft labels


def losses(name, y, network=None, seed=3):
    network = network or scene()[0]
    x, method = scene()[1], METHODS[name](**ACTIVE.get(name, {}))
    torch.manual_seed(seed)
    return method.terms(network, x, y, Step(0, 3, 1, 0.5), method.memory(network))


def test_the_methods_that_need_the_class_of_each_row():
    assert HARD == ["decoupled", "isda", "sba+isda"]


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_certain_labels_are_classes(name, dtype):
    y = scene()[2]
    hard, soft = losses(name, y), losses(name, torch.eye(10, dtype=dtype)[y])
    assert hard.keys() == soft.keys() and all(term.dtype == torch.float32 for term in soft.values())
    for term, value in hard.items():
        torch.testing.assert_close(soft[term], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SOFT)
def test_the_loss_is_linear_in_the_labels(name):
    """All that depends on a label is a cross-entropy, so a mixed label gives the mixed loss; the oracle is the float64 sum."""
    y, p = scene()[2], torch.rand(16, 10, dtype=torch.float64).softmax(-1)
    parts = [
        sum(losses(name, labels).values()).item() for labels in (p, torch.eye(10)[y], 0.3 * p + 0.7 * torch.eye(10)[y])
    ]
    assert parts[2] == pytest.approx(0.3 * parts[0] + 0.7 * parts[1], rel=1e-4)


def test_the_cross_entropy_of_soft_labels_by_hand():
    logits, targets = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, 4, dtype=torch.float64).softmax(-1)
    expected = oracles.soft_cross_entropy(logits.tolist(), targets.tolist())
    assert sba_objective(logits, targets, None, 0.0)["cross_entropy"].item() == pytest.approx(expected, rel=1e-12)
    mixed = 0.3 * expected + 0.7 * oracles.soft_cross_entropy(logits.tolist(), targets.roll(1, 0).tolist())
    assert mixed_cross_entropy(logits, targets, targets.roll(1, 0), 0.3).item() == pytest.approx(mixed, rel=1e-12)
    virtual = torch.randn(12, 4, dtype=torch.float64)
    twice = oracles.soft_cross_entropy(virtual.tolist(), targets.tolist() * 2)
    assert hard_loss(virtual, targets).item() == pytest.approx(twice, rel=1e-12)
    smooth = torch.tensor(oracles.smoothed(range(4), 4, 0.2), dtype=torch.float64)
    found = cross_entropy(logits, targets, 0.2).item()
    assert found == pytest.approx(oracles.soft_cross_entropy(logits.tolist(), (targets @ smooth).tolist()), rel=1e-12)


def test_the_binary_cross_entropy_of_soft_labels_is_torchs():
    logits, targets = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, 4, dtype=torch.float64).softmax(-1)
    other = targets.roll(1, 0)
    expected = torch.nn.functional.binary_cross_entropy(logits.softmax(-1), 0.3 * targets + 0.7 * other)
    torch.testing.assert_close(mixed_binary_cross_entropy(logits, targets, other, 0.3), expected)


@pytest.mark.parametrize(
    "spoil", [lambda p: 0.9 * p, lambda p: p - torch.eye(10)[0], lambda p: torch.full_like(p, torch.nan)]
)
@pytest.mark.parametrize("name", SOFT)
def test_rows_that_are_no_probabilities_are_refused(name, spoil):
    p = torch.rand(16, 10, dtype=torch.float64).softmax(-1)
    message = r"labels: rows that are no probabilities are not allowed; give classes, .*, or probabilities, floats of"
    with pytest.raises(ConfigError, match=message):
        losses(name, spoil(p))


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_method_of_classes_refuses_soft_labels_in_one_message_before_anything_moves(name, training):
    message = r"labels: torch.float32 of shape \({}, {}\) are not allowed; give classes, .* \(its formula has one class a row\)"
    with pytest.raises(ConfigError, match=message.format(16, 10)):
        losses(name, torch.eye(10)[scene()[2]])
    x, y = torch.randn(8, 6), torch.arange(8) % 5
    criterion = attach(own(), METHODS[name](), x, total_steps=5).train(training)
    before = {key: value.clone() for key, value in criterion.state_dict().items() if isinstance(value, torch.Tensor)}
    with pytest.raises(ConfigError, match=message.format(8, 5)):
        criterion(x, torch.eye(5)[y])
    assert all(torch.equal(criterion.state_dict()[k], v) for k, v in before.items())


@pytest.mark.parametrize("name", SOFT)
def test_a_criterion_takes_soft_labels(name):
    x, p = torch.randn(32, 6), torch.rand(32, 5).softmax(-1)
    criterion = attach(own(), METHODS[name](), x, total_steps=5)
    criterion(x, p).backward()
    assert all(parameter.grad.isfinite().all() for parameter in criterion.parameters())
    logits = criterion.eval().network(x)
    assert criterion(x, p).item() == pytest.approx(oracles.soft_cross_entropy(logits.tolist(), p.tolist()), rel=1e-5)
