"""One optimiser step or two in a training."""

import math

import oracles
import pytest
import torch
from helpers import assert_same, in_parts, whole
from torch import nn

from sba import SBA, Step, build, train
from sba.core.errors import ConfigError
from sba.core.updates import UPDATES

SEQUENTIAL = ["sequential_stale", "sequential_fresh"]
X = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.9]], dtype=torch.float64)
Y = torch.tensor([0, 1, 0])


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
