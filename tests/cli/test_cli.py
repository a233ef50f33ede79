"""The command line: what it trains, what it writes, how it stops, and what it says to mistakes."""

import signal
import statistics
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from processes import command as said_by
from processes import context

from sba.cli.commands import main
from sba.core.hyper import definitions
from sba.methods import METHODS, SBA, ImplicitSBA
from sba.records.commands import command
from sba.records.file import append, read
from sba.records.schema import parse
from sba.training.checkpoint import FILE
from sba.training.loop import Training

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--dataset", "moons", "--epochs", "6", "--seed", "3"]


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    """Work in an empty folder, and give Python's signal handlers back afterwards."""
    monkeypatch.chdir(tmp_path)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def call(*arguments, expect=0):
    result = CliRunner().invoke(main, ["train", "--quiet", *map(str, arguments)])
    assert result.exit_code == expect, result.output
    assert "Traceback" not in result.output
    return result.output


def interrupt_after(monkeypatch, steps, number):
    """Let a signal arrive while that step is made."""
    step = Training.run_step

    def run_step(self, rows):
        step(self, rows)
        if self.step == steps:
            signal.raise_signal(number)

    monkeypatch.setattr(Training, "run_step", run_step)


def timeless(record):
    content = record.as_json()
    epochs = [{k: v for k, v in e.items() if k != "seconds"} for e in content["epochs"]]
    return {"epochs": epochs, **{k: content[k] for k in ("key", "settings", "error", "error_last", "fingerprint")}}


def test_train_on_digits_appends_a_record_with_the_median_of_the_last_five_errors():
    output = call("--epochs", 6, "--method", "sba", "--eta", 0.1)
    (record,) = read("runs/results.jsonl")
    errors = [e.error for e in record.epochs]
    assert record.error == statistics.median(errors[-5:]) != errors[-1]
    assert record.settings["dataset"] == "digits" and record.settings["method"]["eta"] == 0.1
    assert f"record {record.id} appended" in output and f"{record.error:.2f} %" in output
    assert [p.parent.name[:14] for p in Path("runs").glob(f"*/{FILE}")] == ["digits-digits-"]


def test_a_recorded_run_is_not_recorded_twice():
    call(*SHORT)
    append("runs/results.jsonl", parse({"id": "bench", "kind": "note", "device": "cpu"}))
    assert "has this run already, made by the same code" in call(*SHORT)
    assert len(read("runs/results.jsonl")) == 2
    call(*SHORT, "--lr", 0.2)
    assert len(read("runs/results.jsonl")) == 3


def test_a_run_made_again_with_other_code_is_recorded_again(monkeypatch):
    call(*SHORT)
    monkeypatch.setattr("sba.records.record.SOURCE", "changed")
    call(*SHORT)
    assert [r.source == "changed" for r in read("runs/results.jsonl")] == [False, True]


def test_flags_reach_the_run_and_the_method():
    call(
        *(
            "--dataset",
            "moons",
            "--epochs",
            2,
            "--method",
            "sba",
            "--omega",
            0.5,
            "--folds",
            3,
            "--basis",
            "orthogonal",
        ),
        *(
            "--layers",
            "fc1,flatten",
            "--no-detach",
            "--dropout-rescale",
            "--milestones",
            "1",
            "--nesterov",
            "--lr",
            "0.2",
        ),
        *("--results", "there.jsonl", "--folder", "here", "--amp", "bf16", "--no-channels-last"),
    )
    (record,) = read("there.jsonl")
    settings, method = record.settings, record.settings["method"]
    assert (method["omega"], method["folds"], method["basis"], method["layers"]) == (
        0.5,
        3,
        "orthogonal",
        ["fc1", "flatten"],
    )
    assert (method["detach"], method["dropout_rescale"], method["eta"]) == (False, True, 0.01)
    assert (settings["milestones"], settings["nesterov"], settings["lr"], settings["amp"]) == ([1], True, 0.2, "bf16")
    assert not settings["channels_last"] and Path("here", FILE).exists() and not Path("runs").exists()


def test_every_hyper_parameter_has_a_flag_with_its_range():
    text = CliRunner().invoke(main, ["train", "--help"], terminal_width=500).output
    assert "--omega" in text and "[sba, implicit-sba, sba+isda] angle of the scheduler" in text and "[0, π/2" in text
    assert "[sba, bamboo, sba+isda] virtual points per raw point; an integer in [1, ∞)" in text and "--vote" in text
    assert "[run] raw images per step; an integer in [1, ∞)" in text


