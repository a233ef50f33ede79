"""λ(t) is a Bernoulli process with probability cos ω, and a pure function of seed and iteration."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sba import SBA
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.core.scheduler import Scheduler, probability

STEPS = 10_000
angles = st.floats(0, math.pi / 2)


@pytest.mark.parametrize("omega", [0.2, math.pi / 6, math.pi / 4, math.pi / 3, 1.4, 1.55])
def test_frequency_is_cos_omega(omega):
    """Within 3.5 standard deviations of the binomial law."""
    p = math.cos(omega)
    assert probability(omega) == p
    assert abs(Scheduler(omega).stream(0, STEPS).mean() - p) < 3.5 * math.sqrt(p * (1 - p) / STEPS)


def test_frequency_over_epochs_is_cos_omega_too():
    states = Scheduler(math.pi / 3, "epoch").stream(0, 4000)
    assert abs(states.mean() - 0.5) < 3.5 * 0.5 / math.sqrt(4000)


def test_draws_are_independent_of_each_other():
    states = Scheduler(math.pi / 3).stream(1, STEPS)
    # The variance of λ(t)·λ(t+1) is 3/16; each of its two neighbours shares a factor with it and adds 1/16.
    assert abs((states[1:] & states[:-1]).mean() - 0.25) < 3.5 * math.sqrt((3 / 16 + 2 / 16) / STEPS)


@given(st.integers(0, 2**62), st.integers(0, 2**40))
def test_ends_of_the_range_are_exact(seed, step):
    assert Scheduler(0.0).state(Step(seed, step))
    assert not Scheduler(math.pi / 2).state(Step(seed, step))


def test_a_right_angle_has_probability_zero():
    assert probability(math.pi / 2) == 0 and probability(0) == 1


@given(angles, st.integers(0, 2**62))
def test_replay_equals_the_stream_on_all_ranks(omega, seed):
    stream = Scheduler(omega).stream(seed, 30, steps_per_epoch=7)
    for rank in (0, 3):
        replay = [Scheduler(omega).state(Step(seed, t, epoch=t // 7, rank=rank)) for t in range(30)]
        assert stream.tolist() == replay


@given(angles, angles, st.integers(0, 2**62))
def test_a_smaller_angle_augments_a_superset_of_the_steps(a, b, seed):
    """One uniform draw per step decides: sweeps over ω at one seed differ by as little as they can."""
    more, fewer = (Scheduler(omega).stream(seed, 30) for omega in sorted((a, b)))
    assert (more | ~fewer).all()


def test_epoch_schedule_is_constant_within_an_epoch():
    states = Scheduler(math.pi / 3, "epoch").stream(0, 7 * 40, steps_per_epoch=7).reshape(40, 7)
    assert (states == states[:, :1]).all()
    assert len(np.unique(states[:, 0])) == 2
    assert not (Scheduler(math.pi / 3).stream(0, 7 * 40).reshape(40, 7) == states).all()


@pytest.mark.parametrize("omega", [-0.1, 1.6, math.nan, math.inf])
def test_omega_out_of_range(omega):
    with pytest.raises(ConfigError, match=r"omega \(ω\): .* is not allowed; give a number in \[0, π/2 ≈ 1.570796\]"):
        Scheduler(omega)


def test_unknown_schedule():
    with pytest.raises(ConfigError, match=r"schedule \(λ\(t\)\): 'batch' is not allowed; give one of iteration, epoch"):
        Scheduler(1.0, "batch")


@pytest.mark.parametrize("call", [lambda: Scheduler(1.0, "epoch", 3), lambda: SBA(1.0)])
def test_too_many_values_without_a_name(call):
    with pytest.raises(TypeError, match="values without a name, not"):
        call()


@pytest.mark.parametrize(("a", "b"), [(math.pi / 3, math.pi / 4), (0.3, 1.2)])
def test_at_one_seed_two_angles_differ_in_their_dose_by_less_than_at_two(a, b):
    """The difference of two states is a Bernoulli variable with the difference of the probabilities (chapter on the scheduler)."""
    p, q = sorted(map(probability, (a, b)), reverse=True)
    ours, theirs = Scheduler(a).stream(0, STEPS), Scheduler(b).stream(0, STEPS)
    other = Scheduler(b).stream(1, STEPS)
    same, apart = ((ours.astype(float) - s).var() for s in (theirs, other))
    assert same == pytest.approx((p - q) * (1 - p + q), rel=0.05)
    assert apart == pytest.approx(p * (1 - p) + q * (1 - q), rel=0.05) and apart > 1.1 * same
