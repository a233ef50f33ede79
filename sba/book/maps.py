"""The grid of ω × η as heat maps, drawn by seaborn in the book's style."""

import warnings
from collections.abc import Sequence
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from sba.book import style
from sba.book.plots import Drawn
from sba.records.inference import ROUNDING
from sba.records.names import signed
from sba.records.stats import half_width, mean
from sba.report.grid import Grid
from sba.studies.omega_eta import NAME


def omega_eta_maps(found: Grid) -> Drawn:
    """Draw what each pair of ω and η changes in the errors of plain training at the same seed.

    The upper map is of test errors, the median of the last five epochs, the lower one of calibration errors after the last.
    """
    measures = {
        "test error": np.median(found.curves["error"][..., -5:], axis=-1),
        "calibration error": 100 * found.scores["ece"],
    }
    rows, columns = [angle(omega) for omega in found.omegas[:-1]], [f"{eta:g}" for eta in found.etas[1:]]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(style.WIDTH, 7.6))
    said, data = [], found.problem.split("/")[0]
    for axes, (name, values) in zip((upper, lower), measures.items(), strict=True):
        differences = values[:, :-1, 1:] - values[:, -1:, :1]
        said.append(f"{name} {heat_map(axes, differences, rows, columns)}")
        axes.set(title=f"{data}: {name}", xlabel="η, weight of the second term", ylabel="ω, radians")
    n = (~np.isnan(differences)).sum(0)
    runs = f"n={n.max()}" if n.min() == n.max() else f"n={n.min()} to {n.max()}"
    return Drawn(
        figure,
        f"Two heat maps over ω and η, differences from plain training on {data}: {'; '.join(said)}.",
        f"Mean difference from plain training at the same seed ± half of its 95 % interval ({runs} seeds for each pair; no ± if "
        "they have no spread). Purple errs less, orange more, white is plain training; colours end at the largest gain, numbers "
        "do not. No interval is corrected for the number of pairs: look for whole regions of one colour, not for the best cell. "
        f"Records: {len({i for i in found.ids.flat if i})} of the study {NAME}; the explorer names those of each pair.",
    )


def heat_map(axes: Axes, differences: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Draw the mean over seeds of differences in points, each with half of its 95 % interval, and say how far they go.

    Differences have shape (seeds, rows, columns), NaN if a run is missing; a cell without any is grey. Rows are named from the top.
    """
    middle, half = mean(differences), half_width(differences)
    # equal differences say nothing of their spread
    half = np.where(half > ROUNDING, half, np.nan)
    known = middle[~np.isnan(middle)]
    low, high = known.min(initial=0), known.max(initial=0)
    reach = -low or high or 1
    look = {"cmap": style.REGIONS.reversed(), "center": 0, "vmin": -reach, "vmax": reach, "linewidths": 0.6}
    look |= {"cbar_kws": {"label": "minus plain training, points", "extend": "both"}}
    text = [signed(m) + ("" if np.isnan(h) else f"\n±{h:.2f}") for m, h in zip(middle.flat, half.flat, strict=True)]
    look |= {"annot": np.reshape(text, middle.shape), "fmt": "", "annot_kws": {"fontsize": 9, "color": style.INK}}
    with warnings.catch_warnings():
        # seaborn 0.13 calls what matplotlib means to deprecate
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        sns.heatmap(pd.DataFrame(middle, rows, columns), ax=axes, **look)
    axes.set_facecolor(style.PALE)
    axes.tick_params(length=0, rotation=0)
    below, above = (int((sign * middle > half).sum()) for sign in (-1, 1))
    ends = f"from {signed(low)} to {signed(high)} points"
    return f"{ends}, the interval below zero at {below} and above at {above} of {len(known)} pairs"


def angle(radians: float) -> str:
    """Write a multiple of π/12.

    >>> angle(5 * np.pi / 12)
    '5π/12'
    """
    part = Fraction(radians / np.pi).limit_denominator(12)
    over = f"/{part.denominator}" if part.denominator > 1 else ""
    return f"{'' if part.numerator == 1 else part.numerator}π{over}" if part else "0"
