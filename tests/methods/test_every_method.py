"""What every method must do, whatever it is; a new one is under these tests as soon as it is in the registry."""

import json
import math

import pytest
import torch
from helpers import ACTIVE, ON_THE_DATA, network_of, outcome, same, scene, settings_of

from sba import METHODS, train
from sba.core.rng import Step
from sba.training.run import from_settings, make_run

NULL = {
    "erm": {},
    "sba": {"eta": 0.0},
    "implicit-sba": {"omega": math.pi / 2},
    "bamboo": {"eta": 0.0},
    "r-drop": {"alpha": 0.0},
    "label-smoothing": {"epsilon": 0.0},
    "mixup": {"alpha": 0.0},
    "manifold-mixup": {"alpha": 0.0},
    "k-mixup": {"alpha": 0.0},
    "decoupled": {"alpha": 0.0},
    "isda": {"lambda0": 0.0},
    "sba+isda": {"eta": 0.0, "lambda0": 0.0},
}
"""The setting of each method that does nothing."""
every = pytest.mark.parametrize("name", METHODS)
every_run = pytest.mark.parametrize("name", [*METHODS, *ON_THE_DATA])


def test_every_method_has_a_null_setting():
    assert NULL.keys() == METHODS.keys()


@every
def test_the_null_setting_equals_erm_bit_for_bit(run, small, deep, name):
    """With batch normalisation and dropout in the network."""
    plain, null = outcome(run(), small), outcome(run(method=name, **NULL[name]), small)
    assert null[0] == plain[0]
    assert same(network_of(null[1]), network_of(plain[1]))


@every_run
def test_any_other_setting_does_not(run, small, name):
    if name != "erm":
        plain, active = outcome(run(), small)[1], outcome(run(**settings_of(name)), small)[1]
        assert not same(network_of(plain), network_of(active))


@every
def test_gradients_are_finite_and_reach_every_parameter(name):
    network, x, y = scene()
    method = METHODS[name](**ACTIVE.get(name, {}))
    terms = method.terms(
        network, x=x, y=y, now=Step(0, 3, 1, 0.5), memory=method.memory(network)
    )  # as chapters call it
    assert all(t.shape == () and t.isfinite() for t in terms.values())
    sum(terms.values()).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()


@every_run
def test_one_seed_gives_one_result_and_another_seed_another(run, small, name):
    first, again, other = (outcome(run(**settings_of(name), seed=seed), small)[1] for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)


@every
def test_torchs_global_generator_plays_no_part(name):
    network, x, y = scene()
    network.eval()  # the network's own dropout does draw from it
    method = METHODS[name](**ACTIVE.get(name, {}))
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        terms = method.terms(network, x, y, Step(0, 3, 1, 0.5), method.memory(network))
        values.append({k: v.item() for k, v in terms.items()})
    assert values[0] == values[1]


@every
def test_bfloat16_is_near_float32(name):
    losses = []
    for enabled in (False, True):
        network, x, y = scene()
        method = METHODS[name](**ACTIVE.get(name, {}))
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            terms = method.terms(network, x, y, Step(0, 3, 1, 0.5), method.memory(network))
        assert all(t.dtype == torch.float32 for t in terms.values())
        losses.append(sum(terms.values()).item())
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


@every_run
def test_training_in_bfloat16_is_near_that_in_float32(run, small, name):
    """Over whole epochs, with everything a method remembers; the weights, the averages and the terms stay float32."""
    plain, mixed = (outcome(run(**settings_of(name), amp=amp), small) for amp in ("none", "bf16"))
    assert {v.dtype for v in mixed[1].values()} == {v.dtype for v in plain[1].values()}
    for (terms, _, nll), (expected, _, expected_nll) in zip(mixed[0], plain[0], strict=True):
        assert terms == pytest.approx(expected, rel=0.1, abs=0.02) and nll == pytest.approx(expected_nll, rel=0.1)
    assert not same(mixed[1], plain[1])


@every_run
def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit(run, small, tmp_path, name):
    whole = outcome(run(**settings_of(name)), small)
    calls = iter(range(100))
    part = train(run(**settings_of(name)), small, folder=tmp_path, stop=lambda: next(calls) == 4)
    list(part)
    assert not part.finished
    rest = train(run(**settings_of(name)), small, folder=tmp_path)
    records = [(r.terms, r.error, r.nll) for r in rest]
    assert rest.finished and records == whole[0]
    assert same(rest.objective.state_dict(), whole[1])


@every_run
def test_the_configuration_survives_json(name):
    run = make_run(**settings_of(name))
    assert from_settings(json.loads(json.dumps(run.settings()))) == run
