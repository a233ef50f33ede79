"""The majority vote of a raw prediction and its virtual points'."""

import dataclasses
import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sba import SBA, Step, build, evaluate, train
from sba.core.errors import ConfigError
from sba.data.augment import normalise
from sba.records.record import record_of
from sba.training.vote import check_vote, majority_vote, vote_error, winners


@pytest.fixture
def network(small):
    """The digits network, trained for an epoch, so that it errs now and then."""
    from sba import make_run

    training = train(make_run(epochs=1, batch_size=16), small)
    list(training)
    return training.network


# ---------------------------------------------------------------------------------------------------------------- winners

# multiples of 1/64, so that means are exact and equal ones are equal
grains = arrays.arrays(
    np.int64, st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(2, 4)), elements=st.integers(0, 4)
)


@given(grains)
def test_winners_against_the_loop(counts):
    """With many ties: between a voter's classes, in the votes, and in the mean probabilities."""
    predictions = counts / 16
    expected = [oracles.winner(predictions[:, i].tolist()) for i in range(predictions.shape[1])]
    assert winners(torch.from_numpy(predictions)).tolist() == expected


def test_winners_of_distributions_against_the_loop():
    predictions = (3 * torch.randn(7, 200, 4, generator=torch.Generator().manual_seed(0))).softmax(-1)
    expected = [oracles.winner(predictions[:, i].tolist()) for i in range(200)]
    assert winners(predictions).tolist() == expected
    mean = predictions.mean(0).argmax(-1)
    assert (winners(predictions) != mean).any()  # votes are counted, not probabilities averaged


def test_a_majority_wins_however_sure_the_minority_is():
    sure, unsure = [0.0, 1.0], [0.51, 0.49]
    assert winners(torch.tensor([[sure], [unsure], [unsure]])).tolist() == [0]
    assert winners(torch.tensor([[sure]] * 10 + [[unsure]] * 11)).tolist() == [0]


def test_among_equals_the_highest_mean_probability_decides():
    assert winners(torch.tensor([[[0.6, 0.4, 0.0]], [[0.1, 0.9, 0.0]]])).tolist() == [1]
    assert winners(torch.tensor([[[0.9, 0.1, 0.0]], [[0.4, 0.6, 0.0]]])).tolist() == [0]
    assert winners(torch.tensor([[[0.5, 0.5]]])).tolist() == [0]
    # the third class has the highest mean but no vote
    assert winners(torch.tensor([[[0.55, 0.0, 0.45]], [[0.0, 0.51, 0.49]]])).tolist() == [0]


# -------------------------------------------------------------------------------------------------------------- the vote


def test_the_vote_against_the_loop(small, network, monkeypatch):
    """Virtual points by hand in evaluation mode, votes and mean likelihood image by image, in two batches."""
    method = SBA(folds=4, sigma=0.5, layers=("flatten", "fc1"))
    monkeypatch.setattr("sba.training.vote.EVALUATION_BATCH", 40)
    result = majority_vote(network, small, method, seed=3)
    network.eval()
    wrong, nll = 0, 0.0
    for step, (images, labels) in enumerate(zip(small.test.images.split(40), small.test.labels.split(40), strict=True)):
        now = Step(3, step)
        layer = ("flatten", "fc1")[now.index("layer", 2)]
        h = network(normalise(images, small.mean, small.std), until=layer)
        points = method.virtual_points(h, now.generator("vote"))
        rows = torch.cat([h, points])
        logits = network(rows, after=layer).unflatten(0, (5, len(h))).tolist()
        for i, label in enumerate(labels.tolist()):
            distributions = [oracles.softmax(logits[j][i]) for j in range(5)]
            wrong += oracles.winner(distributions) != label
            nll -= math.log(sum(d[label] for d in distributions) / 5)
    assert {layer_of(method, network, 3, step) for step in range(2)} == {"flatten", "fc1"}
    assert (result.error, result.n) == (pytest.approx(100 * wrong / 60), 60)
    assert result.nll == pytest.approx(nll / 60, rel=1e-5)


