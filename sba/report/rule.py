"""When to use SBA: what the comparisons on little data (:mod:`sba.report.when`) say in words, and the rule that follows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sba.records.inference import LEVEL
from sba.records.names import signed
from sba.records.schema import Record
from sba.report.when import (
    BETTER,
    ERROR,
    MEASURES,
    NLL,
    OPEN,
    SAME,
    WORSE,
    Comparison,
    beside_dropout,
    compared,
    controlled,
    costs,
    redecayed,
    rivals,
    runs_of,
)
from sba.studies.contenders import CONDITIONS, CONTENDERS, MAIN, MARGIN, RIVALS
from sba.studies.small_data import made_in, other_decay, tested, untuned
from sba.training.run import make_run

Place = tuple[str, float]
"""Name of a condition, and a weight decay."""
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
    return [first_of_all(records, over), in_its_place(records), comes_first(records, over)]


def in_brief(sentences: Sequence[str]) -> str:
    """Write what the sentences of the rule advise, without what they stand on, which follows a colon."""
    heads = [
        one if one.startswith("Of what was run") else f"{one.partition(': ')[0].rstrip('.')}." for one in sentences
    ]
    return " ".join(heads)


def grounds(records: Iterable[Record]) -> list[str]:
    """Say what the rule stands on, a paragraph each: the rivals, all set against dropout, what was best, and what is left."""
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
    last = [lowest(records, over), *decayed(records), missing(records)]
    return [sentence(theirs, over), *direct, *filter(None, last)]


def all_run(records: list[Record]) -> dict[str, list[Comparison]]:
    """Return each condition's comparisons with tuned plain training that have all their runs."""
    return {condition.name: [c for c in compared(records, condition) if c.whole] for condition in CONDITIONS}


def set_against_dropout(records: list[Record]) -> dict[Place, dict[str, dict[str, Comparison]]]:
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


def first_of_all(records: list[Record], over: Mapping[str, list[Comparison]]) -> str:
    """Say whether to use SBA at the last layer to lower the error, and what it does at equal weight decay; its other kinds if they
    lowered the error."""
    kinds = ("SBA", *(c.name for c in CONTENDERS if c.name.startswith("SBA") and c.name != "SBA"), "earlier")
    found = {kind: {where: c for where, own in over.items() for c in own if c.name == kind} for kind in kinds}
    own = found.pop("SBA")
    better = {kind: [where for where, c in places.items() if c.verdict == BETTER] for kind, places in found.items()}
    told = [f"{spoken(kind)} lowered it with {listed(places)}" for kind, places in better.items() if places]
    more = f"; {', '.join(told)}, which was not set against dropout" if told else ""
    if not own:
        return f"Whether to use SBA is not said yet, since it lacks runs everywhere{more}."
    return f"{used({c.verdict for c in own.values()})}: compared with tuned plain training it {did(own)}{level(records)}{more}."


def used(verdicts: set[str]) -> str:
    """Say what verdicts on the error of SBA minus tuned plain training advise."""
    if BETTER in verdicts:
        return "Use SBA where it lowered the error" if len(verdicts) > 1 else "Use SBA to lower the error"
    return f"{'Do not count on' if OPEN in verdicts else 'Do not use'} SBA to lower the error"


def did(places: Mapping[str, Comparison]) -> str:
    """Write what was done to the error in which conditions."""
    return listed([f"{words} with {listed(where)}" for words, where in grouped(places, outcome).items()])


def level(records: list[Record]) -> str:
    """Say what SBA does to error and likelihood at equal weight decay, after a semicolon; "" as long as runs are missing."""
    places = every_place(records)
    found = {
        m: {(c.name, float(one.name)): one for c in CONDITIONS for one in controlled(records, m, c) if one.whole}
        for m in (ERROR, NLL)
    }
    if len({decay for _, decay in places}) < 2 or not found[ERROR]:
        return ""
    errors = listed([f"{words} with {placed(own, places)}" for words, own in grouped(found[ERROR], outcome).items()])
    losses = grouped(found[NLL], lambda one: one.verdict)
    words = {BETTER: "better", WORSE: "worse", OPEN: "open"}
    said = listed(
        [f"{word} with {placed(losses[verdict], places)}" for verdict, word in words.items() if verdict in losses]
    )
    return f"; at equal weight decay it {errors}, and its likelihood is {said}"


def every_place(records: list[Record]) -> list[Place]:
    """List each condition at the regime's weight decay and at the one that plain training chose, if that is another."""
    decay, other = make_run(**untuned()).weight_decay, other_decay(made_in(records))
    return [(c.name, one) for c in CONDITIONS for one in (decay, *([other] if other else []))]


