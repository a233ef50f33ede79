"""What the study of robustness keeps: numbers that agree with the library's other measures, the same every time."""

import dataclasses
import json

import pytest
import torch

from sba import ERM, evaluate, make_run, train
from sba.measure import stress
from sba.measure.attacks import Attack
from sba.measure.calibration import brier_score, reliability
from sba.training.evaluation import logits

LINF, L2, CHECKED = (0.02, 0.3), (0.1, 1.5), 0.15


@pytest.fixture(scope="module")
def training(digits):
    small = dataclasses.replace(digits, train=digits.train[:200], test=digits.test[:80], fingerprint="small")
    training = train(make_run(method="mixup", cutout=4, epochs=12, batch_size=16, seed=2), small)
    list(training)
    return training


@pytest.fixture(scope="module")
def found(training):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stress, "ATTACKED", 50)
        patch.setattr(stress, "MANY_STEPS", 40)
        return stress.measured(training, LINF, L2, CHECKED)


def test_a_record_is_what_json_holds_and_is_small(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(json.dumps(found)) < 4000


def test_clean_and_calibration_are_those_of_the_plain_pass(training, found):
    data = training.data
    few = evaluate(training.network, dataclasses.replace(data, test=data.test[:50]))
    assert (found["attacked"], found["clean"]) == (50, pytest.approx(few.error))
    scores = logits(training.network, data)
    assert found["calibration"]["ece"] == pytest.approx(reliability(scores, data.test.labels).error, abs=1e-6)
    assert found["calibration"]["brier"] == pytest.approx(brier_score(scores, data.test.labels), abs=1e-6)
    assert "human" not in found


def test_attacks_do_more_harm_at_larger_radii(found):
    assert [list(found["attacks"][k]["radii"]) for k in ("fgsm", "pgd-inf", "pgd-2")] == [[*LINF], [*LINF], [*L2]]
    for kind in found["attacks"].values():
        assert found["clean"] <= kind["error"][0] < kind["error"][1]
    assert found["attacks"]["pgd-inf"]["error"][1] >= found["attacks"]["fgsm"]["error"][1]


def test_the_worst_of_several_attacks_is_at_least_each(found):
    checks = found["checks"]
    assert checks["radius"] == CHECKED
    assert checks["worst"] >= max(checks["more_steps"], checks["margin"]) >= found["clean"]
    assert found["clean"] <= checks["random"] <= checks["worst"]
    assert found["clean"] < checks["transfer"] <= checks["worst"]


def test_corruptions_and_noise_have_a_number_for_each_strength(training, found):
    assert all(len(errors) == 5 for errors in found["corruptions"].values())
    assert list(found["latent"]) == ["input", "flatten", "fc1"]
    for rows in found["latent"].values():
        assert rows["sigmas"] == list(stress.SIGMAS)
        assert rows["divergence"] == sorted(rows["divergence"]) and rows["divergence"][0] > 0


def test_measuring_twice_gives_the_same_and_changes_nothing(training, found, monkeypatch):
    monkeypatch.setattr(stress, "ATTACKED", 50)
    monkeypatch.setattr(stress, "MANY_STEPS", 40)
    before = {k: v.clone() for k, v in training.network.state_dict().items()}
    random = torch.get_rng_state()
    assert stress.measured(training, LINF, L2, CHECKED) == found
    assert all(torch.equal(v, before[k]) for k, v in training.network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_surrogate_is_plain_training_of_another_seed(training, found):
    plain = dataclasses.replace(training.run, method=ERM(), cutout=0, seed=2 + stress.OTHER_SEED)
    assert stress.surrogate.cache_info().currsize >= 1
    assert stress.surrogate(plain) is stress.surrogate(plain)
    other = stress.surrogate(plain)
    assert other.finished and other.run.seed == 1002 and other.run.method == ERM()


def test_errors_are_of_the_attacked_network(training):
    data = dataclasses.replace(training.data, test=training.data.test[:20])
    wrong = logits(training.network, data).argmax(1) != data.test.labels
    assert torch.equal(stress.errs(training, data, Attack(0.0)), wrong)


def test_agreement_with_people_is_measured_where_their_answers_lie(training, tmp_path, monkeypatch):
    """On a stand-in for CIFAR-10: the digits under its name, people who see what the network sees."""
    scores = logits(training.network, training.data)
    people = scores.double().softmax(1)
    monkeypatch.setattr(stress.cifar10h, "find", lambda root: root)
    monkeypatch.setattr(stress.cifar10h, "read", lambda root: people)
    monkeypatch.setattr(stress, "ATTACKED", 10)
    monkeypatch.setattr(stress, "MANY_STEPS", 1)
    data = training.data
    monkeypatch.setattr(training, "data", dataclasses.replace(data, name="cifar10", root=tmp_path))
    found = stress.measured(training, (0.1,), (0.1,), 0.1)
    assert found["human"]["divergence"] == pytest.approx(0, abs=1e-4)
    assert "transfer" not in found["checks"]
    monkeypatch.setattr(training, "data", dataclasses.replace(data, name="cifar10", root=None))
    assert "human" not in stress.measured(training, (0.1,), (0.1,), 0.1)
