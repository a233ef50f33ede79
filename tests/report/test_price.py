"""What runs cost follows from records and counts."""

import pytest
from helpers import bench, changed, content, epochs, record

from sba import make_run
from sba.core.errors import ConfigError, DataError
from sba.models.registry import build, count_parameters
from sba.records.schema import parse
from sba.report.price import (
    IMAGES,
    checkpoint_bytes,
    growth,
    hours,
    hours_at,
    images_per_second,
    newest_plain,
    size,
    speeds,
    steps,
    with_folds,
)
from sba.studies.paper_runs import IMAGENETTE, TABLE1, TABLE1_IMAGENET, imagenet_row, imagenette
from sba.studies.planned import planned_runs
from sba.training.run import REGIMES

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
    costs = {
        n: [steps(make_run(**at)) for at in imagenet_row(n)] for n in ("alexnet_imagenet", "resnet50", "vgg16_imagenet")
    }
    # ResNet-50: Q log2 Q of the transform for half of the points, and 2048 x 1000 of the last layer, of 4.09 G in all
    behind = 2048 * 1000 + 0.5 * 2048 * 11
    assert costs["resnet50"] == [1, pytest.approx(1 + 0.5 * 4 * behind / 4.09e9, rel=1e-4), 4]
    assert 1 < costs["vgg16_imagenet"][1] < 1.02 and costs["alexnet_imagenet"][2] == 8


def test_runs_that_share_a_card_count_together_and_the_fastest_counts():
    assert MEASURED["alexnet"].record == "fast" and MEASURED["alexnet"].images == pytest.approx(2 * 50_000 / 4)
    with pytest.raises(DataError, match="records: no run on 'none' has one; name another device"):
        speeds([SLOW], "none")


def test_hours_are_images_times_epochs_times_cost_over_speed():
    one = IMAGES * REGIMES["alexnet_imagenet"].epochs / 80 / 3600
    plain, _, ba = (make_run(**parameters) for parameters in imagenet_row("alexnet_imagenet"))
    assert (hours_at(plain, 80.0), hours_at(ba, 80.0)) == pytest.approx((one, 8 * one))


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


CELLS = planned_runs(IMAGENETTE, [0])


def made(cell, seconds, study="imagenette"):
    own = [e | {"images": 800} for s in (seconds, 0.8 * seconds) for e in epochs([10.0], s)]
    return parse(content(cell.run, id=cell.run.key, study=study, epochs=own))


FOUND = [made(cell, 10.0 + i) for i, cell in enumerate(CELLS)]


def test_the_speed_is_that_of_the_newest_plain_run_of_each_network_in_whatever_regime():
    former = make_run("imagenette", "resnet50", "erm", side=112, epochs=5)
    older = parse(content(former, id="older", study="imagenette", date="2025-01-01T00:00:00Z"))
    newer = parse(content(former, id="newer", study="imagenette", date="2027-01-01T00:00:00Z"))
    ids = {CELLS[i].run.network: FOUND[i].id for i in (0, 3, 5)}
    assert {n: r.id for n, r in newest_plain([older, *reversed(FOUND)]).items()} == ids
    assert list(newest_plain(FOUND)) == ["alexnet_imagenet", "resnet50", "vgg16_imagenet"]
    assert newest_plain([*FOUND, newer])["resnet50"].id == "newer" and newest_plain([older]).keys() == {"resnet50"}
    assert newest_plain([made(CELLS[0], 1.0, study=""), bench("a")]) == {}
    assert [with_folds(r.run) for r in FOUND[:3]] == ["Baseline", "SBA, M = 8", "BA, M = 2"]


def test_speed_is_that_of_the_fastest_epoch():
    assert images_per_second(FOUND[0]) == pytest.approx(800 / 8)


def test_convolutions_grow_with_the_area_and_the_head_does_not():
    assert growth("resnet50", 224) == 1
    # maps of 3.5 pixels are 4 wide
    assert growth("resnet50", 112) == pytest.approx(4, rel=0.06)
    # the head of VGG-16 takes 123.6 M multiply–adds of 15.5 G, whatever the side
    assert growth("vgg16_imagenet", 112) == pytest.approx(15.47 / (0.1236 + (15.47 - 0.1236) / 4), rel=0.01)


def test_the_study_has_every_row_and_column():
    assert len(list(imagenette())) == len(CELLS) == 7
