"""The table of ingredients: each difference is that of the runs, by hand; the verdicts are corrected together."""

import numpy as np
import pytest
from little_data import ERRORS, TRIALS, main
from little_data import record as of_little_data
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sba.records.file import book_folder, read
from sba.records.judging import FAILS, HOLDS
from sba.records.schema import TrainRecord
from sba.report.ingredients import ingredients, lines
from sba.studies import contenders, small_data
from sba.studies.contenders import MAIN


@pytest.fixture(scope="module")
def records():
    return read(book_folder())


def runs(records, **wanted):
    """Errors by seed of the runs of the study whose settings are the reference's but for some."""
    usual = {"name": "sba", "eta": 1.0, "gaussian_share": 0.5, "label": "soft", "omega": np.pi / 3, "layers": []}
    usual |= {"schedule": "iteration", "objective": "sum", "scale": "batch", "bound": "clip", "basis": "colnorm"}
    usual |= {"dropout_rescale": True, "detach": True, "update": "joint", "batch_norm": "raw", "folds": 32}
    found = {}
    for record in records:
        if isinstance(record, TrainRecord) and record.study == "switches" and record.run.network == "digits":
            own = record.run.method.settings()
            expected = {"name": "erm"} if wanted.get("name") == "erm" else usual | wanted
            if record.run.dataset == "digits" and all(own.get(k) == v for k, v in expected.items()):
                found.setdefault(record.seed, record.error)
    return np.array([found[seed] for seed in sorted(found)])


