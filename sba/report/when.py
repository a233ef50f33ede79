"""When does SBA help? What the records of the study of little data say: differences from plain training, and what follows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sba.records.compare import Runs
from sba.records.images import mcnemar_p, right_in
from sba.records.inference import LEVEL, Contrast, contrast, one_image
from sba.records.judging import equivalence_p, holm
from sba.records.schema import BenchRecord, Record, TrainRecord
from sba.report.html import NOT_RUN
from sba.studies.ablations import final_nll
from sba.studies.contenders import MAIN, MARGIN, MECHANISM_N, NAMED, PLAIN, RIVALS, Condition, ablated, parameters
from sba.studies.small_data import Made, controls, key_of, made_in, stands_for, tested, untuned

BETTER, WORSE, SAME, OPEN = "better", "worse", f"no difference larger than {MARGIN:g} point", "open"
"""What is said of a setting that has all its runs."""


@dataclass(frozen=True)
class Measure:
    """What is compared."""

    name: str  #: for tables
    unit: str  #: of a difference
    value: Callable[[TrainRecord], float]  #: of a record
    floor: float = 0.0  #: of the standard deviation over runs, in that unit: what one image makes
    margin: float | None = None  #: within which two settings are equivalent; None if that is not asked


ERROR = Measure("error", "points", lambda r: r.error, one_image(10_000), MARGIN)
NLL = Measure("negative log-likelihood", "nats", final_nll)
ECE = Measure("calibration error", "points", lambda r: 100 * r.calibration["ece"])
PGD = Measure("error under PGD", "points", lambda r: r.attacks["pgd-inf"]["error"][0], one_image(500))
MEASURES = (ERROR, NLL, ECE, PGD)


@dataclass(frozen=True)
class Comparison:
    """A setting minus another in a condition, plain training unless told, over equal seeds."""

    name: str  #: of the setting
    n: int  #: pairs that have records
    wanted: int  #: pairs that the design asks for
    found: Contrast | None  #: the difference; None below two pairs
    p: float  #: of no difference, corrected by Holm in its family, in which what has no record counts as 1
    equivalent: float  #: of a difference beyond the margin, corrected likewise
    told_apart: int  #: pairs whose networks McNemar's exact test tells apart, each at the level; of errors alone
    ids: tuple[str, ...]  #: of the setting's records

    @property
    def verdict(self) -> str:
        """What is said once all runs of the design are there; until then how many there are."""
        if self.found is None or self.n < self.wanted:
            return f"{self.n} of {self.wanted} runs" if self.n else NOT_RUN
        if self.p <= LEVEL:
            return BETTER if self.found.mean < 0 else WORSE
        return SAME if self.equivalent <= LEVEL else OPEN


def runs_of(parameters: dict[str, Any] | None, n: int, made: Made) -> Runs:
    """Find the finished runs of a setting among its first n seeds; none if the setting is not known yet."""
    keys = {} if parameters is None else {seed: key_of(parameters, seed) for seed in range(n)}
    found = {seed: made.get(key) for seed, key in keys.items()}
    return {seed: record for seed, record in found.items() if isinstance(record, TrainRecord)}


def family(named: Mapping[str, tuple[Runs, Runs]], wanted: int, measure: Measure) -> list[Comparison]:
    """Compare settings, by their names, each with plain training beside it, and correct for their number; the design asks for
    ``wanted`` seeds."""
    both = {name: sorted(own.keys() & plain.keys()) for name, (own, plain) in named.items()}
    pairs = [tuple([side[s] for s in both[name]] for side in sides) for name, sides in named.items()]
    sides = [({r.seed: r for r in ours}, {r.seed: r for r in theirs}) for ours, theirs in pairs]
    every = [contrast(*side, measure.value, measure.floor) for side in sides]
    # one pair has no interval
    found = [f if f and f.n > 1 else None for f in every]
    p = holm([known(f and f.p) for f in found])
    within = [f and measure.margin and equivalence_p(f, margin=measure.margin) for f in found]
    equivalent = holm([known(q) for q in within])
    return [
        Comparison(name, len(both[name]), wanted, found[i], p[i], equivalent[i],
                   told_apart(*pairs[i]) if measure is ERROR else 0,
                   tuple(r.id for r in pairs[i][0]))
        for i, name in enumerate(named)
    ]  # fmt: skip


def known(p: Any) -> float:
    """Return a p-value, and 1 for none: equal runs have none without a floor, nor have runs that are not there."""
    return 1.0 if p is None or p != p else float(p)


def costs(records: Iterable[Record], condition: Condition) -> dict[str, float]:
    """Return what a step of each contender takes on the condition's network, in plain steps, by the newest benchmark of them all
    (``python -m sba bench --only contenders``). What was not timed is left out, as is a layer that the contender does not have."""
    records = list(records)
    made, found = made_in(records), {}
    for record in sorted((r for r in records if isinstance(r, BenchRecord)), key=lambda r: r.date):
        timed = record.compared
        if (timed.family, timed.network) == ("contenders", condition.base["network"]) and timed.variant in NAMED:
            at = tested(timed.variant, condition, made) or parameters(NAMED[timed.variant], 0, condition)
            if at.get("layers", (timed.layer,))[0] == timed.layer:
                found[timed.variant] = record.value
    if (one := stands_for("earlier", made)) and one.name in found:
        found["earlier"] = found[one.name]
    return found


def told_apart(ours: list[TrainRecord], theirs: list[TrainRecord]) -> int:
    both = [(right_in(one), right_in(other)) for one, other in zip(ours, theirs, strict=True)]
    return sum(mcnemar_p(one, other) <= LEVEL for one, other in both if one is not None and other is not None)


def compared(records: Iterable[Record], condition: Condition, measure: Measure = ERROR) -> list[Comparison]:
    """Compare a condition's contenders with plain training, each with the configuration that held-out images chose."""
    made = made_in(records)
    named = {name: runs_of(tested(name, condition, made), condition.n, made) for name in condition.contenders}
    plain = named.pop(PLAIN.name)
    return family({name: (own, plain) for name, own in named.items()}, condition.n, measure)


