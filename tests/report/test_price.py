"""What a study costs follows from records and counts."""

import pytest
from helpers import changed, record

from sba import make_run
from sba.core.errors import ConfigError, DataError
from sba.models.registry import build, count_parameters
from sba.report.full_scale import cost
from sba.report.price import checkpoint_bytes, hours, size, speeds, steps
from sba.studies.paper_runs import TABLE1, TABLE1_IMAGENET
from sba.studies.planned import planned_runs

FAST = changed(record(10.0, network="alexnet", identifier="fast"), seconds_per_epoch=4.0, jobs=2, device_name="card")
SLOW = changed(record(10.0, network="alexnet", identifier="slow"), seconds_per_epoch=2.5, device_name="card")
OTHER = changed(record(10.0, network="alexnet", identifier="other"), seconds_per_epoch=0.1, device_name="another card")
MEASURED = speeds([SLOW, FAST, OTHER], "card")


def test_a_step_costs_what_its_points_pass_through():
    assert [steps(make_run("cifar10", "resnet44", m)) for m in ("erm", "mixup", "isda", "implicit-sba")] == [1.0] * 4
    assert steps(make_run("cifar10", "resnet44", views=4)) == 4
    # each ball has four points at the input, in every step
    assert steps(make_run("cifar10", "resnet44", "bamboo")) == 5
    assert steps(make_run("cifar10", "resnet44", "sba", layers=("input",), basis="identity", omega=0.0, folds=3)) == 4
    for run in (one.run for one in planned_runs(TABLE1_IMAGENET, [0])):
        name = "ba" if run.views > 1 else run.method.name
        assert steps(run) == pytest.approx(cost(run.network, name))


def test_runs_that_share_a_card_count_together_and_the_fastest_counts():
    assert MEASURED["alexnet"].record == "fast" and MEASURED["alexnet"].images == pytest.approx(2 * 50_000 / 4)
    with pytest.raises(DataError, match="records: no run on 'none' has one; name another device"):
        speeds([SLOW], "none")


def test_hours_of_a_measured_network_are_those_of_its_record():
    run = make_run("cifar10", "alexnet", epochs=36)
    assert hours(run, MEASURED) == pytest.approx(36 * 2.0 / 3600)
    assert hours(make_run("cifar10", "alexnet", views=4, padding=4, epochs=36), MEASURED) == pytest.approx(
        4 * 36 * 2.0 / 3600
    )


def test_hours_of_another_network_go_with_its_multiply_adds():
    # counted by hand for the CIFAR networks: 97.2 M of ResNet-44 at 32 pixels, from its 3 x 7 blocks of 16, 32 and 64 channels
    first = 32 * 32 * 9 * 3 * 16 + 14 * 32 * 32 * 9 * 16 * 16
    second = 16 * 16 * 9 * (16 * 32 + 13 * 32 * 32) + 8 * 8 * 9 * (32 * 64 + 13 * 64 * 64) + 64 * 10
    there = MEASURED["alexnet"].rate / (first + second)
    assert hours(make_run("cifar10", "resnet44", epochs=7), MEASURED) == pytest.approx(7 * 50_000 / there / 3600)


def test_every_run_of_table_1_has_a_price():
    for study in (TABLE1, TABLE1_IMAGENET):
        for one in planned_runs(study, [0]):
            assert hours(one.run, MEASURED) > 0 and steps(one.run) >= 1
    with pytest.raises(ConfigError, match="dataset: the cost of 'digits' is not counted; give one of cifar10"):
        size(make_run("digits"))


def test_a_checkpoint_holds_weights_and_momentum():
    assert checkpoint_bytes(make_run("cifar10", "alexnet")) == 8 * count_parameters(build("alexnet", 10, 3, 32))
