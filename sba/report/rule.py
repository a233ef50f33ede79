"""When to use SBA: what the comparisons on little data (:mod:`sba.report.when`) say in words, and the rule that follows."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from sba.records.inference import LEVEL
from sba.records.names import signed
from sba.records.schema import Record
from sba.report.when import (
    BETTER,
    ERROR,
    MEASURES,
    OPEN,
    SAME,
    WORSE,
    Comparison,
    beside,
    beside_dropout,
    by_name,
    compared,
    controlled,
    costs,
    rivals,
)
from sba.studies.contenders import CONDITIONS, MAIN, MARGIN, RIVALS, Condition
from sba.studies.small_data import made_in, other_decay, untuned
from sba.training.run import make_run

PLAINLY = {"dropout": "plain dropout"}
"""Contenders that sentences call by another name than tables, since SBA has dropout, too."""
NOTHING = "As long as no contender has all its runs in a condition, nothing is advised."
DIALS = "at the dials that the error chose"
"""What a likelihood or a calibration depends on, which were not tuned for."""


def advice(records: Iterable[Record]) -> list[str]:
    """Derive the decision rule, three sentences: on SBA, on dropout in its place, and on what comes first.

    Who lacks a run in a condition has no say there. Holm's correction counts it as a difference of nothing, so what is better or
    worse stays so when it is run.
    """
    records = list(records)
    over = all_run(records)
    if not any(over.values()):
        return [NOTHING]
    return [first_of_all(over), in_its_place(records), decayed(records, brief=True) or lowest(records, over)]


def grounds(records: Iterable[Record]) -> list[str]:
    """Say what the rule stands on, a paragraph each: the rivals, all set against dropout, what was best and what is left."""
    records = list(records)
    over = all_run(records)
    if not any(over.values()):
        return [NOTHING]
    theirs = {PLAINLY.get(rival, rival): rival.__eq__ for rival in RIVALS}
    direct = [
        f"Set against each other with {condition}, all at weight decay {decay:g}: {'; '.join(told)}."
        for (condition, decay), own in set_against_dropout(records).items()
        if (told := [preferred(first, RIVALS[0], found) for first, found in own.items()])
    ]
    last = " ".join(filter(None, (lowest(records, over), decayed(records), missing(over))))
    return [sentence(theirs, over), *direct, last]


def all_run(records: list[Record]) -> dict[str, list[Comparison]]:
    """Return each condition's comparisons with tuned plain training that have all their runs."""
    return {condition.name: [c for c in compared(records, condition) if c.whole] for condition in CONDITIONS}


def is_sba(name: str) -> bool:
    """Whether a contender is SBA in one of its kinds."""
    return name.startswith("SBA") or name == "earlier"


def set_against_dropout(records: list[Record]) -> dict[tuple[str, float], dict[str, dict[str, Comparison]]]:
    """Return in which condition and at which weight decay SBA and rivals can be set against dropout; there the comparisons of each
    that has all its pairs, by measure."""
    decay, other = make_run(**untuned()).weight_decay, other_decay(made_in(records))
    places = [(condition, None) for condition in CONDITIONS]
    found = {}
    for condition, instead in places[:1] + [(MAIN, other)] * (other is not None) + places[1:]:
        direct = beside_dropout(records, condition, instead)
        there = condition.name, instead or decay
        found[there] = {first: own for first, own in direct.items() if own[ERROR.name].whole}
    return found


def first_of_all(over: Mapping[str, list[Comparison]]) -> str:
    """Say whether to use SBA to lower the error."""
    verdicts = {c.verdict for done in over.values() for c in done if is_sba(c.name)}
    if not verdicts:
        return "Whether to use SBA is not said yet: it lacks runs in every condition."
    use = (
        "Use SBA where it lowered the error"
        if BETTER in verdicts
        else "Do not count on SBA to lower the error"
        if OPEN in verdicts
        else "Do not use SBA to lower the error"
    )
    return f"{use}: it {deeds('SBA', is_sba, over)}, compared with tuned plain training."


def in_its_place(records: list[Record]) -> str:
    """Say whether to take dropout in place of SBA, and what the other rivals do beside dropout."""
    simplest, *others = RIVALS
    found: dict[str, dict[str, dict[str, list[tuple[str, float]]]]] = {}
    for place, direct in set_against_dropout(records).items():
        for first, measures in direct.items():
            for measure, one in measures.items():
                found.setdefault(first, {}).setdefault(measure, {}).setdefault(one.verdict, []).append(place)
    told = [f"{first} {beside_it(own)}" for first in ("SBA", *others) if (own := found.get(first))]
    if not told:
        return f"Nothing is said of {simplest} in place of SBA yet: pairs of runs are missing."
    errors = found.get("SBA", {}).get(ERROR.name, {})
    advised = (
        f"Choose between SBA and plain {simplest} by the condition"
        if BETTER in errors and WORSE in errors
        else f"Prefer SBA to plain {simplest} where it erred less"
        if BETTER in errors
        else f"Where you would use SBA, take plain {simplest}"
        if errors and OPEN not in errors
        else f"SBA and plain {simplest} are not told apart everywhere"
        if errors
        else f"Plain {simplest} is the simplest of its rivals"
    )
    return f"{advised}: set against it at equal weight decay (in brackets), {DIALS}, {'; '.join(told)}."


