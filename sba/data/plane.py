"""Points of the plane as a network takes them, and its decision over a part of the plane: for pictures of the two moons."""

import torch
from torch import Tensor, nn

from sba.data.datasets import Data
from sba.models.registry import evaluating

LEVELS = 51.0
"""A channel of a moon's pixel is 51 · (coordinate + 2): see :func:`sba.data.sources.read_moons`."""


def to_network(points: Tensor, data: Data) -> Tensor:
    """Turn coordinates of shape (…, 2), between the 256 levels of the moons' data, too, into a network's normalised input of shape
    (N, 2, 1, 1), on the data's device."""
    pixels = (points.reshape(-1, 2) + 2) * LEVELS
    return data.normalised(pixels[:, :, None, None].to(data.resident[0].images.device))


def to_plane(inputs: Tensor, data: Data) -> Tensor:
    """Turn normalised inputs or their features, of shape (N, 2, …) with 2N numbers, back into coordinates of shape (N, 2)."""
    mean, std = (torch.tensor(v, device=inputs.device) for v in (data.mean, data.std))
    return (inputs.reshape(-1, 2) * std + mean) * 255 / LEVELS - 2


def points_of(images: Tensor) -> Tensor:
    """Return the coordinates, of shape (N, 2) on the host, of moons as the data hold them: uint8 of shape (N, 2, 1, 1)."""
    return images[:, :, 0, 0].cpu().float() / LEVELS - 2


def lattice(extent: tuple[float, float, float, float], rows: int, columns: int) -> Tensor:
    """Return the middles of the pixels of a picture, coordinates of shape (rows, columns, 2), the first row lowest; its ``extent``
    is the left, right, lower and upper edge."""
    left, right, lower, upper = extent
    x = left + (torch.arange(columns) + 0.5) * ((right - left) / columns)
    y = lower + (torch.arange(rows) + 0.5) * ((upper - lower) / rows)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


@torch.no_grad()
def probability(network: nn.Module, grid: Tensor, data: Data, label: int = 0) -> Tensor:
    """Return the probability of a class over a lattice of shape (…, 2), on the host; the network's mode is put back."""
    with evaluating(network):
        return network(to_network(grid, data)).float().softmax(1)[:, label].reshape(grid.shape[:-1]).cpu()
