"""What a run is: the data, the network, the method, the regime, the seed. Everything that decides its numbers, nothing else."""

import dataclasses
import hashlib
import json
import math
from typing import Any, Literal

from sba.core.errors import ConfigError
from sba.core.hyper import configuration, definitions, hyper, suggestion
from sba.data.augment import Augmentation
from sba.data.datasets import Data
from sba.data.sources import ARRAYS, source
from sba.data.subsets import Draw
from sba.methods import ERM, METHODS, Method
from sba.models.registry import NETWORKS


@dataclasses.dataclass(frozen=True)
class Regime:
    """A training regime: stochastic gradient descent with momentum whose rate is multiplied by ``decay`` at each milestone."""

    epochs: int  #: the full number of epochs
    batch_size: int  #: images per step
    lr: float  #: learning rate at the start
    milestones: tuple[int, ...]  #: epochs at whose beginning the rate is lowered
    decay: float  #: the factor
    weight_decay: float  #: coefficient of the ℓ2 penalty, on all parameters
    source: str  #: whose regime it is


PLAIN_ALEXNET = Regime(164, 128, 0.01, (81, 122), 0.1, 5e-4, "bearpaw/pytorch-classification, TRAINING.md")
VGG = Regime(200, 128, 0.1, (60, 120, 160), 0.2, 5e-4, "eladhoffer/convNet.pytorch, models/vgg.py")
VGG_PLAIN = dataclasses.replace(VGG, lr=0.01, source=f"{VGG.source}; the rate of Simonyan and Zisserman (2015)")
RESNET = Regime(200, 128, 0.1, (100, 150), 0.1, 1e-4, "akamaster/pytorch_resnet_cifar10, trainer.py")
IMAGENET = Regime(90, 256, 0.1, (30, 60), 0.1, 1e-4, "pytorch/vision, references/classification")
IMAGENET_PLAIN = dataclasses.replace(IMAGENET, lr=0.01)
SMALL = Regime(30, 64, 0.05, (15, 24), 0.1, 5e-4, "this book")

REGIMES: dict[str, Regime] = {
    "mlp": Regime(200, 50, 0.1, (100, 150), 0.1, 1e-4, "this book"),
    "digits": SMALL,
    "digits_dropout": SMALL,
    "alexnet": PLAIN_ALEXNET,
    "alexnet_fc": PLAIN_ALEXNET,
    "vgg16": VGG,
    "vgg16_512": VGG,
    "vgg16_linear": VGG,
    "vgg16_plain": VGG_PLAIN,
    "resnet20": RESNET,
    "resnet44": RESNET,
    "resnet44_b": RESNET,
    "alexnet_imagenet": IMAGENET_PLAIN,
    "vgg16_imagenet": IMAGENET_PLAIN,
    "resnet50": IMAGENET,
}
"""The full regime of each network."""


FORMER = {"vote": False}
"""What was a field of a run once, and is a measurement now. Keys still hash its default, so that they stay what they were."""
NEWER = {"subset": 0, "label_noise": 0.0, "feature_dropout": 0.0}
"""Fields that the first runs did not have. Keys do not hash these values, for the same reason."""


