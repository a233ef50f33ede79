"""Table 1 in what a processor can do: CIFAR's rows at a tenth of the regime or less, ImageNet's on ten of its classes.

Such runs never stand among full ones, nor against a number of the paper. Their verdicts are a family of their own, on signs alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sba.records.compare import Index, at_seeds, indexed
from sba.records.inference import Contrast, contrast
from sba.records.judging import judge_signs
from sba.records.names import column
from sba.records.schema import Record, TrainRecord
from sba.report.averages import Average, average, averages, deviations, evidence
from sba.studies.catalogue import shared
from sba.studies.paper_runs import IMAGENET_ROWS, IMAGENETTE, ROWS, imagenette, table1_core
from sba.studies.planned import scaled
from sba.training.run import Run, make_run

SHARES = {"alexnet": (0.1,), "resnet44": (0.1,), "vgg16": (0.1, 0.025)}
"""Shares of the regime's epochs on CIFAR, network by network; the milestones move with them. VGG-16 has a fortieth besides, since
its tenth takes hours."""
SMALL_SHARES = {"alexnet_imagenet": (1.0,), "resnet50": (1.0, 0.25), "vgg16_imagenet": (1.0, 0.25)}
"""Shares of the small regime on ten classes, likewise."""
FEW = 10
"""Epochs below which a run's error is its last: the median of the last five would tell of the time before the rate fell."""
PRECISION = "bf16"
"""Of the runs that are asked for and compared."""
SEEDS = 5
"""Of SBA and of plain training at each share, fixed before the first run at it."""


def shortened(run: Run) -> bool:
    """Say whether a run has one of the :data:`SHARES` of its network's regime, which it departs from in nothing else."""
    lengths = [max(1, round(share * run.full_epochs)) for share in SHARES.get(run.network, ())]
    return run.epochs in lengths and not deviations(run)


def tenths(records: Iterable[Record]) -> list[Average]:
    """Average the runs of a tenth of a regime, or of a fortieth, over their seeds; lengths and precisions stay apart."""
    return averages(with_last_error(r) for r in evidence(records) if r.reduced and shortened(r.run))


def with_last_error(record: TrainRecord) -> TrainRecord:
    """Return a record whose error is that of its last epoch, if its run has fewer than :data:`FEW`."""
    return record.model_copy(update={"error": record.error_last}) if record.run.epochs < FEW else record


def ten_classes(records: Iterable[Record]) -> list[Average]:
    """Average the runs of the study on ten classes of ImageNet, in its order; those of another regime are left out, and those of
    :data:`SMALL_SHARES` stay apart."""
    index = indexed(map(with_last_error, of_study(records)))
    found = (average(list(at_seeds(index, one).values())) for one in small_regimes())
    return [one for one in found if one]


def of_study(records: Iterable[Record]) -> Iterator[TrainRecord]:
    """Keep the finished runs of the study on ten classes."""
    return (r for r in finished(records) if r.study == IMAGENETTE.name)


def small_regimes() -> Iterator[dict[str, Any]]:
    """List the settings of the study on ten classes, each at its network's shares, the whole one first."""
    for setting in imagenette():
        for share in SMALL_SHARES[setting.run.network]:
            yield scaled(setting.parameters, share)


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
    """Compare SBA with plain training, and Cutout + SBA with Cutout, in every row of Table 1 on CIFAR and at each of the row's
    :data:`SHARES`: the family is that of all these, whatever was run."""
    index, pairs = indexed(map(with_last_error, finished(shared(records)))), []
    for dataset, network in ROWS:
        plain, sba, cutout, both, _ = table1_core(dataset, network)
        for share in SHARES[network]:
            pairs += [
                [scaled(one, share) | {"amp": PRECISION} for one in pair] for pair in ((sba, plain), (both, cutout))
            ]
    return judged(index, pairs)


def on_ten_classes(records: Iterable[Record]) -> list[Difference]:
    """Compare SBA with plain training on ten classes of ImageNet, and with Batch Augmentation if that is run beside, at each of the
    network's :data:`SMALL_SHARES`."""
    index, pairs = indexed(map(with_last_error, of_study(records))), []
    for network in IMAGENET_ROWS:
        plain, sba, *beside = (s.parameters for s in imagenette() if s.run.network == network)
        for share in SMALL_SHARES[network]:
            pairs += [[scaled(one, share) for one in (sba, part)] for part in (plain, *beside)]
    return judged(index, pairs)


def finished(records: Iterable[Record]) -> Iterator[TrainRecord]:
    """Keep the finished runs."""
    return (r for r in records if isinstance(r, TrainRecord))


def judged(index: Index, pairs: Sequence[Sequence[dict[str, Any]]]) -> list[Difference]:
    """Compare settings, ours and theirs, and add the verdicts on signs, of one family."""
    found = []
    for pair in pairs:
        (ours, theirs), (own, other) = (make_run(**one) for one in pair), (at_seeds(index, one) for one in pair)
        where = (ours.dataset, ours.network, column(ours), column(theirs), ours.epochs, ours.amp)
        found.append(Difference(*where, contrast(own, other)))
    signs = judge_signs([one.found for one in found])
    return [replace(one, verdict=sign.verdict) for one, sign in zip(found, signs, strict=True)]
