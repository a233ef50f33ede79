"""Studies as lists of runs: what belongs to each, in which order, and that every run can be made."""

import math
from collections import Counter

import pytest
from helpers import content

from sba import build, make_run
from sba.core.errors import ConfigError
from sba.core.staged import Staged
from sba.records.names import column
from sba.records.schema import parse
from sba.report.averages import deviations
from sba.report.tables import table1
from sba.studies.catalogue import STUDIES, study_named
from sba.studies.paper import ADOPTED_ETA, COLUMNS, ETA_GRID, TABLE1, stated
from sba.studies.paper_runs import HOLDOUT, LAYERS, ROWS, SMALL_COPIES, SMALL_EPOCHS
from sba.studies.planned import PlannedRun, Setting, Study, planned_runs
from sba.training.run import REGIMES

SIDES = {
    "cifar10": (10, 3, 32),
    "cifar100": (100, 3, 32),
    "digits": (10, 1, 8),
    "moons": (2, 2, 1),
    "imagenet": (1000, 3, 64),
    "imagenette": (10, 3, 64),
}


@pytest.fixture(scope="module")
def networks() -> dict[tuple[str, str, float], Staged]:
    """The networks of all studies, built once."""
    made: dict[tuple[str, str, float], Staged] = {}
    for study in STUDIES.values():
        for cell in planned_runs(study, [0]):
            if (one := built(cell.run)) not in made:
                made[one] = build(one[1], *SIDES[one[0].partition(":")[0]], one[2])
    return made


def built(run):
    """What decides a run's network."""
    return run.dataset, run.network, run.feature_dropout


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_a_study_fits_its_network(name, networks):
    for cell in planned_runs(STUDIES[name], [0]):
        cell.run.method.check(networks[built(cell.run)])


@pytest.mark.parametrize("name", [n for n in STUDIES if n not in ("small-data", "imagenette")])
def test_one_seed_comes_everywhere_before_a_second_and_no_run_twice(name):
    found = planned_runs(STUDIES[name], [3, 1])
    keys = [cell.run.key for cell in found]
    seeds = [cell.run.seed for cell in found]
    assert len(set(keys)) == len(keys)
    assert seeds == [3] * (len(found) // 2) + [1] * (len(found) // 2)


def test_an_unknown_study_is_refused_with_the_one_meant():
    with pytest.raises(ConfigError, match="study: 'table1-cifra' is not known; did you mean 'table1-cifar'"):
        study_named("table1-cifra")


def test_a_part_of_a_study_is_chosen_by_data_set_and_network():
    study = STUDIES["table1-cifar"]
    whole = planned_runs(study, [0])
    part = planned_runs(study, [0], "cifar10/alexnet")
    assert part == [c for c in whole if (c.run.dataset, c.run.network) == ("cifar10", "alexnet")]
    assert planned_runs(study, [0], "cifar100") == [c for c in whole if c.run.dataset == "cifar100"]
    with pytest.raises(ConfigError, match=r"where: 'cifar10/lenet' is no part .* choose from cifar10/alexnet, "):
        planned_runs(study, [0], "cifar10/lenet")


# ------------------------------------------------------------------------------------------------ Table 1 and its figures


def finished(planned: PlannedRun, error=10.0, **more):
    """A record of a planned run."""
    study = {"study": planned.study} if planned.study else {}
    return parse(content(planned.run, error, id=planned.run.key, reduced=planned.reduced, **study | more))


def test_table1_is_filled_by_its_study_and_by_it_alone():
    """Every column of the paper in every row on CIFAR gets one variant; the figures' other runs add none."""
    everything = [cell for study in STUDIES.values() for cell in planned_runs(study, [0])]
    rows = {where: row for where, row in table1(map(finished, everything)).items() if where[0] != "imagenet"}
    assert list(rows) == list(dict.fromkeys((r.dataset, r.network) for r in TABLE1 if r.dataset != "imagenet"))
    for where, row in rows.items():
        for name in (*COLUMNS, "cutout+sba"):
            # Batch Augmentation with few copies is a setting of its own where a processor can do it
            few = name == "cutout+ba" and where[1] in SMALL_COPIES
            assert [one.n for one in row[name].ours] == [1] * (1 + few), (where, name)


def test_table1_has_the_papers_eta_and_m_and_the_regime_of_each_network():
    for cell in planned_runs(STUDIES["table1-cifar"], [0]):
        run = cell.run
        assert not cell.reduced and cell.study == "" and deviations(run) == []
        if run.method.name == "sba":
            assert run.method.eta == ADOPTED_ETA[run.dataset, run.network]
            assert run.method.omega == math.pi / 3
            assert run.method.folds == (40 if run.network == "resnet44" else 32)


def test_what_the_paper_asks_comes_before_what_it_does_not_and_what_is_costly_comes_last():
    found = [(column(c.run), c.run.network) for c in planned_runs(STUDIES["table1-cifar"], [0])]
    names = list(dict.fromkeys(name for name, _ in found))
    assert names[:5] == ["erm", "sba", "cutout", "cutout+sba", "implicit-sba"] and names[-1] == "cutout+ba"
    assert [n for n, _ in found[: 5 * len(ROWS)]] == names[:5] * len(ROWS)
    assert found[0][1] == "alexnet"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("erm", {}),
        ("sba", {"omega": 1.0471975511965976, "eta": 0.01, "folds": 32}),
        ("erm", {"cutout": "auto"}),
        ("sba", {"omega": 1.0471975511965976, "eta": 0.01, "folds": 32, "cutout": "auto"}),
    ],
)
def test_a_run_typed_by_hand_is_the_tables_own(method, options):
    """`sba train --dataset cifar10 --network alexnet --amp bf16 --method …` makes a record that counts."""
    run = make_run("cifar10", "alexnet", method, amp="bf16", seed=0, **options)
    mine = planned_runs(STUDIES["table1-cifar"], [0], "cifar10/alexnet", amp="bf16")
    (cell,) = [c for c in mine if c.run.key == run.key]
    assert cell.run == run and cell.counts(finished(cell), exclusive=False)
    assert run.key not in {c.run.key for c in planned_runs(STUDIES["table1-cifar"], [0], "cifar10/alexnet")}


