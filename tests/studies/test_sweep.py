"""A sweep does each run once: stopped, killed, or several at a time, its records are those of an undisturbed one."""

import dataclasses
import json
import multiprocessing
import os
import signal
import threading

import pytest
import torch
from filelock import FileLock
from processes import context, kill_at
from tiny_study import CELLS, FEW, TINY, store, stored, swept

from sba.core.errors import CheckpointError, ResultsError
from sba.data.datasets import load
from sba.records.file import TornRecordWarning, append, read
from sba.records.schema import parse
from sba.studies.executors import Here, Pool
from sba.studies.planned import Setting, Study, planned_runs
from sba.studies.store import CLAIM, Store, claimed, taken, writer
from sba.studies.sweep import Sweep
from sba.training import loop
from sba.training.checkpoint import FILE


def done(events):
    return [e for e in events if e.kind == "done"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The records of a sweep that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    events = swept(store(folder))
    assert [e.index for e in done(events)] == list(range(6))
    return stored(folder)


# ------------------------------------------------------------------------------------------------------ one after another


def test_cells_are_done_in_order_and_a_second_sweep_does_nothing(tmp_path, undisturbed):
    events = swept(store(tmp_path))
    assert [e.index for e in events if e.kind == "started"] == list(range(6))
    assert [e.epoch for e in events if e.kind == "epoch" and e.index == 0] == [1, 2, 3, 4, 5, 6]
    assert stored(tmp_path) == undisturbed and len(undisturbed) == 6
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    again = swept(store(tmp_path))
    assert [(e.kind, e.record) for e in again] == [("found", e.record) for e in done(events)]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_records_say_what_they_are_and_keep_what_the_study_measures(undisturbed):
    for cell in CELLS:
        record = undisturbed[cell.run.key]
        assert (record["study"], record["kind"], len(record["epochs"])) == ("tiny", "train", 5)
        assert record["weights"] != 0
        assert record["reduced"] == (cell.run.epochs < cell.run.full_epochs)


def whole(record, **changes):
    """A record with the times that :func:`stored` leaves out."""
    epochs = [e | {"seconds": 1.0} for e in record["epochs"]]
    return parse(record | {"epochs": epochs, "seconds_per_epoch": 1.0, "date": "2020-01-01T00:00:00Z"} | changes)


def test_a_record_made_elsewhere_counts_whatever_file_it_is_in(tmp_path, undisturbed):
    made = [whole(r, id=f"{i}", source="other code", device_name="other") for i, r in enumerate(undisturbed.values())]
    append(tmp_path / "book" / "a.jsonl", made[1])
    append(tmp_path / "store" / "copied.jsonl", made[4])
    append(tmp_path / "given.jsonl", made[2])
    own = Store(tmp_path / "store", "tiny", tmp_path / "given.jsonl")
    own.beside = [tmp_path / "book"]
    events = swept(own)
    assert [e.index for e in events if e.kind == "found"] == [1, 2, 4]
    assert [e.index for e in done(events)] == [0, 3, 5]
    assert len(read(tmp_path / "given.jsonl")) == 4


def test_a_record_of_other_data_or_settings_does_not_count(tmp_path, undisturbed):
    (record, *_) = undisturbed.values()
    append(tmp_path / "a.jsonl", whole(record, id="1", fingerprint="other"))
    append(tmp_path / "a.jsonl", whole(record, id="2", settings=record["settings"] | {"lr": 0.5}))
    append(tmp_path / "a.jsonl", whole(record, id="3", study="another"))
    assert store(tmp_path).found(CELLS[0], record["fingerprint"], False) is None
    append(tmp_path / "a.jsonl", whole(record, id="4"))
    assert store(tmp_path).found(CELLS[0], record["fingerprint"], False).id == "4"


def test_a_finished_run_leaves_no_checkpoint_unless_it_is_to_be_kept(tmp_path):
    swept(store(tmp_path / "a"), CELLS[:1])
    swept(store(tmp_path / "b"), CELLS[:1], keep=True)
    assert not list((tmp_path / "a").rglob(FILE)) and len(list((tmp_path / "b").rglob(FILE))) == 1


def test_a_run_that_diverges_is_recorded_as_such_and_not_tried_again(tmp_path):
    wild = Study("wild", "", lambda: [Setting(FEW | {"lr": 1e9}, "wild"), Setting(FEW, "wild")])
    found = planned_runs(wild, [0])
    events = swept(store(tmp_path), found, wild)
    assert [e.kind for e in events if e.kind in ("diverged", "done")] == ["diverged", "done"]
    first, second = read(tmp_path / store(tmp_path).results.name)
    assert (first.kind, second.kind) == ("diverged", "train") and "the loss is not finite" in first.reason
    assert [e.kind for e in swept(store(tmp_path), found, wild)] == ["found", "found"]


def test_a_run_that_fails_is_said_once_and_the_others_are_done(tmp_path):
    strange = Study("strange", "", lambda: [Setting(FEW | {"batch_size": 10**6}, ""), Setting(FEW, "")])
    events = swept(store(tmp_path), planned_runs(strange, [0]), strange)
    (failed,) = [e for e in events if e.kind == "failed"]
    assert failed.index == 0 and "batch_size: 1000000 exceeds" in failed.text
    assert [e.index for e in done(events)] == [1]


def unmeasurable(training):
    """What JSON has no number for, where the data are digits."""
    return {"weights": float("nan") if training.data.name == "digits" else 1.0}


def test_a_measurement_that_is_not_finite_fails_alone_and_the_others_are_done(tmp_path):
    odd = dataclasses.replace(TINY, measure=unmeasurable)
    events = swept(store(tmp_path), CELLS[:3], odd)
    failed = [e for e in events if e.kind == "failed"]
    assert [e.index for e in failed] == [0, 1] and all("it holds NaN or ∞" in e.text for e in failed)
    assert [e.index for e in done(events)] == [2] and len(read(tmp_path)) == 1
    assert len(list(tmp_path.rglob(FILE))) == 2


# ----------------------------------------------------------------------------------------------------- stopped and killed


def test_told_to_stop_at_once_a_sweep_does_no_step(tmp_path):
    assert swept(store(tmp_path), stop=lambda: True) == []


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_stopped_between_two_steps_a_sweep_goes_on_bit_for_bit(tmp_path, undisturbed, steps):
    made = []
    events = swept(store(tmp_path), stop=lambda: made.append(0) or len(made) > steps)
    assert events[-1].kind == "stopped" and list(tmp_path.rglob(FILE))
    later = swept(store(tmp_path))
    (first, *_) = [e for e in later if e.kind == "started"]
    assert (first.index, first.epoch) == (events[-1].index, events[-1].epoch)
    assert stored(tmp_path) == undisturbed


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", ["append", "Kept.forget"])
def test_killed_around_the_moment_of_recording_nothing_is_lost_or_doubled(tmp_path, undisturbed, monkeypatch, place):
    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"sba.studies.sweep.{place}", kill)
        with pytest.raises(Killed):
            swept(store(tmp_path))
    assert len(stored(tmp_path)) == (place == "Kept.forget")
    swept(store(tmp_path))
    assert stored(tmp_path) == undisturbed


