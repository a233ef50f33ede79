"""The paper's Table 1 and Figures 2 and 3 as lists of runs, with what the paper says of them.

What the paper leaves open has the defaults of ``book/decisions.md``. Methods that are compared share the regime of the network.
"""

from collections.abc import Iterator
from typing import Any

from sba.studies.paper import ADOPTED_ETA, ETA_GRID, stated
from sba.studies.planned import Setting, Study
from sba.training.run import REGIMES

ROWS = (
    ("cifar10", "alexnet"),
    ("cifar10", "resnet44"),
    ("cifar10", "vgg16"),
    ("cifar100", "resnet44"),
    ("cifar100", "vgg16"),
)
"""The rows of Table 1 on CIFAR, the cheapest first."""

KNOWN = {("cifar10", "alexnet"): frozenset({0, 1, 2})}
"""Seeds whose results were known before the number of runs was fixed. They prompted further ones, and no test counts both."""
SEEDS = 8
"""Of every setting: beside the known ones the five that a verdict needs at least."""

HOLDOUT = 5000
"""Training images held out to choose η on (open point 26)."""

LAYERS = {
    # conv5 ends in maps of one pixel: the same numbers as flatten, and the same run bit for bit
    ("cifar10", "alexnet"): ("conv1", "conv2", "conv3", "conv4", "flatten"),
    ("cifar10", "vgg16"): ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "flatten", "fc1", "fc2"),
}
"""The layers k along the axis of Figure 3, which is drawn for VGG-16; AlexNet is far cheaper and comes first."""
WIDE = ("conv1_2", "conv2_2")
"""Those with too many features for a dense Σ; they get the structured one that mixes all features, too."""
FOLDS = (4, 32)
"""M of Figure 3: the cheap one for every layer first, then that of Table 1."""


SMALL_COPIES = {"alexnet": 4}
"""M of Batch Augmentation where a processor can do it, before that of Table 1."""


def row(dataset: str, network: str, **more: Any) -> dict[str, Any]:
    """Return the parameters that the runs of a row share."""
    return {"dataset": dataset, "network": network, **more}


def published(dataset: str, network: str) -> dict[str, Any]:
    """Return the η that the paper adopts for a row (§4.2) and the M of its Table 1."""
    return {"eta": ADOPTED_ETA[dataset, network], "folds": stated(dataset, network, "sba").folds}


def table1_core(dataset: str, network: str) -> Iterator[dict[str, Any]]:
    """List the runs that answer the paper's question: with and without SBA, with and without Cutout, and the limit M → ∞."""
    own = published(dataset, network)
    yield row(dataset, network, method="erm")
    yield row(dataset, network, method="sba", **own)
    yield row(dataset, network, method="erm", cutout="auto")
    yield row(dataset, network, method="sba", cutout="auto", **own)
    yield row(dataset, network, method="implicit-sba", eta=own["eta"])


def table1_relatives(dataset: str, network: str) -> Iterator[dict[str, Any]]:
    """List the relatives, each as its authors set it."""
    own = published(dataset, network)
    # a covariance of 4096 features for each class is 6.7 GB at 100 classes
    form = {"form": "diagonal"} if network == "vgg16" else {}
    for method in ("mixup", "manifold-mixup", "k-mixup", "decoupled"):
        yield row(dataset, network, method=method)
    yield row(dataset, network, method="r-drop", feature_dropout=0.5, alpha=0.6)
    yield row(dataset, network, method="isda", **form)
    yield row(dataset, network, method="sba+isda", **own, **form)


def table1_costly(dataset: str, network: str) -> Iterator[dict[str, Any]]:
    """List what costs several times a plain run: balls at the input, and Batch Augmentation with few copies and with the M of
    Table 1."""
    yield row(dataset, network, method="bamboo")
    if network in SMALL_COPIES:
        yield row(dataset, network, method="erm", cutout="auto", views=SMALL_COPIES[network])
    yield row(dataset, network, method="erm", cutout="auto", views=published(dataset, network)["folds"])


def table1() -> Iterator[Setting]:
    """List Table 1's runs on CIFAR: what the paper's claim needs in every row, then the relatives, then what is costly."""
    for part in (table1_core, table1_relatives, table1_costly):
        for dataset, network in ROWS:
            yield from map(Setting, part(dataset, network))


def fig2() -> Iterator[Setting]:
    """List Figure 2's runs: η on held-out images, which chooses it, and then on the test set, which the paper plots.

    η = 0 is plain training. A run of Table 1 is recorded as such.
    """
    for dataset, network in ROWS:
        for holdout in (HOLDOUT, 0):
            for eta in ETA_GRID:
                of_table = not holdout and eta in (0, ADOPTED_ETA[dataset, network])
                yield Setting(eta_parameters(dataset, network, eta, holdout), "" if of_table else "fig2")


def eta_parameters(dataset: str, network: str, eta: float, holdout: int = HOLDOUT) -> dict[str, Any]:
    """Return the parameters of a run of Figure 2; η = 0 is plain training."""
    at = row(dataset, network, **({"holdout": holdout} if holdout else {}))
    if eta == 0:
        return at | {"method": "erm"}
    return at | {"method": "sba"} | published(dataset, network) | {"eta": eta}


