"""Statistics of records: means over seeds and their intervals."""

from collections.abc import Sequence

import numpy as np
import scipy


def half_width(values: np.ndarray) -> np.ndarray:
    """Return half the width of the 95 % interval of a mean (Student's t) over the first axis of values of shape (n, …), without
    those that are NaN: of shape (…), NaN for fewer than two values."""
    n = (~np.isnan(values)).sum(0)
    deviation = np.sqrt(np.nansum((values - mean(values)) ** 2, 0) / np.maximum(n - 1, 1))
    half = scipy.stats.t.ppf(0.975, np.maximum(n - 1, 1)) * deviation / np.sqrt(np.maximum(n, 1))
    return np.where(n > 1, half, np.nan)


def mean(values: np.ndarray) -> np.ndarray:
    """Average over the first axis, leaving out what is NaN; NaN if nothing is left."""
    n = (~np.isnan(values)).sum(0)
    return np.where(n > 0, np.nansum(values, 0) / np.maximum(n, 1), np.nan)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of some values and half the width of its 95 % interval, None for one value."""
    found = np.array(values, float)
    return float(mean(found)), float(half_width(found)) if len(found) > 1 else None
