"""What each ingredient of SBA does by itself: one table for a reader who reads only one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from sba.records.compare import at_seeds, indexed
from sba.records.inference import Contrast, contrast
from sba.records.judging import FAILS, HOLDS, OPEN, judge_signs
from sba.records.names import signed
from sba.records.schema import BenchRecord, Record
from sba.report import when, wording
from sba.studies.ablations import GROUPS, NAME, PLAIN, Variant, final_nll, vote_effect
from sba.studies.contenders import CONDITIONS, MAIN, RIVALS, Condition
from sba.studies.contenders import PLAIN as TUNED
from sba.studies.small_data import made_in, tested, untuned
from sba.training.run import make_run


@dataclass(frozen=True)
class Ingredient:
    """One part of the method, with it minus without it."""

    name: str  #: of the part
    claim: str  #: what the paper says of it, in our words, with its section
    against: str  #: what is compared with what
    error: Contrast  #: difference in percentage points
    nll: Contrast | None  #: difference in nats per image, None for what has no likelihood
    #: on the claim that it lowers the error, corrected among all of the table (Holm): :mod:`sba.records.judging`
    verdict: str = ""


ASKED = (
    ("scheduler", "augmenting at random steps regularises (§3.2)", "ω = π/3 against every step",
     "", "ω = 0: every step"),
    ("Gaussian points", "bounded noise, turned by Σ, makes points near the sample (Eq. 7)", "alone, against plain training",
     "Gaussian points only", PLAIN.label),
    ("dropout points", "deleted features make points that vary more (Eq. 8)", "alone, against plain training",
     "dropout points only", PLAIN.label),
    ("soft label", "the raw prediction supervises better than the label (§3.3)", "against the hard label of Eq. 9",
     "", "hard label (Eq. 9)"),
    ("all together", "SBA lowers the test error", "against plain training", "", PLAIN.label),
)  # fmt: skip
"""Name, claim, what is compared, and the labels of the two settings in the study of ablations; "" is its reference."""
NO_CLAIM = "not compared"
"""What the paper says of what it does not mention."""
TUNED_ROWS = {"SBA": ("all together, tuned", "SBA lowers the test error")} | {
    rival: (f"{wording.PLAINLY.get(rival, rival)}, tuned", NO_CLAIM) for rival in RIVALS
}
"""Contenders of the study of little data that are compared with tuned plain training: the part's name, and what the paper says."""
EQUAL = ("all together, equal weight decay", "SBA lowers the test error")
"""Likewise of SBA and plain training at equal weight decay."""
RIVAL = ("{}, equal weight decay", NO_CLAIM)
"""Likewise of a rival and plain training."""
BESIDE = ("all together minus {}, equal weight decay", NO_CLAIM)
"""Likewise of SBA and a rival, set against each other directly."""
ALONE = {"Gaussian points only": "Gaussian points", "dropout points only": "dropout points"}
"""Settings of that study's ablation at the last layer that have a row each: the part's name in :data:`ASKED`."""
WITHOUT = {
    "dropout points only": ("Gaussian points", "SBA against dropout points only"),
    "Gaussian points only": ("dropout points", "SBA against Gaussian points only"),
    "λ(t) always on": ("scheduler", "SBA against every step augmented"),
    "pulled to the label": ("soft label", "SBA against the hard label in the prediction's place"),
}
"""Likewise of settings that lack a part of SBA and are compared with SBA itself, with what is compared."""
VOTE = ("vote", "the majority of raw and virtual predictions decides (§3.4)", "against the single pass")


def ingredients(records: Iterable[Record]) -> list[Ingredient]:
    """Compare every ingredient with its absence in the study of ablations; none that has fewer than two seeds on a side."""
    group = GROUPS[0]
    index = indexed(records, NAME)
    settings: Mapping[str, Variant | None] = {"": None, **{v.label: v for v in group.variants}}
    found = []
    for name, claim, against, own, other in ASKED:
        ours, theirs = (at_seeds(index, group.parameters(settings[label])) for label in (own, other))
        if (error := contrast(ours, theirs)) and error.n > 1:
            found.append(Ingredient(name, claim, against, error, contrast(ours, theirs, final_nll)))
    if voted := vote_effect(at_seeds(index, group.parameters(None))):
        found.append(Ingredient(*VOTE, voted, None))
    judged = judge_signs([one.error for one in found])
    return [replace(one, verdict=said.verdict) for one, said in zip(found, judged, strict=True)]


def layer_costs(records: Iterable[Record]) -> tuple[BenchRecord, BenchRecord] | None:
    """Return the newest benchmarks of ResNet-44's cheapest and dearest layer for an augmented step; None if none was timed."""
    timed: dict[str, BenchRecord] = {}
    for record in sorted((r for r in records if isinstance(r, BenchRecord)), key=lambda r: r.date):
        if (record.compared.family, record.compared.network) == ("layers", "resnet44"):
            timed[record.compared.layer] = record
    if not timed:
        return None
    return min(timed.values(), key=lambda r: r.value), max(timed.values(), key=lambda r: r.value)


class Line(NamedTuple):
    """A row of the table of ingredients, in words."""

    name: str
    claim: str
    measured: tuple[str, ...]  #: what is compared, and the differences
    runs: str
    verdict: str


def lines(records: Iterable[Record]) -> list[Line]:
    """Write the table of ingredients, and what a step costs below it."""
    records = list(records)
    found = [
        Line(one.name, one.claim, (one.against, *differences(one.error, one.nll)), f"n = {one.error.n}", one.verdict)
        for one in ingredients(records)
    ]
    found += little_data(records)
    if costs := layer_costs(records):
        late, early = costs
        told = [f"{one.value:.2f} at {one.compared.layer}" for one in costs]
        found.append(
            Line(
                "cost",
                "cheap near the output, dear near the input (§4.3)",
                ("plain steps that an augmented one takes on ResNet-44", *told),
                f"n = {late.rounds}",
                HOLDS if late.high < early.low else OPEN,
            )
        )
    return found


