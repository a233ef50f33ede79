"""How data sets, networks and methods are written for people: in tables, in figures and in the README."""

from sba.methods import METHODS

NAMES = {
    **{name: method.title for name, method in METHODS.items()},
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "digits": "digits",
    "moons": "moons",
    "alexnet": "AlexNet",
    "alexnet_fc": "AlexNet (4096 head)",
    "alexnet_imagenet": "AlexNet",
    "vgg16": "VGG-16",
    "vgg16_imagenet": "VGG-16",
    "vgg16_plain": "VGG-16 without batch normalisation",
    "resnet44": "ResNet-44",
    "resnet50": "ResNet-50",
    "cutout": "Cutout",
    "cutout+ba": "Cutout + BA",
    "cutout+sba": "Cutout + SBA",
    "ba": "BA",
}
"""Name in code → name in the book."""


def title(name: str) -> str:
    """Return how a data set, a network, a method, or a method with Cutout ("cutout+mixup") is written; itself where unknown."""
    if name not in NAMES and name.startswith("cutout+"):
        return f"{NAMES['cutout']} + {title(name.removeprefix('cutout+'))}"
    return NAMES.get(name, name)


def column(method: str, cutout: bool, views: int) -> str:
    """Name the column of Table 1 that a run belongs to: its method, "ba" for plain training on several views, and "cutout" before
    it where that is on."""
    if views > 1:
        method = "ba" if method == "erm" else f"ba+{method}"
    return "cutout" if cutout and method == "erm" else f"cutout+{method}" if cutout else method