def controlled(records: Iterable[Record], measure: Measure = ERROR) -> list[Comparison]:
    """Compare SBA with plain training at equal weight decay, which is the name (:func:`sba.studies.small_data.controls`)."""
    made = made_in(records)
    pairs = controls(made).items()
    named = {
        f"{decay:g}": (runs_of(ours, MAIN.n, made), runs_of(plain, MAIN.n, made)) for decay, (ours, plain) in pairs
    }
    return family(named, MAIN.n, measure)


def beside(records: Iterable[Record], measure: Measure = ERROR) -> list[Comparison]:
    """Compare SBA with each of :data:`sba.studies.contenders.RIVALS`, which is the name; below zero SBA is better."""
    made = made_in(records)
    ours, *theirs = (runs_of(tested(name, MAIN, made), MAIN.n, made) for name in ("SBA", *RIVALS))
    return family({name: (ours, own) for name, own in zip(RIVALS, theirs, strict=True)}, MAIN.n, measure)


def rivals(records: Iterable[Record], measure: Measure = ERROR) -> list[Comparison]:
    """Compare each of :data:`sba.studies.contenders.RIVALS` with plain training at its own weight decay, the regime's."""
    made = made_in(records)
    plain = runs_of(untuned(), MAIN.n, made)
    named = {name: (runs_of(tested(name, MAIN, made), MAIN.n, made), plain) for name in RIVALS}
    return family(named, MAIN.n, measure)


def standing(found: Mapping[str, Comparison]) -> str:
    """Say in which measures SBA is better than a rival, and in which it is not, from a comparison in each measure."""
    rival, n, wanted = next((one.name, one.n, one.wanted) for one in found.values())
    if n < wanted:
        return f"of {wanted} pairs of SBA and {rival} {n or 'none'} {'has' if n == 1 else 'have'} both records"
    return f"set against {rival} directly, SBA is {by_verdict(found, ' in')}"


def preferred(found: Mapping[str, Comparison]) -> str:
    """Say which of SBA and a rival the direct comparison speaks for, "" before all pairs have records: the error decides, and where
    it does not, the simpler is taken; the other measures are told."""
    rival, n, wanted = next((one.name, one.n, one.wanted) for one in found.values())
    if n < wanted:
        return ""
    place, primary = f"of SBA and {rival}, at the regime's weight decay,", found[ERROR.name].verdict
    if primary in (BETTER, WORSE):
        return f"{place} use {'SBA' if primary == BETTER else rival}, whose error is lower"
    ours, theirs = ([name for name, one in found.items() if one.verdict == verdict] for verdict in (BETTER, WORSE))
    told = [f"{who} has the better {listed(names)}" for who, names in (("SBA", ours), (rival, theirs)) if names] or [
        "no measure tells them apart"
    ]
    return f"{place} the error favours neither: take the simpler, {rival}; {' and '.join(told)}"