class Row(NamedTuple):
    """A comparison of the study of little data, as the table tells it."""

    part: str  #: its name
    claim: str  #: what the paper says of it
    against: str  #: what is compared with what
    one: when.Comparison  #: in error
    loss: Contrast | None  #: in likelihood; None if that would compare something else

    @property
    def verdict(self) -> str:
        """Whether the paper's claim holds, or how the sides compare if there is none."""
        if self.claim == NO_CLAIM:
            return self.one.verdict
        return {when.BETTER: HOLDS, when.WORSE: FAILS}.get(self.one.verdict, self.one.verdict)


def little_data(records: Iterable[Record]) -> list[Line]:
    """Write what SBA changes on little data once all runs are there: as tuned, and, if plain training was tuned to another weight
    decay, at equal ones, in every condition; likewise its rivals, and SBA minus each; and its ingredients alone or replaced.
    Verdicts are that study's own."""
    records = list(records)
    rows = [
        *tuned_rows(records),
        *(row for condition in CONDITIONS for row in equal_rows(records, condition)),
        *part_rows(records),
    ]
    return [
        Line(row.part, row.claim, (row.against, *differences(row.one.found, row.loss)), f"n = {row.one.n}", row.verdict)
        for row in rows
        if row.one.found and row.one.whole
    ]


def place(condition: Condition) -> str:
    """Write the images that a condition trains on."""
    images = f"{condition.base['subset']:,} images"
    return f"{images} of CIFAR-10" + (f", {condition.name}" if condition.name != images else "")


def at_regime(condition: Condition) -> str:
    """Write that both sides have the regime's weight decay, and the images."""
    return f"both at weight decay {untuned()['weight_decay']:g}, {place(condition)}"


def tuned_rows(records: list[Record]) -> Iterator[Row]:
    """Compare SBA and its rivals with tuned plain training at the tuned size."""
    made = made_in(records)
    errors, losses = (when.compared(records, MAIN, m) for m in (when.ERROR, when.NLL))
    for name, about in TUNED_ROWS.items():
        decays = [make_run(**at).weight_decay for n in (TUNED.name, name) if (at := tested(n, MAIN, made))]
        # a difference in likelihood would be that of the weight decay
        alike = decays[:1] == decays[1:]
        more = "" if alike else f", whose weight decay is {' and not '.join(f'{decay:g}' for decay in decays)}"
        loss = when.by_name(losses, name).found if alike else None
        yield Row(*about, f"against tuned plain training, {place(MAIN)}{more}", when.by_name(errors, name), loss)


def equal_rows(records: list[Record], condition: Condition) -> Iterator[Row]:
    """Compare SBA, plain training and rivals at equal weight decay; outside the tuned size dropout is the only rival."""
    equal, likelihoods = (when.controlled(records, m, condition) for m in (when.ERROR, when.NLL))
    # at one weight decay for all these, and those of rivals, would be tuned rows again
    several = len(equal) > 1
    for one, other in zip(equal, likelihoods, strict=True) if several else []:
        told = f"against plain training, both at weight decay {one.name}, {place(condition)}"
        yield Row(*EQUAL, told, one, other.found)
    families = [
        (about, against, [compare(records, m, condition) for m in (when.ERROR, when.NLL)])
        for about, against, compare in ((RIVAL, "plain training", when.rivals), (BESIDE, "", when.beside))
        if several or about is BESIDE
    ]
    for rival in RIVALS if condition is MAIN else RIVALS[:1]:
        called = wording.PLAINLY.get(rival, rival)
        for (name, claim), against, own in families:
            one, other = (when.by_name(comparisons, rival) for comparisons in own)
            told = f"against {against or called}, {at_regime(condition)}"
            yield Row(name.format(called), claim, told, one, other.found)


def part_rows(records: list[Record]) -> Iterator[Row]:
    """Compare each kind of points alone with plain training, and SBA with what lacks one of its parts, at the last layer."""
    claims = {name: claim for name, claim, *_ in ASKED}
    alone = [when.mechanism(records, m) for m in (when.ERROR, when.NLL)]
    for setting, part in ALONE.items():
        one, other = (when.by_name(own, f"{setting}, last layer") for own in alone)
        told = f"against plain training, {at_regime(MAIN)}"
        yield Row(f"{part} alone, little data", claims[part], told, one, other.found)
    changed = [when.changes(records, "last layer", m) for m in (when.ERROR, when.NLL)]
    for setting, (part, what) in WITHOUT.items():
        # a row is with the part minus without it
        one, other = (when.negated(when.by_name(own, setting)) for own in changed)
        yield Row(f"{part} in SBA, little data", claims[part], f"{what}, {at_regime(MAIN)}", one, other.found)


def differences(error: Contrast, nll: Contrast | None) -> list[str]:
    """Write the differences in error and in likelihood with half of their intervals."""
    units = ((error, 2, "points"), (nll, 3, "nats"))
    return [
        f"{signed(float(c.mean), digits)} ± {c.half:.{digits}f} {unit}" for c, digits, unit in units if c is not None
    ]


def ingredients_markdown(records: Iterable[Record]) -> str:
    """Write the table of ingredients for the README."""
    head = "| Ingredient | The paper says | Measured | Runs | Verdict |\n|---|---|---|---|---|\n"
    rows = [(f"**{one.name}**", one.claim, "<br>".join(one.measured), one.runs, one.verdict) for one in lines(records)]
    return head + "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
