"""What is said of when to use SBA, and the rule that follows from the verdicts."""

import numpy as np
import pytest
from little_data import ERRORS, TRIALS, main, record, runs

from sba.records.names import signed
from sba.records.schema import parse
from sba.report import rule, when
from sba.studies import contenders, small_data
from sba.studies.contenders import CONDITIONS, MAIN

BESIDE = "set against it at equal weight decay (in brackets), at the dials that the error chose, "


def test_what_raises_the_error_somewhere_is_told_beside_where_it_is_lowered():
    small = CONDITIONS[1]
    records = main({"dropout": -2.0})
    records += [r for n, e in (("plain", 60.0), ("dropout", 63.0)) for r in runs(n, ERRORS[0] - 50 + e, small)]
    told = (
        f"Plain dropout lowered the error with {MAIN.name}, raised the error with {small.name}; label smoothing and R-Drop made "
        f"{when.SAME} with {MAIN.name}, compared with tuned plain training."
    )
    first, direct, _ = rule.grounds(records)
    assert first == told and direct.startswith(
        "Set against each other with 1,000 images, all at weight decay 0.0005: SBA minus "
    )
    assert direct.count("points of error: use dropout") == 3


def test_nothing_is_advised_before_a_contender_has_all_its_runs():
    nothing = ["As long as no contender has all its runs in a condition, nothing is advised."]
    for records in ([], TRIALS, [*TRIALS, *runs("plain", ERRORS[0]), *runs("SBA", ERRORS[1][:-1] - 5)]):
        assert rule.advice(records) == rule.grounds(records) == nothing


def test_who_has_all_runs_has_a_say_and_who_has_not_is_named():
    missing = [n for n in MAIN.contenders if n not in ("plain", "dropout", "label smoothing")]
    records = main({"dropout": -2.0}, missing)
    assert rule.advice(records)[0] == "Whether to use SBA is not said yet: it lacks runs in every condition."
    advice = rule.grounds(records)
    said = f"Plain dropout lowered the error with {MAIN.name}; label smoothing made {when.SAME} with {MAIN.name}, compared with "
    assert advice[0] == f"{said}tuned plain training. Of R-Drop not all runs are there."
    others = listed([c.name for c in CONDITIONS[1:]])
    assert advice[-1].endswith(
        f"Not run yet: {len(missing)} of {len(MAIN.contenders) - 1} contenders with {MAIN.name} and all with {others}."
    )


def listed(names):
    return f"{', '.join(names[:-1])} and {names[-1]}"


def test_what_is_better_stays_so_when_the_others_are_run():
    missing = [n for n in MAIN.contenders if n not in ("plain", "dropout", "label smoothing")]
    before = {c.name: c.verdict for c in when.compared(main({"dropout": -2.0}, missing), MAIN)}
    after = {c.name: c.verdict for c in when.compared(main({"dropout": -2.0} | dict.fromkeys(missing, -3.0)), MAIN)}
    assert before["dropout"] == after["dropout"] == when.BETTER


@pytest.mark.parametrize(
    ("shift", "rule_says", "grounds_say"),
    [
        ({}, (f"Do not use SBA to lower the error: it made {when.SAME} with 1,000 images (SBA, ",
              "Where you would use SBA, take plain dropout: " + BESIDE +
              "SBA is within 1 point of error with 1,000 images (0.0005); label smoothing is within 1 point of",
              "No contender that was run lowered the error by more than 1 point."),
         ("Plain dropout, label smoothing and R-Drop made no", "lowered the error by more than 1 point. Not run yet")),
        ({"dropout": -2.0}, ("Do not use SBA", "Where you would use SBA, take plain dropout: " + BESIDE + "SBA has the worse error",
                             "though it is not tested against the next: with 1,000 images dropout, −"),
         ("Plain dropout lowered the error with", "though it is not tested against the next: with 1,000 images dropout, −")),
        ({"SBA": -3.0}, ("Use SBA where it lowered the error: it lowered the error with 1,000 images (SBA), made no",
                         "Prefer SBA to plain dropout where it erred less: " + BESIDE + "SBA has the better error",
                         "next: with 1,000 images SBA, −3"),
         ("Plain dropout, label smoothing and R-Drop made no", "next: with 1,000 images SBA, −3")),
    ],
    ids=["none", "dropout", "SBA"],
)  # fmt: skip
def test_the_rule_follows_from_the_verdicts(shift, rule_says, grounds_say):
    records = main(shift)
    advice, (first, *direct, last) = rule.advice(records), rule.grounds(records)
    assert len(advice) == len(rule_says) == 3 and len(direct) == 1
    for sentence, part in zip(advice, rule_says, strict=True):
        assert part in sentence and sentence.endswith(".")
    assert grounds_say[0] in first and grounds_say[1] in last
    assert "Not run yet: all with 250 images" in last