def listed(words: Sequence[str]) -> str:
    """Write words as a list: one, two and three."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def mechanism(records: Iterable[Record], measure: Measure = ERROR) -> list[Comparison]:
    """Compare SBA's ingredients with plain training at the same weight decay; the name says at which layer."""
    made = made_in(records)
    plain = runs_of(untuned(), MECHANISM_N, made)
    named = {f"{what}, {where}": (runs_of(at, MECHANISM_N, made), plain) for where, what, at in ablated()}
    return family(named, MECHANISM_N, measure)


def changes(records: Iterable[Record], where: str, measure: Measure = ERROR) -> list[Comparison]:
    """Compare SBA with one ingredient changed, which is the name, with SBA at the same layer, one of
    :data:`sba.studies.contenders.MECHANISM_LAYERS`; above zero the change makes it worse. A layer's changes are a family."""
    made = made_in(records)
    runs = {what: runs_of(at, MECHANISM_N, made) for place, what, at in ablated() if place == where}
    reference = runs.pop("SBA")
    return family({what: (own, reference) for what, own in runs.items()}, MECHANISM_N, measure)


def by_verdict(found: Mapping[str, Comparison], joined: str = ":") -> str:
    """Write the names of comparisons after their verdicts."""
    told = {BETTER: "better", WORSE: "worse", SAME: f"within {MARGIN:g} point", OPEN: "not told apart"}
    names = {words: [name for name, one in found.items() if one.verdict == verdict] for verdict, words in told.items()}
    return "; ".join(f"{words}{joined} {listed(own)}" for words, own in names.items() if own)


def advice(
    found: Mapping[str, list[Comparison]], cost: Mapping[str, Mapping[str, float]], beside: Mapping[str, Comparison]
) -> list[str]:
    """Derive the decision rule, three sentences.

    Args:
        found: of each condition the comparisons of errors; who lacks a run has no say. Holm's correction counts the others as
            differences of nothing, so what is better or worse stays so when they are run.
        cost: of each condition what a step of a contender takes (:func:`costs`); what was not timed is left out.
        beside: of each measure SBA set against dropout directly (:func:`beside`).
    """
    over = {name: done for name, own in found.items() if (done := [c for c in own if c.n == c.wanted])}
    if not over:
        return ["As long as no contender has all its runs in a condition, nothing is advised."]
    left = {name: len(own) - len(over.get(name, ())) for name, own in found.items()}
    better = {name: [c for c in own if c.verdict == BETTER] for name, own in over.items()}
    best = {name: min(own, key=lambda c: float(c.found.mean)) for name, own in better.items() if own and own[0].found}  # type: ignore[union-attr]
    lowest = "; ".join(
        f"{name}: {c.name}, {c.found} points{taking(cost.get(name, {}).get(c.name))}" for name, c in best.items()
    )
    whole = "; ".join(name for name, n in left.items() if not n)
    rest = "; ".join(f"{name}, {n} of {len(found[name])} contenders" for name, n in left.items() if n)
    if lowest:
        rule = f"{'Of what was run, this lowers it most' if rest else 'Use what lowers it most'}: {lowest}."
    else:
        rule = f"Nothing lowers it with {whole}: train plainly." if whole else "More advice has to wait for the rivals."
    return [
        sentence("SBA", over, lambda name: name.startswith("SBA") or name == "earlier"),
        sentence("plain dropout", over, lambda name: name == "dropout", preferred(beside)),
        rule + (f" Not run yet: {rest}." if rest else ""),
    ]


def sentence(who: str, over: Mapping[str, list[Comparison]], belongs: Callable[[str], bool], more: str = "") -> str:
    """Say in which conditions a kind of contender lowers the error, and what it does in the others; ``more`` follows."""

    def places(verdict: str) -> str:
        own = {name: [c.name for c in done if belongs(c.name) and c.verdict == verdict] for name, done in over.items()}
        # who goes by its own name needs no list
        whose = {condition: "" if len(n) == 1 and n[0] in who else f" ({'; '.join(n)})" for condition, n in own.items()}
        return "; ".join(f"{condition}{whose[condition]}" for condition, names in own.items() if names)

    told = {
        BETTER: "lowers the error with",
        SAME: f"makes {SAME} with",
        WORSE: "raises the error with",
        OPEN: "shows no gain with",
    }
    parts = [f"{words} {where}" for verdict, words in told.items() if (where := places(verdict))]
    if not parts:
        return f"Of {who} not all runs are there."
    return f"{who[0].upper()}{who[1:]} {', '.join(parts)}, compared with tuned plain training{'; ' * bool(more)}{more}."


def taking(cost: float | None) -> str:
    """Write what a step costs, in plain ones; "" if it was not timed."""
    return "" if cost is None else f" at {cost:.2f} times the time of a plain step"
