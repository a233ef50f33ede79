"""Images that stay in their files: read, cropped and handed over by the workers of a DataLoader, batch by batch.

What a crop is depends on (seed, epoch, image, view) alone. A run is therefore the same with any number of workers, and one that
was stopped in the middle of an epoch goes on with the batch that would have been next.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sba.core.errors import DataError
from sba.core.rng import Step, fold_in
from sba.data.pictures import read_rgb

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels in [0, 1], as torchvision's references normalise."""
RESIZED = 256 / 224
"""The shorter side of an image that is evaluated on is brought to this multiple of the side that is cut out of its centre."""


class Wanted(NamedTuple):
    """One image of one pass."""

    row: int  #: its place among the files
    seed: int = 0  #: of the run
    epoch: int = 0  #: of the pass, from 0
    views: int = 0  #: how many random crops of it; 0 for the one from its centre


class Got(NamedTuple):
    """What came of it: crops, uint8 of shape (max(views, 1), 3, side, side), or why there are none."""

    row: int
    crops: Tensor | None
    reason: str = ""


def random_crop(image: Any, side: int, seed: int) -> Tensor:
    """Cut out and resize as torchvision's ``RandomResizedCrop`` does after ``torch.manual_seed(seed)``; uint8 (3, side, side)."""
    from torchvision.transforms import v2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return v2.functional.pil_to_tensor(v2.RandomResizedCrop(side)(image))


def centre_crop(image: Any, side: int) -> Tensor:
    """Resize and cut out the centre, as torchvision's references evaluate; uint8 of shape (3, side, side)."""
    from torchvision.transforms import v2

    return v2.functional.pil_to_tensor(v2.Compose([v2.Resize(round(RESIZED * side)), v2.CenterCrop(side)])(image))


@dataclasses.dataclass(frozen=True)
class Files(Dataset[Got]):
    """Image files as a data set of torch's: its items are asked for by :class:`Wanted`. It raises no error for a bad file."""

    paths: Sequence[str]
    side: int

    def __getitem__(self, wanted: Wanted) -> Got:
        row, seed, epoch, views = wanted
        try:
            image, _ = read_rgb(self.paths[row])
            if not views:
                return Got(row, centre_crop(image, self.side)[None])
            seeds = [fold_in(seed, f"resized crop, image {row}, view {view}", epoch) for view in range(views)]
            return Got(row, torch.stack([random_crop(image, self.side, s) for s in seeds]))
        # decoders fail in many ways, and a worker that raises takes the run with it
        except Exception as error:
            return Got(row, None, f"{type(error).__name__}: {error}")


@dataclasses.dataclass(frozen=True)
class Views:
    """A batch of random crops."""

    crops: Tensor  #: uint8 of shape (M, N, 3, side, side), M of each image
    labels: Tensor  #: int64 of shape (N,)
    skipped: int = 0  #: how many images are missing since they could not be read

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """The first crop of each image."""
        return self.crops[0]

    def view(self, number: int) -> Tensor:
        """Return one crop of each image, of shape (N, 3, side, side)."""
        return self.crops[number]