def test_an_option_of_two_methods_appears_once_and_names_both():
    options = main.commands["train"].params
    for name in {*definitions(SBA), *definitions(ImplicitSBA)}:
        (option,) = [o for o in options if f"--{name.replace('_', '-')}" in o.opts]
        owners = [m for m, cls in METHODS.items() if name in definitions(cls)]
        assert option.help.startswith(f"[{', '.join(owners)}] {definitions(METHODS[owners[0]])[name].description}")
    flags = [flag for o in options for flag in (*o.opts, *o.secondary_opts)]
    assert len(flags) == len(set(flags))
    text = CliRunner().invoke(main, ["train", "--help"], terminal_width=500).output
    assert text.count("angle of the scheduler") == 1


def test_a_preset_and_what_goes_before_it():
    call("--epochs", 1, "--method", "sba", "--preset", "paper", "--folds", 2, "--detach", "--results", "p.jsonl")
    (record,) = read("p.jsonl")
    method = record.settings["method"]
    assert {name: method[name] for name in ("scale", "dropout_rescale", "detach", "batch_norm", "folds")} == {
        "scale": "absolute", "dropout_rescale": False, "detach": True, "batch_norm": "tracked", "folds": 2
    }  # fmt: skip


def test_the_side_of_cutout_may_be_left_to_its_authors():
    call("--dataset", "digits", "--epochs", 1, "--cutout", "auto")
    assert read("runs/results.jsonl")[0].run.cutout == 4


def test_implicit_sba_trains_and_votes():
    call("--epochs", 1, "--method", "implicit-sba", "--omega", 0, "--expectation", "bound", "--vote")
    (record,) = read("runs/results.jsonl")
    assert record.run.method.name == "implicit-sba"
    assert command(record).endswith(" --device cpu --threads 1 --vote")
    assert 0 <= record.error_vote <= 100 and record.epochs[0].terms["virtual"] > 0


def test_a_finished_run_may_be_given_a_vote_later(monkeypatch):
    call(*SHORT)
    monkeypatch.setattr(Training, "run_step", lambda *_: pytest.fail("a step was made"))
    call(*SHORT, "--vote")
    plain, voted = read("runs/results.jsonl")
    assert plain.key == voted.key and plain.error_vote is None and voted.error_vote is not None
    assert "has this run already" in call(*SHORT, "--vote")


def test_a_vote_that_cannot_be_held_is_refused_before_the_first_step(monkeypatch):
    monkeypatch.setattr("sba.core.bases.DENSE_LIMIT", 1)
    monkeypatch.setattr(Training, "run_step", lambda *_: pytest.fail("a step was made"))
    assert "give basis 'hadamard'" in call("--vote", expect=2)


def test_an_epoch_without_a_cross_entropy_has_a_bar_and_a_record():
    arguments = ["--method", "sba", "--objective", "either_or", "--omega", "0", "--eta", "1", "--folds", "2"]
    output = CliRunner().invoke(main, ["train", *SHORT, *arguments]).output
    assert "virtual=" in output and "cross_entropy=" not in output and "record " in output
    (record,) = read("runs/results.jsonl")
    assert [set(e.terms) for e in record.epochs] == [{"virtual"}] * 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_checkpoint_and_the_same_command_goes_on(monkeypatch, number):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 6, number)  # the second step of the second of six epochs
        output = call(*SHORT, expect=3)
    assert "stopped at step 6; the same command goes on from runs" in output
    assert not Path("runs/results.jsonl").exists()
    call(*SHORT)
    (resumed,) = read("runs/results.jsonl")
    call(*SHORT, "--folder", "other", "--results", "other.jsonl")
    (whole,) = read("other.jsonl")
    assert timeless(resumed) == timeless(whole)


def test_the_bar_counts_the_epochs_of_an_earlier_call(monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 6, signal.SIGINT)
        call(*SHORT, expect=3)
    output = CliRunner().invoke(main, ["train", *SHORT]).output
    assert "1/6" in output and "6/6" in output and "0/6" not in output
    assert "cross_entropy=" in output and "images/s=" in output


