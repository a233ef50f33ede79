"""Networks that learn in seconds: a convolutional one for the 8×8 digits, a perceptron for points of the plane."""

from collections.abc import Sequence

from torch import nn

from sba.core.staged import Staged
from sba.models.cifar import conv_bn, fully_connected, pooled


def digits_net(classes: int, channels: int, dropout: float = 0.0) -> Staged:
    """A small network for 8×8 images that learns scikit-learn's digits in seconds: two convolutions and 64 features.

    With ``dropout`` its hidden features are dropped, as in the heads of AlexNet and VGG-16.
    """
    return Staged(
        [
            ("conv1", conv_bn(channels, 16)),
            ("conv2", pooled(conv_bn(16, 32))),
            ("flatten", nn.Flatten()),
            *fully_connected(32 * 4 * 4, (64,), classes, dropout),
        ]
    )


def mlp(classes: int, channels: int, hidden: Sequence[int] = (64, 64)) -> Staged:
    """A multilayer perceptron on points, images of 1×1 pixels: for pictures of two-dimensional problems."""
    return Staged([("flatten", nn.Flatten()), *fully_connected(channels, hidden, classes)])
