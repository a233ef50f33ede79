"""Table 1 in what a processor can do: CIFAR's rows at a tenth of the regime or less, ImageNet's on ten of its classes.

Such runs never stand among full ones, nor against a number of the paper. Their verdicts are a family of their own, on signs alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sba.records.compare import Index, at_seeds, indexed
from sba.records.inference import Contrast, contrast
from sba.records.judging import judge_signs
from sba.records.names import column
from sba.records.schema import Record
from sba.report.averages import Average, average, averages, deviations, evidence
from sba.studies.catalogue import shared
from sba.studies.paper_runs import IMAGENET_ROWS, IMAGENETTE, ROWS, imagenette, table1_core
from sba.studies.planned import scaled
from sba.training.run import Run, make_run

SHARES = (0.1, 0.025)
"""Shares of the regime's epochs on CIFAR; the milestones move with them. A fortieth is for networks whose tenth takes too long."""
SMALL_SHARES = (1.0, 0.25)
"""Shares of the small regime on ten classes, likewise."""
PRECISIONS = ("bf16", "none")
"""In the order in which runs are asked for."""
SEEDS = 5
"""Of SBA and of plain training at a tenth, fixed before the first of these runs."""


def is_share(run: Run) -> bool:
    """Say whether a run is one of :data:`SHARES` of its network's regime, which departs from it in nothing else."""
    return run.epochs in [max(1, round(share * run.full_epochs)) for share in SHARES] and not deviations(run)


def tenths(records: Iterable[Record]) -> list[Average]:
    """Average the runs of a tenth of a regime, or of a fortieth, over their seeds; lengths and precisions stay apart."""
    return averages(r for r in evidence(records) if r.reduced and is_share(r.run))


def ten_classes(records: Iterable[Record]) -> list[Average]:
    """Average the runs of the study on ten classes of ImageNet, in its order; those of another regime are left out, and those of
    :data:`SMALL_SHARES` stay apart."""
    index = indexed(records, IMAGENETTE.name)
    asked = (scaled(dict(setting.parameters), share) for share in SMALL_SHARES for setting in imagenette())
    return [one for run in asked if (one := average(list(at_seeds(index, run).values())))]


@dataclass(frozen=True)
class Difference:
    """A method minus another, both in the same small regime."""

    dataset: str  #: of the row of Table 1
    network: str  #: likewise
    name: str  #: column of the method
    part: str  #: column of what it is compared with
    epochs: int  #: of both
    amp: str  #: precision of both
    found: Contrast | None  #: the difference of errors in points; None if it was not run on both sides
    verdict: str = ""  #: on its sign, in the family of all of them


def differences(records: Iterable[Record]) -> list[Difference]:
    """Compare SBA with plain training, and Cutout + SBA with Cutout, in every row of Table 1 on CIFAR; at the share of
    :data:`SHARES` and the precision of :data:`PRECISIONS` that have most runs on both sides, the first of equal ones."""
    index, found = indexed(shared(records)), []
    for dataset, network in ROWS:
        plain, sba, cutout, both, _ = table1_core(dataset, network)
        for pair in ((sba, plain), (both, cutout)):
            regimes = [[scaled(one, share) | {"amp": amp} for one in pair] for share in SHARES for amp in PRECISIONS]
            found.append(in_one_regime(index, regimes))
    return judged(found)


def on_ten_classes(records: Iterable[Record]) -> list[Difference]:
    """Compare SBA with plain training on ten classes of ImageNet, and with Batch Augmentation if that is run beside."""
    index, found = indexed(records, IMAGENETTE.name), []
    for network in IMAGENET_ROWS:
        plain, sba, *beside = (s.parameters for s in imagenette() if s.run.network == network)
        for part in (plain, *beside):
            found.append(in_one_regime(index, [[scaled(one, share) for one in (sba, part)] for share in SMALL_SHARES]))
    return judged(found)


def in_one_regime(index: Index, regimes: Sequence[Sequence[dict[str, Any]]]) -> Difference:
    """Compare two settings, ours and theirs, in the regime with most runs on both sides, the first of equal ones."""
    sides = [[at_seeds(index, one) for one in pair] for pair in regimes]
    best = max(range(len(sides)), key=lambda number: min(map(len, sides[number])))
    (ours, theirs), (own, other) = (make_run(**one) for one in regimes[best]), sides[best]
    return Difference(
        ours.dataset, ours.network, column(ours), column(theirs), ours.epochs, ours.amp, contrast(own, other)
    )


def judged(found: Sequence[Difference]) -> list[Difference]:
    """Add the verdicts on signs, of one family."""
    signs = judge_signs([one.found for one in found])
    return [replace(one, verdict=sign.verdict) for one, sign in zip(found, signs, strict=True)]
