"""The rules by which differences between runs are judged, as pure functions in float64.

Every verdict needs :data:`MINIMUM` runs on each side. Values are of shape (n, …): runs first, and all else is tested at once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sba.core.errors import require
from sba.records.schema import RunRecord, TrainRecord

MINIMUM = 5
"""Runs on each side below which nothing is decided."""
LEVEL = 0.05
"""Probability of a false verdict in a family of claims."""
NEGLIGIBLE = 0.3
"""Percentage points that make no difference."""
HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
"""What is said of a claim."""
NO_DIFFERENCE = f"no difference larger than {NEGLIGIBLE:g}"
"""What is said of a claim about a sign, if its difference is shown to be smaller than that."""
ROUNDING = 1e-9
"""A standard deviation up to which values are equal."""

Number = float | np.ndarray
"""Of one difference, or of many at once."""


@dataclass(frozen=True)
class Contrast:
    """The mean of one setting minus that of another, and how well it is known.

    Attributes:
        test: "paired t", "Welch" or "pooled t".
        mean: in the unit of what is compared.
        standard_error: of that mean.
        freedom: degrees of freedom of Student's t.
        n: runs of the setting with fewer.
        correlation: over seeds, which pairing used; None without pairing, or if a side does not vary.
    """

    test: str
    mean: Number
    standard_error: Number
    freedom: Number
    n: int
    correlation: float | None = None

    @property
    def p(self) -> Number:
        """Two-sided p-value of no difference."""
        return 2 * stats.t.sf(np.abs(self.mean) / self.standard_error, self.freedom)

    def interval(self, level: float = LEVEL) -> tuple[Number, Number]:
        """Return the ends of the interval that leaves out the true difference with probability ``level``."""
        half = stats.t.isf(level / 2, self.freedom) * self.standard_error
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        low, high = self.interval()
        pairing = "" if self.correlation is None else f", r={self.correlation:.2f}"
        return f"{self.mean:+.2f} ± {(high - low) / 2:.2f} ({self.test}, n={self.n}{pairing})".replace("-", "−")


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
    """Compare runs of equal seeds by the paired t-test.

    Args:
        ours: of the one setting, of shape (n, …), n ≥ 2.
        theirs: of the other, likewise, in the same order of seeds.
        floor: of the standard deviation of the differences, which equal differences would make 0.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    n, differences = len(ours), ours - theirs
    varies = ours.ndim == 1 and np.ptp(ours) > 0 and np.ptp(theirs) > 0
    correlation = float(np.corrcoef(ours, theirs)[0, 1]) if varies else None
    spread = deviation(differences, floor) / math.sqrt(n)
    return Contrast("paired t", differences.mean(0), spread, n - 1, n, correlation)


def welch(ours: np.ndarray, theirs: np.ndarray, floor: float = 0.0) -> Contrast:
    """Compare independent runs by Welch's t-test (Biometrika 34, 1947), with Satterthwaite's degrees of freedom.

    Args:
        ours: of the one setting, of shape (n, …), n ≥ 2.
        theirs: of the other, of shape (m, …), m ≥ 2.
        floor: of the standard deviation of either.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    n, m = len(ours), len(theirs)
    own, other = deviation(ours, floor) ** 2 / n, deviation(theirs, floor) ** 2 / m
    freedom = (own + other) ** 2 / (own**2 / (n - 1) + other**2 / (m - 1))
    return Contrast("Welch", ours.mean(0) - theirs.mean(0), np.sqrt(own + other), freedom, min(n, m))


def pooled_deviation(groups: Sequence[np.ndarray], floor: float = 0.0) -> tuple[np.ndarray, int]:
    """Return the standard deviation of one run, pooled over settings whose runs have the shape (n, …), and its degrees of
    freedom. Floor and NaN are as for :func:`deviation`."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(np.var(group, axis=0, ddof=1) * (len(group) - 1) for group in groups)
    found = np.maximum(np.sqrt(squares / freedom), floor)
    return np.where(found > ROUNDING, found, np.nan), freedom


def pooled(ours: np.ndarray, theirs: np.ndarray, spread: Number, freedom: int) -> Contrast:
    """Compare independent runs by a standard deviation that more settings than these two share (:func:`pooled_deviation`)."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    error = spread * math.sqrt(1 / len(ours) + 1 / len(theirs))
    return Contrast("pooled t", ours.mean(0) - theirs.mean(0), error, freedom, min(len(ours), len(theirs)))


def made_alike(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs share what makes them vary together: seed, kind of device, torch's version and code.

    Records that do not name their code share it with none.
    """
    same = one.versions.get("torch") == other.versions.get("torch") and one.source == other.source != ""
    return same and (one.seed, one.device) == (other.seed, other.device)


