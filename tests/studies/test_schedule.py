"""The schedule of runs side by side, against a simulation second by second and Graham's bounds."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sba.studies.schedule import idle_share, makespan

DURATIONS = st.lists(st.integers(1, 9), max_size=7)


def slow(durations, slots):
    """Let the time go on second by second."""
    waiting, busy, now = list(durations), [], 0
    while waiting or busy:
        while waiting and len(busy) < slots:
            busy.append(waiting.pop(0))
        now += 1
        busy = [left - 1 for left in busy if left > 1]
    return now


def best(durations, slots):
    """The shortest possible schedule: every way to share the runs out."""
    shared = itertools.product(range(slots), repeat=len(durations))
    return min(
        max(sum(d for d, s in zip(durations, to, strict=True) if s == slot) for slot in range(slots)) for to in shared
    )


@given(DURATIONS, st.integers(1, 4))
def test_a_run_goes_to_the_slot_that_is_free_first(durations, slots):
    assert makespan(durations, slots) == slow(durations, slots)


@given(DURATIONS, st.integers(1, 3))
def test_no_order_is_worse_and_longest_first_is_better_than_graham_proved(durations, slots):
    least = best(durations, slots)
    assert least <= makespan(durations, slots) <= (2 - 1 / slots) * least
    # Graham (1969), theorem 2
    assert makespan(sorted(durations, reverse=True), slots) <= (4 / 3 - 1 / (3 * slots)) * least + 1e-9


def test_idle_is_what_no_run_uses():
    assert idle_share([3.0, 3.0], 2) == 0 == idle_share([], 5)
    assert idle_share([2.0, 2.0, 4.0], 2) == pytest.approx(1 - 8 / 12) and idle_share([4.0, 2.0, 2.0], 2) == 0
