"""Data sets, split in two: in memory, or in files if they are large."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sba.core.errors import ConfigError, DataError
from sba.core.rng import fold_in
from sba.data.arrays import Layout, divided, names_of, split_of, statistics
from sba.data.augment import normalise
from sba.data.in_files import MEAN, STD, Stream
from sba.data.in_memory import Split
from sba.data.sources import ARRAYS, ROOT_VARIABLE, source
from sba.data.subsets import Draw


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, split in two."""

    name: str  #: as given to :func:`load`; "arrays:" and a name for :meth:`from_arrays`
    train: Split | Stream  #: what is trained on, in memory or in files
    test: Split | Stream  #: what is evaluated on: the test set, or images held out of the training set
    evaluated_on: str  #: "test" or "holdout"
    classes: tuple[str, ...]  #: the names of the classes
    mean: tuple[float, ...]  #: of each channel over the training set, in [0, 1]
    std: tuple[float, ...]  #: likewise
    fingerprint: str  #: hash of all pixels, labels and their order, as 16 hexadecimal digits; see :func:`fingerprint`
    #: the folder that data is looked for in, and more about the images (:mod:`sba.data.cifar10h`); None if it is not
    #: known
    root: pathlib.Path | None = None
    draw: Draw | None = None  #: what was drawn from the training set; None if all of it is there
    more: str = ""  #: what decides numbers besides pixels and labels, for the fingerprint

    @classmethod
    def from_arrays(
        cls, x: Any, y: Any, classes: Sequence[str] | int, *, test: tuple[Any, Any] | float = 0.2,
        layout: Layout = "NCHW", name: str = "", holdout: int = 0,
        normalise: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> "Data":  # fmt: skip
        """Make a data set of a program's own arrays, for :func:`sba.training.run.make_run` and :func:`sba.training.loop.train`.

        Conversions are logged once for each split. What is trained on are copies of 8 bits, and the record of a run holds their
        fingerprint; no command can repeat it, since no command has the arrays.

        Args:
            x: square images: a NumPy array, a tensor on any device, or lists; uint8, floats from 0 to 1, or uint16.
            y: one class for each image, integers.
            classes: their names, or how many there are.
            test: images and labels to test on, a pair (x, y), or the share of each class that is put aside for that.
            layout: the order of the axes: "NCHW", "NHWC", or "NHW" for grey images.
            name: of the data in records; by default the fingerprint.
            holdout: as for :func:`load`.
            normalise: means and standard deviations of the channels, for weights that were trained with others than those of
                the training images.

        Raises:
            ConfigError: an array is not as it must be; it says which, and what to give.

        >>> images, labels = np.random.default_rng(0).random((40, 8, 8)), np.arange(40) % 4
        >>> data = Data.from_arrays((images * 255).astype(np.uint8), labels, 4, layout="NHW", name="noise")
        >>> len(data.train), len(data.test), data.train.shape, data.name
        (32, 8, (1, 8, 8), 'arrays:noise')
        """
        names = names_of(classes)
        train = split_of("train", x, y, layout, len(names))
        if isinstance(test, tuple | list):
            if len(test) != 2:
                raise ConfigError(f"test: {len(test)} things are not allowed; give images and labels, (x, y)")
            whole, other = train, split_of("test", *test, layout, len(names))
        else:
            whole, other = divided(train, test)
        if whole.shape != other.shape:
            raise ConfigError(f"test: images of shape {other.shape} do not fit {whole.shape}; give equal shapes")
        if len(whole.labels.unique()) < 2:
            raise ConfigError(f"y: all training images are of class {names[whole.labels[0]]!r}; give two or more")
        mean, std = channel_mean_std(whole.images) if normalise is None else statistics(normalise, whole.shape[0])
        if 0.0 in std:
            raise ConfigError(f"x: channel {std.index(0.0)} has one value in all training images; leave it out")
        more = "" if normalise is None else f"{mean} {std}"
        return put_together(name and ARRAYS + name, whole, other, names, (mean, std), holdout, more=more)

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.train.shape[-1]

    @property
    def channels(self) -> int:
        return self.train.shape[0]

    def to(self, device: torch.device | str) -> "Data":
        return dataclasses.replace(self, train=self.train.to(device), test=self.test.to(device))

    def drawn(self, draw: Draw | None) -> "Data":
        """Return the same data with what is drawn from the training images in their place; mean and standard deviation stay."""
        if draw is None:
            return self
        train = draw(self.train, len(self.classes))
        return dataclasses.replace(
            self, train=train, draw=draw, fingerprint=fingerprint(train, self.test, more=self.more)
        )

    def reading(self, unreadable: str, workers: int) -> "Data":
        """Return the same data, whose files, if it has some, are read in another way (:class:`sba.data.in_files.Stream`)."""
        if isinstance(self.train, Split):
            return self
        how: Any = {"unreadable": unreadable, "workers": workers}
        train, test = (dataclasses.replace(part, **how) for part in (self.train, self.test))
        return dataclasses.replace(self, train=train, test=test)

    def normalised(self, images: Tensor) -> Tensor:
        """Return images of shape (N, C, H, W), from 0 to 255, as a network takes them (:func:`sba.data.augment.normalise`)."""
        return normalise(images, self.mean, self.std)

    @property
    def resident(self) -> tuple[Split, Split]:
        """Both splits in memory; :class:`DataError` if they stay in files."""
        if isinstance(self.train, Stream) or isinstance(self.test, Stream):
            raise DataError(
                f"dataset: {self.name!r} stays in its files, and this works in memory; give another data set"
            )
        return self.train, self.test


def load(
    name: str,
    root: str | pathlib.Path | None = None,
    download: bool = False,
    holdout: int = 0,
    side: int = 0,
    draw: Draw | None = None,
) -> Data:
    """Load a data set onto the CPU; of ImageNet and its like, the list of files.

    Args:
        name: a key of :data:`DATASETS`, or ``folder:PATH``.
        root: where CIFAR is looked for; by default the folder that ``SBA_DATA`` names, else ``data``.
        download: let torchvision download it there.
        holdout: how many training images are held out and take the test set's place, to choose hyper-parameters on; which
            ones depends on nothing but their number.
        side: to which images are brought, in pixels; 0 for the data set's own.
        draw: what is drawn from the training images that are not held out; None for all.

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
    train, test, classes = origin.read(folder, download, side or origin.side)
    moments = (MEAN, STD) if isinstance(train, Stream) else channel_mean_std(train.images)
    return put_together(name, train, test, classes, moments, holdout, folder).drawn(draw)


def put_together(
    name: str,
    train: Any,
    test: Any,
    classes: tuple[str, ...],
    moments: tuple[tuple[float, ...], tuple[float, ...]],
    holdout: int,
    root: pathlib.Path | None = None,
    more: str = "",
) -> Data:
    """Hold images out of the first split if that is asked for, and make a data set, which has its fingerprint for a name if it has
    none; arguments and errors as for :func:`load` and :class:`Data`."""
    if not 0 <= holdout < len(train):
        raise DataError(
            f"holdout: {holdout} of {len(train)} training images cannot be held out; give 0 … {len(train) - 1}"
        )
    if holdout:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(fold_in(0, "holdout")))
        train, test = train[order[holdout:].sort().values], train[order[:holdout].sort().values]
    found, kind = fingerprint(train, test, more=more), "holdout" if holdout else "test"
    return Data(name or ARRAYS + found, train, test, kind, classes, *moments, found, root, more=more)


class DataCache:
    """The data sets that a process has loaded, each once for all that ask for it."""

    def __init__(self, root: pathlib.Path | None = None, download: bool = False):
        self.root, self.download = root, download
        self.loaded: dict[tuple[str, int, int, Draw | None], Data] = {}

    def __call__(self, name: str, holdout: int = 0, side: int = 0, draw: Draw | None = None) -> Data:
        """Load a data set, or return it as it was loaded before; arguments and errors as for :func:`load`."""
        key = (name, holdout, side, draw)
        if key not in self.loaded:
            whole = None if draw is None else self(name, holdout, side)
            self.loaded[key] = whole.drawn(draw) if whole else load(name, self.root, self.download, holdout, side)
        return self.loaded[key]


def channel_mean_std(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 images, in [0, 1], exactly and independent of the device."""
    counts = np.stack([np.bincount(c.ravel(), minlength=256) for c in images.numpy().swapaxes(0, 1)])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = np.sqrt(counts @ levels**2 / counts.sum(1) - mean**2)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def fingerprint(*splits: Split | Stream, more: str = "") -> str:
    """Hash pixels, labels and their order, and ``more``; names and sizes in place of pixels that stay in files."""
    digest = hashlib.blake2b(more.encode(), digest_size=8)
    for split in splits:
        split.hash_into(digest)
    return digest.hexdigest()
