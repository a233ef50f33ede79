"""What is said of when to use SBA, and the rule that follows from the verdicts."""

import numpy as np
import pytest
from little_data import ERRORS, TRIALS, main, record, runs

from sba.records.schema import parse
from sba.report import rule, when
from sba.studies import contenders, small_data
from sba.studies.contenders import CONDITIONS, MAIN


def test_what_raises_the_error_somewhere_is_told_beside_where_it_is_lowered():
    small = CONDITIONS[1]
    records = main({"dropout": -2.0})
    records += [r for n, e in (("plain", 60.0), ("dropout", 63.0)) for r in runs(n, ERRORS[0] - 50 + e, small)]
    told = f"Plain dropout lowered the error with {MAIN.name}, raised the error with {small.name}; label smoothing and R-Drop made "
    direct = "; ".join(
        f"of {one} and dropout use dropout, whose error was lower" for one in ("SBA", "label smoothing", "R-Drop")
    )
    (said,) = [part for part in advised(records) if part.startswith(told)]
    assert said.endswith(
        f"compared with tuned plain training; at the regime's weight decay, with {MAIN.name}, {direct}."
    )


def advised(records):
    found = {c.name: when.compared(records, c) for c in CONDITIONS}
    costs = {c.name: when.costs(records, c) for c in CONDITIONS}
    others = {m.name: {c.name: when.compared(records, c, m) for c in CONDITIONS} for m in when.MEASURES[1:]}
    return rule.advice(found, costs, {c.name: when.beside_dropout(records, c) for c in CONDITIONS}, others)


def test_nothing_is_advised_before_a_contender_has_all_its_runs():
    records = [*TRIALS, *runs("plain", ERRORS[0]), *runs("SBA", ERRORS[1][:-1] - 5)]
    assert advised(records) == ["As long as no contender has all its runs in a condition, nothing is advised."]


def test_who_has_all_runs_has_a_say_and_who_has_not_is_open():
    """What it says stays when the others are run, however they end."""
    missing = [n for n in MAIN.contenders if n not in ("plain", "dropout", "label smoothing")]
    records = main({"dropout": -2.0}, missing)
    advice = advised(records)
    assert advice[:2] == [
        "Of SBA not all runs are there.",
        f"Plain dropout lowered the error with {MAIN.name}; label smoothing made {when.SAME} with {MAIN.name}, compared with tuned "
        f"plain training; at the regime's weight decay, with {MAIN.name}, of label smoothing and dropout use dropout, whose error "
        "was lower.",
    ]
    assert (
        f"Not run yet: 1,000 images, {len(missing)} of {len(MAIN.contenders) - 1} contenders; 250 images, 6 of 6"
        in advice[-1]
    )
    whole = main({"dropout": -2.0} | dict.fromkeys(missing, -3.0))
    ours = "Plain dropout and R-Drop lowered the error with 1,000 images; label smoothing made no difference"
    assert advised(whole)[1].startswith(ours) and "of SBA and dropout use SBA" in advised(whole)[1]


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        ({},
         ("SBA made no difference larger than 1 point with 1,000 images (SBA", "Plain dropout, label smoothing and R-Drop made no",
          "images: train plainly.")),
        ({"dropout": -2.0},
         ("SBA made no difference", "Plain dropout lowered the error with", "this lowers it most: 1,000 images: dropout")),
        ({"dropout": -2.0, "SBA": -3.0}, ("SBA lowered the error with 1,000 images, made no", "dropout", "1,000 images: SBA, −3")),
    ],
    ids=["none", "dropout", "SBA"],
)  # fmt: skip
def test_the_rule_follows_from_the_verdicts(shift, said):
    records = main(shift)
    advice = advised(records)
    assert len(advice) == len(said)
    for sentence, part in zip(advice, said, strict=True):
        assert part in sentence
    assert "Not run yet: 250 images" in advice[-1]


def test_no_rule_follows_from_one_contender_alone():
    missing = [n for n in MAIN.contenders if n not in ("plain", "SBA")]
    records = main({}, missing)
    advice = advised(records)
    assert advice[0] == f"SBA made {when.SAME} with 1,000 images, compared with tuned plain training."
    assert advice[2].startswith(f"Of what was run nothing lowered it. Not run yet: 1,000 images, {len(missing)} of")


