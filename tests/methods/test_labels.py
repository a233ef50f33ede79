"""What no method takes for labels, and no loss: refused at the first call, in one message for all of them."""

import re

import pytest
import torch
from helpers import ACTIVE, scene
from torch import nn

from sba import METHODS, SBA, Staged, attach
from sba.core.divergence import sba_objective
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.methods.decoupled import decoupled_binary_cross_entropy, decoupled_loss
from sba.methods.mixup import mixed_binary_cross_entropy, mixed_cross_entropy

FIX = "are not allowed; give classes, torch.int64 of shape ({rows},), in 0 … {last}"
WRONG = {
    "soft": (lambda y, c: torch.eye(c)[y], "labels: torch.float32 of shape ({rows}, {c}) "),
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