def layer_of(method, network, seed, step):
    layers = method.eligible(network)
    return layers[Step(seed, step).index("layer", len(layers))]


@pytest.mark.parametrize("folds", [1, 2, 5])
def test_points_equal_to_the_raw_one_vote_as_it_does(small, network, folds):
    still, single = majority_vote(network, small, SBA(folds=folds, sigma=0.0, dropout_rate=0.0)), None
    single = evaluate(network, small)
    assert 0 < single.error == still.error
    assert still.nll == pytest.approx(single.nll, rel=1e-5)


def test_virtual_points_have_a_say(small, network):
    single = evaluate(network, small)
    wild = majority_vote(network, small, SBA(folds=8, sigma=5.0, tau=3.0, dropout_rate=0.9))
    assert wild.error != single.error and wild.nll > single.nll


def test_eta_and_omega_play_no_part(small, network):
    results = {majority_vote(network, small, SBA(folds=4, sigma=1.0, eta=eta, omega=omega)) for eta, omega in
               ((0.0, math.pi / 2), (1.0, 0.0))}  # fmt: skip
    assert len(results) == 1


def test_it_is_decided_by_its_seed_alone(small, network):
    method = SBA(folds=3, sigma=2.0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = majority_vote(network, small, method)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert majority_vote(network, small, method) == first == majority_vote(network, small, method, seed=0)
    assert majority_vote(network, small, method, seed=1).nll != first.nll


@pytest.mark.parametrize("training", [True, False])
def test_the_network_stays_in_its_mode_and_as_it_was(small, network, training):
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = majority_vote(network, small, SBA(folds=2))
    assert all(m.training == training for m in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert majority_vote(network.train(not training), small, SBA(folds=2)) == result


def test_the_mode_is_put_back_after_an_error(small, network):
    network.train()
    narrow = dataclasses.replace(small.test, images=small.test.images[..., :3])
    with pytest.raises(RuntimeError):
        majority_vote(network, dataclasses.replace(small, test=narrow), SBA(folds=2))
    assert network.training


def test_certain_and_wrong_predictions_have_a_finite_likelihood(small):
    """As the cross-entropy of a single pass has, where the probability itself underflows."""
    torch.manual_seed(0)
    network = build("digits", 10, 1, 8)
    with torch.no_grad():
        network.get_submodule("fc2").weight.mul_(1e4)
    assert math.isfinite(evaluate(network, small).nll)
    assert math.isfinite(majority_vote(network, small, SBA(folds=2)).nll)


# -------------------------------------------------------------------------------------------------------- who votes


@pytest.mark.parametrize(
    "parameters",
    [{}, {"method": "sba", "folds": 3}, {"method": "sba", "scale": "running"}, {"method": "implicit-sba"},
     {"method": "sba", "layers": ("conv1", "input"), "basis": "channel", "folds": 2}],
    ids=["erm", "sba", "running", "implicit", "maps"],
)  # fmt: skip
def test_the_votes_error_of_a_training_is_that_of_its_methods_points(run, small, parameters):
    training = train(run(epochs=1, **parameters), small)
    before = [r.terms for r in training]
    weights = [p.clone() for p in training.network.parameters()]
    method = training.run.method.voting_vicinity()
    expected = majority_vote(training.network, small, method, seed=training.run.seed).error
    assert vote_error(training) == expected
    record = record_of(training, more={"error_vote": expected})
    assert record.error_vote == expected and record.error_last == training.history[-1].error
    # nothing of the training has changed
    assert [r.terms for r in training] == before and record_of(training).error_vote is None
    assert all(map(torch.equal, weights, training.network.parameters()))


def test_a_vote_that_cannot_be_held_is_refused_before_the_training(run, small, monkeypatch):
    """Else its record would be refused at the end of a run, even of one whose method draws no virtual points."""
    monkeypatch.setattr("sba.core.bases.DENSE_LIMIT", 100)
    for parameters in ({}, {"method": "implicit-sba"}, {"method": "mixup"}):
        training = train(run(**parameters), small)
        with pytest.raises(ConfigError, match=r"for flatten of shape \(512,\); give basis 'hadamard'"):
            check_vote(training)
