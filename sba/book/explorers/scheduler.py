"""The explorer of the scheduler: λ(t) as the slider of ω moves, its runs, and what a step costs."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from sba.book import style
from sba.book.widgets import Explorer, Picture, choice, count, packed, slider
from sba.core.rng import uniform
from sba.core.scheduler import PURPOSE, Scheduler, probability
from sba.methods import SBA
from sba.models.flops import Counted, multiply_adds, share_behind, step_cost
from sba.models.registry import build
from sba.records.names import title

HINT = (
    "Move ω: the cosine is flat at first, so that augmentation becomes rare only late. Then move the layer: "
    "against Batch Augmentation the layer saves more than the coin."
)
ALT = (
    "Four panels that follow the sliders. The curve p = cos ω with the chosen ω; two hundred steps as a strip, coloured where a "
    "step is augmented; the lengths of the runs of augmented steps beside the geometric law; the expected cost of a step of "
    "plain training, of SBA and of Batch Augmentation."
)
SEEDS, STEPS = 5, 2000


def scheduler(omega: float | None = None, folds: int | None = None, network: str = "resnet44") -> Explorer:
    """Explore cos ω, a stream λ(t), its run lengths, and the expected cost of a step against Batch Augmentation (§3.2).

    λ(t) is the one that training with this seed draws. Costs are multiply–adds of a forward pass, with the Hadamard basis.

    Args:
        omega: where the slider of ω starts, in radians; None for the default of :class:`sba.SBA`.
        folds: likewise for M.
        network: whose layers can be chosen, on images of CIFAR's size.
    """
    layers = multiply_adds(build(network, 10, 3, 32))
    # in the middle both the coin and the layer are seen to save
    middle = len(layers) // 2
    controls = {
        "omega": slider(SBA, "omega", omega),
        "folds": slider(SBA, "folds", folds),
        "layer": choice("layer k", [one.layer for one in layers], middle, "where virtual points are made"),
        "seed": count("seed", 0, SEEDS - 1, 0, "of the stream λ(t)"),
    }
    picture = Picture("scheduler", prepared(layers, network), ALT, HINT, controls)
    return Explorer(picture, still(layers[middle], layers[0].behind, controls["omega"].value, controls["folds"].value))


def prepared(layers: list[Counted], network: str) -> dict:
    """Return what the ES module draws from: uniform draws of each seed, and the cost of a virtual point at each layer."""
    draws = [[uniform(seed, PURPOSE, step) for step in range(STEPS)] for seed in range(SEEDS)]
    shown = [{"name": one.layer, "share": share_behind(one, layers[0].behind)} for one in layers]
    return {"draws": packed(draws, "float64"), "steps": STEPS, "layers": shown, "network": title(network)}


def still(chosen: Counted, whole: float, omega: float, folds: int) -> Figure:
    """Draw the first state for readers without scripts."""
    style.use()
    p, states = probability(omega), Scheduler(omega).stream(0, STEPS)
    fig, axes = plt.subplots(2, 2, figsize=(style.WIDTH, 4.2), width_ratios=[1, 1.6])
    grid = np.linspace(0, math.pi / 2, 100)
    axes[0, 0].plot(grid, np.cos(grid), color=style.INK)
    axes[0, 0].plot(omega, p, "o", color=style.colour("sba"))
    axes[0, 0].set(title="p = cos ω", xlabel="ω, rad")
    axes[0, 1].vlines(np.flatnonzero(states[:100]), 0, 1, color=style.colour("sba"), lw=2.5)
    axes[0, 1].set(title="λ(t): a mark for each augmented step", xlabel="iteration t", yticks=[], xlim=(-1, 100))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], states, [False]]).astype(int)))
    lengths, at = (edges[1::2] - edges[::2])[1:-1], np.arange(1, 13)
    axes[1, 0].bar(at, [np.mean(lengths == n) if len(lengths) else 0 for n in at], color=style.colour("sba"))
    axes[1, 0].plot(at, p ** (at - 1) * (1 - p), "_", color=style.INK, ms=12, mew=2)
    axes[1, 0].set(title="share of the runs", xlabel="length of a run")
    costs = {"plain": 1, "SBA": step_cost(p, folds, share_behind(chosen, whole)), "BA": folds}
    axes[1, 1].barh(list(costs), list(costs.values()), color=[style.colour(m) for m in ("erm", "sba", "ba")])
    axes[1, 1].set(title=f"expected cost of a step, layer {chosen.layer}", xlabel="plain steps", xscale="log")
    axes[1, 1].set(xlim=(0.8, 100))
    axes[1, 1].invert_yaxis()
    return fig
