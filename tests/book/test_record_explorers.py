"""The explorers of records say what the records say."""

import math

import numpy as np
import pytest
from little_data import ERRORS, TRIALS, main
from scipy.stats import t as student
from scipy.stats import ttest_rel

from sba.records.file import book_folder, read
from sba.report.when import MEASURES
from sba.studies.ablations import effects
from sba.studies.contenders import CONDITIONS, MAIN

explore = pytest.importorskip("sba.book.explore", reason="the book's packages are missing: pip install -e '.[book]'")

# ------------------------------------------------------------------------------------------------- ablations, evidence


def test_ablations_are_those_of_the_study():
    runs = explore.ablate(read(book_folder())).picture.data["runs"]
    rows = {e.label: e for e in effects(read(book_folder())) if e.group == "the default layers"}
    labels = {"111111": "reference", "011111": "ω = 0: every step", "101111": "dropout points only",
              "110111": "Gaussian points only", "111011": "hard label (Eq. 9)", "111101": "dropout not rescaled (Eq. 8)",
              "111110": "teacher not detached", "100111": "baseline, no second term"}  # fmt: skip
    assert set(runs) == set(labels)
    for key, label in labels.items():
        row = rows[label]
        assert runs[key]["level"] == pytest.approx(row.levels[0])
        assert runs[key]["ids"] == [r.id for r in row.runs.values()]
        if label != "reference":
            assert runs[key]["sba"]["error"] == pytest.approx((row.error.mean, row.error.half))
            assert runs[key]["sba"]["loss"] == pytest.approx((row.nll.mean, row.nll.half))


def test_evidence_is_the_interval_of_the_first_seeds(call):
    settings = explore.evidence(read(book_folder())).picture.data["settings"]
    claimed = {one["name"]: one["claim"] for one in settings}
    assert claimed["CIFAR-10, AlexNet: SBA"] == pytest.approx(-5.85)
    assert claimed["100 digits, η = 1: SBA"] is None
    for one in settings:
        for n, step in enumerate(one["steps"], start=1):
            own = np.array(one["differences"][:n])
            assert step["mean"] == pytest.approx(own.mean())
            if n > 1:
                half = student.ppf(0.975, n - 1) * own.std(ddof=1) / math.sqrt(n)
                assert step["half"] == pytest.approx(half)
    found = call(
        "evidence", *(["verdict", {"mean": m, "half": 1.0}, n, 5] for m, n in ((-2, 4), (-2, 5), (2, 5), (0.5, 9)))
    )
    assert [text.split(":")[0] for text in found] == [
        "Fewer than 5 seeds decide nothing.", "The interval lies below zero", "The interval lies above zero",
        "The interval holds zero",
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------- little data

HERE = {"images": 1, "noise": 0, "network": 0, "measure": 0}


def test_when_shows_the_differences_of_the_study(call):
    explorer = explore.when(main({"SBA": -2.0, "mixup": 2.0}))
    data = explorer.picture.data
    assert {name: control.index for name, control in explorer.controls.items()} == HERE
    places = [one["at"] for one in data["answers"]]
    assert len(set(places)) == len(CONDITIONS) and (1000, 0.4, "alexnet") in places
    for at, measure in enumerate(MEASURES):
        shown = call("when", ["answer", HERE | {"measure": at}, data])[0]["measures"][at]
        assert [one["name"] for one in shown] == [n for n in MAIN.contenders if n != "plain"], measure.name
    shown = {one["name"]: one for one in call("when", ["answer", HERE, data])[0]["measures"][0]}
    number = MAIN.contenders.index("R-Drop")
    test = ttest_rel(ERRORS[number], ERRORS[0])
    low, high = test.confidence_interval()
    assert (shown["R-Drop"]["low"], shown["R-Drop"]["high"]) == pytest.approx((low, high))
    assert shown["SBA"]["decided"] and shown["mixup"]["decided"]
    rows = list(shown.values())
    assert call("when", ["names", rows, True], ["names", rows, False]) == ["SBA", "mixup"]
    (one,) = call("when", ["told", next(row for row in rows if row["name"] == "SBA")])
    assert one.startswith("SBA ") and one.endswith("], better")
    (span,) = call("when", ["span", rows])
    assert span[0] == -span[1] and span[0] <= min(r["low"] for r in rows) and max(r["high"] for r in rows) <= span[1]


def test_when_goes_where_the_study_was(call):
    """The control that was moved stays, and the others follow it to a condition."""
    data = explore.when(TRIALS).picture.data
    moves = {"images": 0, "noise": 2, "network": 1}
    for moved, to in moves.items():
        for start in [one["at"] for one in data["answers"]]:
            before = {name: data["values"][i].index(start[i]) for i, name in enumerate(moves)} | {"measure": 2}
            (state,) = call("when", ["settled", before | {moved: to}, data, before])
            (found,) = call("when", ["answer", state, data])
            assert found and state[moved] == to and state["measure"] == 2
    assert call("when", ["settled", HERE, data, {}]) == [HERE]


def test_when_says_what_was_not_run(call):
    data = explore.when(TRIALS).picture.data
    (none,) = call("when", ["answer", HERE, data])
    assert {one["verdict"] for one in none["measures"][0]} == {"—"} and none["measures"][0][0]["mean"] is None
    assert call("when", ["names", none["measures"][0], True]) == ["none"]


# --------------------------------------------------------------------------------------------------------------- ω × η


def test_a_slider_beside_a_measured_pair_moves_there(call):
    grid = [[0.0, 0.5, math.pi / 2], [0.0, 0.01, 30.0]]
    cases = {
        (0.49, 10**1.5): [0.5, 30.0],
        (0.3, 1.0): [0.3, 1.0],
        (0.0, 0.0): [0.0, 0.0],
        (1.56, 1e-3): [math.pi / 2, 1e-3],
    }
    assert call("omega_eta", *(["snapped", *at, *grid] for at in cases)) == list(cases.values())
