"""The study of the open points: every run is what its label says, and differences are taken at equal seeds."""

import json

import numpy as np
import pytest
from scipy import stats

from sba import switches
from sba.config import make_run
from sba.results import append, records
from sba.switches import GROUPS, Group, Variant


def made(run, error, nll=0.1, vote=0.0):
    """A record as a training would leave it."""
    content = {"id": f"{run.key}-{error}", "kind": "train", "study": "switches", "key": run.key, "fingerprint": "f"}
    epochs = [{"nll": nll}] * 5
    numbers = {"error": error, "error_last": error, "error_vote": error + vote, "epochs": epochs}
    return content | numbers | {"settings": run.settings()}


def test_every_variant_differs_from_its_reference_in_what_it_says_and_in_nothing_else():
    for group in GROUPS:
        reference = make_run(**group.parameters(None)).settings()
        for variant in group.variants:
            settings = make_run(**group.parameters(variant)).settings()
            own, usual = settings.pop("method"), {k: v for k, v in reference.items() if k != "method"}
            assert settings == usual
            changed = {k for k, v in own.items() if k in reference["method"] and reference["method"][k] != v}
            expected = (
                set(make_run(method="sba", preset="paper").method.presets["paper"])
                if "preset" in variant.changes
                else set()
            )
            expected |= {"name" if k == "method" else k for k in variant.changes if k not in ("preset", "expectation")}
            assert changed == expected, variant


def test_runs_are_all_different_and_one_seed_comes_everywhere_before_a_second():
    runs = list(switches.runs(range(2)))
    assert len({run.key for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_what_has_a_record_is_not_run_again():
    runs = list(switches.runs([0]))
    known = [made(run, 1.0) for run in runs[3:]]
    assert switches.missing([0], known, "f") == runs[:3]
    assert switches.missing([0], known, "other data") == runs
    assert switches.missing([0], [{**r, "study": ""} for r in known], "f") == runs


def test_a_record_older_than_a_field_counts_with_the_fields_default():
    run = next(switches.runs([0]))
    old = json.loads(json.dumps(made(run, 1.0)))
    del old["settings"]["method"]["update"]
    assert run not in switches.missing([0], [old], "f")


def test_differences_are_paired_by_seed_with_students_interval():
    group = GROUPS[0]
    variant = group.variants[1]
    before, after = [1.0, 2.0, 4.0], [1.5, 2.25, 5.0]
    found = [
        made(make_run(**group.parameters(v), seed=seed), error, nll=error / 10, vote=-0.25)
        for v, values in ((None, before), (variant, after))
        for seed, error in enumerate(values)
    ]
    found.append(made(make_run(**group.parameters(variant), seed=3), 50.0))  # without a partner
    rows = switches.compare([*found, {"kind": "bench"}])
    assert [r["label"] for r in rows] == ["reference", variant.label]
    difference = np.subtract(after, before)
    low, high = stats.t.interval(0.95, 2, loc=difference.mean(), scale=stats.sem(difference))
    mean, half = rows[1]["error"]
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert rows[1]["nll"] == pytest.approx((mean / 10, half / 10))
    assert rows[1]["vote"] == pytest.approx((-0.25, 0)) and rows[1]["n"] == 3
    assert rows[1]["levels"] == pytest.approx((np.mean(after), np.mean(after) / 10))
    assert rows[0]["error"] == (0, 0)


def test_a_study_leaves_a_record_of_every_run_and_can_be_taken_up_again(monkeypatch, small, tmp_path):
    base = {"dataset": "digits", "network": "digits", "method": "sba", "vote": True, "epochs": 1, "batch_size": 16}
    groups = (Group("all", base, (Variant(0, "baseline", {"method": "erm"}), Variant(15, "both", {"detach": False}))),)
    monkeypatch.setattr(switches, "GROUPS", groups)
    results = tmp_path / "switches.jsonl"
    study = switches.measure(results, [0], small)
    first = next(study)
    study.close()
    rest = list(switches.measure(results, [0], small))
    stored = records(results)
    assert [r["id"] for r in stored] == [first["id"], *(r["id"] for r in rest)] and len(stored) == 3
    assert all(r["study"] == "switches" and "error_vote" in r for r in stored)
    assert list(switches.measure(results, [0], small)) == []


def test_records_of_a_study_stay_out_of_the_tables(tmp_path):
    from sba.report import readme_table

    run = make_run("cifar10", "alexnet")
    record = made(run, 12.34) | {"evaluated_on": "test", "reduced": False, "seconds_per_epoch": 1.0}
    path = tmp_path / "r.jsonl"
    append(path, record)
    assert "12.34" not in readme_table(records(path))
    assert "12.34" in readme_table([{**record, "study": ""}])
