"""Bad values of a run are refused when it is made, with name, value and fix."""

import dataclasses
import math

import pytest

from sba import METHODS, SBA, Run, make_run
from sba.core.errors import ConfigError, DataError
from sba.core.hyper import definitions
from sba.records.names import facts
from sba.training.run import from_settings

BAD = [
    ("omega", 2.0, r"omega \(ω\): 2.0 is not allowed; give a number in \[0, π/2 ≈ 1.570796\]"),
    ("omega", -0.1, r"omega \(ω\): -0.1 is not allowed"),
    ("omega", math.nan, r"omega \(ω\): nan is not allowed"),
    ("eta", -0.5, r"eta \(η\): -0.5 is not allowed; give a number in \[0, ∞\)"),
    ("eta", math.inf, r"eta \(η\): inf is not allowed"),
    ("eta", math.nan, r"eta \(η\): nan is not allowed"),
    ("folds", 0, r"folds \(M\): 0 is not allowed; give an integer in \[1, ∞\)"),
    ("folds", 2.5, r"folds \(M\): 2.5 is not allowed"),
    ("gaussian_share", 1.1, r"gaussian_share \(p/M\): 1.1 .* \[0, 1\]"),
    ("sigma", -1.0, r"sigma \(σ\): -1.0"),
    ("tau", 0.0, r"tau \(τ/σ\): 0.0 is not allowed; give a number in \(0, ∞\)"),
    ("dropout_rate", 1.0, r"dropout_rate \(r\): 1.0 is not allowed; give a number in \[0, 1\)"),
    ("basis", "qr", r"basis \(Σ\): 'qr' is not allowed; give one of colnorm, orthogonal, identity"),
    ("scale", "layer", r"scale \(s\): 'layer' is not allowed; give one of batch, running, absolute"),
    ("objective", "both", r"objective: 'both' is not allowed; give one of sum, either_or"),
    ("teacher", "ema", r"teacher: 'ema' is not allowed; give one of training, evaluation"),
    ("batch_norm", "frozen", r"batch_norm: 'frozen' is not allowed; give one of raw, tracked, untracked, running"),
    ("update", "two", r"update: 'two' is not allowed; give one of joint, sequential_stale, sequential_fresh"),
    ("layers", "fc1", r"layers \(S\): 'fc1' is not allowed; give a list"),
    ("seed", -1, r"seed: -1 is not allowed"),
    ("lr", 0.0, r"lr: 0.0 is not allowed; give a number in \(0, ∞\)"),
    ("lr", math.nan, r"lr: nan is not allowed"),
    ("epochs", 0, r"epochs: 0 is not allowed; give an integer in \[1, ∞\)"),
    ("epochs", math.nan, r"epochs: nan is not allowed"),
    ("epochs", "ten", r"epochs: 'ten' is not allowed"),
    ("batch_size", 0, r"batch_size \(B\): 0"),
    ("momentum", 1.0, r"momentum: 1.0"),
    ("cutout", -2, r"cutout: -2"),
    ("cutout", -1, "cutout: -1 is not allowed; give auto for the side that its authors use, or 0 for none"),
    ("cutout", "half", "cutout: 'half' is not allowed; give an integer"),
    ("cutout", 1, r"cutout: a square of side 1 has no pixel"),
    ("milestones", (5, 3), r"milestones: \(5, 3\) must increase"),
    ("milestones", (3, 3), r"milestones: \(3, 3\) must increase"),
    ("amp", "fp16", r"amp: 'fp16' is not allowed; give one of none, bf16"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=[f"{name}={value}" for name, value, _ in BAD])
def test_bad_value_is_named_with_the_fix(name, value, message):
    with pytest.raises(ConfigError, match=message):
        make_run(method="sba", **{name: value})


def test_every_bad_value_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        SBA(omega=9.0, eta=-1.0)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["omega", "eta"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"method": "sba", "omgea": 1.0},
            "omgea: neither a run nor the method 'sba' has this parameter; did you mean 'omega'?",
        ),
        ({"epoch": 3}, "did you mean 'epochs'?"),
        ({"omega": 1.0}, "omega: neither a run nor the method 'erm' has this parameter; it belongs to sba"),
        ({"method": "sbaa"}, "method: 'sbaa' is not known; choose from erm, sba"),
        ({"network": "digit"}, "network: 'digit' is not known; did you mean 'digits'?"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov: true is not allowed with momentum 0"),
    ],
    ids=["typo", "singular", "of another method", "method", "network", "nesterov"],
)
def test_unknown_parameter_gets_a_suggestion(parameters, message):
    with pytest.raises(ConfigError) as caught:
        make_run(**parameters)
    assert message in str(caught.value)


def test_unknown_data_set():
    with pytest.raises(DataError, match="dataset: 'mnist' is not known"):
        make_run("mnist")


def test_classes_refuse_unknown_and_bad_values_themselves():
    with pytest.raises(ConfigError, match="omgea: SBA has no such parameter; did you mean 'omega'"):
        SBA(omgea=1.0)
    with pytest.raises(ConfigError, match="lr: -1 is not allowed"):
        dataclasses.replace(make_run(), lr=-1)
    with pytest.raises(ConfigError, match="method: 'sba' is not allowed; give an instance of Method"):
        Run(method="sba")
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_run().lr = 1.0


def test_settings_of_another_program_are_refused():
    settings = make_run(method="sba").settings()
    with pytest.raises(ConfigError, match="warmup: Run has no such parameter"):
        from_settings({**settings, "warmup": 5})
    with pytest.raises(ConfigError, match="method: 'mixdown' is not known"):
        from_settings({**settings, "method": {"name": "mixdown"}})


@pytest.mark.parametrize("cls", [Run, *METHODS.values()])
def test_every_parameter_is_described(cls):
    for name in definitions(cls):
        known = facts(cls, name)
        assert known["description"] and not known["description"].endswith(".")
        assert cls is Run or known["source"], f"{name}: say where the default comes from"
