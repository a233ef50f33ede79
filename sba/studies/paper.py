"""The numbers of the SBA paper as data, each with its place, so that none is typed into the book.

Li et al., "Stochastic Batch Augmentation with An Effective Distilled Dynamic Soft Label Regularizer" (2020).
"""

from dataclasses import dataclass

from sba.core.errors import ConfigError

ETA_GRID = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""§4.1: the values of η searched."""


@dataclass(frozen=True)
class Reported:
    """One number of the paper."""

    dataset: str  #: as :mod:`sba.data.datasets` names it; "imagenet" for ImageNet
    network: str  #: as :mod:`sba.models.registry` names the network it is compared with
    method: str  #: "erm", "cutout", "cutout+ba" or "sba": a column of Table 1
    error: float  #: top-1 error in per cent
    folds: int | None = None  #: M, if the method has one
    place: str = "Table 1"  #: in the paper


COLUMNS = ("erm", "cutout", "cutout+ba", "sba")
"""The columns of Table 1, in its order."""

_ROWS = (
    ("cifar10", "resnet44", (6.92, 6.28, 4.56, 3.23), 40, 53.32),
    ("cifar10", "vgg16", (16.25, 6.17, 4.69, 2.73), 32, 83.20),
    ("cifar10", "alexnet", (23.88, 21.34, 20.00, 18.03), 32, 24.50),
    ("cifar100", "resnet44", (28.01, 27.04, 25.85, 24.61), 40, 12.14),
    ("cifar100", "vgg16", (38.67, 27.00, 24.69, 22.19), 32, 42.62),
    ("imagenet", "resnet50", (23.73, None, 23.16, 22.72), 4, 4.26),
    ("imagenet", "vgg16_imagenet", (23.78, None, 21.29, 19.37), 4, 18.54),
    ("imagenet", "alexnet_imagenet", (41.69, None, 37.73, 34.40), 8, 17.49),
)

TABLE1 = tuple(
    Reported(dataset, network, method, error, folds if method in ("cutout+ba", "sba") else None)
    for dataset, network, errors, folds, _ in _ROWS
    for method, error in zip(COLUMNS, errors, strict=True)
    if error is not None
)
"""Table 1: error rates. "Cutout" was not run on ImageNet there."""

RELATIVE_IMPROVEMENT = {(dataset, network): value for dataset, network, _, _, value in _ROWS}
"""Table 1, last column: (baseline − SBA) / baseline in per cent."""

QUOTED_GAINS = (1.96, 3.44)
"""§4.4: what it calls the gains of Cutout + BA and of Cutout against the baseline, in percentage points (open point 25)."""

ADOPTED_ETA = {
    ("cifar10", "alexnet"): 0.01,
    ("cifar10", "resnet44"): 0.01,
    ("cifar10", "vgg16"): 0.1,
    ("cifar100", "resnet44"): 0.1,
    ("cifar100", "vgg16"): 0.1,
}
"""§4.2: the η adopted for each row."""


PUBLISHED_ELSEWHERE = (
    Reported("cifar10", "resnet44", "erm", 7.17, place="He et al. (2016), quoted by akamaster/pytorch_resnet_cifar10"),
    Reported("cifar10", "resnet44", "erm", 5.99, place="chenyaofo/pytorch-cifar-models"),
    Reported("cifar10", "vgg16", "erm", 7.36, place="kuangliu/pytorch-cifar"),
    Reported("cifar10", "vgg16", "erm", 5.84, place="chenyaofo/pytorch-cifar-models"),
    Reported("cifar10", "alexnet", "erm", 22.78, place="bearpaw/pytorch-classification"),
    Reported("cifar100", "resnet44", "erm", 28.37, place="chenyaofo/pytorch-cifar-models"),
    Reported("cifar100", "vgg16", "erm", 27.07, place="weiaicunzai/pytorch-cifar100"),
    Reported("cifar100", "vgg16", "erm", 26.00, place="chenyaofo/pytorch-cifar-models"),
)
"""Errors of plain training (crop and flip) that others state for the same networks; ``place`` is the README that states it."""


def stated(dataset: str, network: str, method: str) -> Reported:
    """Return the paper's number in Table 1; raise :class:`ConfigError` if it has none.

    >>> stated("cifar10", "alexnet", "sba").error
    18.03
    """
    if (found := reported(dataset, network, method)) is None:
        raise ConfigError(f"method: Table 1 has no {method!r} for {dataset}/{network}; give one of its columns")
    return found


def reported(dataset: str, network: str, method: str) -> Reported | None:
    """Return the paper's number in Table 1, or None if it has none."""
    return next((r for r in TABLE1 if (r.dataset, r.network, r.method) == (dataset, network, method)), None)


def stated_difference(dataset: str, network: str, method: str = "sba") -> float | None:
    """Return the difference in error between a method and plain training that the paper states for a row of Table 1, in points;
    None if it states none."""
    own, base = (reported(dataset, network, name) for name in (method, "erm"))
    return own.error - base.error if own and base else None
