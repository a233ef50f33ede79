"""How data sets, networks, methods and hyper-parameters are written for people: in tables, in figures and in the README."""

from typing import Any

from sba.core.hyper import allowed, choices, definitions
from sba.methods import METHODS
from sba.training.run import Run

NAMES = {
    **{name: method.title for name, method in METHODS.items()},
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "imagenette": "Imagenette",
    "alexnet": "AlexNet",
    "alexnet_fc": "AlexNet (4096 units)",
    "alexnet_imagenet": "AlexNet",
    "vgg16": "VGG-16",
    "vgg16_imagenet": "VGG-16",
    "vgg16_plain": "VGG-16 without batch normalisation",
    "resnet20": "ResNet-20",
    "resnet44": "ResNet-44",
    "resnet50": "ResNet-50",
    "cutout": "Cutout",
    "ba": "BA",
}
"""Name in code → name in the book."""


def title(name: str) -> str:
    """Return how a data set, a network, a method, or a column is written ("cutout+ba+mixup"); itself if it is unknown."""
    for prefix in ("cutout", "ba"):
        if name not in NAMES and name.startswith(f"{prefix}+"):
            return f"{NAMES[prefix]} + {title(name.removeprefix(f'{prefix}+'))}"
    return NAMES.get(name, name)


def signed(value: float, digits: int = 2) -> str:
    """Write a difference with its sign, which is + for what rounds to zero."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def column(run: Run) -> str:
    """Name the column of Table 1 that a run belongs to: its method, "ba" for plain training on several views, and "cutout" before
    it if that is on."""
    name = run.method.name
    parts = [*(["cutout"] if run.cutout else []), *(["ba"] if run.views > 1 else [])]
    return "+".join([*parts, *([name] if name != "erm" or not parts else [])])


def facts(cls: type, name: str) -> dict[str, Any]:
    """Return what is known of one hyper-parameter: name, default, description, symbol, source, unit, slider, range, choices.

    >>> from sba import SBA
    >>> omega = facts(SBA, "omega")
    >>> omega["symbol"], omega["range"]
    ('ω', 'a number in [0, π/2 ≈ 1.570796]')
    """
    field = definitions(cls)[name]
    return {
        "name": name,
        "default": field.default,
        "description": field.description or "",
        **(field.json_schema_extra or {}),
        "range": allowed(field),
        "choices": choices(field),
    }
