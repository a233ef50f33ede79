"""The picture of what SBA changes in small regimes: a tenth of the paper's or less, or ten of ImageNet's classes."""

from collections.abc import Sequence

import matplotlib.pyplot as plt

from sba.book import plots, style
from sba.records.judging import MINIMUM
from sba.records.names import title
from sba.report.tenths import Difference


def signs_forest(found: Sequence[Difference], regime: str) -> plots.Drawn | None:
    """Draw differences of one family, each with the verdict on its sign.

    Args:
        found: as :func:`sba.report.tenths.differences` or :func:`sba.report.tenths.on_ten_classes` has them.
        regime: in which the runs were made, as a sentence begins.

    Returns:
        The figure; None if there is no difference yet.
    """
    if not any(one.found for one in found):
        return None
    rows = []
    for one in found:
        precision = "" if one.amp == "none" else f", {one.amp}"
        told = f"\n{one.verdict} (n={one.found.n}{precision})" if one.found else ""
        label = f"{title(one.network)}, {title(one.dataset)}, {one.epochs} epochs\n{title(one.name)} minus {title(one.part)}{told}"
        decides = one.found is not None and one.found.n >= MINIMUM
        rows.append(plots.Row(label, one.found, style.colour(one.name), decides))
    figure, axes = plt.subplots(figsize=(style.WIDTH, 1.1 + sum(0.22 + 0.17 * r.label.count("\n") for r in rows)))
    plots.forest(axes, rows)
    axes.set(xlabel="difference in test error, percentage points")
    said = "; ".join(f"{row.label.replace(chr(10), ', ')}: {row.found or 'not run'}" for row in rows)
    ids = (i for one in found if one.found for i in one.found.ids)
    return plots.Drawn(
        figure,
        f"{regime}: differences in test error in points with 95 % intervals. {said}.",
        f"{regime}, which is another question than the paper's: no number of the paper stands here. Left of the line SBA errs "
        "less. Bars: 95 % interval over seeds; a point without one is a single run; hollow points have fewer than the "
        f"{MINIMUM} runs that a verdict needs. Verdicts are on the sign alone, corrected by Holm's method in a family of "
        f"{len(found)}. Records: {plots.named(ids)}.",
    )
