"""What the rule on when to use SBA (:mod:`sba.report.rule`) stands on, in words and with the differences."""

from collections.abc import Iterable, Mapping, Sequence

from sba.records.inference import LEVEL
from sba.records.schema import Record
from sba.report.rule import NOTHING, all_run, lowest, set_against_dropout
from sba.report.when import (
    BETTER,
    ERROR,
    MEASURES,
    OPEN,
    SAME,
    WORSE,
    Comparison,
    controlled,
    rivals,
    runs_of,
    weight_decay_effect,
)
from sba.report.wording import PLAINLY, amount, did, grouped, listed
from sba.studies.contenders import CONDITIONS, MARGIN, RIVALS
from sba.studies.small_data import made_in, other_decay, tested, untuned
from sba.training.run import make_run

DIALS = "at the dials that the error chose"
"""What a likelihood or a calibration depends on, which were not tuned for."""


def grounds(records: Iterable[Record]) -> list[str]:
    """Say what the rule stands on, a paragraph each: the rivals, all set against dropout, what was best, and what is left."""
    records = list(records)
    over = all_run(records)
    if not any(over.values()):
        return [NOTHING]
    direct = [
        f"Set against each other with {condition}, all at weight decay {decay:g}: {'; '.join(told)}."
        for (condition, decay), own in set_against_dropout(records).items()
        if (told := [preferred(first, RIVALS[0], found) for first, found in own.items()])
    ]
    last = [lowest(records, over), *decayed(records), missing(records)]
    return [of_rivals(over), *direct, *filter(None, last)]


def of_rivals(over: Mapping[str, list[Comparison]]) -> str:
    """Say what SBA's rivals did to the error of tuned plain training, from a condition's comparisons that have all their runs."""
    own = {rival: {where: c for where, done in over.items() for c in done if c.name == rival} for rival in RIVALS}
    called = {PLAINLY.get(rival, rival): places for rival, places in own.items()}
    alike = grouped({who: places for who, places in called.items() if places}, did)
    rest = [who for who, places in called.items() if not places]
    said = "; ".join(f"{listed(names)} {words}" for words, names in alike.items())
    told = f"{said[0].upper()}{said[1:]}, compared with tuned plain training." if said else ""
    left = f"Of {listed(rest)} not all runs are there." if rest else ""
    return " ".join(filter(None, (told, left)))


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


def decayed(records: list[Record]) -> list[str]:
    """Say for each condition what plain training changed by the weight decay that it chose, and in which measures SBA and its
    rivals are better than plain training there, or worse."""
    own, decay = make_run(**untuned()).weight_decay, other_decay(made_in(records))
    found = []
    for condition in CONDITIONS if decay else ():
        itself = {m: one for m in MEASURES for one in weight_decay_effect(records, m, condition) if one.whole}
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
