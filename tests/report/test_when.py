"""Differences from plain training in the study of little data, and the rule that follows, against scipy and statsmodels."""

import numpy as np
import pytest
from little_data import ERRORS, TRIALS, main, record, runs
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sba import make_run
from sba.records.schema import parse
from sba.report import when
from sba.studies import contenders, small_data
from sba.studies.contenders import CONDITIONS, MAIN


def test_differences_are_those_of_the_paired_test_corrected_by_holm():
    found = when.compared(main({"SBA": -2.0, "mixup": 2.0}), MAIN)
    names = [n for n in MAIN.contenders if n != "plain"]
    assert [c.name for c in found] == names
    shifted = {n: ERRORS[i] + {"SBA": -2.0, "mixup": 2.0}.get(n, 0.0) for i, n in enumerate(MAIN.contenders)}
    tests = [stats.ttest_rel(shifted[n], shifted["plain"]) for n in names]
    wanted = multipletests([t.pvalue for t in tests], method="holm")[1]
    assert [c.p for c in found] == pytest.approx(wanted, rel=1e-9)
    for one, test in zip(found, tests, strict=True):
        assert one.found.mean == pytest.approx(np.mean(shifted[one.name] - shifted["plain"]))
        assert (one.found.low, one.found.high) == pytest.approx(tuple(test.confidence_interval()))
    verdicts = {c.name: c.verdict for c in found}
    assert verdicts["SBA"] == when.BETTER and verdicts["mixup"] == when.WORSE
    assert when.SAME in verdicts.values() and when.OPEN not in {verdicts["SBA"], verdicts["mixup"]}


def test_what_has_no_record_counts_in_the_family_and_has_no_verdict():
    whole = {c.name: c for c in when.compared(main({"SBA": -2.0}), MAIN)}
    part = {c.name: c for c in when.compared(main({"SBA": -2.0}, missing=("mixup", "ISDA")), MAIN)}
    assert part["mixup"].verdict == "—" and part["mixup"].found is None and part["mixup"].p == 1.0
    # the smallest p-value is multiplied by the size of the whole family, whoever is there
    assert part["SBA"].p == pytest.approx(whole["SBA"].p) and part["SBA"].verdict == when.BETTER


def test_no_verdict_before_the_last_run():
    records = [*TRIALS, *runs("plain", ERRORS[0]), *runs("SBA", ERRORS[1][:-1] - 5)]
    one = next(c for c in when.compared(records, MAIN) if c.name == "SBA")
    assert one.n == MAIN.n - 1 and one.p < 0.05 and one.verdict == f"{MAIN.n - 1} of {MAIN.n} runs"


def test_mcnemar_counts_pairs():
    shared = [*TRIALS, *runs("plain", [50.0] * MAIN.n)]
    near, far = (shared + runs("SBA", [error] * MAIN.n) for error in (47.5, 10.0))
    found = [next(c for c in when.compared(r, MAIN) if c.name == "SBA") for r in (near, far)]
    # one image of forty, and sixteen: exact p-values 1 and 2 / 2¹⁶
    assert [c.told_apart for c in found] == [0, MAIN.n]


def test_one_pair_has_no_difference():
    found = when.compared([*TRIALS, *runs("plain", ERRORS[0]), *runs("SBA", ERRORS[1][:1])], MAIN)
    one = next(c for c in found if c.name == "SBA")
    assert (one.n, one.found, one.p, one.verdict) == (1, None, 1.0, f"1 of {MAIN.n} runs")


def timing(name, layer, value, date, network="alexnet"):
    about = {"family": "contenders", "network": network, "variant": name, "layer": layer}
    shared = {"kind": "bench", "low": 1.0, "high": 1.0, "details": {}, "device": "cpu", "device_name": "one"}
    return parse(shared | {"id": f"{name}{layer}{date}", "name": name, "value": value, "date": date, "about": about})


def test_a_cost_is_that_of_the_newest_benchmark_at_the_chosen_layer():
    benchmarks = [
        timing("SBA", "", 1.5, "2026-01-02"),
        timing("SBA", "", 1.2, "2026-01-01"),
        timing("SBA", "", 9.0, "2026-01-03", network="resnet20"),
        timing("SBA at a convolution", "conv2", 1.9, "2026-01-01"),
        timing("SBA at a convolution", "conv3", 1.7, "2026-01-02"),
    ]
    # the first configuration of each contender is the best: conv2, which comes before the input
    assert when.costs([*TRIALS, *benchmarks], MAIN) == {"SBA": 1.5, "SBA at a convolution": 1.9, "earlier": 1.9}


