"""When does SBA help? What the records of the study of little data say: differences from plain training, from rivals,
and of SBA's ingredients."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sba.records.compare import Runs
from sba.records.images import mcnemar_p, right_in
from sba.records.inference import LEVEL, Contrast, contrast, one_image
from sba.records.judging import equivalence_p, holm
from sba.records.schema import BenchRecord, Record, TrainRecord
from sba.report.html import NOT_RUN
from sba.studies.ablations import final_nll
from sba.studies.contenders import MAIN, MARGIN, MECHANISM_N, NAMED, PLAIN, RIVALS, Condition, ablated, parameters
from sba.studies.small_data import Made, controls, key_of, made_in, other_decay, stands_for, tested, untuned

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
    mixed: int  #: pairs whose sides come from processors of two kinds, which round differently
    ids: tuple[str, ...]  #: of the setting's records

    @property
    def whole(self) -> bool:
        """Whether all pairs that the design asks for are there."""
        return self.n == self.wanted

    @property
    def verdict(self) -> str:
        """What is said once all runs of the design are there; until then how many there are."""
        if self.found is None or not self.whole:
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
                   sum(a.device_name != b.device_name for a, b in zip(*pairs[i], strict=True)),
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


def controlled(records: Iterable[Record], measure: Measure = ERROR, condition: Condition = MAIN) -> list[Comparison]:
    """Compare SBA with plain training at equal weight decay, which is the name (:func:`sba.studies.small_data.controls`)."""
    made = made_in(records)
    pairs = controls(made, condition).items()
    n = condition.n
    named = {f"{decay:g}": (runs_of(ours, n, made), runs_of(plain, n, made)) for decay, (ours, plain) in pairs}
    return family(named, n, measure)


def beside(
    records: Iterable[Record], measure: Measure = ERROR, condition: Condition = MAIN, decay: float | None = None
) -> list[Comparison]:
    """Compare SBA with each of :data:`sba.studies.contenders.RIVALS`, which is the name; below zero SBA is better. All have the
    regime's weight decay unless told."""
    made = made_in(records)
    ours, *theirs = (runs_of(tested(name, condition, made, decay), condition.n, made) for name in ("SBA", *RIVALS))
    return family({name: (ours, own) for name, own in zip(RIVALS, theirs, strict=True)}, condition.n, measure)


def rivals(
    records: Iterable[Record], measure: Measure = ERROR, condition: Condition = MAIN, decay: float | None = None
) -> list[Comparison]:
    """Compare each of :data:`sba.studies.contenders.RIVALS` with plain training at one weight decay, the regime's unless told."""
    made = made_in(records)
    plain = runs_of(untuned(condition) | ({} if decay is None else {"weight_decay": decay}), condition.n, made)
    named = {name: (runs_of(tested(name, condition, made, decay), condition.n, made), plain) for name in RIVALS}
    return family(named, condition.n, measure)


def over_dropout(
    records: Iterable[Record], measure: Measure = ERROR, condition: Condition = MAIN, decay: float | None = None
) -> list[Comparison]:
    """Compare the other rivals with dropout, the simplest of them, at one weight decay; below zero dropout is worse."""
    made = made_in(records)
    first, *others = ((name, runs_of(tested(name, condition, made, decay), condition.n, made)) for name in RIVALS)
    return family({name: (own, first[1]) for name, own in others}, condition.n, measure)


def weight_decay_effect(
    records: Iterable[Record], measure: Measure = ERROR, condition: Condition = MAIN
) -> list[Comparison]:
    """Compare plain training at the weight decay that it chose with itself at the regime's: a family of one, or of none if it chose
    that."""
    made, plain = made_in(records), untuned(condition)
    if (decay := other_decay(made)) is None:
        return []
    pair = runs_of(plain | {"weight_decay": decay}, condition.n, made), runs_of(plain, condition.n, made)
    return family({f"{decay:g}": pair}, condition.n, measure)


def negated(one: Comparison) -> Comparison:
    """Return a comparison the other way round: the other setting minus the one."""
    found = one.found and replace(one.found, mean=-one.found.mean, ids=())
    return replace(one, found=found)


def by_name(comparisons: Iterable[Comparison], name: str) -> Comparison:
    """Find a comparison by the name of its setting."""
    return next(c for c in comparisons if c.name == name)


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


def beside_dropout(
    records: Iterable[Record], condition: Condition = MAIN, decay: float | None = None
) -> dict[str, dict[str, Comparison]]:
    """Compare SBA, label smoothing and R-Drop with dropout directly, in every measure (:func:`beside`, :func:`over_dropout`)."""
    records = list(records)
    first, *others = RIVALS
    ours = {m.name: by_name(beside(records, m, condition, decay), first) for m in MEASURES}
    theirs = {m.name: over_dropout(records, m, condition, decay) for m in MEASURES}
    return {"SBA": ours} | {rival: {m: by_name(own, rival) for m, own in theirs.items()} for rival in others}
