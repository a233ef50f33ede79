"""When does SBA help? The study of little data (:mod:`sba.studies.contenders`), done in stages: what held-out images choose decides
what is run next."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sba.measure.attacks import Attack
from sba.measure.calibration import calibration
from sba.measure.stress import ATTACKED, STEPS, errs, percent
from sba.records.schema import Record, RunRecord, TrainRecord
from sba.studies.contenders import (
    BOTH_DECAYS,
    CONDITIONS,
    CONTENDERS,
    EARLIER,
    HOLDOUT,
    MAIN,
    MECHANISM_N,
    NAME,
    NAMED,
    PLAIN,
    RADIUS,
    RIVALS,
    SBA,
    TUNING_SEEDS,
    Condition,
    Contender,
    ablated,
    parameters,
)
from sba.studies.planned import Setting, Study
from sba.training.evaluation import logits
from sba.training.loop import Training
from sba.training.run import make_run

EQUAL = "at equal weight decay"
"""Name of the stage that separates SBA from weight decay."""
RIVALS_DECAYED = "rivals at plain training's weight decay"
"""Name of the stage that does so with its rivals."""

Made = Mapping[str, RunRecord]
"""Key of a run → its record in this study."""


def made_in(records: Iterable[Record]) -> Made:
    """Index this study's records; of equal runs the first counts."""
    found: dict[str, RunRecord] = {}
    for record in records:
        if isinstance(record, RunRecord) and record.study == NAME:
            found.setdefault(record.key, record)
    return found


def key_of(setting: dict[str, Any], seed: int) -> str:
    """Return the key of a setting's run at a seed."""
    return make_run(**setting | {"seed": seed}).key


def held_out(
    contender: Contender, made: Made, value: Callable[[TrainRecord], float] = lambda record: record.error
) -> list[list[float]]:
    """Return a number of each configuration's records on held-out images, as far as there are any; ∞ for divergence.

    By default it is the error in per cent, by which a configuration is chosen.
    """
    found = []
    for number in range(len(contender.grid)):
        at = parameters(contender, number, MAIN) | {"holdout": HOLDOUT}
        records = [made[key] for seed in TUNING_SEEDS if (key := key_of(at, seed)) in made]
        found.append([value(r) if isinstance(r, TrainRecord) else math.inf for r in records])
    return found


def chosen(contender: Contender, made: Made) -> tuple[int, float] | None:
    """Return the configuration with the lowest mean error on held-out images, the first of equal ones, and that error.

    None if a run is missing.
    """
    errors = held_out(contender, made)
    if any(len(own) < len(TUNING_SEEDS) for own in errors):
        return None
    means = [statistics.mean(own) for own in errors]
    return means.index(min(means)), min(means)


def stands_for(name: str, made: Made) -> Contender | None:
    """Return a contender by its name; "earlier" is the better of :data:`sba.studies.contenders.EARLIER`, None until it is known."""
    if name != "earlier":
        return NAMED[name]
    found = [(chosen(NAMED[n], made), NAMED[n]) for n in EARLIER]
    known = [(c[1], contender) for c, contender in found if c]
    return min(known, key=lambda pair: pair[0])[1] if len(known) == len(EARLIER) else None


def tested(name: str, condition: Condition, made: Made, decay: float | None = None) -> dict[str, Any] | None:
    """Return the parameters of a contender as it is tested in a condition, without the seed; None as long as nothing is chosen.

    Args:
        decay: weight decay in place of its own.
    """
    contender = stands_for(name, made)
    choice = contender and chosen(contender, made)
    found = parameters(contender, choice[0], condition) if contender and choice else None
    return found if found is None or decay is None else found | {"weight_decay": decay}


def untuned(condition: Condition = MAIN) -> dict[str, Any]:
    """Return the parameters of plain training in a condition with the regime's weight decay, which all others keep."""
    return condition.base | PLAIN.base


def other_decay(made: Made) -> float | None:
    """Return the weight decay that plain training chose if it is not the regime's, which all others keep."""
    plain = tested(PLAIN.name, MAIN, made)
    found = None if plain is None else make_run(**plain).weight_decay
    return None if found == make_run(**untuned()).weight_decay else found


def controls(made: Made, condition: Condition = MAIN) -> dict[float, tuple[dict[str, Any], dict[str, Any]]]:
    """Return SBA as it is tested and plain training at the same weight decay: the regime's, and plain training's choice if that is
    another. Empty as long as nothing is chosen."""
    plain, ours = (tested(name, condition, made) for name in (PLAIN.name, "SBA"))
    if plain is None or ours is None:
        return {}
    regime = untuned(condition)
    decays = dict.fromkeys(make_run(**at).weight_decay for at in (regime, plain))
    return {decay: (ours | {"weight_decay": decay}, regime | {"weight_decay": decay}) for decay in decays}


def control_runs(made: Made, condition: Condition = MAIN) -> Iterator[Setting]:
    """List the runs of a condition's controls that are not those of its contenders."""
    finals = {key_of(at, 0) for name in (PLAIN.name, "SBA") if (at := tested(name, condition, made))}
    added = [one for pair in controls(made, condition).values() for one in pair if key_of(one, 0) not in finals]
    for seed in range(condition.n):
        yield from (Setting(at | {"seed": seed}, NAME) for at in added)


def control_stage(made: Made, condition: Condition, name: str) -> "Stage":
    """Return the stage of a condition's controls: two settings, or none if plain training chose the regime's weight decay."""
    runs = tuple(control_runs(made, condition))
    return Stage(name, len(runs) if controls(made, condition) else 2 * condition.n, runs)


