"""The book's statistical plots, drawn by seaborn in the book's style: intervals are over seeds, at 95 %, by Student's t."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sba.book import style
from sba.records.compare import at_seeds, indexed
from sba.records.inference import TEST_IMAGES, Contrast, contrast
from sba.records.judging import MINIMUM
from sba.records.names import column, title
from sba.records.schema import Record, setting_of
from sba.report.averages import without
from sba.studies import paper
from sba.studies.catalogue import shared
from sba.studies.paper_runs import TABLE1
from sba.training.run import make_run


@dataclass(frozen=True)
class Row:
    """One line of a forest plot.

    Attributes:
        label: at the left.
        found: the difference; None if it was not run.
        colour: of the line.
        filled: whether its point is.
    """

    label: str
    found: Contrast | None
    colour: str = style.GREY
    filled: bool = False


@dataclass(frozen=True)
class Drawn:
    """A figure with its texts, for :func:`sba.book.style.show` and :func:`sba.book.style.keep`."""

    figure: Figure
    alt: str
    caption: str


def forest(axes: Axes, rows: Sequence[Row], factor: float = 1.0) -> None:
    """Draw differences with their 95 % intervals, one line each, the first on top; one run has a point alone.

    Args:
        axes: to draw on.
        rows: what to draw; a difference that was not run leaves its line empty and says so.
        factor: of all numbers.
    """
    order = list(range(len(rows)))
    known = [(i, row, row.found) for i, row in enumerate(rows) if row.found is not None]
    # the median of lower end, mean and upper end is the mean, and all of them span the interval
    ends = [(i, factor * end) for i, _, c in known for end in (c.low, c.mean, c.high) if not np.isnan(end)]
    frame = pd.DataFrame(ends, columns=["row", "value"])
    sns.pointplot(
        frame,
        x="value",
        y="row",
        hue="row",
        order=order,
        hue_order=order,
        palette=[row.colour for row in rows],
        orient="h",
        estimator="median",
        errorbar=("pi", 100),
        linestyle="none",
        markersize=6,
        err_kws={"linewidth": 1.8},
        legend=False,
        ax=axes,
    )
    for i, row, c in known:
        if not row.filled:
            axes.plot(factor * c.mean, i, "o", mfc="white", mec=row.colour, ms=6, zorder=5)
    for i, row in enumerate(rows):
        if row.found is None:
            axes.annotate("not run", (0, i), xytext=(6, 0), textcoords="offset points", va="center", color=style.GREY)
    axes.axvline(0, color=style.INK, lw=0.8, zorder=0)
    axes.set_yticks(order, [row.label for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set(ylabel="", ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x")


def methods_forest(records: Iterable[Record], dataset: str = "cifar10", network: str = "alexnet") -> Drawn:
    """Draw what each method of a row of Table 1 changes in the error of plain training, with the paper's claims beside.

    A composed method is drawn minus the part that it adds to. Runs of the full regime alone, all seeds.

    Args:
        records: as :func:`sba.records.file.read` reads them.
        dataset: of the row.
        network: of the row.
    """
    index = indexed(shared(records))
    rows: list[Row] = []
    claims: dict[str, float] = {}
    base = paper.reported(dataset, network, "erm")
    for setting in TABLE1.settings():
        run = make_run(**setting.parameters)
        other, name = without(run), column(run)
        if (run.dataset, run.network) != (dataset, network) or setting_of(other) == setting_of(run):
            continue
        found = contrast(at_seeds(index, setting.parameters), index.get(setting_of(other), {}))
        part = "" if column(other) == "erm" else f"\nminus {title(column(other))}"
        label = title(name) + part + (f" (n={found.n})" if found else "")
        rows.append(Row(label, found, style.colour(name), found is not None and found.n >= MINIMUM))
        stated = None if part else paper.reported(dataset, network, name)
        if base and stated:
            claims[label] = stated.error - base.error
    rows.sort(key=lambda row: (row.found is None, row.found and row.found.mean))
    figure, axes = plt.subplots(figsize=(style.WIDTH, 1.1 + 0.36 * len(rows)))
    forest(axes, rows)
    for at, row in enumerate(rows):
        if row.label in claims:
            axes.plot(claims[row.label], at, "*", color=style.INK, ms=10, zorder=6)
            told, star = f"paper: {signed(claims[row.label])}", (claims[row.label], at)
            axes.annotate(told, star, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set(xlabel="error minus that of plain training, percentage points")
    place = f"{title(network)} on {title(dataset)}"
    said = "; ".join(f"{row.label.replace(chr(10), ' ')}: {row.found or 'not run'}" for row in rows)
    stars = "; ".join(f"{label} {signed(size)}" for label, size in claims.items())
    ids = sorted({i for row in rows if row.found for i in row.found.ids})
    return Drawn(
        figure,
        f"Differences in test error from plain training, {place}, in points with 95 % intervals. {said}. The paper: {stars}.",
        f"{place}, full regime. Left of the line a method errs less than plain training, or than the part that it adds to. Bars: "
        "95 % interval over seeds; a point without one is a single run; hollow points have fewer than the "
        f"{MINIMUM} runs that a verdict needs. Stars: what the paper states.{sampling_note(dataset, base.error if base else 0.0)} "
        f"Records: {', '.join(ids) or 'none'}.",
    )


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"{value:+.2f}".replace("-", "−")


def sampling_note(dataset: str, error: float) -> str:
    """Say what the choice of test images adds to an error in per cent; "" if their number is not known."""
    images = TEST_IMAGES.get(dataset)
    if not images:
        return ""
    deviation = np.sqrt(error * (100 - error) / images)
    return (
        f" Intervals leave out the choice of the {images:,} test images, whose standard deviation is {deviation:.2f} points at an "
        f"error of {error:.0f} %."
    )