def test_no_rule_follows_from_one_contender_alone():
    missing = [n for n in MAIN.contenders if n not in ("plain", "SBA")]
    records = main({}, missing)
    assert rule.advice(records) == [
        f"Do not use SBA to lower the error: it made {when.SAME} with {MAIN.name}, compared with tuned plain training.",
        "Nothing is said of dropout in place of SBA yet: pairs of runs are missing.",
        "No contender that was run lowered the error by more than 1 point.",
    ]
    theirs, last = rule.grounds(records)
    assert theirs == "Of plain dropout, label smoothing and R-Drop not all runs are there."
    assert last.startswith(
        f"No contender that was run lowered the error by more than 1 point. Not run yet: {len(missing)} of"
    )


def test_what_is_open_is_not_called_nothing_and_a_small_gain_is_called_small():
    rng = np.random.default_rng(5)
    wide, narrow = 6 * rng.normal(size=MAIN.n), 0.05 * rng.normal(size=MAIN.n)
    records = [
        *TRIALS,
        *runs("plain", ERRORS[0]),
        *runs("SBA", ERRORS[0] + wide),
        *runs("dropout", ERRORS[0] - 0.4 + narrow),
    ]
    advice, grounds = rule.advice(records), rule.grounds(records)
    assert advice[0].startswith(f"Do not count on SBA to lower the error: it left the error undecided with {MAIN.name}")
    assert advice[1].startswith("SBA and plain dropout are not told apart everywhere: set against it")
    assert grounds[0].startswith(f"Plain dropout lowered the error by less than 1 point with {MAIN.name}, compared")
    assert grounds[1].endswith(" points of error: nothing is decided.")
    alone = rule.grounds([r for r in records if r not in runs("dropout", ERRORS[0] - 0.4 + narrow)])
    assert alone[-1].startswith("No contender that was run was shown to lower the error. Not run yet")


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        (-2.0, "Prefer SBA to plain dropout where it erred less"),
        (3.0, "Choose between SBA and plain dropout by the condition"),
    ],
)
def test_where_sba_and_dropout_differ_is_told_by_condition_and_weight_decay(elsewhere, said):
    small = CONDITIONS[1]
    records = main({"SBA": -2.0})
    records += [
        r for n, shift in (("SBA", elsewhere), ("dropout", 0.0)) for r in runs(n, ERRORS[len(n)] + shift, small)
    ]
    told = rule.advice(records)[1]
    both = "1,000 images (0.0005) and 250 images (0.0005)" if elsewhere < 0 else "1,000 images (0.0005)"
    assert told.startswith(f"{said}: {BESIDE}SBA has")
    assert f"SBA has the better error, calibration error and error under PGD with {both}" in told
    assert ("has the worse error, calibration error and error under PGD with 250 images (0.0005)" in told) == (
        elsewhere > 0
    )


def test_a_place_is_written_once_with_its_weight_decays():
    places = [("one", 0.0005), ("one", 0.005), ("two", 0.0005)]
    assert rule.placed(places) == "one (0.0005, 0.005) and two (0.0005)" and rule.placed([]) == ""


def test_the_words_of_a_comparison_follow_its_verdict():
    shifts = {"SBA": -2.0 + 0.1 * np.arange(MAIN.n), "dropout": 0.05 * np.arange(MAIN.n) % 0.1}
    records = [r for name, shift in shifts.items() for r in runs(name, ERRORS[0] + shift)]
    better, absent, _ = when.beside([*TRIALS, *records])
    ours, theirs = (runs_at(records, name) for name in shifts)
    (worse,), (level,) = (when.family({"it": pair}, MAIN.n, when.ERROR) for pair in ((theirs, ours), (ours, ours)))
    found = {"a": better, "b": worse, "c": level, "d": better, "e": better, "f": absent}
    assert rule.by_verdict(found, " in") == "better in a, d and e; worse in b; within 1 point in c"
    assert better.found.mean == pytest.approx(np.mean(shifts["SBA"] - shifts["dropout"])) == -worse.found.mean
    same = "SBA minus it is +0.00 ± 0.01 points of error, less than 1 point either way: take the simpler, it"
    chosen = "(at the dials that the error chose, "
    for measures, start, end in (
        (
            {"error": better, "x": worse},
            f"SBA minus it is {signed(better.found.mean)} ± ",
            f"of error: use SBA {chosen}the better x with it)",
        ),
        (
            {"error": worse, "x": better},
            f"SBA minus it is {signed(worse.found.mean)} ± ",
            f"of error: use it {chosen}the better x with SBA)",
        ),
        ({"error": level}, same, same),
        ({"error": level, "x": worse, "y": worse}, same, f" {chosen}the better x and y with it)"),
        ({"error": level, "x": worse, "y": better}, same, f" {chosen}the better y with SBA and the better x with it)"),
    ):
        said = rule.preferred("SBA", "it", measures)
        assert said.startswith(start) and said.endswith(end)


