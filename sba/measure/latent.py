"""How a network's answers move when noise is added at a layer: how smooth it is around its data, there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sba.core.divergence import kl
from sba.core.feature_std import batch_variance
from sba.core.staged import Staged
from sba.data.augment import normalise
from sba.data.in_memory import Split
from sba.training.evaluation import EVALUATION_BATCH


@dataclass(frozen=True)
class Shaken:
    """Of one network under noise of one strength at one layer.

    Attributes:
        error: misclassified images in per cent, after one draw each.
        divergence: mean D_KL(Y ‖ Y′) in nats between the predictions without noise and with it.
    """

    error: float
    divergence: float


def with_noise(h: Tensor, sigma: float, normal: Tensor) -> Tensor:
    """Add noise in units of each feature's standard deviation over the batch.

    Args:
        h: activations of shape (B, …).
        sigma: standard deviation of the noise in that unit.
        normal: standard normal draws of the same shape.
    """
    feature_std = batch_variance(h).sqrt().view(h.shape[1:])
    return h + sigma * feature_std * normal


@torch.no_grad()
def shaken(
    network: Staged,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    layer: str,
    sigma: float,
    seed: int = 0,
    batch: int = EVALUATION_BATCH,
) -> Shaken:
    """Evaluate a network whose activations of one layer are disturbed by Gaussian noise without bound or basis.

    Args:
        network: on the split's device; runs in evaluation mode, and its mode is put back.
        split: images and labels.
        mean: of each channel in [0, 1].
        std: likewise.
        layer: any but the last; "input" for the normalised image.
        sigma: standard deviation of the noise, in units of each feature's own over a batch of images.
        seed: of the noise.
        batch: images per pass.
    """
    generator = torch.Generator(split.labels.device).manual_seed(seed)
    was_training = network.training
    network.eval()
    wrong, divergence = 0, 0.0
    try:
        for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
            h = network(normalise(images, mean, std), until=layer)
            normal = torch.randn(h.shape, generator=generator, device=h.device)
            raw = network(h.clone(), after=layer)  # a stage may work in place
            moved = network(with_noise(h, sigma, normal), after=layer)
            wrong += (moved.argmax(1) != labels).sum().item()
            divergence += kl(raw, moved).sum().item()
    finally:
        network.train(was_training)
    return Shaken(100 * wrong / len(split), divergence / len(split))