def test_where_sba_stands_beside_a_rival_names_every_measure_once():
    shifts = {"SBA": -2.0 + 0.1 * np.arange(MAIN.n), "dropout": 0.05 * np.arange(MAIN.n) % 0.1}
    records = [r for name, shift in shifts.items() for r in runs(name, ERRORS[0] + shift)]
    errors = when.beside([*TRIALS, *records])
    swapped = when.family({"dropout": (runs_at(records, "dropout"), runs_at(records, "SBA"))}, MAIN.n, when.ERROR)
    same = when.family({"dropout": (runs_at(records, "SBA"),) * 2}, MAIN.n, when.ERROR)
    found = {"a": errors[0], "b": swapped[0], "c": same[0], "d": errors[0], "e": errors[0]}
    assert rule.by_verdict(found, " in") == "better in a, d and e; worse in b; within 1 point in c"
    better, worse, level = errors[0], swapped[0], same[0]
    neither = "of SBA and it the error favours neither, so take the simpler, it"
    for measures, told in (
        ({"error": better, "x": worse}, "of SBA and it use SBA, whose error was lower"),
        ({"error": worse, "x": better}, "of SBA and it use it, whose error was lower"),
        ({"error": level}, f"{neither} (no measure tells them apart)"),
        ({"error": level, "x": worse, "y": worse}, f"{neither} (it had the better x and y)"),
        ({"error": level, "x": worse, "y": better}, f"{neither} (SBA had the better y and it had the better x)"),
        ({"error": errors[1]}, ""),
    ):
        assert rule.preferred("SBA", "it", measures) == told


def test_only_rivals_with_all_their_runs_are_told_as_long_as_there_is_one():
    none = rule.standings([*TRIALS, *runs("SBA", ERRORS[0])])
    assert none == "; ".join(f"of 8 pairs of SBA and {rival} none have both records" for rival in contenders.RIVALS)
    told = rule.standings(main({"R-Drop": 3.0}, missing=("label smoothing", "dropout")))
    assert (
        told.startswith("set against R-Drop directly, SBA is better in error")
        and ";" not in told.partition("not told")[0][:-2]
    )


def runs_at(records, name):
    return when.runs_of(small_data.tested(name, MAIN, small_data.made_in(TRIALS)), MAIN.n, small_data.made_in(records))


def test_another_condition_has_families_of_its_own_and_its_own_say():
    small = CONDITIONS[1]
    records = main({"SBA": -2.0})
    records += [
        r for n, own in (("SBA", 3.0), ("dropout", 0.0)) for r in runs(n, ERRORS[0] + own + 0.1 * ERRORS[1], small)
    ]
    assert when.by_name(when.beside(records, when.ERROR, small), "dropout").verdict == when.WORSE
    assert when.by_name(when.beside(records), "dropout").verdict == when.BETTER
    said = advised(records)[1]
    assert f"with {MAIN.name}, of SBA and dropout use SBA, whose error was lower" in said
    assert said.endswith(f"; with {small.name}, of SBA and dropout use dropout, whose error was lower.")


def test_where_plain_training_is_ahead_of_all_in_another_measure_it_is_said():
    def told(**above):
        records = list(TRIALS)
        for number, name in enumerate(("plain", "SBA", "dropout")):
            at, likely = (
                small_data.tested(name, MAIN, small_data.made_in(TRIALS)),
                0.1 * ERRORS[number] + above.get(name, 0.0),
            )
            records += [record(at, s, float(ERRORS[0][s]), nll=float(likely[s])) for s in range(MAIN.n)]
        return "tuned plain training had the better negative log-likelihood than each" in advised(records)[-1]

    assert told(SBA=0.5, dropout=0.6) and not told(SBA=0.5) and not told() and not told(SBA=-0.5, dropout=-0.5)


def test_what_is_used_is_told_with_its_cost():
    about = {"family": "contenders", "network": "alexnet", "variant": "SBA", "layer": ""}
    shared = {"kind": "bench", "low": 1.0, "high": 1.0, "details": {}, "device": "cpu", "device_name": "one"}
    timed = parse(shared | {"id": "t", "name": "SBA", "value": 1.5, "date": "2026-01-02", "about": about})
    assert ") points at 1.50 times the time of a plain step. Not run yet" in advised([*main({"SBA": -3.0}), timed])[-1]
