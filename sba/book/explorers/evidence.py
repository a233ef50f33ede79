"""The explorer of evidence: what a method's difference from plain training is worth after so many seeds."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sba.book import style
from sba.book.widgets import Explorer, Picture, choice, count
from sba.core.errors import ResultsError
from sba.records.compare import at_seeds, indexed
from sba.records.judging import MINIMUM
from sba.records.names import title
from sba.records.schema import Record, setting_of
from sba.records.stats import interval
from sba.report.averages import averages, plain
from sba.report.averages import evidence as tested
from sba.studies import ablations, paper

HINT = "Choose a method and add seeds one by one: when does the interval leave zero, and does the paper's claim ever lie in it?"
ALT = (
    "The mean difference of a method's test error from that of plain training, with its interval, against the number of seeds; "
    "a line at zero, and a dashed line where the paper puts the method."
)
STUDIED = ("Gaussian points only", "dropout points only", "hard label (Eq. 9)", "ω = 0: every step")


def evidence(records: Sequence[Record], setting: int = 0) -> Explorer:
    """Explore how the interval of a difference from plain training shrinks as seeds are added.

    ``setting`` is where the choice starts, a number. It is a :class:`ResultsError` if no method has a seed in common with plain
    training.
    """
    found = [*of_tables(records), *of_ablations(records)]
    if not found:
        raise ResultsError("results: no method and plain training at a seed in common; train them")
    most = max(len(one["steps"]) for one in found)
    controls = {
        "setting": choice("what", [one["name"] for one in found], setting, "data, network and method"),
        "seeds": count("seeds", 1, most, len(found[setting]["steps"]), "how many of them to look at"),
    }
    picture = Picture("evidence", {"settings": found, "least": MINIMUM}, ALT, HINT, controls)
    return Explorer(picture, still(found[setting]))


def of_tables(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return every method of the tables that was trained to the end of its regime, with the paper's claim if it makes one."""
    index = indexed(tested(records))
    found = []
    for one in averages(tested(records)):
        run = one.run
        base = index.get(setting_of(plain(run)), {})
        if one.reduced or setting_of(plain(run)) == one.records[0].setting or not set(base) & set(one.by_seed):
            continue
        name = f"{title(run.dataset)}, {title(run.network)}: {title(one.column)}"
        found.append(described(name, one.by_seed, base, paper.stated_difference(run.dataset, run.network, one.column)))
    return found


def of_ablations(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return SBA and its parts on a hundred digits."""
    group = ablations.GROUPS[0]
    index = indexed(records, ablations.NAME)
    variants = {"SBA": None} | {v.label: v for v in group.variants if v.label in STUDIED}
    theirs = at_seeds(index, group.parameters(ablations.PLAIN))
    found = []
    for name, variant in variants.items():
        ours = at_seeds(index, group.parameters(variant))
        if set(ours) & set(theirs):
            label = name if variant is None else f"SBA, {name}"
            found.append(described(f"100 digits, η = 1: {label}", ours, theirs, None))
    return found


def described(name: str, ours: Any, theirs: Any, claim: float | None) -> dict[str, Any]:
    """Return a comparison seed by seed: the differences, and mean and half of the interval of the first 1, 2, … of them."""
    seeds = sorted(set(ours) & set(theirs))
    differences = [ours[seed].error - theirs[seed].error for seed in seeds]
    steps = [dict(zip(("mean", "half"), interval(differences[: n + 1]), strict=True)) for n in range(len(seeds))]
    ids = [ours[seed].id for seed in seeds]
    return {"name": name, "differences": differences, "steps": steps, "claim": claim, "ids": ids}


def still(one: dict[str, Any]) -> Figure:
    """Draw the first state for readers without scripts."""
    style.use()
    figure, axis = plt.subplots(figsize=(style.WIDTH, 2.8))
    at = range(1, len(one["steps"]) + 1)
    half = [step["half"] or 0 for step in one["steps"]]
    axis.errorbar(at, [step["mean"] for step in one["steps"]], half, fmt="o", color=style.SHADES[1], lw=3)
    axis.axhline(0, color=style.INK, lw=0.8)
    if one["claim"] is not None:
        axis.axhline(one["claim"], color=style.colour("sba"), ls="--")
    axis.set(title=f"{one['name']}: error minus plain training's, points", xlabel="number of seeds", xticks=at)
    # the interval of two seeds may be huge
    ends = [
        *one["differences"],
        one["claim"] or 0,
        *(s * (step["half"] or 0) for step in one["steps"][2:] for s in (-1, 1)),
    ]
    axis.set_ylim(min(ends) - 1, max(ends) + 1)
    return figure
