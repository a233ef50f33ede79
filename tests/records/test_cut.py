"""A record that is cut from a checkpoint is that of a shorter run."""

import pytest
from click.testing import CliRunner
from helpers import after, whole

from sba import make_run
from sba.cli.commands import main
from sba.core.errors import CheckpointError, ResultsError
from sba.records.cut import cut_from, run_in
from sba.records.file import read
from sba.records.record import record_of
from sba.training.machine import Machine

LONG = {"dataset": "moons", "epochs": 10, "milestones": (2, 6), "method": "sba", "eta": 0.1}
SHORT = LONG | {"epochs": 4, "milestones": (2,), "full_epochs": 200}


def timeless(record):
    content = record.as_json()
    epochs = [{k: v for k, v in e.items() if k != "seconds"} for e in content["epochs"]]
    return {k: v for k, v in content.items() if k not in ("id", "date", "seconds_per_epoch", "note")} | {
        "epochs": epochs
    }


def test_the_first_epochs_are_the_record_of_a_run_of_so_many(tmp_path):
    run = make_run(**LONG)
    steps = whole(make_run(**SHORT), None).steps_per_epoch
    whole(run, None, folder=tmp_path, stop=after(4 * steps))
    record = cut_from(tmp_path)
    assert timeless(record) == timeless(record_of(whole(make_run(**SHORT), None), reduced=True))
    assert record.reduced and record.note == "the first 4 epochs of a run of 10" and run_in(tmp_path) == run
    # in the middle of an epoch the weights are of no epoch
    whole(run, None, folder=tmp_path, stop=after(1))
    again = cut_from(tmp_path)
    assert again.right is None and timeless(again) == timeless(record) | {"right": None}


def test_a_finished_one_is_the_record_of_its_run(tmp_path):
    done = whole(make_run(**LONG), None, folder=tmp_path)
    assert timeless(cut_from(tmp_path)) == timeless(record_of(done))


def test_a_record_does_not_name_what_did_not_make_it(tmp_path, monkeypatch):
    run = make_run(**LONG)
    whole(run, None, folder=tmp_path, stop=after(1 + whole(run, None).steps_per_epoch))
    with pytest.raises(
        CheckpointError, match="was made with device cpu, and the record would say meta; give --device cpu"
    ):
        cut_from(tmp_path, Machine(device="meta"))
    with monkeypatch.context() as patched:
        patched.setattr("torch.__version__", "0.1")
        with pytest.raises(CheckpointError, match=r"made with torch .*, and the record would say 0\.1; install torch "):
            cut_from(tmp_path)
    assert cut_from(tmp_path).device == "cpu"


def test_what_cannot_be_cut_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"from: .*checkpoint.pt is no checkpoint \(FileNotFoundError\); give its folder"
    ):
        cut_from(tmp_path)
    run = make_run("moons", method="isda", epochs=4)
    run_steps = whole(run, None, folder=tmp_path, stop=after(1)).steps_per_epoch + 1
    with pytest.raises(ResultsError, match="holds no epoch that is done"):
        cut_from(tmp_path)
    whole(run, None, folder=tmp_path, stop=after(run_steps))
    with pytest.raises(ResultsError, match="λ of 'isda' grows with the share of the whole run"):
        cut_from(tmp_path)


def test_the_command_appends_it_and_repeats_as_a_shorter_run(tmp_path):
    whole(make_run(**LONG), None, folder=tmp_path / "run", stop=after(20))
    result = CliRunner().invoke(
        main, ["record", "--from", str(tmp_path / "run"), "--results", str(tmp_path / "r.jsonl")]
    )
    assert result.exit_code == 0, result.output
    (record,) = read(tmp_path / "r.jsonl")
    assert f"record {record.id}" in result.output and record.run.epochs == len(record.epochs) < 10
