"""What the records say to Figures 2 and 3: every η, and every layer with SBA and Batch Augmentation at it."""

from dataclasses import dataclass
from typing import Any

from sba.core.scheduler import probability
from sba.methods import SBA
from sba.models.flops import share_behind, step_cost
from sba.records.arrivals import Arrivals, arrivals
from sba.records.compare import Index, Runs, at_seeds
from sba.records.inference import Contrast, contrast
from sba.report.price import counted
from sba.studies.paper import ETA_GRID, stated
from sba.studies.paper_runs import HOLDOUT, LAYERS, WIDE, eta_parameters, published, row


@dataclass(frozen=True)
class Eta:
    """One η of Figure 2."""

    eta: float  #: 0 is plain training
    holdout: Runs  #: the records evaluated on held-out training images
    test: Runs  #: those evaluated on the test set


def figure2(index: Index, dataset: str, network: str) -> list[Eta]:
    """Find the records of Figure 2 for a row of Table 1, one entry for each η of the paper's grid."""
    return [
        Eta(eta, *(at_seeds(index, eta_parameters(dataset, network, eta, holdout)) for holdout in (HOLDOUT, 0)))
        for eta in ETA_GRID
    ]


@dataclass(frozen=True)
class Layer:
    """One layer of Figure 3, with M virtual points of SBA and of Batch Augmentation in latent space."""

    layer: str  #: its name
    #: expected forward cost of a step in plain steps, by count (:func:`sba.models.flops.step_cost`): of "sba", of "ba"
    cost: dict[str, float]
    sba: Runs  #: records of SBA there
    ba: Runs  #: of Batch Augmentation there: every step, dropout points, hard label
    base: Runs  #: of plain training
    threshold: float  #: the error that the paper states for plain training, in per cent

    @property
    def difference(self) -> Contrast | None:
        """Error of SBA minus that of Batch Augmentation, in percentage points."""
        return contrast(self.sba, self.ba)

    def epochs(self, method: str) -> Arrivals | None:
        """Find when the runs of "sba" or "ba" reach the error that the paper states for plain training; None without a run."""
        runs = {"sba": self.sba, "ba": self.ba}[method].values()
        if not runs:
            return None
        return arrivals([[e.error for e in r.epochs] for r in runs], self.threshold, min(r.run.epochs for r in runs))

    @property
    def ratio(self) -> float | None:
        """t₁/t₂, the cost of BA until then over that of SBA; above 1 SBA is there first. None unless all runs get there."""
        ours, theirs = self.epochs("sba"), self.epochs("ba")
        if ours is None or theirs is None or min(ours.share, theirs.share) < 1:
            return None
        return theirs.restricted_mean * self.cost["ba"] / (ours.restricted_mean * self.cost["sba"])


def figure3(index: Index, dataset: str, network: str, folds: int = 4, **changes: Any) -> list[Layer]:
    """Find the records of Figure 3 with M points for a row of :data:`sba.studies.paper_runs.LAYERS`, one entry for each of its
    layers, from the input on; ``changes`` are parameters in which all runs differ from the row's, as a smaller number of epochs."""
    _, behind = counted(network, 10)
    default, found = SBA(), []
    for layer in LAYERS[dataset, network]:
        at = row(dataset, network, method="sba", layers=(layer,), folds=folds, **changes)
        at |= {"basis": "hadamard"} if layer in WIDE else {}
        place = behind[layer], behind["input"].behind, at.get("basis", default.basis)
        # BA's points are dropout points alone, and none of them goes through Σ
        asked = (("sba", probability(default.omega), default.gaussian_share), ("ba", 1.0, 0.0))
        found.append(
            Layer(
                layer,
                {name: step_cost(p, folds, share_behind(*place, share)) for name, p, share in asked},
                at_seeds(index, at | {"eta": published(dataset, network)["eta"]}),
                at_seeds(index, at | {"preset": "latent-ba"}),
                at_seeds(index, row(dataset, network, method="erm", **changes)),
                stated(dataset, network, "erm").error,
            )
        )
    return found
