"""Label-preserving augmentation of whole batches on the device: crop, flip, Cutout, with the law of torchvision's transforms.

Every function is pure: the draws are arguments. :class:`Augmentation` draws them, one per image.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sba.core.rng import Step


def crop(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Pad images of shape (N, C, H, W), before normalisation, with black on each side, and cut out windows of the original size:
    torchvision's ``RandomCrop(side, padding)`` for given first rows and columns, integers of shape (N,) in [0, 2·padding]."""
    n, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)
    return windows[torch.arange(n, device=images.device), top, left]


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror those images, of shape (N, C, H, W), for which the boolean ``mirrored`` of shape (N,) is true."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bring uint8 images of shape (N, C, H, W) to float32 with the given mean and standard deviation per channel in [0, 1]."""
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), images.device)
    return images.to(torch.float32, copy=True).mul_(scale).sub_(shift)


@functools.cache
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """1/(255 std) and mean/std, of shape (C, 1, 1).

    Kept, since a GPU's host waits for every list of numbers that it sends there; computed on the host, so that they are there for
    every stream when the wait is over.
    """
    scale = torch.tensor(std, device="cpu").mul(255).reciprocal()[:, None, None]
    shift = torch.tensor(mean, device="cpu").div(torch.tensor(std, device="cpu"))[:, None, None]
    return scale.to(device), shift.to(device)


def cutout(images: Tensor, row: Tensor, column: Tensor, length: int) -> Tensor:
    """Set a square to 0 in each image (DeVries and Taylor, 2017), clipped at the borders.

    Images have shape (N, C, H, W) and are normalised, so that 0 is the mean colour. Rows in [0, H) and columns in [0, W), integers
    of shape (N,), are the centres of squares that cover [row − length/2, row + length/2), in pixels.
    """
    _, _, height, width = images.shape
    rows = torch.arange(height, device=images.device) - (row[:, None] - length // 2)
    columns = torch.arange(width, device=images.device) - (column[:, None] - length // 2)
    span = length - length % 2  # the authors' integer halves: an odd length loses a pixel
    hidden = ((rows >= 0) & (rows < span))[:, None, :, None] & ((columns >= 0) & (columns < span))[:, None, None, :]
    return images.masked_fill(hidden, 0.0)


@dataclass(frozen=True)
class Augmentation:
    """Crop, flip and Cutout of one run."""

    padding: int = 0  #: pixels of black around the image before the random crop; 0 for no crop
    flip: bool = False  #: mirror each image with probability ½
    cutout: int = 0  #: side of the Cutout square in pixels; 0 for none

    def __call__(self, images: Tensor, mean: Sequence[float], std: Sequence[float], now: Step) -> Tensor:
        """Augment a batch, uint8 of shape (N, C, H, W), and normalise it, to float32 (:func:`normalise`); the draws come from the
        streams "crop", "flip" and "cutout" of a step."""
        n, _, height, width = images.shape

        def draw(purpose: str, below: Sequence[int]) -> list[Tensor]:
            generator = now.generator(purpose, images.device)
            return [torch.randint(b, (n,), generator=generator, device=images.device) for b in below]

        if self.padding:
            top, left = draw("crop", [2 * self.padding + 1] * 2)
            images = crop(images, top, left, self.padding)
        if self.flip:
            images = flip(images, draw("flip", [2])[0].bool())
        out = normalise(images, mean, std)
        if self.cutout:
            row, column = draw("cutout", [height, width])
            out = cutout(out, row, column, self.cutout)
        return out
