"""The study of ω × η: a small problem trained at every pair of a grid, kept in such detail that a slider can show it.

At η = 0, as at ω = π/2, SBA is plain training bit for bit, so all those pairs are one run. η goes beyond the paper's values, since
the problems are small and the second term must be seen to act.
"""

import base64
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sba.data.datasets import Data
from sba.data.plane import lattice, probability
from sba.measure.calibration import calibration
from sba.studies.ablations import FEW
from sba.studies.planned import Setting, Study
from sba.training.evaluation import logits
from sba.training.loop import Training

NAME = "omega-eta"
OMEGAS = (*(i * math.pi / 12 for i in range(6)), math.pi / 2)
ETAS = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

PROBLEMS: tuple[dict[str, Any], ...] = (FEW | {"network": "digits"}, {"dataset": "moons", "network": "mlp"})
"""A hundred digits, and two half moons, whose decision can be drawn."""

EXTENT = (-1.6, 2.6, -1.3, 1.85)
"""Left, right, lower and upper edge of the picture of a decision between the moons."""
PIXELS = (48, 64)
"""Its rows and columns: square pixels."""


def settings() -> Iterator[Setting]:
    """List plain training and every pair where SBA differs from it, for each problem."""
    for problem in PROBLEMS:
        yield Setting(problem | {"method": "erm"}, NAME)
        for omega in OMEGAS[:-1]:
            for eta in ETAS[1:]:
                yield Setting(problem | {"method": "sba", "omega": omega, "eta": eta}, NAME)


def measure(training: Training) -> dict[str, Any]:
    """Return what a record of this study keeps beside the usual.

    ``curve``: of every epoch the test error in per cent, the test negative log-likelihood and the mean cross-entropy of the
    training steps in nats, as lists. ``calibration`` after the last epoch: ``ece``, ``brier``, and of each reliability bin
    ``count``, ``confidence`` and ``accuracy``. ``decision``, if the data are points of a plane: :func:`decision`.
    """
    data, network = training.data, training.network
    scores = logits(network, data)
    # rounded to what a picture can show
    curve = {
        "error": [round(e.error, 2) for e in training.history],
        "nll": [float(f"{e.nll:.4g}") for e in training.history],
        "cross_entropy": [float(f"{e.terms['cross_entropy']:.4g}") for e in training.history],
    }
    found = {"curve": curve, "calibration": calibration(scores, data.test.labels)}
    return found | ({"decision": decision(network, data)} if (data.channels, data.side) == (2, 1) else {})


def decision(network: nn.Module, data: Data) -> dict[str, Any]:
    """Return a picture of the probability of class 1 over the plane: ``extent`` (:data:`EXTENT`), ``shape`` (rows, columns) and
    ``p1``, the probability at the middle of each pixel times 255, one byte each, row by row from the lower left, in base64."""
    p1 = probability(network, lattice(EXTENT, *PIXELS), data, label=1)
    levels = (p1 * 255).round().to(torch.uint8).cpu().numpy().tobytes()
    return {"extent": list(EXTENT), "shape": list(PIXELS), "p1": base64.b64encode(levels).decode()}


STUDY = Study(
    NAME,
    "ω × η on a hundred digits and on two moons, with curves, calibration and decisions",
    settings,
    seeds=3,
    last=5,
    measure=measure,
    exclusive=True,
)
