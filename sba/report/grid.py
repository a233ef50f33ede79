"""From the records of ω × η to arrays, for figures and for sliders: each of its pairs has the runs that stand for it."""

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sba.core.errors import ResultsError
from sba.records.schema import DivergedRecord, Record, TrainRecord
from sba.studies.omega_eta import ETAS, NAME, OMEGAS, PROBLEMS
from sba.training.run import make_run

CURVES = ("error", "nll", "cross_entropy")
SCORES = ("ece", "brier")
BINS = ("count", "confidence", "accuracy")


@dataclass(frozen=True)
class Grid:
    """What was measured at every pair, NaN if a run is missing or diverged.

    The first three axes of each array are seed, ω and η. Plain training stands at every pair that equals it: η = 0 or ω = π/2.
    """

    problem: str  #: data set and network, as "digits/digits"
    seeds: tuple[int, ...]  #: those that have any record
    omegas: tuple[float, ...]  #: in radians
    etas: tuple[float, ...]  #: weights of the second term
    #: "error" (test, per cent), "nll" (test, nats), "cross_entropy" (training, nats), each of shape (S, Ω, H, epochs)
    curves: dict[str, np.ndarray]
    #: "ece" (in [0, 1]), "brier" (in [0, 2]) after the last epoch, each of shape (S, Ω, H)
    scores: dict[str, np.ndarray]
    #: "count", "confidence", "accuracy" of the reliability bins after the last epoch, each of shape (S, Ω, H, bins)
    bins: dict[str, np.ndarray]
    #: P(class 1) in [0, 1] over the plane, of shape (S, Ω, H, rows, columns), the first row lowest; None if the data
    #: are no points of a plane
    decision: np.ndarray | None
    extent: tuple[float, ...] | None  #: left, right, lower and upper edge of that picture, or None
    ids: np.ndarray  #: of the records, of shape (S, Ω, H); "" if there is none

    def nearest(self, omega: float, eta: float) -> tuple[int, int]:
        """Return row and column of the pair nearest to another: ω by angle, η by ratio; η below half of the smallest positive one
        is nearest to 0."""
        row = int(np.abs(np.array(self.omegas) - omega).argmin())
        positive = [(abs(math.log(eta / e)) if eta > 0 else math.inf, i) for i, e in enumerate(self.etas) if e > 0]
        smallest = min(e for e in self.etas if e > 0)
        column = self.etas.index(0.0) if 0.0 in self.etas and eta < smallest / 2 else min(positive)[1]
        return row, column

    def members(self, row: int, column: int) -> tuple[str, ...]:
        """Return the identifiers of the records behind a pair."""
        return tuple(filter(None, self.ids[:, row, column]))

    def reliability(self, row: int, column: int) -> dict[str, np.ndarray]:
        """Return the reliability bins of a pair over the images of all its seeds: "count", "confidence", "accuracy"."""
        counts = self.bins["count"][:, row, column]
        total = np.nansum(counts, 0)
        pooled = {k: np.nansum(counts * self.bins[k][:, row, column], 0) / np.maximum(total, 1) for k in BINS[1:]}
        return {"count": total, **pooled}


def grid(records: Iterable[Record], dataset: str) -> Grid:
    """Arrange the records of the study of ω × η on "digits" or "moons"; raise :class:`ResultsError` if there is none.

    Those of other studies and of shortened runs are left out, and of several records of one run the first one counts.
    """
    runs = [r for r in records if isinstance(r, TrainRecord | DivergedRecord) and r.study == NAME and not r.reduced]
    own = [r for r in runs if r.run.dataset == dataset]
    (problem,) = (p for p in PROBLEMS if p["dataset"] == dataset)
    first = {record.key: record for record in reversed(own)}
    seeds = tuple(sorted({r.seed for r in own}))
    places = {
        (s, i, j): first[key]
        for s, seed in enumerate(seeds)
        for i, omega in enumerate(OMEGAS)
        for j, eta in enumerate(ETAS)
        if (key := key_at(problem, omega, eta, seed)) in first
    }
    finished = {at: r for at, r in places.items() if isinstance(r, TrainRecord)}
    if not finished:
        raise ResultsError(f"results: no record of {NAME} on {dataset!r}; run python -m sba sweep {NAME}")
    one = next(iter(finished.values()))
    shape = (len(seeds), len(OMEGAS), len(ETAS))
    ids = np.full(shape, "", dtype=object)
    for at, found in places.items():
        ids[at] = found.id

    def filled(found: list[Any]) -> np.ndarray:
        values = np.full(shape + np.shape(found[0]), np.nan)
        for at, value in zip(finished, found, strict=True):
            values[at] = value
        return values

    return Grid(
        problem=f"{problem['dataset']}/{problem['network']}",
        seeds=seeds,
        omegas=OMEGAS,
        etas=ETAS,
        curves={k: filled([r.curve[k] for r in finished.values()]) for k in CURVES},
        scores={k: filled([r.calibration[k] for r in finished.values()]) for k in SCORES},
        bins={k: filled([r.calibration[k] for r in finished.values()]) for k in BINS},
        decision=filled([*map(picture, finished.values())]) if one.decision else None,
        extent=tuple(one.decision["extent"]) if one.decision else None,
        ids=ids,
    )


def key_at(problem: dict[str, Any], omega: float, eta: float, seed: int) -> str:
    """Return the key of the run that stands for a pair: plain training's if SBA equals it."""
    plain = eta == 0 or omega == OMEGAS[-1]
    method = {"method": "erm"} if plain else {"method": "sba", "omega": omega, "eta": eta}
    return make_run(**problem, **method, seed=seed).key


def picture(record: TrainRecord) -> np.ndarray:
    """Return a record's picture of P(class 1) in [0, 1], of shape (rows, columns), the first row lowest."""
    stored = record.decision
    return np.frombuffer(base64.b64decode(stored["p1"]), np.uint8).reshape(stored["shape"]) / 255
