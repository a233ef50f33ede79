"""`python -m sba sweep`: what it lists, says and returns, and how it ends."""

import functools
import io
import os
import shlex
import signal
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from processes import command, context
from tiny_study import CELLS, TINY, stored
from tqdm import tqdm

from sba.cli.commands import main
from sba.records.commands import command_of
from sba.records.file import read
from sba.studies import catalogue
from sba.studies.catalogue import STUDIES
from sba.studies.planned import planned_runs
from sba.studies.store import claimed
from sba.training.checkpoint import FILE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    """Work in an empty folder with a small study among the others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(catalogue.STUDIES, "tiny", TINY)


def call(*arguments, expect=0):
    result = CliRunner().invoke(main, ["sweep", *map(str, arguments)])
    assert result.exit_code == expect, result.output
    assert "Traceback" not in result.output
    return result.output


def test_signal_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    call("tiny", "--where", "moons", "--seeds", 1)
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_run_twice_it_does_nothing_the_second_time():
    first = call("tiny")
    (file,) = Path("runs").glob("*.jsonl")
    assert f"6 of 6 runs are left; records go to {file}" in first
    assert [line.split()[0] for line in first.splitlines()[1:-1]] == ["record"] * 6
    assert "[5 left, " in first and "[0 left, 00:00]" in first
    before = file.read_bytes()
    assert call("tiny").splitlines() == ["all 6 runs have records"] == first.splitlines()[-1:]
    assert file.read_bytes() == before and len(stored("runs")) == 6
    assert "3 of 9 runs are left" in call("tiny", "--seeds", 3) and len(stored("runs")) == 9


class Terminal(io.StringIO):
    """What a bar is drawn on."""

    def isatty(self):
        return True


def test_a_terminal_shows_one_bar_for_all_runs(monkeypatch):
    drawn = Terminal()
    monkeypatch.setattr(
        "sba.cli.console.tqdm", type("Bar", (tqdm,), {"__init__": functools.partialmethod(tqdm.__init__, file=drawn)})
    )
    call("tiny", "--seeds", 1)
    first, last = drawn.getvalue().split("\r")[1], drawn.getvalue().rstrip().split("\r")[-1]
    assert "0/22 epochs" in first and "22/22 epochs, 0 left, 00:00" in last


def test_parts_and_seeds_are_what_is_asked_for():
    call("tiny", "--where", "moons", "--seeds", 1, "--first-seed", 4, "--quiet", "--results", "mine.jsonl")
    (record,) = read("mine.jsonl")
    assert (record.settings["dataset"], record.settings["seed"]) == ("moons", 4)
    assert not list(Path("runs").glob("*.jsonl"))


def test_a_shortened_sweep_is_marked_reduced_and_does_not_stand_for_the_whole():
    assert "reduced to 5 epochs" in call("tiny", "--where", "moons", "--seeds", 1, "--epochs-scale", 0.5)
    (record,) = read("runs")
    assert record.reduced and record.settings["epochs"] == 5
    assert "missing: moons" in call("tiny", "--where", "moons", "--seeds", 1, "--list")


def test_precision_is_a_setting_of_all_runs():
    call("tiny", "--where", "moons", "--seeds", 1, "--amp", "bf16")
    (record,) = read("runs")
    assert record.settings["amp"] == "bf16"
    assert "missing: moons" in call("tiny", "--where", "moons", "--seeds", 1, "--list")
    assert "record " in call("tiny", "--where", "moons", "--seeds", 1, "--amp", "bf16", "--dry-run")


def test_a_budget_ends_with_status_3_and_the_same_command_goes_on():
    output = call("tiny", "--budget", 0, expect=3)
    assert output.splitlines()[-1] == "6 of 6 runs have no record; the same command goes on"
    assert not list(Path("runs").rglob(FILE))
    call("tiny", "--budget", 600)
    assert len(stored("runs")) == 6


def test_the_list_says_what_each_cell_is_and_makes_nothing():
    before = call("tiny", "--list").splitlines()
    assert [line.split(":")[0] for line in before[::2]] == ["missing"] * 6 and not Path("runs").exists()
    call("tiny", "--where", "digits", "--seeds", 1)
    with claimed(Path("runs") / CELLS[2].run.title):
        after = call("tiny", "--list").splitlines()
    assert [line.split()[0] for line in after[::2]] == ["record", "record", "under", "missing:", "missing:", "missing:"]
    ids = {r.id for r in read("runs")}
    assert {line.split()[1].rstrip(":") for line in after[:4:2]} == ids
    assert before[1::2] == after[1::2] == [f"    {command_of(c.run, 'cpu', 1)}" for c in CELLS]


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("options", [{}, {"scale": 0.1, "amp": "bf16"}], ids=["whole", "short"])
def test_the_command_of_a_cell_does_that_very_run(name, options, monkeypatch):
    made = []
    monkeypatch.setattr("sba.cli.commands.train_once", lambda run, *_, **__: made.append(run) or ("", 0))
    # one of those that differ in values only
    found = {}
    for cell in planned_runs(STUDIES[name], [2], **options):
        words = shlex.split(command_of(cell.run, "cpu", 1))
        assert words[:4] == ["python", "-m", "sba", "train"]
        found[cell.run.method.name, *(word for word in words if word.startswith("--"))] = words[3:], cell.run.key
    for words, _ in found.values():
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    assert [run.key for run in made] == [key for _, key in found.values()]


def test_its_help_names_every_study():
    text = CliRunner().invoke(main, ["sweep", "--help"]).output
    assert all(name in text for name in STUDIES if name != "tiny")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table1"], "error: study: 'table1' is not known; did you mean 'table1-cifar'?"),
        (
            ["tiny", "--where", "mnist"],
            "error: where: 'mnist' is no part of the study 'tiny'; choose from digits/digits",
        ),
        (["tiny", "--epochs-scale", "-1"], "error: epochs-scale: -1.0 is not allowed; give a number above 0"),
        (["tiny", "--device", "cudda"], "error: device: 'cudda' cannot be used"),
        (["fig2", "--data-root", "nowhere"], "error: data_root: nowhere/cifar-10-batches-py/data_batch_1 is missing"),
        (["tiny", "--results", "there"], "error: results: there cannot be written to"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_a_message_and_status_2(arguments, message):
    Path("there").mkdir()
    assert message in call(*arguments, expect=2)
    assert not list(Path("runs").rglob("*.jsonl"))


def test_a_run_that_fails_is_named_at_the_end_with_status_2(monkeypatch):
    def settings():
        return [s for s in TINY.settings() if s.parameters["dataset"] == "moons"]

    from sba.studies.planned import Setting, Study

    broken = Study("broken", "", lambda: [Setting({"dataset": "moons", "batch_size": 10**6}), *settings()], seeds=1)
    monkeypatch.setitem(catalogue.STUDIES, "broken", broken)
    lines = call("broken", expect=2).splitlines()
    assert lines[-2].startswith("error: moons-mlp-erm-s0-") and "batch_size: 1000000 exceeds" in lines[-2]
    assert lines[-1] == "1 of 2 runs have no record; the same command goes on"


def test_train_leaves_a_run_alone_that_a_sweep_is_doing():
    words = shlex.split(command_of(CELLS[2].run, "cpu", 1))[3:]
    with claimed(Path("runs") / CELLS[2].run.title):
        result = CliRunner().invoke(main, [*words, "--quiet"])
        assert result.exit_code == 3 and "another process is at work in runs/moons-mlp-isda" in result.output
    assert CliRunner().invoke(main, [*words, "--quiet"]).exit_code == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 3), (signal.SIGKILL, -signal.SIGKILL)])
def test_several_processes_end_with_their_parent(tmp_path, number, status):
    """Ctrl-C, and a kill that the parent cannot tell its processes of."""
    arguments = ["sweep", "omega-eta", "--where", "moons", "--seeds", "1", "--jobs", "2", "--epochs-scale", "0.25"]
    process = context().Process(target=command, args=(tmp_path, arguments, (os.setsid,)))
    process.start()
    limit = threading.Timer(240, os.killpg, (process.pid, signal.SIGKILL))
    limit.start()
    while not ((said := tmp_path / "said").exists() and "\nrecord " in said.read_text()):
        assert process.is_alive(), "it ended without a record"
        time.sleep(0.05)
    # a terminal tells all processes of a Ctrl-C
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    process.join()
    limit.cancel()
    assert process.exitcode == status
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("processes were left")
    assert "Traceback" not in said.read_text()
    assert 1 <= len(stored(tmp_path / "runs")) < 43
