"""How fast a run reached an error is read off its epochs."""

from helpers import changed, epochs, record

from sba.report.convergence import epochs_to, seconds_to


def test_seconds_and_epochs_to_an_error_are_those_until_then():
    run = changed(record(20.6), epochs=epochs([50.0, 30.0, 21.1, 20.4, 20.6], seconds=2.0))
    assert seconds_to(run, 30.0) == 4.0
    assert seconds_to(run) == 8.0
    assert seconds_to(run, margin=0.5) == 6.0
    assert seconds_to(run, 5.0) is None
    assert (epochs_to(run, 30.0), epochs_to(run, 5.0)) == (2, 5)
