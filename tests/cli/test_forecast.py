"""What is left of a sweep, in epochs and in time."""

import pytest

from sba import make_run
from sba.cli.forecast import Forecast, spoken
from sba.studies.sweep import Event

PLAIN = [make_run(epochs=10, seed=s) for s in range(3)]
OTHER = make_run("moons", epochs=100)


def follow(forecast, cell, epochs, seconds, start=0.0, first=0):
    forecast.note(Event("started", cell, first), start)
    for i in range(1, epochs + 1):
        forecast.note(Event("epoch", cell, first + i), start + i * seconds)


def test_nothing_is_known_before_the_first_epoch():
    forecast = Forecast(PLAIN, [0, 1, 2], 1)
    assert forecast.runs_left == 3 and forecast.remaining is None
    forecast.note(Event("started", 0, 0), 0.0)
    assert forecast.remaining is None


def test_what_is_left_is_epochs_times_their_time_shared_by_the_processes():
    for jobs, expected in ((1, 6 * 2.0 + 10 * 2.0), (2, 20.0), (5, 20.0)):
        forecast = Forecast(PLAIN, [0, 2], jobs)
        follow(forecast, 0, 4, 2.0)
        # the last run is not shared
        assert forecast.remaining == pytest.approx(max(expected, 20.0) if jobs > 1 else expected)


def test_a_run_taken_up_again_lacks_only_its_later_epochs():
    forecast = Forecast(PLAIN, [0], 1)
    follow(forecast, 0, 1, 3.0, first=7)
    assert forecast.remaining == pytest.approx(2 * 3.0)


def test_the_most_alike_epochs_count():
    forecast = Forecast([*PLAIN, OTHER], [0, 1, 3], 1)
    follow(forecast, 0, 10, 1.0)
    forecast.note(Event("done", 0, 10), 10.0)
    assert forecast.runs_left == 2
    assert forecast.remaining == pytest.approx(10 * 1.0 + 100 * 1.0)
    follow(forecast, 3, 50, 0.1, start=10.0)
    assert forecast.remaining == pytest.approx(10 * 1.0 + 50 * 0.1)


def test_what_is_done_elsewhere_or_given_up_is_not_left():
    forecast = Forecast(PLAIN, [0, 1, 2], 1)
    follow(forecast, 0, 5, 1.0)
    for kind, cell in (("found", 1), ("failed", 2)):
        forecast.note(Event(kind, cell), 6.0)
    assert forecast.remaining == pytest.approx(5.0)
    forecast.note(Event("stopped", 0, 5), 7.0)
    assert forecast.runs_left == 1 and forecast.remaining == pytest.approx(5.0)
    forecast.note(Event("done", 0, 10), 8.0)
    assert forecast.remaining == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (5430, "1 h 30 min"),
        (86460, "24 h 01 min"),
    ],
)
def test_a_duration_as_people_say_it(seconds, text):
    assert spoken(seconds) == text
