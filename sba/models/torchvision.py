"""torchvision's AlexNet, VGG-16 and ResNet-50 as chains, their weights under torchvision's names, so that published ones load."""

import itertools

from torch import nn

from sba.core.errors import ConfigError
from sba.models.borrowed import Borrowed


def alexnet(classes: int, channels: int) -> Borrowed:
    """torchvision's AlexNet (Krizhevsky, 2014): five convolutions, a head of 4096-4096 with dropout; 61.1 M parameters."""
    return with_head(fresh("alexnet", classes, channels), [f"conv{i}" for i in range(1, 6)], (0, 3, 6, 8, 10, 13))


def vgg16(classes: int, channels: int) -> Borrowed:
    """torchvision's VGG-16 without batch normalisation (Simonyan and Zisserman, 2015, configuration D); 138.4 M parameters."""
    names = [f"conv{block}_{i}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, depth + 1)]
    ends = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31)
    return with_head(fresh("vgg16", classes, channels), names, ends)


def resnet50(classes: int, channels: int) -> Borrowed:
    """torchvision's ResNet-50 (He et al., 2016), whose blocks have their stride in the 3×3 convolution; 25.6 M parameters."""
    network = fresh("resnet50", classes, channels)
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


def with_head(network: nn.Module, names: list[str], ends: tuple[int, ...]) -> Borrowed:
    """Cut a network of ``features`` and ``classifier`` into stages: those of the features begin and end at these indices."""

    def stages(container: str, names: list[str], ends: tuple[int, ...]) -> dict[str, tuple[str, ...]]:
        spans = zip(names, itertools.pairwise(ends), strict=True)
        return {name: tuple(f"{container}.{i}" for i in range(*span)) for name, span in spans}

    # the dropout of AlexNet's head stands before the linear layer that it belongs to
    head = stages("classifier", ["fc1", "fc2", "fc3"], (0, 3, 6, 7))
    pool = {"flatten": ("avgpool", nn.Flatten())}
    return Borrowed(network, {**stages("features", names, ends), **pool, **head})


def fresh(name: str, classes: int, channels: int) -> nn.Module:
    """Return a network of torchvision's with fresh weights, or raise :class:`sba.core.errors.ConfigError` if the images do not have
    its three channels."""
    from torchvision.models import get_model

    if channels != 3:
        raise ConfigError(f"network: torchvision's networks take 3 channels, the data has {channels}; give RGB images")
    return get_model(name, weights=None, num_classes=classes)
