"""Data sets by name: digits (embedded), moons (drawn), CIFAR-10/100 and small folders in memory, ImageNet and the like in files."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sba.core.errors import DataError
from sba.core.rng import fold_in
from sba.data.in_files import MEAN, STD, Stream, list_folder
from sba.data.in_memory import Split

ROOT_VARIABLE = "SBA_DATA"
"""Environment variable that names the folder data is looked for in when none is given."""


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, split in two.

    Attributes:
        name: as given to :func:`load`.
        train: what is trained on, in memory or in files.
        test: what is evaluated on: the test set, or images held out of the training set.
        evaluated_on: "test" or "holdout".
        classes: the names of the classes.
        mean: of each channel over the training set, in [0, 1].
        std: likewise.
        fingerprint: hash of all pixels, labels and their order, as 16 hexadecimal digits; see :func:`fingerprint`.
        root: the folder that data is looked for in, and more about the images (:mod:`sba.data.cifar10h`); None if it is not
            known.
    """

    name: str
    train: Split | Stream
    test: Split | Stream
    evaluated_on: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    root: pathlib.Path | None = None

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.train.shape[-1]

    @property
    def channels(self) -> int:
        return self.train.shape[0]

    def to(self, device: torch.device | str) -> "Data":
        return dataclasses.replace(self, train=self.train.to(device), test=self.test.to(device))

    def reading(self, unreadable: str, workers: int) -> "Data":
        """Return the same data, whose files are read in another way (:class:`sba.data.in_files.Stream`)."""
        return dataclasses.replace(
            self, train=self.train.reading(unreadable, workers), test=self.test.reading(unreadable, workers)
        )

    @property
    def evaluated(self) -> tuple[Split | Stream, tuple[float, ...], tuple[float, ...]]:
        """What an evaluation takes: the images that are evaluated on, and mean and standard deviation of each channel."""
        return self.test, self.mean, self.std

    @property
    def resident(self) -> tuple[Split, Split]:
        """Both splits in memory.

        Raises:
            DataError: they stay in files.
        """
        if isinstance(self.train, Stream) or isinstance(self.test, Stream):
            raise DataError(
                f"dataset: {self.name!r} stays in its files, and this works in memory; give another data set"
            )
        return self.train, self.test


@dataclasses.dataclass(frozen=True)
class Raw:
    """What a loader returns: images uint8 (N, C, H, W) and labels (N,) of both splits, and the names of the classes."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a loader returns whose images stay in files: a folder with ``train/<class>/*`` and ``val/<class>/*``."""

    folder: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Source:
    """How to get a data set, and what a run on it does unless told otherwise.

    Attributes:
        read: from (root, download, side) to :class:`Raw` or :class:`Kept`.
        network: default network.
        padding: default pixels of padding before the random crop.
        flip: whether mirroring preserves its labels.
        cutout: the side of Cutout's square that its authors use, or half the image's side.
        side: to which images are brought unless told otherwise, in pixels; 0 where they have one side and keep it.
    """

    read: Callable[[pathlib.Path, bool, int], "Raw | Kept"]
    network: str
    padding: int = 0
    flip: bool = False
    cutout: int = 0
    side: int = 0


def read_digits(root: pathlib.Path, download: bool, side: int) -> Raw:
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels; every class is split 2 : 1 by a fixed permutation."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    parts = train_test_split(images, digits.target, test_size=1 / 3, random_state=0, stratify=digits.target)
    train_images, test_images, train_labels, test_labels = parts
    return Raw((train_images, train_labels), (test_images, test_labels), tuple(map(str, range(10))))


def read_moons(root: pathlib.Path, download: bool, side: int) -> Raw:
    """Two interleaving half moons: points as images of 1×1 pixel and two channels, 256 levels each over [−2, 3] × [−2, 3]."""
    from sklearn.datasets import make_moons

    def draw(n: int, state: int) -> tuple[np.ndarray, np.ndarray]:
        points, labels = make_moons(n, noise=0.2, random_state=state)
        return np.rint((points.clip(-2, 3) + 2) * 51).astype(np.uint8)[:, :, None, None], labels

    return Raw(draw(200, 0), draw(2000, 1), ("upper", "lower"))


