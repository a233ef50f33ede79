"""The rules of inference agree with scipy, statsmodels and closed forms."""

import itertools
import math

import numpy as np
import pytest
from helpers import changed, record
from scipy import stats

from sba.records import arrivals, images, inference, judging
from sba.records.judging import FAILS, HOLDS, MINIMUM, NO_DIFFERENCE, NOT_RUN, OPEN


def draws():
    return np.random.default_rng(18)


OURS, THEIRS, MORE = (draws().normal(22, s, n) + m for m, s, n in ((-0.4, 0.3, 7), (0, 0.2, 7), (0.1, 0.6, 9)))
STATSMODELS = "statsmodels is missing: pip install -e '.[train]'"


# ------------------------------------------------------------------------------------------ differences over runs


def test_the_paired_test_is_scipys():
    found, theirs = inference.paired(OURS, THEIRS), stats.ttest_rel(OURS, THEIRS)
    assert (found.p, found.freedom) == pytest.approx((theirs.pvalue, theirs.df))
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.correlation == pytest.approx(stats.pearsonr(OURS, THEIRS).statistic)
    assert "paired t, n=7, r=" in str(found)


def test_welchs_test_is_scipys():
    found, theirs = inference.welch(OURS, MORE), stats.ttest_ind(OURS, MORE, equal_var=False)
    assert (found.p, found.freedom) == pytest.approx((theirs.pvalue, theirs.df))
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert (found.n, found.correlation) == (7, None) and str(found).endswith("(Welch, n=7)")


def test_pooling_settings_gives_the_variance_within():
    groups = [OURS, THEIRS, MORE]
    between = stats.f_oneway(*groups).statistic
    spread = inference.pooled_deviation(groups)
    grand, means = np.concatenate(groups).mean(), [(len(g), g.mean()) for g in groups]
    assert spread**2 == pytest.approx(sum(n * (m - grand) ** 2 for n, m in means) / 2 / between)


def test_equal_differences_have_the_floor_of_one_image_and_without_one_decide_nothing():
    ours, theirs = np.full(5, 21.0), np.full(5, 21.01)
    floor = inference.one_image(10_000)
    found = inference.paired(ours, theirs, floor)
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(5))
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(5), 4)) and found.correlation is None
    assert inference.welch(ours, theirs, floor).standard_error == pytest.approx(0.01 * math.sqrt(2 / 5))
    assert inference.pooled_deviation([ours, theirs], floor) == floor
    assert sign(inference.welch(ours, theirs)) == OPEN
    # their differences are equal but for rounding
    assert sign(inference.paired(OURS, OURS + 0.1)) == OPEN
    assert judging.judge_lowest(ours, [theirs] * 6).verdict == OPEN
    # equal runs are not equal for certain: the floor makes it a conclusion of the test
    assert sign(inference.paired(ours, ours, floor)) == NO_DIFFERENCE


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
    assert inference.contrast(ours, theirs).test == test


def test_other_seeds_are_not_paired_and_one_run_has_a_mean_alone():
    ours, theirs = runs("sba", range(5), 20.0), runs("erm", range(1, 6), 21.0)
    assert inference.contrast(ours, theirs).test == "Welch"
    one = inference.contrast(ours, runs("erm", [0], 21.0))
    assert (one.n, one.test, str(one)) == (1, "", "−1.00 (n=1)") and math.isnan(one.p)
    assert judging.judge_signs([one, None]) == [judging.Judgement(OPEN, 1.0), judging.Judgement(NOT_RUN, 1.0)]
    assert inference.contrast(ours, {}) is None
    unknown = {s: changed(r, source="") for s, r in ours.items()}
    assert inference.contrast(unknown, unknown).test == "Welch"


def test_runs_beyond_those_of_the_smaller_side_are_left_out_of_pairs():
    ours, theirs = runs("sba", range(5), 20.0), runs("erm", range(8), 21.0)
    found = inference.contrast(ours, theirs, lambda r: r.error + (r.run.method.name == "sba") * r.seed**2)
    values = [[r.error for s, r in side.items() if s < 5] for side in (ours, theirs)]
    expected = stats.ttest_rel(np.array(values[0]) + np.arange(5) ** 2, values[1])
    assert (found.test, found.n, found.p) == ("paired t", 5, pytest.approx(expected.pvalue))
    assert found.ids == tuple(r.id for side in (ours, theirs) for s, r in sorted(side.items()) if s < 5)


