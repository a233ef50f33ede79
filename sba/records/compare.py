"""Two settings compared at equal seeds: the runs share initialisation, order of the data and augmentation, so that their difference
varies less than either."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sba.records.schema import Record, TrainRecord, setting_of
from sba.records.stats import interval
from sba.training.run import make_run

Runs = Mapping[int, TrainRecord]
"""Seed → record."""
Index = Mapping[str, Runs]
"""What runs have in common that differ in the seed alone (:attr:`sba.records.schema.RunRecord.setting`) → seed → record."""


@dataclass(frozen=True)
class Difference:
    """The mean of one setting minus the other over seeds.

    Attributes:
        mean: in the unit of what is compared.
        half: half the width of its 95 % interval (Student's t), None for one seed.
        n: number of seeds.
        ids: the records of the one setting, then those of the other.
    """

    mean: float
    half: float | None
    n: int
    ids: tuple[str, ...]

    @property
    def low(self) -> float:
        """Lower end of the interval; −∞ for one seed."""
        return -math.inf if self.half is None else self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval; ∞ for one seed."""
        return math.inf if self.half is None else self.mean + self.half

    def __str__(self) -> str:
        spread = "" if self.half is None else f" ± {self.half:.2f}"
        return f"{self.mean:+.2f}{spread} (n={self.n})".replace("-", "−")


def indexed(records: Iterable[Record]) -> Index:
    """Index the finished runs by setting and seed. Of equal runs the first one counts, and results of the book's tables come before
    those of a study."""
    found: dict[str, dict[int, TrainRecord]] = {}
    for record in sorted((r for r in records if isinstance(r, TrainRecord)), key=lambda r: r.study != ""):
        found.setdefault(record.setting, {}).setdefault(record.seed, record)
    return found


def at_seeds(index: Index, parameters: Mapping[str, Any]) -> Runs:
    """Find the records of a setting.

    Args:
        index: from :func:`indexed`.
        parameters: for :func:`sba.training.run.make_run`, without the seed.

    Returns:
        Seed → record, of those there are.
    """
    return index.get(setting_of(make_run(**parameters)), {})


def paired(
    ours: Runs, theirs: Runs, value: Callable[[TrainRecord], float] = lambda record: record.error
) -> Difference | None:
    """Return the mean difference of a number of two settings over the seeds that both have; None for no such seed.

    Args:
        ours: of the one setting.
        theirs: of the other.
        value: of a record; by default the median error of the last five epochs, in per cent.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    mean, half = interval([value(ours[s]) - value(theirs[s]) for s in seeds])
    ids = tuple(side[s].id for side in (ours, theirs) for s in seeds)
    return Difference(mean, half, len(seeds), ids)
