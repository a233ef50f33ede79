"""Fewer training images, and wrong labels: what a study of little data draws from a training set."""

import dataclasses

import torch
from torch import Tensor

from sba.core.errors import DataError
from sba.core.hyper import configuration, hyper
from sba.core.rng import fold_in
from sba.data.in_files import Stream
from sba.data.in_memory import Split


@configuration
class Draw:
    """Which training images are kept, and which of their labels are wrong: a pure function of these three numbers. One that is out
    of range is a :class:`sba.core.errors.ConfigError`.

    >>> from sba import load
    >>> few = load("digits", draw=Draw(subset=100, number=3))
    >>> len(few.train), len(few.test)
    (100, 599)
    """

    subset: int = hyper(0, "training images, every class in its share; 0 for all", ge=0)
    label_noise: float = hyper(0.0, "share of their labels that become another class", ge=0, le=1)
    number: int = hyper(0, "another number draws other images, and other labels", ge=0, lt=2**63)

    def __call__(self, split: Split | Stream, classes: int) -> Split | Stream:
        """Draw from a training set of so many classes, and keep the order of its images; raise :class:`DataError` if it has not so
        many images, or a class would have none."""
        if self.subset and self.subset != len(split):
            split = split[chosen(split.labels, self.subset, self.number)]
        return dataclasses.replace(split, labels=relabelled(split.labels, self.label_noise, classes, self.number))


def chosen(labels: Tensor, size: int, number: int) -> Tensor:
    """Return the rows of a random subset in which every class has its share, in their order; errors as for :class:`Draw`."""
    from sklearn.model_selection import train_test_split

    try:
        rows, _ = train_test_split(
            range(len(labels)), train_size=size, stratify=labels, random_state=fold_in(number, "subset") % 2**32
        )
    except ValueError as error:
        fewest = len(labels.unique())
        raise DataError(
            f"subset: {size} of {len(labels)} training images cannot be drawn ({error}); give {fewest} … {len(labels)}"
        ) from error
    return torch.tensor(sorted(rows))


def relabelled(labels: Tensor, share: float, classes: int, number: int) -> Tensor:
    """Return labels of which a share, rounded to whole images, is another class, each with equal probability (symmetric noise)."""
    generator = torch.Generator().manual_seed(fold_in(number, "label noise"))
    wrong = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    found = labels.clone()
    found[wrong] = (found[wrong] + torch.randint(1, classes, (len(wrong),), generator=generator)) % classes
    return found
