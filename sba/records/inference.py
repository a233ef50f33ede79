"""How differences between runs are estimated, as pure functions in float64: :mod:`sba.records.judging` judges claims by them.

Values are of shape (n, …): runs first, and all else is tested at once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from sba.records.compare import Runs
from sba.records.schema import RunRecord, TrainRecord

LEVEL = 0.05
"""Probability of a false verdict in a family of claims."""
ROUNDING = 1e-9
"""A standard deviation up to which values are equal."""

Number = float | np.ndarray
"""Of one difference, or of many at once."""


@dataclass(frozen=True)
class Contrast:
    """The mean of one setting minus that of another, and how well it is known."""

    test: str  #: "paired t", "Welch" or "permutation"; "" for one run on a side
    mean: Number  #: in the unit of what is compared
    standard_error: Number  #: of that mean; NaN if it has none
    freedom: Number  #: degrees of freedom of Student's t
    n: int  #: runs of the setting with fewer
    #: over seeds, which pairing used; None without pairing, or if a side does not vary
    correlation: float | None = None
    exact: Number | None = None  #: p-value of a permutation test; None or NaN if it is Student's
    ids: tuple[str, ...] = ()  #: the records of the one setting, then those of the other

    @property
    def p(self) -> Number:
        """Two-sided p-value of no difference; NaN for one run on a side."""
        student = 2 * scipy.stats.t.sf(np.abs(self.mean) / self.standard_error, self.freedom)
        return student if self.exact is None else np.where(np.isnan(self.exact), student, self.exact)

    @property
    def half(self) -> Number:
        """Half the width of the 95 % interval; NaN if there is none."""
        return scipy.stats.t.isf(LEVEL / 2, self.freedom) * self.standard_error

    @property
    def low(self) -> Number:
        """Lower end of the 95 % interval."""
        return self.mean - self.half

    @property
    def high(self) -> Number:
        """Upper end of the 95 % interval."""
        return self.mean + self.half

    def written(self, digits: int = 2) -> str:
        """Write the mean with half of its 95 % interval, the test, the number of runs, and the correlation that pairing used."""
        half = "" if np.isnan(self.half) else f" ± {self.half:.{digits}f}"
        told = [self.test, f"n={self.n}", "" if self.correlation is None else f"r={self.correlation:.2f}"]
        return f"{self.mean:+.{digits}f}{half} ({', '.join(filter(None, told))})".replace("-", "−")

    def __str__(self) -> str:
        return self.written()


def one_image(images: int) -> float:
    """Return what one of so many test images adds to the error, in points: the floor of a standard deviation over runs."""
    return 100 / images


def deviation(values: np.ndarray, floor: float) -> np.ndarray:
    """Return the standard deviation over the first axis, of n − 1 degrees of freedom, and at least the floor.

    It is NaN if it is no more than rounding, so that equal runs without a floor decide nothing.
    """
    found = np.maximum(np.std(values, axis=0, ddof=1), floor)
    return np.where(found > ROUNDING, found, np.nan)


def paired(ours: np.ndarray, theirs: np.ndarray, floor: float = 0.0) -> Contrast:
    """Compare runs of equal seeds, both of shape (n, …), n ≥ 2, in the same order, by the paired t-test; ``floor`` is that of the
    standard deviation of the differences, which equal differences would make 0."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    n, differences = len(ours), ours - theirs
    varies = ours.ndim == 1 and np.ptp(ours) > 0 and np.ptp(theirs) > 0
    correlation = float(np.corrcoef(ours, theirs)[0, 1]) if varies else None
    spread = deviation(differences, floor) / math.sqrt(n)
    return Contrast("paired t", differences.mean(0), spread, n - 1, n, correlation)


def welch(ours: np.ndarray, theirs: np.ndarray, floor: float = 0.0) -> Contrast:
    """Compare independent runs, of shapes (n, …) and (m, …), n, m ≥ 2, by Welch's t-test (Biometrika 34, 1947), with
    Satterthwaite's degrees of freedom; ``floor`` is that of the standard deviation of either."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    n, m = len(ours), len(theirs)
    own, other = deviation(ours, floor) ** 2 / n, deviation(theirs, floor) ** 2 / m
    freedom = (own + other) ** 2 / (own**2 / (n - 1) + other**2 / (m - 1))
    return Contrast("Welch", ours.mean(0) - theirs.mean(0), np.sqrt(own + other), freedom, min(n, m))


def pooled_deviation(groups: Sequence[np.ndarray], floor: float = 0.0) -> np.ndarray:
    """Return the standard deviation of one run, pooled over settings whose runs have the shape (n, …). Floor and NaN are as for
    :func:`deviation`."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(np.var(group, axis=0, ddof=1) * (len(group) - 1) for group in groups)
    found = np.maximum(np.sqrt(squares / freedom), floor)
    return np.where(found > ROUNDING, found, np.nan)


def made_alike(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs share what makes them vary together: seed, kind of device, torch's version and code.

    Records that do not name their code share it with none.
    """
    same = one.versions.get("torch") == other.versions.get("torch") and one.source == other.source != ""
    return same and (one.seed, one.device) == (other.seed, other.device)


TEST_IMAGES = {
    "digits": 599,
    "moons": 2000,
    "cifar10": 10_000,
    "cifar100": 10_000,
    "imagenet": 50_000,
    "imagenette": 3925,
}
"""Size of each test set."""


def error_floor(runs: Runs) -> float:
    """Return the floor of a standard deviation of errors (:func:`one_image`); 0 if the number of images is not known."""
    run = next(iter(runs.values())).run
    images = run.holdout or TEST_IMAGES.get(run.dataset, 0)
    return one_image(images) if images else 0.0


def contrast(
    ours: Runs, theirs: Runs, value: Callable[[TrainRecord], float] | None = None, floor: float | None = None
) -> Contrast | None:
    """Compare two settings: paired if every run of the side with fewer has a partner that was made alike, else by Welch's test.

    Return None without a run on a side; with one run there is a mean alone.

    Args:
        ours: seed → record of the one setting.
        theirs: of the other.
        value: of a record; by default its error in per cent.
        floor: of the standard deviation; by default that of one test image for errors, else 0.
    """
    if not ours or not theirs:
        return None
    pairs = [s for s in sorted(ours.keys() & theirs.keys()) if made_alike(ours[s], theirs[s])]
    alike = len(pairs) == min(len(ours), len(theirs))
    used = [[side[s] for s in (pairs if alike else sorted(side))] for side in (ours, theirs)]
    ids = tuple(r.id for side in used for r in side)
    own, other = (np.array([r.error if value is None else value(r) for r in side], float) for side in used)
    if min(len(own), len(other)) < 2:
        return Contrast("", float(own.mean() - other.mean()), math.nan, math.nan, 1, ids=ids)
    if floor is None:
        floor = error_floor(ours) if value is None else 0.0
    return replace((paired if alike else welch)(own, other, floor), ids=ids)
