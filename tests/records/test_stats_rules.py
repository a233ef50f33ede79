"""The rules of inference agree with scipy, statsmodels and closed forms."""

import itertools
import math

import numpy as np
import pytest
from helpers import changed, record
from scipy import stats

from sba.records import arrivals, images, inference
from sba.records.inference import FAILS, HOLDS, MINIMUM, NO_DIFFERENCE, OPEN


def draws():
    return np.random.default_rng(18)


OURS, THEIRS, MORE = (draws().normal(22, s, n) + m for m, s, n in ((-0.4, 0.3, 7), (0, 0.2, 7), (0.1, 0.6, 9)))
STATSMODELS = "statsmodels is missing: pip install -e '.[train]'"


# ------------------------------------------------------------------------------------------ differences over runs


def test_the_paired_test_is_scipys():
    found, theirs = inference.paired(OURS, THEIRS), stats.ttest_rel(OURS, THEIRS)
    assert (found.p, found.freedom) == pytest.approx((theirs.pvalue, theirs.df))
    assert found.interval() == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.correlation == pytest.approx(stats.pearsonr(OURS, THEIRS).statistic)
    assert "paired t, n=7, r=" in str(found)


def test_welchs_test_is_scipys():
    found, theirs = inference.welch(OURS, MORE), stats.ttest_ind(OURS, MORE, equal_var=False)
    assert (found.p, found.freedom) == pytest.approx((theirs.pvalue, theirs.df))
    assert found.interval() == pytest.approx(tuple(theirs.confidence_interval()))
    assert (found.n, found.correlation) == (7, None) and str(found).endswith("(Welch, n=7)")


def test_pooling_two_settings_is_students_test_and_pooling_more_is_the_variance_within():
    spread, freedom = inference.pooled_deviation([OURS, MORE])
    assert inference.pooled(OURS, MORE, spread, freedom).p == pytest.approx(stats.ttest_ind(OURS, MORE).pvalue)
    groups = [OURS, THEIRS, MORE]
    between = stats.f_oneway(*groups).statistic
    spread, freedom = inference.pooled_deviation(groups)
    grand, means = np.concatenate(groups).mean(), [(len(g), g.mean()) for g in groups]
    assert freedom == 20
    assert spread**2 == pytest.approx(sum(n * (m - grand) ** 2 for n, m in means) / 2 / between)


def test_equal_differences_have_the_floor_of_one_image_and_without_one_decide_nothing():
    ours, theirs = np.full(5, 21.0), np.full(5, 21.01)
    floor = inference.one_image(10_000)
    found = inference.paired(ours, theirs, floor)
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(5))
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(5), 4)) and found.correlation is None
    assert inference.welch(ours, theirs, floor).standard_error == pytest.approx(0.01 * math.sqrt(2 / 5))
    spread, freedom = inference.pooled_deviation([ours, theirs], floor)
    assert (float(spread), freedom) == (floor, 8)
    assert inference.sign_verdict(inference.welch(ours, theirs)) == OPEN
    # their differences are equal but for rounding
    assert inference.sign_verdict(inference.paired(OURS, OURS + 0.1)) == OPEN
    assert inference.lowest_verdict(ours, [theirs] * 6) == OPEN
    # equal runs are not equal for certain: the floor makes it a conclusion of the test
    assert inference.sign_verdict(inference.paired(ours, ours, floor)) == NO_DIFFERENCE


def runs(method, seeds, error, **changes):
    return {s: changed(record(error + s / 10 + (s % 2) / 7, method, s), **{"source": "abc", **changes}) for s in seeds}


@pytest.mark.parametrize(
    ("changes", "test"),
    [
        ({}, "paired t"),
        ({"source": "def"}, "Welch"),
        ({"source": ""}, "Welch"),
        ({"device": "cuda"}, "Welch"),
        ({"versions": {"torch": "1.0"}}, "Welch"),
    ],
)
def test_runs_are_paired_only_if_they_were_made_alike(changes, test):
    """Of every pair: one run made elsewhere is enough for Welch's test."""
    ours, theirs = runs("sba", range(5), 20.0), runs("erm", range(5), 21.0)
    theirs[4] = changed(theirs[4], **changes)
    assert inference.contrast(ours, theirs, floor=0.01).test == test


