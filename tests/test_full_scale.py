"""What a full run would take follows from the records and from counted multiply–adds."""

import pytest

from sba.config import REGIMES
from sba.full_scale import IMAGES, growth, reduced, relative
from sba.reproductions import IMAGENETTE, imagenette
from sba.studies import cells

CELLS = cells(IMAGENETTE, [0])


def made(cell, seconds, study="imagenette"):
    return {
        "id": cell.run.key,
        "kind": "train",
        "study": study,
        "settings": cell.run.settings(),
        "seconds_per_epoch": seconds,
        "epochs": [{"images": 800}],
    }


FOUND = reduced([made(c, 10.0 + i) for i, c in reversed(list(enumerate(CELLS)))])


def test_runs_come_in_the_order_of_the_table_and_others_are_left_out():
    assert [(o.network, o.method) for o in FOUND[:4]] == [
        ("alexnet_imagenet", "erm"),
        ("alexnet_imagenet", "sba"),
        ("alexnet_imagenet", "ba"),
        ("resnet50", "erm"),
    ]
    assert len(FOUND) == 9 and reduced([made(CELLS[0], 1.0, study=""), {"id": "x", "kind": "bench"}]) == []
    assert [o.title for o in FOUND[:3]] == ["Baseline", "SBA, M = 8", "BA, M = 8"]


def test_hours_are_images_times_epochs_over_speed():
    one = FOUND[0]
    assert one.speed == pytest.approx(800 / 10)
    assert one.hours(4.0) == pytest.approx(IMAGES * REGIMES["alexnet_imagenet"].epochs / (80 / 4) / 3600)


def test_relative_times_are_over_plain_training_of_the_same_network():
    assert relative(FOUND)["alexnet_imagenet", "sba"] == pytest.approx(11 / 10)
    assert relative(FOUND)["vgg16_imagenet", "ba"] == pytest.approx(18 / 16)
    assert relative([o for o in FOUND if o.method != "erm"]) == {}


def test_convolutions_grow_with_the_area_and_the_head_does_not():
    assert growth("resnet50", 224) == 1
    # maps of 3.5 pixels are 4 wide
    assert growth("resnet50", 112) == pytest.approx(4, rel=0.06)
    # the head of VGG-16 takes 123.6 M multiply–adds of 15.5 G, whatever the side
    assert growth("vgg16_imagenet", 112) == pytest.approx(15.47 / (0.1236 + (15.47 - 0.1236) / 4), rel=0.01)


def test_the_study_has_every_row_and_column():
    assert len(list(imagenette())) == len(CELLS) == 9
