"""Signals, kills, full disks and torn checkpoints: nothing is ever lost. ``SBA_ABUSE=long`` takes ten times as many examples."""

import os
import random
import resource
import signal
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from processes import command, context, kill_at

import sba.records.file
from sba import make_run, train
from sba.cli.commands import main
from sba.core.errors import CheckpointError
from sba.records.file import read
from sba.training.checkpoint import FILE

LONG = os.environ.get("SBA_ABUSE") == "long"
MORE = 10 if LONG else 1

COMMAND = ["--dataset", "moons", "--epochs", "12", "--method", "sba", "--eta", "0.1", "--seed", "4", "--quiet"]


def process(folder, *more, prepare=()):
    """Start the command in a process of its own, in a folder; what it says goes into the file ``said``."""
    arguments = ["train", *COMMAND, "--folder", "run", "--results", "r.jsonl", *more]
    found = context().Process(target=command, args=(folder, arguments, prepare), daemon=True)
    found.start()
    return found


def ended(running, folder):
    """Wait for a process; return its status and what it said."""
    running.join(timeout=120)
    said = (folder / "said").read_text()
    assert running.exitcode is not None, said
    return running.exitcode, said


def timeless(record):
    content = record.as_json()
    epochs = [{k: v for k, v in e.items() if k != "seconds"} for e in content["epochs"]]
    return {"epochs": epochs, **{k: content[k] for k in ("key", "settings", "error", "error_last", "fingerprint")}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The record of the command's run, and the weights it ends with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert ended(process(folder), folder)[0] == 0
    (found,) = read(folder / "r.jsonl")
    return timeless(found), weights(folder)


def weights(folder):
    return torch.load(folder / "run" / FILE, weights_only=True)["state"]["objective"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_signal_at_any_step_costs_nothing(tmp_path, undisturbed, number):
    """Again and again until the run is done; a process that stops by itself says how to go on."""
    steps, attempts = random.Random(number), 0
    while not (tmp_path / "r.jsonl").exists():
        running = process(tmp_path, prepare=(kill_at, steps.randint(*((1, 12) if LONG else (6, 18))), number))
        status, said = ended(running, tmp_path)
        assert status in (0, 3 if number != signal.SIGKILL else -number), said
        assert "Traceback" not in said and ("the same command goes on" in said) == (status == 3)
        attempts += 1
    (found,) = read(tmp_path / "r.jsonl")
    assert attempts >= 3 and timeless(found) == undisturbed[0]
    assert all(torch.equal(v, undisturbed[1][k]) for k, v in weights(tmp_path).items())


def kill_at_the_record():
    """Be killed when a record is to be written."""
    sba.records.file.append = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def test_killed_before_its_record_is_written_a_run_is_not_made_again(tmp_path, undisturbed):
    status, _ = ended(process(tmp_path, prepare=(kill_at_the_record,)), tmp_path)
    assert status == -signal.SIGKILL and not (tmp_path / "r.jsonl").exists()
    # the checkpoint has all epochs: no step is left to be killed at
    status, _ = ended(process(tmp_path, prepare=(kill_at, 1, signal.SIGKILL)), tmp_path)
    (found,) = read(tmp_path / "r.jsonl")
    assert status == 0 and timeless(found) == undisturbed[0]


def limit_files():
    """Let no file grow beyond a few kilobytes, as on a full disk; Python sees an error and not a signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))


def test_a_full_disk_is_a_message_and_the_run_goes_on_when_there_is_space(tmp_path, undisturbed):
    status, said = ended(process(tmp_path, "--budget", "0.01"), tmp_path)
    assert status == 3 and "the same command goes on" in said
    before = (tmp_path / "run" / FILE).read_bytes()
    status, said = ended(process(tmp_path, prepare=(limit_files,)), tmp_path)
    assert status == 2 and "Traceback" not in said
    assert "folder: run cannot be written to" in said and "free space or give another --folder" in said
    assert (tmp_path / "run" / FILE).read_bytes() == before
    assert ended(process(tmp_path), tmp_path)[0] == 0
    (found,) = read(tmp_path / "r.jsonl")
    assert timeless(found) == undisturbed[0]


@pytest.mark.parametrize("kept", [0, 1, 0.3, 0.9, -1])
def test_a_truncated_checkpoint_is_refused_and_left(tmp_path, kept):
    run = make_run("moons", epochs=2)
    training = train(run, folder=tmp_path, budget=0)
    list(training)
    path = tmp_path / FILE
    whole = path.read_bytes()
    torn = whole[: int(kept * len(whole)) if 0 < kept < 1 else kept]
    path.write_bytes(torn)
    with pytest.raises(
        CheckpointError, match=r"folder: .* is not a checkpoint .*; move it away, or give another --folder"
    ):
        train(run, folder=tmp_path)
    assert path.read_bytes() == torn


@settings(max_examples=25 * MORE)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=40))
def test_bytes_written_into_a_checkpoint_are_noticed_or_harmless(tmp_path_factory, at, written):
    """The file's checksums catch what its format does not."""
    folder = tmp_path_factory.mktemp("checkpoint")
    run = make_run("moons", epochs=2)
    training = train(run, folder=folder, budget=0)
    list(training)
    path = folder / FILE
    whole = bytearray(path.read_bytes())
    at %= len(whole)
    whole[at : at + len(written)] = written
    path.write_bytes(whole)
    try:
        resumed = train(run, folder=folder)
    except CheckpointError as error:
        assert "move it away" in str(error) or "give another --folder" in str(error)
        return
    expected = training.objective.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in resumed.objective.state_dict().items())


class Stranger:
    """What no checkpoint holds: reading it would run code."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_foreign_checkpoint_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "settings": "{}", "fingerprint": "", "state": Stranger()}, FILE)
    result = CliRunner().invoke(main, ["train", *COMMAND, "--folder", "."])
    assert result.exit_code == 2 and "is not a checkpoint of this version" in result.output
    assert not Path("ran").exists()


def test_the_same_run_by_two_processes_is_made_once(tmp_path):
    pair = [process(tmp_path) for _ in range(2)]
    status = sorted(ended(p, tmp_path)[0] for p in pair)
    # the second may come when the first is done
    assert status in ([0, 3], [0, 0])
    assert len(read(tmp_path / "r.jsonl")) == 1 and "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.filterwarnings("ignore:ISDA left out a batch")
@pytest.mark.parametrize("method", ["erm", "sba", "isda"])
def test_a_loss_that_is_not_finite_stops_with_step_and_terms(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["train", "--dataset", "moons", "--method", method, "--lr", "1e30", "--quiet"])
    assert result.exit_code == 2 and "Traceback" not in result.output
    for part in ("lr: the loss is not finite in epoch 1, step 4", "'cross_entropy': nan", "give a lower --lr"):
        assert part in result.output, result.output
    assert not Path("runs/results.jsonl").exists()