def in_its_place(records: list[Record]) -> str:
    """Say whether to take dropout in place of SBA: the error decides, and the likelihood is told."""
    simplest = RIVALS[0]
    direct = {place: own["SBA"] for place, own in set_against_dropout(records).items() if "SBA" in own}
    if not direct:
        return f"Whether plain {simplest} errs like SBA is not said yet, since pairs of runs are missing."
    places = every_place(records)

    def where(measure: str, key: Callable[[Comparison], str]) -> dict[str, str]:
        groups = grouped({place: own[measure] for place, own in direct.items()}, key)
        return {said: placed(own, places) for said, own in groups.items()}

    errors = [f"{words} with {there}" for words, there in where(ERROR.name, lambda one: errs(one, simplest)).items()]
    losses = likelihoods(where(NLL.name, lambda one: one.verdict), simplest)
    verdicts = {own[ERROR.name].verdict for own in direct.values()}
    return f"{replaced(verdicts, simplest)}: {'; '.join([*errors, *losses])}."


def replaced(verdicts: set[str], simplest: str) -> str:
    """Say what verdicts on the error of SBA minus dropout advise."""
    alone = len(verdicts) == 1
    if BETTER in verdicts:
        return f"Prefer SBA to plain {simplest}{'' if alone else ' only where it errs less'}"
    if WORSE in verdicts:
        return f"Take plain {simplest} in place of SBA{'' if alone else ' where SBA errs more'}"
    if SAME in verdicts:
        return f"Plain {simplest} errs like SBA{'' if alone else ', as far as that is decided'}"
    return f"Whether plain {simplest} errs like SBA is open"


def errs(one: Comparison, simplest: str) -> str:
    """Write whether SBA errs less than dropout, more, or alike."""
    small = f", by less than {MARGIN:g} point," if one.equivalent <= LEVEL else ""
    words = {
        BETTER: f"SBA errs less than {simplest}{small}",
        WORSE: f"SBA errs more than {simplest}{small}",
        SAME: f"their errors differ by less than {MARGIN:g} point",
        OPEN: "their errors are open",
    }
    return words[one.verdict]


def likelihoods(places: Mapping[str, str], simplest: str) -> list[str]:
    """Write where the likelihood of SBA or of dropout is the better one, and where that is open."""
    words = {
        BETTER: "SBA has the better likelihood",
        WORSE: f"{simplest} has the better likelihood",
        OPEN: "the likelihood is open",
    }
    return [f"{told} with {places[verdict]}" for verdict, told in words.items() if verdict in places]


def placed(places: Iterable[Place], known: Iterable[Place]) -> str:
    """Write conditions, and weight decays where not all of a condition's are meant."""
    every: dict[str, list[float]] = {}
    for condition, decay in known:
        every.setdefault(condition, []).append(decay)
    own: dict[str, list[float]] = {}
    for condition, decay in places:
        own.setdefault(condition, []).append(decay)
    return listed(
        [
            condition
            if decays == every[condition]
            else f"{condition} (weight decay {', '.join(map('{:g}'.format, decays))})"
            for condition, decays in own.items()
        ]
    )


def comes_first(records: list[Record], over: Mapping[str, list[Comparison]]) -> str:
    """Say what lowered the error most, and to tune the weight decay if plain training chose another than the regime's."""
    decay = tune(records)
    better = any(c.verdict == BETTER for own in over.values() for c in own)
    if not decay:
        return lowest(records, over)
    return f"{lowest(records, over).rstrip('.')}; {decay[0].lower()}{decay[1:]}" if better else decay


def tune(records: list[Record]) -> str:
    """Say where the weight decay that plain training chose is better for it than the regime's; "" if nowhere, or if it is that."""
    own, decay = make_run(**untuned()).weight_decay, other_decay(made_in(records))
    found = {
        m.name: {c.name: one for c in CONDITIONS for one in redecayed(records, m, c) if one.whole} for m in MEASURES
    }
    if not any(one.verdict == BETTER for places in found.values() for one in places.values()):
        return ""
    told = []
    for verdict, word in ((BETTER, "better"), (WORSE, "worse")):
        where = {
            name: listed([w for w, one in places.items() if one.verdict == verdict]) for name, places in found.items()
        }
        alike = grouped(where, str)
        told += [f"the {word} {listed(names)} with {places}" for places, names in alike.items() if places]
    words = {SAME: f"differs by less than {MARGIN:g} point", OPEN: "is open"}
    errors = grouped(found[ERROR.name], lambda one: one.verdict)
    said = listed([f"{words[verdict]} with {listed(errors[verdict])}" for verdict in words if verdict in errors])
    told += [f"an error that {said}"] if said else []
    return f"Tune the weight decay first: {decay:g} in place of {own:g} gives plain training {listed(told)}."


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
        kind = {c.name: c for c in done if belongs(c.name)}
        for verdict, names in grouped(kind, outcome).items():
            # who goes by its own name, and is alone there, needs no list
            list_of = "" if len(kind) == 1 and names[0] in who else f" ({', '.join(names)})"
            own.setdefault(verdict, []).append(f"{condition}{list_of}")
    return ", ".join(f"{words} with {listed(where)}" for words, where in own.items())