def test_figure_2_has_every_eta_held_out_first_and_shares_table_1s_cells():
    found = planned_runs(STUDIES["fig2"], [0], "cifar10/alexnet")
    etas = [getattr(c.run.method, "eta", 0.0) for c in found]
    assert etas == [*ETA_GRID, *ETA_GRID]
    assert [c.run.holdout for c in found] == [HOLDOUT] * 7 + [0] * 7
    shared = {c.run.key for c in planned_runs(STUDIES["table1-cifar"], [0])}
    assert {c.run.key for c in found if not c.study} == shared & {c.run.key for c in found}
    assert len([c for c in found if not c.study]) == 2


def test_figure_3_has_both_methods_at_each_layer_at_equal_m():
    for where, layers in LAYERS.items():
        found = planned_runs(STUDIES["fig3"], [0], "/".join(where))
        at = [c.run.method for c in found if c.run.method.name == "sba"]
        count = Counter((m.layers, m.folds, m.label, m.omega == 0) for m in at)
        assert set(count.values()) == {1}
        assert {layer for m in at for layer in m.layers} == set(layers)
        assert len(count) == 2 * 2 * len(layers)
        assert [c.run.views for c in found if c.run.method.name == "erm"] == [1, 4, 32]


def test_the_baseline_of_vgg_has_four_cells_of_which_one_is_table_1s():
    found = planned_runs(STUDIES["vgg-baseline"], [0])
    what = [(c.run.network, c.run.padding > 0, c.run.flip, c.study) for c in found]
    own = "vgg-baseline"
    assert what == [
        ("vgg16", True, True, ""),
        ("vgg16", False, False, own),
        ("vgg16_plain", True, True, own),
        ("vgg16_plain", False, False, own),
    ]
    assert found[0].run.key in {c.run.key for c in planned_runs(STUDIES["table1-cifar"], [0])}


