"""What the paper's open points change: one training for each switch and seed, beside the setting it departs from.

The networks are small and the data are a hundred of scikit-learn's digits, so that everybody can repeat it in minutes; η is larger
than the paper's, so that the second term matters. It says which switches matter here, not which matter on CIFAR.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import Any

import numpy as np

from sba.core.hyper import definitions
from sba.methods import METHODS, SBA
from sba.records.compare import Runs, at_seeds, indexed
from sba.records.inference import Contrast, contrast, error_floor, made_alike, paired
from sba.records.judging import corrected
from sba.records.schema import Record, TrainRecord
from sba.studies.planned import Setting, Study

NAME = "switches"


@dataclass(frozen=True)
class Variant:
    """One setting."""

    point: int  #: of ``book/decisions.md``; 0 if none asks for it
    label: str  #: what it is, in the words of the fields
    changes: dict[str, Any] = field(default_factory=dict)  #: to the parameters of its group's reference


@dataclass(frozen=True)
class Group:
    """Settings that are compared with one reference."""

    title: str  #: for tables
    base: dict[str, Any]  #: parameters of the reference, for :func:`sba.training.run.make_run`
    variants: tuple[Variant, ...]  #: what departs from it

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
PLAIN = Variant(0, "baseline, no second term", {"method": "erm"})
COMMON = FEW | {"method": "sba", "eta": 1.0}

GROUPS: tuple[Group, ...] = (
    Group(
        "the default layers",
        COMMON | {"network": "digits"},
        (
            PLAIN,
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


@dataclass(frozen=True)
class Effect:
    """What a variant changes."""

    group: str  #: title of its group
    variant: Variant | None  #: None for the reference itself
    runs: Runs  #: seed → record
    reference: Runs  #: those of the group's reference
    #: difference from the reference in percentage points; None for the reference, or without its runs
    error: Contrast | None
    nll: Contrast | None  #: likewise in nats per image
    p_error: float = 1.0  #: corrected by Holm's method over all variants of the study; 1 for the reference
    p_nll: float = 1.0  #: likewise

    @property
    def label(self) -> str:
        """What it is, in the words of the fields."""
        return self.variant.label if self.variant else "reference"

    @property
    def point(self) -> int:
        """Of ``book/decisions.md``; 0 if none asks for it."""
        return self.variant.point if self.variant else 0

    @property
    def levels(self) -> tuple[float, float]:
        """Mean error in per cent and mean negative log-likelihood in nats."""
        return mean(r.error for r in self.runs.values()), mean(map(final_nll, self.runs.values()))


def effects(found: Iterable[Record]) -> list[Effect]:
    """Compare every variant with its group's reference (:func:`sba.records.inference.contrast`); what was not run is left out.

    Error and log-likelihood are each run's median of the last five epochs. Each is one family of claims. Only the records of this
    study count; if a run was repeated the first one does.
    """
    index = indexed(found, NAME)
    made = []
    for group in GROUPS:
        reference = at_seeds(index, group.parameters(None))
        for variant in (None, *group.variants):
            runs = at_seeds(index, group.parameters(variant))
            told = (runs, reference) if variant else ({}, {})
            made.append(Effect(group.title, variant, runs, reference, contrast(*told), contrast(*told, final_nll)))
    return marked(made)


def on_subsets(found: Iterable[Record]) -> list[Effect]:
    """Compare the variants of ``ON_SUBSETS`` with their references, with the subset of digits in the seed's place.

    One value is the mean over seeds of the difference on one subset. Variants are one family in error and one in log-likelihood,
    as for :func:`effects`; ``runs`` and ``reference`` are those of the first subset.
    """
    index = indexed(found, ON_SUBSETS.name)
    made = []
    for group in GROUPS:
        for variant in (v for v in group.variants if v.label in AGAIN):
            own, other = (
                [at_seeds(index, group.parameters(v) | {"dataset": name}) for name in SUBSETS] for v in (variant, None)
            )
            pairs = list(zip(own, other, strict=True))
            in_error, in_nll = over_subsets(pairs, lambda r: r.error), over_subsets(pairs, final_nll)
            made.append(Effect(group.title, variant, own[0], other[0], in_error, in_nll))
    return marked(made)


def over_subsets(pairs: list[tuple[Runs, Runs]], value: Callable[[TrainRecord], float]) -> Contrast | None:
    """Compare a variant with its reference over subsets, of which each has their runs; None for fewer than two subsets."""
    seeds = [[s for s in sorted(a.keys() & b.keys()) if made_alike(a[s], b[s])] for a, b in pairs]
    kept = [(pair, own) for pair, own in zip(pairs, seeds, strict=True) if own]
    if len(kept) < 2:
        return None
    means = np.array([[mean(value(runs[s]) for s in own) for runs in pair] for pair, own in kept])
    return replace(paired(*means.T), ids=tuple(runs[s].id for pair, own in kept for runs in pair for s in own))


def marked(made: list[Effect]) -> list[Effect]:
    """Correct the p-values of all variants together, and leave out what was not run."""
    variants = [e for e in made if e.variant]
    p_error, p_nll = (corrected([getattr(e, part) for e in variants]) for part in ("error", "nll"))
    found = iter([replace(e, p_error=a, p_nll=b) for e, a, b in zip(variants, p_error, p_nll, strict=True)])
    return [e for e in (next(found) if one.variant else one for one in made) if e.runs]


def final_nll(record: TrainRecord) -> float:
    """Return the median negative log-likelihood of the last five epochs, in nats."""
    return median(epoch.nll for epoch in record.epochs[-5:])


def vote_effect(runs: Runs) -> Contrast | None:
    """Compare the vote with the single pass of the same networks, at the last epoch, in percentage points; None without a vote."""
    voted = [r for r in runs.values() if r.error_vote is not None]
    if len(voted) < 2:
        return None
    votes, single = (np.array([getattr(r, name) for r in voted], float) for name in ("error_vote", "error_last"))
    return replace(paired(votes, single, error_floor(runs)), ids=tuple(r.id for r in voted))


def vote_gain(record: TrainRecord) -> float:
    """Return the error of the vote minus that of the single pass at the last epoch, in percentage points; NaN without a vote."""
    return math.nan if record.error_vote is None else record.error_vote - record.error_last


SUBSETS = tuple(f"digits:{k}" for k in range(1, 6))
"""Five other hundreds of digits, the second factor of ``ON_SUBSETS``: whether a finding was that of one hundred."""
AGAIN = (
    PLAIN.label,
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
