"""Convergence: which runs reach an error that was fixed in advance, and when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from sba.records.inference import Contrast


@dataclass(frozen=True)
class Arrivals:
    """When the runs of a setting first reached a threshold."""

    epochs: np.ndarray  #: of shape (n,), from 1; that of the horizon for a run that did not reach it by then
    reached: np.ndarray  #: of shape (n,); false where the epoch is censored
    horizon: int  #: the last epoch that counts

    @property
    def share(self) -> float:
        """Share of runs that reach the threshold."""
        return float(self.reached.mean())

    @property
    def restricted_mean(self) -> float:
        """Mean over runs of the epochs below the horizon that pass before the threshold is reached.

        It is the area under Kaplan and Meier's curve, since no run is censored before the horizon (Royston and Parmar, 2013).
        """
        return float(self.epochs.mean())


def arrivals(curves: Sequence[Sequence[float]], threshold: float, horizon: int) -> Arrivals:
    """Find when each run first has an error of at most the threshold; the last epoch counts. A run that ends before the horizon
    without an arrival raises a ``ValueError``.

    Args:
        curves: the error of every epoch, of each run, in per cent.
        threshold: the same for every setting, and fixed before the first run.
        horizon: the epochs of the regime.
    """
    epochs, reached = [], []
    for curve in curves:
        below = np.flatnonzero(np.asarray(curve[:horizon], float) <= threshold)
        if not len(below) and len(curve) < horizon:
            raise ValueError(f"curves: a run has {len(curve)} of {horizon} epochs and never reached {threshold:g}")
        epochs.append(int(below[0]) + 1 if len(below) else horizon)
        reached.append(len(below) > 0)
    return Arrivals(np.array(epochs, float), np.array(reached), horizon)


def sooner(ours: Arrivals, theirs: Arrivals) -> Contrast:
    """Compare times until a threshold by a permutation test of the difference of restricted means, below 0 if ours is sooner.

    All splits are tried if there are at most 9,999 (Horiguchi and Uno, 2020). Runs are not paired: with five pairs the least
    p-value would be 0.06. Horizons that differ raise a ``ValueError``.
    """
    if ours.horizon != theirs.horizon:
        raise ValueError(f"horizon: {ours.horizon} and {theirs.horizon} epochs cannot be compared")
    n, difference = min(len(ours.epochs), len(theirs.epochs)), ours.restricted_mean - theirs.restricted_mean
    if n < 2:
        return Contrast("", difference, math.nan, math.nan, n)
    found = scipy.stats.permutation_test(
        (ours.epochs, theirs.epochs),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        permutation_type="independent",
        vectorized=True,
        random_state=0,
    )
    return Contrast("permutation", difference, math.nan, math.nan, n, exact=float(found.pvalue))
