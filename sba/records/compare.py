"""Records found by what was run: setting, then seed."""

from collections.abc import Iterable, Mapping
from typing import Any

from sba.records.schema import Record, TrainRecord, setting_of
from sba.training.run import make_run

Runs = Mapping[int, TrainRecord]
"""Seed → record."""
Index = Mapping[str, Runs]
"""What runs have in common that differ in the seed alone (:attr:`sba.records.schema.RunRecord.setting`) → seed → record."""


def indexed(records: Iterable[Record], study: str | None = None) -> Index:
    """Index the finished runs, or those made for a study, by setting and seed. Of equal runs the first one counts, and results of
    the book's tables come before those of a study."""
    found: dict[str, dict[int, TrainRecord]] = {}
    finished = (r for r in records if isinstance(r, TrainRecord) and study in (None, r.study))
    for record in sorted(finished, key=lambda r: r.study != ""):
        found.setdefault(record.setting, {}).setdefault(record.seed, record)
    return found


def at_seeds(index: Index, parameters: Mapping[str, Any]) -> Runs:
    """Find the records of a setting, given as the parameters of :func:`sba.training.run.make_run` without the seed."""
    return index.get(setting_of(make_run(**parameters)), {})
