"""Tables hold what the records say: averages checked against numpy and scipy, reduced runs kept apart, nothing invented."""

import re
import shlex

import numpy as np
import pytest
from helpers import changed, content, record
from scipy import stats

from sba import make_run
from sba.cli.sweeping import sweep
from sba.core.errors import ResultsError
from sba.records.compare import indexed
from sba.records.file import book_folder, read
from sba.records.names import column, title
from sba.records.schema import parse, setting_of
from sba.report import averages, tables, tenths
from sba.report.averages import average, over_part
from sba.studies.catalogue import STUDIES, study_named
from sba.studies.paper_runs import table1_core
from sba.studies.planned import planned_runs


def test_a_cell_is_the_mean_with_students_interval():
    errors = [20.0, 21.0, 23.5]
    one = average([record(e, seed=i) for i, e in enumerate(errors)])
    low, high = stats.t.interval(0.95, 2, loc=np.mean(errors), scale=stats.sem(errors))
    assert one.mean == pytest.approx(np.mean(errors))
    assert (one.mean - one.half, one.mean + one.half) == pytest.approx((low, high))
    assert one.n == 3 and len(one.ids) == 3
    assert str(one) == f"21.50 ± {(high - low) / 2:.2f} (n=3)"


def test_one_run_has_no_interval_and_no_run_is_no_cell():
    assert average([record(20.0)]).half is None
    assert str(average([record(20.0)])) == "20.00 (n=1)"
    assert average([]) is None


@pytest.mark.parametrize(
    "others",
    [
        [record(20.0)],
        [record(20.0, seed=1, lr=0.5)],
        [record(20.0, "sba", seed=1)],
        [record(20.0, seed=1, fingerprint="other")],
    ],
    ids=["seed", "lr", "method", "data"],
)
def test_only_runs_that_differ_in_the_seed_alone_are_averaged(others):
    with pytest.raises(ResultsError, match="not one run at different seeds"):
        average([record(21.0), *others])


def test_table1_holds_full_runs_on_the_test_set_only():
    rows = [
        record(23.0, identifier="full"),
        record(50.0, epochs=2, identifier="short"),
        record(22.0, holdout=5000, identifier="held"),
        record(20.0, "sba", cutout=16, identifier="both"),
        record(21.0, cutout=16, identifier="cut"),
        record(19.0, lr=0.5, identifier="own rate"),
        record(18.0, flip=False, identifier="no flip"),
    ]
    table = tables.table1(rows)
    alexnet = table["cifar10", "alexnet"]
    assert {name: [one.ids for one in alexnet[name].ours] for name in ("erm", "cutout", "sba", "cutout+sba")} == {
        "erm": [("full",)],
        "cutout": [("cut",)],
        "sba": [],
        "cutout+sba": [("both",)],
    }
    others = [row for where, row in table.items() if where != ("cifar10", "alexnet")]
    assert not any(entry.ours for row in others for entry in row.values())


def test_what_was_not_run_reads_as_a_dash():
    empty = tables.table1_markdown([])
    ours = [line for line in empty.splitlines() if line.startswith("| | ours")]
    assert len(ours) == len(tables.table1([]))
    assert all(line.split("|")[3:-1] == [" — "] * 5 for line in ours)
    assert "23.88" in empty and "18.03" in empty


def test_the_readme_lists_full_runs_alone_and_names_their_precision():
    full, fast = tables.readme_table([record(30.0, epochs=2), record(23.0), record(24.0, amp="bf16")]).splitlines()[2:]
    assert full.startswith("| CIFAR-10 | AlexNet | Baseline | 23.00 (n=1) | 23.88 |")
    assert fast.startswith("| CIFAR-10 | AlexNet | Baseline bf16 | 24.00 (n=1) |")


def test_variants_in_one_cell_are_told_apart():
    rows = [record(20.0, "sba", eta=0.01, identifier="a"), record(19.0, "sba", eta=0.1, identifier="b")]
    (line,) = [x for x in tables.table1_markdown(rows).splitlines() if "`a`" in x]
    assert (
        "20.00<br>(n=1)<br>η=0.01<br>ω=1.047<br>M=32<br>`a`<br>19.00<br>(n=1)<br>η=0.1<br>ω=1.047<br>M=32<br>`b`"
        in line
    )


