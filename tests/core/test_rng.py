"""Randomness is a pure function of (seed, purpose, step, rank)."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sba.core.errors import ConfigError
from sba.core.rng import Step, fold_in, uniform

seeds = st.integers(-(2**63), 2**63 - 1)
steps = st.integers(0, 2**40)


def test_fold_is_pinned():
    """Published records are reproduced only as long as these numbers stay."""
    assert fold_in(0, "order") == 3264980863011307851
    assert fold_in(3, "scheduler", 17, 2) == 12350334702260373221


@given(seeds, st.sampled_from(["", "order", "λ"]), steps, st.integers(0, 1000))
def test_fold_gives_64_bits(seed, purpose, step, rank):
    assert 0 <= fold_in(seed, purpose, step, rank) < 2**64


def test_fold_separates_its_arguments():
    places = list(itertools.product((0, 1, 11, 111), ("", "1", "11"), (0, 1, 11, 111), (0, 1, 11)))
    assert len({fold_in(*place) for place in places}) == len(places)


@pytest.mark.parametrize(
    "place", [(0.0, 0, 0), (0, 2.0, 0), (0, 0, 1.0), (np.float64(0), 0, 0), ("0", 0, 0), (None, 0, 0)]
)
def test_numbers_that_are_no_integers_are_refused(place):
    seed, step, rank = place
    with pytest.raises(ConfigError, match=r"seed, step, rank: .* are not all integers; give integers"):
        fold_in(seed, "order", step, rank)
    with pytest.raises(ConfigError, match="give integers"):
        Step(seed, step, rank=rank).generator("order")


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor, bool])
def test_integers_of_any_kind_are_the_same_numbers(kind):
    assert fold_in(kind(1), "order", kind(1), kind(0)) == fold_in(1, "order", 1, 0)


def test_uniform_has_the_uniform_law():
    draws = np.array([uniform(0, "law", t) for t in range(20_000)])
    assert draws.min() >= 0 and draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # χ² with 19 degrees of freedom: p = 7e-4


def test_named_streams_are_independent():
    first, second = (np.array([uniform(0, name, t) for t in range(20_000)]) for name in ("crop", "flip"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(20_000)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 / np.sqrt(20_000)


@given(seeds, steps, st.integers(1, 50))
def test_decisions_agree_on_all_ranks_and_stay_in_range(seed, step, n):
    here, there = Step(seed, step), Step(seed, step, rank=3)
    assert here.uniform("layer") == there.uniform("layer")
    assert here.index("layer", n) == there.index("layer", n)
    assert 0 <= here.index("layer", n) < n


def test_index_is_uniform():
    counts = np.bincount([Step(0, t).index("layer", 5) for t in range(10_000)], minlength=5)
    assert ((counts - 2000) ** 2 / 2000).sum() < 20  # χ² with 4 degrees of freedom: p = 5e-4


@pytest.mark.parametrize("other", [Step(1, 5), Step(0, 6), Step(0, 5, rank=1)], ids=["seed", "step", "rank"])
def test_generators_repeat_at_one_moment_and_differ_elsewhere(other):
    now = Step(0, 5)

    def draw(moment, purpose="crop"):
        return torch.rand(4, generator=moment.generator(purpose))

    assert torch.equal(draw(now), draw(Step(0, 5, epoch=9, progress=0.5)))
    assert not torch.equal(draw(now), draw(other))
    assert not torch.equal(draw(now), draw(now, "flip"))
