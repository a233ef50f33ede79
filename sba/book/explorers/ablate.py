"""The explorer of ablations: ingredients are taken out of SBA, and the records of the study answer."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from sba.book import style
from sba.book.widgets import Explorer, Picture
from sba.core.errors import ResultsError
from sba.records.compare import Runs, at_seeds, indexed
from sba.records.inference import contrast
from sba.records.schema import Record
from sba.studies.ablations import GROUPS, NAME, PLAIN, final_nll

HINT = "Take one ingredient out. Which one takes the gain over plain training with it? What was not run says so."
ALT = "Differences of error and of test loss with their 95 % intervals, from SBA with all its ingredients and from plain training."
INGREDIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "coin": ("the coin (every step is augmented)", {"omega": 0.0}),
    "gaussian": ("Gaussian points", {"gaussian_share": 0.0}),
    "dropout": ("dropout points", {"gaussian_share": 1.0}),
    "soft": ("the soft label", {"label": "hard"}),
    "rescaled": ("rescaled dropout", {"dropout_rescale": False}),
    "detached": ("the detached teacher", {"detach": False}),
}
"""Name → what it is, and what a run without it changes in the reference."""


def ablate(records: Sequence[Record]) -> Explorer:
    """Explore SBA on a hundred digits with ingredients taken out: differences from all of it and from plain training.

    Without records of the study it is a :class:`sba.core.errors.ResultsError`.
    """
    runs = combinations(records)
    if not runs:
        raise ResultsError("results: no records of the study of ablations; run python -m sba sweep switches")
    controls = {
        name: ipywidgets.Checkbox(value=True, description=what.partition(" (")[0], tooltip=f"with or without {what}", indent=False)
        for name, (what, _) in INGREDIENTS.items()
    }  # fmt: skip
    words = {name: what for name, (what, _) in INGREDIENTS.items()}
    data = {"names": list(INGREDIENTS), "words": words, "runs": runs, "ranges": ranges(runs)}
    return Explorer(Picture("ablate", data, ALT, HINT, controls), still(runs))


def combinations(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Return what was run, by a 1 or a 0 for each ingredient; without both kinds of points it is plain training."""
    group = GROUPS[0]
    index = indexed(records, NAME)
    whole, plain = (at_seeds(index, parameters) for parameters in (group.base, group.parameters(PLAIN)))
    found = {}
    for inside in itertools.product((True, False), repeat=len(INGREDIENTS)):
        out = [name for name, kept in zip(INGREDIENTS, inside, strict=True) if not kept]
        bare = {"gaussian", "dropout"} <= set(out)
        changes = {k: v for name in out for k, v in INGREDIENTS[name][1].items()}
        # what an ingredient does is undone by what it acts on being gone
        own = plain if bare else at_seeds(index, group.base | changes)
        if own and not (bare and len(out) > 2):
            found["".join("1" if kept else "0" for kept in inside)] = answer(own, whole, plain)
    return found


def answer(own: Runs, whole: Runs, plain: Runs) -> dict[str, Any]:
    """Return mean differences with half of their intervals, from SBA and from plain training; none from itself."""
    said = {}
    for name, other in (("sba", whole), ("plain", plain)):
        error, loss = contrast(own, other), contrast(own, other, final_nll)
        if own is not other and error and loss and error.n > 1:
            said[name] = {"error": (error.mean, error.half), "loss": (loss.mean, loss.half)}
    return {
        **said,
        "level": float(np.mean([r.error for r in own.values()])),
        "n": len(own),
        "ids": [r.id for r in own.values()],
    }


def ranges(runs: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Return one range for each measure that holds every interval, symmetric about 0."""
    found = {}
    for which, unit in (("error", 0.5), ("loss", 0.02)):
        told = [run[key][which] for run in runs.values() for key in ("sba", "plain") if key in run]
        most = math.ceil(max((abs(mean) + half for mean, half in told), default=unit) / unit) * unit
        found[which] = [-most, most]
    return found


def still(runs: dict[str, dict[str, Any]]) -> Figure:
    """Draw every single ablation for readers without scripts."""
    style.use()
    rows = []
    for name, (what, _) in INGREDIENTS.items():
        if run := runs.get("".join("0" if n == name else "1" for n in INGREDIENTS)):
            rows.append((f"without {what.partition(' (')[0]}", run["plain"]["error"]))
    figure, axis = plt.subplots(figsize=(style.WIDTH, 2.8))
    mean, half = np.array([value for _, value in rows]).T
    axis.errorbar(mean, range(len(rows)), xerr=half, fmt="o", color=style.colour("sba"), lw=3)
    axis.axvline(0, color=style.INK, lw=0.8)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.set(xlabel="error minus plain training's, points")
    axis.invert_yaxis()
    return figure
