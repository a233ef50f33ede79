"""One optimiser step or two: Eq. 11 against Algorithm 1, by hand."""

import math

import pytest
import torch
from torch import nn

from sba import SBA
from sba.core.updates import FIRST, UPDATES, halves, total

SEQUENTIAL = ["sequential_stale", "sequential_fresh"]
X = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.9]], dtype=torch.float64)
Y = torch.tensor([0, 1, 0])


class Tiny(nn.Module):
    """A linear layer, a softmax loss and a penalty of another shape; ``compute`` counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64))
        self.calls = 0

    def compute(self):
        self.calls += 1
        return {FIRST: self.first(self.weight), "virtual": self.second(self.weight)}

    @staticmethod
    def first(weight):
        return nn.functional.cross_entropy(X @ weight.T, Y)

    @staticmethod
    def second(weight):
        return 0.7 * (X @ weight.T).square().mean() + weight.pow(3).sum()


def gradient(function, weight):
    weight = weight.detach().requires_grad_()
    return torch.autograd.grad(function(weight), weight)[0]


def by_hand(update, steps, lr, momentum, decay):
    """Torch's gradient descent with momentum and weight decay, each step of it written out."""
    weight = Tiny().weight.detach().clone()
    velocity = torch.zeros_like(weight)

    def descend(weight, velocity, slope):
        velocity = momentum * velocity + slope + decay * weight
        return weight - lr * velocity, velocity

    for _ in range(steps):
        first, second = gradient(Tiny.first, weight), gradient(Tiny.second, weight)
        if update == "joint":
            weight, velocity = descend(weight, velocity, first + second)
            continue
        weight, velocity = descend(weight, velocity, first)
        if update == "sequential_fresh":
            second = gradient(Tiny.second, weight)
        weight, velocity = descend(weight, velocity, second)
    return weight


def descended(update, steps, lr, momentum, decay):
    tiny = Tiny()
    optimizer = torch.optim.SGD(tiny.parameters(), lr=lr, momentum=momentum, weight_decay=decay, fused=True)
    for _ in range(steps):
        UPDATES[update]([tiny.compute], optimizer)
    return tiny


# ----------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1), (0.9, 0.1)])
def test_algorithm_1_by_hand(update, momentum, decay):
    """With the momentum's buffer carried from the first update to the second, and the decay in both."""
    tiny = descended(update, 4, 0.1, momentum, decay)
    torch.testing.assert_close(tiny.weight.detach(), by_hand(update, 4, 0.1, momentum, decay))
    assert tiny.calls == (8 if update == "sequential_fresh" else 4)


def test_the_three_differ_where_they_should():
    plain = {update: descended(update, 4, 0.1, 0.0, 0.0).weight for update in UPDATES}
    torch.testing.assert_close(plain["joint"], plain["sequential_stale"])
    assert not torch.allclose(plain["joint"], plain["sequential_fresh"], atol=1e-3)
    for momentum, decay in ((0.9, 0.0), (0.0, 0.1)):
        moved = {update: descended(update, 4, 0.1, momentum, decay).weight for update in UPDATES}
        assert not torch.allclose(moved["joint"], moved["sequential_stale"], atol=1e-3)


@pytest.mark.parametrize("update", UPDATES)
def test_the_terms_of_the_step_are_returned(update):
    tiny = Tiny()
    start = tiny.weight.detach().clone()
    terms = UPDATES[update]([tiny.compute], torch.optim.SGD(tiny.parameters(), lr=0.1))
    assert list(terms) == [FIRST, "virtual"]
    assert terms[FIRST].item() == Tiny.first(start).item()
    where = start - 0.1 * gradient(Tiny.first, start) if update == "sequential_fresh" else start
    assert terms["virtual"].item() == pytest.approx(Tiny.second(where).item(), rel=1e-12)


@pytest.mark.parametrize("update", UPDATES)
def test_gradients_left_over_do_not_count(update):
    tiny = Tiny()
    tiny.weight.grad = torch.full_like(tiny.weight, 1e6)
    UPDATES[update]([tiny.compute], torch.optim.SGD(tiny.parameters(), lr=0.1))
    torch.testing.assert_close(tiny.weight.detach(), by_hand(update, 1, 0.1, 0.0, 0.0))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", [FIRST, "virtual"])
