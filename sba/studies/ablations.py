"""What the paper's open points change: one training for each switch and seed, beside the setting it departs from.

The networks are small and the data are a hundred of scikit-learn's digits, so that everybody can repeat it in minutes; η is larger
than the paper's, so that the second term matters. It says which switches matter here, not which matter on CIFAR.
"""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sba.core.hyper import definitions
from sba.methods import METHODS, SBA
from sba.records.compare import at_seeds, indexed
from sba.records.schema import Record, TrainRecord
from sba.records.stats import interval
from sba.studies.planned import Setting, Study

NAME = "switches"


@dataclass(frozen=True)
class Variant:
    """One setting.

    Attributes:
        point: of ``book/decisions.md``; 0 if none asks for it.
        label: what it is, in the words of the fields.
        changes: to the parameters of its group's reference.
    """

    point: int
    label: str
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Settings that are compared with one reference.

    Attributes:
        title: for tables.
        base: parameters of the reference, for :func:`sba.training.run.make_run`.
        variants: what departs from it.
    """

    title: str
    base: dict[str, Any]
    variants: tuple[Variant, ...]

    def parameters(self, variant: Variant | None) -> dict[str, Any]:
        """Return the parameters of a variant, or of the reference for None."""
        changes = variant.changes if variant else {}
        method = METHODS[changes.get("method", "sba")]
        kept = {k: v for k, v in self.base.items() if k not in definitions(SBA) or k in definitions(method)}
        return kept | changes


FEW: dict[str, Any] = {
    "dataset": "digits",
    "holdout": 1098,
    "batch_size": 20,
    "epochs": 120,
    "milestones": (60, 96),
    "lr": 0.02,
}
"""A hundred images to learn from and all others to evaluate on: enough is left to learn that regularisation matters."""
COMMON = FEW | {"method": "sba", "eta": 1.0}

GROUPS: tuple[Group, ...] = (
    Group(
        "the default layers",
        COMMON | {"network": "digits"},
        (
            Variant(0, "baseline, no second term", {"method": "erm"}),
            Variant(1, "λ drawn once an epoch", {"schedule": "epoch"}),
            Variant(2, "ω = 0: every step", {"omega": 0.0}),
            Variant(2, "ω = 5π/12", {"omega": 5 * math.pi / 12}),
            Variant(3, "either-or, soft label", {"objective": "either_or"}),
            Variant(3, "either-or, hard label (Eq. 4)", {"objective": "either_or", "label": "hard"}),
            Variant(5, "Gaussian points only", {"gaussian_share": 1.0}),
            Variant(5, "dropout points only", {"gaussian_share": 0.0}),
            Variant(6, "σ absolute", {"scale": "absolute"}),
            Variant(6, "σ relative to a running spread", {"scale": "running"}),
            Variant(7, "truncated noise", {"bound": "truncate"}),
            Variant(8, "Σ orthogonal", {"basis": "orthogonal"}),
            Variant(8, "Σ Hadamard", {"basis": "hadamard"}),
            Variant(8, "no Σ", {"basis": "identity"}),
            Variant(11, "dropout not rescaled (Eq. 8)", {"dropout_rescale": False}),
            Variant(12, "the last layer only", {"layers": ("fc1",)}),
            Variant(12, "the input", {"layers": ("input",)}),
            Variant(15, "teacher not detached", {"detach": False}),
            Variant(17, "two updates, stale", {"update": "sequential_stale"}),
            Variant(17, "two updates, fresh", {"update": "sequential_fresh"}),
            Variant(0, "hard label (Eq. 9)", {"label": "hard"}),
            Variant(0, "preset paper", {"preset": "paper"}),
        ),
    ),
    Group(
        "the last layer",
        COMMON | {"network": "digits", "layers": ("fc1",)},
        (
            Variant(4, "M = 2", {"folds": 2}),
            Variant(4, "M → ∞, second order", {"method": "implicit-sba", "expectation": "second_order"}),
            Variant(4, "M → ∞, bound", {"method": "implicit-sba", "expectation": "bound"}),
        ),
    ),
    Group(
        "dropout behind the layer",
        COMMON | {"network": "digits_dropout", "layers": ("flatten",)},
        (
            Variant(13, "teacher in evaluation mode", {"teacher": "evaluation"}),
            Variant(13, "no dropout of virtual points", {"virtual_dropout": False}),
            Variant(13, "evaluation mode, no virtual dropout", {"teacher": "evaluation", "virtual_dropout": False}),
        ),
    ),
    Group(
        "batch normalisation behind the layer",
        COMMON | {"network": "digits", "layers": ("conv1",), "basis": "channel", "folds": 4},
        (
            Variant(14, "own statistics, tracked", {"batch_norm": "tracked"}),
            Variant(14, "own statistics, not tracked", {"batch_norm": "untracked"}),
            Variant(14, "running averages", {"batch_norm": "running"}),
        ),
    ),
)


def settings() -> Iterator[Setting]:
    """List what is run at every seed: of each group the reference and all variants."""
    for group in GROUPS:
        for variant in (None, *group.variants):
            yield Setting(group.parameters(variant), NAME)


def compare(found: Iterable[Record]) -> list[dict[str, Any]]:
    """Compare every variant with its group's reference at equal seeds.

    Args:
        found: records, of which those of this study count; if a run was repeated the first one does.

    Returns:
        For each variant that has a seed in common with its reference: ``group``, ``point``, ``label``, ``n`` (pairs),
        ``ids``, ``error`` and ``nll`` (mean difference, and half of its 95 % interval by Student's t, None for one pair;
        percentage points and nats, each run's median of the last five epochs), and ``vote`` (mean difference of the
        vote's error from the single pass's at the last epoch, of the variant itself; likewise), ``levels`` (its mean error, nll).
    """
    index = indexed(r for r in found if isinstance(r, TrainRecord) and r.study == NAME)
    rows = []
    for group in GROUPS:
        reference = at_seeds(index, group.parameters(None))
        for variant in (None, *group.variants):
            own = at_seeds(index, group.parameters(variant))
            if pairs := [(own[seed], reference[seed]) for seed in sorted(own.keys() & reference.keys())]:
                rows.append({"group": group.title, **describe(variant, pairs)})
    return rows


def describe(variant: Variant | None, pairs: list[tuple[TrainRecord, TrainRecord]]) -> dict[str, Any]:
    """Summarise (variant, reference) pairs of records; the reference is compared with itself."""
    return {
        "point": variant.point if variant else 0,
        "label": variant.label if variant else "reference",
        "n": len(pairs),
        "ids": [own.id for own, _ in pairs],
        "error": interval([own.error - other.error for own, other in pairs]),
        "nll": interval([final_nll(own) - final_nll(other) for own, other in pairs]),
        "vote": interval([vote_gain(own) for own, _ in pairs]),
        "levels": (
            statistics.mean(own.error for own, _ in pairs),
            statistics.mean(final_nll(own) for own, _ in pairs),
        ),
    }


def final_nll(record: TrainRecord) -> float:
    """Return the median negative log-likelihood of the last five epochs, in nats."""
    return statistics.median(epoch.nll for epoch in record.epochs[-5:])


def vote_gain(record: TrainRecord) -> float:
    """Return the error of the vote minus that of the single pass at the last epoch, in percentage points; NaN without a vote."""
    return math.nan if record.error_vote is None else record.error_vote - record.error_last


SUBSETS = tuple(f"digits:{k}" for k in range(1, 6))
"""Five other hundreds of digits, the second factor of ``ON_SUBSETS``: whether a finding was that of one hundred."""
AGAIN = (
    "baseline, no second term",
    "ω = 0: every step",
    "Gaussian points only",
    "dropout points only",
    "dropout not rescaled (Eq. 8)",
    "the last layer only",
    "hard label (Eq. 9)",
    "teacher in evaluation mode",
    "evaluation mode, no virtual dropout",
)
"""What is run on them: the six variants that Holm's correction marks among all, and coin, soft label and dropout points."""


def settings_on_subsets() -> Iterator[Setting]:
    """List what is run at every seed on each of the subsets: the variants of :data:`AGAIN` and their references."""
    for dataset in SUBSETS:
        for group in GROUPS:
            if chosen := [v for v in group.variants if v.label in AGAIN]:
                for variant in (None, *chosen):
                    yield Setting(group.parameters(variant) | {"dataset": dataset}, ON_SUBSETS.name)


STUDY = Study(
    NAME, "what the paper's open points change, on a hundred digits", settings, last=5, vote=True, exclusive=True
)
# fixed before the first run: the mean over seeds of a difference on one subset is one value, n = 5 subsets, Student's t, Holm
# over the nine variants, in log-likelihood and in error each
ON_SUBSETS = Study(
    "switches-subsets",
    "the ablations that stand out, on five other hundreds of digits",
    settings_on_subsets,
    seeds=3,
    last=5,
    exclusive=True,
)
