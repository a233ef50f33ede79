"""Where data sets come from: digits are embedded, moons drawn, CIFAR and small folders read, ImageNet and the like listed."""

import dataclasses
import functools
import hashlib
import pathlib
import re
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sba.core.errors import DataError
from sba.data.in_files import Stream, image_folders
from sba.data.in_memory import Split
from sba.data.pictures import read_rgb

ROOT_VARIABLE = "SBA_DATA"
"""Environment variable that names the folder data is looked for in when none is given."""


Splits = tuple[Any, Any, tuple[str, ...]]
"""What is trained on, what is tested on, both in memory or both in files, and the names of the classes."""


@dataclasses.dataclass(frozen=True)
class Source:
    """How to get a data set, and what a run on it does unless told otherwise."""

    read: Callable[[pathlib.Path, bool, int], Splits]  #: from (root, download, side)
    network: str  #: default network
    padding: int = 0  #: default pixels of padding before the random crop
    flip: bool = False  #: whether mirroring preserves its labels
    cutout: int = 0  #: the side of Cutout's square that its authors use, or half the image's side
    side: int = 0  #: to which images are brought unless told otherwise, in pixels; 0 if they have one side and keep it


def arrays(images: np.ndarray, labels: Any) -> Split:
    """Put images, uint8 of shape (N, C, H, W), and labels of shape (N,) into a split."""
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.asarray(labels, dtype=np.int64)))


def read_digits(root: pathlib.Path, download: bool, side: int) -> Splits:
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels; every class is split 2 : 1 by a fixed permutation."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    parts = train_test_split(images, digits.target, test_size=1 / 3, random_state=0, stratify=digits.target)
    train_images, test_images, train_labels, test_labels = parts
    return arrays(train_images, train_labels), arrays(test_images, test_labels), tuple(map(str, range(10)))


def read_other_digits(number: int, root: pathlib.Path, download: bool, side: int) -> Splits:
    """The digits with their training images in another order, so that what is held out, and what is left, are other images."""
    train, test, classes = read_digits(root, download, side)
    order = np.random.default_rng(number).permutation(len(train))
    return train[torch.from_numpy(order)], test, classes


def read_moons(root: pathlib.Path, download: bool, side: int) -> Splits:
    """Two interleaving half moons: points as images of 1×1 pixel and two channels, 256 levels each over [−2, 3] × [−2, 3]."""
    from sklearn.datasets import make_moons

    def draw(n: int, state: int) -> Split:
        points, labels = make_moons(n, noise=0.2, random_state=state)
        return arrays(np.rint((points.clip(-2, 3) + 2) * 51).astype(np.uint8)[:, :, None, None], labels)

    return draw(200, 0), draw(2000, 1), ("upper", "lower")


def read_cifar(kind: str, root: pathlib.Path, download: bool, side: int) -> Splits:
    """CIFAR-10 or CIFAR-100 through torchvision, with every file's checksum checked first."""
    from torchvision import datasets

    cls = getattr(datasets, kind)
    if download:
        fetch(kind, root, lambda: cls(root, download=True))
    check_files(root / cls.base_folder, [*cls.train_list, *cls.test_list, [cls.meta["filename"], cls.meta["md5"]]])
    found = [cls(root, train=train) for train in (True, False)]
    train, test = (arrays(one.data.transpose(0, 3, 1, 2), one.targets) for one in found)
    return train, test, tuple(found[0].classes)


def fetch(name: str, root: pathlib.Path, download: Callable[[], Any]) -> None:
    """Download a data set, or raise :class:`DataError`."""
    try:
        download()
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"data_root: {name} cannot be downloaded to {root} ({error}); copy its files there instead"
        ) from error


def check_files(folder: pathlib.Path, files: list[list[str]]) -> None:
    """Raise :class:`DataError` if a file is missing or its MD5 is not the expected one, naming the file and both sums."""
    for name, expected in files:
        path = folder / name
        if not path.is_file():
            raise DataError(
                f"data_root: {path} is missing (expected md5 {expected}); add --download, or give the folder that holds "
                f"{folder.name}/ with --data-root or {ROOT_VARIABLE}"
            )
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if found != expected:
            raise DataError(
                f"data_root: {path} is corrupted (md5 {found}, expected {expected}); delete it and add --download, or copy it anew"
            )


