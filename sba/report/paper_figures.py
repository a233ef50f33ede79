"""What the records say to Figures 2 and 3: every η, and every layer with SBA and Batch Augmentation at it."""

import statistics
from dataclasses import dataclass
from typing import Any

from sba.core.scheduler import probability
from sba.methods import SBA
from sba.models.flops import multiply_adds, share_behind, step_cost
from sba.models.registry import build
from sba.records.compare import Difference, Index, Runs, at_seeds, paired
from sba.report.convergence import MARGIN, epochs_to
from sba.report.verdicts import eta_parameters
from sba.studies.paper import ETA_GRID
from sba.studies.paper_runs import HOLDOUT, LAYERS, WIDE, published, row


@dataclass(frozen=True)
class Eta:
    """One η of Figure 2.

    Attributes:
        eta: 0 is plain training.
        holdout: the records evaluated on held-out training images.
        test: those evaluated on the test set.
    """

    eta: float
    holdout: Runs
    test: Runs


def figure2(index: Index, dataset: str, network: str) -> list[Eta]:
    """Find the records of Figure 2 for a row of Table 1, one entry for each η of the paper's grid.

    Args:
        index: from :func:`sba.records.compare.indexed`.
        dataset: of the row.
        network: of the row.
    """
    return [
        Eta(eta, *(at_seeds(index, eta_parameters(dataset, network, eta, holdout)) for holdout in (HOLDOUT, 0)))
        for eta in ETA_GRID
    ]


@dataclass(frozen=True)
class Layer:
    """One layer of Figure 3, with M virtual points of SBA and of Batch Augmentation in latent space.

    Attributes:
        layer: its name.
        folds: M.
        cost: expected forward cost of a step in plain steps, by count (:func:`sba.models.flops.step_cost`), of "sba" and of "ba".
        sba: records of SBA there.
        ba: of Batch Augmentation there: every step, dropout points, hard label.
        base: of plain training.
    """

    layer: str
    folds: int
    cost: dict[str, float]
    sba: Runs
    ba: Runs
    base: Runs

    @property
    def difference(self) -> Difference | None:
        """Error of SBA minus that of Batch Augmentation at equal seeds, in percentage points."""
        return paired(self.sba, self.ba)

    def epochs(self, method: str) -> float | None:
        """Return the mean epochs until the error is within `convergence.MARGIN` of the baseline's last; None for no shared seed.

        A run that never gets there counts with all its epochs.
        """
        runs = {"sba": self.sba, "ba": self.ba}[method]
        seeds = runs.keys() & self.base.keys() & self.sba.keys() & self.ba.keys()
        if not seeds:
            return None
        return statistics.mean(epochs_to(runs[s], self.base[s].error + MARGIN) for s in seeds)

    @property
    def ratio(self) -> float | None:
        """t₁/t₂, the cost of BA until then over that of SBA; above 1 SBA is there first. None for no pair."""
        ours, theirs = self.epochs("sba"), self.epochs("ba")
        return None if ours is None or theirs is None else theirs * self.cost["ba"] / (ours * self.cost["sba"])


def figure3(index: Index, dataset: str, network: str, folds: int = 4, **changes: Any) -> list[Layer]:
    """Find the records of Figure 3 for a network, one entry for each of its layers, from the input on.

    Args:
        index: from :func:`sba.records.compare.indexed`.
        dataset: of the row.
        network: of the row, one of `paper_runs.LAYERS`.
        folds: M.
        changes: parameters in which all runs differ from the row's, as a smaller number of epochs.
    """
    counted = {one.layer: one for one in multiply_adds(build(network, 10, 3, 32))}
    found = []
    for layer in LAYERS[dataset, network]:
        at = row(dataset, network, method="sba", layers=(layer,), folds=folds, **changes)
        at |= {"basis": "hadamard"} if layer in WIDE else {}
        default = SBA()
        point = {
            name: share_behind(counted[layer], counted["input"].behind, at.get("basis", default.basis), share)
            # BA's points are dropout points alone, and none of them goes through Σ
            for name, share in (("sba", default.gaussian_share), ("ba", 0.0))
        }
        found.append(
            Layer(
                layer,
                folds,
                {
                    "sba": step_cost(probability(default.omega), folds, point["sba"]),
                    "ba": step_cost(1.0, folds, point["ba"]),
                },
                at_seeds(index, at | {"eta": published(dataset, network)["eta"]}),
                at_seeds(index, at | {"preset": "latent-ba"}),
                at_seeds(index, row(dataset, network, method="erm", **changes)),
            )
        )
    return found
