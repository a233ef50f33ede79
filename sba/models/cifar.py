"""Networks for the 32×32 images of CIFAR: AlexNet, VGG-16, ResNet."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sba.core.staged import Staged


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
    stage = conv(inputs, outputs, 3, padding=1)
    weight, bias = stage.parameters()
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
    nn.init.zeros_(bias)
    return stage


def pooled(stage: nn.Sequential) -> nn.Sequential:
    """Append a 2×2 maximum pool to a stage."""
    return nn.Sequential(*stage, nn.MaxPool2d(2))


def fully_connected(
    inputs: int, hidden: Sequence[int], classes: int, dropout: float = 0.0
) -> list[tuple[str, nn.Module]]:
    """Fully connected stages fc1, fc2, …: hidden ones end in ReLU and, if asked for, dropout; the last puts out logits."""
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
            *fully_connected(256, hidden, classes, dropout=0.5),
        ]
    )


def vgg16(
    classes: int,
    channels: int,
    hidden: Sequence[int] = (4096, 4096),
    convolution: Callable[[int, int], nn.Sequential] = conv_bn,
) -> Staged:
    """VGG-16 for 32×32 images: configuration D of Simonyan and Zisserman ending in 1×1×512.

    The head of 4096-4096 with dropout is the one of Batch Augmentation's code, whose M the paper adopts; 33.6 M parameters.
    ``convolution`` builds a stage: :func:`conv_relu` leaves batch normalisation out.
    """
    stages: list[tuple[str, nn.Module]] = []
    for block, (width, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for i in range(1, depth + 1):
            stage = convolution(channels, width)
            stages.append((f"conv{block}_{i}", pooled(stage) if i == depth else stage))
            channels = width
    return Staged([*stages, ("flatten", nn.Flatten()), *fully_connected(512, hidden, classes, 0.5)])


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
    """ResNet of 6n+2 weighted layers for 32×32 images (He et al., 2016, §4.2): 16, 32, 64 channels; 0.66 M parameters at depth 44.

    A shortcut is "A" (subsampled identity, no parameters) or "B" (1×1 convolution with batch normalisation).
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
