"""Networks as chains of named stages, so that training can stop at any layer k and go on from there.

The paper writes f(x) = g_{k+1}(h_k(x)) (§3.1). Here ``net(x, until=k)`` is h_k, ``net(h, after=k)`` is g_{k+1}, and their
composition equals ``net(x)`` bit for bit: it is the same sequence of calls.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.errors import ConfigError

INPUT = "input"
"""The name of layer 0: the input itself."""


class Staged(nn.Sequential):
    """A network that is a chain of named stages.

    Args:
        stages: pairs (name, module), from the input to the logits.
        input_shape: of one image, (C, H, W); what must know the shapes of activations asks for it.

    Attributes:
        stages: the names in order. Any of them, or ``"input"``, may be given as ``until`` or ``after``.
    """

    def __init__(self, stages: Iterable[tuple[str, nn.Module]], input_shape: Sequence[int] | None = None):
        super().__init__(OrderedDict(stages))
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self._shapes: dict[tuple, tuple[int, ...]] = {}

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(self._modules)

    @property
    def linear_inputs(self) -> tuple[str, ...]:
        """Names of the layers whose output a linear layer reads: the paper's usual set S (§4.3)."""
        before = (INPUT, *self.stages)
        return tuple(
            before[i] for i, stage in enumerate(self) if any(isinstance(m, nn.Linear) for m in stage.modules())
        )

    def position(self, layer: str) -> int:
        """Return how many stages come up to and including ``layer``; 0 for ``"input"``.

        Raises:
            ConfigError: there is no such layer.
        """
        if layer == INPUT:
            return 0
        try:
            return self.stages.index(layer) + 1
        except ValueError:
            raise ConfigError(
                f"layers: there is no layer {layer!r} in this network; choose from {INPUT}, {', '.join(self.stages)}"
            ) from None

    def after(self, layer: str) -> list[nn.Module]:
        """Return the stages that follow ``layer``: g_{k+1}."""
        return list(self._modules.values())[self.position(layer) :]

    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one activation of ``layer``, without the batch. Nothing is computed and nothing is drawn.

        Raises:
            ConfigError: there is no such layer, or the network does not know the shape of its input.
        """
        self.position(layer)
        if self.input_shape is None:
            raise ConfigError(
                "input_shape: None is not enough to know the layers' shapes; give Staged(stages, (C, H, W))"
            )
        key = (self.input_shape, layer)
        if key not in self._shapes:
            tensors = [*self.named_parameters(), *self.named_buffers()]
            meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
            images = torch.empty(2, *self.input_shape, device="meta")
            activation = torch.func.functional_call(self, meta, (images,), {"until": layer})
            self._shapes[key] = tuple(activation.shape[1:])
        return self._shapes[key]

    def forward(self, x: Tensor, until: str | None = None, after: str | None = None) -> Tensor:
        """Run the chain, or a part of it.

        Args:
            x: the input of shape (N, C, H, W), or, with ``after``, the activation that layer put out.
            until: the last stage to run; all of them by default.
            after: the layer that put out ``x``; the input by default.

        Returns:
            The output of stage ``until``: logits of shape (N, classes) by default.
        """
        start = 0 if after is None else self.position(after)
        stop = len(self) if until is None else self.position(until)
        if stop < start:
            raise ConfigError(f"until: {until!r} comes before {after!r} in this network; give a later stage")
        for stage in list(self._modules.values())[start:stop]:
            x = stage(x)
        return x


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


NETWORKS: dict[str, tuple[Callable[[int, int], Staged], int]] = {
    "mlp": (mlp, 1),
    "digits": (digits_net, 8),
    "digits_dropout": (lambda classes, channels: digits_net(classes, channels, 0.5), 8),
    "alexnet": (alexnet, 32),
    "alexnet_fc": (lambda classes, channels: alexnet(classes, channels, (4096, 4096)), 32),
    "vgg16": (vgg16, 32),
    "vgg16_512": (lambda classes, channels: vgg16(classes, channels, (512, 512)), 32),
    "vgg16_linear": (lambda classes, channels: vgg16(classes, channels, ()), 32),
    "vgg16_plain": (lambda classes, channels: vgg16(classes, channels, convolution=conv_relu), 32),
    "resnet44": (resnet, 32),
    "resnet44_b": (lambda classes, channels: resnet(classes, channels, shortcut="B"), 32),
}
"""Name → (builder of a network from the number of classes and of input channels, side of the images it is made for)."""


def build(name: str, classes: int, channels: int, side: int) -> Staged:
    """Build a network of :data:`NETWORKS` with fresh weights from torch's global generator.

    Raises:
        ConfigError: there is no such network, or it is made for images of another size.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network: {name!r} is not known; choose from {', '.join(NETWORKS)}")
    builder, wanted = NETWORKS[name]
    if side != wanted and name != "resnet44" and name != "resnet44_b":
        fits = ", ".join(n for n, (_, s) in NETWORKS.items() if s == side) or "none; resize the images"
        raise ConfigError(
            f"network: {name!r} is made for images of {wanted}×{wanted} pixels, the data has {side}×{side}; choose from: {fits}"
        )
    network = builder(classes, channels)
    network.input_shape = (channels, side, side)
    return network


def parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def to_device(network: Staged, device: torch.device | str, channels_last: bool) -> Staged:
    """Move a network to a device, in the memory order that convolutions are fastest in."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=order)