def test_a_step_of_one_term_is_one_step_in_every_mode(update, name):
    """Where λ(t) = 0, and where the virtual term stands alone."""
    tiny, steps = Tiny(), []
    start = tiny.weight.detach().clone()
    optimizer = torch.optim.SGD(tiny.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    terms = UPDATES[update]([lambda: {name: tiny.compute()[name]}], optimizer)
    slope = gradient({FIRST: Tiny.first, "virtual": Tiny.second}[name], start) + 0.1 * start
    assert (list(terms), len(steps), tiny.calls) == ([name], 1, 1)
    torch.testing.assert_close(tiny.weight.detach(), start - 0.1 * slope)


@pytest.mark.parametrize("update", SEQUENTIAL)
def test_parameters_that_the_second_term_does_not_reach_move_once(update):
    a, b = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (1.0, 2.0))
    optimizer = torch.optim.SGD([a, b], lr=0.1, weight_decay=0.5)
    UPDATES[update]([lambda: {FIRST: (a * b).sum(), "virtual": b.square().sum()}], optimizer)
    first = [1.0 - 0.1 * (2.0 + 0.5), 2.0 - 0.1 * (1.0 + 1.0)]
    stale = 2.0 if update == "sequential_stale" else first[1]
    assert a.item() == pytest.approx(first[0])
    assert b.item() == pytest.approx(first[1] - 0.1 * (2 * stale + 0.5 * first[1]))


def test_halves_and_total():
    terms = {"virtual": torch.tensor(2.0), FIRST: torch.tensor(1.0), "other": torch.tensor(4.0)}
    first, second = halves(terms)
    assert (list(first), list(second)) == ([FIRST], ["virtual", "other"])
    assert total(terms).item() == 7 and total(second).item() == 6 and total(first) is terms[FIRST]
    assert halves({}) == ({}, {})


def test_names_are_the_methods():
    assert [SBA(update=name).update for name in UPDATES] == list(UPDATES)


# ------------------------------------------------------------------------------------------- what the pages say of the two


class Kicked(nn.Module):
    """A weight whose two terms have the slopes that are given."""

    def __init__(self, before=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1, momentum=0.8)
        self.optimizer.state[self.weight]["momentum_buffer"] = torch.full_like(self.weight.data, before)

    def step(self, update, first, second):
        UPDATES[update](
            [lambda: {FIRST: first * self.weight.sum(), "virtual": second * self.weight.sum()}], self.optimizer
        )


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("slopes", [(1.0, 0.0), (0.0, 1.0)], ids=["first term", "second term"])
def test_a_gradient_moves_the_weights_by_the_rate_over_one_minus_momentum_in_every_mode(update, slopes):
    """Decisions, point 17: the first gradient does not act twice."""
    kicked = Kicked()
    kicked.step(update, *slopes)
    for _ in range(200):
        kicked.step("joint", 0.0, 0.0)
    assert kicked.weight.item() == pytest.approx(-0.1 / (1 - 0.8))


@pytest.mark.parametrize(("update", "decays"), [("joint", 1), ("sequential_stale", 2), ("sequential_fresh", 2)])
def test_two_updates_let_older_gradients_decay_by_the_square_of_momentum(update, decays):
    kicked = Kicked(before=1.0)
    kicked.step(update, 0.0, 0.0)
    assert kicked.optimizer.state[kicked.weight]["momentum_buffer"].item() == pytest.approx(0.8**decays)


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_a_loss_in_bits_is_a_larger_rate_and_a_smaller_weight_decay(decay):
    """Decisions, point 19: lr (g/ln 2 + λw) = (lr/ln 2)(g + λ ln 2 · w); λ stays only if it is 0."""

    def trained(unit, lr, weight_decay):
        weight = nn.Parameter(Tiny().weight.detach().clone())
        optimizer = torch.optim.SGD([weight], lr=lr, momentum=0.9, weight_decay=weight_decay)
        for _ in range(5):
            optimizer.zero_grad()
            ((Tiny.first(weight) + Tiny.second(weight)) / unit).backward()
            optimizer.step()
        return weight.detach()

    bits = trained(math.log(2), 0.1, decay)
    torch.testing.assert_close(trained(1, 0.1 / math.log(2), decay * math.log(2)), bits, rtol=1e-12, atol=0)
    assert torch.allclose(trained(1, 0.1 / math.log(2), decay), bits, rtol=1e-6) == (decay == 0)
