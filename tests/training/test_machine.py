"""What a run is done with: told once, refused by name, and no part of the run."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sba import train
from sba.cli.commands import main
from sba.core.errors import ConfigError
from sba.core.hyper import definitions
from sba.data.datasets import DataCache
from sba.training.machine import Machine


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workers": -1}, r"workers: -1 is not allowed; give an integer in \[0, ∞\)"),
        ({"threads": 0}, r"threads: 0 is not allowed; give an integer in \[1, ∞\)"),
        ({"graphs": "perhaps"}, "graphs: 'perhaps' is not allowed; give true or false"),
        ({"devise": "cpu"}, r"devise: train\(\) has no such option; did you mean 'device'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(run, small, fields, message):
    with pytest.raises(ConfigError, match=message):
        train(run(), small, **fields)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:", ""])
def test_a_device_that_is_none_is_refused_before_the_data_are_loaded(run, name):
    with pytest.raises(ConfigError, match=f"device: {name!r} cannot be used .*; give --device cpu"):
        train(run(), device=name, data_root="nowhere")


def test_keywords_and_a_machine_are_two_ways_to_say_the_same(run, small):
    given = ({}, {"device": torch.device("cpu")}, {"device": "cpu", "workers": 1}, {"machine": Machine(workers=1)})
    ways = [train(run(), small, **way) for way in given]
    assert len({tuple(r.nll for r in training) for training in ways}) == 1
    with pytest.raises(ConfigError, match="machine: it is given beside device; give one or the other"):
        train(run(), small, machine=Machine(), device="cpu")


def test_threads_are_set_and_left_alone_if_none_are_given(run, small):
    train(run(), small, threads=2)
    assert torch.get_num_threads() == 2
    train(run(), small)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_every_field_is_an_option_of_both_commands(verb):
    help_text = CliRunner().invoke(main, [verb, "--help"], terminal_width=500).output
    for name, field in definitions(Machine).items():
        flag = {"compiled": "compile"}.get(name, name).replace("_", "-")
        assert f"--{flag}" in help_text and field.description in help_text
    assert "1 by default" in help_text if verb == "sweep" else "1 by default" not in help_text


def test_options_reach_the_machine(monkeypatch):
    seen = []
    monkeypatch.setattr("sba.cli.commands.train_once", lambda run, *_, **options: seen.append(options) or ("", 0))
    monkeypatch.setattr(Machine, "prepare", lambda self: torch.device("cpu"))
    monkeypatch.setattr("sba.studies.sweep.Sweep", lambda *given: seen.append({"machine": given[3]}))
    given = [
        "--device",
        "cuda",
        "--threads",
        "3",
        "--workers",
        "2",
        "--compile",
        "--no-graphs",
        "--data-root",
        "there",
        "--download",
    ]
    wanted = Machine(
        device="cuda", threads=3, workers=2, compiled=True, graphs=False, data_root=Path("there"), download=True
    )
    assert CliRunner().invoke(main, ["train", *given]).exit_code == 0
    CliRunner().invoke(main, ["sweep", "fig2", *given])
    assert [options["machine"] for options in seen] == [wanted, wanted]


def test_data_are_loaded_once_in_a_process():
    cache = DataCache(Path("there"))
    assert cache("digits") is cache("digits") is not cache("digits", 10)
