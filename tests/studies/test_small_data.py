"""The study of little data: its design, how it chooses, its stages, and a tiny version of it from start to end."""

import contextlib
import json
import math
from collections import Counter

import pytest
import torch
from click.testing import CliRunner
from helpers import after, content

from sba import make_run
from sba.cli import progress
from sba.cli.commands import main
from sba.measure.calibration import calibration
from sba.models.registry import build
from sba.records.schema import parse
from sba.studies import contenders, small_data
from sba.studies.contenders import CONDITIONS, CONTENDERS, MAIN, NAME, NAMED, PLAIN, TUNING_SEEDS, Condition, Contender
from sba.studies.planned import planned_runs


def made(parameters, seed, error=50.0, **more):
    """A record of the study that nobody made."""
    run = make_run(**parameters | {"seed": seed})
    return parse(content(run, error, id=f"{run.key}{seed}", study=NAME, **more))


def tried(contender, errors):
    """Records of a contender's trials: for each configuration its errors at the tuning seeds, ∞ for divergence."""
    for number, own in enumerate(errors):
        at = contenders.parameters(contender, number, MAIN) | {"holdout": contenders.HOLDOUT}
        for seed, error in zip(TUNING_SEEDS, own, strict=True):
            lost = {"kind": "diverged", "reason": "for this test"}
            yield made(at, seed, **({"error": error} if error < math.inf else lost))


def everything_tried(errors=((50, 50), (40, 41), (45, 44), (60, 60))):
    return [r for contender in CONTENDERS for r in tried(contender, errors)]


# ------------------------------------------------------------------------------------------------------------- design


def test_budgets_are_equal_and_every_run_differs():
    assert {len(c.grid) for c in CONTENDERS} == {4}
    keys = [make_run(**setting.parameters).key for setting in small_data.trials(CONTENDERS)]
    assert len(set(keys)) == len(keys) == len(CONTENDERS) * 4 * len(TUNING_SEEDS)
    assert all(c.n >= 5 and not set(TUNING_SEEDS) & set(range(c.n)) for c in CONDITIONS)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda c: c.name)
def test_every_configuration_fits_its_network(contender):
    for condition in CONDITIONS:
        for number in range(4):
            run = make_run(**contenders.parameters(contender, number, condition))
            run.method.check(build(run.network, 10, 3, 32, run.feature_dropout))
            assert run.draw.subset == condition.base["subset"]