def read_cifar(kind: str) -> Callable[[pathlib.Path, bool, int], Raw]:
    """CIFAR-10 or CIFAR-100 through torchvision, with every file's checksum checked first."""

    def read(root: pathlib.Path, download: bool, side: int) -> Raw:
        from torchvision import datasets

        cls = getattr(datasets, kind)
        if download:
            try:
                cls(root, download=True)
            except (OSError, RuntimeError) as error:
                raise DataError(
                    f"data_root: {kind} cannot be downloaded to {root} ({error}); copy its files there instead"
                ) from error
        check_files(root / cls.base_folder, [*cls.train_list, *cls.test_list, [cls.meta["filename"], cls.meta["md5"]]])
        train, test = (cls(root, train=train) for train in (True, False))

        def arrays(split: Any) -> tuple[np.ndarray, np.ndarray]:
            return split.data.transpose(0, 3, 1, 2), np.array(split.targets)

        return Raw(arrays(train), arrays(test), tuple(train.classes))

    return read


def check_files(folder: pathlib.Path, files: list[list[str]]) -> None:
    """Raise :class:`DataError` where a file is missing or its MD5 is not the expected one, naming the file and both sums."""
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


def read_folder(folder: pathlib.Path, side: int) -> Raw:
    """A folder with ``train/<class>/*`` and ``val/<class>/*`` (or ``test``), every image brought to side × side pixels."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    validation = next((folder / name for name in ("val", "test") if (folder / name).is_dir()), None)
    if validation is None or not (folder / "train").is_dir():
        raise DataError(
            f"dataset: {folder} is not a folder that holds train/ and val/ (or test/), each with one folder per class; give one"
        )
    resize = v2.Compose([v2.Resize(side), v2.CenterCrop(side), v2.PILToTensor()])
    try:
        train, test = (ImageFolder(str(path), transform=resize) for path in (folder / "train", validation))
    except FileNotFoundError as error:
        raise DataError(f"dataset: {error}") from error
    if train.classes != test.classes:
        raise DataError(
            f"dataset: {folder}/train has the classes {train.classes}, {validation} has {test.classes}; make them equal"
        )

    def image(split: ImageFolder, i: int) -> np.ndarray:
        try:
            return split[i][0].numpy()
        except OSError as error:
            raise DataError(
                f"dataset: {split.samples[i][0]} cannot be read ({error}); copy it anew or remove it"
            ) from error

    def arrays(split: ImageFolder) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([image(split, i) for i in range(len(split))]), np.array(split.targets)

    return Raw(arrays(train), arrays(test), tuple(train.classes))


def read_imagenet(root: pathlib.Path, download: bool, side: int) -> Kept:
    """ImageNet as torchvision leaves it: ``train`` and ``val`` with a folder for each class, in the root or in ``imagenet``."""
    if download:
        raise DataError(
            "download: ImageNet asks for an account; fetch its archives, unpack them with torchvision.datasets.ImageNet, and give "
            "that folder with --data-root"
        )
    return kept("imagenet", [root, root / "imagenet"])


IMAGENETTE = ("imagenette2", "imagenette2-320", "imagenette2-160", "imagenette128_subset")
"""Folders that hold ten classes of ImageNet: those of fastai's archives, as torchvision names them, and a subset at 128 pixels."""


def read_imagenette(root: pathlib.Path, download: bool, side: int) -> Kept:
    """Ten classes of ImageNet (Howard, 2019), from the first of :data:`IMAGENETTE` that is there."""
    if download:
        from torchvision import datasets

        try:
            datasets.Imagenette(root, split="train", size="160px", download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"data_root: Imagenette cannot be downloaded to {root} ({error}); copy its folder there instead"
            ) from error
    return kept("imagenette", [root / name for name in IMAGENETTE])


def kept(name: str, folders: list[pathlib.Path]) -> Kept:
    """Return the first of the folders that holds ``train`` and ``val``, or raise :class:`DataError`."""
    for folder in folders:
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return Kept(folder)
    raise DataError(
        f"data_root: {name} is in none of {', '.join(map(str, folders))}, each of which would hold train/ and val/; give the "
        f"folder above with --data-root or {ROOT_VARIABLE}"
    )


DATASETS: dict[str, Source] = {
    "digits": Source(read_digits, "digits", padding=1, cutout=4),
    "moons": Source(read_moons, "mlp"),
    "cifar10": Source(read_cifar("CIFAR10"), "alexnet", padding=4, flip=True, cutout=16),
    "cifar100": Source(read_cifar("CIFAR100"), "resnet44", padding=4, flip=True, cutout=8),
    "imagenet": Source(read_imagenet, "resnet50", flip=True, cutout=112, side=224),
    "imagenette": Source(read_imagenette, "resnet50", flip=True, cutout=112, side=224),
}
"""Data sets by name. Besides these, ``folder:PATH`` is a folder of images."""

FOLDER_SIDE = 32
"""Pixels to which the images of a folder are brought unless told otherwise."""