def fig3() -> Iterator[Setting]:
    """List Figure 3's runs: SBA and Batch Augmentation at each layer, and Batch Augmentation of images, beside plain training."""
    for (dataset, network), layers in LAYERS.items():
        eta = published(dataset, network)["eta"]
        yield Setting(row(dataset, network, method="erm"))
        for folds in FOLDS:
            # the deepest layers first: they are the cheapest
            for layer in reversed(layers):
                at = {"layers": (layer,), "folds": folds} | ({"basis": "hadamard"} if layer in WIDE else {})
                yield Setting(row(dataset, network, method="sba", eta=eta, **at), "fig3")
                yield Setting(row(dataset, network, method="sba", preset="latent-ba", **at), "fig3")
            yield Setting(row(dataset, network, method="erm", views=folds), "fig3")


def vgg_baseline() -> Iterator[Setting]:
    """List VGG-16 with and without crop and flip, with and without batch normalisation: which errs as the paper's does?"""
    for network in ("vgg16", "vgg16_plain"):
        for plain in ({}, {"padding": 0, "flip": False}):
            own = network == "vgg16" and not plain
            yield Setting(row("cifar10", network, method="erm", **plain), "" if own else "vgg-baseline")


TABLE1 = Study(
    "table1-cifar", "Table 1 on CIFAR: the paper's columns, the limit of SBA, the relatives", table1, seeds=SEEDS
)
FIG2 = Study("fig2", "Figure 2: η, on held-out images and on the test set", fig2, seeds=SEEDS)
FIG3 = Study("fig3", "Figure 3: SBA and Batch Augmentation at several layers", fig3, seeds=SEEDS)
VGG_BASELINE = Study(
    "vgg-baseline",
    "the paper's baseline of VGG-16: with and without augmentation and batch normalisation",
    vgg_baseline,
    seeds=3,
)


IMAGENET_ROWS = ("alexnet_imagenet", "resnet50", "vgg16_imagenet")
"""Networks of Table 1's rows on ImageNet, the cheapest first."""
NOT_GIVEN_ETA = 0.1
"""η on ImageNet, for which the paper gives none: what it adopts for its larger problems (§4.2)."""
SMALL_SIDE, SMALL_BATCH, SMALL_SEEDS = 112, 64, 5
"""Pixels of a crop and images per step of the runs on ten classes, and the seeds of the network that has several."""
SMALL_EPOCHS = {"alexnet_imagenet": 30, "resnet50": 20, "vgg16_imagenet": 8}
"""Their epochs, network by network: what two cores do in a day. The milestones are ImageNet's, in proportion."""
SMALL_VIEWS = {"alexnet_imagenet": 2}
"""M of Batch Augmentation beside, if the network is cheap enough for it."""


def imagenet_row(network: str, dataset: str = "imagenet", **more: Any) -> Iterator[dict[str, Any]]:
    """List the columns of a row on ImageNet: plain training, SBA, and Batch Augmentation with the same M."""
    folds = stated("imagenet", network, "sba").folds
    yield row(dataset, network, method="erm", **more)
    # a dense Σ for 25,088 features would be 2.5 GB
    yield row(dataset, network, method="sba", eta=NOT_GIVEN_ETA, folds=folds, basis="hadamard", **more)
    yield row(dataset, network, method="erm", views=folds, **more)


def table1_imagenet() -> Iterator[Setting]:
    """List Table 1's runs on ImageNet, as torchvision's references train."""
    for network in IMAGENET_ROWS:
        yield from map(Setting, imagenet_row(network))


def imagenette() -> Iterator[Setting]:
    """List the rows on ten of the classes, from fresh weights, at crops and in epochs that a processor can do."""
    for network in IMAGENET_ROWS:
        regime = REGIMES[network]
        # the rate goes with the batch (Goyal et al., 2017) if batch normalisation allows the large one
        rate = regime.lr * SMALL_BATCH / regime.batch_size if network == "resnet50" else regime.lr
        small = {
            "side": SMALL_SIDE,
            "batch_size": SMALL_BATCH,
            "epochs": SMALL_EPOCHS[network],
            "lr": rate,
            "amp": "bf16",
        }
        small |= {} if network in SMALL_VIEWS else {"seed": 0}
        plain, sba, ba = imagenet_row(network, "imagenette", **small)
        views = [ba | {"views": SMALL_VIEWS[network]}] if network in SMALL_VIEWS else []
        for parameters in (plain, sba, *views):
            yield Setting(parameters, "imagenette")


TABLE1_IMAGENET = Study(
    "table1-imagenet", "Table 1 on ImageNet: plain training, SBA, Batch Augmentation", table1_imagenet, seeds=1
)
IMAGENETTE = Study(
    "imagenette", "the ImageNet rows on ten of the classes, in a regime of their own", imagenette, seeds=SMALL_SEEDS
)
