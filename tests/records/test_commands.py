"""A record leads back to the run it came from."""

import itertools
import shlex

import pytest
from click.testing import CliRunner
from helpers import content
from hypothesis import given, settings
from hypothesis import strategies as st

from sba import make_run
from sba.cli.commands import main
from sba.core.errors import ConfigError
from sba.records import commands
from sba.records.schema import parse


@pytest.mark.parametrize(
    "run",
    [
        make_run("cifar10", "alexnet"),
        make_run("cifar10", "alexnet", "sba", epochs=30, seed=3, eta=0.1, folds=40, dropout_rescale=False),
        make_run(
            "digits", None, "sba", layers=("flatten", "fc1"), lr=0.01, milestones=(3, 7), epochs=9, channels_last=False
        ),
        make_run("moons", None, "erm", nesterov=True, batch_size=20),
        make_run("digits", None, "sba", preset="paper", eta=0.3),
        make_run(
            "digits",
            "digits_dropout",
            "sba",
            teacher="evaluation",
            virtual_dropout=False,
            update="sequential_fresh",
            batch_norm="running",
            basis="hadamard",
            scale="running",
        ),
        make_run("digits", None, "sba", objective="either_or", schedule="epoch"),
        make_run("digits", None, "implicit-sba", omega=0.2, expectation="bound", gaussian_share=0.25, epochs=2),
    ],
    ids=["defaults", "sba", "lists", "switches", "preset", "readings", "either", "implicit"],
)
def test_the_command_gives_the_run_back(run, monkeypatch):
    text = commands.command(parse(content(run, device="cpu", threads=3)))
    assert text.startswith("python -m sba train ")
    seen = []

    def note(run, **options):
        seen.append(run)
        raise ConfigError("enough")

    monkeypatch.setattr("sba.training.loop.Training", note)
    CliRunner().invoke(main, shlex.split(text)[3:])
    assert seen == [run]
    assert text.endswith(" --device cpu --threads 3")


def test_a_gpu_run_names_no_threads():
    text = commands.command(parse(content(make_run(), device="cuda", threads=3)))
    assert text.endswith(" --device cuda")


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1.5), st.floats(0, 10), st.integers(1, 64), st.booleans())
def test_numbers_survive_the_command_line(omega, eta, folds, detach):
    run = make_run("digits", None, "sba", omega=omega, eta=eta, folds=folds, detach=detach)
    words = shlex.split(commands.command(parse(content(run, device="cpu", threads=3))))
    told = dict(itertools.pairwise(words))
    for name, value in (("omega", omega), ("eta", eta), ("folds", folds)):
        if f"--{name}" in told:
            assert type(value)(told[f"--{name}"]) == value
        else:
            assert value == getattr(make_run("digits", None, "sba").method, name)
    assert ("--no-detach" in words) == (not detach)


def test_the_command_of_several_processes_starts_as_many():
    text = commands.command(parse(content(make_run(), device="cuda", processes=2)))
    assert text.startswith("torchrun --nproc-per-node 2 -m sba train --dataset digits ")