def test_a_line_torn_by_a_kill_is_made_again_from_the_finished_checkpoint(tmp_path, undisturbed, monkeypatch):
    def tear(results, record):
        results.write_bytes(json.dumps(record.as_json()).encode()[:100])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("sba.studies.sweep.append", tear)
        with pytest.raises(Killed):
            swept(store(tmp_path), CELLS[:1])
    with pytest.warns(TornRecordWarning, match="line 1: not a record"):
        events = swept(store(tmp_path), CELLS[:1])
    assert [e.kind for e in events] == ["started", "done"] and events[0].epoch == 6
    torn, whole, end = store(tmp_path).results.read_bytes().split(b"\n")
    assert len(torn) == 100 and json.loads(whole)["key"] == CELLS[0].run.key and end == b""


def test_what_a_killed_process_left_of_a_checkpoint_is_cleaned_up(tmp_path):
    place = store(tmp_path).folder_of(CELLS[0].run)
    place.mkdir(parents=True)
    (place / f"{FILE}.123.partial").write_bytes(b"half")
    swept(store(tmp_path), CELLS[:1])
    assert [p.name for p in place.iterdir()] == [CLAIM]


def work_alone(folder, sender, last):
    """Sweep in a process of its own, with a checkpoint after every epoch, killed behind a step; send what happens."""
    torch.set_num_threads(1)
    loop.SAVE_SECONDS = 0.0
    kill_at(last, signal.SIGKILL)
    Sweep(TINY, CELLS, store(folder)).do(Here(), sender.send)
    sender.close()