def beside_it(found: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]]) -> str:
    """Write verdicts, of each measure the places of each: measures that stand alike are told together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for measure, own in found.items():
        for verdict, places in own.items():
            if measure == ERROR.name or verdict in (BETTER, WORSE):
                alike.setdefault((verdict, placed(places)), []).append(measure)
    words = {
        BETTER: "has the better",
        WORSE: "has the worse",
        SAME: f"is within {MARGIN:g} point of",
        OPEN: "is not told apart in",
    }
    return ", ".join(f"{words[verdict]} {listed(own)} with {where}" for (verdict, where), own in alike.items())


def placed(places: Iterable[tuple[str, float]]) -> str:
    """Write conditions and weight decays, each condition once."""
    decays: dict[str, list[str]] = {}
    for condition, decay in places:
        decays.setdefault(condition, []).append(f"{decay:g}")
    return listed([f"{condition} ({', '.join(own)})" for condition, own in decays.items()])


def sentence(whose: Mapping[str, Callable[[str], bool]], over: Mapping[str, list[Comparison]]) -> str:
    """Say in which conditions kinds of contenders lowered the error, and what they did in the others.

    Args:
        whose: of each kind, by its name, which contenders belong to it.
        over: of each condition the comparisons with plain training that have all their runs.
    """
    alike: dict[str, list[str]] = {}
    for who, belongs in whose.items():
        if did := deeds(who, belongs, over):
            alike.setdefault(did, []).append(who)
    told = {who for names in alike.values() for who in names}
    if not told:
        return f"Of {listed(list(whose))} not all runs are there."
    said = "; ".join(f"{listed(names)} {did}" for did, names in alike.items())
    rest = [who for who in whose if who not in told]
    more = f" Of {listed(rest)} not all runs are there." if rest else ""
    return f"{said[0].upper()}{said[1:]}, compared with tuned plain training.{more}"


def deeds(who: str, belongs: Callable[[str], bool], over: Mapping[str, list[Comparison]]) -> str:
    """Say what a kind of contenders did to the error, and in which conditions; "" if none has all its runs."""
    own: dict[str, list[str]] = {}
    for condition, done in over.items():
        kind = [c for c in done if belongs(c.name)]
        for verdict, names in grouped(kind, outcome).items():
            # who goes by its own name, and is alone there, needs no list
            list_of = "" if len(kind) == 1 and names[0] in who else f" ({', '.join(names)})"
            own.setdefault(verdict, []).append(f"{condition}{list_of}")
    return ", ".join(f"{words} with {listed(where)}" for words, where in own.items())


def grouped(found: Iterable[Comparison], key: Callable[[Comparison], str]) -> dict[str, list[str]]:
    """Group names of comparisons."""
    groups: dict[str, list[str]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one.name)
    return groups


def outcome(one: Comparison) -> str:
    """Say what a contender did to the error, and whether that is small for sure."""
    small = f" by less than {MARGIN:g} point" if one.equivalent <= LEVEL else ""
    told = {
        BETTER: f"lowered the error{small}",
        WORSE: f"raised the error{small}",
        SAME: f"made {SAME}",
        OPEN: "left the error undecided",
    }
    return told[one.verdict]


def preferred(first: str, second: str, found: Mapping[str, Comparison]) -> str:
    """Say which of two contenders their difference, first minus second, speaks for, from a comparison in each measure.

    All pairs have to be there. The error decides. Where it is equivalent the second is taken, which is the simpler; the other
    measures are told.
    """
    one = found[ERROR.name]
    small = f", less than {MARGIN:g} point either way" if one.equivalent <= LEVEL else ""
    advised = {
        BETTER: f"use {first}",
        WORSE: f"use {second}",
        SAME: f"take the simpler, {second}",
        OPEN: "nothing is decided",
    }
    ours, theirs = ([name for name, own in found.items() if own.verdict == verdict] for verdict in (BETTER, WORSE))
    rest = [
        f"the better {listed(names)} with {who}"
        for who, own in ((first, ours), (second, theirs))
        if (names := [name for name in own if name != ERROR.name])
    ]
    more = f" ({DIALS}, {' and '.join(rest)})" if rest else ""
    return f"{first} minus {second} is {amount(one)} points of error{small}: {advised[one.verdict]}{more}"


def amount(one: Comparison, digits: int = 2) -> str:
    """Write a difference and half of its interval; "" for none."""
    return f"{signed(float(one.found.mean), digits)} ± {one.found.half:.{digits}f}" if one.found else ""


def lowest(records: Iterable[Record], over: Mapping[str, list[Comparison]]) -> str:
    """Say what lowered the error most in each condition, and at what cost."""
    records = list(records)
    best = []
    for condition in CONDITIONS:
        if better := [c for c in over.get(condition.name, ()) if c.verdict == BETTER and c.found]:
            one = min(better, key=lambda c: float(c.found.mean))  # type: ignore[union-attr]
            cost = costs(records, condition).get(one.name)
            takes = "" if cost is None else f" at {cost:.2f} times the time of a plain step"
            best.append(f"with {condition.name} {one.name}, {one.found} points{takes}")
    if best:
        return f"Of what was run, this lowered the error most, though it is not tested against the next: {'; '.join(best)}."
    if all(c.verdict in (SAME, WORSE) for own in over.values() for c in own):
        return f"No contender that was run lowered the error by more than {MARGIN:g} point."
    return "No contender that was run was shown to lower the error."


def decayed(records: Iterable[Record], brief: bool = False) -> str:
    """Say what the weight decay that plain training chose did for the other measures, if it is not the contenders' own; in brief
    without the differences at that weight decay."""
    records = list(records)
    own, decay = make_run(**untuned()).weight_decay, other_decay(made_in(records))
    if decay is None:
        return ""
    told = [one for c in CONDITIONS if (one := decayed_in(records, c, own, decay, brief))]
    return f"Tune the weight decay first: {'; and '.join(told)}." if told else ""


def decayed_in(records: list[Record], condition: Condition, own: float, decay: float, brief: bool) -> str:
    alike: dict[str, list[str]] = {}
    further: dict[str, list[str]] = {}
    for measure in MEASURES[1:]:
        if worse := [c.name for c in compared(records, condition, measure) if c.verdict == WORSE]:
            alike.setdefault(listed(worse), []).append(measure.name)
            equal = [("SBA", c) for c in controlled(records, measure, condition) if c.name == f"{decay:g}"]
            equal += [(c.name, c) for c in rivals(records, measure, condition, decay)]
            for name, one in equal:
                if one.verdict == BETTER:
                    told = measure.name if brief else f"{measure.name} {amount(one)} {measure.unit}"
                    further.setdefault(name, []).append(told)
    if not alike:
        return ""
    said = "; ".join(f"better {listed(measures)} than {names}" for names, measures in alike.items())
    gains: dict[str, list[str]] = {}
    for name, measures in further.items():
        gains.setdefault(listed(measures), []).append(name)
    still = "; ".join(f"{listed(names)}, {measures}" for measures, names in gains.items())
    more = f"; at {decay:g} better still than that: {still}" if still else ""
    chose = ", which it chose," if condition is MAIN else ""
    return f"with {condition.name} plain training at {decay:g}{chose} had {said} at {own:g}{more}"


def missing(over: Mapping[str, list[Comparison]]) -> str:
    """Say how many contenders lack runs in each condition, of which those that do not are given."""
    sizes = {c.name: len(c.contenders) - 1 for c in CONDITIONS}
    some = [
        f"{size - len(over[name])} of {size} contenders with {name}"
        for name, size in sizes.items()
        if 0 < len(over[name]) < size
    ]
    none = listed([name for name in sizes if not over[name]])
    rest = listed([*some, *([f"all with {none}"] if none else [])])
    return f"Not run yet: {rest}." if rest else ""


def standings(records: Iterable[Record]) -> str:
    """Say in which measures SBA is better than each rival that has all its runs, and in which it is not, and how many pairs others
    have."""
    records = list(records)
    every = {measure.name: beside(records, measure) for measure in MEASURES}
    found = {rival: {name: by_name(own, rival) for name, own in every.items()} for rival in RIVALS}
    alike: dict[str, list[str]] = {}
    for rival, own in found.items():
        if own[ERROR.name].whole:
            alike.setdefault(by_verdict(own, " in"), []).append(rival)
    place = f"directly, at weight decay {make_run(**untuned()).weight_decay:g} and {DIALS}, SBA is"
    said = [f"set against {listed(names)} {place} {words}" for words, names in alike.items()]
    rest = {rival: own[ERROR.name] for rival, own in found.items() if not own[ERROR.name].whole}
    counts = [f"{rival} has {c.n} of {c.wanted} pairs with SBA" for rival, c in rest.items()]
    return "; ".join([*said, *counts])


def by_verdict(found: Mapping[str, Comparison], joined: str = ":") -> str:
    """Write the names of comparisons after their verdicts; those that lack runs are left out."""
    told = {BETTER: "better", WORSE: "worse", SAME: f"within {MARGIN:g} point", OPEN: "not told apart"}
    names = {words: [name for name, one in found.items() if one.verdict == verdict] for verdict, words in told.items()}
    return "; ".join(f"{words}{joined} {listed(own)}" for words, own in names.items() if own)


def listed(words: Sequence[str]) -> str:
    """Write words as a list: one, two and three."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""