def test_rivals_are_told_together_if_they_stand_alike_and_those_without_all_runs_have_their_number():
    none = rule.standings([*TRIALS, *runs("SBA", ERRORS[0])])
    assert none == "; ".join(f"{rival} has 0 of 8 pairs with SBA" for rival in contenders.RIVALS)
    ours, rest = (
        "at weight decay 0.0005 and at the dials that the error chose, SBA is",
        "; label smoothing has 0 of 8 pairs with SBA",
    )
    alike = rule.standings(main({"R-Drop": 3.0, "dropout": 4.0}, missing=("label smoothing",)))
    assert alike.startswith(f"set against dropout and R-Drop directly, {ours} better in error,") and alike.endswith(
        rest
    )
    told = rule.standings(main({"R-Drop": 3.0}, missing=("label smoothing",)))
    assert told.startswith(f"set against dropout directly, {ours} within 1 point in error") and told.endswith(rest)
    assert f"; set against R-Drop directly, {ours} better in error," in told


def runs_at(records, name):
    return when.runs_of(small_data.tested(name, MAIN, small_data.made_in(TRIALS)), MAIN.n, small_data.made_in(records))


def test_another_condition_has_families_of_its_own_and_its_own_say():
    small = CONDITIONS[1]
    records = main({"SBA": -2.0})
    shifts = {"SBA": 3.0, "dropout": 0.0, "R-Drop": -4.0}
    records += [r for n, own in shifts.items() for r in runs(n, ERRORS[0] + own + 0.1 * ERRORS[1 + len(n)], small)]
    assert when.by_name(when.beside(records, when.ERROR, small), "dropout").verdict == when.WORSE
    assert when.by_name(when.beside(records), "dropout").verdict == when.BETTER
    assert when.by_name(when.over_dropout(records, when.ERROR, small), "R-Drop").verdict == when.BETTER
    assert when.by_name(when.over_dropout(records), "R-Drop").verdict == when.SAME
    first, second = (
        part.removeprefix("Set against each other with ")
        for part in rule.grounds(records)
        if part.startswith("Set against")
    )
    assert (
        first.startswith(f"{MAIN.name}, all at weight decay 0.0005: SBA minus dropout is −")
        and "error: use SBA (" in first
    )
    assert second.startswith(f"{small.name}, ") and "error: use dropout (" in second
    assert "; R-Drop minus dropout is −" in second and "error: use R-Drop (" in second


@pytest.mark.parametrize("conditions", [CONDITIONS[:1], CONDITIONS[1:2], CONDITIONS[:3]], ids=len)
def test_the_weight_decay_that_plain_training_chose_is_told_with_what_it_did(conditions):
    """Plain training has the better likelihood at its own weight decay, and SBA a better one still there, or not."""
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    trials = [*(record(at, seed, 30.0) for seed in contenders.TUNING_SEEDS), *TRIALS]
    made = small_data.made_in(trials)
    assert small_data.tested("plain", MAIN, made)["weight_decay"] == 5e-3

    def told(tuned, further):
        records = list(trials)
        for condition in conditions:
            for number, (ours, plain) in enumerate(small_data.controls(made, condition).values()):
                # at the regime's weight decay, the first, SBA gains nothing
                for one, nll in ((plain, 2.0 - tuned * number), (ours, 2.0 - (tuned + further) * number)):
                    # every setting has errors of its own
                    spread = nll + 0.01 * ERRORS[number + 2 * (one is ours)]
                    seeds = range(condition.n)
                    records += [record(one, s, float(ERRORS[0][s]), nll=float(spread[s])) for s in seeds]
        brief = rule.decayed(records, brief=True)
        assert brief.count("better still than that: SBA, negative log-likelihood") == len(conditions) * (further > 0)
        assert "nats" not in brief and (rule.advice(records)[-1] == brief or not brief)
        return rule.grounds(records)[-1]

    def start(condition):
        chose = ", which it chose," if condition is MAIN else ""
        place = f"with {condition.name} plain training at 0.005{chose}"
        return f"{place} had better negative log-likelihood than SBA at 0.0005"

    wanted = "; and ".join(map(start, conditions))
    assert f"Tune the weight decay first: {wanted}. " in told(0.5, 0.0)
    said = told(0.5, 0.3)
    assert "Tune the weight decay first: with" in said
    for condition in conditions:
        assert f"{start(condition)}; at 0.005 better still than that: SBA, negative log-likelihood −0.3" in said
    assert "weight decay first" not in told(0.0, 0.0) and "weight decay first" not in rule.grounds(main({}))[-1]


def test_what_is_used_is_told_with_its_cost():
    about = {"family": "contenders", "network": "alexnet", "variant": "SBA", "layer": ""}
    shared = {"kind": "bench", "low": 1.0, "high": 1.0, "details": {}, "device": "cpu", "device_name": "one"}
    timed = parse(shared | {"id": "t", "name": "SBA", "value": 1.5, "date": "2026-01-02", "about": about})
    assert (
        ") points at 1.50 times the time of a plain step. Not run yet"
        in rule.grounds([*main({"SBA": -3.0}), timed])[-1]
    )
