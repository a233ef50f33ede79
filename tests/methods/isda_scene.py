"""ISDA by loops and by numpy, features to try it on, and a watch over large tensors."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sba.methods.isda import Moments

FORMS = ("full", "diagonal")
forms = pytest.mark.parametrize("form", FORMS)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def direct_logits(logits, labels, weight, covariance, strength):
    """The authors' computation on CIFAR: a product of shape (N, C, C) of which only the diagonal is used."""
    differences = weight - weight[labels][:, None]
    spread = differences @ covariance[labels] @ differences.transpose(1, 2)
    return logits + strength / 2 * spread.diagonal(dim1=1, dim2=2)


def quadratic_form(weight, covariance, y, c):
    """(w_c − w_y)ᵀ Σ_y (w_c − w_y), with the sums written out."""
    difference = [a - b for a, b in zip(weight[c], weight[y], strict=True)]
    total = 0.0
    for a, u in enumerate(difference):
        for b, v in enumerate(difference):
            total += u * covariance[y][a][b] * v
    return total


def by_class(h, labels, classes, form):
    """numpy's mean and covariance of each class; zeros where it has no sample."""
    h, labels = np.asarray(h, dtype=np.float64), np.asarray(labels)
    width = h.shape[1]
    means, covariances = np.zeros((classes, width)), np.zeros((classes, width, width))
    for c in range(classes):
        group = h[labels == c]
        if len(group):
            means[c] = group.mean(0)
            covariances[c] = np.cov(group, rowvar=False, bias=True).reshape(width, width)
    counts = np.bincount(labels, minlength=classes)
    return counts, means, covariances if form == "full" else np.diagonal(covariances, axis1=1, axis2=2)


def differing(found, expected, **tolerance):
    """Names of the moments that differ in shape or by more than the tolerance, with both values."""
    return [
        (name, a, b)
        for name, a, b in zip(Moments._fields, map(np.asarray, found), map(np.asarray, expected), strict=True)
        if a.shape != b.shape or not np.allclose(a, b, **(tolerance or EXACT))
    ]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(rows, width=4, classes=5, seed=0, offset=3.0):
    """Features whose mean and covariance differ by class, and labels of which the last class has none."""
    labels = torch.randint(classes - 1, (rows,), generator=torch.Generator().manual_seed(seed + 1))
    mix = normal(classes, width, width, seed=seed + 2)
    h = (mix[labels] @ normal(rows, width, 1, seed=seed + 3)).squeeze(2)
    return offset * normal(classes, width, seed=seed + 4)[labels] + h, labels


def covariances(classes, width, form="full", seed=7):
    root = normal(classes, width, width, seed=seed)
    full = root @ root.transpose(1, 2) / width
    return full if form == "full" else full.diagonal(dim1=1, dim2=2)


def as_full(covariance):
    return covariance if covariance.ndim == 3 else torch.diag_embed(covariance)


def buffers(module):
    return module.count, module.mean, module.covariance


class Largest(TorchDispatchMode):
    """Record the largest tensor that any operation puts out."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        parts = out if isinstance(out, (tuple, list)) else (out,)
        self.numbers = max([self.numbers, *(part.numel() for part in parts if isinstance(part, torch.Tensor))])
        return out
