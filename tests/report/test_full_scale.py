"""What a full run would take follows from the records and from counted multiply–adds."""

import pytest
from helpers import bench, content, epochs

from sba.core.errors import ConfigError
from sba.records.schema import parse
from sba.report.full_scale import IMAGES, cost, growth, hours, speed, timed, with_folds
from sba.studies.paper_runs import IMAGENETTE, imagenette
from sba.studies.planned import planned_runs
from sba.training.run import REGIMES, make_run

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
    assert {n: r.id for n, r in timed([older, *reversed(FOUND)]).items()} == ids
    assert list(timed(FOUND)) == ["alexnet_imagenet", "resnet50", "vgg16_imagenet"]
    assert timed([*FOUND, newer])["resnet50"].id == "newer" and timed([older]).keys() == {"resnet50"}
    assert timed([made(CELLS[0], 1.0, study=""), bench("a")]) == {}
    assert [with_folds(r.run) for r in FOUND[:3]] == ["Baseline", "SBA, M = 8", "BA, M = 2"]


def test_speed_is_that_of_the_fastest_epoch():
    assert speed(FOUND[0]) == pytest.approx(800 / 8)


def test_hours_are_images_times_epochs_times_cost_over_speed():
    one = IMAGES * REGIMES["alexnet_imagenet"].epochs / 80 / 3600
    assert hours("alexnet_imagenet", "erm", 80.0) == pytest.approx(one)
    assert hours("alexnet_imagenet", "ba", 80.0) == pytest.approx(8 * one)


def test_the_cost_of_sba_is_that_of_what_lies_behind_the_last_layers():
    # ResNet-50: Q log2 Q of the transform for half of the points, and 2048 x 1000 of the last layer, of 4.09 G in all
    behind = 2048 * 1000 + 0.5 * 2048 * 11
    assert cost("resnet50", "sba") == pytest.approx(1 + 0.5 * 4 * behind / 4.09e9, rel=1e-4)
    assert 1 < cost("vgg16_imagenet", "sba") < 1.02 and cost("resnet50", "ba") == 4
    with pytest.raises(ConfigError, match="method: 'mixup' is not counted here; give erm, sba or ba"):
        cost("resnet50", "mixup")


def test_convolutions_grow_with_the_area_and_the_head_does_not():
    assert growth("resnet50", 224) == 1
    # maps of 3.5 pixels are 4 wide
    assert growth("resnet50", 112) == pytest.approx(4, rel=0.06)
    # the head of VGG-16 takes 123.6 M multiply–adds of 15.5 G, whatever the side
    assert growth("vgg16_imagenet", 112) == pytest.approx(15.47 / (0.1236 + (15.47 - 0.1236) / 4), rel=0.01)


def test_the_study_has_every_row_and_column():
    assert len(list(imagenette())) == len(CELLS) == 7