@configuration
class Run:
    """One training run. Two runs with equal fields on equal hardware give equal numbers."""

    dataset: str = hyper("digits", "data set: digits, moons, cifar10, cifar100, imagenet, imagenette, or folder:PATH")
    network: Literal[tuple(NETWORKS)] = hyper(  # type: ignore[valid-type]
        "digits", "network"
    )
    method: Method = hyper(ERM(), "training method with its hyper-parameters")
    feature_dropout: float = hyper(
        0.0, "rate of a dropout on the features that the last linear layer reads; 0 for none", source="ours", ge=0, lt=1
    )
    seed: int = hyper(0, "seed of everything random", ge=0, lt=2**63)
    epochs: int = hyper(30, "passes over the training set", ge=1)
    full_epochs: int = hyper(30, "passes of the full regime; a run of fewer is reported as reduced", ge=1)
    batch_size: int = hyper(64, "raw images per step", symbol="B", ge=1)
    lr: float = hyper(0.05, "learning rate at the start", gt=0)
    milestones: tuple[int, ...] = hyper((), "epochs at whose beginning the rate is lowered")
    decay: float = hyper(0.1, "factor of the rate at a milestone", gt=0, le=1)
    momentum: float = hyper(0.9, "momentum of the gradient descent", ge=0, lt=1)
    nesterov: bool = hyper(False, "Nesterov's form of momentum")
    weight_decay: float = hyper(5e-4, "coefficient of the ℓ2 penalty", ge=0)
    padding: int = hyper(0, "pixels of black around an image before the random crop; 0 for none", ge=0)
    flip: bool = hyper(False, "mirror images with probability ½")
    cutout: int = hyper(0, "side of the Cutout square in pixels, an odd one counts as one less; 0 for none", ge=0)
    views: int = hyper(
        1, "augmented copies of each image in a step (Batch Augmentation)", symbol="M", source="Hoffer et al.", ge=1
    )
    chunked: bool = hyper(
        False,
        "pass the copies one after the other, each with batch statistics of its own, in the memory of a plain step",
        source="ghost batches; Hoffer et al.",
    )
    adapt_norm: bool = hyper(
        False,
        "give the mean gradient of the copies the mean length of each one's own; needs chunked",
        source="--adapt-grad-norm of Hoffer et al.'s code",
    )
    holdout: int = hyper(0, "training images held out and evaluated on in place of the test set", ge=0)
    subset: int = hyper(0, "training images, a subset that the seed draws, every class in its share; 0 for all", ge=0)
    label_noise: float = hyper(0.0, "share of the training labels that the seed turns into another class", ge=0, le=1)
    side: int = hyper(0, "side to which images of files are brought; 0 for images that have one", unit="pixels", ge=0)
    unreadable: Literal["refuse", "skip"] = hyper(
        "refuse", "stop at an image file that cannot be read, or leave it out and count it", source="ours"
    )
    amp: Literal["none", "bf16"] = hyper(
        "none", "automatic mixed precision of the network's passes, in evaluation, too"
    )
    channels_last: bool = hyper(True, "memory order of the convolutions")

    def __post_init__(self) -> None:
        source(self.dataset)
        if self.side and not source(self.dataset).side:
            raise ConfigError(
                f"side: {self.side} is not allowed, the images of {self.dataset!r} have their own; leave it out"
            )
        if self.nesterov and not self.momentum:
            raise ConfigError("nesterov: true is not allowed with momentum 0; give a momentum above 0")
        if self.chunked and self.method.update != "joint":
            raise ConfigError(f"chunked: true is not allowed with update {self.method.update!r}; give update joint")
        if self.adapt_norm and not self.chunked:
            raise ConfigError(
                "adapt_norm: true needs the gradient of each copy by itself; give chunked (and views above 1)"
            )
        if self.cutout == 1:
            raise ConfigError("cutout: a square of side 1 has no pixel, it spans [c − ½, c + ½); give 0, or 2 and more")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(f"milestones: {self.milestones} must increase; give each epoch once, in order")

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(self.padding, self.flip, self.cutout)

    @property
    def draw(self) -> Draw | None:
        """What is drawn from the training set; None for all of it."""
        few = self.subset or self.label_noise
        return Draw(subset=self.subset, label_noise=self.label_noise, number=self.seed) if few else None

    @property
    def reduced(self) -> bool:
        """Whether the run is shorter than its regime, and so must not stand beside full ones."""
        return self.epochs < self.full_epochs

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.lr * self.decay ** sum(epoch >= m for m in self.milestones)

    def settings(self) -> dict[str, Any]:
        """Return all fields as JSON holds them; :func:`from_settings` reads them back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "method"}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {**values, "method": self.method.settings()}

    @property
    def key(self) -> str:
        """Hash of the configuration, 12 hexadecimal digits: equal for equal runs."""
        own = {k: v for k, v in self.settings().items() if k not in NEWER or v != NEWER[k]}
        text = json.dumps(own | FORMER, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def title(self) -> str:
        """A short name for file names: data set, network, method, seed and key."""
        return f"{self.dataset.replace(':', '-').replace('/', '-')}-{self.network}-{self.method.name}-s{self.seed}-{self.key}"


def from_settings(values: dict[str, Any]) -> Run:
    """Rebuild a run from :meth:`Run.settings`, of this version or an older one; raise :class:`ConfigError` if a field is unknown or
    out of range."""
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigError(f"settings: {values!r} is not allowed; give names and values, as Run.settings() does")
    method = values.get("method")
    if not isinstance(method, dict) or not isinstance(method.get("name"), str):
        raise ConfigError(f"method: {method!r} is not allowed; give its name and hyper-parameters")
    own = {str(name): value for name, value in method.items() if name != "name"}
    values = {name: value for name, value in values.items() if name not in FORMER}
    return Run(**{**values, "method": method_named(method["name"])(**own)})


def method_named(name: str) -> type[Method]:
    """Look up a method, or raise :class:`ConfigError` if there is none of this name."""
    if name not in METHODS:
        raise ConfigError(f"method: {name!r} is not known; choose from {', '.join(METHODS)}")
    return METHODS[name]


def make_run(
    dataset: str | Data = "digits",
    network: str | None = None,
    method: str = "erm",
    preset: str | None = None,
    **given: Any,
) -> Run:
    """Build a run from flat parameters: those of the run and those of its method, by name; None means not given.

    What is not given comes from the data set (crop, flip) and from the network's regime. With ``epochs`` alone the milestones
    move in proportion. ``cutout="auto"`` takes the side that its authors use for the data set. ``preset`` names one of the method's
    presets; explicit options override it. ``dataset`` is a name, or data that is loaded already or made of arrays.

    Raises:
        ConfigError: a parameter is unknown or out of range.

    >>> run = make_run("cifar10", method="sba", eta=0.1, epochs=82)
    >>> run.network, run.lr, run.milestones, run.method.eta, run.reduced
    ('alexnet', 0.01, (40, 61), 0.1, True)
    >>> make_run("cifar10", method="sba", eta=-1)
    Traceback (most recent call last):
    sba.core.errors.ConfigError: eta (η): -1 is not allowed; give a number in [0, ∞)
    """
    given = {k: v for k, v in given.items() if v is not None}
    if isinstance(dataset, Data):
        draw = dataset.draw
        told: dict[str, Any] = {"holdout": len(dataset.test)} if dataset.evaluated_on == "holdout" else {}
        told |= {"subset": draw.subset, "label_noise": draw.label_noise, "seed": draw.number} if draw else {}
        given, dataset = told | given, dataset.name
    if not isinstance(dataset, str):
        raise ConfigError(
            f"dataset: {type(dataset).__name__} is not allowed; give a name, or Data.from_arrays(x, y, classes)"
        )
    cls, origin = method_named(method), source(dataset)
    network = network or origin.network
    if network not in REGIMES:
        raise ConfigError(f"network: {network!r} is not known; {suggestion(network, REGIMES)}")
    regime = REGIMES[network]
    preset = "default" if preset is None else preset
    if preset not in cls.presets:
        raise ConfigError(f"preset: {preset!r} is not known to {cls.name}; choose from {', '.join(cls.presets)}")
    own = cls.presets[preset] | {k: given.pop(k) for k in list(given) if k in definitions(cls)}
    fields = [name for name in definitions(Run) if name != "method"]
    if unknown := [k for k in given if k not in fields]:
        others = [other for other in METHODS.values() if unknown[0] in definitions(other)]
        hint = f"it belongs to {others[0].name}" if others else suggestion(unknown[0], [*fields, *definitions(cls)])
        raise ConfigError(f"{unknown[0]}: neither a run nor the method {method!r} has this parameter; {hint}")
    defaults = {name: value for name, value in vars(regime).items() if name != "source"}
    defaults |= {"full_epochs": regime.epochs, "padding": origin.padding, "flip": origin.flip, "side": origin.side}
    if isinstance(given.get("epochs"), int | float) and math.isfinite(given["epochs"]):
        scaled = (round(m * given["epochs"] / regime.epochs) for m in regime.milestones)
        defaults["milestones"] = tuple(sorted({m for m in scaled if m > 0}))
    if given.get("cutout") == "auto":
        if dataset.startswith(ARRAYS):
            raise ConfigError("cutout: 'auto' is not known for arrays; give its side in pixels")
        given["cutout"] = origin.cutout
    elif given.get("cutout") == -1:
        raise ConfigError("cutout: -1 is not allowed; give auto for the side that its authors use, or 0 for none")
    return Run(**{**defaults, **given, "dataset": dataset, "network": network, "method": cls(**own)})