def test_steps_are_what_the_design_says():
    steps = {c.name: c.base["epochs"] * (c.base["subset"] // c.base["batch_size"]) for c in CONDITIONS}
    assert steps.pop("4,000 images") == 2 * steps["250 images"] and len(set(steps.values())) == 1


def test_the_ablation_changes_one_thing_at_a_time():
    listed = list(contenders.ablated())
    assert len({make_run(**at).key for _, _, at in listed}) == len(listed)
    for where, what, at in listed:
        if at["method"] == "sba":
            reference, changes = next(a for w, i, a in listed if (w, i) == (where, "SBA")), contenders.INGREDIENTS[what]
            assert len(reference.items() ^ (at | {"layers": at["layers"]}).items()) <= 2 * len(changes)
            assert len(changes) <= 1


# ---------------------------------------------------------------------------------------------------- choice and stages


def test_the_lowest_mean_error_chooses_and_of_equal_ones_the_first():
    def choice(*errors):
        return small_data.chosen(PLAIN, small_data.made_in(tried(PLAIN, errors)))

    assert choice((50, 50), (40, 44), (41, 41), (60, 60)) == (2, 41)
    assert choice((50, 50), (40, 42), (41, 41), (60, 60)) == (1, 41)
    assert choice((50, 50), (10, math.inf), (51, 51), (52, 52)) == (0, 50)
    assert small_data.chosen(PLAIN, small_data.made_in(list(tried(PLAIN, [(50, 50)] * 4))[:-1])) is None


def test_other_studies_and_the_test_set_choose_nothing():
    records = [r for r in everything_tried() if r.run.method.name == "mixup"]
    others = [parse(r.as_json() | {"study": "another"}) for r in records]
    assert small_data.chosen(NAMED["mixup"], small_data.made_in(others)) is None
    on_test = [made(contenders.parameters(NAMED["mixup"], i, MAIN), s) for i in range(4) for s in TUNING_SEEDS]
    assert small_data.chosen(NAMED["mixup"], small_data.made_in(on_test)) is None


@pytest.mark.parametrize("better", contenders.EARLIER)
def test_the_better_earlier_layer_stands_for_both(better):
    records = [r for name in contenders.EARLIER for r in tried(NAMED[name], [(40 - (name == better),) * 2] * 4)]
    assert small_data.stands_for("earlier", small_data.made_in(records)).name == better
    assert small_data.stands_for("earlier", small_data.made_in(records[:-1])) is None


def finished(run):
    """A record of a run; plain training errs least with ten times the regime's weight decay."""
    return parse(content(run, 50.0 - (run.weight_decay == 5e-3), id=run.key, study=NAME))


def test_a_stage_is_known_when_those_before_it_are_done():
    sizes = [stage.size for stage in small_data.stages({})]
    records, planned = [], []
    for number in range(len(sizes)):
        planned = planned_runs(small_data.STUDY, [0], records=records)
        assert len(planned) <= sum(sizes[: number + 1])
        known = list(small_data.stages(small_data.made_in(records)))[number]
        assert len(known.settings) == known.size and small_data.done(known, small_data.made_in(records)) < known.size
        records = [finished(p.run) for p in planned]
    records = [finished(p.run) for p in planned_runs(small_data.STUDY, [0], records=records)]
    assert [
        small_data.done(s, small_data.made_in(records)) for s in small_data.stages(small_data.made_in(records))
    ] == sizes
    # no tuning seed and no image of the test set has a say in both
    seeds = Counter((bool(r.run.holdout), r.seed in TUNING_SEEDS) for r in records)
    assert set(seeds) == {(True, True), (False, False)}


@pytest.mark.parametrize("condition", [MAIN, CONDITIONS[1], CONDITIONS[4]], ids=lambda c: c.name)
@pytest.mark.parametrize("chosen", [0, 2])
def test_sba_and_plain_training_are_compared_at_equal_weight_decay(chosen, condition):
    errors = [[(40 if number == best else 50,) * 2 for number in range(4)] for best in (chosen, 3)]
    records = small_data.made_in([*tried(PLAIN, errors[0]), *tried(NAMED["SBA"], errors[1])])
    pairs = [[make_run(**at) for at in pair] for pair in small_data.controls(records, condition).values()]
    decays = [5e-4, 5e-3] if chosen else [5e-4]
    assert [(a.weight_decay, b.weight_decay) for a, b in pairs] == [(d, d) for d in decays]
    assert {(run.network, run.draw.subset) for pair in pairs for run in pair} == {
        (condition.base["network"], condition.base["subset"])
    }
    assert {(a.method.name, a.method.eta, b.method.name) for a, b in pairs} == {("sba", 10.0, "erm")}
    finals = {make_run(**s.parameters).key for s in small_data.finals(("plain", "SBA"), condition, records)}
    added = {make_run(**s.parameters).key for s in small_data.control_runs(records, condition)}
    wanted = {
        make_run(**at | {"seed": n}).key
        for p in small_data.controls(records, condition).values()
        for at in p
        for n in range(condition.n)
    }
    assert added == wanted - finals and len(added) == (2 * condition.n if chosen else 0)
    assert not small_data.controls({}) and not list(small_data.control_runs({}))


@pytest.mark.parametrize("condition", contenders.BOTH_DECAYS, ids=lambda condition: condition.name)
@pytest.mark.parametrize("chosen", [0, 2])
def test_rivals_are_run_at_the_weight_decay_that_plain_training_chose_if_it_is_another(chosen, condition):
    own = tried(PLAIN, [(40 if number == chosen else 50,) * 2 for number in range(4)])
    dropout = tried(NAMED["dropout"], [(40 if number == 3 else 50,) * 2 for number in range(4)])
    made = small_data.made_in([*own, *dropout])
    found = [make_run(**s.parameters) for s in small_data.rival_runs(made, condition)]
    assert small_data.other_decay(made) == (5e-3 if chosen else None) and small_data.other_decay({}) is None
    where = "" if condition is MAIN else f"{condition.name}, "
    stage = next(s for s in small_data.stages(made) if s.name == f"{where}{small_data.RIVALS_DECAYED}")
    places = [c.name for c, decay in small_data.rival_places(made) if decay is not None]
    assert places == ([c.name for c in contenders.BOTH_DECAYS] if chosen else [])
    if not chosen:
        assert not found and stage.size == 0 and small_data.other_decay(made) is None
        return
    assert [run.seed for run in found] == list(range(condition.n)), "the others have chosen nothing"
    assert {(run.weight_decay, run.feature_dropout) for run in found} == {(5e-3, 0.75)}
    assert stage.size == len(contenders.RIVALS) * condition.n and len(stage.settings) == condition.n


# ------------------------------------------------------------------------------------------------------ a tiny version

DIGITS = {"dataset": "digits", "network": "digits", "batch_size": 20, "epochs": 6, "milestones": (4,)}
TINY = (
    Contender("plain", {"method": "erm"}, ({"weight_decay": 5e-4}, {"weight_decay": 5e-3}), True),
    Contender("SBA", {"method": "sba", "folds": 4}, ({"eta": 1.0}, {"eta": 10.0}), True),
)


@contextlib.contextmanager
def tiny_version():
    """The study on digits: two contenders of two configurations, two conditions, no ablation."""
    conditions = (
        Condition("100", DIGITS | {"subset": 100}, 1, ("plain", "SBA")),
        Condition("noise", DIGITS | {"subset": 100, "label_noise": 0.4}, 1, ("plain", "SBA")),
    )
    changes = {
        "CORE": TINY,
        "OTHERS": (),
        "MAIN": conditions[0],
        "CONDITIONS": conditions,
        "HOLDOUT": 200,
        "ATTACKED": 60,
        "TUNING_SEEDS": (100,),
        "RIVALS": (),
        "BOTH_DECAYS": conditions[:1],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**changes, "NAMED": {c.name: c for c in TINY}, "ablated": lambda: ()}.items():
            patch.setattr(small_data, name, value)
        yield patch


def swept(store, *options):
    """Do the study; return the exit status and its records, by key."""
    result = CliRunner().invoke(main, ["sweep", NAME, "--store", str(store), *options], catch_exceptions=False)
    lines = [line for file in sorted(store.glob("*.jsonl")) for line in file.read_text().splitlines()]
    found = {record["key"]: record for record in map(json.loads, lines)}
    assert len(found) == len(lines)
    return result.exit_code, found


def timeless(record):
    """A record without what differs between equal runs."""
    kept = {k: v for k, v in record.items() if k not in ("id", "date", "seconds_per_epoch")}
    return kept | {"epochs": [{k: v for k, v in e.items() if k != "seconds"} for e in record["epochs"]]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store in which the tiny study was done at once, and its records."""
    with tiny_version():
        folder = tmp_path_factory.mktemp("whole")
        status, found = swept(folder)
        made = small_data.made_in(map(parse, found.values()))
        controls = [len(list(small_data.control_runs(made, condition))) for condition in small_data.CONDITIONS]
        assert status == 0 and len(found) == 4 + 2 + 2 + sum(controls)
    return folder, found


def test_a_fresh_store_gives_the_same_records_bit_for_bit(whole, tmp_path):
    """A sweep is stopped again and again, in every run and between two."""
    statuses, parts = [], {}
    while 0 not in statuses:
        with tiny_version() as patch:
            patch.setattr(progress, "stopping", lambda: contextlib.nullcontext(after(50)))
            status, parts = swept(tmp_path)
        statuses.append(status)
        assert len(statuses) < 20, "the study makes no progress"
    folder, found = whole
    assert len(statuses) > 4 and set(statuses) == {3, 0} and parts.keys() == found.keys()
    assert {k: timeless(r) for k, r in parts.items()} == {k: timeless(r) for k, r in found.items()}
    with tiny_version():
        assert swept(folder) == (0, found)


def test_what_its_records_keep(whole):
    records = [parse(r) for r in whole[1].values()]
    for record in records:
        assert [e.epoch for e in record.epochs] == [2, 3, 4, 5, 6] and record.study == NAME
        assert sum(record.calibration["count"]) == (200 if record.run.holdout else 599)
        assert ("pgd-inf" in record.attacks) == (not record.run.holdout)
    attacked = [r for r in records if r.attacks]
    assert all(r.attacks["pgd-inf"]["error"][0] >= r.clean for r in attacked)
    # what is kept is of the network after the last epoch
    from sba.training.evaluation import logits
    from sba.training.loop import Training

    training = Training(attacked[0].run)
    list(training)
    scores = logits(training.network, training.data)
    assert attacked[0].calibration == calibration(scores, training.data.test.labels)
    assert torch.isfinite(scores).all()