def grouped(found: Mapping[Any, Any], key: Callable[[Any], str]) -> dict[str, list[Any]]:
    """Group names by what is said of their values."""
    groups: dict[str, list[Any]] = {}
    for name, one in found.items():
        groups.setdefault(key(one), []).append(name)
    return groups


def outcome(one: Comparison) -> str:
    """Say what a contender did to the error, and whether that is small for sure."""
    small = f" by less than {MARGIN:g} point" if one.equivalent <= LEVEL else ""
    told = {
        BETTER: f"lowered the error{small}",
        WORSE: f"raised the error{small}",
        SAME: f"made {SAME}",
        OPEN: "left the error open",
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
        SAME: f"for the error take the simpler, {second}",
        OPEN: "it is open which to use",
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
            best.append(f"with {condition.name} {spoken(one.name)}, {one.found} points{takes}")
    if best:
        return f"Of what was run, this lowered the error most, though it is not tested against the next: {'; '.join(best)}."
    if all(c.verdict in (SAME, WORSE) for own in over.values() for c in own):
        return f"No contender that has all its runs lowered the error of tuned plain training by more than {MARGIN:g} point."
    return "No contender that has all its runs was shown to lower the error of tuned plain training."


def decayed(records: list[Record]) -> list[str]:
    """Say for each condition what plain training changed by the weight decay that it chose, and in which measures SBA and its
    rivals are better than plain training there, or worse."""
    own, decay = make_run(**untuned()).weight_decay, other_decay(made_in(records))
    found = []
    for condition in CONDITIONS if decay else ():
        itself = {m: one for m in MEASURES for one in redecayed(records, m, condition) if one.whole}
        if itself:
            told = ", ".join(f"{amount(one)} {m.unit} of {m.name} ({one.verdict})" for m, one in itself.items())
            found.append(
                f"With {condition.name}, plain training at weight decay {decay:g} minus itself at {own:g}: {told}."
            )
        rows = [
            ("SBA", m.name, c) for m in MEASURES for c in controlled(records, m, condition) if c.name == f"{decay:g}"
        ]
        rows += [(c.name, m.name, c) for m in MEASURES for c in rivals(records, m, condition, decay)]
        there: dict[str, dict[str, list[str]]] = {}
        for name, measure, one in rows:
            if one.whole:
                there.setdefault(name, {}).setdefault(one.verdict, []).append(measure)
        if there:
            alike = grouped(there, decided)
            told = "; ".join(f"{listed(names)} {words}" for words, names in alike.items())
            found.append(f"With {condition.name}, against plain training, both at weight decay {decay:g}: {told}.")
    return found


def decided(measures: Mapping[str, Sequence[str]]) -> str:
    """Write in which measures a difference is decided, from those of each verdict."""
    told = [f"{word} in {listed(measures[v])}" for v, word in ((BETTER, "better"), (WORSE, "worse")) if v in measures]
    return f"{listed(told)}" if told else "not shown to be better or worse in any measure"


def missing(records: list[Record]) -> str:
    """Say how many contenders lack some or all of their runs in each condition, plain training among them."""
    made, some, none = made_in(records), [], []
    for condition in CONDITIONS:
        counts = [len(runs_of(tested(name, condition, made), condition.n, made)) for name in condition.contenders]
        absent, part = sum(n == 0 for n in counts), sum(0 < n < condition.n for n in counts)
        if absent == len(counts):
            none.append(condition.name)
        elif absent or part:
            told = [
                f"{n} {'has' if n == 1 else 'have'} {what}"
                for n, what in ((absent, "none"), (part, "a part of theirs"))
                if n
            ]
            some.append(f"with {condition.name}, of {len(counts)} contenders {' and '.join(told)}")
    rest = [*some, *([f"with {listed(none)} none has any"] if none else [])]
    return f"Runs that are missing: {'; '.join(rest)}." if rest else ""


def spoken(name: str) -> str:
    """Write a contender's name for a list: without a comma."""
    first, comma, rest = name.partition(", ")
    return f"{first} ({rest})" if comma else name


def listed(words: Sequence[str]) -> str:
    """Write words as a list: one, two and three."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""
