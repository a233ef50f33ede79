"""The playground: a perceptron trained in the page, plainly and with SBA, from the same weights, batches and draws."""

import math
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import make_moons

from sba.book import style
from sba.book.widgets import Explorer, Picture
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.core.updates import joint
from sba.methods import ERM, SBA
from sba.models.small import mlp
from sba.records.names import facts

HINT = (
    "Both networks start from the same weights and see the same batches. Every dial acts while they train. Point at a sample to "
    "see its virtual points; choose “my own” points and click to put some, with Shift of the other class."
)
ALT = (
    "Four panels that follow the training: the probabilities that SBA's network gives the chosen sample and its virtual points; "
    "both terms of the training loss by step; the test loss of plain training and of SBA by step; λ(t) as a strip."
)
WIDTHS, MOMENTUM = (2, 16, 16, 2), 0.9
NAMES = ("the input", "hidden layer 1", "hidden layer 2", "a layer drawn anew at each step")
STEPS, POINTS, NOISE, RATE = 300, 40, 0.3, 0.05
METHOD, DATA = "SBA", "Network and data"
WORDS = {
    "omega": "angle",
    "eta": "weight",
    "sigma": "noise",
    "tau": "bound",
    "gaussian_share": "Gaussian",
    "dropout_rate": "dropout",
    "folds": "how many",
}
START: dict[str, Any] = {"folds": 8, "eta": 1.0}
"""Where the playground departs from the defaults, which are those of large networks."""


def playground(**first: Any) -> Explorer:
    """Train a perceptron on points of the plane in the browser, plainly and with SBA, side by side.

    It needs no kernel. The setting stands in the page's address, as ``#eta=1&omega=0``, by the names of :class:`sba.SBA`.

    Args:
        first: where dials start, by name; what is left out starts at its default.

    Raises:
        ConfigError: there is no such dial, or a value that it cannot have.
    """
    known = {dial["name"]: dial for dial in dials()}
    for name, value in first.items():
        if name not in known:
            raise ConfigError(f"{name}: there is no such dial; choose from {', '.join(known)}")
        options = known[name].get("options")
        fits = value in options if options else known[name]["least"] <= value <= known[name]["most"]
        if not fits:
            allowed = options or f"a number from {known[name]['least']:g} to {known[name]['most']:g}"
            raise ConfigError(f"{name}: {value!r} is not allowed; give {allowed}")
        known[name]["value"] = options.index(value) if options and known[name]["numbered"] else value
    data = {"dials": list(known.values()), "widths": WIDTHS, "momentum": MOMENTUM, "names": NAMES}
    return Explorer(Picture("playground", data, ALT, HINT, {}), still())


def dials() -> list[dict[str, Any]]:
    """Return the dials: SBA's from the definitions of its hyper-parameters, and those of network and data."""
    method = [_of_method(name) for name in WORDS]
    return [
        *method,
        _choice("layer", "layer k", ["input", "hidden 1", "hidden 2", "any"], METHOD, 1, "where virtual points are made"),
        _choice("label", "label", list(facts(SBA, "label")["choices"]), METHOD, "soft", facts(SBA, "label")["description"]),
        _choice("cloud", "points", ["two moons", "circles", "spirals", "my own"], DATA, "two moons", "the training points"),
        _choice("class", "a click puts", ["class 0", "class 1"], DATA, 0, "class of the reader's own points"),
        _range("points", "how many", 10, 400, 10, POINTS, "number of training points, of both classes together", whole=True),
        _range("noise", "noise", 0, 0.6, 0.05, NOISE, "standard deviation of the points around their curve"),
        _range("rate", "learning rate", -3, 0, 0.1, RATE, "of SGD with momentum 0.9", log=True),
        _range("seed", "seed", 0, 9, 1, 0, "of weights, points, batches and draws", whole=True),
        _range("speed", "steps a second", 0, 3, 0.25, 100, "how many steps to do in a second, if the machine can", "bar", log=True),
        _range("steps", "steps", 0, 20_000, 1, STEPS, "how many to do when the page opens", "", whole=True),
    ]  # fmt: skip


def _of_method(name: str) -> dict[str, Any]:
    defined = facts(SBA, name)
    low, high, step = defined["slider"]
    if defined["log"]:
        low, high = math.log10(low), math.log10(high)
    label = f"{defined['symbol']}, {WORDS[name]}"
    about = {"log": defined["log"], "whole": isinstance(defined["default"], int)}
    return _range(
        name, label, low, high, step, START.get(name, defined["default"]), defined["description"], METHOD, **about
    )


def _range(
    name: str, label: str, low: float, high: float, step: float, value: float, description: str, group: str = DATA,
    *, log: bool = False, whole: bool = False,
) -> dict[str, Any]:  # fmt: skip
    # no weight at all is off a logarithmic scale, and allowed
    least, most = (0 if name == "eta" else 10**low, 10**high) if log else (low, high)
    scale = {"low": low, "high": high, "step": step, "log": log, "whole": whole, "least": least, "most": most}
    return {"name": name, "label": label, "group": group, "value": value, "description": description, **scale}


def _choice(
    name: str, label: str, options: list[str], group: str, value: str | int, description: str
) -> dict[str, Any]:
    about = {"options": options, "numbered": isinstance(value, int)}
    return {"name": name, "label": label, "group": group, "value": value, "description": description, **about}


def still() -> Figure:
    """Draw two such networks after the first steps, trained by the package, for readers without scripts."""
    style.use()
    points, labels = make_moons(POINTS, noise=NOISE, random_state=0)
    x, y = torch.from_numpy(points - (0.5, 0.25)).float()[..., None, None], torch.from_numpy(labels)
    axis = np.linspace(-2, 2, 81)
    plane = torch.from_numpy(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2, 1, 1)).float()
    fig, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.7))
    methods = {"Plain training": ERM(), "SBA": SBA(layers=("fc1",), basis="colnorm", **START)}
    for axes_of, (title, method) in zip(axes, methods.items(), strict=True):
        torch.manual_seed(0)
        network = mlp(2, 2, WIDTHS[1:-1])
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
        for t in range(STEPS):
            now = Step(0, step=t)
            rows = torch.randperm(POINTS, generator=now.generator("order"))[:32]
            joint([partial(method.terms, network, x[rows], y[rows], now, None)], optimizer)
        with torch.no_grad():
            p = network(plane).softmax(1)[:, 1].reshape(len(axis), -1)
        axes_of.contourf(axis, axis, 1 - p, levels=np.linspace(0, 1, 11), cmap=style.REGIONS)
        axes_of.contour(
            axis, axis, p, levels=[0.1, 0.5, 0.9], colors=[style.colour(method.name)], linewidths=[0.8, 2, 0.8]
        )
        for c in (0, 1):
            axes_of.plot(*(points - (0.5, 0.25))[labels == c].T, style.CLASS_MARKERS[c], color=style.CLASSES[c], ms=4)
        axes_of.set(title=title, aspect="equal")
        style.bare(axes_of)
    return fig
