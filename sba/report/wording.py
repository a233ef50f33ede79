"""Words for the comparisons on little data (:mod:`sba.report.when`): verdicts, differences, places and lists."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sba.records.inference import LEVEL
from sba.records.names import signed
from sba.report.when import BETTER, OPEN, SAME, WORSE, Comparison
from sba.studies.contenders import MARGIN

Place = tuple[str, float]
"""Name of a condition, and a weight decay."""
PLAINLY = {"dropout": "plain dropout"}
"""Contenders that sentences call by another name than tables, since SBA has dropout, too."""


def grouped(found: Mapping[Any, Any], key: Callable[[Any], str]) -> dict[str, list[Any]]:
    """Group names by what is said of their values."""
    groups: dict[str, list[Any]] = {}
    for name, one in found.items():
        groups.setdefault(key(one), []).append(name)
    return groups


def outcome(one: Comparison) -> str:
    """Say what a contender did to the error, and whether that is small for sure."""
    small = f" by less than {MARGIN:g} point" if one.equivalent <= LEVEL else ""
    told = {
        BETTER: f"lowered the error{small}",
        WORSE: f"raised the error{small}",
        SAME: f"made {SAME}",
        OPEN: "left the error open",
    }
    return told[one.verdict]


def did(places: Mapping[str, Comparison]) -> str:
    """Write what was done to the error in which conditions."""
    return listed([f"{words} with {listed(where)}" for words, where in grouped(places, outcome).items()])


def amount(one: Comparison, digits: int = 2) -> str:
    """Write a difference and half of its interval; "" for none."""
    return f"{signed(float(one.found.mean), digits)} ± {one.found.half:.{digits}f}" if one.found else ""


def placed(places: Iterable[Place], known: Iterable[Place]) -> str:
    """Write conditions, and weight decays if not all of a condition's are meant."""
    every: dict[str, list[float]] = {}
    for condition, decay in known:
        every.setdefault(condition, []).append(decay)
    own: dict[str, list[float]] = {}
    for condition, decay in places:
        own.setdefault(condition, []).append(decay)
    return listed(
        [
            condition
            if decays == every[condition]
            else f"{condition} (weight decay {', '.join(map('{:g}'.format, decays))})"
            for condition, decays in own.items()
        ]
    )


def spoken(name: str) -> str:
    """Write a contender's name for a list: without a comma."""
    first, comma, rest = name.partition(", ")
    return f"{first} ({rest})" if comma else name


def listed(words: Sequence[str]) -> str:
    """Write words as a list: one, two and three."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""
