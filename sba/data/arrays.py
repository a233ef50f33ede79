"""A caller's own arrays as images and labels: checked, brought to 8 bits and int64, and nothing is changed in silence."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sba.core.errors import ConfigError
from sba.core.hyper import check_choice
from sba.data.in_memory import Split

Layout = Literal["NCHW", "NHWC", "NHW"]
"""The order of an array's axes: images, channels, height, width. "NHW" is grey."""
IMAGES = "give uint8, floats from 0 to 1, or uint16 from 0 to 65535"


def split_of(what: str, x: Any, y: Any, layout: Layout, classes: int) -> Split:
    """Turn images, an array, a tensor or nested lists in the order of ``layout``, and their labels, one integer for each, into a
    split; log once what was converted, of ``what`` ("train" or "test").

    Raises:
        ConfigError: dtype, range, layout or labels are not as they must be.
    """
    images, changes = images_of(x, layout)
    labels, more = labels_of(y, len(images), classes)
    if changes + more:
        # no warning: such arrays are documented input, and a program whose warnings are errors may give them
        logging.getLogger("sba").warning("Data.from_arrays: %s: %s", what, "; ".join(changes + more))
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


def images_of(x: Any, layout: Layout) -> tuple[np.ndarray, list[str]]:
    """Return images as uint8 of shape (N, C, H, W), a copy, and what was converted; arguments as for :func:`split_of`."""
    check_choice("layout", layout, Layout)
    found = array("x", x, IMAGES)
    if found.ndim != len(layout) or not found.size:
        raise ConfigError(f"x: shape {found.shape} is not allowed with layout {layout!r}; give {', '.join(layout)}")
    found = found[:, None] if layout == "NHW" else found.transpose([layout.index(axis) for axis in "NCHW"])
    if found.shape[2] != found.shape[3]:
        raise ConfigError(
            f"x: images of {found.shape[2]}×{found.shape[3]} pixels are not allowed with layout {layout!r}; give squares, "
            "or name another layout (NCHW, NHWC)"
        )
    low, high, kind, changes = found.min(), found.max(), found.dtype, []
    top = 1 if kind.kind == "f" else 0xFFFF if kind == np.uint16 else 0xFF
    # a NaN is in no range
    if not 0 <= low <= high <= top:
        raise ConfigError(f"x: {kind} from {low:g} to {high:g} is not allowed; {IMAGES}")
    if kind.kind == "f":
        changes.append(f"{kind} images rounded to 8 bits")
        found = np.rint(found * 255)
    elif kind == np.uint16:
        changes.append("16 bits scaled to 8")
        found = (found.astype(np.int32) + 128) // 257
    elif kind != np.uint8:
        changes.append(f"{kind} images taken as 8 bits")
    levels = np.array(found, dtype=np.uint8, order="C")
    if levels.max() <= 1:
        raise ConfigError(f"x: {kind} up to {high:g} is all but black; {IMAGES}")
    return levels, changes


def labels_of(y: Any, rows: int, classes: int) -> tuple[np.ndarray, list[str]]:
    """Return labels as int64, a copy, and what was converted; arguments as for :func:`split_of`."""
    fix = f"give one class for each of the {rows} images, integers in 0 … {classes - 1}"
    found = array("y", y, fix)
    if found.dtype.kind == "f" or found.shape != (rows,):
        hint = " (y.argmax(1) makes classes of one-hot rows)" if found.ndim == 2 else ""
        raise ConfigError(f"y: {found.dtype} of shape {found.shape} is not allowed; {fix}{hint}")
    if not 0 <= found.min() <= found.max() < classes:
        raise ConfigError(f"y: values from {found.min()} to {found.max()} are not allowed; {fix}")
    return found.astype(np.int64), [] if found.dtype == np.int64 else [f"{found.dtype} labels made int64"]


def array(name: str, values: Any, fix: str) -> np.ndarray:
    """Return numbers as an array on the host; raise :class:`ConfigError` if they are none."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    elif isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
        values = [array(name, value, fix) for value in values]
    try:
        found = np.asarray(values)
    except ValueError:
        raise ConfigError(f"{name}: rows of several shapes are not allowed; {fix}, all of one shape") from None
    if found.dtype.kind not in "uif":
        raise ConfigError(f"{name}: {found.dtype} is not allowed; {fix}")
    return found


def names_of(classes: Sequence[str] | int) -> tuple[str, ...]:
    """Return the names of classes, "0", "1", … if only their number is given; raise :class:`ConfigError` if there are less than
    two, or two are equal."""
    names = range(int(classes)) if isinstance(classes, int | np.integer) else classes
    found = tuple(map(str, names)) if isinstance(names, range | list | tuple | np.ndarray) else ()
    if len(found) < 2 or len(set(found)) < len(found):
        raise ConfigError(
            f"classes: {classes!r} is not allowed; give a list of two or more different names, or their number"
        )
    return found


def divided(whole: Split, share: float) -> tuple[Split, Split]:
    """Split images into those to train on and those to test on, every class alike, by a fixed permutation; raise
    :class:`ConfigError` if the share is not in (0, 1), or a class has too few images."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(whole))
    try:
        train, test = train_test_split(rows, test_size=float(share), random_state=0, stratify=whole.labels.numpy())
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"test: {share!r} is not allowed ({error}); give a share in (0, 1) that has an image of each class, or (x, y)"
        ) from error
    return whole[torch.from_numpy(np.sort(train))], whole[torch.from_numpy(np.sort(test))]


def statistics(
    given: tuple[Sequence[float], Sequence[float]], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel as they are given, checked."""
    try:
        mean, std = (tuple(float(value) for value in values) for values in given)
        fits = len(mean) == len(std) == channels and all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ConfigError(
            f"normalise: {given!r} is not allowed; give (means, standard deviations) of {channels} channels each, in [0, 1] as "
            "ImageNet's are"
        )
    return mean, std
