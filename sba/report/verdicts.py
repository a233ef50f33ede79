"""What the paper claims, and what the records say to it: holds, does not hold, open, or not run.

A verdict is computed, never written. A claim about a mean holds if the whole 95 % interval lies on its side, does not hold if it
lies on the other, and is open in between, or if there is one seed. Arithmetic of the paper's own table needs no seeds.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sba.models.registry import build
from sba.records.compare import Difference, Index, Runs, at_seeds, indexed, paired
from sba.records.names import title
from sba.records.schema import BenchRecord, Record, TrainRecord
from sba.report.convergence import MARGIN, epochs_to
from sba.studies import paper
from sba.studies.ablations import compare
from sba.studies.catalogue import shared
from sba.studies.paper_runs import HOLDOUT, IMAGENET_ROWS, ROWS, imagenet_row, published, row

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "open", "not run"


@dataclass(frozen=True)
class Verdict:
    """What the records say to a claim.

    Attributes:
        place: in the paper.
        claim: what, in our words.
        outcome: one of "holds", "does not hold", "open", "not run".
        because: the numbers behind it.
        ids: their records; empty for arithmetic of the paper's own table.
    """

    place: str
    claim: str
    outcome: str
    because: str
    ids: tuple[str, ...] = ()


def lower(difference: Difference | None) -> str:
    """Judge the claim that a difference is below 0."""
    if difference is None:
        return NOT_RUN
    if difference.high < 0:
        return HOLDS
    return FAILS if difference.low > 0 else OPEN


def judged(place: str, claim: str, difference: Difference | None, because: str = "{} points") -> Verdict:
    """Judge the claim that a difference is below 0; the reason is written around it."""
    if difference is None:
        return Verdict(place, claim, NOT_RUN, "no pair of full runs at equal seeds")
    return Verdict(place, claim, lower(difference), because.format(difference), difference.ids)


def points(value: float) -> str:
    """Write a difference of errors."""
    return f"{value:+.2f}".replace("-", "−")


def sides(index: Index, dataset: str, network: str) -> tuple[Runs, Runs]:
    """Find the runs of a row of Table 1 with SBA as published, and those of plain training."""
    sba = at_seeds(index, row(dataset, network, method="sba", **published(dataset, network)))
    return sba, at_seeds(index, row(dataset, network, method="erm"))


def generalisation(index: Index) -> list[Verdict]:
    """Abstract, §4.4, Table 1: SBA lowers the test error, row by row."""
    found = []
    for dataset, network in ROWS:
        theirs, ours = (paper.stated(dataset, network, name) for name in ("erm", "sba"))
        claimed = ours.error - theirs.error
        difference = paired(*sides(index, dataset, network))
        claim = (
            f"SBA lowers the test error of {title(network)} on {title(dataset)} "
            f"from {theirs.error:.2f} to {ours.error:.2f} %, by {points(claimed)} points"
        )
        because = "SBA minus baseline: {} points"
        if difference and difference.half is not None:
            where = "inside" if difference.low <= claimed <= difference.high else "outside"
            because += f"; the paper's {points(claimed)} lies {where} the interval"
        found.append(judged("Abstract, Table 1", claim, difference, because))
    return found


def convergence(index: Index) -> list[Verdict]:
    """Abstract: SBA speeds up convergence, in epochs of the same regime, to the baseline's own final error and a margin."""
    dataset, network = ROWS[0]
    sba, base = sides(index, dataset, network)

    def until(record: TrainRecord) -> float:
        return epochs_to(record, base[record.seed].error + MARGIN)

    both = {s: r for s, r in sba.items() if s in base}
    never = sum(until(r) == len(r.epochs) for r in both.values())
    because = (
        f"epochs until the test error is within {MARGIN} points of the baseline's last, SBA minus baseline: {{}}; "
        f"{never} of {len(both)} SBA runs never got there and count with all their epochs"
    )
    claim = f"SBA speeds up convergence ({title(network)}, {title(dataset)})"
    return [judged("Abstract", claim, paired(both, base, until), because)]


def adopted_eta(index: Index) -> list[Verdict]:
    """§4.2: the adopted η is the best of the grid, on held-out images."""
    dataset, network = ROWS[0]
    adopted = paper.ADOPTED_ETA[dataset, network]
    runs = {eta: at_seeds(index, eta_parameters(dataset, network, eta)) for eta in paper.ETA_GRID}
    shared = sorted(set.intersection(*(set(r) for r in runs.values())))
    grid = ", ".join(f"{eta:g}" for eta in paper.ETA_GRID)
    claim = f"of η ∈ {{{grid}}}, {adopted:g} is the best for {title(network)} on {title(dataset)}"
    if not shared:
        return [Verdict("§4.2", claim, NOT_RUN, "no seed at which every η was run on held-out images")]
    means = {eta: statistics.mean(r[s].error for s in shared) for eta, r in runs.items()}
    best = min(means, key=lambda eta: means[eta])
    because = (
        f"lowest error on {HOLDOUT} held-out images at η = {best:g}: {means[best]:.2f} %; at {adopted:g}: {means[adopted]:.2f} %, "
        f"at 0: {means[0.0]:.2f} % (n={len(shared)})"
    )
    rivals = [lower(paired(runs[adopted], r)) for eta, r in runs.items() if eta != adopted]
    outcome = HOLDS if set(rivals) == {HOLDS} else FAILS if FAILS in rivals else OPEN
    return [Verdict("§4.2", claim, outcome, because, tuple(r[s].id for r in runs.values() for s in shared))]