def test_the_ablation_is_compared_with_plain_training_at_its_own_weight_decay():
    plain = [record(small_data.untuned(), s, float(ERRORS[0][s])) for s in range(contenders.MECHANISM_N)]
    ablated = [
        record(at, s, float(ERRORS[0][s] - 2))
        for _, _, at in contenders.ablated()
        for s in range(contenders.MECHANISM_N)
    ]
    found = when.mechanism([*plain, *ablated])
    assert len(found) == len(ablated) / contenders.MECHANISM_N
    assert all(c.n == c.wanted == contenders.MECHANISM_N and c.found.mean == pytest.approx(-2) for c in found)
    for _, _, at in contenders.ablated():
        assert make_run(**at).weight_decay == make_run(**small_data.untuned()).weight_decay


def test_each_change_is_compared_with_sba_at_its_layer_in_a_family_of_that_layer():
    names = {
        where: [what for place, what, _ in contenders.ablated() if place == where]
        for where in contenders.MECHANISM_LAYERS
    }
    shifts = {
        "Gaussian points only": np.array([3.0, 3.1, 2.9, 3.2, 3.0]),
        "pulled to the label": np.array([0.0, 0.4, -0.4, 0.3, -0.2]),
    }
    records = [
        record(at, s, float(ERRORS[0][s] + shifts.get(what, np.zeros(5))[s] - 9 * (where == "conv2")))
        for where, what, at in contenders.ablated()
        for s in range(contenders.MECHANISM_N)
        if what in {"SBA", *shifts}
    ]
    for where, own in names.items():
        found = {c.name: c for c in when.changes(records, where)}
        assert list(found) == [what for what in own if what != "SBA"]
        for what, shift in shifts.items():
            test = stats.ttest_1samp(shift, 0)
            assert found[what].found.mean == pytest.approx(shift.mean()) and found[what].n == contenders.MECHANISM_N
            # those that have no record count, too
            rank = len(found) - list(shifts).index(what)
            assert found[what].p == pytest.approx(min(1, rank * test.pvalue))
        assert [found[what].verdict for what in shifts] == [when.WORSE, when.SAME]


@pytest.mark.parametrize("condition", CONDITIONS[:3], ids=lambda c: c.name)
def test_controls_are_compared_pair_by_pair_at_equal_weight_decay(condition):
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    better = [record(at, seed, 30.0) for seed in contenders.TUNING_SEEDS]
    trials = [*(r for r in TRIALS if r.key not in {b.key for b in better}), *better]
    pairs = small_data.controls(small_data.made_in(trials), condition)
    # the difference of a pair: a weight decay's own, and 0.1 more at odd seeds
    shifts = {
        decay: np.array([-1.0 - number + 0.1 * (s % 2) for s in range(condition.n)])
        for number, decay in enumerate(pairs)
    }
    records = [
        record(parameters, s, float(ERRORS[0][s] + (shifts[decay][s] if parameters["method"] == "sba" else 0)))
        for decay, pair in pairs.items()
        for parameters in pair
        for s in range(condition.n)
    ]
    found = {float(c.name): c for c in when.controlled([*trials, *records], when.ERROR, condition)}
    assert list(found) == list(shifts) == [5e-4, 5e-3]
    tests = [stats.ttest_1samp(own, 0) for own in shifts.values()]
    assert [c.found.mean for c in found.values()] == pytest.approx([own.mean() for own in shifts.values()])
    assert [c.p for c in found.values()] == pytest.approx(multipletests([t.pvalue for t in tests], method="holm")[1])
    assert {c.verdict for c in found.values()} == {when.BETTER} and when.controlled([]) == []
    others = [c for c in CONDITIONS if c is not condition]
    assert not any(one.n for other in others for one in when.controlled([*trials, *records], when.ERROR, other))


@pytest.mark.parametrize("condition", CONDITIONS[:3], ids=lambda c: c.name)
def test_sba_is_compared_with_its_rivals_and_they_with_plain_training_at_their_weight_decay(condition):
    shifts = {"SBA": np.linspace(-2.0, -1.0, condition.n), "dropout": np.linspace(-0.2, 0.9, condition.n) ** 2}
    records = [*TRIALS, *(record(small_data.untuned(condition), s, float(ERRORS[0][s])) for s in range(condition.n))]
    for name, shift in shifts.items():
        records += runs(name, ERRORS[0][: condition.n] + shift, condition)
    apart = {"beside": shifts["SBA"] - shifts["dropout"], "rivals": shifts["dropout"]}
    for what, difference in apart.items():
        first, *others = getattr(when, what)(records, when.ERROR, condition)
        assert [first.name, *(c.name for c in others)] == list(contenders.RIVALS)
        test = stats.ttest_1samp(difference, 0)
        assert first.found.mean == pytest.approx(difference.mean()) and first.n == first.wanted == condition.n
        # the two that have no record count in the family
        assert first.p == pytest.approx(min(1, 3 * test.pvalue)) and {c.verdict for c in others} == {"—"}
    for name in contenders.RIVALS:
        assert (
            make_run(**contenders.NAMED[name].base, **condition.base).weight_decay
            == small_data.untuned(condition)["weight_decay"]
        )


