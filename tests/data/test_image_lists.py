"""Lists of image files: where they lie, what names them, what is held out, and what is refused."""

import os
import pathlib
import shutil

import pytest
import torch
from helpers import file_run, whole

from sba import load, make_run, train
from sba.core.errors import ConfigError, DataError
from sba.data.in_files import MEAN, STD, Stream
from sba.data.sources import IMAGENETTE, in_files

CLASSES = 3


def test_the_fingerprint_is_that_of_names_sizes_labels_and_side(own, tmp_path):
    first = load("imagenette", own, side=8).fingerprint
    assert first != load("imagenette", own, side=16).fingerprint
    shutil.move(own, tmp_path / "elsewhere")
    assert load("imagenette", tmp_path / "elsewhere", side=8).fingerprint == first
    file = tmp_path / "elsewhere/imagenette2-160/train/n00000000/0.JPEG"
    os.truncate(file, file.stat().st_size - 1)
    assert load("imagenette", tmp_path / "elsewhere", side=8).fingerprint != first


def test_all_images_at_128_pixels_come_before_a_part_of_them(photographs, tmp_path):
    for name in ("imagenette128", "imagenette128_subset"):
        shutil.copytree(photographs / "imagenette2-160", tmp_path / name)
    shutil.rmtree(tmp_path / "imagenette128_subset" / "train" / "n00000001")
    shutil.rmtree(tmp_path / "imagenette128_subset" / "val" / "n00000001")
    assert len(load("imagenette", tmp_path, side=8).classes) == CLASSES
    shutil.rmtree(tmp_path / "imagenette128")
    assert len(load("imagenette", tmp_path, side=8).classes) == CLASSES - 1


def test_views_of_a_file_differ_without_a_flip(photographs):
    """Every view is another random crop; of images in memory the views would be equal."""
    run = file_run(views=2, flip=False, epochs=1)
    assert whole(run, None, data_root=photographs).finished
    with pytest.raises(ConfigError, match="views: the 2 of an image would be equal; give padding, flip or cutout"):
        train(make_run("digits", views=2, padding=0))


def test_images_are_held_out(photographs):
    held = load("imagenette", photographs, holdout=7, side=8)
    every = load("imagenette", photographs, side=8)
    assert isinstance(held.test, Stream) and held.evaluated_on == "holdout"
    assert (len(held.train), len(held.test)) == (17, 7)
    assert sorted([*held.train.paths, *held.test.paths]) == sorted(every.train.paths)
    of = dict(zip(every.train.paths, every.train.labels.tolist(), strict=True))
    assert [of[p] for p in held.test.paths] == held.test.labels.tolist()


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(DataError, match=rf"imagenette is in none of .*{IMAGENETTE[0]}.* --data-root or SBA_DATA"):
        load("imagenette", tmp_path)
    with pytest.raises(DataError, match="ImageNet asks for an account"):
        load("imagenet", tmp_path, download=True)


def test_an_empty_class_and_other_classes_are_named(own):
    folder = own / "imagenette2-160"
    shutil.move(folder / "val/n00000002", folder / "val/n00000009")
    with pytest.raises(DataError, match=r"3 classes, .*val 3 or others; make them equal"):
        in_files("imagenette", [folder], 8)
    (folder / "train/n00000005").mkdir()
    with pytest.raises(DataError, match=r"n00000005.*give a folder with one folder of images for each class"):
        in_files("imagenette", [folder], 8)


def test_what_works_in_memory_refuses_files(photographs):
    with pytest.raises(DataError, match="'imagenette' stays in its files, and this works in memory"):
        load("imagenette", photographs).resident  # noqa: B018


def test_images_with_a_side_of_their_own_cannot_be_given_another():
    with pytest.raises(ConfigError, match="side: 16 is not allowed, the images of 'digits' have their own"):
        make_run("digits", side=16)
    with pytest.raises(DataError, match="side: 16 is not allowed"):
        load("digits", side=16)


def test_data_of_another_side_is_refused(photographs):
    with pytest.raises(ConfigError, match="data: side is 16, the run asks for 8"):
        train(file_run(), load("imagenette", photographs, side=16))


def test_imagenet_lies_in_the_root_as_torchvision_leaves_it(photographs, tmp_path):
    shutil.copytree(photographs / "imagenette2-160", tmp_path / "root")
    data = load("imagenet", tmp_path / "root", side=8)
    assert (data.name, data.side, data.channels, len(data.classes)) == ("imagenet", 8, 3, CLASSES)


def test_the_subset_of_real_photographs_loads():
    root = os.environ.get("SBA_DATA", "")
    if not os.path.isdir(os.path.join(root, "imagenette128_subset")):
        pytest.skip("SBA_DATA names no folder with imagenette128_subset")
    training, test, classes = in_files("imagenette", [pathlib.Path(root, "imagenette128_subset")], 96)
    assert (len(training), len(test), len(classes)) == (800, 250, 10)
    part = next(test.parts(250))
    assert torch.bincount(part.labels).tolist() == [25] * 10
    # photographs have the moments of ImageNet, roughly
    scaled = (part.images.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert scaled.mean().abs() < 0.3 and 0.7 < scaled.std() < 1.3
