"""How a network's answers move when noise is added at a layer: how smooth it is around its data, there."""

import torch

from sba.core.divergence import kl
from sba.core.feature_std import batch_variance
from sba.core.staged import Staged
from sba.data.datasets import Data
from sba.models.registry import evaluating
from sba.training.evaluation import EVALUATION_BATCH


@torch.no_grad()
def shaken(network: Staged, data: Data, layer: str, sigma: float, seed: int = 0) -> tuple[float, float]:
    """Disturb a network's activations of one layer by Gaussian noise without bound or basis, whose standard deviation ``sigma``
    counts in each feature's own over a batch of images. The network is on the data's device, and its mode is put back. The layer is
    any but the last, "input" for the normalised image; the data is in memory, and ``seed`` is that of the noise.

    Return the misclassified images in per cent, after one draw each, and the mean D_KL(Y ‖ Y′) in nats between the predictions
    without noise and with it.
    """
    _, test = data.resident
    generator = torch.Generator(test.labels.device).manual_seed(seed)
    wrong, divergence = 0, 0.0
    with evaluating(network):
        for part in test.parts(EVALUATION_BATCH):
            h = network(data.normalised(part.images), until=layer)
            noise = torch.randn(h.shape, generator=generator, device=h.device)
            raw = network(h.clone(), after=layer)  # a stage may work in place
            moved = network(h + sigma * batch_variance(h).sqrt().view(h.shape[1:]) * noise, after=layer)
            wrong += (moved.argmax(1) != part.labels).sum().item()
            divergence += kl(raw, moved).sum().item()
    return 100 * wrong / len(test), divergence / len(test)
