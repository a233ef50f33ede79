"""The design of the study of little data: who is compared, on what, how often. Grids, numbers of seeds and the families against
plain training were written down before the first run; what was added later is told below, with what was known then.

Every contender has four configurations. Each is trained on :data:`TUNED` images at two seeds and evaluated on :data:`HOLDOUT`
other training images; the lowest mean error chooses. What is chosen is trained at fresh seeds, each of which draws a subset of its
own, and is evaluated on the test set. A family of claims is that of all contenders of a condition against plain training there,
in error, the primary measure, or in another measure.

The plan, by a measurement of three epochs of every contender: at 45 ms a step on an idle core AlexNet takes 3 minutes a run, 1.9
times that with virtual points behind conv2, 2.5 times at the input; ResNet-20 takes 1.7 times AlexNet's. The choice takes 7 hours
of one core, the tests at 1,000 images 7, the ablation 5, 250 images 3, 4,000 images 4, each share of wrong labels 2, ResNet-20 3:
33 in all, twice that beside other work. To fit, the ablation has five seeds, and only :data:`EVERYWHERE` is in all conditions.

Added on 2026-11-29, when the eight pairs of plain training and SBA at 1,000 images were known, and before any run of it: held-out
images chose another weight decay for plain training than the regime's, which all others keep. So SBA and plain training are both
trained at both weight decays, seed by seed (:func:`sba.studies.small_data.controls`), in a family of their own. And the ablation
is compared with plain training at the regime's weight decay, its own, no longer with the tuned one.

Added on 2026-11-29 as well, before the first final run of dropout, label smoothing or R-Drop had a record: SBA is compared with
each of :data:`RIVALS` directly, and each of them with plain training at the regime's weight decay, which is theirs and SBA's, too.
These are two families of :data:`RIVALS`' size, in each measure, and need no other runs.

Added later that day, when dropout's final runs and half of R-Drop's trials were known, and before the first final run of label
smoothing or R-Drop and the first run of the ablation: these two are compared with dropout, the simplest, a family of two; and each
change of the ablation, and the two other methods at the last layer, with SBA at the same layer, a family of that layer, beside
plain training. SBA against its rivals, and these against dropout, are families in every other condition, too. None of this needs
other runs.

Added when R-Drop's final runs were known as well: the rivals are run at the weight decay that plain training chose, too. There SBA
is compared with each, each with plain training, and label smoothing and R-Drop with dropout, three more families.

Added when plain training, dropout and SBA were being trained on 250 images, six runs of two seeds had records there, and the errors
of one pair had been seen: the controls of weight decay are run in every other condition as well, a family of two in each. There the
rivals, too, are compared with plain training at the regime's weight decay, a family of three. All of it is in each measure.

Added when half of these controls at 250 images had records that nobody had compared, and those at 1,000 images were known: plain
training at the weight decay that it chose against itself at the regime's, a family of one in each condition and measure.

Added on 2026-11-30, when all runs of plain training, dropout, R-Drop and SBA at 250 images were known, where R-Drop had the lower
error at the regime's weight decay: the rivals are run at the other weight decay there, too (:data:`BOTH_DECAYS`), and compared as
at 1,000 images, three families more.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NAME = "small-data"
HOLDOUT = 5000
"""Training images outside the subset, on which configurations are chosen."""
TUNING_SEEDS = (100, 101)
"""Other seeds, and so other subsets, than those that count."""
RADIUS = 2 / 255
"""Of the ℓ∞ ball in which PGD attacks."""
MARGIN = 1.0
"""Percentage points of error that make no difference in this study."""


def each(name: str, *values: float) -> tuple[dict[str, Any], ...]:
    """Return a configuration for each value of one parameter."""
    return tuple({name: value} for value in values)


ETAS = each("eta", 0.01, 0.1, 1.0, 10.0)
"""The paper's two, and ten and a hundred times the larger one."""


@dataclass(frozen=True)
class Contender:
    """A method with its grid."""

    name: str  #: for tables
    base: dict[str, Any]  #: parameters of all its configurations
    grid: tuple[dict[str, Any], ...]  #: what each configuration adds
    core: bool = False  #: whether it is run in every condition, and first


SBA = {"method": "sba", "omega": math.pi / 3, "folds": 32}
AT_MAPS = SBA | {"folds": 4, "basis": "hadamard"}
"""Before a convolution a virtual point costs as much as a raw one, and a dense Σ is too large."""

