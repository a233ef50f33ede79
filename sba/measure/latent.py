"""How a network's answers move when noise is added at a layer: how smooth it is around its data, there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sba.core.divergence import kl
from sba.core.feature_std import batch_variance
from sba.core.staged import Staged
from sba.data.datasets import Data
from sba.models.registry import evaluating
from sba.training.evaluation import EVALUATION_BATCH


@dataclass(frozen=True)
class Shaken:
    """Of one network under noise of one strength at one layer."""

    error: float  #: misclassified images in per cent, after one draw each
    divergence: float  #: mean D_KL(Y ‖ Y′) in nats between the predictions without noise and with it


def with_noise(h: Tensor, sigma: float, normal: Tensor) -> Tensor:
    """Add ``sigma`` times standard normal draws to activations, both of shape (B, …), in units of each feature's standard deviation
    over the batch."""
    return h + sigma * batch_variance(h).sqrt().view(h.shape[1:]) * normal


@torch.no_grad()
def shaken(
    network: Staged, data: Data, layer: str, sigma: float, seed: int = 0, batch: int = EVALUATION_BATCH
) -> Shaken:
    """Evaluate a network whose activations of one layer are disturbed by Gaussian noise without bound or basis.

    Args:
        network: on the data's device; its mode is put back.
        data: in memory.
        layer: any but the last; "input" for the normalised image.
        sigma: standard deviation of the noise, in units of each feature's own over a batch of images.
        seed: of the noise.
        batch: images per pass.
    """
    _, test = data.resident
    generator = torch.Generator(test.labels.device).manual_seed(seed)
    wrong, divergence = 0, 0.0
    with evaluating(network):
        for part in test.parts(batch):
            h = network(data.normalised(part.images), until=layer)
            normal = torch.randn(h.shape, generator=generator, device=h.device)
            raw = network(h.clone(), after=layer)  # a stage may work in place
            moved = network(with_noise(h, sigma, normal), after=layer)
            wrong += (moved.argmax(1) != part.labels).sum().item()
            divergence += kl(raw, moved).sum().item()
    return Shaken(100 * wrong / len(test), divergence / len(test))
