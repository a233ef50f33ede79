"""What the paper claims of a difference that runs can show, in our words, with the runs that are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sba.records import images
from sba.records.arrivals import arrivals, sooner
from sba.records.compare import Index, Runs, at_seeds
from sba.records.inference import Contrast, contrast
from sba.records.names import signed, title
from sba.records.schema import Record
from sba.studies import paper
from sba.studies.ablations import GROUPS, effects, vote_effect
from sba.studies.paper_runs import IMAGENET_ROWS, KNOWN, ROWS, imagenet_row, published, row

PRECISIONS: tuple[Literal["none", "bf16"], ...] = ("none", "bf16")
"""At which full runs of a row may be made; no claim mixes them."""
OURS = "not in the paper"
"""Place of a claim that only its method makes."""


@dataclass(frozen=True)
class Claim:
    """A claim that a difference is below 0, before it is judged."""

    place: str  #: in the paper
    text: str  #: what, in our words
    found: Contrast | None  #: the difference; None if it was not run
    what: str  #: of what it is
    size: float | None = None  #: that the paper states, in points; None if it states none
    note: str = ""  #: more about the numbers
    images: str = ""  #: what the choice of test images adds


def claim_of(
    place: str, text: str, ours: Runs, theirs: Runs, what: str, size: float | None = None, note: str = ""
) -> Claim:
    """Make a claim of two settings, that the one errs less than the other."""
    found = contrast(ours, theirs)
    over = images.sampling(ours, theirs) if found else None
    told = str(over or "records that say which images were right: not on both sides") if found else ""
    precision = next((f", {r.run.amp}" for r in ours.values() if found and r.run.amp != PRECISIONS[0]), "")
    return Claim(place, text, found, f"{what}, points{precision}", size, note, told)


def fresh(index: Index, parameters: Mapping[str, Any]) -> Runs:
    """Find the runs of a setting that a test may count: without the seeds whose results were known when the number of runs was
    fixed (:data:`sba.studies.paper_runs.KNOWN`), or these alone, too few for a verdict, if there are no others."""
    runs = at_seeds(index, parameters)
    known = KNOWN.get((parameters["dataset"], parameters["network"]), frozenset())
    return {s: r for s, r in runs.items() if s not in known} or runs


def sides(index: Index, dataset: str, network: str, **more: Any) -> tuple[Runs, Runs]:
    """Find the runs of a row of Table 1 with SBA as published, and those of plain training, at one precision."""
    sba = row(dataset, network, method="sba", **published(dataset, network), **more)
    return in_one_precision(index, sba, row(dataset, network, method="erm", **more))


def in_one_precision(index: Index, ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[Runs, Runs]:
    """Find the runs of two settings at the precision at which more runs are on both sides, the first of equal ones: how many there
    are decides, not what came out."""
    both = [(fresh(index, ours | {"amp": amp}), fresh(index, theirs | {"amp": amp})) for amp in PRECISIONS]
    return max(both, key=lambda pair: min(map(len, pair)))


def generalisation(index: Index) -> list[Claim]:
    """Abstract, §4.4, Table 1: SBA lowers the test error, row by row; and it does so beside Cutout, which Table 1 leaves out."""
    found = []
    for dataset, network in (*ROWS, *(("imagenet", network) for network in IMAGENET_ROWS)):
        theirs, ours = (paper.stated(dataset, network, name) for name in ("erm", "sba"))
        claimed = ours.error - theirs.error
        if dataset == "imagenet":
            base, sba, _ = imagenet_row(network)
            pair = in_one_precision(index, sba, base)
        else:
            pair = sides(index, dataset, network)
        claim = (
            f"SBA lowers the test error of {title(network)} on {title(dataset)} "
            f"from {theirs.error:.2f} to {ours.error:.2f} %, by {signed(claimed)} points"
        )
        found.append(claim_of("Abstract, Table 1", claim, *pair, "SBA minus baseline", claimed))
    dataset, network = ROWS[0]
    claim = f"SBA lowers the test error of {title(network)} on {title(dataset)} beside Cutout, too"
    found.append(claim_of(OURS, claim, *sides(index, dataset, network, cutout="auto"), "Cutout + SBA minus Cutout"))
    return found


def convergence(index: Index) -> list[Claim]:
    """Abstract: SBA speeds up convergence, in epochs of the same regime, to the error that the paper states for the baseline."""
    dataset, network = ROWS[0]
    threshold, pair = paper.stated(dataset, network, "erm").error, sides(index, dataset, network)
    claim = f"SBA speeds up convergence ({title(network)}, {title(dataset)})"
    what = f"epochs until the test error is {threshold:.2f} %, the paper's baseline, or less (restricted mean), SBA minus baseline"
    if not all(pair):
        return [Claim("Abstract", claim, None, what)]
    horizon = min(r.run.epochs for side in pair for r in side.values())
    ours, theirs = (arrivals([[e.error for e in r.epochs] for r in side.values()], threshold, horizon) for side in pair)
    note = f"reached by {ours.share:.0%} of the runs with SBA and {theirs.share:.0%} without"
    ids = tuple(r.id for side in pair for r in side.values())
    return [Claim("Abstract", claim, replace(sooner(ours, theirs), ids=ids), what, note=note)]


def against_ba(index: Index) -> list[Claim]:
    """§4.3: SBA outperforms Batch Augmentation at the same layer (Figure 3)."""
    dataset, network, layer = "cifar10", "alexnet", "flatten"
    at = row(dataset, network, method="sba", layers=(layer,), folds=4)
    sba, ba = (
        fresh(index, at | more) for more in ({"eta": paper.ADOPTED_ETA[dataset, network]}, {"preset": "latent-ba"})
    )
    claim = f"SBA outperforms BA at the same layer (here {title(network)}'s {layer} on {title(dataset)})"
    return [claim_of("§4.3", claim, sba, ba, "SBA minus BA, both with M = 4")]


def small_problem(records: Sequence[Record]) -> list[Claim]:
    """§2, §3.3: the vote and the soft label, on a hundred digits."""
    runs = {e.label: e.runs for e in effects(records) if e.group == GROUPS[0].title}
    reference, hard = (runs.get(label, {}) for label in ("reference", "hard label (Eq. 9)"))
    vote = "the majority vote of raw and virtual predictions lowers the error (here 100 digits)"
    soft = "the soft label does better than the hard one (here 100 digits)"
    return [
        Claim("§1", vote, vote_effect(reference), "vote minus single pass, points"),
        claim_of("§3.3", soft, reference, hard, "soft minus hard label"),
    ]


def claims(index: Index, records: Sequence[Record]) -> list[Claim]:
    """Make every claim of a difference below 0: they are one family. The index is of the records that may stand in a table
    (:func:`sba.records.compare.indexed`), ``records`` are all."""
    return [*generalisation(index), *convergence(index), *against_ba(index), *small_problem(records)]
