"""The networks by name, and those for small images: AlexNet, VGG-16 and ResNet-44 for CIFAR, a small one, a perceptron."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.core.errors import ConfigError
from sba.core.staged import Staged
from sba.models import imagenet


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """A convolution with bias and ReLU, without normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True))


def conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    """A 3×3 convolution with batch normalisation and ReLU, of stride 1."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def conv_relu(inputs: int, outputs: int) -> nn.Sequential:
    """A 3×3 convolution with ReLU, of stride 1, whose initial weights keep the variance (He et al., 2015)."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.ReLU(inplace=True))


def pooled(stage: nn.Sequential) -> nn.Sequential:
    """Append a 2×2 maximum pool to a stage."""
    return nn.Sequential(*stage, nn.MaxPool2d(2))


def head(inputs: int, hidden: Sequence[int], classes: int, dropout: float = 0.0) -> list[tuple[str, nn.Module]]:
    """Fully connected stages fc1, fc2, …: hidden ones end in ReLU and, where asked, dropout; the last puts out logits."""
    widths = (inputs, *hidden)
    stages: list[tuple[str, nn.Module]] = []
    for i, (before, width) in enumerate(zip(widths, hidden, strict=False), start=1):
        layers: list[nn.Module] = [nn.Linear(before, width), nn.ReLU(inplace=True)]
        stages.append((f"fc{i}", nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []))))
    return [*stages, (f"fc{len(widths)}", nn.Linear(widths[-1], classes))]


def alexnet(classes: int, channels: int, hidden: Sequence[int] = ()) -> Staged:
    """AlexNet for 32×32 images in the form most public code uses (bearpaw/pytorch-classification): one linear layer on 256
    features, no batch normalisation; 2.47 M parameters at 10 classes. ``hidden=(4096, 4096)`` gives it AlexNet's own head."""
    return Staged(
        [
            ("conv1", pooled(conv(channels, 64, 11, 4, 5))),
            ("conv2", pooled(conv(64, 192, 5, padding=2))),
            ("conv3", conv(192, 384, 3, padding=1)),
            ("conv4", conv(384, 256, 3, padding=1)),
            ("conv5", pooled(conv(256, 256, 3, padding=1))),
            ("flatten", nn.Flatten()),
            *head(256, hidden, classes, dropout=0.5),
        ]
    )


