"""What is said of when to use SBA, and the rule that follows from the verdicts."""

import numpy as np
import pytest
from little_data import ERRORS, MADE, TRIALS, main, record, runs

from sba.records.names import signed
from sba.records.schema import parse
from sba.report import grounds, rule, when, wording
from sba.studies import contenders, small_data
from sba.studies.contenders import CONDITIONS, MAIN

TUNED = "compared with tuned plain training it "
LIKELY = "; the likelihood is open with 1,000 images."


def test_what_raises_the_error_somewhere_is_told_beside_where_it_is_lowered():
    small = CONDITIONS[1]
    records = main({"dropout": -2.0})
    records += [r for n, e in (("plain", 60.0), ("dropout", 63.0)) for r in runs(n, ERRORS[0] - 50 + e, small)]
    told = (
        f"Plain dropout lowered the error with {MAIN.name} and raised the error with {small.name}; label smoothing and R-Drop made "
        f"{when.SAME} with {MAIN.name}, compared with tuned plain training."
    )
    first, direct, *_ = grounds.grounds(records)
    assert first == told and direct.startswith(
        "Set against each other with 1,000 images, all at weight decay 0.0005: SBA minus "
    )
    assert direct.count("points of error: use dropout") == 3


def test_nothing_is_advised_before_a_contender_has_all_its_runs():
    nothing = ["As long as no contender has all its runs in a condition, nothing is advised."]
    for records in ([], TRIALS, [*TRIALS, *runs("plain", ERRORS[0]), *runs("SBA", ERRORS[1][:-1] - 5)]):
        assert rule.advice(records) == grounds.grounds(records) == nothing


def test_who_has_all_runs_has_a_say_and_who_has_not_is_counted():
    missing = [n for n in MAIN.contenders if n not in ("plain", "dropout", "label smoothing")]
    records = main({"dropout": -2.0}, missing)
    records += [r for n in ("plain", "dropout", "R-Drop") for r in runs(n, ERRORS[0][:3], CONDITIONS[2])]
    assert rule.advice(records)[0] == "Whether to use SBA is not said yet, since it lacks runs everywhere."
    first, *_, last = grounds.grounds(records)
    said = f"Plain dropout lowered the error with {MAIN.name}; label smoothing made {when.SAME} with {MAIN.name}, compared with "
    assert first == f"{said}tuned plain training. Of R-Drop not all runs are there."
    others = wording.listed([c.name for c in (CONDITIONS[1], *CONDITIONS[3:])])
    assert last == (
        f"Runs that are missing: with {MAIN.name}, of {len(MAIN.contenders)} contenders {len(missing)} have none; "
        f"with {CONDITIONS[2].name}, of 7 contenders 4 have none and 3 have a part of theirs; with {others} none has any."
    )
    assert "7 contenders 6 have none and 1 has a part of theirs" in grounds.missing(
        [*records[:-6], *runs("plain", ERRORS[0][:3], CONDITIONS[2])]
    )


def test_what_is_better_stays_so_when_the_others_are_run():
    missing = [n for n in MAIN.contenders if n not in ("plain", "dropout", "label smoothing")]
    before = {c.name: c.verdict for c in when.compared(main({"dropout": -2.0}, missing), MAIN)}
    after = {c.name: c.verdict for c in when.compared(main({"dropout": -2.0} | dict.fromkeys(missing, -3.0)), MAIN)}
    assert before["dropout"] == after["dropout"] == when.BETTER