def test_ten_classes_have_five_seeds_of_the_cheap_network_and_one_of_the_others():
    found = planned_runs(STUDIES["imagenette"], range(STUDIES["imagenette"].seeds))
    runs = Counter((c.run.network, column(c.run), c.run.views) for c in found)
    assert runs == {
        ("alexnet_imagenet", "erm", 1): 5,
        ("alexnet_imagenet", "sba", 1): 5,
        ("alexnet_imagenet", "ba", 2): 5,
        ("resnet50", "erm", 1): 1,
        ("resnet50", "sba", 1): 1,
        ("vgg16_imagenet", "erm", 1): 1,
        ("vgg16_imagenet", "sba", 1): 1,
    }
    assert {c.run.network: c.run.epochs for c in found} == SMALL_EPOCHS
    assert {(c.run.side, c.run.amp, c.study) for c in found} == {(112, "bf16", "imagenette")}
    given = {c.run.network: c.run.method.folds for c in found if c.run.method.name == "sba"}
    assert given == {network: stated("imagenet", network, "sba").folds for network in SMALL_EPOCHS}


# ---------------------------------------------------------------------------------------------------------- shorter runs


@pytest.mark.parametrize("name", STUDIES)
def test_scaled_epochs_move_the_milestones_and_mark_the_run(name):
    whole, short = (planned_runs(STUDIES[name], [0], scale=s) for s in (1.0, 0.1))
    assert len(whole) == len(short)
    for before, after in zip(whole, short, strict=True):
        a, b = before.run, after.run
        assert b.epochs == max(1, round(0.1 * a.epochs)) and after.reduced
        assert b.milestones == tuple(sorted({round(m * b.epochs / a.epochs) for m in a.milestones} - {0}))
        assert (a.method, a.lr, a.seed) == (b.method, b.lr, b.seed)
    assert {c.reduced for c in whole} == {name == "imagenette"}


def test_a_scale_of_no_epochs_is_refused_and_the_smallest_is_one_epoch():
    with pytest.raises(ConfigError, match="epochs-scale: 0 is not allowed; give a number above 0"):
        planned_runs(STUDIES["fig2"], [0], scale=0)
    assert {c.run.epochs for c in planned_runs(STUDIES["fig2"], [0], scale=1e-9)} == {1}
    assert {c.run.full_epochs for c in planned_runs(STUDIES["fig2"], [0], scale=1e-9)} <= {
        r.epochs for r in REGIMES.values()
    }


# -------------------------------------------------------------------------------------------------- which records count


def one(exclusive=False):
    study = Study("tiny", "", lambda: [Setting({"dataset": "digits"}, "tiny")], exclusive=exclusive)
    (cell,) = planned_runs(study, [0])
    return cell, finished(cell)


def test_a_result_of_the_tables_may_serve_a_study_but_not_the_other_way_round():
    cell, record = one()
    plain = finished(cell, study="")
    assert cell.counts(record, False) and cell.counts(plain, False)
    assert cell.counts(record, True) and not cell.counts(plain, True)
    assert not cell.counts(finished(cell, study="other"), False)
    result = PlannedRun(cell.run, "", False)
    assert result.counts(plain, False) and not result.counts(record, False)


def test_a_record_older_than_a_field_has_the_key_with_the_fields_default():
    run = make_run(method="sba")
    settings = run.settings()
    del settings["method"]["update"], settings["views"]
    assert parse(content(run, settings=settings, key="older")).key == run.key


def test_a_study_is_limited_to_columns_of_its_table():
    kept = planned_runs(study_named("table1-cifar"), [0], "cifar10/alexnet", methods=("erm", "cutout+sba"))
    assert [(c.run.method.name, c.run.cutout, c.run.views) for c in kept] == [("erm", 0, 1), ("sba", 16, 1)]
    with pytest.raises(
        ConfigError, match=r"methods: 'erm\+sba' is no part of .* choose from erm, sba, cutout, cutout\+sba"
    ):
        planned_runs(study_named("table1-cifar"), [0], "cifar10/alexnet", methods=("erm+sba",))


def test_a_setting_that_names_its_seed_is_run_at_that_alone():
    study = Study("own", "for this test", lambda: [Setting({"method": "erm", "seed": 7}), Setting({"method": "sba"})])
    found = [(p.run.method.name, p.run.seed) for p in planned_runs(study, [0, 1])]
    assert found == [("erm", 7), ("sba", 0), ("sba", 1)]