def test_other_seeds_are_not_paired_and_one_run_has_no_difference():
    ours, theirs = runs("sba", range(5), 20.0), runs("erm", range(1, 6), 21.0)
    assert inference.contrast(ours, theirs).test == "Welch"
    assert inference.contrast(ours, runs("erm", range(6), 21.0)).test == "Welch"
    assert inference.contrast(ours, runs("erm", [0], 21.0)) is None
    unknown = {s: changed(r, source="") for s, r in ours.items()}
    assert inference.contrast(unknown, unknown).test == "Welch"


# ------------------------------------------------------------------------------------------------------- families


def test_holm_corrects_as_in_closed_form():
    pytest.importorskip("statsmodels", reason=STATSMODELS)
    p = [0.03, 0.001, 0.2, 0.012, 0.9]
    assert inference.holm(p) == pytest.approx([0.09, 0.005, 0.4, 0.048, 0.9])
    assert inference.holm([]) == []


def test_the_adopted_setting_is_compared_by_dunnetts_test():
    rng = draws()
    rivals = [rng.normal(22, 0.3, n) for n in (5, 6, 7, 5, 5, 8)]
    theirs = stats.dunnett(*rivals, control=OURS, random_state=1).pvalue
    assert inference.dunnett_p(OURS, rivals) == pytest.approx(list(theirs), abs=1e-3)
    # one rival leaves nothing to correct
    assert inference.dunnett_p(OURS, [MORE]) == pytest.approx([stats.ttest_ind(OURS, MORE).pvalue], abs=1e-3)


def test_the_adopted_setting_is_the_best_only_if_all_others_are_worse():
    near = OURS + 0.01
    assert inference.lowest_verdict(OURS, [OURS + 2] * 6) == HOLDS
    assert inference.lowest_verdict(OURS, [OURS + 2] * 5 + [near]) == OPEN
    assert inference.lowest_verdict(OURS, [OURS + 2] * 5 + [OURS - 2]) == FAILS
    assert inference.lowest_verdict(OURS[:4], [OURS - 9] * 6) == OPEN


# -------------------------------------------------------------------------------------------------------- verdicts


def test_equivalence_is_two_one_sided_tests():
    weights = pytest.importorskip("statsmodels.stats.weightstats", reason=STATSMODELS)
    ours, theirs, margin = OURS + 0.4, MORE, 0.7
    found = inference.equivalence_p(inference.welch(ours, theirs), margin=margin)
    assert found == pytest.approx(weights.ttost_ind(ours, theirs, -margin, margin, usevar="unequal")[0])
    found = inference.equivalence_p(inference.paired(OURS, THEIRS), centre=-0.3, margin=0.2)
    assert found == pytest.approx(weights.ttost_paired(OURS, THEIRS, -0.5, -0.1)[0])


def test_a_difference_beyond_a_margin_is_tested_from_its_nearer_end():
    found = inference.paired(OURS, THEIRS)
    assert inference.beyond_p(found, margin=0.0) == pytest.approx(found.p)
    assert inference.beyond_p(found, centre=-5.85) == pytest.approx(stats.ttest_1samp(OURS - THEIRS, -5.55).pvalue)
    assert inference.beyond_p(found, centre=float(found.mean)) == 1


def of(mean, error, n=5):
    return inference.Contrast("paired t", mean, error, n - 1, n)


def test_sign_and_size_are_two_claims():
    assert inference.sign_verdict(of(-0.5, 0.1)) == HOLDS and inference.sign_verdict(of(0.5, 0.1)) == FAILS
    assert inference.sign_verdict(of(-0.5, 0.4)) == OPEN and inference.sign_verdict(of(0.01, 0.05)) == NO_DIFFERENCE
    assert inference.sign_verdict(of(-0.5, 0.1), p=0.06) == OPEN
    assert inference.sign_verdict(of(0.01, 0.05), equivalent=0.06) == OPEN
    assert NO_DIFFERENCE == "no difference larger than 0.3"
    open_sign = of(-0.5, 0.4)
    assert inference.size_verdict(open_sign, -5.85) == FAILS and inference.size_verdict(open_sign, -0.9) == OPEN
    assert inference.size_verdict(of(-5.8, 0.05), -5.85) == HOLDS
    assert inference.size_verdict(of(-5.8, 0.05), -5.85, within=0.06) == OPEN


