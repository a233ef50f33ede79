"""Adversarial perturbations of images: the fast gradient sign method and projected gradient descent, in ℓ∞ and ℓ2 balls.

They work on pixels in [0, 1], before normalisation: a radius means the same for every data set, and what comes out is an image.
The functions are pure; the random start is an argument.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.core.errors import ConfigError
from sba.core.hyper import hyper, positional
from sba.data.datasets import Data
from sba.models.registry import evaluating
from sba.training.evaluation import EVALUATION_BATCH

Predict = Callable[[Tensor], Tensor]
"""From pixels of shape (N, C, H, W) in [0, 1] to logits of shape (N, classes)."""
Norm = Literal["inf", "2"]

STRIDE = 2.5
"""Steps of PGD together are this many radii long, so that it can cross the ball and turn (Madry et al., 2018, §B)."""


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the best wrong class is above the label, of shape (N,); above 0 the image is misclassified.

    Unlike the cross-entropy its slope does not vanish if a network is very sure (Carlini and Wagner, 2017).
    """
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": functools.partial(F.cross_entropy, reduction="none"),
    "margin": margin,
}
"""Name → the loss of each image, of shape (N,), that an attack climbs."""


def slope(predict: Predict, pixels: Tensor, labels: Tensor, loss: str = "cross_entropy") -> Tensor:
    """Return the gradient of each image's loss by its own pixels, of their shape; those of the network's weights are left alone."""
    pixels = pixels.detach().requires_grad_()
    with torch.enable_grad():
        # images do not depend on each other in evaluation mode, so one gradient of the sum is that of each
        return torch.autograd.grad(LOSSES[loss](predict(pixels), labels).sum(), pixels)[0]


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the vector of norm 1 for each image along which the loss rises most; 0 if the gradient is 0."""
    if norm == "inf":
        return gradient.sign()
    # twice, since the squares of a small gradient are 0 in float32
    scaled = gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
    return scaled / lengths(scaled).clamp(min=torch.finfo(gradient.dtype).tiny)


def lengths(shift: Tensor) -> Tensor:
    """Return the ℓ2 norm of each image of a batch, of shape (N, 1, 1, 1)."""
    return torch.linalg.vector_norm(shift, dim=(1, 2, 3), keepdim=True)


def project(shift: Tensor, radius: float, norm: Norm) -> Tensor:
    """Return the nearest point of the ball of a radius around 0 for each image of shape (C, H, W)."""
    if norm == "inf":
        return shift.clamp(-radius, radius)
    return shift * (radius / lengths(shift).clamp(min=torch.finfo(shift.dtype).tiny)).clamp(max=1)


def random_shift(like: Tensor, radius: float, norm: Norm, generator: torch.Generator) -> Tensor:
    """Draw a point uniformly in the ball of a radius for each image of a batch, of its shape."""
    made: Any = {"generator": generator, "device": like.device, "dtype": like.dtype}
    if norm == "inf":
        return radius * (2 * torch.rand(like.shape, **made) - 1)
    normal, uniform = torch.randn(like.shape, **made), torch.rand(len(like), 1, 1, 1, **made)
    # a ball of d dimensions has most of its volume near the surface
    return radius * uniform ** (1 / like[0].numel()) * steepest(normal, "2")


def pgd(
    predict: Predict,
    pixels: Tensor,
    labels: Tensor,
    radius: float,
    norm: Norm,
    steps: int,
    start: Tensor | None = None,
    loss: str = "cross_entropy",
) -> Tensor:
    """Climb a loss of :data:`LOSSES` in steps of equal length, projected onto the ball and onto [0, 1] after each (Madry et al.,
    2018); return images of the same shape, where the last step led. One step in the norm "inf" is the fast gradient sign method
    (Goodfellow et al., 2015): it is longer than the radius, so that each pixel ends ±radius away.

    Pixels have shape (N, C, H, W), labels (N,). The radius of the ball counts in units of the pixels' range. ``start``, of the
    pixels' shape (:func:`random_shift`), is added to them before the first step, nothing by default. ``predict`` is in evaluation
    mode, ``norm`` is "inf" or "2", of the difference of two images.
    """
    rate = STRIDE * radius / max(steps, 1)
    moved = pixels if start is None else (pixels + project(start, radius, norm)).clamp(0, 1)
    for _ in range(steps):
        moved = moved + rate * steepest(slope(predict, moved, labels, loss), norm)
        # the ball's centre is an image, so that what is cut off at black and white stays in the ball
        moved = (pixels + project(moved - pixels, radius, norm)).clamp(0, 1)
    return moved


@positional
class Attack:
    """An attack with its settings; raises :class:`ConfigError` if a value is out of range."""

    radius: float = hyper(..., "of the ball, in units of the pixels' range", ge=0)
    norm: Norm = hyper("inf", "of the ball")
    steps: int = hyper(20, "of PGD from a random start; 0 for FGSM, which is for inf and the cross-entropy alone", ge=0)
    loss: Literal["cross_entropy", "margin"] = hyper("cross_entropy", "what is climbed")

    def __post_init__(self) -> None:
        if not self.steps and (self.norm, self.loss) != ("inf", "cross_entropy"):
            raise ConfigError(
                f"steps: 0 is FGSM, which has no norm {self.norm!r} with loss {self.loss!r}; give steps from 1"
            )

    def __call__(self, predict: Predict, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Attack a batch; arguments as for :func:`pgd`, and a generator on the pixels' device for the start."""
        if not self.steps:
            return pgd(predict, pixels, labels, self.radius, self.norm, 1)
        start = random_shift(pixels, self.radius, self.norm, generator)
        return pgd(predict, pixels, labels, self.radius, self.norm, self.steps, start, loss=self.loss)


@contextmanager
def seen(network: nn.Module, data: Data) -> Iterator[Predict]:
    """Give a network as a function of pixels in [0, 1], in evaluation mode as long as the context lasts."""
    with evaluating(network):
        yield lambda pixels: network(data.normalised(255 * pixels)).float()


def attacked(network: nn.Module, data: Data, attack: Attack, seed: int = 0) -> Tensor:
    """Return the images that are evaluated on after an attack on a network, float32 in [0, 1] of shape (N, C, H, W). The network
    is on the data's device, and its mode is put back; the seed is that of the random starts."""
    _, test = data.resident
    generator = torch.Generator(test.labels.device).manual_seed(seed)
    with seen(network, data) as predict:
        return torch.cat([attack(predict, p.images / 255, p.labels, generator) for p in test.parts(EVALUATION_BATCH)])


@torch.no_grad()
def misclassified(network: nn.Module, data: Data, pixels: Tensor) -> Tensor:
    """Say which images a network errs on, booleans of shape (N,), if ``pixels`` in [0, 1] of shape (N, C, H, W) take the place of
    ``data.test``'s."""
    with seen(network, data) as predict:
        return torch.cat([predict(part).argmax(1) for part in pixels.split(EVALUATION_BATCH)]) != data.test.labels