def source(name: str) -> Source:
    """Look up a data set, or describe the folder of images that ``folder:PATH`` names.

    Raises:
        DataError: there is no such data set.
    """
    if name.startswith("folder:"):
        path = pathlib.Path(name.removeprefix("folder:")).expanduser()
        return Source(
            lambda root, download, side: read_folder(path, side),
            "resnet44",
            padding=4,
            flip=True,
            cutout=16,
            side=FOLDER_SIDE,
        )
    if name not in DATASETS:
        raise DataError(f"dataset: {name!r} is not known; choose from {', '.join(DATASETS)} or folder:PATH")
    return DATASETS[name]


def load(
    name: str, root: str | pathlib.Path | None = None, download: bool = False, holdout: int = 0, side: int = 0
) -> Data:
    """Load a data set onto the CPU; of ImageNet and its like, the list of files.

    Args:
        name: a key of :data:`DATASETS`, or ``folder:PATH``.
        root: where CIFAR is looked for; by default the folder that ``SBA_DATA`` names, else ``data``.
        download: let torchvision download it there.
        holdout: how many training images are held out and take the test set's place, to choose hyper-parameters on; which
            ones depends on nothing but their number.
        side: to which images are brought, in pixels; 0 for the data set's own.

    Raises:
        DataError: unknown, missing or corrupted data, too many images to hold out, or another side for images that have one.

    >>> digits = load("digits")
    >>> len(digits.train), len(digits.test), digits.train.shape, len(digits.classes)
    (1198, 599, (1, 8, 8), 10)
    """
    folder = pathlib.Path(root or os.environ.get(ROOT_VARIABLE) or "data").expanduser()
    origin = source(name)
    if side and not origin.side:
        raise DataError(f"side: {side} is not allowed, the images of {name!r} have a side of their own; leave it out")
    raw = origin.read(folder, download, side or origin.side)
    train, test, classes = in_files(raw.folder, side or origin.side) if isinstance(raw, Kept) else in_memory(raw)
    if not 0 <= holdout < len(train):
        raise DataError(
            f"holdout: {holdout} of {len(train)} training images cannot be held out; give 0 … {len(train) - 1}"
        )
    mean, std = (MEAN, STD) if isinstance(train, Stream) else moments(train.images)
    if holdout:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(fold_in(0, "holdout")))
        train, test = train[order[holdout:].sort().values], train[order[:holdout].sort().values]
    return Data(
        name=name,
        train=train,
        test=test,
        evaluated_on="holdout" if holdout else "test",
        classes=classes,
        mean=mean,
        std=std,
        fingerprint=fingerprint(train, test),
        root=folder,
    )


class DataCache:
    """The data sets that a process has loaded, each once for all that ask for it. Another process gets an empty one.

    Args:
        root: as for :func:`load`.
        download: likewise.
    """

    def __init__(self, root: pathlib.Path | None = None, download: bool = False):
        self.root, self.download = root, download
        self.loaded: dict[tuple[str, int, int], Data] = {}

    def __call__(self, name: str, holdout: int = 0, side: int = 0) -> Data:
        """Load a data set, or return it as it was loaded before; arguments and errors as for :func:`load`."""
        key = (name, holdout, side)
        if key not in self.loaded:
            self.loaded[key] = load(name, self.root, self.download, holdout, side)
        return self.loaded[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self.download)


def in_memory(raw: Raw) -> tuple[Split, Split, tuple[str, ...]]:
    """Turn arrays into splits."""
    train, test = (
        Split(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.asarray(y, dtype=np.int64)))
        for x, y in (raw.train, raw.test)
    )
    return train, test, raw.classes


def in_files(folder: pathlib.Path, side: int) -> tuple[Stream, Stream, tuple[str, ...]]:
    """List the files of a folder's ``train`` and ``val``."""
    (paths, labels, classes), (other_paths, other_labels, others) = (list_folder(folder / s) for s in ("train", "val"))
    if classes != others:
        raise DataError(
            f"dataset: {folder}/train has {len(classes)} classes, {folder}/val {len(others)} or others; make them equal"
        )
    train, test = (Stream(p, torch.tensor(y), side) for p, y in ((paths, labels), (other_paths, other_labels)))
    return train, test, classes


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 images, in [0, 1], exactly and independent of the device."""
    counts = np.stack([np.bincount(c.ravel(), minlength=256) for c in images.numpy().swapaxes(0, 1)])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = np.sqrt(counts @ levels**2 / counts.sum(1) - mean**2)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def fingerprint(*splits: Split | Stream) -> str:
    """Hash pixels, labels and their order; names and sizes in place of pixels that stay in files."""
    digest = hashlib.blake2b(digest_size=8)
    for split in splits:
        split.hash_into(digest)
    return digest.hexdigest()