def read_folder(folder: pathlib.Path, root: pathlib.Path, download: bool, side: int) -> Splits:
    """A folder with ``train/<class>/*`` and ``val/<class>/*`` (or ``test``), every image brought to side × side pixels.

    What is converted on the way (:mod:`sba.data.pictures`) is said once, in a warning that counts it.
    """
    from torchvision.transforms import v2

    validation = next((folder / name for name in ("val", "test") if (folder / name).is_dir()), None)
    if validation is None or not (folder / "train").is_dir():
        raise DataError(
            f"dataset: {folder} is not a folder that holds train/ and val/ (or test/), each with one folder per class; give one"
        )
    converted: Counter[str] = Counter()
    resize = v2.Compose([v2.Resize(side), v2.CenterCrop(side), v2.PILToTensor()])

    def image(path: str) -> np.ndarray:
        try:
            picture, changes = read_rgb(path)
        except OSError as error:
            raise DataError(f"dataset: {path} cannot be read ({error}); copy it anew or remove it") from error
        converted.update(changes)
        return resize(picture).numpy()

    found = image_folders(folder / "train", validation)
    train, test = (arrays(np.stack([image(path) for path, _ in one.samples]), one.targets) for one in found)
    if converted:
        said = ", ".join(f"{change} ({count} images)" for change, count in sorted(converted.items()))
        warnings.warn(f"dataset: {folder} was converted to RGB of 8 bits: {said}", stacklevel=2)
    return train, test, tuple(found[0].classes)


def read_imagenet(root: pathlib.Path, download: bool, side: int) -> Splits:
    """ImageNet as torchvision leaves it: ``train`` and ``val`` with a folder for each class, in the root or in ``imagenet``."""
    if download:
        raise DataError(
            "download: ImageNet asks for an account; fetch its archives, unpack them with torchvision.datasets.ImageNet, and give "
            "that folder with --data-root"
        )
    return in_files("imagenet", [root, root / "imagenet"], side)


IMAGENETTE = ("imagenette2", "imagenette2-320", "imagenette2-160", "imagenette128", "imagenette128_subset")
"""Folders that hold ten classes of ImageNet: those of fastai's archives, as torchvision names them, then all images at 128 pixels,
then a part of these."""


def read_imagenette(root: pathlib.Path, download: bool, side: int) -> Splits:
    """Ten classes of ImageNet (Howard, 2019), from the first of :data:`IMAGENETTE` that is there."""
    if download:
        from torchvision import datasets

        fetch("Imagenette", root, lambda: datasets.Imagenette(root, split="train", size="160px", download=True))
    return in_files("imagenette", [root / name for name in IMAGENETTE], side)


def in_files(name: str, folders: list[pathlib.Path], side: int) -> Splits:
    """List the files of the first of the folders that holds ``train`` and ``val``, or raise :class:`DataError`."""
    for folder in folders:
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            found = image_folders(folder / "train", folder / "val")
            train, test = (Stream([path for path, _ in one.samples], torch.tensor(one.targets), side) for one in found)
            return train, test, tuple(found[0].classes)
    raise DataError(
        f"data_root: {name} is in none of {', '.join(map(str, folders))}, each of which would hold train/ and val/; give the "
        f"folder above with --data-root or {ROOT_VARIABLE}"
    )


DATASETS: dict[str, Source] = {
    "digits": Source(read_digits, "digits", padding=1, cutout=4),
    "moons": Source(read_moons, "mlp"),
    "cifar10": Source(functools.partial(read_cifar, "CIFAR10"), "alexnet", padding=4, flip=True, cutout=16),
    "cifar100": Source(functools.partial(read_cifar, "CIFAR100"), "resnet44", padding=4, flip=True, cutout=8),
    "imagenet": Source(read_imagenet, "resnet50", flip=True, cutout=112, side=224),
    "imagenette": Source(read_imagenette, "resnet50", flip=True, cutout=112, side=224),
}
"""Data sets by name. Besides these, ``folder:PATH`` is a folder of images, and ``digits:1``, ``digits:2``, … are the digits with
other images held out."""

ARRAYS = "arrays:"
"""The names of :meth:`sba.data.datasets.Data.from_arrays` begin with it."""
FOLDER_SIDE = 32
"""Pixels to which the images of a folder are brought unless told otherwise."""


def nowhere(name: str, root: pathlib.Path, download: bool, side: int) -> Splits:
    """Say that the arrays of a program are in no file."""
    raise DataError(
        f"dataset: {name!r} was made of arrays, no command has them; give train() the Data of Data.from_arrays"
    )


def source(name: str) -> Source:
    """Look up a data set, or describe the one that ``folder:PATH``, ``digits:K`` or ``arrays:NAME`` names; raise
    :class:`DataError` if there is none."""
    if name.startswith("folder:"):
        read = functools.partial(read_folder, pathlib.Path(name.removeprefix("folder:")).expanduser())
        return Source(read, "resnet44", padding=4, flip=True, cutout=16, side=FOLDER_SIDE)
    if name.startswith(ARRAYS):
        return Source(functools.partial(nowhere, name), "resnet44")
    if re.fullmatch(r"digits:[1-9][0-9]{0,8}", name):
        return dataclasses.replace(DATASETS["digits"], read=functools.partial(read_other_digits, int(name[7:])))
    if name not in DATASETS:
        raise DataError(f"dataset: {name!r} is not known; choose from {', '.join(DATASETS)}, digits:1 … or folder:PATH")
    return DATASETS[name]
