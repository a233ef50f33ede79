"""Zero noise gives zero divergence, whatever a network does behind the layer: in place, frozen, twice, at random, or masked."""

import copy
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from sba import SBA, Staged, Step
from sba.core.divergence import kl
from sba.core.tail import BatchNorm, Tail
from sba.methods import SBAISDA
from sba.methods.bamboo import Bamboo

ALWAYS = {"omega": 0.0, "eta": 1.0, "folds": 3}
QUIET = {**ALWAYS, "sigma": 0.0, "dropout_rate": 0.0, "virtual_dropout": False, "basis": "identity"}


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 6, generator=generator, dtype=dtype)
    return x, torch.arange(16) % 5


def chain(*behind, dtype=torch.float64):
    torch.manual_seed(1)
    stages = [
        ("fc1", nn.Linear(6, 8)),
        *((f"b{i}", module) for i, module in enumerate(behind)),
        ("fc2", nn.Linear(8, 5)),
    ]
    return Staged(stages, (6,)).to(dtype)


def virtual_term(network, method, teacher_pass=None):
    x, y = batch()
    torch.manual_seed(2)
    return method.terms(network, x, y, Step(0, progress=0.5), method.memory(network))["virtual"]


class TwiceNormed(nn.Module):
    """One normalisation that two different activations go through."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(8), nn.Linear(8, 8)

    def forward(self, h):
        return self.norm(3 * self.linear(self.norm(h)) + 1)


class Functional(nn.Module):
    def forward(self, h):
        return F.dropout(h, 0.5, self.training)


class Attention(nn.Module):
    """Attention over eight tokens of one feature, with dropout of its weights."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(1, 1, dropout=0.5, batch_first=True)

    def forward(self, h):
        tokens = h[..., None]
        return self.attention(tokens, tokens, tokens, need_weights=False)[0][..., 0]


def frozen(module):
    module.running_mean.normal_(generator=torch.Generator().manual_seed(3))
    return module.eval()


KINDS = {
    "in place": lambda: [nn.ReLU(inplace=True)],
    "frozen batch normalisation": lambda: [frozen(nn.BatchNorm1d(8)), nn.ReLU()],
    "one normalisation called twice": lambda: [TwiceNormed()],
    "dropout": lambda: [nn.Dropout(0.5)],
    "stochastic depth": lambda: [StochasticDepth(0.5, "row")],
    "dropout by function": lambda: [Functional()],
    "attention dropout": lambda: [Attention()],
}
RANDOM = {"dropout", "stochastic depth", "dropout by function", "attention dropout"}


@pytest.mark.parametrize("kind", KINDS)
def test_zero_noise_gives_zero_divergence(kind):
    network = chain(*KINDS[kind]())
    x, _ = batch()
    tail = Tail(network, "fc1", dropout=False, batch_norm="raw")
    h = network(x, until="fc1")
    logits = tail.raw(h)
    if kind in RANDOM:
        # the raw pass is as random as in plain training: what is compared is the part that virtual points meet
        logits = tail.evaluation(h)
    assert kl(logits.repeat(3, 1), tail.virtual(h.repeat(3, 1))).abs().max() < 1e-14


@pytest.mark.parametrize("kind", sorted(RANDOM))
def test_all_kinds_of_randomness_can_be_left_on(kind):
    network = chain(*KINDS[kind]())
    x, _ = batch()
    tail = Tail(network, "fc1", dropout=True, batch_norm="raw")
    h = network(x, until="fc1")
    torch.manual_seed(4)
    assert kl(tail.evaluation(h), tail.virtual(h)).max() > 1e-6


@pytest.mark.parametrize(
    "method",
    [
        SBA(layers=("fc1",), **ALWAYS),
        SBA(layers=("fc1",), teacher="evaluation", **ALWAYS),
        SBAISDA(layers=("fc1",), **ALWAYS),
        Bamboo(layers=("fc1",)),
    ],
    ids=lambda method: f"{method.name} {getattr(method, 'teacher', '')}",
)
def test_a_stage_that_works_in_place_changes_nothing(method):
    plain, in_place = (chain(nn.ReLU(inplace=way)) for way in (False, True))
    terms = [virtual_term(network, method) for network in (plain, in_place)]
    assert torch.equal(*terms)
    for term in terms:
        term.backward()
    for one, other in zip(plain.parameters(), in_place.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)


def test_the_input_of_the_caller_is_not_changed():
    torch.manual_seed(1)
    network = Staged([("act", nn.ReLU(inplace=True)), ("fc", nn.Linear(6, 5))], (6,)).double()
    x, y = batch()
    before = x.clone()
    SBA(layers=("input",), basis="identity", **ALWAYS).terms(network, x, y, Step(0), None)
    assert torch.equal(x, before)


@pytest.mark.parametrize("batch_norm", get_args(BatchNorm))
def test_frozen_normalisation_is_left_alone_in_every_mode(batch_norm):
    network = chain(frozen(nn.BatchNorm1d(8)))
    state = copy.deepcopy(network.state_dict())
    assert virtual_term(network, SBA(layers=("fc1",), batch_norm=batch_norm, **QUIET)).abs() < 1e-14
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    assert not network.get_submodule("b0").training


def test_each_call_of_a_shared_normalisation_has_its_own_statistics():
    network = chain(TwiceNormed())
    x, _ = batch()
    tail = Tail(network, "fc1", True, "raw")
    h = network(x, until="fc1")
    tail.raw(h)
    norm, linear = network.get_submodule("b0").norm, network.get_submodule("b0").linear
    moved = h + 0.1
    fresh = copy.deepcopy(norm).train()
    fresh.running_mean = fresh.running_var = None

    def with_those_of(reference, z):
        mean, variance = reference.mean(0), reference.var(0, correction=0)
        return (z - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias

    first = with_those_of(h, h)
    inner = 3 * linear(first) + 1
    expected = network(with_those_of(inner, 3 * linear(with_those_of(h, moved)) + 1), after="b0")
    torch.testing.assert_close(tail.virtual(moved), expected, rtol=1e-10, atol=1e-12)


def test_masked_classes_add_nothing_and_leave_gradients_finite():
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masked = z.index_fill(1, torch.tensor([1, 3]), -torch.inf).requires_grad_()
    other = (z + 0.1).index_fill(1, torch.tensor([1, 3]), -torch.inf).requires_grad_()
    assert torch.equal(kl(masked, masked), torch.zeros(4, dtype=torch.float64))
    kept = [0, 2, 4]
    torch.testing.assert_close(kl(masked, other), kl(z[:, kept], z[:, kept] + 0.1), rtol=1e-12, atol=1e-15)
    kl(masked, other).sum().backward()
    assert masked.grad.isfinite().all() and other.grad.isfinite().all()
