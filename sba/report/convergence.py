"""How long a run took to reach an error (open point 24)."""

from sba.records.schema import TrainRecord

MARGIN = 0.2
"""Percentage points above the baseline's own final error at which a run counts as converged."""


def epochs_to(record: TrainRecord, error: float) -> float:
    """Return the epochs until a run's error first was at most a threshold; all of them if it never was."""
    reached = [epoch.epoch for epoch in record.epochs if epoch.error <= error]
    return float(reached[0] if reached else len(record.epochs))


def seconds_to(record: TrainRecord, error: float | None = None, margin: float = MARGIN) -> float | None:
    """Return the training time until the error first fell to a threshold.

    Args:
        record: of all epochs.
        error: the threshold in per cent; by default the run's own error plus ``margin``.
        margin: in percentage points.

    Returns:
        Seconds of training steps, evaluation left out; None if the run never got there.
    """
    passed = 0.0
    for epoch in record.epochs:
        passed += epoch.seconds
        if epoch.error <= (record.error + margin if error is None else error):
            return passed
    return None