@pytest.mark.parametrize(
    ("shift", "rule_says", "last"),
    [
        ({}, (f"Do not use SBA to lower the error: {TUNED}made {when.SAME} with 1,000 images.",
              f"Plain dropout errs like SBA: the errors of SBA and dropout differ by less than 1 point with 1,000 images{LIKELY}",
              "No contender that has all its runs lowered the error of tuned plain training by more than 1 point."),
         "No contender that has all its runs lowered the error of tuned plain training by more than 1 point."),
        ({"dropout": -2.0}, (f"Do not use SBA to lower the error: {TUNED}made {when.SAME} with 1,000 images.",
                             f"Take plain dropout in place of SBA: SBA errs more than dropout with 1,000 images{LIKELY}",
                             "though it is not tested against the next: with 1,000 images dropout, −"),
         "though it is not tested against the next: with 1,000 images dropout, −"),
        ({"SBA": -3.0}, (f"Use SBA to lower the error: {TUNED}lowered the error with 1,000 images.",
                         f"Prefer SBA to plain dropout: SBA errs less than dropout with 1,000 images{LIKELY}",
                         "next: with 1,000 images SBA, −3"), "next: with 1,000 images SBA, −3"),
        ({"SBA": 3.0, "SBA at a convolution": -3.0, "SBA, M → ∞": -2.0},
         (f"Do not use SBA to lower the error: {TUNED}raised the error with 1,000 images; SBA at a convolution "
          "lowered it with 1,000 images, "
          "SBA (M → ∞) lowered it with 1,000 images, which was not set against dropout.",
          f"Take plain dropout in place of SBA: SBA errs more than dropout with 1,000 images{LIKELY}",
          "next: with 1,000 images SBA at a convolution, −3"), "next: with 1,000 images SBA at a convolution, −3"),
    ],
    ids=["none", "dropout", "SBA", "another layer"],
)  # fmt: skip
def test_the_rule_follows_from_the_verdicts(shift, rule_says, last):
    records = main(shift)
    advice, (first, direct, best, left) = rule.advice(records), grounds.grounds(records)
    assert advice[:2] == list(rule_says[:2]) and rule_says[2] in advice[2] and len(advice) == 3
    assert first.startswith("Plain dropout") and direct.startswith("Set against each other") and last in best
    assert "with 250 images, 4,000 images" in left


@pytest.mark.parametrize("number", range(1, 16))
def test_every_mixture_of_verdicts_is_advised_by_what_is_decided(number):
    verdicts = {v for bit, v in enumerate((when.BETTER, when.WORSE, when.SAME, when.OPEN)) if number >> bit & 1}
    said = rule.replaced(verdicts, "dropout")
    assert ("Prefer SBA" in said) == (when.BETTER in verdicts)
    assert ("only where it errs less" in said) == (when.BETTER in verdicts and len(verdicts) > 1)
    assert said.startswith("Take plain dropout") == (when.WORSE in verdicts and when.BETTER not in verdicts)
    assert said.endswith("where SBA errs more") == (said.startswith("Take plain dropout") and len(verdicts) > 1)
    assert ("errs like SBA" in said) == (not verdicts & {when.BETTER, when.WORSE})
    assert ("is open" in said) == (verdicts == {when.OPEN})
    assert ("as far as that is decided" in said) == (verdicts == {when.SAME, when.OPEN})
    used = rule.used(verdicts)
    assert used.startswith("Use SBA") == (when.BETTER in verdicts)
    assert ("where it lowered the error" in used) == (when.BETTER in verdicts and len(verdicts) > 1)
    assert used.startswith("Do not count") == (when.OPEN in verdicts and when.BETTER not in verdicts)
    assert used.startswith("Do not use") == (not verdicts & {when.BETTER, when.OPEN})


def test_who_errs_less_than_dropout_is_in_the_rule_and_in_brief():
    small = CONDITIONS[1]
    records = main({})
    records += [
        r
        for n, e in (("plain", 0.0), ("dropout", 0.0), ("R-Drop", -3.0), ("SBA", 0.0))
        for r in runs(n, ERRORS[0] + e, small)
    ]
    told = "Plain dropout errs like SBA; R-Drop errs less than dropout with 250 images"
    advice = rule.advice(records)
    assert advice[1].startswith(f"{told}: the errors of SBA and dropout differ by less than 1 point with ")
    assert f" {told}. " in rule.in_brief(advice)
    alone = [*main({}, ["SBA"]), *runs("dropout", ERRORS[0], small), *runs("R-Drop", ERRORS[0] - 3, small)]
    assert rule.advice(alone)[1].endswith(f"pairs of runs are missing{told[27:]}.")


def test_in_brief_the_rule_has_no_grounds():
    records = main({})
    none = "No contender that has all its runs lowered the error of tuned plain training by more than 1 point."
    assert (
        rule.in_brief(rule.advice(records)) == f"Do not use SBA to lower the error. Plain dropout errs like SBA. {none}"
    )
    better = rule.in_brief(rule.advice(main({"SBA": -3.0})))
    assert better.startswith(
        "Use SBA to lower the error. Prefer SBA to plain dropout. Of what was run, this lowered the error most, "
    )
    assert "with 1,000 images SBA, −3" in better and rule.in_brief(rule.advice([])) == rule.NOTHING


