"""The rules by which claims about differences between runs are judged: at a level for a family, with a least number of runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from sba.records.inference import LEVEL, Contrast, Number, pooled_deviation

MINIMUM = 5
"""Runs on each side below which nothing is decided."""
NEGLIGIBLE = 0.3
"""Percentage points that make no difference."""
HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "open", "not run"
"""What is said of a claim."""
NO_DIFFERENCE = f"no difference larger than {NEGLIGIBLE:g} points"
"""What is said of a claim about a sign, if its difference is shown to be smaller than that."""


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p-values of a family: with them, one false rejection or more has at most the level's probability.

    Holm, Scandinavian Journal of Statistics 6 (1979). By hand, since statsmodels' ``multipletests`` collects the whole process's
    garbage at every call, which takes longer than all other statistics of a chapter; a test holds the two equal.
    """
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(q) for q in corrected]


def equivalence_p(found: Contrast, centre: Number = 0.0, margin: float = NEGLIGIBLE) -> Number:
    """Return the p-value of two one-sided tests (Schuirmann, 1987): small if the difference lies within a margin of ``centre``."""
    above = scipy.stats.t.sf((found.mean - centre + margin) / found.standard_error, found.freedom)
    below = scipy.stats.t.cdf((found.mean - centre - margin) / found.standard_error, found.freedom)
    return np.maximum(above, below)


def beyond_p(found: Contrast, centre: Number = 0.0, margin: float = NEGLIGIBLE) -> Number:
    """Return the two-sided p-value of a difference within a margin of ``centre``: small if it lies outside."""
    outside = np.maximum(np.abs(found.mean - centre) - margin, 0.0)
    return np.minimum(1.0, 2 * scipy.stats.t.sf(outside / found.standard_error, found.freedom))


@dataclass(frozen=True)
class Judgement:
    """What is said of a claim, and the p-value that decides it, corrected in the claim's family."""

    verdict: str
    p: float


def judgement(found: Contrast | None, p: float, *verdicts: tuple[str, float]) -> Judgement:
    """Judge a claim about a difference: the first of ``verdicts`` whose p-value is at most the level, else :data:`OPEN` with ``p``;
    :data:`NOT_RUN` without a difference, and open with fewer than :data:`MINIMUM` runs."""
    if found is None:
        return Judgement(NOT_RUN, p)
    sure = [Judgement(*one) for one in verdicts if one[1] <= LEVEL and found.n >= MINIMUM]
    return sure[0] if sure else Judgement(OPEN, p)


UNTESTED = Contrast("", math.nan, math.nan, math.nan, 0)


def corrected(
    family: Sequence[Contrast | None], p: Callable[[Contrast], Number] = lambda together: together.p
) -> list[float]:
    """Correct the p-values of a family by Holm's method.

    A claim that has fewer runs than :data:`MINIMUM`, or no spread, counts with p = 1. So a verdict that is reached stays, however
    many claims are decided later. A family has the difference of each claim, None if it was not run; ``p`` leads from the
    differences, as one of arrays, to their p-values: by default those of no difference.
    """
    tested = [c if c is not None and c.n >= MINIMUM else UNTESTED for c in family]
    mean, error, freedom, exact = (
        np.array([getattr(c, name) for c in tested], float) for name in ("mean", "standard_error", "freedom", "exact")
    )
    found = np.asarray(p(Contrast("", mean, error, freedom, 0, exact=exact)), float)
    return holm(np.where(np.isnan(found), 1.0, found).tolist())


def judge_signs(family: Sequence[Contrast | None], margin: float | None = NEGLIGIBLE) -> list[Judgement]:
    """Judge the claims of a family that a difference is below 0: :data:`HOLDS`, :data:`FAILS` if it is above,
    :data:`NO_DIFFERENCE`, or what else :func:`judgement` says.

    Verdicts on a sign are one family, "no difference" is another. ``margin`` makes no difference; it is None for a unit that has
    none, and no such verdict.
    """
    equals = [1.0] * len(family) if margin is None else corrected(family, lambda c: equivalence_p(c, margin=margin))
    return [
        judgement(c, p, (HOLDS if c is not None and c.mean < 0 else FAILS, p), (NO_DIFFERENCE, equal))
        for c, p, equal in zip(family, corrected(family), equals, strict=True)
    ]


def judge_sizes(family: Sequence[Contrast | None], claimed: Sequence[float]) -> list[Judgement]:
    """Judge the claims of a family that a difference is the one claimed: :data:`HOLDS` if it is so to the margin
    :data:`NEGLIGIBLE`, :data:`FAILS` if it is not, or what else :func:`judgement` says."""
    centres = np.array(claimed, float)
    within = corrected(family, lambda c: equivalence_p(c, centres))
    beyond = corrected(family, lambda c: beyond_p(c, centres))
    judged = zip(family, within, beyond, strict=True)
    return [judgement(c, far, (HOLDS, near), (FAILS, far)) for c, near, far in judged]


def dunnett_p(control: np.ndarray, rivals: Sequence[np.ndarray], floor: float = 0.0) -> list[float]:
    """Compare each rival with the control and return p-values corrected for their number (Dunnett, JASA 50, 1955).

    The sides are runs of the adopted setting, of shape (n,), and of each other; ``floor`` is that of the standard deviation of one
    run, which is pooled. Runs at equal seeds count as independent: a seed that moves all settings alike makes the test stricter.
    """
    groups = [np.asarray(group, float) for group in (control, *rivals)]
    spread = pooled_deviation(groups, floor)
    if np.isnan(spread):
        return [math.nan] * len(rivals)
    # the test sees means, numbers and the pooled deviation alone, which may be the floor
    ranks = [np.arange(len(group)) - (len(group) - 1) / 2 for group in groups]
    alike = [g.mean() + spread * r / r.std(ddof=1) for g, r in zip(groups, ranks, strict=True)]
    # a fixed seed, since its integral is drawn at random
    return [float(p) for p in scipy.stats.dunnett(*alike[1:], control=alike[0], random_state=0).pvalue]


def judge_lowest(control: np.ndarray, rivals: Sequence[np.ndarray], floor: float = 0.0) -> Judgement:
    """Judge the claim that the control has the lowest mean: it holds if all rivals are higher, not if one is lower
    (:func:`dunnett_p`). The p-value is the one that decides: of the nearest rival, or of the one that is lower."""
    if min(len(control), *map(len, rivals)) < MINIMUM:
        return Judgement(OPEN, 1.0)
    found = dunnett_p(control, rivals, floor)
    if np.isnan(found).any():
        return Judgement(OPEN, 1.0)
    lower = [p for p, rival in zip(found, rivals, strict=True) if np.mean(rival) < np.mean(control)]
    if lower and min(lower) <= LEVEL:
        return Judgement(FAILS, min(lower))
    return Judgement(HOLDS if max(found) <= LEVEL and not lower else OPEN, max(found))
