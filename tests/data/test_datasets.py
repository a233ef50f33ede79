"""Data sets are whole, split cleanly, and say what is wrong with their files."""

import hashlib
import shutil
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from sba import load, make_run, train
from sba.core.errors import DataError
from sba.data.datasets import fingerprint
from sba.data.in_files import Stream
from sba.data.pictures import read_rgb
from sba.data.sources import DATASETS, ROOT_VARIABLE


def rows(split):
    """Each image with its label, as hashable values."""
    return [
        (*image.flatten().tolist(), label) for image, label in zip(split.images, split.labels.tolist(), strict=True)
    ]


def test_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    expected = [(*np.rint(x * 255 / 16).astype(int), y) for x, y in zip(source.data, source.target, strict=True)]
    assert sorted(rows(digits.train) + rows(digits.test)) == sorted(expected)
    assert digits.train.images.shape == (1198, 1, 8, 8) and digits.train.images.dtype == torch.uint8
    assert len(digits.test) == 599 and digits.classes == tuple("0123456789")


def test_digits_are_split_in_every_class_alike(digits):
    whole = torch.bincount(torch.cat([digits.train.labels, digits.test.labels]))
    assert ((torch.bincount(digits.test.labels) - whole / 3).abs() < 1).all()


def test_moments_are_those_of_the_training_images(digits):
    pixels = digits.train.images.double() / 255
    assert digits.mean == pytest.approx([pixels.mean().item()], abs=5e-5)
    assert digits.std == pytest.approx([pixels.std(correction=0).item()], abs=5e-5)


def test_moons_lie_where_they_should():
    moons = load("moons")
    assert (moons.channels, moons.side, len(moons.train), len(moons.test)) == (2, 1, 200, 2000)
    points = moons.test.images[:, :, 0, 0] / 51.0 - 2
    upper = points[moons.test.labels == 0].mean(0)
    assert upper.tolist() == pytest.approx([0, 2 / np.pi], abs=0.05)  # the centroid of half a circle


def test_holdout_takes_the_place_of_the_test_set(digits):
    held = load("digits", holdout=200)
    assert held.evaluated_on == "holdout" and digits.evaluated_on == "test"
    assert len(held.test) == 200
    assert sorted(rows(held.train) + rows(held.test)) == sorted(rows(digits.train))
    assert held.fingerprint == load("digits", holdout=200).fingerprint != digits.fingerprint


def test_holdout_is_drawn_from_all_classes(digits):
    """The files of some data sets are sorted, so the first images would not do."""
    held = load("digits", holdout=400)
    assert rows(held.test) != rows(digits.train[:400])
    assert torch.bincount(held.test.labels).min() > 20


@pytest.mark.parametrize("holdout", [-1, 1198])
def test_holdout_out_of_range(holdout):
    with pytest.raises(DataError, match=rf"holdout: {holdout} of 1198 .* give 0 … 1197"):
        load("digits", holdout=holdout)


def test_fingerprint_sees_pixels_labels_and_order(digits):
    split = digits.test[:10]
    pixels, labels = split.images.clone(), split.labels.clone()
    pixels[3, 0, 2, 2] ^= 1
    labels[4] += 1
    changed = [type(split)(pixels, split.labels), type(split)(split.images, labels), split[torch.arange(9, -1, -1)]]
    assert len({fingerprint(s) for s in [split, *changed]}) == 4


def test_unknown_data_set():
    with pytest.raises(
        DataError,
        match=r"dataset: 'cifar' is not known; choose from digits, moons, cifar10, .*, digits:1 … or folder:PATH",
    ):
        load("cifar")


# ------------------------------------------------------------------------------------------------------------- CIFAR


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder with CIFAR-10's file names but its first file missing and the others of wrong content."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, _ in [*datasets.CIFAR10.train_list[1:], *datasets.CIFAR10.test_list]:
        (folder / name).write_bytes(b"torn")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    return folder


def test_missing_file_is_named_with_its_md5(fake):
    name, md5 = datasets.CIFAR10.train_list[0]
    with pytest.raises(
        DataError, match=rf"{fake / name} is missing \(expected md5 {md5}\); add --download.*{ROOT_VARIABLE}"
    ):
        load("cifar10")


def test_corrupted_file_is_named_with_both_md5s(fake, monkeypatch):
    name, md5 = datasets.CIFAR10.train_list[1]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [(name, md5)])
    found = hashlib.md5(b"torn").hexdigest()
    with pytest.raises(DataError, match=rf"{fake / name} is corrupted \(md5 {found}, expected {md5}\)"):
        load("cifar10")
    assert (fake / name).read_bytes() == b"torn"


def test_an_argument_goes_before_the_environment(fake, tmp_path):
    with pytest.raises(DataError, match=str(tmp_path / "elsewhere")):
        load("cifar10", root=tmp_path / "elsewhere")


def test_a_failed_download_is_explained(tmp_path, monkeypatch):
    def unreachable(self):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", unreachable)
    with pytest.raises(DataError, match=r"CIFAR10 cannot be downloaded to .*no route to host.*copy its files"):
        load("cifar10", root=tmp_path, download=True)


def test_cifar10_is_the_published_one(cifar):
    assert cifar.train.images.shape == (50_000, 3, 32, 32) and len(cifar.test) == 10_000
    assert torch.bincount(cifar.train.labels).tolist() == [5000] * 10
    assert (cifar.classes[6], cifar.classes[9]) == ("frog", "truck")
    assert cifar.train.labels[:2].tolist() == [6, 9]
    assert cifar.mean == (0.4914, 0.4822, 0.4465)
    assert cifar.std == (0.2470, 0.2435, 0.2616)