def test_errors_have_the_floor_of_one_image_of_their_data():
    ours, theirs = runs("sba", range(5), 20.0), runs("erm", range(5), 21.0)
    assert inference.contrast(ours, theirs).standard_error == pytest.approx(0.01 / math.sqrt(5))
    held = [{s: changed(r, settings=r.settings | {"holdout": 500}) for s, r in side.items()} for side in (ours, theirs)]
    assert inference.contrast(*held).standard_error == pytest.approx(0.2 / math.sqrt(5))
    assert np.isnan(inference.contrast(ours, theirs, lambda r: r.error).standard_error)


# ------------------------------------------------------------------------------------------------------- families


def test_holm_corrects_as_in_closed_form():
    p = [0.03, 0.001, 0.2, 0.012, 0.9]
    assert judging.holm(p) == pytest.approx([0.09, 0.005, 0.4, 0.048, 0.9])
    assert judging.holm([]) == []


@pytest.mark.parametrize("size", [1, 2, 9, 31])
def test_holm_is_that_of_statsmodels(size):
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason=STATSMODELS)
    p = np.random.default_rng(size).uniform(size=size) ** 3
    p[: size // 3] = p[0]
    assert judging.holm(list(p)) == pytest.approx(multitest.multipletests(p, method="holm")[1], rel=1e-12)


def test_the_adopted_setting_is_compared_by_dunnetts_test():
    rng = draws()
    rivals = [rng.normal(22, 0.3, n) for n in (5, 6, 7, 5, 5, 8)]
    theirs = stats.dunnett(*rivals, control=OURS, random_state=1).pvalue
    assert judging.dunnett_p(OURS, rivals) == pytest.approx(list(theirs), abs=1e-3)
    # one rival leaves nothing to correct
    assert judging.dunnett_p(OURS, [MORE]) == pytest.approx([stats.ttest_ind(OURS, MORE).pvalue], abs=1e-3)


def test_the_adopted_setting_is_the_best_only_if_all_others_are_worse():
    near = OURS + 0.01
    assert judging.judge_lowest(OURS, [OURS + 2] * 6).verdict == HOLDS
    assert judging.judge_lowest(OURS, [OURS + 2] * 5 + [near]).verdict == OPEN
    assert judging.judge_lowest(OURS, [OURS + 2] * 5 + [OURS - 2]).verdict == FAILS
    assert judging.judge_lowest(OURS[:4], [OURS - 9] * 6).verdict == OPEN


# -------------------------------------------------------------------------------------------------------- verdicts


def test_equivalence_is_two_one_sided_tests():
    weights = pytest.importorskip("statsmodels.stats.weightstats", reason=STATSMODELS)
    ours, theirs, margin = OURS + 0.4, MORE, 0.7
    found = judging.equivalence_p(inference.welch(ours, theirs), margin=margin)
    assert found == pytest.approx(weights.ttost_ind(ours, theirs, -margin, margin, usevar="unequal")[0])
    found = judging.equivalence_p(inference.paired(OURS, THEIRS), centre=-0.3, margin=0.2)
    assert found == pytest.approx(weights.ttost_paired(OURS, THEIRS, -0.5, -0.1)[0])


def test_a_difference_beyond_a_margin_is_tested_from_its_nearer_end():
    found = inference.paired(OURS, THEIRS)
    assert judging.beyond_p(found, margin=0.0) == pytest.approx(found.p)
    assert judging.beyond_p(found, centre=-5.85) == pytest.approx(stats.ttest_1samp(OURS - THEIRS, -5.55).pvalue)
    assert judging.beyond_p(found, centre=float(found.mean)) == 1


def of(mean, error, n=5):
    return inference.Contrast("paired t", mean, error, n - 1, n)


def sign(*family):
    return judging.judge_signs(family)[0].verdict


def size(found, claimed):
    return judging.judge_sizes([found], [claimed])[0].verdict


def test_sign_and_size_are_two_claims():
    assert sign(of(-0.5, 0.1)) == HOLDS and sign(of(0.5, 0.1)) == FAILS
    assert sign(of(-0.5, 0.4)) == OPEN and sign(of(0.01, 0.05)) == NO_DIFFERENCE
    assert sign(of(-0.5, 0.1), *[None] * 9) == sign(of(0.01, 0.05), *[None] * 99) == OPEN
    assert NO_DIFFERENCE == "no difference larger than 0.3 points"
    assert size(of(-0.5, 0.4), -5.85) == FAILS and size(of(-0.5, 0.4), -0.9) == OPEN
    assert size(of(-5.8, 0.05), -5.85) == HOLDS and size(of(-5.8, 0.2), -5.85) == OPEN


def test_less_than_five_runs_decide_nothing():
    few = of(-9.0, 0.1, n=MINIMUM - 1)
    assert sign(few) == size(few, 1.0) == OPEN


def test_a_family_is_corrected_whether_its_claims_were_run_or_not():
    pytest.importorskip("statsmodels", reason=STATSMODELS)
    clear, close = of(-0.5, 0.05), of(-0.5, 0.15)
    assert judging.judge_signs([close]) == [judging.Judgement(HOLDS, pytest.approx(close.p))] and 0.02 < close.p < 0.05
    for other in (None, of(-9.0, 0.1, n=2), of(-0.5, math.nan)):
        found = judging.judge_signs([close, clear, other])
        assert [j.verdict for j in found[:2]] == [OPEN, HOLDS]
        assert [j.p for j in found[:2]] == pytest.approx([2 * close.p, 3 * clear.p])
    # what is decided later takes no verdict back
    assert judging.judge_signs([close, clear, clear])[1].verdict == HOLDS


def test_no_difference_is_a_family_of_its_own_and_needs_a_margin():
    none = of(0.0, 0.03)
    assert [j.verdict for j in judging.judge_signs([none, of(-0.5, 0.05)])] == [NO_DIFFERENCE, HOLDS]
    assert judging.judge_signs([none])[0].p == pytest.approx(judging.equivalence_p(none))
    assert judging.judge_signs([none], margin=None)[0].verdict == OPEN


def test_sizes_are_judged_each_against_its_own():
    found = judging.judge_sizes([of(-5.8, 0.05), of(-0.5, 0.2), None], [-5.85, -5.85, -1.0])
    assert [j.verdict for j in found] == [HOLDS, FAILS, NOT_RUN]


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
    found = arrivals.sooner(ours, theirs)
    assert (found.p, found.n, found.test) == (pytest.approx(expected), 5, "permutation")
    assert found.mean == pytest.approx(ours.restricted_mean - theirs.restricted_mean)
    assert str(found) == f"{found.mean:+.2f} (permutation, n=5)".replace("-", "−")
    verdicts = [
        judging.judge_signs([arrivals.sooner(*p)])[0].verdict for p in ((ours, theirs), (theirs, ours), (ours, ours))
    ]
    assert verdicts == [HOLDS, FAILS, OPEN]
    with pytest.raises(ValueError, match="10 and 9 epochs"):
        arrivals.sooner(ours, arrivals.arrivals(curves([3], 9), 20.0, 9))


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
    alone, apart = (ours & ~theirs).sum(), (ours != theirs).sum()
    assert images.mcnemar_p(ours, theirs) == pytest.approx(stats.binomtest(alone, apart).pvalue)
    assert images.mcnemar_p(ours, ours) == 1


def test_the_bootstrap_over_images_is_scipys():
    ours, theirs = draws().random((2, 5, 800)) < np.array([0.8, 0.75])[:, None, None]
    low, high = images.image_interval(ours, theirs)
    difference = 100 * (theirs.mean(0) - ours.mean(0))
    expected = stats.bootstrap((difference,), np.mean, method="percentile", random_state=0, n_resamples=4000, batch=500)
    half = stats.norm.isf(0.025) * stats.sem(difference)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.06 * half)
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.06 * half)
    assert images.image_interval(ours[0], ours[0]) == (0, 0)