def test_an_interval_has_a_line_of_its_own():
    rows = [record(20.0, identifier="a"), record(21.0, seed=1, identifier="b")]
    (line,) = [x for x in tables.table1_markdown(rows).splitlines() if "20.50" in x]
    assert "| 20.50<br>± 6.35<br>(n=2)<br>`a`<br>`b` |" in line


def test_a_run_off_its_regime_says_so_in_the_readme_and_stands_beside_no_number_of_the_paper():
    (line,) = tables.readme_table([record(23.0, lr=0.5, batch_size=64)]).splitlines()[2:]
    assert "| Baseline batch_size=64 lr=0.5 |" in line
    assert "23.88" not in line


def test_a_record_of_another_machine_does_not_count_twice():
    rows = [record(23.0, identifier="a"), record(23.1, identifier="b"), record(24.0, seed=1, identifier="c")]
    (one,) = averages.averages(rows)
    assert one.ids == ("a", "c")


def test_a_generated_table_stays_between_its_markers(tmp_path):
    path, other = tmp_path / "README.md", tables.BEGIN.format("other")
    path.write_text(f"before\n{other}\n{tables.BEGIN.format('results')}\nold\n{tables.END.format('results')}\nafter\n")
    with pytest.raises(ResultsError, match="is not what the records give"):
        tables.insert_table(path, "new", check=True)
    assert "old" in path.read_text()
    tables.insert_table(path, "new")
    tables.insert_table(path, "new", check=True)
    assert path.read_text().startswith(f"before\n{other}\n") and path.read_text().endswith("\nafter\n")
    assert "old" not in path.read_text()
    with pytest.raises(ResultsError, match="must hold the lines"):
        tables.insert_table(path, "new", name="other")
    assert "old" not in path.read_text() and "new" in path.read_text()


def test_settings_name_what_is_not_the_default():
    run = make_run("cifar10", "alexnet", "sba", eta=0.1, detach=False)
    assert averages.settings(run) == "η=0.1, ω=1.047, M=32, detach=False"
    assert averages.settings(make_run("cifar10", "alexnet")) == ""
    assert averages.settings(make_run("cifar10", "alexnet", views=2, chunked=True)) == "2 views, chunked"


def test_a_record_older_than_a_field_is_averaged_with_a_newer_one():
    old, new = record(20.0, "sba"), record(21.0, "sba", seed=1)
    settings = {k: v for k, v in old.settings.items() if k != "views"}
    settings["method"] = {k: v for k, v in settings["method"].items() if k != "update"}
    assert average([changed(old, settings=settings), new]).n == 2


def test_seconds_of_two_devices_are_not_averaged():
    slow = [changed(record(20.0, seed=i), seconds_per_epoch=v) for i, v in enumerate((40.0, 44.0, 60.0))]
    fast = changed(record(20.0, seed=3), seconds_per_epoch=1.25, device_name="a card")
    assert average([*slow, fast]).seconds == {"a processor": 44.0, "a card": 1.25}
    told = "44.0 (a processor, neighbours not recorded), 1.2 (a card, neighbours not recorded)"
    assert f"| {told} |" in tables.readme_table([*slow, fast])


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        ([None, None], "neighbours not recorded"),
        ([1, None], "neighbours not recorded"),
        ([1, 1], "alone"),
        ([2], "beside 1 other"),
        ([2, 3], "beside 2 others"),
        ([None, 3], "beside 2 others if recorded"),
    ],
)
def test_seconds_say_how_many_neighbours_a_run_had(jobs, told):
    own = [changed(record(20.0, seed=i), **{"jobs": n} if n else {}) for i, n in enumerate(jobs)]
    assert average(own).beside("a processor") == told
    assert f"| 2.0 (a processor, {told}) |" in tables.readme_table(own)


# ------------------------------------------------------------------------------------------------ a tenth of the regime


def tenth(error, method="erm", seed=0, network="resnet44", **more):
    return record(error, method, seed, network=network, **{"epochs": 20, "amp": "bf16"} | more)


def small_lines(records):
    lines = [x for x in tables.table1_markdown(records).splitlines() if x.startswith("| | <em>")]
    return [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines]