def rival_runs(made: Made, condition: Condition = MAIN) -> Iterator[Setting]:
    """List the runs of the rivals at the weight decay that plain training chose, if it is another, as far as they are known."""
    if decay := other_decay(made):
        # the first has all its seeds before the next
        for at in filter(None, (tested(name, condition, made, decay) for name in RIVALS)):
            yield from (Setting(at | {"seed": seed}, NAME) for seed in range(condition.n))


def rival_stage(made: Made, condition: Condition, name: str) -> "Stage":
    """Return the stage of a condition's rivals at the other weight decay: none if plain training chose the regime's."""
    known = tested(PLAIN.name, MAIN, made) is not None and other_decay(made) is None
    return Stage(name, 0 if known else condition.n * len(RIVALS), tuple(rival_runs(made, condition)))


def rival_places(made: Made) -> list[tuple[Condition, float | None]]:
    """List where SBA and its rivals are set against each other: each condition at the regime's weight decay, which is None, and
    those of :data:`sba.studies.contenders.BOTH_DECAYS` at plain training's choice, if that is another."""
    other = other_decay(made)
    decays = {c.name: (None, other) if other and c in BOTH_DECAYS else (None,) for c in CONDITIONS}
    return [(condition, decay) for condition in CONDITIONS for decay in decays[condition.name]]


def trials(contenders: Iterable[Contender]) -> Iterator[Setting]:
    """List the runs that choose, those of one seed before the next."""
    contenders = list(contenders)
    for seed in TUNING_SEEDS:
        for contender in contenders:
            for number in range(len(contender.grid)):
                at = {"holdout": HOLDOUT, "seed": seed}
                yield Setting(parameters(contender, number, MAIN) | at, NAME)


def finals(names: Iterable[str], condition: Condition, made: Made) -> Iterator[Setting]:
    """List the runs that count, as far as they are known."""
    settings = [at for name in names if (at := tested(name, condition, made))]
    for seed in range(condition.n):
        yield from (Setting(at | {"seed": seed}, NAME) for at in settings)


CORE = tuple(c for c in CONTENDERS if c.core)
OTHERS = tuple(c for c in CONTENDERS if not c.core)


def settings() -> Iterator[Setting]:
    """List the runs that choose among the core contenders' configurations."""
    return trials(CORE)


@dataclass(frozen=True)
class Stage:
    """Runs that are known once all stages before theirs have their records."""

    name: str  #: for tables
    size: int  #: how many runs
    settings: tuple[Setting, ...]  #: of the runs that are known


def stages(made: Made) -> Iterator[Stage]:
    """List the study in its order."""
    for who, contenders in (("core contenders", CORE), ("others", OTHERS)):
        choice = tuple(trials(contenders))
        yield Stage(f"{who}: choice", len(choice), choice)
        names = [c.name for c in contenders]
        yield Stage(f"{who}: {MAIN.name}", MAIN.n * len(names), tuple(finals(names, MAIN, made)))
    yield control_stage(made, MAIN, EQUAL)
    yield rival_stage(made, MAIN, RIVALS_DECAYED)
    ablation = tuple(Setting(at | {"seed": seed}, NAME) for seed in range(MECHANISM_N) for _, _, at in ablated())
    yield Stage("mechanism", len(ablation), ablation)
    for condition in CONDITIONS[1:]:
        names = list(condition.contenders)
        yield Stage(condition.name, condition.n * len(names), tuple(finals(names, condition, made)))
        yield control_stage(made, condition, f"{condition.name}, {EQUAL}")
        if condition in BOTH_DECAYS:
            yield rival_stage(made, condition, f"{condition.name}, {RIVALS_DECAYED}")


def follows(records: Iterable[Record]) -> Iterator[Setting]:
    """List the stages up to the first that lacks a record."""
    made = made_in(records)
    for known in stages(made):
        yield from known.settings
        if done(known, made) < known.size:
            return


def done(known: Stage, made: Made) -> int:
    """Count the runs of a stage that have a record."""
    return sum(s.run.key in made for s in known.settings)


def measure(training: Training) -> dict[str, Any]:
    """Return what a record keeps beside the usual: ``calibration``, and of a run that counts ``attacked``, ``clean`` and
    ``attacks``, as :func:`sba.measure.stress.measured`."""
    data = training.data
    scores = logits(training.network, data)
    found: dict[str, Any] = {"calibration": calibration(scores, data.test.labels)}
    if training.run.holdout:
        return found
    few = replace(data, test=data.resident[1][:ATTACKED])
    error = percent(errs(training, few, Attack(RADIUS, "inf", STEPS)))
    clean = percent(scores[: len(few.test)].argmax(1) != few.test.labels)
    return found | {
        "attacked": len(few.test),
        "clean": clean,
        "attacks": {"pgd-inf": {"radii": [RADIUS], "error": [error]}},
    }


STUDY = Study(
    NAME,
    "SBA, its ingredients and its rivals on little data, each with the same budget of tuning",
    settings,
    seeds=1,
    last=5,
    measure=measure,
    exclusive=True,
    follows=follows,
    evaluate_last=5,
)


def full_size() -> Iterator[Setting]:
    """List the same question at full size: the paper's η, and a hundred and a thousand times that, and dropout at the feature."""
    row = {"dataset": "cifar10", "network": "alexnet"}
    yield Setting(row | {"method": "erm"})
    yield Setting(row | SBA | {"eta": 0.01})
    for more in (SBA | {"eta": 1.0}, SBA | {"eta": 10.0}, {"method": "erm", "feature_dropout": 0.5}):
        yield Setting(row | more, "full-size")


FULL_SIZE = Study(
    "full-size", "AlexNet on all of CIFAR-10 at larger η and with dropout at the feature", full_size, seeds=5
)