def test_less_than_five_runs_decide_nothing():
    few = of(-9.0, 0.1, n=MINIMUM - 1)
    assert inference.sign_verdict(few) == inference.size_verdict(few, 1.0) == OPEN
    quick, slow = (arrivals.arrivals([[e]] * 4, 10, 1) for e in (9, 11))
    assert arrivals.sooner_verdict(quick, slow, p=0.001) == OPEN


# ----------------------------------------------------------------------------------------------------- convergence


def curves(epochs, horizon=10):
    """A run for each epoch at which it reaches 20 %; None for never."""
    return [[30.0 if e is None or i < e else 20.0 for i in range(1, horizon + 1)] for e in epochs]


def test_a_run_that_never_arrives_is_censored_and_one_in_the_last_epoch_has_arrived():
    found = arrivals.arrivals(curves([3, 10, None, 5]), 20.0, 10)
    assert found.epochs.tolist() == [3, 10, 10, 5] and found.reached.tolist() == [True, True, False, True]
    assert found.share == 0.75
    censored = stats.CensoredData(uncensored=found.epochs[found.reached], right=found.epochs[~found.reached])
    curve = stats.ecdf(censored).sf
    area = np.trapezoid(curve.evaluate(np.arange(0, 10, 0.001)), dx=0.001)
    assert found.restricted_mean == pytest.approx(area, abs=0.01)
    with pytest.raises(ValueError, match="3 of 10 epochs"):
        arrivals.arrivals([[30.0] * 3], 20.0, 10)


def test_arrivals_are_compared_over_all_splits():
    ours, theirs = (arrivals.arrivals(curves(e), 20.0, 10) for e in ([3, 4, 4, 6, 5], [7, 9, None, 6, None]))
    both = np.concatenate([ours.epochs, theirs.epochs])
    splits = [both[list(s)].sum() for s in itertools.combinations(range(10), 5)]
    distance = abs(ours.epochs.sum() - both.sum() / 2)
    expected = np.mean([abs(s - both.sum() / 2) >= distance - 1e-9 for s in splits])
    assert arrivals.permutation_p(ours, theirs) == pytest.approx(expected)
    assert arrivals.sooner_verdict(ours, theirs) == HOLDS and arrivals.sooner_verdict(theirs, ours) == FAILS
    assert arrivals.sooner_verdict(ours, ours) == OPEN
    with pytest.raises(ValueError, match="10 and 9 epochs"):
        arrivals.sooner_verdict(ours, arrivals.arrivals(curves([3], 9), 20.0, 9))


# ---------------------------------------------------------------------------------------------------------- images


def test_which_images_were_right_survives_as_text():
    right = draws().random(10_001) < 0.8
    text = images.pack(right)
    assert len(text) < 1700 and (images.unpack(text, 10_001) == right).all()
    with pytest.raises(ValueError, match="10008 bits"):
        images.unpack(text, 10_009)


def test_mcnemars_test_is_binomial_on_the_images_that_one_alone_got_right():
    pytest.importorskip("statsmodels", reason=STATSMODELS)
    ours, theirs = draws().random((2, 1000)) < [[0.8], [0.75]]
    found = images.mcnemar(ours, theirs)
    assert (found.ours, found.theirs, found.images) == ((ours & ~theirs).sum(), (theirs & ~ours).sum(), 1000)
    assert found.p == pytest.approx(stats.binomtest(found.ours, found.ours + found.theirs).pvalue)
    assert found.difference == pytest.approx(100 * (theirs.mean() - ours.mean()))
    assert images.mcnemar(ours, ours).p == 1


def test_the_bootstrap_over_images_is_scipys():
    ours, theirs = draws().random((2, 5, 800)) < np.array([0.8, 0.75])[:, None, None]
    low, high = images.image_interval(ours, theirs)
    difference = 100 * (theirs.mean(0) - ours.mean(0))
    expected = stats.bootstrap((difference,), np.mean, method="percentile", random_state=0, n_resamples=4000, batch=500)
    half = stats.norm.isf(0.025) * stats.sem(difference)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.06 * half)
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.06 * half)
    assert images.image_interval(ours[0], ours[0]) == (0, 0)