def vgg16(
    classes: int,
    channels: int,
    hidden: Sequence[int] = (4096, 4096),
    dropout: float = 0.5,
    convolution: Callable[[int, int], nn.Sequential] = conv_bn,
) -> Staged:
    """VGG-16 for 32×32 images: configuration D of Simonyan and Zisserman ending in 1×1×512.

    The head of 4096-4096 with dropout is the one of Batch Augmentation's code, whose M the paper adopts; 33.6 M parameters.

    Args:
        classes: number of classes.
        channels: channels of the input.
        hidden: widths of the fully connected layers before the last.
        dropout: rate behind each of those.
        convolution: builds a stage; :func:`conv_relu` leaves batch normalisation out.
    """
    stages: list[tuple[str, nn.Module]] = []
    for block, (width, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for i in range(1, depth + 1):
            stage = convolution(channels, width)
            stages.append((f"conv{block}_{i}", pooled(stage) if i == depth else stage))
            channels = width
    return Staged([*stages, ("flatten", nn.Flatten()), *head(512, hidden, classes, dropout)])


class SubsampledIdentity(nn.Module):
    """Shortcut A of He et al. (2016): every second pixel, new channels zero; no parameters."""

    def __init__(self, new_channels: int):
        super().__init__()
        self.new_channels = new_channels

    def forward(self, x: Tensor) -> Tensor:
        half = self.new_channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.new_channels - half))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = (
                SubsampledIdentity(outputs - inputs)
                if shortcut == "A"
                else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


def resnet(classes: int, channels: int, depth: int = 44, shortcut: str = "A") -> Staged:
    """ResNet of 6n+2 layers for 32×32 images (He et al., 2016, §4.2): 16, 32, 64 channels; 0.66 M parameters at depth 44.

    Args:
        classes: number of classes.
        channels: channels of the input.
        depth: number of weighted layers, 6n+2.
        shortcut: "A" (subsampled identity, no parameters) or "B" (1×1 convolution with batch normalisation).
    """
    blocks = (depth - 2) // 6
    stages: list[tuple[str, nn.Module]] = [("conv1", conv_bn(channels, 16))]
    width = 16
    for group, outputs in enumerate((16, 32, 64), start=1):
        for i in range(1, blocks + 1):
            stages.append((f"block{group}_{i}", BasicBlock(width, outputs, 2 if i == 1 < group else 1, shortcut)))
            width = outputs
    net = Staged(
        [*stages, ("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), ("fc1", nn.Linear(64, classes))]
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def digits_net(classes: int, channels: int, dropout: float = 0.0) -> Staged:
    """A small network for 8×8 images that learns scikit-learn's digits in seconds: two convolutions and 64 features.

    With ``dropout`` its hidden features are dropped, as in the heads of AlexNet and VGG-16.
    """
    return Staged(
        [
            ("conv1", conv_bn(channels, 16)),
            ("conv2", pooled(conv_bn(16, 32))),
            ("flatten", nn.Flatten()),
            *head(32 * 4 * 4, (64,), classes, dropout),
        ]
    )


def mlp(classes: int, channels: int, hidden: Sequence[int] = (64, 64)) -> Staged:
    """A multilayer perceptron on points, images of 1×1 pixels: for pictures of two-dimensional problems."""
    return Staged([("flatten", nn.Flatten()), *head(channels, hidden, classes)])


@dataclass(frozen=True)
class Architecture:
    """How to build a network, and for which images.

    Attributes:
        builder: from the number of classes and of input channels.
        side: of the images it is made for, in pixels.
        smallest: side that it can take, too, and everything above; None where it takes no other than ``side``.
    """

    builder: Callable[[int, int], Staged]
    side: int
    smallest: int | None = None

    def takes(self, side: int) -> bool:
        """Whether the network can be given images of this side."""
        return side == self.side if self.smallest is None else side >= self.smallest


NETWORKS: dict[str, Architecture] = {
    "mlp": Architecture(mlp, 1),
    "digits": Architecture(digits_net, 8),
    "digits_dropout": Architecture(lambda classes, channels: digits_net(classes, channels, 0.5), 8),
    "alexnet": Architecture(alexnet, 32),
    "alexnet_fc": Architecture(lambda classes, channels: alexnet(classes, channels, (4096, 4096)), 32),
    "vgg16": Architecture(vgg16, 32),
    "vgg16_512": Architecture(lambda classes, channels: vgg16(classes, channels, (512, 512)), 32),
    "vgg16_linear": Architecture(lambda classes, channels: vgg16(classes, channels, ()), 32),
    "vgg16_plain": Architecture(lambda classes, channels: vgg16(classes, channels, convolution=conv_relu), 32),
    "resnet44": Architecture(resnet, 32, 1),
    "resnet44_b": Architecture(lambda classes, channels: resnet(classes, channels, shortcut="B"), 32, 1),
    "alexnet_imagenet": Architecture(imagenet.alexnet, 224, 64),
    "vgg16_imagenet": Architecture(imagenet.vgg16, 224, 32),
    "resnet50": Architecture(imagenet.resnet50, 224, 32),
}
"""The networks by name."""


def build(name: str, classes: int, channels: int, side: int) -> Staged:
    """Build a network of :data:`NETWORKS` with fresh weights from torch's global generator.

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
    network.input_shape = (channels, side, side)
    return network


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def to_device(network: Staged, device: torch.device | str, channels_last: bool) -> Staged:
    """Move a network to a device, in the memory order that convolutions are fastest in."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device).to(memory_format=order)