CONTENDERS = (
    Contender("plain", {"method": "erm"}, each("weight_decay", 5e-4, 1.5e-3, 5e-3, 1.5e-2), True),
    Contender("dropout", {"method": "erm"}, each("feature_dropout", 0.1, 0.25, 0.5, 0.75), True),
    Contender("label smoothing", {"method": "label-smoothing"}, each("epsilon", 0.05, 0.1, 0.2, 0.4), True),
    Contender(
        "R-Drop",
        {"method": "r-drop"},
        tuple({"feature_dropout": rate, "alpha": alpha} for rate in (0.25, 0.5) for alpha in (0.6, 5.0)),
        True,
    ),
    Contender("SBA", SBA, ETAS, True),
    Contender(
        "SBA at a convolution",
        AT_MAPS,
        tuple({"layers": (layer,), "eta": eta} for layer in ("conv2", "conv3") for eta in (1.0, 10.0)),
    ),
    Contender("SBA at the input", AT_MAPS | {"layers": ("input",)}, ETAS),
    Contender("mixup", {"method": "mixup"}, each("alpha", 0.2, 0.4, 1.0, 2.0)),
    Contender("SBA, Gaussian only", SBA | {"gaussian_share": 1.0}, ETAS),
    Contender("SBA, dropout only", SBA | {"gaussian_share": 0.0}, ETAS),
    Contender("SBA, M → ∞", {"method": "implicit-sba", "omega": math.pi / 3}, ETAS),
    Contender(
        "latent BA",
        {"method": "sba", "preset": "latent-ba", "folds": 32},
        each("dropout_rate", 0.1, 0.25, 0.5, 0.75),
    ),
    Contender("ISDA", {"method": "isda"}, each("lambda0", 0.1, 0.25, 0.5, 1.0)),
    Contender("manifold mixup", {"method": "manifold-mixup"}, each("alpha", 0.5, 1.0, 2.0, 4.0)),
    Contender("Cutout", {"method": "erm"}, each("cutout", 4, 8, 12, 16)),
)
PLAIN = CONTENDERS[0]
EARLIER = ("SBA at a convolution", "SBA at the input")
"""Of these the one that is chosen on held-out images stands for SBA at an earlier layer."""
EVERYWHERE = ("plain", "dropout", "label smoothing", "R-Drop", "SBA", "earlier", "mixup")
"""What is run in every condition; "earlier" is SBA at its best earlier layer."""
RIVALS = ("dropout", "label smoothing", "R-Drop")
"""What SBA is compared with directly: they regularise the prediction as it does, cost about the same and keep its weight decay."""
NAMED = {c.name: c for c in CONTENDERS}


@dataclass(frozen=True)
class Condition:
    """What the contenders are trained on, and how often."""

    name: str  #: for tables
    base: dict[str, Any]  #: parameters of all its runs
    n: int  #: seeds of each contender, from 0
    contenders: tuple[str, ...] = EVERYWHERE  #: their names


def few(size: int, epochs: int, **more: Any) -> dict[str, Any]:
    """Return the parameters of training on so many images, at a tenth of the rate after half of the epochs and again after ¾."""
    regime = {"epochs": epochs, "milestones": (epochs // 2, 3 * epochs // 4), "lr": 0.01}
    where = {"dataset": "cifar10", "network": "alexnet", "subset": size, "batch_size": 50, "weight_decay": 5e-4}
    return where | regime | more


TUNED = 1000
"""Training images on which configurations are chosen."""
MAIN = Condition(f"{TUNED:,} images", few(TUNED, 200), 8, tuple(NAMED))
"""The condition in which all contenders are tested."""
CONDITIONS = (
    MAIN,
    Condition("250 images", few(250, 800), 8),
    Condition("4,000 images", few(4000, 100), 5),
    Condition("40 % wrong labels", few(TUNED, 200, label_noise=0.4), 5),
    Condition("ResNet-20", few(TUNED, 200, network="resnet20", lr=0.05), 5),
    Condition("20 % wrong labels", few(TUNED, 200, label_noise=0.2), 5),
)
"""As many steps at 250 images as at 1,000, and twice as many at 4,000."""
BOTH_DECAYS = CONDITIONS[:2]
"""Where the rivals are run at the weight decay that plain training chose, too; SBA and plain training are so everywhere."""

AT_RESNET = {"conv2": "block2_3", "conv3": "block3_1"}
"""Where a layer of AlexNet is in ResNet-20: the end of the second resolution, and the first block of the third."""


def parameters(contender: Contender, number: int, condition: Condition) -> dict[str, Any]:
    """Return the parameters of a contender's configuration in a condition, without the seed."""
    found = condition.base | contender.base | contender.grid[number]
    if condition.base["network"] == "resnet20" and "layers" in found:
        found["layers"] = tuple(AT_RESNET.get(layer, layer) for layer in found["layers"])
    return found


MECHANISM_LAYERS = {"last layer": ("flatten",), "conv2": ("conv2",)}
"""Where the ablation is done: name and layers."""
MECHANISM = AT_MAPS | {"eta": 1.0}
"""Its reference: both kinds of points, Kullback–Leibler divergence from the detached prediction of the raw point, λ(t) a coin."""
INGREDIENTS: dict[str, dict[str, Any]] = {
    "SBA": {},
    "Gaussian points only": {"gaussian_share": 1.0},
    "dropout points only": {"gaussian_share": 0.0},
    "pulled to the label": {"label": "hard"},
    "prediction not detached": {"detach": False},
    "λ(t) always on": {"omega": 0.0},
}
"""SBA with one thing changed, to see which of them carries an effect: what, and the change to the reference."""
OWN_DROPOUT: dict[str, dict[str, Any]] = {
    "the network's own dropout": {"method": "erm", "feature_dropout": 0.5},
    "own dropout, two passes (R-Drop)": {"method": "r-drop", "feature_dropout": 0.5, "alpha": 1.0},
}
MECHANISM_N = 5
"""Seeds of the ablation, from 0: the first of those of :data:`MAIN`, where plain training at its weight decay stands."""


def ablated() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """List the ablation: where, what, and its parameters."""
    for what, changes in OWN_DROPOUT.items():
        yield "last layer", what, MAIN.base | changes
    for where, layers in MECHANISM_LAYERS.items():
        for what, changes in INGREDIENTS.items():
            yield where, what, MAIN.base | MECHANISM | {"layers": layers} | changes