def test_a_tenth_has_a_line_of_its_own_and_names_epochs_and_precision():
    rows = [tenth(13.0, identifier="a"), tenth(13.4, seed=1, identifier="b"), tenth(14.0, amp="none", identifier="c")]
    first = small_lines(rows)[0]
    assert first[0] == "<em>a tenth of the<br>regime or less</em>"
    # the order is by setting: two precisions are two averages
    assert sorted(re.findall(r"<br>20 epochs(?:<br>bf16)?(?:<br>`\w+`)+", first[1])) == [
        "<br>20 epochs<br>`c`",
        "<br>20 epochs<br>bf16<br>`a`<br>`b`",
    ]
    assert first[2:] == ["—"] * 4
    assert not any(entry.ours for row in tables.table1(rows).values() for entry in row.values())


@pytest.mark.parametrize("other", [{"epochs": 19}, {"milestones": ()}, {"lr": 0.5}, {"holdout": 5000}])
def test_what_is_not_a_tenth_of_the_regime_stands_in_no_line(other):
    one = record(13.0, network="resnet44", **{"epochs": 20, "amp": "bf16"} | other)
    assert small_lines([one])[0][1:] == ["—"] * 5


def vgg16(error, method="erm", seed=0, epochs=5, **more):
    own = list(table1_core("cifar10", "vgg16"))[method == "sba"]
    options = {k: v for k, v in own.items() if k not in ("dataset", "network", "method")}
    return changed(tenth(90.0, method, seed, "vgg16", epochs=epochs, **options | more), error_last=error)


def test_a_fortieth_stands_beside_a_tenth_and_counts_its_last_epoch():
    rows = [tenth(13.0, network="vgg16"), vgg16(20.0), vgg16(19.0, "sba")]
    (line,) = (line for line in small_lines(rows) if set(line[1:]) != {"—"})
    assert "13.00<br>(n=1)<br>20 epochs" in line[1]
    assert "20.00<br>(n=1)<br>5 epochs<br>bf16" in line[1] and "19.00<br>(n=1)" in line[4] and "5 epochs" in line[4]
    assert small_lines([tenth(13.0, epochs=5)])[0][1:] == ["—"] * 5, "only VGG-16 is that slow"


def test_a_difference_never_mixes_lengths_and_a_verdict_does_not_wait_for_another():
    short = [vgg16(20.0 + 0.1 * s - 2 * (m == "sba") * (1 + 0.01 * s), m, s) for s in range(5) for m in ("erm", "sba")]
    other = [changed(vgg16(13.0, seed=s, epochs=20), error=13.0 + 0.1 * s) for s in range(5)]
    own = {
        d.epochs: d for d in tenths.differences(short) if (d.network, d.dataset, d.name) == ("vgg16", "cifar10", "sba")
    }
    assert list(own) == [20, 5] and own[20].verdict == "not run" and own[5].verdict == "holds"
    assert own[5].found.mean == pytest.approx(-2.04)
    # plain training of the other length, and then SBA that is worse there
    worse = [changed(vgg16(16.0, "sba", s, 20), error=16.0 + 0.2 * s) for s in range(5)]
    for more, verdict in ((other, "not run"), ([*other, *worse], "does not hold")):
        both = {d.epochs: d for d in tenths.differences([*short, *more]) if d.network == "vgg16" and d.found}
        found = [d.verdict for d in tenths.differences([*short, *more]) if d.network == "vgg16" and d.name == "sba"]
        assert both[5].verdict == "holds" and both[5].found == own[5].found and found[0] == verdict


