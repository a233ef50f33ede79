"""Corruptions of images at five severities, after ImageNet-C and CIFAR-10-C (Hendrycks and Dietterich, 2019).

Each works on a whole batch, ``pixels`` of shape (N, C, H, W) in [0, 1]; draws are arguments, or come from a generator. The
strengths are the authors'. Their images are not these, so that errors are comparable in kind only:

- draws are others;
- the blur mirrors an image at its edges, theirs repeats the outermost pixels;
- levels are rounded here and cut off there;
- ImageNet-C is stored as JPEG of quality 85, whatever the corruption; nothing is compressed here but by ``jpeg``;
- images of 64 pixels take CIFAR-10-C's strengths here; for Tiny-ImageNet-C the authors have a table of its own.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from sba.core.errors import ConfigError

SEVERITIES = 5


def gaussian_noise(pixels: Tensor, sigma: float, normal: Tensor) -> Tensor:
    """Add noise of standard deviation ``sigma``, in units of the pixels' range: standard normal draws of the pixels' shape."""
    return (pixels + sigma * normal).clamp(0, 1)


def shot_noise(pixels: Tensor, photons: float, counts: Tensor) -> Tensor:
    """Count light, ``photons`` of it from a white pixel; ``counts`` are Poisson draws with means photons · pixels."""
    return (counts / photons).clamp(0, 1)


def impulse_noise(pixels: Tensor, share: float, uniform: Tensor) -> Tensor:
    """Make a share of the values black or white, half of it each: salt and pepper; draws on [0, 1) of the pixels' shape."""
    return pixels.masked_fill(uniform < share / 2, 0.0).masked_fill(uniform >= 1 - share / 2, 1.0)


def gaussian_blur(pixels: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian of standard deviation ``sigma`` pixels, cut off at four of it or at the image; edges are mirrored."""
    radius = min(round(4 * sigma), min(pixels.shape[-2:]) - 1)
    return v2.gaussian_blur(pixels, [2 * radius + 1] * 2, [sigma] * 2)


def contrast(pixels: Tensor, factor: float) -> Tensor:
    """Multiply the distance of each channel from its mean in the image."""
    mean = pixels.mean((2, 3), keepdim=True)
    return ((pixels - mean) * factor + mean).clamp(0, 1)


def brightness(pixels: Tensor, added: float) -> Tensor:
    """Add to the value of HSV, the largest channel; hue and saturation stay."""
    value = pixels.amax(1, keepdim=True)
    wanted = (value + added).clamp(0, 1)
    # black has no hue: it becomes grey
    return torch.where(value > 0, pixels * (wanted / value.clamp(min=torch.finfo(pixels.dtype).tiny)), wanted)


def pixelate(pixels: Tensor, share: float) -> Tensor:
    """Shrink both sides to a share of theirs and enlarge them again, both with Pillow's box filter (:func:`boxes`)."""
    sides = pixels.shape[-2:]
    rows, columns = (
        boxes(small, side).to(pixels) @ boxes(side, small).to(pixels)
        for side, small in ((side, max(1, int(side * share))) for side in sides)
    )
    return rows @ pixels @ columns.T


def boxes(old: int, new: int) -> Tensor:
    """Return the matrix of shape (new, old) that averages, for each of ``new`` places, the old ones whose middle is in its box.

    A box is at least as wide as an old place, so that enlarging takes the nearest one.
    """
    middle = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * (old / new)
    away = (torch.arange(old, dtype=torch.float64) + 0.5 - middle) / max(1, old / new)
    inside = ((away > -0.5) & (away <= 0.5)).double()
    return inside / inside.sum(1, keepdim=True)


def jpeg(pixels: Tensor, quality: float) -> Tensor:
    """Compress each image with Pillow's JPEG of a quality in 1 … 100, and read it back."""

    def through(image: Tensor) -> Tensor:
        buffer = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(buffer, "JPEG", quality=int(quality))
        return torch.from_numpy(np.array(Image.open(buffer))).view(*image.shape[1:], -1).permute(2, 0, 1)

    return (torch.stack([through(image) for image in to_levels(pixels).cpu()]) / 255).to(pixels)


CORRUPTIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "gaussian_noise": lambda x, s, g: gaussian_noise(x, s, torch.randn(x.shape, generator=g, device=x.device)),
    "shot_noise": lambda x, s, g: shot_noise(x, s, torch.poisson(s * x, generator=g)),
    "impulse_noise": lambda x, s, g: impulse_noise(x, s, torch.rand(x.shape, generator=g, device=x.device)),
    "gaussian_blur": lambda x, s, g: gaussian_blur(x, s),
    "contrast": lambda x, s, g: contrast(x, s),
    "brightness": lambda x, s, g: brightness(x, s),
    "pixelate": lambda x, s, g: pixelate(x, s),
    "jpeg": lambda x, s, g: jpeg(x, s),
}
"""Name → function of pixels, strength and a generator on their device."""

CIFAR_C: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg": (80, 65, 58, 50, 40),
}
"""Strengths of severities 1 to 5 for images of 32 × 32 pixels: hendrycks/robustness, make_cifar_c.py."""

IMAGENET_C: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "gaussian_blur": (1, 2, 3, 4, 6),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg": (25, 18, 15, 10, 7),
}
"""Likewise for images of 224 × 224 pixels: make_imagenet_c.py."""

SMALL: dict[str, tuple[float, ...]] = IMAGENET_C | {"gaussian_blur": CIFAR_C["gaussian_blur"]}
"""For images of a few pixels, which survive the strong ones of those: only the blur is counted in pixels."""


def strengths(side: int) -> dict[str, tuple[float, ...]]:
    """Return the table of strengths for images of a side in pixels: :data:`SMALL` below 16, :data:`CIFAR_C` up to 64, else
    :data:`IMAGENET_C`."""
    return SMALL if side < 16 else CIFAR_C if side <= 64 else IMAGENET_C


def to_levels(pixels: Tensor) -> Tensor:
    """Round pixels in [0, 1] to the 256 levels of a file, as uint8."""
    return (255 * pixels).round().to(torch.uint8)


def corrupt(images: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """Corrupt images, uint8 of shape (N, C, H, W), at a severity from 1 to 5; 0 stands for the images themselves. The draws come
    from a generator on their device, whose equal states give equal images. :class:`ConfigError` says that there is no such
    corruption or severity."""
    if name not in CORRUPTIONS:
        raise ConfigError(f"corruption: {name!r} is not known; choose from {', '.join(CORRUPTIONS)}")
    if severity not in range(SEVERITIES + 1):
        raise ConfigError(f"severity: {severity!r} is not allowed; give an integer from 0 to {SEVERITIES}")
    if severity == 0:
        return images
    strength = strengths(min(images.shape[-2:]))[name][severity - 1]
    return to_levels(CORRUPTIONS[name](images / 255, strength, generator))
