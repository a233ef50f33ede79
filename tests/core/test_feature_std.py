"""The unit of σ: the spread of each feature over the batch, or over a running average of batches."""

import dataclasses
import math

import numpy as np
import oracles
import pytest
import torch
from helpers import assert_same, in_parts, whole

from sba import SBA, Step, build, train
from sba.core.errors import ConfigError
from sba.core.feature_std import MOMENTUM, RunningFeatureStd, batch_variance

SHAPE = (5, 2, 3, 1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batches(n):
    """Batches whose spread changes."""
    return [(1 + i) * normal(*SHAPE, seed=i) + i for i in range(n)]


def test_batch_variance_is_that_of_each_feature_over_the_rows():
    h = batches(2)[1]
    expected = oracles.batch_variance(h.flatten(1).tolist())
    np.testing.assert_allclose(batch_variance(h), expected, rtol=1e-12)
    np.testing.assert_allclose(SBA(scale="batch").feature_std(h), np.sqrt(expected), rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_batch_variance_is_computed_in_float32_at_least_and_is_a_constant(given, computed):
    h = (100 + normal(64, 3)).to(given).requires_grad_()
    variance = batch_variance(h)
    assert variance.dtype == computed and not variance.requires_grad
    np.testing.assert_allclose(variance, h.detach().double().var(0, correction=0), rtol=1e-5)


def test_running_spread_against_the_loop():
    memory, history = RunningFeatureStd({"a": 6}).double(), []
    for h in batches(7):
        history.append(h.flatten(1).tolist())
        np.testing.assert_allclose(memory.update("a", h), oracles.running_spread(history, MOMENTUM), rtol=1e-12)


def test_the_first_spread_is_the_batchs_own_and_a_constant_one_stays():
    """The bias of the zeros at the start is corrected exactly."""
    memory, h = RunningFeatureStd({"a": 6}).double(), batches(1)[0]
    for _ in range(30):
        torch.testing.assert_close(memory.update("a", h), h.flatten(1).std(0, correction=0))


def test_it_forgets_at_the_rate_of_batch_normalisation():
    memory = RunningFeatureStd({"a": 1})
    for _ in range(200):
        memory.update("a", torch.tensor([[-3.0], [3.0]]))
    for _ in range(10):
        spread = memory.update("a", torch.zeros(2, 1))
    assert spread.square().item() == pytest.approx(9 * 0.9**10, rel=1e-4)
    assert torch.nn.BatchNorm1d(1).momentum == MOMENTUM


def test_layers_are_kept_apart_and_remembered_as_buffers():
    memory, (a, b) = RunningFeatureStd({"a": 6, "b": 6}), batches(2)
    memory.update("a", a)
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    memory.update("b", b)
    assert set(before) == {"variance_a", "updates_a", "variance_b", "updates_b"}
    moved = {name for name, value in memory.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"variance_b", "updates_b"}
    again = RunningFeatureStd({"a": 6, "b": 6})
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.update("a", b), memory.update("a", b))
    assert not list(memory.parameters())


def test_low_precision_activations_are_taken_in_as_float32():
    h = (10 + normal(64, 6)).bfloat16().requires_grad_()
    spread = RunningFeatureStd({"a": 6}).update("a", h)
    assert spread.dtype == torch.float32 and not spread.requires_grad
    np.testing.assert_allclose(spread, h.detach().double().std(0, correction=0), rtol=1e-4)


# ------------------------------------------------------------------------------------------------------------- in SBA


def test_the_memory_has_the_widths_of_the_eligible_layers():
    network = build("digits", 10, 1, 8)
    memory = SBA(scale="running", layers=("input", "conv1", "fc1")).memory(network)
    widths = {name: len(v) for name, v in memory.named_buffers() if name.startswith("variance")}
    assert widths == {"variance_input": 64, "variance_conv1": 1024, "variance_fc1": 64}
    assert SBA(scale="batch").memory(network) is None and SBA(scale="absolute").memory(network) is None


def test_a_running_scale_without_its_memory_is_refused():
    with pytest.raises(ConfigError, match=r"scale .*'running' needs the method's memory; give method.memory"):
        SBA(scale="running").feature_std(normal(2, 3), "a")


def test_the_running_spread_is_the_unit_of_the_points():
    method = SBA(scale="running", folds=4)
    memory = RunningFeatureStd({"a": 6}).double()
    twin = RunningFeatureStd({"a": 6}).double()
    for step, h in enumerate(batches(3)):
        draws = Step(0, step)
        points = method.virtual_points(h, draws.generator("vicinity"), "a", memory)
        expected = method.vicinity.sample(h, draws.generator("vicinity"), twin.update("a", h))
        assert torch.equal(points, expected)


def test_an_average_moves_where_its_layer_is_augmented_and_nowhere_else(run, small):
    settings = run(method="sba", scale="running", folds=2, omega=0.8)
    training = train(settings, small)
    list(training)
    layers = [settings.method.augmented_layer(training.network, Step(0, t, t // 6)) for t in range(12)]
    counts = {name: training.objective.memory.get_buffer(f"updates_{name}").item() for name in ("flatten", "fc1")}
    assert counts == {name: layers.count(name) for name in ("flatten", "fc1")}
    assert min(counts.values()) > 0 and sum(counts.values()) < 12


@pytest.mark.parametrize("null", [{"eta": 0.0, "omega": 0.0}, {"omega": math.pi / 2}], ids=["eta=0", "omega=π/2"])
def test_a_plain_step_leaves_the_averages_alone(run, small, null):
    training = train(run(method="sba", scale="running", **null), small)
    list(training)
    assert not any(value.any() for value in training.objective.memory.buffers())


@pytest.mark.parametrize("method", ["sba", "implicit-sba"])
@pytest.mark.parametrize("steps", [1, 5])
def test_resume_with_a_running_scale_is_bit_for_bit(run, small, tmp_path, method, steps):
    settings = run(method=method, scale="running", eta=1.0, omega=0.5)
    resumed, _ = in_parts(settings, small, tmp_path, steps)
    complete = whole(settings, small)
    assert any(name.startswith("memory.variance") for name in complete.objective.state_dict())
    assert_same(resumed, complete)


def test_the_memory_matters(run, small):
    """Else the test above could not fail: without what was saved the resumed run would differ."""
    settings = run(method="sba", scale="running", eta=1.0, omega=0.0, epochs=1, folds=4)
    complete, forgetful = whole(settings, small), train(settings, small)
    steps = iter(range(100))
    forgetful.stop = lambda: next(steps) >= 3
    list(forgetful)
    for value in forgetful.objective.memory.buffers():
        value.zero_()
    forgetful.stop = lambda: False
    list(forgetful)
    timeless = [dataclasses.replace(t.history[0], seconds=0.0) for t in (complete, forgetful)]
    assert timeless[0] != timeless[1]
