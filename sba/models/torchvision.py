"""torchvision's AlexNet, VGG-16 and ResNet-50 as chains, their weights under torchvision's names, so that published ones load."""

from torch import nn

from sba.core.errors import ConfigError
from sba.models.borrowed import Borrowed


def alexnet(classes: int, channels: int) -> Borrowed:
    """torchvision's AlexNet (Krizhevsky, 2014): five convolutions, a head of 4096-4096 with dropout; 61.1 M parameters."""
    from torchvision import models

    return Borrowed(
        rgb_only(models.alexnet(weights=None, num_classes=classes), channels),
        {
            **convolutions({"conv1": (0, 3), "conv2": (3, 6), "conv3": (6, 8), "conv4": (8, 10), "conv5": (10, 13)}),
            "flatten": ("avgpool", nn.Flatten()),
            # the dropout stands before the linear layer it belongs to
            **classifier({"fc1": (0, 3), "fc2": (3, 6), "fc3": (6, 7)}),
        },
    )


def vgg16(classes: int, channels: int) -> Borrowed:
    """torchvision's VGG-16 without batch normalisation (Simonyan and Zisserman, 2015, configuration D); 138.4 M parameters."""
    from torchvision import models

    ends = {"conv1": (2, 5), "conv2": (7, 10), "conv3": (12, 14, 17), "conv4": (19, 21, 24), "conv5": (26, 28, 31)}
    spans, start = {}, 0
    for block, stops in ends.items():
        for i, stop in enumerate(stops, start=1):
            spans[f"{block}_{i}"] = (start, stop)
            start = stop
    return Borrowed(
        rgb_only(models.vgg16(weights=None, num_classes=classes), channels),
        {
            **convolutions(spans),
            "flatten": ("avgpool", nn.Flatten()),
            **classifier({"fc1": (0, 3), "fc2": (3, 6), "fc3": (6, 7)}),
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


def convolutions(spans: dict[str, tuple[int, int]]) -> dict[str, tuple[str, ...]]:
    """Name stages of ``features``, from the first index of each to the one after its last."""
    return {name: tuple(f"features.{i}" for i in range(*span)) for name, span in spans.items()}


def classifier(spans: dict[str, tuple[int, int]]) -> dict[str, tuple[str, ...]]:
    """Name stages of ``classifier``, likewise."""
    return {name: tuple(f"classifier.{i}" for i in range(*span)) for name, span in spans.items()}


def rgb_only(network: nn.Module, channels: int) -> nn.Module:
    """Return the network, or raise :class:`sba.core.errors.ConfigError` if the images do not have its three channels."""
    if channels != 3:
        raise ConfigError(f"network: torchvision's networks take 3 channels, the data has {channels}; give RGB images")
    return network
