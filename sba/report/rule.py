"""When to use SBA: what the comparisons on little data (:mod:`sba.report.when`) say in words, and the rule that follows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from sba.records.schema import Record
from sba.report.when import BETTER, ERROR, MEASURES, OPEN, SAME, WORSE, Comparison, beside, by_name
from sba.studies.contenders import MARGIN, RIVALS

PLAINLY = {"dropout": "plain dropout"}
"""Contenders that sentences call by another name than tables, since SBA has dropout, too."""


def advice(
    found: Mapping[str, list[Comparison]],
    cost: Mapping[str, Mapping[str, float]],
    direct: Mapping[str, Mapping[str, Mapping[str, Comparison]]],
    others: Mapping[str, Mapping[str, list[Comparison]]],
) -> list[str]:
    """Derive the decision rule, three sentences.

    Args:
        found: of each condition the comparisons of errors; who lacks a run has no say. Holm's correction counts the others as
            differences of nothing, so what is better or worse stays so when they are run.
        cost: of each condition what a step of a contender takes (:func:`sba.report.when.costs`); what was not timed is left out.
        direct: of each condition, of a contender, in each measure, its difference from dropout
            (:func:`sba.report.when.beside_dropout`).
        others: of each measure beside the error, of each condition, the comparisons with tuned plain training.
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
        rule = f"Nothing lowers it with {whole}: train plainly." if whole else "Of what was run nothing lowered it."
    chosen = {
        name: [said for first, measures in own.items() if (said := preferred(first, RIVALS[0], measures))]
        for name, own in direct.items()
    }
    told = "; ".join(f"with {name}, {'; '.join(said)}" for name, said in chosen.items() if said)
    return [
        sentence({"SBA": lambda name: name.startswith("SBA") or name == "earlier"}, over),
        sentence(
            {PLAINLY.get(rival, rival): rival.__eq__ for rival in RIVALS},
            over,
            told and f"; at the regime's weight decay, {told}",
        ),
        rule[:-1] + "".join(f"; {said}" for said in ahead(others)) + "." + (f" Not run yet: {rest}." if rest else ""),
    ]


def ahead(others: Mapping[str, Mapping[str, list[Comparison]]]) -> Iterator[str]:
    """Say in which measures beside the error tuned plain training was better than every contender that has all its runs."""
    for condition in dict.fromkeys(condition for own in others.values() for condition in own):
        done = {m: {c.verdict for c in own[condition] if c.n == c.wanted} for m, own in others.items()}
        if names := [m for m, verdicts in done.items() if verdicts == {WORSE}]:
            yield f"with {condition}, tuned plain training had the better {listed(names)} than each that was run, so tune it first"


def sentence(whose: Mapping[str, Callable[[str], bool]], over: Mapping[str, list[Comparison]], more: str = "") -> str:
    """Say in which conditions kinds of contenders lowered the error, and what they did in the others; ``more`` ends the sentence.

    Args:
        whose: of each kind, by its name, which contenders belong to it.
        over: of each condition the comparisons with plain training that have all their runs.
    """
    told = {
        BETTER: "lowered the error with",
        SAME: f"made {SAME} with",
        WORSE: "raised the error with",
        OPEN: "showed no gain with",
    }
    alike: dict[str, list[str]] = {}
    for who, belongs in whose.items():
        own = {words: places(who, belongs, over, verdict) for verdict, words in told.items()}
        if did := ", ".join(f"{words} {where}" for words, where in own.items() if where):
            alike.setdefault(did, []).append(who)
    if not alike:
        return f"Of {listed(list(whose))} not all runs are there."
    said = "; ".join(f"{listed(names)} {did}" for did, names in alike.items())
    return f"{said[0].upper()}{said[1:]}, compared with tuned plain training{more}."


def places(who: str, belongs: Callable[[str], bool], over: Mapping[str, list[Comparison]], verdict: str) -> str:
    """List the conditions in which a kind of contender has a verdict, and which of them has it."""
    own = {name: [c.name for c in done if belongs(c.name) and c.verdict == verdict] for name, done in over.items()}
    # who goes by its own name needs no list
    whose = {condition: "" if len(n) == 1 and n[0] in who else f" ({'; '.join(n)})" for condition, n in own.items()}
    return "; ".join(f"{condition}{whose[condition]}" for condition, names in own.items() if names)


def taking(cost: float | None) -> str:
    """Write what a step costs, in plain ones; "" if it was not timed."""
    return "" if cost is None else f" at {cost:.2f} times the time of a plain step"


def preferred(first: str, second: str, found: Mapping[str, Comparison]) -> str:
    """Say which of two contenders their difference, first minus second, speaks for; "" before all pairs have records.

    The error decides, and where it does not, the second is taken, which is the simpler; the other measures are told.
    """
    n, wanted = next((one.n, one.wanted) for one in found.values())
    if n < wanted:
        return ""
    primary = found[ERROR.name].verdict
    if primary in (BETTER, WORSE):
        return f"of {first} and {second} use {first if primary == BETTER else second}, whose error was lower"
    ours, theirs = ([name for name, one in found.items() if one.verdict == verdict] for verdict in (BETTER, WORSE))
    told = [f"{who} had the better {listed(names)}" for who, names in ((first, ours), (second, theirs)) if names]
    told = told or ["no measure tells them apart"]
    return f"of {first} and {second} the error favours neither, so take the simpler, {second} ({' and '.join(told)})"


def standings(records: Iterable[Record]) -> str:
    """Say in which measures SBA is better than each rival that has all its runs, and in which it is not; as long as none has, how
    many there are of each."""
    records = list(records)
    every = {measure.name: beside(records, measure) for measure in MEASURES}
    found = {rival: {name: by_name(own, rival) for name, own in every.items()} for rival in RIVALS}
    alike: dict[str, list[str]] = {}
    for rival, own in found.items():
        if own[ERROR.name].n == own[ERROR.name].wanted:
            alike.setdefault(by_verdict(own, " in"), []).append(rival)
    if alike:
        return "; ".join(f"set against {listed(names)} directly, SBA is {said}" for said, names in alike.items())
    counts = {rival: (own[ERROR.name].n, own[ERROR.name].wanted) for rival, own in found.items()}
    return "; ".join(
        f"of {wanted} pairs of SBA and {rival} {n or 'none'} {'has' if n == 1 else 'have'} both records"
        for rival, (n, wanted) in counts.items()
    )


def by_verdict(found: Mapping[str, Comparison], joined: str = ":") -> str:
    """Write the names of comparisons after their verdicts."""
    told = {BETTER: "better", WORSE: "worse", SAME: f"within {MARGIN:g} point", OPEN: "not told apart"}
    names = {words: [name for name, one in found.items() if one.verdict == verdict] for verdict, words in told.items()}
    return "; ".join(f"{words}{joined} {listed(own)}" for words, own in names.items() if own)


def listed(words: Sequence[str]) -> str:
    """Write words as a list: one, two and three."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