def test_an_empty_budget_stops_at_once_and_loses_nothing():
    assert "stopped at step 0" in call(*SHORT, "--budget", 0, expect=3)
    call(*SHORT, "--budget", 60)
    assert len(read("runs/results.jsonl")) == 1


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--compile"],
            "error: compile: compiled stages are slower on a processor (ResNet-44 at 0.7 of the speed; "
            "python -m sba bench --only compiled); "
            "leave it out, or give --device cuda",
        ),
        (["--method", "sba", "--omega", "2"], "error: omega (ω): 2.0 is not allowed; give a number in [0, π/2"),
        (["--method", "sba", "--omega", "nan"], "error: omega (ω): nan is not allowed"),
        (["--method", "sba", "--eta", "-1"], "error: eta (η): -1.0 is not allowed"),
        (["--method", "sba", "--folds", "0"], "error: folds (M): 0 is not allowed"),
        (["--method", "sba", "--layers", "fc9"], "error: layers: there is no layer 'fc9' in this network"),
        (["--omega", "1"], "error: omega: neither a run nor the method 'erm' has this parameter; it belongs to sba"),
        (["--omgea", "1"], "No such option"),
        (
            ["--method", "sba", "--preset", "papr"],
            "error: preset: 'papr' is not known to sba; choose from default, paper",
        ),
        (["--preset", "paper"], "error: preset: 'paper' is not known to erm"),
        (["--method", "sbaa"], "error: method: 'sbaa' is not known"),
        (["--cutout", "-1"], "error: cutout: -1 is not allowed; give auto"),
        (["--cutout", "half"], "'half' is not a valid integer"),
        (["--milestones", "1,x"], "'1,x' is not a list of int separated by commas"),
        (
            ["--dataset", "cifar10", "--data-root", "nowhere"],
            "data_batch_1 is missing (expected md5 c99cafc152244af753f735de768cd75f)",
        ),
        (["--dataset", "mnist"], "error: dataset: 'mnist' is not known"),
        (["--lr", "1e9", "--epochs", "1"], "error: lr: the loss is not finite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_a_message_and_exit_code_2(arguments, message):
    assert message in call(*arguments, expect=2)
    assert not Path("runs/results.jsonl").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu():
    assert "error: device: 'cuda' cannot be used" in call(*SHORT, "--device", "cuda", expect=2)
    assert not Path("runs").exists()


def test_another_configuration_in_the_folder():
    call(*SHORT, "--folder", "mine")
    before = Path("mine", FILE).read_bytes()
    output = call(*SHORT, "--folder", "mine", "--lr", "0.3", expect=2)
    assert "  lr: 0.1 there, 0.3 asked for" in output
    assert Path("mine", FILE).read_bytes() == before


def test_a_results_file_that_cannot_be_written_is_refused_before_the_run():
    Path("taken.jsonl").mkdir()
    assert "error: results: taken.jsonl cannot be written to" in call(*SHORT, "--results", "taken.jsonl", expect=2)
    Path("file").touch()
    assert "error: results: file/x.jsonl cannot be written to" in call(*SHORT, "--results", "file/x.jsonl", expect=2)
    assert "error: folder: file cannot be written to" in call(*SHORT, "--folder", "file", expect=2)
    assert not Path("runs").exists()


def test_a_results_file_that_becomes_unwritable_loses_no_training(monkeypatch):
    monkeypatch.setattr("sba.records.file.check_writable", lambda path: None)
    Path("taken.jsonl").mkdir()
    assert "error: results: taken.jsonl cannot be written to" in call(*SHORT, "--results", "taken.jsonl", expect=2)
    call(*SHORT, "--results", "free.jsonl", "--budget", 0)  # no step is left to make
    assert len(read("free.jsonl")) == 1


def test_a_process_exits_with_2_and_no_traceback(tmp_path):
    arguments = ["train", "--dataset", "cifar10", "--data-root", "empty"]
    process = context().Process(target=said_by, args=(tmp_path, arguments))
    process.start()
    process.join(timeout=120)
    (said,) = (tmp_path / "said").read_text().splitlines()
    assert process.exitcode == 2
    assert said.startswith("error: data_root: empty/cifar-10-batches-py/data_batch_1 is missing")
    assert CliRunner().invoke(main, arguments).stdout == ""


@pytest.mark.filterwarnings("default::sba.records.file.TornRecordWarning")
def test_a_torn_record_is_a_message_of_one_line():
    Path("runs").mkdir()
    Path("runs/results.jsonl").write_text("torn")
    lines = call(*SHORT).splitlines()
    assert (
        "warning: runs/results.jsonl, line 1: not a record (torn by a crash?); left out, and left in the file" in lines
    )
    assert not [line for line in lines if "__main__.py" in line]
    assert Path("runs/results.jsonl").read_text().startswith("torn\n{")
