"""How a network's predictions agree with people's.

CIFAR-10H (Peterson et al., 2019) holds what about fifty people saw in each test image of CIFAR-10.
"""

import io
import pathlib
import zipfile

import numpy as np
import torch
from torch import Tensor

from sba.core.errors import ConfigError, DataError

FILE = "cifar10h-probs.npy"
"""Shares of the classes that people chose, in the order of CIFAR-10's test set."""
PLACES = (FILE, f"cifar10h/{FILE}", f"data/{FILE}")
ARCHIVE = "cifar10h.zip"


def find(root: pathlib.Path | None) -> pathlib.Path | None:
    """Return the file with the distributions, or the archive with it, in the folder of the data sets; None if there is none."""
    if root is None:
        return None
    return next((root / name for name in (*PLACES, ARCHIVE) if (root / name).is_file()), None)


def read(root: pathlib.Path | None) -> Tensor:
    """Read the distributions, float64 of shape (10000, 10) in the order of CIFAR-10's test set, from ``cifar10h-probs.npy``,
    ``cifar10h/cifar10h-probs.npy`` or ``cifar10h.zip`` in a folder.

    Raises:
        DataError: it is missing, or is something else.
    """
    path = find(root)
    if path is None:
        raise DataError(
            f"data_root: {root} holds neither {' nor '.join(PLACES[:2])} nor {ARCHIVE}; copy CIFAR-10H there"
        )
    try:
        content = path.read_bytes()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                name = next((n for n in archive.namelist() if pathlib.PurePath(n).name == FILE), FILE)
                content = archive.read(name)
        shares = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"data_root: {path} cannot be read ({error}); copy it anew") from error
    if shares.shape != (10_000, 10) or shares.min() < 0 or not np.allclose(shares.sum(1), 1, atol=1e-6):
        raise DataError(f"data_root: {path} holds no 10000 distributions over 10 classes; copy it anew")
    return torch.from_numpy(shares.astype(np.float64))


def cross_entropy(people: Tensor, logits: Tensor) -> float:
    """Return the mean of −Σ_c p_c log Y_c in nats: how surprised people's answers leave the network.

    Distributions p and logits of Y have shape (N, C); :class:`ConfigError` says that they differ, or that there is no image.
    """
    if people.shape != logits.shape or not len(logits):
        raise ConfigError(
            f"people: shape {tuple(people.shape)} does not fit logits of shape {tuple(logits.shape)}; give (N, C) for both"
        )
    return -(people.double() * logits.double().log_softmax(1)).sum(1).mean().item()


def divergence(people: Tensor, logits: Tensor) -> float:
    """Return the mean D_KL(p ‖ Y) in nats: the cross-entropy less the mean entropy of p; arguments as for :func:`cross_entropy`."""
    return cross_entropy(people, logits) - torch.special.entr(people.double()).sum(1).mean().item()