def kept(method, right):
    """Records of runs that got so many images right."""
    return {
        s: changed(record(20.0, method, s), right={"images": len(row), "bits": images.pack(row)})
        for s, row in enumerate(right)
    }


def test_two_settings_are_compared_on_the_images_their_runs_got_right():
    pytest.importorskip("statsmodels", reason=STATSMODELS)
    right, other = draws().random((2, 3, 500)) < np.array([0.8, 0.7])[:, None, None]
    ours, theirs = kept("sba", right), kept("erm", other)
    found = images.sampling(ours, theirs)
    assert (found.low, found.high) == images.image_interval(right, other)
    assert found.pairs == {s: images.mcnemar_p(right[s], other[s]) for s in range(3)}
    assert str(found).startswith("over test images [−") and "3 pairs of networks" in str(found)
    assert images.sampling({0: ours[0]}, {1: theirs[1]}).pairs == {}


def test_older_records_do_not_say_which_images_were_right():
    ours, theirs = (kept(m, draws().random((2, 80)) < 0.8) for m in ("sba", "erm"))
    older = changed(record(20.0, "erm", 5))
    assert images.right_in(older) is None
    assert images.sampling(ours, theirs | {5: older}) is None
    # other data are other images
    assert images.sampling(ours, {s: changed(r, fingerprint="g") for s, r in theirs.items()}) is None
