"""`--jobs auto`: every way to share the processors out is measured, the fastest first."""

import pytest
from click.testing import CliRunner
from processes import context
from tiny_study import CELLS

from sba.cli.commands import main
from sba.core.errors import ConfigError
from sba.records.file import read
from sba.studies import fitting
from sba.training.machine import Machine


def test_every_equal_share_is_measured_side_by_side(monkeypatch):
    forked = context()
    monkeypatch.setattr(fitting.multiprocessing, "get_context", lambda method: forked)
    monkeypatch.setattr(fitting, "cores", lambda: 2)
    found = fitting.fitting(CELLS[0].run, Machine(), seconds=0.2)
    assert set(found) == {(1, 2), (2, 1)} and list(found.values()) == sorted(found.values(), reverse=True)
    assert min(found.values()) > 0


def test_images_a_second_are_counted_from_the_moment_when_all_are_warm(monkeypatch):
    """With a clock that goes a second a step."""
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    waited = []
    monkeypatch.setattr(fitting, "together", type("B", (), {"wait": lambda self: waited.append(0)})())
    run = CELLS[0].run
    training = type("T", (), {"__init__": lambda self, run, machine, stop: setattr(self, "stop", stop)})
    training.__iter__ = lambda self: iter(lambda: self.stop(), True)
    monkeypatch.setattr(fitting, "Training", training)
    # warm at 0; steps end at 1, 2, …, 11 > 10, and the time is looked at again at 12: ten steps were done
    assert fitting.rate(run, Machine(), 10.0) == pytest.approx(10 * run.batch_size / 12)
    assert waited == [0]


def test_the_command_says_what_it_measured_and_does_the_fastest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fitting, "fitting", lambda run, machine: {(1, 2): 300.0, (2, 1): 200.0})
    arguments = ["sweep", "omega-eta", "--where", "moons", "--methods", "erm", "--epochs-scale", "0.01", "--seeds", "1"]
    result = CliRunner().invoke(main, [*arguments, "--jobs", "auto"])
    assert result.exit_code == 0 and "1 x 2 threads: 300 images/s; 2 x 1 threads: 200 images/s" in result.output
    (record,) = read("runs")
    assert record.threads == 2 and record.jobs == 1
    assert CliRunner().invoke(main, [*arguments, "--jobs", "0"]).exit_code == 2


def test_a_card_is_not_measured():
    with pytest.raises(ConfigError, match="jobs: auto measures processors, not the device 'cuda'; give a number"):
        fitting.fitting(CELLS[0].run, Machine(device="cuda"))
