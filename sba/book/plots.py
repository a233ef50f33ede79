"""The book's statistical plots, drawn by seaborn in the book's style: intervals are over seeds, at 95 %, by Student's t."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sba.book import style
from sba.records.compare import Index, Runs, indexed
from sba.records.inference import TEST_IMAGES, Contrast
from sba.records.judging import MINIMUM
from sba.records.names import column, signed, title
from sba.records.schema import Record, setting_of
from sba.records.stats import half_width, mean
from sba.report.averages import Average, average, over_part
from sba.report.claims import PRECISIONS
from sba.studies import paper
from sba.studies.catalogue import shared
from sba.studies.paper_runs import TABLE1
from sba.training.run import Run


@dataclass(frozen=True)
class Row:
    """One line of a forest plot."""

    label: str  #: at the left
    found: Contrast | None  #: the difference; None if it was not run
    colour: str  #: of the line
    filled: bool  #: whether its point is
    claim: float | None = None  #: what the paper states instead, drawn as a star; None if it states nothing


@dataclass(frozen=True)
class Drawn:
    """A figure with its texts, for :func:`sba.book.style.show` and :func:`sba.book.style.keep`."""

    figure: Figure
    alt: str
    caption: str


def forest(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw differences with their 95 % intervals, one line each, the first on top; one run has a point alone, and a difference that
    was not run leaves its line empty and says so."""
    order = list(range(len(rows)))
    known = [(i, row, row.found) for i, row in enumerate(rows) if row.found is not None]
    # the median of lower end, mean and upper end is the mean, and all of them span the interval
    ends = [(i, end) for i, _, c in known for end in (c.low, c.mean, c.high) if not np.isnan(end)]
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
            axes.plot(c.mean, i, "o", mfc="white", mec=row.colour, ms=6, zorder=5)
    for i, row in enumerate(rows):
        if row.claim is not None:
            axes.plot(row.claim, i, "*", color=style.INK, ms=10, zorder=6)
            told: dict[str, Any] = {"xytext": (-4, 7), "textcoords": "offset points", "ha": "left", "fontsize": 9}
            axes.annotate(f"paper: {signed(row.claim)}", (row.claim, i), **told)
        if row.found is None:
            axes.annotate("not run", (0, i), xytext=(6, 0), textcoords="offset points", va="center", color=style.GREY)
    if any(row.claim is not None for row in rows):
        axes.margins(x=0.12)  # the words at a star stay inside
    axes.axvline(0, color=style.INK, lw=0.8, zorder=0)
    axes.set_yticks(order, [row.label for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set(ylabel="", ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x")


def setting_title(run: Run) -> str:
    """Name a setting of a row: its column, and how many views it has."""
    return title(column(run)) + (f", {run.views} views" if run.views > 1 else "")


def of_row(index: Index, dataset: str, network: str) -> list[tuple[Run, Runs]]:
    """List the settings of a row of Table 1 in its order, each with its runs of the full regime, all seeds, at the precision at
    which SBA and plain training have more of them, or else the row."""
    own = [setting.run for setting in TABLE1.settings() if setting.where == f"{dataset}/{network}"]
    at = [
        [(one, index.get(setting_of(one), {})) for run in own if (one := replace(run, amp=amp))] for amp in PRECISIONS
    ]

    def count(found: list[tuple[Run, Runs]]) -> tuple[int, int]:
        of = {column(run): len(runs) for run, runs in found}
        return min(of["sba"], of["erm"]), sum(len(runs) for _, runs in found)

    return max(at, key=count)


def changes(index: Index, dataset: str, network: str) -> list[Row]:
    """Compare each method of a row of Table 1 with plain training, a composed one with the part that it adds to; best first."""
    rows: list[Row] = []
    for run, _ in of_row(index, dataset, network):
        if compared := over_part(index, run):
            (other, found), name = compared, column(run)
            part = "" if other == "erm" else f"\nminus {title(other)}"
            label = setting_title(run) + part + (f" (n={found.n})" if found else "")
            claim = None if part else paper.stated_difference(dataset, network, name)
            rows.append(Row(label, found, style.colour(name), found is not None and found.n >= MINIMUM, claim))
    return sorted(rows, key=lambda row: (row.found is None, row.found and row.found.mean))


def methods_forest(records: Iterable[Record], dataset: str = "cifar10", network: str = "alexnet") -> Drawn:
    """Draw what each method of a row of Table 1 changes in the error of plain training, with the paper's claims beside.

    A composed method is drawn minus the part that it adds to. Runs of the full regime alone, all seeds.
    """
    rows, base = changes(indexed(shared(records)), dataset, network), paper.reported(dataset, network, "erm")
    figure, axes = plt.subplots(figsize=(style.WIDTH, 1.1 + 0.36 * len(rows)))
    forest(axes, rows)
    axes.set(xlabel="error minus that of plain training, percentage points")
    place = f"{title(network)} on {title(dataset)}"
    said = "; ".join(f"{row.label.replace(chr(10), ' ')}: {row.found or 'not run'}" for row in rows)
    stars = "; ".join(f"{row.label} {signed(row.claim)}" for row in rows if row.claim is not None)
    return Drawn(
        figure,
        f"Differences in test error from plain training, {place}, in points with 95 % intervals. {said}. The paper: {stars}.",
        f"{place}, full regime. Left of the line a method errs less than plain training, or than the part that it adds to. Bars: "
        "95 % interval over seeds; a point without one is a single run; hollow points have fewer than the "
        f"{MINIMUM} runs that a verdict needs. Stars: what the paper states.{sampling_note(dataset, base.error if base else 0.0)} "
        f"Records: {named(i for row in rows if row.found for i in row.found.ids)}.",
    )


def seed_strips(records: Iterable[Record], dataset: str = "cifar10", network: str = "alexnet") -> Drawn | None:
    """Draw the error of every full run, a strip for each method of a row of Table 1, with means and their intervals.

    The least mean is on top. A method without records is left out; None if none has any.
    """
    found = [average(list(runs.values())) for _, runs in of_row(indexed(shared(records)), dataset, network)]
    strips = sorted((one for one in found if one), key=lambda one: one.mean)
    if not strips:
        return None
    order = [f"{setting_title(one.run)} (n={one.n})" for one in strips]
    points = [(label, r.error) for label, one in zip(order, strips, strict=True) for r in one.records]
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.42 * len(strips)))
    how: dict[str, Any] = {"x": "error", "y": "method", "hue": "method", "order": order, "hue_order": order}
    how |= {"palette": [style.colour(one.column) for one in strips], "orient": "h", "legend": False, "ax": axes}
    frame = pd.DataFrame(points, columns=["method", "error"])
    # without jitter equal records give equal files
    sns.stripplot(frame, jitter=False, size=7, alpha=0.55, **how)
    bars = {"marker": "|", "markersize": 17, "markeredgewidth": 2.2, "err_kws": {"linewidth": 1.8}}
    sns.pointplot(frame, errorbar=student, linestyle="none", **bars, **how)
    axes.set(xlabel="test error, %", ylabel="")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    place = f"{title(network)} on {title(dataset)}"
    said = "; ".join(f"{setting_title(one.run)} {one}" for one in strips)
    return Drawn(
        figure,
        f"Test errors of single runs, {place}, one strip for each method, the least mean on top; mean and 95 % interval: {said}.",
        f"{place}, full regime. A dot is a run; an upright mark is the mean of the method's runs, the bar its 95 % interval, which "
        "one run does not have. Compare the lengths of the bars with the steps between the marks: few seeds say little about a "
        f"mean. Records: {named(i for one in strips for i in one.ids)}.",
    )


def learning_curves(records: Iterable[Record], dataset: str = "cifar10", network: str = "alexnet") -> Drawn | None:
    """Draw the error of every epoch with its interval over seeds: plain training beside each other method of a row of Table 1 that
    has several runs. None if none has two."""
    found = [average(list(runs.values())) for _, runs in of_row(indexed(shared(records)), dataset, network)]
    several = [one for one in found if one and one.n > 1]
    if not several:
        return None
    plain = [one for one in several if one.column == "erm"]
    panels = [one for one in several if one.column != "erm"] or plain
    lines = -(-len(panels) // 2)
    figure, grid = plt.subplots(lines, 2, figsize=(style.WIDTH, 2.5 * lines), sharex=True, sharey=True, squeeze=False)
    claims = []
    for axes, one in zip(grid.flat, panels, strict=False):
        curves(axes, plain if panels is plain else [*plain, one])
        stated = paper.reported(dataset, network, one.column)
        # the paper's number is that of its own M
        if stated and (one.run.views == 1 or one.run.views == stated.folds):
            axes.axhline(stated.error, color=style.colour(one.column), ls=":", lw=1.2, label="the paper")
            claims.append(stated.error)
        axes.legend(loc="upper right")
    late = [e.error for one in several for r in one.records for e in r.epochs[-len(r.epochs) // 4 :]]
    grid[0, 0].set_ylim(np.nanmin([*late, *claims]) - 1, np.nanmax(late) + 8)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    place = f"{title(network)} on {title(dataset)}"
    said = ", ".join(f"{setting_title(one.run)} {one}" for one in several)
    return Drawn(
        figure,
        f"Test error against epoch for full runs of {place}; final errors in per cent: {said}.",
        f"{place}, full regime: mean over seeds after every epoch, with its 95 % interval; a method in each panel, plain training "
        "in all. Bands that overlap are no test: the differences have their own intervals. Grey lines: drops of the learning rate. "
        f"Records: {named(i for one in several for i in one.ids)}.",
    )


def curves(axes: Axes, settings: Sequence[Average]) -> None:
    """Draw the mean error of every epoch of some settings, with its 95 % interval over seeds."""
    for one in settings:
        errors = [(e.epoch, e.error) for r in one.records for e in r.epochs]
        frame = pd.DataFrame(errors, columns=["epoch", "error"])
        look = {"color": style.colour(one.column), "linestyle": style.line(one.column)["linestyle"], "lw": 1.3}
        look |= {"label": f"{setting_title(one.run)} (n={one.n})", "errorbar": student, "err_kws": {"lw": 0}}
        sns.lineplot(frame, x="epoch", y="error", ax=axes, **look)
    for epoch in settings[0].run.milestones:
        axes.axvline(epoch + 0.5, color=style.PALE, zorder=0)
    axes.set(xlabel="epoch", ylabel="test error, %")


def student(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a mean (:func:`sba.records.stats.half_width`), for seaborn's ``errorbar``."""
    found = np.asarray(values, float)
    middle, half = float(mean(found)), float(half_width(found))
    return middle - half, middle + half


def named(ids: Iterable[str]) -> str:
    """List identifiers of records, each once."""
    return ", ".join(sorted(set(ids))) or "none"


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