def test_no_rule_follows_from_one_contender_alone():
    missing = [n for n in MAIN.contenders if n not in ("plain", "SBA")]
    records = main({}, missing)
    none = "No contender that has all its runs lowered the error of tuned plain training by more than 1 point."
    assert rule.advice(records) == [
        f"Do not use SBA to lower the error: {TUNED}made {when.SAME} with {MAIN.name}.",
        "Whether plain dropout errs like SBA is not said yet, since pairs of runs are missing.",
        none,
    ]
    theirs, best, left = grounds.grounds(records)
    assert theirs == "Of plain dropout, label smoothing and R-Drop not all runs are there."
    assert best == none and left.startswith(
        f"Runs that are missing: with {MAIN.name}, of 15 contenders {len(missing)} "
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
    advice, told = rule.advice(records), grounds.grounds(records)
    assert advice[0] == f"Do not count on SBA to lower the error: {TUNED}left the error open with {MAIN.name}."
    assert (
        advice[1]
        == f"Whether plain dropout errs like SBA is open: the errors of SBA and dropout are open with 1,000 images{LIKELY}"
    )
    assert told[0].startswith(f"Plain dropout lowered the error by less than 1 point with {MAIN.name}, compared")
    assert told[1].endswith(" points of error: it is open which to use.")
    alone = grounds.grounds([r for r in records if r not in runs("dropout", ERRORS[0] - 0.4 + narrow)])
    assert alone[-2] == "No contender that has all its runs was shown to lower the error of tuned plain training."


def test_where_sba_and_dropout_differ_is_told_by_condition():
    small = CONDITIONS[1]
    records = main({"SBA": -2.0})
    for n, shift, nll in (("SBA", 3.0, 1.2), ("dropout", 0.0, 1.0)):
        errors = ERRORS[len(n)] + shift
        # likelihoods that vary, so that their difference has an interval
        one = small_data.tested(n, small, MADE)
        records += [record(one, s, float(e), nll=nll + 0.001 * float(e)) for s, e in enumerate(errors)]
    assert rule.advice(records)[1] == (
        "Prefer SBA to plain dropout only where it errs less: SBA errs less than dropout with 1,000 images; SBA errs more than "
        f"dropout with 250 images; dropout has the better likelihood with 250 images{LIKELY}"
    )


def test_a_place_has_its_weight_decays_where_not_all_of_a_condition_are_meant():
    every = [("one", 0.0005), ("one", 0.005), ("two", 0.0005), ("two", 0.005)]
    assert wording.placed(every, every) == "one and two" and wording.placed([], every) == ""
    assert wording.placed(every[1:3], every) == "one (weight decay 0.005) and two (weight decay 0.0005)"


def runs_at(records, name):
    return when.runs_of(small_data.tested(name, MAIN, small_data.made_in(TRIALS)), MAIN.n, small_data.made_in(records))


def test_the_words_of_a_comparison_follow_its_verdict():
    shifts = {"SBA": -2.0 + 0.1 * np.arange(MAIN.n), "dropout": 0.05 * np.arange(MAIN.n) % 0.1}
    records = [r for name, shift in shifts.items() for r in runs(name, ERRORS[0] + shift)]
    better, *_ = when.beside([*TRIALS, *records])
    ours, theirs = (runs_at(records, name) for name in shifts)
    (worse,), (level,) = (when.family({"it": pair}, MAIN.n, when.ERROR) for pair in ((theirs, ours), (ours, ours)))
    assert better.found.mean == pytest.approx(np.mean(shifts["SBA"] - shifts["dropout"])) == -worse.found.mean
    same = (
        "SBA minus it is +0.00 ± 0.01 points of error, less than 1 point either way: for the error take the simpler, it"
    )
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
        said = grounds.preferred("SBA", "it", measures)
        assert said.startswith(start) and said.endswith(end)


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
        for part in grounds.grounds(records)
        if part.startswith("Set against")
    )
    assert (
        first.startswith(f"{MAIN.name}, all at weight decay 0.0005: SBA minus dropout is −")
        and "error: use SBA (" in first
    )
    assert second.startswith(f"{small.name}, ") and "error: use dropout (" in second
    assert "; R-Drop minus dropout is −" in second and "error: use R-Drop (" in second


