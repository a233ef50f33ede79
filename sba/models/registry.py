"""The networks by name."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from sba.core.errors import ConfigError
from sba.core.staged import Staged
from sba.models import cifar, small, torchvision
from sba.models.borrowed import Borrowed


@dataclass(frozen=True)
class Architecture:
    """How to build a network, and for which images."""

    builder: Callable[[int, int], Staged]  #: from the number of classes and of input channels
    side: int  #: of the images it is made for, in pixels
    smallest: int | None = None  #: the smallest side that it can take; None if it takes no other than ``side``

    def takes(self, side: int) -> bool:
        """Whether the network can be given images of this side."""
        return side == self.side if self.smallest is None else side >= self.smallest


NETWORKS: dict[str, Architecture] = {
    "mlp": Architecture(small.mlp, 1),
    "digits": Architecture(small.digits_net, 8),
    "digits_dropout": Architecture(partial(small.digits_net, dropout=0.5), 8),
    "alexnet": Architecture(cifar.alexnet, 32),
    "alexnet_fc": Architecture(partial(cifar.alexnet, hidden=(4096, 4096)), 32),
    "vgg16": Architecture(cifar.vgg16, 32),
    "vgg16_512": Architecture(partial(cifar.vgg16, hidden=(512, 512)), 32),
    "vgg16_linear": Architecture(partial(cifar.vgg16, hidden=()), 32),
    "vgg16_plain": Architecture(partial(cifar.vgg16, convolution=cifar.conv_relu), 32),
    "resnet20": Architecture(partial(cifar.resnet, depth=20), 32, 1),
    "resnet44": Architecture(cifar.resnet, 32, 1),
    "resnet44_b": Architecture(partial(cifar.resnet, shortcut="B"), 32, 1),
    "alexnet_imagenet": Architecture(torchvision.alexnet, 224, 64),
    "vgg16_imagenet": Architecture(torchvision.vgg16, 224, 32),
    "resnet50": Architecture(torchvision.resnet50, 224, 32),
}
"""The networks by name."""


def build(name: str, classes: int, channels: int, side: int, feature_dropout: float = 0.0) -> Staged:
    """Build a network of :data:`NETWORKS` with fresh weights from torch's global generator.

    A ``feature_dropout`` above 0 is the rate of one more stage, "dropout", before the last linear layer; weights and their names
    stay the same.

    Raises:
        ConfigError: there is no such network, or it cannot take images of this size.

    >>> network = build("alexnet", classes=10, channels=3, side=32)
    >>> network.linear_inputs, network.shape("conv2"), count_parameters(network)
    (('flatten',), (192, 2, 2), 2472266)
    """
    if name not in NETWORKS:
        raise ConfigError(f"network: {name!r} is not known; choose from {', '.join(NETWORKS)}")
    architecture = NETWORKS[name]
    if not architecture.takes(side):
        fits = ", ".join(n for n, other in NETWORKS.items() if other.takes(side)) or "none; resize the images"
        wanted = f"{architecture.side}×{architecture.side} pixels"
        if architecture.smallest:
            wanted += f", and at least {architecture.smallest}×{architecture.smallest}"
        raise ConfigError(
            f"network: {name!r} is made for images of {wanted}, the data has {side}×{side}; choose from: {fits}"
        )
    network = architecture.builder(classes, channels)
    network = with_feature_dropout(network, feature_dropout) if feature_dropout else network
    network.input_shape = (channels, side, side)
    return network


def with_feature_dropout(network: Staged, rate: float) -> Staged:
    """Put a stage "dropout" before the last stage of a network."""
    *before, last = network.links.items()
    links = (*before, ("dropout", nn.Dropout(rate)), last)
    if not isinstance(network, Borrowed):
        return Staged(links)
    network.add_module(*links[-2])
    network._chain = links
    return network


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode as long as the context lasts, and back into its mode afterwards."""
    mode = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(mode)


def to_device(network: Staged, device: torch.device | str, channels_last: bool) -> Staged:
    """Move a network to a device, in the memory order that convolutions are fastest in."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device).to(memory_format=order)
