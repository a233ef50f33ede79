"""What was recorded before is recognised: commit 45d1509 wrote down the key of each record's run, and which records each study has.

The vote was a field of a run then; a record of a run with one stands for the same run without. The study of ten ImageNet classes
asks for other runs since; its older records keep their keys.
"""

import json
from pathlib import Path

import pytest

from sba.records.file import read
from sba.records.schema import RunRecord, TrainRecord
from sba.studies.catalogue import STUDIES
from sba.studies.planned import planned_runs
from sba.training.run import from_settings

BEFORE = json.loads(Path(__file__).with_name("made_before.json").read_text())


@pytest.fixture(scope="module")
def made():
    """Every record of a run in the book's results, by its identifier."""
    found = read(Path(__file__).resolve().parents[2] / "book" / "results")
    return {r.id: r for r in found if isinstance(r, RunRecord)}


def test_every_run_is_rebuilt_and_has_the_key_that_it_had(made):
    assert set(BEFORE["keys"]) <= set(made)
    for name, record in made.items():
        assert record.run.method.settings().items() >= record.settings["method"].items()
        if not record.settings.get("vote"):
            assert record.key == BEFORE["keys"].get(name, record.written_key)


def test_a_run_with_a_vote_is_the_run_without_one(made):
    voted = [r for r in made.values() if r.settings.get("vote")]
    assert len(voted) >= 454
    for record in voted:
        assert record.key == from_settings(record.settings | {"vote": False}).key
        assert BEFORE["keys"].get(record.id, record.written_key) != record.key


@pytest.mark.parametrize("name", BEFORE["studies"])
def test_every_study_finds_the_records_that_it_found(made, name):
    index = {}
    for record in made.values():
        index.setdefault(record.key, []).append(record)
    runs = [run for amp in (None, "bf16") for run in planned_runs(STUDIES[name], range(10), amp=amp)]
    counting = [[r.id for r in index.get(run.run.key, []) if run.counts(r, STUDIES[name].exclusive)] for run in runs]
    assert set(BEFORE["studies"][name]) <= {found[0] for found in counting if found}


def test_the_votes_of_mixup_and_its_kin_are_left_out(made):
    """They were held at the input, where open point 22 has them at SBA's layers."""
    finished = [r for r in made.values() if isinstance(r, TrainRecord)]
    left_out = [r for r in finished if r.vote_left_out]
    assert len([r for r in left_out if r.id in BEFORE["keys"]]) == 20
    assert {(r.study, r.run.method.name) for r in left_out} == {("robustness", "mixup"), ("robustness", "decoupled")}
    for record in finished:
        held = record.settings.get("vote") and record not in left_out
        assert (record.error_vote is not None) == bool(held)
        assert record.as_json().get("error_vote") == record.written_vote
