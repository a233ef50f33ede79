"""What virtual points meet behind layer k: batch normalisation in each reading."""

import itertools

import numpy as np
import oracles
import pytest
import torch
from tail_scene import (
    ALWAYS,
    convolutional,
    every_reading,
    moved,
    network,
    normal,
    scene,
    state,
    virtual_norms,
)

from sba import ERM, SBA, Step
from sba.core.divergence import kl
from sba.core.tail import Tail


@pytest.mark.parametrize(("make", "layer"), [(lambda: network(0.0), "fc1"), (convolutional, "conv1")])
def test_with_the_raw_statistics_a_copy_of_the_raw_rows_has_their_logits(make, layer):
    net = make()
    h = scene(net, layer)
    tail = Tail(net, layer, True, "raw")
    logits = tail.raw(h)
    torch.testing.assert_close(tail.virtual(h), logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tail.virtual(h[:2]), logits[:2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tail.virtual(torch.cat([h, 5 * h]))[:6], logits, rtol=1e-12, atol=1e-12)


@every_reading
def test_only_the_raw_and_the_running_statistics_treat_each_point_by_itself(batch_norm):
    net = network(0.0)
    h = scene(net, "fc1")
    tail = Tail(net, "fc1", True, batch_norm)
    tail.raw(h)
    alone, together = tail.virtual(h), tail.virtual(torch.cat([h, 5 * h]))[:6]
    assert torch.allclose(alone, together, rtol=1e-10) == (batch_norm in ("raw", "running"))


@every_reading
def test_a_raw_row_has_a_divergence_from_itself_with_every_reading_but_one(batch_norm):
    """Decisions, point 4: no dropout, and the raw rows stand among virtual ones, as Eq. 6 stacks them."""
    net = network(0.0)
    h = scene(net, "fc1")
    tail = Tail(net, "fc1", True, batch_norm)
    raw = tail.raw(h)
    own = kl(raw, tail.virtual(torch.cat([h, 5 * h]))[: len(h)])
    assert own.max() < 1e-12 if batch_norm == "raw" else own.min() > 1e-4


def test_the_raw_statistics_against_the_loop():
    """fc2 and fc3 written out; the biased variance of the raw rows, each point by itself."""
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(4, 24, seed=5)
    tail = Tail(net, "fc1", True, "raw")
    tail.raw(h)
    linear, norm = net.get_submodule("fc2")[:2]
    last = net.get_submodule("fc3")

    def affine(module, rows):
        return (np.asarray(rows) @ module.weight.detach().numpy().T + module.bias.detach().numpy()).tolist()

    raw = affine(linear, h.detach())
    mean, variance = np.mean(raw, 0).tolist(), oracles.batch_variance(raw)
    normed = oracles.batch_norm(
        affine(linear, points), mean, variance, norm.weight.tolist(), norm.bias.tolist(), norm.eps
    )
    np.testing.assert_allclose(tail.virtual(points).detach(), affine(last, np.maximum(normed, 0)), rtol=1e-10)


def test_the_raw_statistics_of_a_feature_map_are_those_of_its_channels():
    net = convolutional()
    h = scene(net, "conv1")
    tail = Tail(net, "conv1", True, "raw")
    tail.raw(h)
    ((norm, [(mean, variance)]),) = tail.statistics.items()
    x = net.get_submodule("conv2")[0](h).detach()
    assert norm is net.get_submodule("conv2")[1]
    np.testing.assert_allclose(mean, x.numpy().mean((0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(variance, x.numpy().var((0, 2, 3)), rtol=1e-10)


def test_the_raw_statistics_are_constants():
    """No gradient reaches the raw activations through the virtual points' normalisation."""
    net = network(0.0)
    h = scene(net, "fc1").detach().requires_grad_()
    tail = Tail(net, "fc1", True, "raw")
    tail.raw(h)
    (gradient,) = torch.autograd.grad(tail.virtual(normal(4, 24)).sum() + 0 * h.sum(), h)
    assert not gradient.any()
    assert not any(t.requires_grad for t in itertools.chain.from_iterable(itertools.chain(*tail.statistics.values())))


def test_statistics_of_low_precision_activations_are_float32():
    tail = Tail(network(), "fc1", True, "raw")
    norm = virtual_norms(tail.network)[0]
    x = (100 + normal(64, 16)).bfloat16()
    tail.observe(norm, (x,))
    ((mean, variance),) = tail.statistics[norm]
    assert mean.dtype == variance.dtype == torch.float32
    np.testing.assert_allclose(variance, x.double().var(0, correction=0), rtol=1e-5)


@every_reading
@pytest.mark.parametrize(("make", "layers"), [(network, ("fc1",)), (convolutional, ("conv1",))])
def test_running_averages_move_as_in_a_plain_step_but_where_virtual_points_are_tracked(make, layers, batch_norm):
    """Bit for bit. The norms before the layer see no virtual points in any reading."""

    def after_a_step(method):
        net = make()
        side = 2 if layers == ("fc1",) else 8
        before = state(net)
        torch.manual_seed(1)
        method.terms(net, normal(6, 1, side, side), torch.tensor([0, 1, 2, 0, 1, 2]), Step(0), None)
        assert len(moved(net, before)) == 6  # mean, variance and count of two norms
        return net

    plain, augmented = after_a_step(ERM()), after_a_step(SBA(layers=layers, batch_norm=batch_norm, **ALWAYS))
    behind = {"fc1": "fc2.1", "conv1": "conv2.1"}[layers[0]]
    expected = {f"{behind}.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert moved(augmented, state(plain)) == (expected if batch_norm == "tracked" else set())


def test_tracked_statistics_enter_the_running_averages_as_a_second_batch():
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(7, 24, seed=5)
    tail = Tail(net, "fc1", True, "tracked")
    tail.raw(h)
    (norm,) = virtual_norms(net)
    mean, variance, count = norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.item()
    tail.virtual(points)
    x = net.get_submodule("fc2")[0](points).detach()
    torch.testing.assert_close(norm.running_mean, 0.9 * mean + 0.1 * x.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 * variance + 0.1 * x.var(0))
    assert norm.num_batches_tracked.item() == count + 1


def test_tracked_and_untracked_points_have_the_logits_of_any_training_pass():
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(7, 24, seed=5)
    expected = net(points, after="fc1")
    for batch_norm in ("tracked", "untracked"):
        tail = Tail(net, "fc1", True, batch_norm)
        tail.raw(h)
        assert torch.equal(tail.virtual(points), expected)


def test_running_statistics_are_those_of_evaluation():
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(7, 24, seed=5)
    tail = Tail(net, "fc1", True, "running")
    tail.raw(h)
    virtual = tail.virtual(points)
    assert torch.equal(virtual, net.eval()(points, after="fc1"))
    assert not torch.allclose(virtual, net.train()(points, after="fc1"))