def start(folder, last=None):
    """Start such a process."""
    receiver, sender = context().Pipe(duplex=False)
    process = context().Process(target=work_alone, args=(str(folder), sender, last), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def listen(receiver):
    events = []
    try:
        while True:
            events.append(receiver.recv())
    except EOFError:
        return events


def test_killed_at_five_steps_the_records_are_those_of_an_undisturbed_sweep(tmp_path, undisturbed):
    # all together they leave a part of the work undone
    for last in (1, 17, 6, 40, 25):
        process, receiver = start(tmp_path, last)
        listen(receiver)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process, receiver = start(tmp_path)
    events = listen(receiver)
    process.join()
    assert process.exitcode == 0 and done(events)
    assert stored(tmp_path) == undisturbed


# --------------------------------------------------------------------------------------------------------- side by side


def test_two_sweeps_at_once_do_no_run_twice_and_tear_no_line(tmp_path, undisturbed):
    pair = [start(tmp_path) for _ in range(2)]
    events = [listen(receiver) for _, receiver in pair]
    for process, _ in pair:
        process.join()
        assert process.exitcode == 0
    assert sorted(e.index for part in events for e in done(part)) == list(range(6))
    assert stored(tmp_path) == undisturbed


@pytest.fixture
def pool(monkeypatch):
    """Make a pool whose processes start fast; none is left behind."""
    context()
    monkeypatch.setattr(Pool, "method", "forkserver")
    made, others = [], children()
    yield lambda slots: made.append(Pool(slots)) or made[-1]
    for one in made:
        one.close()
    assert children() <= others


def children():
    """The processes that this one has started, one of which may serve other tests."""
    return set(multiprocessing.active_children())


def test_a_process_that_is_killed_loses_and_doubles_nothing(tmp_path, undisturbed, pool):
    others = children()
    events, executor = [], pool(2)

    def hear(event):
        if not events:
            next(iter(children() - others)).kill()
        events.append(event)

    Sweep(TINY, CELLS, store(tmp_path)).do(executor, hear)
    assert 1 <= len([e for e in events if e.kind == "lost"]) <= 2
    assert sorted(e.index for e in done(events)) == list(range(6))
    found = stored(tmp_path)
    assert {record["jobs"] for record in found.values()} == {2} and alone(found) == alone(undisturbed)


def alone(found):
    """The same records, but for how many runs shared the machine."""
    return {key: {k: v for k, v in r.items() if k != "jobs"} for key, r in found.items()}


def deadly(training):
    """Kill the process that measures moons."""
    if training.data.name == "moons":
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_a_run_whose_process_always_dies_is_given_up(tmp_path, monkeypatch, pool):
    monkeypatch.setattr(Pool, "tries", 2)
    events = swept(store(tmp_path), CELLS[1:3], dataclasses.replace(TINY, measure=deadly), executor=pool(1))
    assert [(e.kind, e.index) for e in events if e.kind != "epoch" and e.kind != "started"] == [
        ("done", 0),
        ("lost", 1),
        ("lost", 1),
    ]
    assert len(read(tmp_path)) == 1


def test_processes_that_are_told_to_stop_leave_checkpoints(tmp_path, undisturbed, pool):
    heard = []
    own = Sweep(TINY, CELLS, store(tmp_path))
    own.do(pool(2), heard.append, stop=lambda: any(e.kind == "epoch" for e in heard))
    assert any(e.kind == "stopped" for e in heard) and list(tmp_path.rglob(FILE))
    own.do(pool(2), heard.append)
    found = stored(tmp_path)
    assert alone(found) == alone(undisturbed)


def test_a_run_that_belongs_to_another_process_is_left_to_it(tmp_path):
    own = store(tmp_path)
    place = own.folder_of(CELLS[1].run)
    assert not taken(place)
    with claimed(place) as mine:
        assert mine and taken(place)
        with claimed(place) as second:
            assert not second
        assert own.state(CELLS[1], "", False) == ("under way", "under way")
        events = swept(own, CELLS[:3])
        assert [e.index for e in done(events)] == [0, 2]
    assert not taken(place)
    assert [e.index for e in done(swept(own, CELLS[:3]))] == [1]


def test_a_look_at_a_claim_does_not_take_it_from_the_process_that_wants_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sba.studies.store.LOOK_SECONDS", 1)
    look = FileLock(tmp_path / CLAIM, thread_local=False)
    look.acquire()
    threading.Timer(0.1, look.release).start()
    with claimed(tmp_path) as mine:
        assert mine


# ------------------------------------------------------------------------------------------------------------- the store


def test_each_store_has_a_file_of_its_own(tmp_path):
    first, again, other = store(tmp_path / "a"), store(tmp_path / "a"), store(tmp_path / "b")
    assert first.results == again.results and first.results.name != other.results.name
    assert len({writer(tmp_path / str(i)) for i in range(20)}) == 20


def test_the_same_folder_on_another_machine_has_another_file(tmp_path, monkeypatch):
    here = writer(tmp_path)
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert writer(tmp_path) != here


def test_the_state_of_a_cell_is_said_without_making_anything(tmp_path):
    own = store(tmp_path / "new")
    assert own.state(CELLS[0], "", False) == ("missing", "missing") and not (tmp_path / "new").exists()
    calls = []
    swept(own, stop=lambda: calls.append(0) or len(calls) > 13)
    print_ = load("digits", holdout=1098).fingerprint
    assert own.state(CELLS[0], print_, False) == ("checkpoint", "checkpoint at epoch 2 of 6")
    (event,) = done(swept(own, CELLS[:1]))
    assert own.state(CELLS[0], print_, False) == ("record", f"record {event.record}")


def test_a_file_in_the_place_of_the_store(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(ResultsError, match=r"store: .*taken cannot be written to .*give another --store"):
        writer(tmp_path / "taken")
    with (
        pytest.raises(CheckpointError, match=r"folder: .*taken.* cannot be written to"),
        claimed(tmp_path / "taken" / "x"),
    ):
        pass
