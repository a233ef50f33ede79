"""The picture of what SBA changes at a tenth of the regime."""

from collections.abc import Iterable

import matplotlib.pyplot as plt

from sba.book import plots, style
from sba.records.judging import MINIMUM
from sba.records.names import title
from sba.records.schema import Record
from sba.report.tenths import differences


def tenths_forest(records: Iterable[Record]) -> plots.Drawn:
    """Draw SBA minus plain training and Cutout + SBA minus Cutout in every row of Table 1 on CIFAR, at a tenth of the regime, each
    with the verdict on its sign.

    Args:
        records: as :func:`sba.records.file.read` reads them.
    """
    found, rows = differences(records), []
    for one in found:
        place = f"{title(one.network)}, {title(one.dataset)}: {title(one.name)}"
        precision = "" if one.amp == "none" else f", {one.amp}"
        told = f"\n{one.verdict} (n={one.found.n}{precision})" if one.found else ""
        decides = one.found is not None and one.found.n >= MINIMUM
        rows.append(plots.Row(place + told, one.found, style.colour(one.name), decides))
    figure, axes = plt.subplots(figsize=(style.WIDTH, 1.1 + 0.42 * len(rows)))
    plots.forest(axes, rows)
    axes.set(xlabel="error minus that without SBA, percentage points")
    said = "; ".join(f"{row.label.replace(chr(10), ', ')}: {row.found or 'not run'}" for row in rows)
    ids = (i for one in found if one.found for i in one.found.ids)
    return plots.Drawn(
        figure,
        f"Differences in test error at a tenth of the regime, in points with 95 % intervals. {said}.",
        "A tenth of the regime, which is another question than the paper's: no number of the paper stands here. SBA is drawn minus "
        "plain training, Cutout + SBA minus Cutout. Bars: 95 % interval over seeds; a point without one is a single run; hollow "
        f"points have fewer than the {MINIMUM} runs that a verdict needs. Verdicts are on the sign alone, corrected by Holm's "
        f"method in a family of {len(found)}. Records: {plots.named(ids)}.",
    )
