"""The explorer of the soft label: one sample's prediction, its virtual points', and the weight of their divergence."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from sba.book import style
from sba.book.widgets import Explorer, Picture, choice, packed, slider
from sba.core.bases import basis
from sba.core.divergence import kl
from sba.core.errors import ConfigError
from sba.core.feature_std import batch_variance
from sba.core.staged import Staged
from sba.data.augment import normalise
from sba.data.datasets import Data
from sba.methods import SBA

HINT = (
    "Choose a sample and raise η: for which one does the second term outweigh the first? Then move σ and the dropout rate, and "
    "watch which classes the virtual points leak into."
)
ALT = (
    "Left: the probabilities that the network gives one sample as bars, those for its virtual points as dots and crosses. Right: "
    "the sample's cross-entropy, and η times the mean divergence against σ, on a logarithmic axis with the chosen σ marked."
)
FOLDS = 64
FIELDS = ("sigma", "dropout_rate", "gaussian_share", "eta")


def soft_label(network: Staged, data: Data, samples: Mapping[str, int], seed: int = 0, **first: Any) -> Explorer:
    """Explore Y_i, its neighbours' Y_ij, and η·KL against the cross-entropy at the input of the last linear layer (Eqs. 10, 11).

    Args:
        network: trained; it must end in a linear layer.
        data: whose test images are shown; σ counts in the spread over its first thousand.
        samples: name → index among the test images.
        seed: of the virtual points.
        first: where sliders start, by the name of the hyper-parameter.

    Raises:
        ConfigError: the network ends in something else.
    """
    last = network[-1]
    if not isinstance(last, nn.Linear):
        raise ConfigError(f"network: it ends in {network.stages[-1]!r}; give one that ends in a linear layer")
    network.eval()
    images = normalise(data.resident[1].images, data.mean, data.std)
    with torch.no_grad():
        features = network(images[:1000], until=network.stages[-2]).flatten(1).double().cpu()
        chosen = network(images[list(samples.values())], until=network.stages[-2]).flatten(1).double().cpu()
    generator = torch.Generator().manual_seed(seed)
    width, labels = features.shape[1], data.test.labels[list(samples.values())].tolist()
    uniforms, masks = (torch.rand(FOLDS, width, generator=generator) for _ in range(2))
    arrays = {
        "weight": last.weight.detach().cpu(),
        "bias": last.bias.detach().cpu(),
        "uniforms": uniforms.clamp(1e-6, 1 - 1e-6),
        "masks": masks,
        "matrix": basis(SBA().basis, width, generator).matrix(width),
        "spread": batch_variance(features).sqrt(),
    }
    shown = [{"h": packed(h), "label": label} for h, label in zip(chosen, labels, strict=True)]
    packed_arrays = {name: packed(values) for name, values in arrays.items()}
    about = {"samples": shown, "folds": FOLDS, "tau": SBA().tau, "classes": list(data.classes)}
    names = [f"{name} ({data.classes[label]})" for name, label in zip(samples, labels, strict=True)]
    controls = {"sample": choice("sample", names, tooltip="test image, with its label")}
    controls |= {field: slider(SBA, field, first.get(field)) for field in FIELDS}
    picture = Picture("soft_label", packed_arrays | about, ALT, HINT, controls)
    # σ counts in the spread over the batch that the sample is put in front of
    batch = torch.cat([chosen[:1], features])
    return Explorer(picture, still(batch, labels[0], last, data.classes, seed, **first))


def still(
    batch: torch.Tensor, label: int, last: nn.Linear, classes: tuple[str, ...], seed: int, **first: Any
) -> Figure:
    """Draw the first state for readers without scripts, with points of the method's own."""
    style.use()
    method = SBA(folds=FOLDS, **first)
    weight, bias = (t.detach().double().cpu() for t in (last.weight, last.bias))
    points = method.virtual_points(batch, torch.Generator().manual_seed(seed)).unflatten(0, (FOLDS, -1))[:, 0]
    raw, virtual = batch[0] @ weight.T + bias, points @ weight.T + bias
    p, at = method.vicinity.gaussian, np.arange(len(classes))
    fig, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.2), width_ratios=[1.6, 1])
    left.bar(at, raw.softmax(0), color=style.PALE)
    left.plot(at - 0.2, virtual[:p].softmax(1).T, ".", color=style.colour("sba"), ms=3)
    left.plot(at + 0.2, virtual[p:].softmax(1).T, "x", color=style.colour("ba"), ms=3)
    left.set(xticks=at, xticklabels=classes, xlabel="class", title=f"probability; the label is {classes[label]}")
    terms = [-raw.log_softmax(0)[label].item(), method.eta * kl(raw, virtual).mean().item()]
    right.bar(["cross-entropy", "η · mean KL"], terms, color=[style.INK, style.colour("sba")])
    right.set(yscale="log", title="nats")
    return fig