@pytest.mark.parametrize("conditions", [CONDITIONS[:1], CONDITIONS[1:2], CONDITIONS[:3]], ids=len)
@pytest.mark.parametrize("gain", [0.0, 0.5])
@pytest.mark.parametrize("lower", [0.0, 3.0])
def test_the_weight_decay_that_plain_training_chose_is_told_by_what_it_changed(conditions, gain, lower):
    """Plain training has the better likelihood at its own weight decay, or not, and SBA a better one still there; SBA lowers the
    error there, or not."""
    at = contenders.parameters(contenders.PLAIN, 2, MAIN) | {"holdout": contenders.HOLDOUT}
    records = [*(record(at, seed, 30.0) for seed in contenders.TUNING_SEEDS), *TRIALS]
    made = small_data.made_in(records)
    assert small_data.tested("plain", MAIN, made)["weight_decay"] == 5e-3
    for condition in conditions:
        for number, pair in enumerate(small_data.controls(made, condition).values()):
            for one, further, less in zip(pair, (0.3 * number, 0.0), (lower, 0.0), strict=True):
                # every setting has errors of its own
                own = 0.01 * ERRORS[number + 2 * (further > 0)]
                nll = 4.0 - gain * number - further + own
                seeds = range(condition.n)
                records += [record(one, s, float(ERRORS[0][s] - less), nll=float(nll[s])) for s in seeds]
    brief, advice, paragraphs = rule.tune(records), rule.advice(records), grounds.grounds(records)
    if lower:
        names = wording.listed([condition.name for condition in conditions])
        likely = [f"better with {wording.listed([f'{c.name} (weight decay 0.005)' for c in conditions])}"]
        assert advice[0].startswith("Use SBA to lower the error: ")
        assert (
            f"; at equal weight decay it lowered the error with {names}, and its likelihood is {likely[0]}" in advice[0]
        )
    best = next(
        part for part in paragraphs if "ontender that has all its runs" in part or "lowered the error most" in part
    )
    decays = grounds.decayed(records)
    assert decays == [part for part in paragraphs if "weight decay" in part and not part.startswith("Set")]
    names = [condition.name for condition in conditions]
    if gain:
        near = f"an error that differs by less than 1 point with {wording.listed(names)}"
        told = f"the better negative log-likelihood with {wording.listed(names)} and {near}"
        assert brief == f"Tune the weight decay first: 0.005 in place of 0.0005 gives plain training {told}."
        assert advice[-1] == (f"{best.rstrip('.')}; t{brief[1:]}" if lower else brief)
        assert ("lowered the error most" in best) == bool(lower)
    else:
        assert brief == "" and advice[-1] == best
    for condition, (itself, ours) in zip(conditions, zip(decays[::2], decays[1::2], strict=True), strict=True):
        assert itself.startswith(
            f"With {condition.name}, plain training at weight decay 0.005 minus itself at 0.0005: "
        )
        assert (" nats of negative log-likelihood (better), " in itself) == (gain > 0)
        measures = "error, negative log-likelihood and error under PGD" if lower else "negative log-likelihood"
        assert (
            ours
            == f"With {condition.name}, against plain training, both at weight decay 0.005: SBA better in {measures}."
        )


def test_what_is_decided_is_told_and_what_is_not_has_words():
    assert (
        grounds.decided({when.BETTER: ["a", "b"], when.WORSE: ["c"], when.OPEN: ["d"]})
        == "better in a and b and worse in c"
    )
    assert grounds.decided({when.OPEN: ["d"], when.SAME: ["e"]}) == "not shown to be better or worse in any measure"


def test_what_is_used_is_told_with_its_cost():
    about = {"family": "contenders", "network": "alexnet", "variant": "SBA", "layer": ""}
    shared = {"kind": "bench", "low": 1.0, "high": 1.0, "details": {}, "device": "cpu", "device_name": "one"}
    timed = parse(shared | {"id": "t", "name": "SBA", "value": 1.5, "date": "2026-01-02", "about": about})
    said = grounds.grounds([*main({"SBA": -3.0}), timed])[-2]
    assert said.endswith(") points at 1.50 times the time of a plain step.")
