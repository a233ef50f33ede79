"""torchvision's AlexNet, VGG-16 and ResNet-50 as chains, their weights under torchvision's names, so that published ones load."""

import itertools

from torch import nn

from sba.core.errors import ConfigError
from sba.models.borrowed import Borrowed


def alexnet(classes: int, channels: int) -> Borrowed:
    """torchvision's AlexNet (Krizhevsky, 2014): five convolutions, a head of 4096-4096 with dropout; 61.1 M parameters."""
    from torchvision import models

    return Borrowed(
        rgb_only(models.alexnet(weights=None, num_classes=classes), channels),
        {
            **spans("features", {f"conv{i}": at for i, at in enumerate(itertools.pairwise((0, 3, 6, 8, 10, 13)), 1)}),
            "flatten": ("avgpool", nn.Flatten()),
            **spans("classifier", HEAD),
        },
    )


def vgg16(classes: int, channels: int) -> Borrowed:
    """torchvision's VGG-16 without batch normalisation (Simonyan and Zisserman, 2015, configuration D); 138.4 M parameters."""
    from torchvision import models

    names = [f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
    bounds = itertools.pairwise((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31))
    return Borrowed(
        rgb_only(models.vgg16(weights=None, num_classes=classes), channels),
        {
            **spans("features", dict(zip(names, bounds, strict=True))),
            "flatten": ("avgpool", nn.Flatten()),
            **spans("classifier", HEAD),
        },
    )


def resnet50(classes: int, channels: int) -> Borrowed:
    """torchvision's ResNet-50 (He et al., 2016), whose blocks have their stride in the 3×3 convolution; 25.6 M parameters."""
    from torchvision import models

    network = rgb_only(models.resnet50(weights=None, num_classes=classes), channels)
    depths = {group: len(network.get_submodule(f"layer{group}")) for group in (1, 2, 3, 4)}  # type: ignore[arg-type]
    return Borrowed(
        network,
        {
            "conv1": ("conv1", "bn1", "relu", "maxpool"),
            **{f"block{g}_{i + 1}": (f"layer{g}.{i}",) for g, depth in depths.items() for i in range(depth)},
            "pool": ("avgpool", nn.Flatten()),
            "fc1": ("fc",),
        },
    )


HEAD = {"fc1": (0, 3), "fc2": (3, 6), "fc3": (6, 7)}
"""Stages of ``classifier``; the dropout of AlexNet's stands before the linear layer that it belongs to."""


def spans(container: str, ends: dict[str, tuple[int, int]]) -> dict[str, tuple[str, ...]]:
    """Name stages of a container, from the first index of each to the one after its last."""
    return {name: tuple(f"{container}.{i}" for i in range(*span)) for name, span in ends.items()}


def rgb_only(network: nn.Module, channels: int) -> nn.Module:
    """Return the network, or raise :class:`sba.core.errors.ConfigError` if the images do not have its three channels."""
    if channels != 3:
        raise ConfigError(f"network: torchvision's networks take 3 channels, the data has {channels}; give RGB images")
    return network
