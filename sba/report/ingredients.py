"""What each ingredient of SBA does by itself: one table for a reader who reads only one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sba.records.compare import Runs, at_seeds, indexed
from sba.records.inference import Contrast, contrast, holm, one_image, paired, sign_verdict
from sba.records.schema import Record, TrainRecord
from sba.studies.ablations import FEW, GROUPS, NAME, Variant, final_nll


@dataclass(frozen=True)
class Ingredient:
    """One part of the method, with it minus without it."""

    name: str  #: of the part
    claim: str  #: what the paper says of it, in our words, with its section
    against: str  #: what is compared with what
    error: Contrast  #: difference in percentage points
    nll: Contrast | None  #: difference in nats per image, None for what has no likelihood
    #: on the claim that it lowers the error, corrected among all of the table (Holm): :mod:`sba.records.inference`
    verdict: str
    ids: tuple[str, ...]  #: the records


PLAIN = "baseline, no second term"
ASKED = (
    ("scheduler", "augment at random steps: it saves time and regularises (§3.2)", "ω = π/3 against every step",
     "", "ω = 0: every step"),
    ("Gaussian points", "bounded noise, turned by Σ, makes points near the sample (Eq. 7)", "alone, against plain training",
     "Gaussian points only", PLAIN),
    ("dropout points", "deleted features make points that vary more (Eq. 8)", "alone, against plain training",
     "dropout points only", PLAIN),
    ("soft label", "the raw prediction supervises better than the label (§3.3)", "against the hard label of Eq. 9",
     "", "hard label (Eq. 9)"),
    ("all together", "SBA lowers the test error (Table 1)", "against plain training", "", PLAIN),
)  # fmt: skip
"""Name, claim, what is compared, and the labels of the two settings in the study of ablations; "" is its reference."""
VOTE = ("vote", "the majority of raw and virtual predictions decides (§3.4)", "against the single pass")


def ingredients(records: Iterable[Record]) -> list[Ingredient]:
    """Compare every ingredient with its absence in the study of ablations; none that has fewer than two seeds on a side.

    Args:
        records: as :func:`sba.records.file.read` reads them.
    """
    group = GROUPS[0]
    index = indexed(r for r in records if isinstance(r, TrainRecord) and r.study == NAME)
    settings: Mapping[str, Variant | None] = {"": None, **{v.label: v for v in group.variants}}
    floor = one_image(FEW["holdout"])
    found: list[tuple[tuple[str, str, str], Contrast, Contrast | None, tuple[str, ...]]] = []
    for *about, own, other in ASKED:
        ours, theirs = (at_seeds(index, group.parameters(settings[label])) for label in (own, other))
        if error := contrast(ours, theirs, floor=floor):
            ids = tuple(r.id for side in (ours, theirs) for r in side.values())
            found.append(((about[0], about[1], about[2]), error, contrast(ours, theirs, final_nll), ids))
    voted = {s: r for s, r in at_seeds(index, group.parameters(None)).items() if r.error_vote is not None}
    if len(voted) > 1:
        found.append((VOTE, vote(voted, floor), None, tuple(r.id for r in voted.values())))
    corrected = holm([float(error.p) for _, error, _, _ in found])
    return [
        Ingredient(*about, error, nll, sign_verdict(error, p), ids)
        for (about, error, nll, ids), p in zip(found, corrected, strict=True)
    ]


def vote(runs: Runs, floor: float) -> Contrast:
    """Compare the vote of networks with their own single pass, both at the last epoch."""
    ours, theirs = np.array([(r.error_vote, r.error_last) for _, r in sorted(runs.items())], float).T
    return paired(ours, theirs, floor)
