"""One definition of every hyper-parameter: validation, messages, defaults, and the identity of a run."""

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sba import ERM, METHODS, NETWORKS, SBA, ImplicitSBA, Run, make_run
from sba.core.errors import ConfigError
from sba.core.hyper import choices, definitions
from sba.records.names import facts
from sba.training.run import REGIMES, from_settings

LENGTHS = st.integers(1, 10_000)
shares = st.floats(0, 1)

methods = st.one_of(
    st.just(ERM()),
    st.builds(
        # either-or leaves a step one term, and is refused with two updates
        lambda **fields: SBA(**fields | ({"update": "joint"} if fields["objective"] == "either_or" else {})),
        omega=st.floats(0, math.pi / 2),
        eta=st.floats(0, 1e6),
        folds=LENGTHS,
        gaussian_share=shares,
        sigma=st.floats(0, 1e3),
        tau=st.floats(1e-3, 1e3),
        dropout_rate=st.floats(0, 1, exclude_max=True),
        layers=st.lists(st.sampled_from(["input", "fc1", "conv1"]), unique=True).map(tuple),
        **{name: st.sampled_from(choices(f)) for name, f in definitions(SBA).items() if choices(f)},
        detach=st.booleans(),
        dropout_rescale=st.booleans(),
        virtual_dropout=st.booleans(),
    ),
    st.builds(
        ImplicitSBA,
        sigma=st.floats(0, 1e3),
        **{name: st.sampled_from(choices(f)) for name, f in definitions(ImplicitSBA).items() if choices(f)},
    ),
)
runs = st.builds(
    Run,
    dataset=st.sampled_from(["digits", "cifar10", "folder:/some/where"]),
    network=st.sampled_from(list(NETWORKS)),
    method=methods,
    seed=st.integers(0, 2**63 - 1),
    epochs=LENGTHS,
    batch_size=LENGTHS,
    lr=st.floats(1e-12, 1e3),
    milestones=st.lists(LENGTHS, unique=True, max_size=4).map(lambda m: tuple(sorted(m))),
    weight_decay=shares,
    cutout=st.sampled_from([0, *range(2, 33)]),
    amp=st.sampled_from(["none", "bf16"]),
    flip=st.booleans(),
)


@given(runs)
def test_json_round_trip(run):
    again = from_settings(json.loads(json.dumps(run.settings(), allow_nan=False)))
    assert again == run
    assert again.key == run.key and again.title == run.title
    assert "/" not in run.title and ":" not in run.title


def test_settings_hold_every_field():
    settings = make_run(method="sba").settings()
    assert set(settings) == set(definitions(Run))
    assert set(settings["method"]) == {"name", *definitions(SBA)}


def test_key_is_stable():
    """It depends on the values alone, so that a record is found again by another process and another day."""
    run = make_run("cifar10", method="sba", eta=0.01)
    newer = ("subset", "label_noise", "feature_dropout")
    own = {name: value for name, value in run.settings().items() if name not in newer}
    text = json.dumps(own | {"vote": False}, sort_keys=True)
    assert run.key == hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    assert make_run(eta=1e-2, method="sba", dataset="cifar10", network=None).key == run.key


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"epochs": 3}, {"amp": "bf16"}, {"method": "erm"}, {"eta": 0.02}, {"layers": ("fc1",)}],
    ids=lambda change: next(iter(change)),
)
def test_key_tells_runs_apart(change):
    assert make_run(**{"method": "sba", **change}).key != make_run(method="sba").key


# ---------------------------------------------------------------------------------------------------------------- defaults


@pytest.mark.parametrize("network", NETWORKS)
def test_a_run_without_more_is_the_networks_regime(network):
    run, regime = make_run("digits", network), REGIMES[network]
    for field in ("epochs", "batch_size", "lr", "milestones", "decay", "weight_decay"):
        assert getattr(run, field) == getattr(regime, field)
    assert run.full_epochs == regime.epochs and not run.reduced
    assert all(0 < m < regime.epochs for m in regime.milestones)


@pytest.mark.parametrize(
    ("epochs", "milestones"),
    [(200, (100, 150)), (100, (50, 75)), (20, (10, 15)), (20.0, (10, 15)), (400, (200, 300)), (1, (1,))],
)
def test_milestones_scale_with_the_epochs(epochs, milestones):
    run = make_run("cifar10", "resnet44", epochs=epochs)
    assert run.milestones == milestones
    assert run.reduced == (epochs < 200)


