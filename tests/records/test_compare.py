"""Records are found by what was run, and by seed."""

from helpers import bench, changed, record

from sba.records.compare import at_seeds, indexed

ERM, SBA = {"dataset": "cifar10", "network": "alexnet"}, {"dataset": "cifar10", "network": "alexnet", "method": "sba"}


def test_a_setting_is_found_only_as_it_was_asked_for():
    others = [
        record(1.0, eta=0.1, method="sba"),
        record(2.0, cutout=16),
        record(3.0, epochs=5),
        record(4.0, amp="bf16"),
    ]
    first = record(5.0, identifier="first")
    index = indexed([*others, first, changed(first, id="second"), bench("a")])
    assert {s: r.id for s, r in at_seeds(index, ERM).items()} == {0: "first"}
    assert at_seeds(index, SBA) == {}


def test_every_seed_is_found_however_large_it_is():
    index = indexed([record(20.0, "sba", 11), record(21.0, "erm", 11), record(21.5, "erm", 10**9)])
    assert list(at_seeds(index, ERM)) == [11, 10**9]
    assert [r.id for r in at_seeds(index, SBA).values()] == ["sba-11-20.0"]


def test_a_result_of_the_tables_comes_before_an_equal_run_of_a_study():
    study = changed(record(5.0), id="study", study="fig2")
    assert at_seeds(indexed([study, record(6.0, identifier="own")]), ERM)[0].id == "own"
    assert at_seeds(indexed([study]), ERM)[0].id == "study"
    other = changed(record(7.0), id="other", study="fig3")
    assert at_seeds(indexed([study, other], "fig3"), ERM)[0].id == "other" and indexed([study], "fig3") == {}
