"""Table 1 in what a processor can do: CIFAR's rows at a tenth of the regime, ImageNet's on ten of its classes.

Such runs never stand among full ones, nor against a number of the paper. Their verdicts are a family of their own, on signs alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sba.records.compare import at_seeds, indexed
from sba.records.inference import Contrast, contrast
from sba.records.judging import judge_signs
from sba.records.names import column
from sba.records.schema import Record
from sba.report.averages import Average, average, averages, deviations, evidence
from sba.studies.catalogue import shared
from sba.studies.paper_runs import IMAGENETTE, ROWS, imagenette, table1_core
from sba.studies.planned import scaled
from sba.training.run import Run, make_run

SCALE = 0.1
"""Share of the regime's epochs; the milestones move with them."""
PRECISIONS = ("bf16", "none")
"""In the order in which runs are asked for."""
SEEDS = 5
"""Of SBA and of plain training at a tenth, fixed before the first of these runs."""


def is_tenth(run: Run) -> bool:
    """Say whether a run is a tenth of its network's regime, which departs from it in nothing else."""
    return run.epochs == max(1, round(SCALE * run.full_epochs)) and not deviations(run)


def tenths(records: Iterable[Record]) -> list[Average]:
    """Average the runs of a tenth of a regime over their seeds; runs at two precisions stay apart."""
    return averages(r for r in evidence(records) if r.reduced and is_tenth(r.run))


def ten_classes(records: Iterable[Record]) -> list[Average]:
    """Average the runs of the study on ten classes of ImageNet, in its order; those of another regime are left out."""
    index = indexed(records, IMAGENETTE.name)
    found = (list(at_seeds(index, setting.parameters).values()) for setting in imagenette())
    return [one for runs in found if (one := average(runs))]


@dataclass(frozen=True)
class Difference:
    """A method minus another, both in the same small regime."""

    dataset: str  #: of the row of Table 1
    network: str  #: likewise
    name: str  #: column of the method
    part: str  #: column of what it is compared with
    amp: str  #: precision of both
    found: Contrast | None  #: the difference of errors in points; None if it was not run on both sides
    verdict: str = ""  #: on its sign, in the family of all of them


def differences(records: Iterable[Record]) -> list[Difference]:
    """Compare SBA with plain training, and Cutout + SBA with Cutout, in every row of Table 1 on CIFAR; at the precision of
    :data:`PRECISIONS` that has most runs on both sides."""
    index, found = indexed(shared(records)), []
    for dataset, network in ROWS:
        plain, sba, cutout, both, _ = table1_core(dataset, network)
        for ours, theirs in ((sba, plain), (both, cutout)):
            tenth = [scaled(one, SCALE) for one in (ours, theirs)]
            sides = {amp: [at_seeds(index, one | {"amp": amp}) for one in tenth] for amp in PRECISIONS}
            amp, (own, other) = max(sides.items(), key=lambda side: min(map(len, side[1])))
            name, part = (column(make_run(**one)) for one in (ours, theirs))
            found.append(Difference(dataset, network, name, part, amp, contrast(own, other)))
    return judged(found)


def on_ten_classes(records: Iterable[Record]) -> list[Difference]:
    """Compare SBA with plain training on ten classes of ImageNet, and with Batch Augmentation if that is run beside."""
    small = ten_classes(records)
    asked = dict.fromkeys((one.run.network, column(one.run)) for one in imagenette())
    found = []
    for network, part in asked:
        if part != "sba":
            own, other = (
                next((one.by_seed for one in small if (one.run.network, one.column) == (network, name)), {})
                for name in ("sba", part)
            )
            found.append(Difference("imagenette", network, "sba", part, PRECISIONS[0], contrast(own, other)))
    return judged(found)


def judged(found: Sequence[Difference]) -> list[Difference]:
    """Add the verdicts on signs, of one family."""
    signs = judge_signs([one.found for one in found])
    return [replace(one, verdict=sign.verdict) for one, sign in zip(found, signs, strict=True)]