def test_given_milestones_stay():
    assert make_run("cifar10", "resnet44", epochs=20, milestones=(3,)).milestones == (3,)


def test_rate_falls_at_the_milestones():
    run = make_run(lr=0.8, milestones=(2, 3), decay=0.5, epochs=5)
    assert [run.rate(e) for e in range(5)] == pytest.approx([0.8, 0.8, 0.4, 0.2, 0.2])


def test_augmentation_comes_from_the_data_set():
    run = make_run("cifar10")
    assert (run.network, run.padding, run.flip, run.cutout) == ("alexnet", 4, True, 0)
    assert make_run("cifar10", cutout="auto").cutout == 16 and make_run("cifar100", cutout="auto").cutout == 8
    augmentation = make_run("cifar10", padding=2, flip=False, cutout=5).augmentation
    assert (augmentation.padding, augmentation.flip, augmentation.cutout) == (2, False, 5)


def test_parameters_reach_the_method_and_none_means_not_given():
    run = make_run(method="sba", eta=0.3, folds=7, sigma=None, lr=None)
    assert run.method == SBA(eta=0.3, folds=7)
    assert run.lr == REGIMES["digits"].lr


PAPER = {"scale": "absolute", "dropout_rescale": False, "detach": False, "batch_norm": "tracked"}


def test_preset_of_the_paper_is_the_literal_reading():
    assert SBA.presets["paper"] == PAPER
    assert make_run(method="sba", preset="paper").method == SBA(**PAPER)
    assert make_run(method="sba", preset="default") == make_run(method="sba")


def test_what_is_given_goes_before_the_preset():
    run = make_run(method="sba", preset="paper", detach=True, eta=0.3, scale=None, lr=0.2)
    assert run.method == SBA(**{**PAPER, "detach": True, "eta": 0.3}) and run.lr == 0.2
    assert SBA.presets["paper"] == PAPER  # and nothing is written into it


def test_a_preset_leaves_no_trace_but_its_values():
    run = make_run(method="sba", preset="paper")
    assert run == make_run(method="sba", **PAPER) and run.key == make_run(method="sba", **PAPER).key
    assert "preset" not in run.settings() and from_settings(run.settings()) == run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_default_preset_and_only_its_own_fields_in_presets(method):
    cls = METHODS[method]
    assert cls.presets["default"] == {}
    for name, values in cls.presets.items():
        assert set(values) <= set(definitions(cls))
        assert make_run(method=method, preset=name).method == cls(**values)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"method": "sba", "preset": "papre"},
            "preset: 'papre' is not known to sba; choose from default, paper, latent-ba",
        ),
        ({"method": "erm", "preset": "paper"}, "preset: 'paper' is not known to erm; choose from default"),
    ],
    ids=["typo", "of another method"],
)
def test_unknown_preset(parameters, message):
    with pytest.raises(ConfigError) as caught:
        make_run(**parameters)
    assert str(caught.value) == message


def test_methods_that_share_a_parameter_share_its_definition():
    common = [name for name in definitions(ImplicitSBA) if name in definitions(SBA)]
    assert len(common) == len(definitions(ImplicitSBA)) - 1
    for name in common:
        own, other = facts(ImplicitSBA, name), facts(SBA, name)
        assert own.pop("description").startswith(other.pop("description"))  # a note may follow
        assert own == other
        assert getattr(ImplicitSBA(), name) == getattr(SBA(), name)
    with pytest.raises(ConfigError, match=r"omega \(ω\): 2.0 is not allowed; give a number in \[0, π/2"):
        ImplicitSBA(omega=2.0)
    with pytest.raises(ConfigError, match=r"folds: neither a run nor the method 'implicit-sba' .* it belongs to sba"):
        make_run(method="implicit-sba", folds=3)


@pytest.mark.parametrize("vote", [True, False])
def test_settings_that_hold_a_vote_are_those_of_the_run_without(vote):
    run = make_run(method="sba")
    assert from_settings(run.settings() | {"vote": vote}) == run and "vote" not in run.settings()
    with pytest.raises(ConfigError, match="vote: neither a run nor the method 'erm' has this parameter"):
        make_run(vote=vote)


def test_the_papers_reading_is_the_default():
    method = SBA()
    assert method.omega == pytest.approx(math.pi / 3) and (method.eta, method.folds) == (0.01, 32)
