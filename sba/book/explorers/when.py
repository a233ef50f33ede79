"""The explorer of little data: in which condition and measure does a contender differ from plain training?"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sba.book import plots, style
from sba.book.widgets import Explorer, Picture, choice
from sba.records.names import title
from sba.records.schema import Record
from sba.report.when import BETTER, MEASURES, WORSE, Comparison, compared, costs
from sba.studies.contenders import CONDITIONS, MAIN, Condition

HINT = (
    "Choose images, wrong labels and network: which contenders lie left of the line, better than plain training? "
    "It chose its weight decay; the others keep the regime's, which moves likelihood and calibration."
)
ALT = (
    "The difference of each contender from plain training with its 95 % interval, in the condition and the measure that are "
    "chosen; left of the line is better. A contender without two pairs of runs has the words not run."
)


def when(records: Sequence[Record]) -> Explorer:
    """Explore the study of little data: pick images, wrong labels, network and measure; a condition without records says that it
    was not run."""
    cost = {c.name: costs(records, c) for c in CONDITIONS}
    answers = [
        {
            "at": place(c),
            "name": c.name,
            "wanted": c.n,
            "measures": [[described(one, cost[c.name]) for one in compared(records, c, m)] for m in MEASURES],
        }
        for c in CONDITIONS
    ]
    values: list[list[Any]] = [sorted({place(c)[i] for c in CONDITIONS}) for i in range(3)]
    labels = (
        [f"{images:,}" for images in values[0]],
        [f"{share:.0%}".replace("%", " %") for share in values[1]],
        [title(network) for network in values[2]],
    )
    at = [one.index(here) for one, here in zip(values, place(MAIN), strict=True)]
    controls = {
        "images": choice("training images", labels[0], at[0], "size of the subset of CIFAR-10"),
        "noise": choice("wrong labels", labels[1], at[1], "share of training labels that became another class"),
        "network": choice("network", labels[2], at[2], "ResNet-20 has batch normalisation"),
        "measure": choice("measure", [m.name for m in MEASURES], 0, "what is compared"),
    }
    data = {
        "answers": answers,
        "values": values,
        "measures": [{"name": m.name, "unit": m.unit} for m in MEASURES],
        "command": "python -m sba sweep small-data",
    }
    return Explorer(Picture("when", data, ALT, HINT, controls), still(compared(records, MAIN)))


def place(condition: Condition) -> tuple[int, float, str]:
    """Return where a condition is: training images, share of wrong labels, network."""
    return condition.base["subset"], condition.base.get("label_noise", 0.0), condition.base["network"]


def described(one: Comparison, cost: Mapping[str, float]) -> dict[str, Any]:
    """Return what the picture draws and says of a comparison; the ends of an interval are null below two pairs, and the cost if
    it was not timed."""
    found = {name: float(getattr(one.found, name)) if one.found else None for name in ("mean", "low", "high")}
    decided = one.verdict in (BETTER, WORSE)
    return found | {
        "name": one.name,
        "n": one.n,
        "verdict": one.verdict,
        "decided": decided,
        "cost": cost.get(one.name),
    }


def still(own: Sequence[Comparison]) -> Figure:
    """Draw the first state for readers without scripts."""
    style.use()
    figure, axis = plt.subplots(figsize=(style.WIDTH, 0.8 + 0.3 * len(own)))
    decided = [one.verdict in (BETTER, WORSE) for one in own]
    shades = [style.colour("sba") if d else style.GREY for d in decided]
    plots.forest(axis, [plots.Row(o.name, o.found, shade, d) for o, shade, d in zip(own, shades, decided, strict=True)])
    axis.set(xlabel=f"{MEASURES[0].name} minus plain, {MEASURES[0].unit}", title=MAIN.name)
    return figure
