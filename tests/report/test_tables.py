"""Tables hold what the records say: averages checked against numpy and scipy, reduced runs kept apart, nothing invented."""

import numpy as np
import pytest
from helpers import changed, record
from scipy import stats

from sba import make_run
from sba.core.errors import ResultsError
from sba.report import averages, tables
from sba.report.averages import average


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


def test_the_generated_table_stays_between_its_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    with pytest.raises(ResultsError, match="is not what the records give"):
        tables.insert_table(path, "new", check=True)
    assert "old" in path.read_text()
    tables.insert_table(path, "new")
    tables.insert_table(path, "new", check=True)
    assert path.read_text().startswith("before\n") and path.read_text().endswith("\nafter\n")
    assert "old" not in path.read_text()
    path.write_text("no markers")
    with pytest.raises(ResultsError, match="must hold the lines"):
        tables.insert_table(path, "new")
    assert path.read_text() == "no markers"


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
    assert "| 44.0 (a processor), 1.2 (a card) |" in tables.readme_table([*slow, fast])
