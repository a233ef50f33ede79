"""One optimiser step or two: Eq. 11 against Algorithm 1."""

import math

import oracles
import pytest
import torch
from helpers import assert_same, in_parts, whole
from torch import nn

from sba import SBA, Step, build, train
from sba.core.errors import ConfigError
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


# ------------------------------------------------------------------------------------------------------- in a training


def weights(run, data):
    return {name: value for name, value in whole(run, data).network.state_dict().items() if value.is_floating_point()}


def distance(a, b):
    return max((a[name] - b[name]).abs().max().item() for name in a)


SETTINGS = {"method": "sba", "eta": 1.0, "folds": 4, "omega": 0.5, "batch_norm": "raw"}


def test_both_gradients_before_the_first_update_equal_the_joint_step_without_momentum_and_decay(run, small):
    plain = {**SETTINGS, "momentum": 0.0, "weight_decay": 0.0}
    reference = weights(run(**plain), small)
    stale = weights(run(**plain, update="sequential_stale"), small)
    for name, value in reference.items():
        torch.testing.assert_close(stale[name], value, rtol=0, atol=1e-6)
    assert distance(reference, weights(run(**plain, update="sequential_fresh"), small)) > 1e-4


@pytest.mark.parametrize("given", [{"momentum": 0.9, "weight_decay": 0.0}, {"momentum": 0.0, "weight_decay": 0.1}])
def test_with_momentum_or_decay_they_differ(run, small, given):
    reference, stale = (weights(run(**SETTINGS, **given, update=u), small) for u in ("joint", "sequential_stale"))
    assert distance(reference, stale) > 1e-3


@pytest.mark.parametrize("update", SEQUENTIAL)
def test_steps_that_are_not_augmented_are_plain_steps(run, small, update):
    plain = weights(run(), small)
    for null in ({"omega": math.pi / 2}, {"eta": 0.0, "omega": 0.0}):
        assert distance(plain, weights(run(method="sba", update=update, **null), small)) == 0


@pytest.mark.parametrize("update", SEQUENTIAL)
@pytest.mark.parametrize("method", ["sba", "implicit-sba"])
def test_resume_is_bit_for_bit(run, small, deep, tmp_path, update, method):
    """With momentum, and dropout and batch normalisation behind the layer."""
    settings = run(method=method, eta=1.0, omega=0.5, update=update)
    resumed, _ = in_parts(settings, small, tmp_path, 5)
    assert_same(resumed, whole(settings, small))


@pytest.mark.parametrize("update", UPDATES)
def test_optimiser_steps_of_a_training_are_counted_by_the_scheduler(run, small, update):
    training = train(run(**SETTINGS, update=update), small)
    steps = []
    training.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    list(training)
    augmented = sum(r.counts["virtual"] for r in training.history)
    assert augmented in range(1, 12)
    assert len(steps) == 12 + (augmented if update in SEQUENTIAL else 0)


def test_the_second_pass_has_the_first_ones_draws_and_images(run, small, deep):
    """Dropout and virtual points alike; only the weights have moved in between."""
    training = train(run(**{**SETTINGS, "omega": 0.0}, update="sequential_fresh"), small)
    seen = []
    training.network.register_forward_pre_hook(lambda module, args: seen.append((args[0], torch.get_rng_state())))
    training.run_step(torch.arange(16))
    images = [(x, state) for x, state in seen if x.dim() == 4 and len(x) == 16]
    assert len(images) == 2
    assert torch.equal(images[0][0], images[1][0]) and torch.equal(images[0][1], images[1][1])


def test_fresh_update_of_sba_by_hand():
    """A float64 network and two plain steps written out, the second on SBA's own term at the moved weights."""
    torch.manual_seed(0)
    net, twin = (build("mlp", 2, 2, 1).double() for _ in range(2))
    twin.load_state_dict(net.state_dict())
    x, now = X.reshape(3, 2, 1, 1), Step(0, 3)
    method = SBA(eta=1.0, omega=0.0, folds=4, layers=("fc1",), update="sequential_fresh")
    UPDATES["sequential_fresh"](
        [lambda: method.terms(net, x, Y, now, None)], torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    )

    velocities = [torch.zeros_like(p) for p in twin.parameters()]
    for part in ("raw", "virtual"):
        h = twin(x, until="fc1")
        logits = twin(h, after="fc1")
        if part == "raw":
            loss = nn.functional.cross_entropy(logits, Y)
        else:
            virtual = twin(method.virtual_points(h, now.generator("vicinity")), after="fc1")
            expected = oracles.soft_loss(logits.tolist(), virtual.tolist())
            y, v = logits.detach().log_softmax(1), virtual.log_softmax(1).unflatten(0, (4, 3))
            loss = (y.exp() * (y - v)).sum(-1).mean()
            assert loss.item() == pytest.approx(expected, rel=1e-10)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, v, g in zip(twin.parameters(), velocities, gradients, strict=True):
                v.mul_(0.9).add_(g)
                p.sub_(0.2 * v)
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_stale_equals_joint_whatever_the_memory_order_of_the_weights(memory_format):
    """A fused optimiser reads weight and gradient in the order of their memory, so the two must have the same."""
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    method, ends = SBA(omega=0.0, eta=0.5, layers=("conv1",), basis="channel"), []
    for update in ("joint", "sequential_stale"):
        torch.manual_seed(0)
        network = build("digits", 10, 1, 8).to(memory_format=memory_format)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=True)
        UPDATES[update]([lambda: method.terms(network, x, torch.arange(8), Step(0), None)], optimizer)  # noqa: B023
        ends.append(network.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-6)


def test_stale_gradients_are_refused_where_the_wrapper_could_not_average_them(monkeypatch):
    monkeypatch.setattr("sba.core.updates.world", lambda: 2)
    weight = torch.nn.Parameter(torch.ones(2))
    terms = {"cross_entropy": weight.sum(), "virtual": weight.square().sum()}
    with pytest.raises(ConfigError, match="update: 'sequential_stale' cannot be shared by processes; give joint"):
        UPDATES["sequential_stale"]([lambda: terms], torch.optim.SGD([weight], lr=0.1))


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
