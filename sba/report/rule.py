"""When to use SBA: the rule, three sentences that follow from the comparisons on little data (:mod:`sba.report.when`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from sba.records.inference import LEVEL
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
    weight_decay_effect,
)
from sba.report.wording import Place, did, grouped, listed, outcome, placed, spoken
from sba.studies.contenders import CONDITIONS, CONTENDERS, MARGIN, RIVALS
from sba.studies.small_data import made_in, other_decay, rival_places, untuned
from sba.training.run import make_run

NOTHING = "As long as no contender has all its runs in a condition, nothing is advised."


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


def all_run(records: list[Record]) -> dict[str, list[Comparison]]:
    """Return each condition's comparisons with tuned plain training that have all their runs."""
    return {condition.name: [c for c in compared(records, condition) if c.whole] for condition in CONDITIONS}


def set_against_dropout(records: list[Record]) -> dict[Place, dict[str, dict[str, Comparison]]]:
    """Return in which condition and at which weight decay SBA and rivals can be set against dropout; there the comparisons of each
    that has all its pairs, by measure."""
    decay, found = make_run(**untuned()).weight_decay, {}
    for condition, instead in rival_places(made_in(records)):
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
    """Say whether to take dropout in place of SBA, and who errs less than dropout. The error decides; the likelihood is told."""
    simplest, *others = RIVALS
    against, places = set_against_dropout(records), every_place(records)
    less = {o: [p for p, own in against.items() if o in own and own[o][ERROR.name].verdict == BETTER] for o in others}
    more = "".join(
        f"; {o} errs less than {simplest} with {placed(there, places)}" for o, there in less.items() if there
    )
    direct = {place: own["SBA"] for place, own in against.items() if "SBA" in own}
    if not direct:
        return f"Whether plain {simplest} errs like SBA is not said yet, since pairs of runs are missing{more}."

    def where(measure: str, key: Callable[[Comparison], str]) -> dict[str, str]:
        groups = grouped({place: own[measure] for place, own in direct.items()}, key)
        return {said: placed(own, places) for said, own in groups.items()}

    errors = [f"{words} with {there}" for words, there in where(ERROR.name, lambda one: errs(one, simplest)).items()]
    losses = likelihoods(where(NLL.name, lambda one: one.verdict), simplest)
    verdicts = {own[ERROR.name].verdict for own in direct.values()}
    return f"{replaced(verdicts, simplest)}{more}: {'; '.join([*errors, *losses])}."


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
        SAME: f"the errors of SBA and {simplest} differ by less than {MARGIN:g} point",
        OPEN: f"the errors of SBA and {simplest} are open",
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
        m.name: {c.name: one for c in CONDITIONS for one in weight_decay_effect(records, m, c) if one.whole}
        for m in MEASURES
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
