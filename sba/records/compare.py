"""Two settings compared at equal seeds: the runs share initialisation, order of the data and augmentation, so that their difference
varies less than either."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sba.core.errors import ConfigError
from sba.records.stats import interval
from sba.training.run import from_settings, make_run

Index = Mapping[str, dict[str, Any]]
"""Key of a run → its record."""


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


def key_of(record: dict[str, Any]) -> str:
    """Return the key of a record's run as this version computes it: newer fields have their defaults.

    A record of settings that this version does not know keeps the key it has.
    """
    try:
        return from_settings(record["settings"]).key
    except ConfigError:
        return record["key"]


def indexed(records: Iterable[dict[str, Any]]) -> Index:
    """Index the records of finished runs by the key that this version computes; of equal runs the first one counts."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["kind"] == "train":
            found.setdefault(key_of(record), record)
    return found


def at_seeds(
    index: Index, parameters: Mapping[str, Any], seeds: Iterable[int] = range(10)
) -> dict[int, dict[str, Any]]:
    """Find the records of a setting.

    Args:
        index: from :func:`indexed`.
        parameters: for :func:`sba.training.run.make_run`, without the seed.
        seeds: where to look.

    Returns:
        Seed → record, of those there are.
    """
    keys = {seed: make_run(**parameters, seed=seed).key for seed in seeds}
    return {seed: index[key] for seed, key in keys.items() if key in index}


def paired(
    ours: Mapping[int, dict[str, Any]],
    theirs: Mapping[int, dict[str, Any]],
    value: Callable[[dict[str, Any]], float] = lambda record: record["error"],
) -> Difference | None:
    """Return the mean difference of a number of two settings over the seeds that both have; None for no such seed.

    Args:
        ours: seed → record.
        theirs: likewise.
        value: of a record; by default the median error of the last five epochs, in per cent.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    mean, half = interval([value(ours[s]) - value(theirs[s]) for s in seeds])
    ids = tuple(side[s]["id"] for side in (ours, theirs) for s in seeds)
    return Difference(mean, half, len(seeds), ids)