def eta_parameters(dataset: str, network: str, eta: float, holdout: int = HOLDOUT) -> dict[str, Any]:
    """Return the parameters of a run of Figure 2; η = 0 is plain training."""
    at = row(dataset, network, **({"holdout": holdout} if holdout else {}))
    if eta == 0:
        return at | {"method": "erm"}
    return at | {"method": "sba"} | published(dataset, network) | {"eta": eta}


def against_ba(index: Index) -> list[Verdict]:
    """§4.3: SBA outperforms Batch Augmentation at the same layer (Figure 3)."""
    dataset, network, layer = "cifar10", "alexnet", "flatten"
    at = row(dataset, network, method="sba", layers=(layer,), folds=4)
    sba = at_seeds(index, at | {"eta": paper.ADOPTED_ETA[dataset, network]})
    claim = f"SBA outperforms BA at the same layer (here {title(network)}'s {layer} on {title(dataset)})"
    difference = paired(sba, at_seeds(index, at | {"preset": "latent-ba"}))
    return [judged("§4.3", claim, difference, "SBA minus BA, both with M = 4: {} points")]


def overhead(records: Sequence[Record]) -> list[Verdict]:
    """§3.2, §4.3: augmenting near the input costs far more than near the output."""
    network = "resnet44"
    timed = [r for r in records if isinstance(r, BenchRecord) and r.compared.family == "layers"]
    own = sorted((r for r in timed if r.compared.network == network), key=lambda r: r.date)
    newest = {r.compared.layer: r for r in own}
    claim = f"augmenting close to the input makes the extra cost far larger than close to the output (here {title(network)})"
    if len(newest) < 2:
        return [Verdict("§3.2, §4.3", claim, NOT_RUN, "no measurement")]
    dear, cheap = (pick(newest.values(), key=lambda r: r.value) for pick in (max, min))
    because = (
        f"an augmented step takes {dear.value:.2f} plain steps at {dear.compared.layer} and {cheap.value:.2f} at "
        f"{cheap.compared.layer} (medians of {dear.rounds} rounds)"
    )
    stages = build(network, 10, 3, 32).stages
    nearer = stages.index(dear.compared.layer) < stages.index(cheap.compared.layer)
    outcome = HOLDS if nearer and dear.low > cheap.high else OPEN
    return [Verdict("§3.2, §4.3", claim, outcome, because, (dear.id, cheap.id))]


def small_problem(records: Sequence[Record]) -> list[Verdict]:
    """§2, §3.3: the vote and the soft label, on a hundred digits."""
    by_label = {r["label"]: r for r in compare(records) if r["group"] == "the default layers"}
    asked = (
        ("§1", "the majority vote of raw and virtual predictions lowers the error", "reference", "vote", 1),
        ("§3.3", "the soft label does better than the hard one", "hard label (Eq. 9)", "error", -1),
    )
    found = []
    for place, claim, label, number, sign in asked:
        one, difference = by_label.get(label), None
        if one:
            mean, half = one[number]
            difference = Difference(sign * mean, half, one["n"], tuple(one["ids"]))
        what = "vote minus single pass" if number == "vote" else "soft minus hard label"
        found.append(judged(place, f"{claim} (here 100 digits)", difference, what + ": {} points"))
    return found


def arithmetic() -> list[Verdict]:
    """§4.4 and the last column of Table 1: what the paper's table says of itself."""
    gap = max(
        abs(stated - 100 * (1 - paper.stated(*key, "sba").error / paper.stated(*key, "erm").error))
        for key, stated in paper.RELATIVE_IMPROVEMENT.items()
    )
    column = Verdict(
        "Table 1",
        "the column of relative improvements follows from the others",
        HOLDS if gap < 0.05 else FAILS,
        f"largest mismatch {gap:.3f} percentage points",
    )
    errors = {name: paper.stated("cifar10", "vgg16", name).error for name in paper.COLUMNS}
    gains = [errors["erm"] - errors[name] for name in ("cutout+ba", "cutout")]
    matches = all(abs(gain - stated) < 0.05 for gain, stated in zip(gains, paper.QUOTED_GAINS, strict=True))
    others = [errors[name] - errors["sba"] for name in ("cutout+ba", "cutout")]
    stated = ", ".join(f"{g:.2f}" for g in paper.QUOTED_GAINS)
    quoted = Verdict(
        "§4.4",
        f"the gains of Cutout + BA and of Cutout against the baseline are {stated} points (VGG-16, CIFAR-10)",
        HOLDS if matches else FAILS,
        f"by Table 1 they are {gains[0]:.2f} and {gains[1]:.2f}; the numbers quoted are SBA's gains against those two, "
        f"{others[0]:.2f} and {others[1]:.2f}",
    )
    return [column, quoted]


def imagenet(index: Index) -> list[Verdict]:
    """Table 1 on ImageNet: SBA lowers the top-1 error, row by row."""
    found = []
    for network in IMAGENET_ROWS:
        base, sba, _ = (at_seeds(index, parameters) for parameters in imagenet_row(network))
        claim = f"SBA lowers the error of {title(network)} on ImageNet"
        found.append(judged("Table 1", claim, paired(sba, base), "SBA minus baseline: {} points"))
    return found


def iterations() -> list[Verdict]:
    """§4.3: a claim about a regime that the paper does not state, so that no run can be planned for it."""
    claim = "ResNet-44 with SBA needs two thirds of BA's iterations on CIFAR-10"
    return [Verdict("§4.3", claim, NOT_RUN, "another regime, which the paper does not state")]


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Judge every claim.

    Args:
        records: as :func:`sba.records.file.read` reads them.
    """
    index = indexed(shared(records))
    of_runs = (generalisation, convergence, adopted_eta, against_ba)
    found = [verdict for part in of_runs for verdict in part(index)]
    return [*found, *overhead(records), *small_problem(records), *arithmetic(), *iterations(), *imagenet(index)]
