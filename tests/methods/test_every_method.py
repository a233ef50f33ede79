"""What every method must do, whatever it is; a new one is under these tests as soon as it is in the registry."""

import dataclasses
import json
import math
import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from helpers import ACTIVE, ON_THE_DATA, network_of, outcome, same, scene, settings_of

import sba
from sba import METHODS, train
from sba.core.rng import Step
from sba.core.scheduler import Scheduler
from sba.training import distributed
from sba.training.run import from_settings, make_run

NULL = {
    "erm": {},
    "sba": {"eta": 0.0},
    "implicit-sba": {"omega": math.pi / 2},
    "bamboo": {"eta": 0.0},
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
    terms = method.terms(network, x, y, Step(0, 3, 1, 0.5), method.memory(network))
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


class Draws(list):
    """The draws that decide what a step does, of every moment while it is listened to."""

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for owner, name in ((Step, "uniform"), (Step, "index"), (Scheduler, "state")):
            self.patch.setattr(owner, name, self.noted(getattr(owner, name)))
        return self

    def noted(self, original):
        def draw(*arguments):
            value = original(*arguments)
            self.append((original.__name__, value))
            return value

        return draw

    def __exit__(self, *error):
        self.patch.undo()


def share(name, data):
    """Train one of the methods in one of two processes, and return what must be equal in both."""
    given = settings_of(name)
    fair = {"omega": 1.0} if "omega" in given or name == "sba" else {}
    with Draws() as draws:
        training = train(make_run(**given | fair, epochs=1, batch_size=16), data)
        history = [r.terms for r in training]
    state = {k: v.tolist() for k, v in training.objective.state_dict().items()}
    kept = {k: v for k, v in state.items() if "running" not in k and "num_batches" not in k}
    return kept, history, list(draws)


def worker(rank, port, queue, names):
    """Train everything for an epoch, on one half of each batch."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)
    )
    torch.set_num_threads(1)
    digits = sba.load("digits")
    data = dataclasses.replace(digits, train=digits.train[:64], test=digits.test[:20], fingerprint="share")
    with distributed.launched("cpu"):
        queue.put((rank, {name: share(name, data) for name in names}))


@pytest.fixture(scope="module")
def ranks():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.Queue()
    names = [*METHODS, *ON_THE_DATA]
    processes = [context.Process(target=worker, args=(rank, port, queue, names), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=300) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    return found


@every_run
def test_two_ranks_end_with_identical_parameters(ranks, name):
    """Weights, and what a method remembers, after steps on different halves of the batches."""
    (first, history, _), (second, other_history, _) = ranks[0][name], ranks[1][name]
    assert first == second and history == other_history
    start = train(make_run(**settings_of(name), epochs=1, batch_size=16)).network.state_dict()
    assert any(first[f"network.{k}"] != v.tolist() for k, v in start.items() if f"network.{k}" in first)


@every_run
def test_two_ranks_take_the_same_branches(ranks, name):
    """λ(t), the layer and the weight of a mixture: gradients that are averaged would hide a difference."""
    assert ranks[0][name][2] == ranks[1][name][2]
    assert ranks[0][name][2] or name in {"erm", "isda", *ON_THE_DATA}
