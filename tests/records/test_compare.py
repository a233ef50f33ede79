"""Differences are of equal seeds, with Student's interval as scipy has it."""

import math

import pytest
from helpers import bench, changed, record
from scipy import stats

from sba.records.compare import at_seeds, indexed, paired

ERM, SBA = {"dataset": "cifar10", "network": "alexnet"}, {"dataset": "cifar10", "network": "alexnet", "method": "sba"}


def test_a_difference_is_that_of_the_seeds_both_have():
    ours, theirs = {0: 20.0, 1: 21.0, 2: 22.5, 7: 1.0}, {0: 21.0, 1: 21.5, 2: 22.0, 3: 99.0}
    index = indexed([record(e, "sba", s) for s, e in ours.items()] + [record(e, "erm", s) for s, e in theirs.items()])
    found = paired(at_seeds(index, SBA), at_seeds(index, ERM))
    low, high = stats.ttest_rel([20.0, 21.0, 22.5], [21.0, 21.5, 22.0]).confidence_interval(0.95)
    assert found.n == 3 and (found.low, found.high) == pytest.approx((low, high))
    assert found.ids == tuple(f"sba-{s}-{ours[s]}" for s in range(3)) + tuple(f"erm-{s}-{theirs[s]}" for s in range(3))
    assert str(found) == f"−0.33 ± {found.half:.2f} (n=3)"


def test_one_seed_has_no_interval_and_none_no_difference():
    index = indexed([record(20.0, "sba", 4), record(21.0, "erm", 4), record(30.0, "erm", 5)])
    found = paired(at_seeds(index, SBA), at_seeds(index, ERM))
    assert (found.mean, found.low, found.high, found.n) == (-1.0, -math.inf, math.inf, 1) and str(
        found
    ) == "−1.00 (n=1)"
    assert paired({}, at_seeds(index, ERM)) is None


def test_a_setting_is_found_only_as_it_was_asked_for():
    others = [
        record(1.0, eta=0.1, method="sba"),
        record(2.0, cutout=16),
        record(3.0, epochs=5),
        record(4.0, amp="bf16"),
    ]
    first = record(5.0, identifier="first")
    index = indexed([*others, first, changed(first, id="second"), bench("a")])
    assert {s: r.id for s, r in at_seeds(index, ERM).items()} == {0: "first"}
    assert at_seeds(index, SBA) == {}


def test_every_seed_is_found_however_large_it_is():
    index = indexed([record(20.0, "sba", 11), record(21.0, "erm", 11), record(21.5, "erm", 10**9)])
    assert list(at_seeds(index, ERM)) == [11, 10**9]
    assert paired(at_seeds(index, SBA), at_seeds(index, ERM)).ids == ("sba-11-20.0", "erm-11-21.0")


def test_a_result_of_the_tables_comes_before_an_equal_run_of_a_study():
    study = changed(record(5.0), id="study", study="fig2")
    assert at_seeds(indexed([study, record(6.0, identifier="own")]), ERM)[0].id == "own"
    assert at_seeds(indexed([study]), ERM)[0].id == "study"
