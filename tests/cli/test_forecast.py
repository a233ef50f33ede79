"""What is left of a sweep, in epochs and in time."""

import pytest

from sba import make_run
from sba.cli.forecast import Forecast
from sba.studies.jobs import Event

PLAIN = [make_run(epochs=10, seed=s) for s in range(3)]
OTHER = make_run("moons", epochs=100)


def follow(forecast, cell, epochs, seconds, first=0):
    forecast.note(Event("started", cell, first, resumed=first > 0))
    for i in range(1, epochs + 1):
        forecast.note(Event("epoch", cell, first + i, seconds=seconds))


def test_nothing_is_known_before_the_first_epoch():
    forecast = Forecast(PLAIN, [0, 1, 2], 1)
    assert len(forecast.epochs) == 3 and forecast.remaining is None
    forecast.note(Event("started", 0, 0))
    assert forecast.remaining is None


def test_what_is_left_is_epochs_times_their_time_shared_by_the_processes():
    # a run is not shared
    for slots, expected in ((1, 6 * 2.0 + 10 * 2.0), (2, 20.0), (5, 20.0)):
        forecast = Forecast(PLAIN, [0, 2], slots)
        follow(forecast, 0, 4, 2.0)
        assert forecast.remaining == pytest.approx(expected)


def test_a_run_taken_up_again_lacks_only_its_later_epochs_and_its_first_one_may_be_a_rest():
    forecast = Forecast(PLAIN, [0], 1)
    follow(forecast, 0, 1, 0.5, first=6)
    assert forecast.remaining is None
    forecast.note(Event("epoch", 0, 8, seconds=3.0))
    assert forecast.remaining == pytest.approx(2 * 3.0)


def test_the_rest_of_a_first_epoch_is_none_either_and_a_run_that_begins_anew_has_whole_ones():
    forecast = Forecast(PLAIN, [0], 1)
    forecast.note(Event("started", 0, 0, resumed=True))
    forecast.note(Event("epoch", 0, 1, seconds=0.5))
    assert forecast.remaining is None
    forecast.note(Event("started", 0, 1, resumed=True))
    forecast.note(Event("started", 0, 0))
    forecast.note(Event("epoch", 0, 1, seconds=3.0))
    assert forecast.remaining == pytest.approx(9 * 3.0)


def test_the_most_alike_epochs_count():
    forecast = Forecast([*PLAIN, OTHER], [0, 1, 3], 1)
    follow(forecast, 0, 10, 1.0)
    forecast.note(Event("done", 0, 10))
    assert len(forecast.epochs) == 2
    assert forecast.remaining == pytest.approx(10 * 1.0 + 100 * 1.0)
    follow(forecast, 3, 50, 0.1)
    assert forecast.remaining == pytest.approx(10 * 1.0 + 50 * 0.1)


def test_what_is_done_elsewhere_or_given_up_is_not_left():
    forecast = Forecast(PLAIN, [0, 1, 2], 1)
    follow(forecast, 0, 5, 1.0)
    for kind, cell in (("found", 1), ("failed", 2)):
        forecast.note(Event(kind, cell))
    assert forecast.remaining == pytest.approx(5.0)
    forecast.note(Event("stopped", 0, 5))
    assert len(forecast.epochs) == 1 and forecast.remaining == pytest.approx(5.0)
    forecast.note(Event("done", 0, 10))
    assert forecast.remaining == 0.0