def test_a_quarter_of_the_small_regime_is_no_part_of_a_pair_with_the_whole():
    where = "imagenette/vgg16_imagenet"
    whole, short = (planned_runs(STUDIES["imagenette"], [0], where, scale) for scale in (1.0, 0.25))
    made = [
        parse(content(p.run, 99.0, id=p.run.key, study=p.study, reduced=p.reduced) | {"error_last": 60.0 + number})
        for number, p in enumerate([whole[0], *short])
    ]
    (line,) = (line for line in small_lines(made) if set(line[1:]) != {"—"})
    assert "60.00<br>(n=1)<br>8 epochs<br>bf16" in line[1] and "61.00<br>(n=1)<br>2 epochs<br>bf16" in line[1]
    assert line[4].startswith("<em>62.00<br>(n=1)<br>") and "<br>2 epochs" in line[4]
    assert [d for d in tenths.on_ten_classes([made[0], made[2]]) if d.found] == [], "8 epochs and 2 are no pair"
    (found,) = (d for d in tenths.on_ten_classes(made) if d.found)
    assert (found.network, found.epochs, found.amp, found.found.mean) == ("vgg16_imagenet", 2, "bf16", 1.0)


def test_runs_on_ten_classes_stand_in_the_rows_of_imagenet():
    planned = planned_runs(STUDIES["imagenette"], [0])
    made = [parse(content(p.run, 40.0, id=p.run.key, study=p.study, reduced=True)) for p in planned]
    lines = small_lines(made)
    assert [line[0] for line in lines] == ["<em>a tenth of the<br>regime or less</em>"] * 5 + [
        "<em>ten of the<br>classes</em>"
    ] * 3
    assert all(line[1:] == ["—"] * 5 for line in lines[:5])
    for line, epochs in zip(lines[5:], (20, 8, 30), strict=True):
        assert f"(n=1)<br>{epochs} epochs<br>bf16" in line[1] and f"{epochs} epochs" in line[4]
    former = changed(made[0], settings=made[0].settings | {"epochs": 5, "milestones": [2, 3]})
    assert small_lines([former])[-1][1] == "—"


def test_sba_is_judged_on_its_sign_at_a_tenth_and_never_below_five_runs():
    options = {"eta": 0.01, "folds": 40}
    errors = [(13.0, 12.0), (13.2, 12.1), (13.1, 12.2), (12.9, 11.9), (13.3, 12.2)]
    rows = [
        tenth(e, method, seed, **(options if method == "sba" else {}))
        for seed, pair in enumerate(errors)
        for method, e in zip(("erm", "sba"), pair, strict=True)
    ]
    own = {(d.dataset, d.network, d.name): d for d in tenths.differences(rows)}
    assert len(own) == 10
    found = own["cifar10", "resnet44", "sba"]
    assert found.found.mean == pytest.approx(np.mean([b - a for a, b in errors])) and found.found.n == 5
    assert (found.part, found.amp, found.verdict) == ("erm", "bf16", "holds")
    assert {d.verdict for d in own.values() if d is not found} == {"not run"}
    four = [r for r in rows if r.seed < 4]
    assert {d.verdict for d in tenths.differences(four)} == {"open", "not run"}
    # full runs are other runs
    full = [record(13.0, network="resnet44"), record(12.0, "sba", network="resnet44", **options)]
    assert {d.verdict for d in tenths.differences(full)} == {"not run"}


def test_sba_on_ten_classes_is_compared_with_plain_training_and_with_ba_if_that_is_run():
    planned = planned_runs(STUDIES["imagenette"], range(5))
    errors = {"erm": 30.0, "sba": 29.0, "ba": 31.0}
    made = [
        parse(content(p.run, errors[column(p.run)] + 0.1 * p.run.seed, id=p.run.key, study=p.study)) for p in planned
    ]
    found = tenths.on_ten_classes(made)
    assert [(d.network, d.part, d.verdict) for d in found] == [
        ("alexnet_imagenet", "erm", "holds"),
        ("alexnet_imagenet", "ba", "holds"),
        ("resnet50", "erm", "open"),
        ("resnet50", "erm", "not run"),
        ("vgg16_imagenet", "erm", "open"),
        ("vgg16_imagenet", "erm", "not run"),
    ]
    assert [round(d.found.mean, 6) for d in found if d.found] == [-1.0, -2.0, -1.0, -1.0]
    assert {d.verdict for d in tenths.on_ten_classes([])} == {"not run"}


def missing(records):
    """(row, regime, {column: (runs there are, runs wanted)}, command) of each line of the list of what is missing."""
    rows = re.findall(r"<tr>(.*?)</tr>", tables.missing_html(records))[1:]
    cells = [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)] for row in rows]
    for (where, regime, told), (command,) in zip(cells[::2], cells[1::2], strict=True):
        parts = re.findall(r"(?:, )?(.+?) \((\d+) of (\d+)\)", told)
        yield where, regime, {name: (int(n), int(wanted)) for name, n, wanted in parts}, shlex.split(command)