@dataclasses.dataclass(frozen=True)
class Stream:
    """A split that stays in its files."""

    paths: Sequence[str]  #: of the files
    labels: Tensor  #: int64 of shape (N,), on the host
    side: int  #: of the images that are handed over, in pixels
    #: "refuse" raises :class:`sba.core.errors.DataError` at the first file that cannot be read, "skip" leaves it out of
    #: its batch and counts it
    unreadable: Literal["refuse", "skip"] = "refuse"
    workers: int = 0  #: processes that read ahead; 0 to read in this one
    device: torch.device | str = "cpu"  #: where batches are put

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (3, side, side)."""
        return 3, self.side, self.side

    def to(self, device: torch.device | str) -> "Stream":
        return dataclasses.replace(self, device=device)

    def __getitem__(self, rows: Tensor | slice) -> "Stream":
        places = torch.arange(len(self))[rows].tolist()
        return dataclasses.replace(self, paths=[self.paths[i] for i in places], labels=self.labels[rows])

    def hash_into(self, digest: Any) -> None:
        """Feed names, sizes, labels, their order and the side to a hash: to read millions of files would take hours."""
        digest.update(f"{len(self)} {self.side}\n".encode())
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            name = "/".join(pathlib.Path(path).parts[-2:])
            digest.update(f"{name} {pathlib.Path(path).stat().st_size} {label}\n".encode())

    def loader(self, batches: Any, persistent: bool) -> DataLoader[list[Got]]:
        """Return a loader of batches of :class:`Got`, for lists of :class:`Wanted`."""
        files: Any = Files(self.paths, self.side)
        return DataLoader(
            files,
            batch_sampler=batches,
            collate_fn=list,
            num_workers=self.workers,
            # without one it would draw from the global generator
            generator=torch.Generator(),
            persistent_workers=persistent and self.workers > 0,
            pin_memory=torch.device(self.device).type == "cuda",
        )

    def batch(self, got: list[Got]) -> Views:
        """Put a batch together on the device; raise :class:`DataError` if a file cannot be read and is not to be skipped, or if
        none of them can be."""
        bad = [item for item in got if item.crops is None]
        if bad and (self.unreadable == "refuse" or len(bad) == len(got)):
            fixes = {
                "skip": "all others of its batch cannot be read either; look at the disk",
                "refuse": "copy it anew, remove it, or give --unreadable skip",
            }
            reason = f"{self.paths[bad[0].row]} cannot be read ({bad[0].reason})"
            raise DataError(f"dataset: {reason}; {fixes[self.unreadable]}")
        good = {item.row: item.crops for item in got if item.crops is not None}
        crops, labels = torch.stack(list(good.values()), dim=1), self.labels[list(good)]
        return Views(crops.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True), len(bad))

    def supply(self) -> "Supply":
        """Return what training draws its batches from."""
        return Supply(self)

    def parts(self, size: int) -> Iterator[Views]:
        """Go through all images in order, ``size`` at a time, by their centres."""
        wanted = [Wanted(row) for row in range(len(self))]
        batches = [wanted[i : i + size] for i in range(0, len(wanted), size)]
        for got in self.loader(batches, persistent=False):
            yield self.batch(got)


class Supply:
    """Batches of random crops, each given once, in the order of a plan. A batch is named by its number there.

    Its workers live as long as it does.
    """

    def __init__(self, stream: Stream):
        self.stream = stream
        # the loader holds this list and not the supply: a cycle would keep its processes until the garbage is collected
        self.batches: list[list[Wanted]] = []
        self.loader = stream.loader(self.batches, persistent=True)
        self.iterator: Iterator[list[Got]] = iter(())
        self.next = 0

    def plan(self, batches: Sequence[Tensor], now: Step, views: int) -> Sequence[int]:
        """Begin to read an epoch; arguments as for :meth:`sba.data.in_memory.Split.plan`."""
        self.batches[:] = [[Wanted(row, now.seed, now.epoch, views) for row in rows.tolist()] for rows in batches]
        self.iterator, self.next = iter(self.loader), 0
        return range(len(batches))

    def __getitem__(self, number: int) -> Views:
        """Return the next batch, which must be asked for by its number."""
        if number != self.next:
            raise LookupError(f"batch {number} was asked for; the next one is {self.next}")
        self.next += 1
        return self.stream.batch(next(self.iterator))


def image_folders(train: pathlib.Path, test: pathlib.Path) -> tuple[Any, Any]:
    """Return two folders, which have a folder of images for each class, as ``torchvision.datasets.ImageFolder``.

    Raises:
        DataError: one has no image, an empty class, or other classes than the other.
    """
    from torchvision.datasets import ImageFolder

    try:
        first, second = (ImageFolder(str(folder)) for folder in (train, test))
    except OSError as error:
        raise DataError(f"dataset: {error}; give a folder with one folder of images for each class") from error
    if first.classes != second.classes:
        counts = f"{train} has {len(first.classes)} classes, {test} {len(second.classes)} or others"
        others = sorted({*first.classes} ^ {*second.classes})
        raise DataError(f"dataset: {counts}; make them equal: {', '.join(others[:5])}")
    return first, second
