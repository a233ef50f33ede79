"""A run that was stopped goes on as if it had not been."""

import pytest
from helpers import after, assert_same, in_parts, whole

from sba import train


@pytest.mark.parametrize("steps", [1, 4, 6, 7])
def test_resume_equals_the_uninterrupted_run_bit_for_bit(run, small, tmp_path, steps):
    """Stopped within an epoch, at its end, and several times."""
    settings = run(method="sba", eta=0.1, milestones=(1,))
    resumed, parts = in_parts(settings, small, tmp_path, steps)
    assert parts >= 12 // steps
    assert_same(resumed, whole(settings, small))


def test_resume_with_dropout_and_batch_norm_is_bit_for_bit(run, small, deep, tmp_path):
    settings = run(method="sba", eta=0.1, omega=0.3, nesterov=True)
    resumed, _ = in_parts(settings, small, tmp_path, 5)
    assert_same(resumed, whole(settings, small))


def test_resume_by_budget(run, small, tmp_path):
    """A budget of nothing makes no step and loses none; the next call without one finishes."""
    settings = run()
    first = train(settings, small, folder=tmp_path, stop=after(8))
    assert [r.epoch for r in first] == [1] and first.step == 8
    second = train(settings, small, folder=tmp_path, budget=0)
    assert [r.epoch for r in second] == [1] and (second.step, second.finished) == (8, False)
    third = train(settings, small, folder=tmp_path, budget=60)
    assert [r.epoch for r in third] == [1, 2] and third.finished
    assert_same(third, whole(settings, small))


def test_a_finished_run_is_read_back_without_a_step(run, small, tmp_path):
    first = train(run(), small, folder=tmp_path)
    list(first)
    again = train(run(), small, folder=tmp_path, stop=lambda: pytest.fail("a step was about to be made"))
    assert again.finished and list(again) == first.history
    assert_same(again, first)


def test_a_checkpoint_is_written_now_and_then(run, small, tmp_path, monkeypatch):
    """What was killed between two epochs goes on after the last one that was saved."""
    monkeypatch.setattr("sba.training.loop.SAVE_SECONDS", -1.0)
    next(iter(train(run(), small, folder=tmp_path)))
    resumed = train(run(), small, folder=tmp_path)
    assert (len(resumed.history), resumed.step) == (1, 6)
    list(resumed)
    assert_same(resumed, whole(run(), small))


def test_seconds_are_added_up_over_the_parts(run, small, tmp_path):
    first = train(run(epochs=1), small, folder=tmp_path, stop=after(3))
    list(first)
    second = train(run(epochs=1), small, folder=tmp_path)
    assert 0 < first.tally.seconds == second.tally.seconds
    assert next(iter(second)).seconds > first.tally.seconds


def test_the_networks_mode_between_epochs_does_not_matter(run, small, deep):
    training = train(run(), small)
    for _ in training:
        training.network.eval()
    assert_same(training, whole(run(), small))


def test_iterating_again_goes_on(run, small):
    training = train(run(), small, stop=after(2))
    assert list(training) == []
    training.stop = lambda: False
    assert len(list(training)) == 2
    assert_same(training, whole(run(), small))
