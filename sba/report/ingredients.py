"""What each ingredient of SBA does by itself: one table for a reader who reads only one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sba.records.compare import at_seeds, indexed
from sba.records.inference import Contrast, contrast
from sba.records.judging import judge_signs
from sba.records.schema import Record, TrainRecord
from sba.studies.ablations import GROUPS, NAME, Variant, final_nll, vote_effect


@dataclass(frozen=True)
class Ingredient:
    """One part of the method, with it minus without it."""

    name: str  #: of the part
    claim: str  #: what the paper says of it, in our words, with its section
    against: str  #: what is compared with what
    error: Contrast  #: difference in percentage points
    nll: Contrast | None  #: difference in nats per image, None for what has no likelihood
    #: on the claim that it lowers the error, corrected among all of the table (Holm): :mod:`sba.records.judging`
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
    found: list[tuple[tuple[str, str, str], Contrast, Contrast | None]] = []
    for *about, own, other in ASKED:
        ours, theirs = (at_seeds(index, group.parameters(settings[label])) for label in (own, other))
        if (error := contrast(ours, theirs)) and error.n > 1:
            found.append(((about[0], about[1], about[2]), error, contrast(ours, theirs, final_nll)))
    if voted := vote_effect(at_seeds(index, group.parameters(None))):
        found.append((VOTE, voted, None))
    judged = judge_signs([error for _, error, _ in found])
    return [
        Ingredient(*about, error, nll, said.verdict, error.ids)
        for (about, error, nll), said in zip(found, judged, strict=True)
    ]