def test_the_other_rivals_are_compared_with_dropout_in_a_family_of_their_own():
    shifts = {"label smoothing": np.linspace(-2.0, -1.0, MAIN.n), "R-Drop": np.linspace(-0.2, 0.9, MAIN.n) ** 2}
    records = [*TRIALS, *runs("dropout", ERRORS[0])]
    for name, shift in shifts.items():
        records += runs(name, ERRORS[0] + shift)
    found = when.over_dropout(records)
    tests = [stats.ttest_1samp(shift, 0) for shift in shifts.values()]
    assert [c.name for c in found] == list(shifts) and [c.n for c in found] == [MAIN.n] * 2
    assert [c.found.mean for c in found] == pytest.approx([shift.mean() for shift in shifts.values()])
    assert [c.p for c in found] == pytest.approx(multipletests([t.pvalue for t in tests], method="holm")[1])
    direct = when.beside_dropout([*records, *runs("SBA", ERRORS[2])])
    wanted = {"SBA": when.beside([*records, *runs("SBA", ERRORS[2])])[0].found} | {c.name: c.found for c in found}
    assert {name: one["error"].found for name, one in direct.items()} == wanted
    # the calibration error of these records is a tenth of their error in per cent, the error under attack ten points more
    shift = shifts["R-Drop"].mean()
    means = [one.found.mean for name, one in direct["R-Drop"].items() if name != when.NLL.name]
    assert means == pytest.approx([shift, shift / 10, shift])


def test_at_the_weight_decay_that_plain_training_chose_all_sides_have_it():
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    trials = [*(record(at, seed, 30.0) for seed in contenders.TUNING_SEEDS), *TRIALS]
    made = small_data.made_in(trials)
    decay = small_data.other_decay(made)
    # at the regime's weight decay the differences are others
    shifts = {None: {"plain": 9.0, "SBA": 7.0, "dropout": 3.0, "R-Drop": 0.0}}
    shifts[decay] = {"plain": 1.0, "SBA": 2.0, "dropout": 4.0, "R-Drop": 8.0}
    for one, own in shifts.items():
        for name, shift in own.items():
            setting = small_data.untuned() if name == "plain" else small_data.tested(name, MAIN, made)
            setting = setting | ({"weight_decay": one} if one else {})
            trials += [record(setting, s, float(ERRORS[0][s] + shift)) for s in range(MAIN.n)]
    for one, own in shifts.items():
        means = [
            [None if c.found is None else round(c.found.mean, 6) for c in found]
            for found in (
                when.rivals(trials, when.ERROR, MAIN, one),
                when.beside(trials, when.ERROR, MAIN, one),
                when.over_dropout(trials, when.ERROR, MAIN, one),
            )
        ]
        plain, ours, dropout, twice = own.values()
        assert means == [
            [dropout - plain, None, twice - plain],
            [ours - dropout, None, ours - twice],
            [None, twice - dropout],
        ]


@pytest.mark.parametrize("condition", CONDITIONS[:3], ids=lambda c: c.name)
def test_plain_training_is_set_against_itself_at_the_regime_s_weight_decay(condition):
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    trials = [*(record(at, seed, 30.0) for seed in contenders.TUNING_SEEDS), *TRIALS]
    regime = small_data.untuned(condition)
    shift = np.linspace(-2.0, -1.0, condition.n)
    for setting, own in ((regime, 0 * shift), (regime | {"weight_decay": 5e-3}, shift)):
        trials += [record(setting, s, float(ERRORS[0][s] + more)) for s, more in enumerate(own)]
    (one,) = when.weight_decay_effect(trials, when.ERROR, condition)
    assert one.name == "0.005" and one.whole and one.verdict == when.BETTER
    assert one.found.mean == pytest.approx(shift.mean()) and one.p == pytest.approx(stats.ttest_1samp(shift, 0).pvalue)
    back = when.negated(one)
    assert back.found.mean == -one.found.mean and back.found.half == one.found.half and back.verdict == when.WORSE
    assert when.weight_decay_effect([*TRIALS, *runs("plain", ERRORS[0])]) == [], "it chose the regime's"


def test_pairs_from_two_kinds_of_processors_are_counted():
    records = [*runs("plain", ERRORS[0]), *runs("SBA", ERRORS[1])]
    moved = [parse(r.as_json() | {"device_name": "another"}) if r.seed < 3 else r for r in records[MAIN.n :]]
    found = when.by_name(when.compared([*TRIALS, *records[: MAIN.n], *moved], MAIN), "SBA")
    assert (found.n, found.mixed) == (MAIN.n, 3)
