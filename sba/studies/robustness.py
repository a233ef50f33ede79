"""The study of robustness: the paper says that SBA makes a network "more insensitive to adversarial perturbations" (§3.3).

Networks are trained as in the study of the open points and then attacked, corrupted and disturbed. A record keeps compact numbers;
at one seed all methods meet the same draws. CIFAR comes last, since it takes a GPU.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sba.core.errors import ConfigError
from sba.measure.stress import measured
from sba.records.compare import Runs, at_seeds, indexed
from sba.records.schema import Record, TrainRecord
from sba.studies.ablations import FEW
from sba.studies.paper import ADOPTED_ETA
from sba.studies.planned import Setting, Study
from sba.training.loop import Training

NAME = "robustness"


@dataclass(frozen=True)
class Line:
    """A method as it is trained in this study."""

    label: str  #: for tables
    look: str  #: method in whose colour it is drawn
    changes: dict[str, Any]  #: parameters for :func:`sba.training.run.make_run`
    #: of SBA's second term, as a multiple of the problem's η; 0 if the method has none, or sets it itself
    weight: float = 0.0


LINES = (
    Line("baseline", "erm", {"method": "erm"}),
    Line("Cutout", "cutout", {"method": "erm", "cutout": "auto"}),
    Line("SBA", "sba", {"method": "sba"}, weight=1.0),
    Line("SBA, 10 η", "sba", {"method": "sba"}, weight=10.0),
    Line("SBA at the input", "sba", {"method": "sba", "layers": ("input",)}, weight=1.0),
    Line("SBA, M → ∞", "implicit-sba", {"method": "implicit-sba"}, weight=1.0),
    Line("latent BA", "ba", {"method": "sba", "preset": "latent-ba"}),
    Line("mixup", "mixup", {"method": "mixup"}),
    Line("manifold mixup", "manifold-mixup", {"method": "manifold-mixup"}),
    Line("ISDA", "isda", {"method": "isda"}),
    Line("decoupled mixup", "decoupled", {"method": "decoupled"}),
)


@dataclass(frozen=True)
class Problem:
    """What the methods are trained on, and how hard the networks are attacked."""

    base: dict[str, Any]  #: parameters of all runs
    eta: float  #: the weight of SBA's second term
    linf: tuple[float, ...]  #: radii of ℓ∞ balls, in units of the pixels' range
    l2: tuple[float, ...]  #: of ℓ2 balls
    checked: float  #: the ℓ∞ radius at which other attacks check that PGD is not fooled

    def parameters(self, line: Line) -> dict[str, Any]:
        """Return the parameters of a line here, without the seed."""
        return self.base | ({"eta": line.weight * self.eta} if line.weight else {}) | line.changes


PROBLEMS = (
    # η as in the study of the open points, so that the second term matters
    Problem(FEW | {"network": "digits"}, 1.0, (0.02, 0.05, 0.1, 0.15), (0.1, 0.25, 0.5, 0.75), 0.1),
    Problem(
        {"dataset": "cifar10", "network": "alexnet"},
        ADOPTED_ETA["cifar10", "alexnet"],
        tuple(levels / 255 for levels in (1, 2, 4, 8)),
        (0.1, 0.25, 0.5, 1.0),
        2 / 255,
    ),
)


def settings() -> Iterator[Setting]:
    """List every method on each problem."""
    for problem in PROBLEMS:
        for line in LINES:
            yield Setting(problem.parameters(line), NAME)


def measure(training: Training) -> dict[str, Any]:
    """Return what a record of this study keeps beside the usual: :func:`sba.measure.stress.measured`."""
    problem = problem_named(training.run.dataset)
    return measured(training, problem.linf, problem.l2, problem.checked)


def problem_named(dataset: str) -> Problem:
    """Look up the problem on a data set, or raise :class:`ConfigError` if the study has none."""
    found = {p.base["dataset"]: p for p in PROBLEMS}
    if dataset not in found:
        raise ConfigError(f"dataset: {dataset!r} is no part of the study {NAME!r}; choose from {', '.join(found)}")
    return found[dataset]


def runs_on(problem: Problem, records: Iterable[Record]) -> dict[str, Runs]:
    """Sort this study's records of a problem: label of a line → seed → record; lines without a record are left out."""
    index = indexed(records, NAME)
    found = {line.label: at_seeds(index, problem.parameters(line)) for line in LINES}
    return {label: runs for label, runs in found.items() if runs}


def at_radius(kind: str, radius: float) -> Callable[[TrainRecord], float]:
    """Return how to read the error under an attack, "fgsm", "pgd-inf" or "pgd-2" of a radius, from a record."""
    return lambda record: record.attacks[kind]["error"][record.attacks[kind]["radii"].index(radius)]


def mean_corrupted(record: TrainRecord) -> float:
    """Return the mean error over all corruptions and severities, in per cent."""
    return statistics.mean(statistics.mean(errors) for errors in record.corruptions.values())


STUDY = Study(
    NAME,
    "attacks, corruptions, noise at layers and calibration, on a hundred digits and on CIFAR-10",
    settings,
    seeds=10,
    last=5,
    measure=measure,
    vote=True,
    exclusive=True,
)