def test_defaults_of_the_data_sets():
    """Digits and moons must not be mirrored; Cutout's sides are its authors'."""
    assert {name: (s.padding, s.flip, s.cutout) for name, s in DATASETS.items()} == {
        "digits": (1, False, 4),
        "moons": (0, False, 0),
        "cifar10": (4, True, 16),
        "cifar100": (4, True, 8),
        "imagenet": (0, True, 112),
        "imagenette": (0, True, 112),
    }


# ------------------------------------------------------------------------------------------------- folders of images


@pytest.fixture
def folder(tmp_path):
    """Two classes, one image each in both splits, of unequal sides; every image has one colour."""
    colours = {"train/cat": (255, 0, 0), "train/dog": (0, 255, 0), "val/cat": (0, 0, 255), "val/dog": (9, 9, 9)}
    for place, colour in colours.items():
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (50, 40), colour).save(tmp_path / place / "one.png")
    return tmp_path


def test_folder_of_images(folder):
    data = load(f"folder:{folder}")
    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (2, 3, 32, 32)
    assert data.train.images[1].unique(dim=1).flatten(1)[:, 0].tolist() == [0, 255, 0]
    assert data.test.images[0, 2].unique().tolist() == [255] and data.test.labels.tolist() == [0, 1]


def test_folder_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r"is not a folder that holds train/ and val/"):
        load(f"folder:{tmp_path / 'nowhere'}")


def test_folder_without_classes(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=rf"dataset: .*{tmp_path / 'train'}"):
        load(f"folder:{tmp_path}")


def test_folder_with_unequal_classes(folder):
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    with pytest.raises(DataError, match=r"train has 2 classes, .*val 2 or others; make them equal: dog, wolf"):
        load(f"folder:{folder}")


def test_a_single_class_is_refused_before_training(folder):
    """Its loss would be 0 from the first step on."""
    for split in ("train", "val"):
        shutil.rmtree(folder / split / "dog")
    with pytest.raises(DataError, match=r"dataset: .* has only the class cat; give two or more"):
        train(make_run(f"folder:{folder}", batch_size=1))


def test_folder_with_a_torn_image_names_it(folder):
    path = folder / "val" / "dog" / "one.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=rf"dataset: {path} cannot be read"):
        load(f"folder:{folder}")


LEVELS = np.array([[0, 128, 129, 257], [1000, 30000, 65406, 65535]], dtype=np.uint16)
RED = (255, 0, 0)
"""Kind → image, its pixels as RGB of 8 bits, what is said."""
KINDS = {
    "16 bits": (lambda: Image.fromarray(LEVELS), np.rint(LEVELS / 257), "16 bits scaled to 8, grey made RGB"),
    "grey": (lambda: Image.new("L", (4, 2), 77), 77, "grey made RGB"),
    "half clear": (
        lambda: Image.new("RGBA", (4, 2), (*RED, 51)),
        [[[255, 204, 204]]],
        "transparent parts laid on white",
    ),
    "clear grey": (lambda: Image.new("LA", (4, 2), (0, 0)), 255, "transparent parts laid on white"),
    "opaque": (lambda: Image.new("RGBA", (4, 2), (*RED, 255)), [[RED]], ""),
    "colour": (lambda: Image.new("RGB", (4, 2), RED), [[RED]], ""),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_becomes_rgb_of_8_bits(tmp_path, kind):
    make, expected, change = KINDS[kind]
    make().save(tmp_path / "one.png")
    picture, changes = read_rgb(tmp_path / "one.png")
    expected = np.asarray(expected)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert picture.mode == "RGB" and ", ".join(changes) == change
    assert (np.asarray(picture) == np.broadcast_to(expected, (2, 4, 3))).all()


def test_a_folder_says_its_conversions_once(folder):
    """16 bits were all white, a transparent image lost its background, and nothing was said."""
    Image.fromarray(np.full((40, 50), 257 * 100, dtype=np.uint16)).save(folder / "train" / "cat" / "one.png")
    for place in ("train/dog", "val/dog"):
        Image.new("RGBA", (50, 40), (0, 0, 0, 0)).save(folder / place / "one.png")
    with pytest.warns(UserWarning) as said:
        data = load(f"folder:{folder}")
    assert [str(w.message) for w in said] == [
        f"dataset: {folder} was converted to RGB of 8 bits: 16 bits scaled to 8 (1 images), "
        "grey made RGB (1 images), transparent parts laid on white (2 images)"
    ]
    assert data.train.images[0].unique().tolist() == [100] and data.train.images[1].unique().tolist() == [255]


def test_levels_without_a_known_range_are_refused(folder):
    path = folder / "train" / "cat" / "one.tif"
    Image.fromarray(np.full((40, 50), 0.5, dtype=np.float32)).save(path)
    with pytest.raises(DataError, match=rf"dataset: {path} has grey levels of mode 'F', whose range is not known"):
        load(f"folder:{folder}")


def test_images_that_stay_in_files_are_converted_alike(tmp_path):
    Image.fromarray(np.full((40, 50), 257 * 100, dtype=np.uint16)).save(tmp_path / "one.png")
    (batch,) = Stream([str(tmp_path / "one.png")], torch.tensor([0]), 8).parts(1)
    assert batch.images.unique().tolist() == [100]