def contrast(
    ours: Mapping[int, TrainRecord],
    theirs: Mapping[int, TrainRecord],
    value: Callable[[TrainRecord], float] = lambda record: record.error,
    floor: float = 0.0,
) -> Contrast | None:
    """Compare two settings: paired if every run has a partner that was made alike, else by Welch's test.

    Args:
        ours: seed → record of the one setting.
        theirs: of the other.
        value: of a record; by default its error in per cent.
        floor: of the standard deviation, as :func:`one_image`.

    Returns:
        None for fewer than two runs on a side.
    """
    if min(len(ours), len(theirs)) < 2:
        return None
    alike = ours.keys() == theirs.keys() and all(made_alike(ours[seed], theirs[seed]) for seed in ours)
    own, other = (np.array([value(side[seed]) for seed in sorted(side)], float) for side in (ours, theirs))
    return (paired if alike else welch)(own, other, floor)


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p-values of a family: with them, one false rejection or more has at most the level's probability.

    Holm, Scandinavian Journal of Statistics 6 (1979); ``statsmodels.stats.multitest.multipletests``.
    """
    require(__name__, "train", "statsmodels")
    # imported late, since it takes a second
    from statsmodels.stats.multitest import multipletests

    return [float(q) for q in multipletests(p, method="holm")[1]] if len(p) else []


def equivalence_p(found: Contrast, centre: float = 0.0, margin: float = NEGLIGIBLE) -> Number:
    """Return the p-value of two one-sided tests (Schuirmann, 1987): small if the difference lies within a margin of ``centre``."""
    above = stats.t.sf((found.mean - centre + margin) / found.standard_error, found.freedom)
    below = stats.t.cdf((found.mean - centre - margin) / found.standard_error, found.freedom)
    return np.maximum(above, below)


def beyond_p(found: Contrast, centre: float = 0.0, margin: float = NEGLIGIBLE) -> Number:
    """Return the two-sided p-value of a difference within a margin of ``centre``: small if it lies outside."""
    outside = np.maximum(np.abs(found.mean - centre) - margin, 0.0)
    return np.minimum(1.0, 2 * stats.t.sf(outside / found.standard_error, found.freedom))


def sign_verdict(found: Contrast, p: Number | None = None, equivalent: Number | None = None) -> str:
    """Judge the claim that a difference is below 0.

    Args:
        found: the difference.
        p: corrected in the family of the claim (:func:`holm`); by default that of the difference alone.
        equivalent: p-value of :func:`equivalence_p`, corrected likewise; by default that of the difference alone.

    Returns:
        :data:`HOLDS`, :data:`FAILS`, :data:`NO_DIFFERENCE` or :data:`OPEN`.
    """
    p = found.p if p is None else p
    equivalent = equivalence_p(found) if equivalent is None else equivalent
    if found.n < MINIMUM:
        return OPEN
    if p <= LEVEL:
        return HOLDS if found.mean < 0 else FAILS
    return NO_DIFFERENCE if equivalent <= LEVEL else OPEN


def size_verdict(found: Contrast, claimed: float, within: Number | None = None, beyond: Number | None = None) -> str:
    """Judge the claim that a difference is ``claimed``, to the margin :data:`NEGLIGIBLE`.

    Args:
        found: the difference.
        claimed: by the paper, in points.
        within: p-value of :func:`equivalence_p` about ``claimed``, corrected in its family; by default that alone.
        beyond: p-value of :func:`beyond_p`, likewise.

    Returns:
        :data:`HOLDS` if it is within the margin, :data:`FAILS` if it is not, else :data:`OPEN`.
    """
    within = equivalence_p(found, claimed) if within is None else within
    beyond = beyond_p(found, claimed) if beyond is None else beyond
    if found.n < MINIMUM:
        return OPEN
    return HOLDS if within <= LEVEL else FAILS if beyond <= LEVEL else OPEN


def dunnett_p(control: np.ndarray, rivals: Sequence[np.ndarray], floor: float = 0.0) -> list[float]:
    """Compare each rival with the control and return p-values corrected for their number (Dunnett, JASA 50, 1955).

    Runs at equal seeds count as independent: a seed that moves all settings alike makes the test stricter.

    Args:
        control: runs of the adopted setting, of shape (n,).
        rivals: runs of each other, likewise.
        floor: of the standard deviation of one run, which is pooled.
    """
    groups = [np.asarray(group, float) for group in (control, *rivals)]
    spread, _ = pooled_deviation(groups, floor)
    if np.isnan(spread):
        return [math.nan] * len(rivals)
    # the test sees means, numbers and the pooled deviation alone, which may be the floor
    ranks = [np.arange(len(group)) - (len(group) - 1) / 2 for group in groups]
    alike = [g.mean() + spread * r / r.std(ddof=1) for g, r in zip(groups, ranks, strict=True)]
    # a fixed seed, since its integral is drawn at random
    return [float(p) for p in stats.dunnett(*alike[1:], control=alike[0], random_state=0).pvalue]


def lowest_verdict(control: np.ndarray, rivals: Sequence[np.ndarray], floor: float = 0.0) -> str:
    """Judge the claim that the control has the lowest mean: it holds if all rivals are higher, not if one is lower
    (:func:`dunnett_p`)."""
    if min(len(control), *map(len, rivals)) < MINIMUM:
        return OPEN
    verdicts = [
        OPEN if not p <= LEVEL else HOLDS if np.mean(control) < np.mean(rival) else FAILS
        for p, rival in zip(dunnett_p(control, rivals, floor), rivals, strict=True)
    ]
    return FAILS if FAILS in verdicts else HOLDS if set(verdicts) == {HOLDS} else OPEN
