"""Statistics of records: means over seeds and their intervals."""

import statistics
from collections.abc import Sequence

from scipy import stats


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of some values and half the width of its 95 % interval (Student's t), None for one value."""
    n = len(values)
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5 if n > 1 else None
    return statistics.mean(values), half
