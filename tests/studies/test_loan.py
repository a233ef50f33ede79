"""Short loans of a card, dry-run on a processor: what one leaves in a folder the next goes on with in another."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import FORKED

from sba.records.file import read
from sba.studies.catalogue import study_named
from sba.studies.planned import planned_runs
from sba.training.checkpoint import epochs_done

ROOT = Path(__file__).resolve().parents[2]
SWEEP = ("omega-eta", "--where", "moons", "--methods", "erm", "--seeds", "1")
EPOCHS = (20_000, 2)
"""Of a run that no loan finishes, and of one that each does."""


def planned(epochs):
    (one,) = planned_runs(study_named("omega-eta"), [0], "moons", scale=epochs / 200, methods=["erm"])
    assert one.run.epochs == epochs
    return one


def lines(*epochs):
    return "\n".join(" ".join([*SWEEP, "--epochs-scale", str(n / 200)]) for n in epochs)


@pytest.fixture
def loan(tmp_path, forked):
    """Do a loan on a processor; the checks are noted and not done, and fail if that is asked."""
    python = tmp_path / "python"
    sweep = f'[ "$3" != sweep ] || exec "{sys.executable}" "{FORKED}" "$@"'
    python.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n{sweep}\nexit "$CHECKS"\n')
    python.chmod(0o755)

    def do(minutes, runs, *folders, checks=0):
        own = {"PYTHON": str(python), "PYTHONPATH": str(ROOT), "DEVICE": "cpu", "JOBS": "1", "END_SECONDS": "0"}
        own |= {"RUNS": runs, "CHECKS": str(checks)}
        command = [shutil.which("bash"), ROOT / "examples/cluster/loan.sh", str(minutes), *folders]
        found = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=300)
        calls = (tmp_path / "calls").read_text().splitlines()
        (tmp_path / "calls").unlink()
        return found, calls

    return do


def test_two_loans_in_two_folders_go_on_with_one_run(tmp_path, loan):
    long, (first, second) = planned(EPOCHS[0]).run, (tmp_path / "first", tmp_path / "second")

    def further(done, *arguments):
        """Repeat a loan until the run has more epochs: on a busy machine the first one may end before its first epoch does."""
        calls = []
        for tries in range(8):
            found, heard = loan(0.05 * 2**tries, *arguments)
            assert found.returncode == 3, found.stderr
            calls += heard
            if (now := epochs_done(arguments[1] / long.title) or 0) > done:
                return now, calls
        raise AssertionError("the loans make no progress")

    done, calls = further(0, lines(EPOCHS[0]), first)
    checks = [call.split("--stage")[0] for call in calls[:2]]
    assert checks == ["-m pytest -q -m gpu tests/training tests/bench", "-m sba notebooks "]
    assert calls[1].count("--only") == 3 and "-p device cpu" in calls[1] and (first / "checked-cpu").exists()
    assert all(call.startswith("-m sba sweep") for call in calls[2:]) and not read(first)

    _, calls = further(done, lines(*EPOCHS), second, first)
    assert all(call.startswith("-m sba sweep") for call in calls), "what was checked is not checked again"
    assert epochs_done(first / long.title) == done, "what is carried in stays as it is"


def test_a_loan_that_does_everything_leaves_records(tmp_path, loan):
    found, calls = loan(5, lines(EPOCHS[1]), tmp_path / "only")
    assert found.returncode == 0, found.stderr
    (record,) = read(tmp_path / "only")
    assert record.key == planned(EPOCHS[1]).run.key and record.jobs == 1
    budget = float(calls[-1].rpartition("--budget ")[2])
    assert 0 < budget <= 300


def test_a_check_that_fails_is_said_and_stops_no_run(tmp_path, loan):
    found, calls = loan(5, lines(EPOCHS[1]), tmp_path / "only", checks=1)
    assert found.returncode == 2 and "the checks failed" in found.stderr
    assert len(read(tmp_path / "only")) == 1 and not (tmp_path / "only/checked-cpu").exists()
    assert [call.split()[1] for call in calls] == ["pytest", "sba"], "no notebook after a test that failed"


def test_no_sweep_starts_when_the_loan_is_over(tmp_path, loan):
    found, calls = loan(0, lines(EPOCHS[1]), tmp_path / "only")
    assert found.returncode == 3 and not any("sweep" in call for call in calls)