PAIRS = {
    "scheduler": ({}, {"omega": 0.0}),
    "Gaussian points": ({"gaussian_share": 1.0}, {"name": "erm"}),
    "dropout points": ({"gaussian_share": 0.0}, {"name": "erm"}),
    "soft label": ({}, {"label": "hard"}),
    "all together": ({}, {"name": "erm"}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_difference_is_that_of_the_runs_at_equal_seeds(records, name):
    found = {one.name: one for one in ingredients(records)}[name]
    ours, theirs = (runs(records, **changes) for changes in PAIRS[name])
    assert found.error.n == len(ours) == len(theirs) >= 5 and len(found.error.ids) == 2 * len(ours)
    assert found.error.mean == pytest.approx(float(np.mean(ours - theirs)), abs=1e-9)
    assert found.error.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-6)


def test_verdicts_are_corrected_among_all_of_the_table(records):
    found = ingredients(records)
    assert [one.name for one in found] == [*PAIRS, "vote"]
    corrected = multipletests([float(one.error.p) for one in found], method="holm")[1]
    for one, p in zip(found, corrected, strict=True):
        assert (one.verdict == HOLDS) == (p <= 0.05 and one.error.mean < 0), one.name


def test_little_data_has_its_rows_once_all_runs_are_there():
    shifts = {"SBA": 2.0, "dropout": -2.0, "R-Drop": 6.0}
    told = {one.name: one for one in lines(main(shifts, missing=("label smoothing",)))}
    verdicts = {
        "all together, tuned": FAILS,
        "plain dropout, tuned": "better",
        "R-Drop, tuned": "worse",
        "all together minus plain dropout, equal weight decay": "worse",
        "all together minus R-Drop, equal weight decay": "better",
    }
    assert {name: one.verdict for name, one in told.items()} == verdicts and list(told) == list(verdicts)
    assert {one.runs for one in told.values()} == {"n = 8"}
    assert [name for name, one in told.items() if one.claim == "not compared"] == list(verdicts)[1:]
    places = {name: number for number, name in enumerate(MAIN.contenders)}
    direct = told["all together minus plain dropout, equal weight decay"]
    assert direct.measured[0] == "against plain dropout, both at weight decay 0.0005, 1,000 images of CIFAR-10"
    assert direct.measured[1].startswith(f"+{4 + np.mean(ERRORS[places['SBA']] - ERRORS[places['dropout']]):.2f} ± ")
    alone = lines(main({"dropout": -2.0}, missing=("SBA", "R-Drop", "label smoothing")))
    assert [one.name for one in alone] == ["plain dropout, tuned"]
    assert "points" in told["all together, tuned"].measured[1] and "nats" in told["all together, tuned"].measured[2]


def test_each_kind_of_points_alone_stands_beside_plain_training_at_its_weight_decay():
    plain = [
        of_little_data(small_data.untuned(), s, 50.0 + 0.1 * s, nll=2.0 + 0.01 * s)
        for s in range(contenders.MECHANISM_N)
    ]
    gains = {"Gaussian points only": (0.0, 0.1), "dropout points only": (3.0, 0.5)}
    made = [
        of_little_data(at, s, 50.0 + 0.1 * s - gain + 0.01 * (s % 2), nll=2.0 + 0.01 * s - likely + 0.001 * (s % 2))
        for where, what, at in contenders.ablated()
        if what in gains and where == "last layer"
        for gain, likely in [gains[what]]
        for s in range(contenders.MECHANISM_N)
    ]
    told = {one.name: one for one in lines([*plain, *made])}
    assert list(told) == ["Gaussian points alone, little data", "dropout points alone, little data"]
    dropout, gaussian = told["dropout points alone, little data"], told["Gaussian points alone, little data"]
    assert (
        dropout.verdict == HOLDS
        and dropout.measured[1].startswith("−3.00")
        and dropout.measured[2].startswith("−0.500")
    )
    assert gaussian.verdict == "no difference larger than 1 point" and gaussian.measured[2].startswith("−0.100")
    assert dropout.runs == "n = 5" and "vary more" in dropout.claim and "weight decay 0.0005" in dropout.measured[0]
    assert not lines([*plain, *made[1:5]]), "a row needs all its runs"


def test_sba_is_set_against_what_lacks_one_of_its_parts_with_the_part_minus_without():
    # of what lacks the part, over those of SBA
    shifts = {
        "SBA": (0.0, 0.0),
        "Gaussian points only": (0.0, 0.0),
        "λ(t) always on": (3.0, 0.5),
        "pulled to the label": (-2.0, -0.1),
    }
    made = [
        of_little_data(at, s, 50.0 + 0.1 * s + more + 0.01 * (s % 2) * more, nll=2.0 + 0.01 * s + likely)
        for where, what, at in contenders.ablated()
        if what in shifts and where == "last layer"
        for more, likely in [shifts[what]]
        for s in range(contenders.MECHANISM_N)
    ]
    told = {one.name: one for one in lines(made)}
    assert list(told) == [f"{part} in SBA, little data" for part in ("dropout points", "scheduler", "soft label")]
    points, scheduler, label = told.values()
    assert points.measured[1].startswith("+0.00") and points.verdict == "no difference larger than 1 point"
    assert scheduler.verdict == HOLDS and scheduler.measured[1].startswith("−3.01 ± ")
    assert scheduler.measured[0].startswith("SBA against every step augmented, both at weight decay 0.0005")
    assert label.verdict == FAILS and label.measured[1].startswith("+2.01 ± ") and "+0.100" in label.measured[2]
    assert "random steps" in scheduler.claim and "raw prediction" in label.claim


def test_another_condition_has_rows_at_equal_weight_decay_and_beside_dropout():
    small = contenders.CONDITIONS[1]
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    trials = [*(of_little_data(at, seed, 30.0) for seed in contenders.TUNING_SEEDS), *TRIALS]
    made = small_data.made_in(trials)
    gain = {5e-4: 2.0, 5e-3: 1.0}
    for decay, pair in small_data.controls(made, small).items():
        for one, lower in zip(pair, (gain[decay], 0.0), strict=True):
            trials += [of_little_data(one, s, 60.0 + 0.1 * s - lower * (1 + 0.01 * (s % 2))) for s in range(small.n)]
    dropout = small_data.tested("dropout", small, made)
    trials += [of_little_data(dropout, s, 60.0 + 0.1 * s - 1.5) for s in range(small.n)]
    told = [(one.name, one.measured[0], one.measured[1].split(" ± ")[0], one.verdict) for one in lines(trials)]
    equal, where = "all together, equal weight decay", "250 images of CIFAR-10"
    assert told == [
        (equal, f"against plain training, both at weight decay 0.0005, {where}", "−2.01", HOLDS),
        (equal, f"against plain training, both at weight decay 0.005, {where}", "−1.00", HOLDS),
        ("plain dropout, equal weight decay", f"against plain training, both at weight decay 0.0005, {where}", "−1.50",
         "better"),
        ("all together minus plain dropout, equal weight decay",
         f"against plain dropout, both at weight decay 0.0005, {where}", "−0.51", "better"),
    ]  # fmt: skip


def test_rivals_stand_beside_plain_training_tuned_and_at_their_own_weight_decay():
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    trials = [*(of_little_data(at, seed, 30.0) for seed in contenders.TUNING_SEEDS), *TRIALS]
    made = small_data.made_in(trials)
    # error and likelihood of each setting, so that no two differences are alike
    levels = {"tuned": (50.0, 2.0), "untuned": (55.0, 3.0), "SBA": (52.0, 2.6), "R-Drop": (48.0, 2.9)}
    settings = {name: small_data.tested(name, MAIN, made) for name in ("SBA", "R-Drop")}
    settings |= {"tuned": small_data.tested("plain", MAIN, made), "untuned": small_data.untuned()}
    for number, (name, (error, nll)) in enumerate(levels.items()):
        own = [(error + 0.1 * (s % 3), nll + 0.001 * number * (s - 3.5)) for s in range(MAIN.n)]
        trials += [of_little_data(settings[name], s, *one) for s, one in enumerate(own)]
    told = {one.name: [text.split(" ± ")[0] for text in one.measured[1:]] for one in lines(trials)}
    wanted = {
        "R-Drop, tuned": ["−2.00"],
        "R-Drop, equal weight decay": ["−7.00", "−0.100"],
        "all together minus R-Drop, equal weight decay": ["+4.00", "−0.300"],
    }
    assert {name: told[name] for name in wanted} == wanted


def test_where_weight_decays_differ_the_row_says_so_and_another_has_equal_ones():
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    better = [of_little_data(at, seed, 30.0) for seed in contenders.TUNING_SEEDS]
    trials = [*better, *(r for r in TRIALS if r.key not in {b.key for b in better})]
    pairs = small_data.controls(small_data.made_in(trials))
    made = [
        of_little_data(one, s, 50.0 + 0.1 * s - (one["method"] == "sba"), nll=2.0 - (one["method"] == "sba") + 0.01 * s)
        for pair in pairs.values()
        for one in pair
        for s in range(MAIN.n)
    ]
    told = [(one.name, one.measured, one.verdict) for one in lines([*trials, *made])]
    assert [name for name, *_ in told] == ["all together, tuned", *["all together, equal weight decay"] * 2]
    assert "weight decay is 0.005 and not 0.0005" in told[0][1][0] and len(told[0][1]) == 2, "no likelihood"
    for (_, measured, verdict), decay in zip(told[1:], ("0.0005", "0.005"), strict=True):
        assert f"both at weight decay {decay}, 1,000 images" in measured[0] and verdict == HOLDS
        assert measured[1].startswith("−1.00 ± ") and measured[2].startswith("−1.000 ")
    assert [one.name for one in lines([*trials, *made[: 2 * MAIN.n]])] == ["all together, equal weight decay"]


def test_without_records_there_is_no_row():
    assert ingredients([]) == []
