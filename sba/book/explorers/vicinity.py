"""The explorer of the vicinity: a cloud of virtual points on a plane, and one in a layer."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sba.book import style
from sba.book.widgets import Explorer, Picture, packed, slider
from sba.core.bases import basis
from sba.core.feature_std import batch_variance
from sba.core.hyper import choices, definitions
from sba.data.augment import normalise
from sba.data.datasets import load
from sba.methods import SBA

HINT = (
    "The views zoom with the Gaussian points, by factors of two; read their size at the axes. Lower τ/σ to its end and "
    "change Σ: on the plane the bound is a square that Σ turns or shears, in the layer its shape is lost. Then compare the two "
    "kinds of points: which lie nearer, and does σ or the dropout rate decide it?"
)
ALT = (
    "Two clouds of virtual points around a raw point, which follow the sliders: on a plane of two features with the outline of the "
    "bound, and in a layer of many features, projected on its two widest directions. Both views zoom with the cloud."
)
FOLDS = 160
NAMES = ("sigma", "tau", "gaussian_share", "dropout_rate", "basis", "bound")


def vicinity(activations: Tensor | None = None, name: str = "input", seed: int = 0, **first: Any) -> Explorer:
    """Explore the virtual points around one sample (Eqs. 5 to 8), on a plane and in a layer.

    Args:
        activations: of the layer, shape (B, Q); the first row is surrounded, and σ counts in the spread over all rows. None for
            the pixels of the digits.
        name: what to call the layer.
        seed: of all draws.
        first: where sliders start, by the name of the hyper-parameter; what is left out starts at its default.
    """
    if activations is None:
        data = load("digits")
        activations = normalise(data.resident[1].images[:400], data.mean, data.std).flatten(1)
    h = activations.detach().double().cpu()
    generator = torch.Generator().manual_seed(seed)
    plane = draws(torch.tensor([[1.4, 0.7]], dtype=torch.float64), torch.ones(2), generator)
    layer = draws(h, batch_variance(h).sqrt(), generator) | projection(h) | {"name": name}
    controls = {field: slider(SBA, field, first.get(field)) for field in NAMES}
    bounds = choices(definitions(SBA)["bound"])
    drawn = {"plane": plane, "layer": layer, "folds": FOLDS, "bounds": list(bounds)}
    return Explorer(Picture("vicinity", drawn, ALT, HINT, controls), still(h, seed, **first))


def draws(h: Tensor, spread: Tensor, generator: torch.Generator) -> dict:
    """Draw what makes the points around the first row of ``h``: uniform numbers for noise and masks, and a Σ of each kind."""
    width = h.shape[1]
    uniforms, masks = (torch.rand(FOLDS, width, generator=generator) for _ in range(2))
    matrices = [packed(basis(kind, width, generator).matrix(width)) for kind in choices(definitions(SBA)["basis"])]
    arrays = {"h": h[0], "uniforms": uniforms.clamp(1e-6, 1 - 1e-6), "masks": masks, "spread": spread}
    return {**{name: packed(values) for name, values in arrays.items()}, "matrices": matrices}


def projection(h: Tensor) -> dict:
    """Return the plane of the two widest directions, with the other rows on it."""
    centre = h.mean(0)
    view = torch.linalg.svd(h - centre, full_matrices=False).Vh[:2].T
    flat = ((h - centre) @ view).numpy()
    return {
        "view": [[float(v) for v in row] for row in view],
        "centre": centre.tolist(),
        "others": [[round(float(v), 3) for v in row] for row in flat[1:300]],
        "apart": float((h[1:] - h[0]).norm(dim=1).mean()),
    }


def still(h: Tensor, seed: int, **first: Any) -> Figure:
    """Draw the first state for readers without scripts, with points of the method's own."""
    style.use()
    method = SBA(folds=FOLDS, **first)
    generator = torch.Generator().manual_seed(seed)
    centre = h.mean(0)
    view = torch.linalg.svd(h - centre, full_matrices=False).Vh[:2].T
    plane = torch.tensor([[1.4, 0.7]], dtype=torch.float64)
    fig, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.4))
    clouds = {
        "two features": (plane, method.vicinity.sample(plane, generator, torch.ones(2))),
        f"{h.shape[1]} features, principal plane": (
            (h[:1] - centre) @ view,
            (method.virtual_points(h, generator).unflatten(0, (FOLDS, -1))[:, 0] - centre) @ view,
        ),
    }
    axes[1].plot(*((h[1:300] - centre) @ view).T.numpy(), ".", color=style.PALE, ms=4)
    p = method.vicinity.gaussian
    for axis, (text, (raw, points)) in zip(axes, clouds.items(), strict=True):
        points = np.asarray(points)
        axis.plot(*points[p:].T, "x", color=style.colour("ba"), ms=4, label="dropout points")
        axis.plot(*points[:p].T, ".", color=style.colour("sba"), ms=4, label="Gaussian points")
        axis.plot(*np.asarray(raw).T, "o", mfc="none", mec=style.INK, mew=2, ms=10, label="raw point")
        axis.set(title=text, xlabel="first coordinate", ylabel="second coordinate")
    axes[0].legend(loc="lower left")
    return fig
