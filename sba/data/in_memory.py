"""Part of a data set that lies in memory, and how training draws its batches; :mod:`sba.data.in_files` has what stays in files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sba.core.rng import Step


@dataclass(frozen=True)
class Split:
    """Images, uint8 of shape (N, C, H, W), and their labels, int64 of shape (N,), on one device."""

    images: Tensor
    labels: Tensor
    skipped: ClassVar[int] = 0
    """How many of its images could not be read."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (C, H, W)."""
        return tuple(self.images.shape[1:])

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def __getitem__(self, rows: Tensor | slice) -> "Split":
        return Split(self.images[rows], self.labels[rows])

    def view(self, number: int) -> Tensor:
        """Return the images that a batch's augmented view begins with: the same for every view."""
        return self.images

    def hash_into(self, digest: Any) -> None:
        """Feed pixels, labels and their order to a hash."""
        digest.update(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())

    def supply(self) -> "Split":
        """Return what training draws its batches from: itself, by their rows, which a captured step may read."""
        return self

    def plan(self, batches: Sequence[Tensor], now: Step, views: int) -> Sequence[Tensor]:
        """Return what names each of an epoch's batches that are left: rows on the device, given on the host. ``now`` is the step of
        the first, and ``views`` are the augmented copies of each image in a step."""
        return torch.cat(list(batches)).to(self.labels.device).split([len(rows) for rows in batches])

    def parts(self, size: int) -> Iterator["Split"]:
        """Go through all images in order, ``size`` at a time."""
        for images, labels in zip(self.images.split(size), self.labels.split(size), strict=True):
            yield Split(images, labels)