def test_what_is_missing_has_a_command_that_plans_it():
    seen = list(missing([tenth(13.0), record(20.0)]))
    assert len({(where, regime) for where, regime, *_ in seen}) == 8 + (1 + 2 + 2 * 2) + (1 + 2 + 2), (
        "full, smaller on CIFAR, on ten classes"
    )
    for _, regime, columns, words in seen:
        assert words[:4] == ["python", "-m", "sba", "sweep"]
        asked = sweep.make_context("sweep", words[4:]).params
        scale, own = asked["scale"], study_named(asked["name"])
        seeds = asked["seeds"] or own.seeds
        planned = planned_runs(own, range(seeds), asked["where"], scale, asked["amp"], asked["methods"])
        assert [title(name) for name in asked["methods"]] == list(columns)
        assert {column(p.run) for p in planned} == set(asked["methods"])
        for name, (_, wanted) in columns.items():
            runs = {p.run.seed: p.run.epochs for p in planned if title(column(p.run)) == name}
            assert len(runs) == wanted
            # a shorter regime is named by its epochs
            assert regime == "full regime" or set(runs.values()) == {int(re.search(r"(\d+) epochs", regime)[1])}
        short = [p.run.epochs for p in planned if p.run.epochs < p.run.full_epochs]
        assert bool(short) == (regime != "full regime")
        if words[4] == "table1-cifar":
            assert all(tenths.shortened(p.run) for p in planned) == bool(short)


def test_a_cell_is_missing_until_all_its_seeds_are_there():
    def at(records):
        found = {}
        for where, regime, columns, _ in missing(records):
            for name, runs in columns.items():
                found[where, regime, name] = runs
        return found

    epochs = tenth(13.0).run.epochs
    place = (f"{title('cifar10')}, {title('resnet44')}", f"{epochs} epochs", title("erm"))
    assert at([])[place] == (0, tenths.SEEDS) and at([tenth(13.0)])[place] == (1, tenths.SEEDS)
    assert at([tenth(13.0, seed=s) for s in range(tenths.SEEDS - 1)])[place] == (tenths.SEEDS - 1, tenths.SEEDS)
    assert place not in at([tenth(13.0, seed=s) for s in range(tenths.SEEDS)])
    # one setting of a column, or another precision, does not stand for what the command makes
    few = [record(20.0, seed=s, cutout="auto", views=4) for s in range(8)]
    exact = [record(13.0, seed=s, network="resnet44") for s in range(8)]
    assert at(few)[title("cifar10") + ", " + title("alexnet"), "full regime", title("cutout+ba")] == (0, 8)
    assert at(exact)[place[0], "full regime", title("erm")] == (0, 8)


def test_r_drop_is_compared_with_its_dropout_and_departs_from_nothing():
    run = make_run("cifar10", "alexnet", method="r-drop", feature_dropout=0.25, alpha=0.6)
    assert averages.deviations(run) == [] and "rate=0.25" in averages.settings(run)
    ours = [record(20.0 + s, "r-drop", s, feature_dropout=0.25, alpha=0.6, identifier=f"o{s}") for s in range(3)]
    theirs = [record(21.0 + s, "erm", s, feature_dropout=0.25, identifier=f"t{s}") for s in range(3)]
    plain = [record(9.0, "erm", s, identifier=f"p{s}") for s in range(3)]
    part, found = averages.over_part(indexed(ours + theirs + plain), run)
    assert part == "dropout" and found.mean == pytest.approx(-1)


def test_runs_on_other_data_are_not_compared():
    index = {s: dict(runs) for s, runs in indexed(read(book_folder())).items()}
    run = make_run("cifar10", "alexnet", method="erm", cutout="auto")
    ours = index[setting_of(run)]
    assert over_part(index, run)[1].n == len(ours)
    seed = min(ours)
    ours[seed] = ours[seed].model_copy(update={"fingerprint": "of other data"})
    assert over_part(index, run) == ("erm", None)
