"""The explorer of cost: what a step of SBA takes beside Batch Augmentation and plain training, and what it buys."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from sba.book import style
from sba.book.widgets import Explorer, Picture, choice, slider
from sba.core.errors import ResultsError
from sba.core.hyper import definitions
from sba.core.scheduler import probability
from sba.methods import SBA
from sba.models.flops import multiply_adds, share_behind, step_cost
from sba.models.registry import build
from sba.records.names import column, title
from sba.records.schema import BenchRecord, Record, TrainRecord
from sba.report.averages import plain

HINT = (
    "Go from the first layer of a network to its last: where does the cost of SBA leave BA's line, and how much is left for ω to "
    "save? Dots that lie above the dashed line cost more time than their multiply–adds say."
)
ALT = (
    "Left: time of a step in plain steps against M, both logarithmic: plain training at one, BA on the diagonal, SBA at the chosen "
    "layer and ω by count as a dashed line and measured as dots. Right, at the layer of the recorded runs: their test error "
    "against training time."
)
METHODS = ("erm", "sba", "ba")
FREE = ("omega", "eta", "folds", "layers", "basis")
"""What a run of SBA may set and still be called SBA here."""


def cost(records: Sequence[Record], layer: str = "", omega: float | None = None, folds: int | None = None) -> Explorer:
    """Explore time per step and error per time of SBA, Batch Augmentation and plain training, from records (Fig. 3's question).

    The times of steps are those of ``make bench``; between measurements a line counts multiply–adds. The errors are those of
    the longest CIFAR-10 runs that all three methods have of one network; they are drawn at the layer that SBA had in them, and
    there the sliders move SBA's time, not its errors.

    Args:
        layer: network and layer to start at, as "ResNet-44, pool"; empty for the first.
        omega: where the slider of ω starts, in radians; None for the default of :class:`sba.SBA`.
        folds: likewise for M.

    Raises:
        ResultsError: nothing was measured, or no network was trained by all three.
    """
    layers, (network, augmented, epochs, runs) = timed_layers(records), comparable_runs(records)
    names = [one["name"] for one in layers]
    at = names.index(layer) if layer else 0
    controls = {
        "layer": choice("layer", names, at, "network and layer k where virtual points are made"),
        "omega": slider(SBA, "omega", omega),
        "folds": slider(SBA, "folds", folds),
    }
    trained = [f"{title(network)}, {one}" for one in augmented]
    data = {"layers": layers, "runs": runs, "epochs": epochs, "trained": trained}
    first = still(layers[at], runs if names[at] in trained else [], controls["omega"].value)
    return Explorer(Picture("cost", data, ALT, HINT, controls), first)


def timed_layers(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the layers whose augmented steps were timed, from input to output, each with its newest timings and its count."""
    found: dict[tuple[str, str], dict[int, BenchRecord]] = {}
    steps = [r for r in records if isinstance(r, BenchRecord) and r.compared.family in ("folds", "layers")]
    for record in sorted(steps, key=lambda r: r.date):
        found.setdefault((record.compared.network, record.compared.layer), {})[record.compared.folds] = record
    if not found:
        raise ResultsError("results: no record of the cost of a step; run make bench with --results FILE")
    layers = []
    for network in dict.fromkeys(name for name, _ in found):
        counted = multiply_adds(build(network, 10, 3, 32))
        for one in counted:
            if at := found.get((network, one.layer)):
                points = [at[m] for m in sorted(at)]
                bases = [r.compared.basis for r in points]
                # a layer with several timings is counted with the basis of most of them
                share = share_behind(one, counted[0].behind, max(bases, key=bases.count))
                timed = [
                    dict(zip(("low", "high"), r.quartiles, strict=True))
                    | {"folds": r.compared.folds, "value": r.value, "id": r.id, "basis": r.compared.basis}
                    for r in points
                ]
                layers.append({"name": f"{title(network)}, {one.layer}", "share": share, "timed": timed})
    return layers


def comparable_runs(records: Sequence[Record]) -> tuple[str, tuple[str, ...], int, list[dict[str, Any]]]:
    """Return network, SBA's layers, number of epochs and runs of the longest comparison of all three methods on CIFAR-10.

    Runs are comparable if they differ in the method alone: same network, epochs, regime, seed, precision, test images and
    device. A run of SBA counts if it departs from the defaults in no other field than those of `FREE`.
    """
    usual = [(name, getattr(SBA(), name)) for name in definitions(SBA) if name not in FREE]
    groups: dict[tuple[Any, ...], dict[str, TrainRecord]] = {}
    for record in records:
        if not isinstance(record, TrainRecord) or record.run.dataset != "cifar10" or record.study:
            continue
        run, method = record.run, column(record.run)
        if method not in METHODS or (
            isinstance(run.method, SBA) and any(getattr(run.method, k) != v for k, v in usual)
        ):
            continue
        same = (run.epochs, run.network, plain(run).key, record.evaluated_on, record.device_name)
        groups.setdefault(same, {}).setdefault(method, record)
    comparable = [key for key, runs in groups.items() if set(METHODS) <= set(runs)]
    if not comparable:
        raise ResultsError(
            f"results: no network has CIFAR-10 runs of {', '.join(METHODS)} that differ in the method alone; train them"
        )
    longest = max(comparable)
    runs = []
    for method in METHODS:
        own = groups[longest][method]
        about = {"method": method, "name": title(method), "views": own.run.views}
        runs.append(about | {"errors": [epoch.error for epoch in own.epochs], "id": own.id})
    used = groups[longest]["sba"].run
    augmented = getattr(used.method, "layers", ()) or build(used.network, 10, 3, 32).linear_inputs
    return used.network, augmented, used.epochs, runs


def still(layer: dict[str, Any], runs: list[dict[str, Any]], omega: float) -> Figure:
    """Draw the first state for readers without scripts; without runs, the time of a step alone."""
    style.use()
    p, grid = probability(omega), np.geomspace(1, 100, 50)
    fig, axes = plt.subplots(1, 2 if runs else 1, figsize=(style.WIDTH, 3.3), squeeze=False)
    left, right = axes[0][0], axes[0][-1]
    left.axhline(1, color=style.colour("erm"), label="plain")
    left.plot(grid, grid, color=style.colour("ba"), label="BA: M passes")
    left.plot(
        grid, [step_cost(p, m, layer["share"]) for m in grid], "--", color=style.colour("sba"), label="SBA, counted"
    )
    dots = [(one["folds"], 1 + p * (one["value"] - 1)) for one in layer["timed"]]
    left.plot(*zip(*dots, strict=True), "o", color=style.colour("sba"), label="SBA, measured")
    left.set(xscale="log", yscale="log", xlabel="M", title=f"time of a step, plain steps: {layer['name']}")
    left.legend()
    for run in runs:
        pace = step_cost(p, 32, layer["share"]) if run["method"] == "sba" else run["views"]
        at = pace * np.arange(1, len(run["errors"]) + 1)
        right.plot(at, run["errors"], color=style.colour(run["method"]), marker="o", ms=3, label=run["name"])
    if runs:
        right.set(xlabel="training time, in plain epochs", title="test error, %")
        right.legend()
    return fig
