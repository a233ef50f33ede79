"""The comparisons that ``make bench`` makes, and their records."""

import dataclasses
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.spatial import distance_matrix
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from sba.bench.epochs import WANTED, epochs
from sba.bench.timing import (
    BATCH,
    RandomImages,
    Ratio,
    expected_cost,
    in_turns,
    on_device,
    ratio,
    step_costs,
    steps_of,
    timed,
)
from sba.core.errors import ConfigError
from sba.methods import SBA
from sba.methods.isda import isda_logits, quadratic_table
from sba.methods.kmixup import pairs as k_mixup_pairs
from sba.models.registry import build
from sba.records.file import append
from sba.records.record import identified, provenance
from sba.training.loop import Training
from sba.training.machine import Machine
from sba.training.run import make_run

FAMILIES = ("loop", "step", "folds", "layers", "relatives", "import", "epochs")
ALWAYS = {"omega": 0.0}
"""λ(t) = 1 at every step."""
RELATIVES: dict[str, tuple[dict[str, Any], float | None]] = {
    "cutout": ({"cutout": 16}, None),
    "mixup": ({"method": "mixup"}, 1.05),
    "manifold-mixup": ({"method": "manifold-mixup"}, None),
    "k-mixup": ({"method": "k-mixup"}, None),
    "decoupled": ({"method": "decoupled"}, 1.05),
    "isda": ({"method": "isda"}, 1.05),
    "bamboo": ({"method": "bamboo"}, None),
    "sba+isda": (ALWAYS | {"method": "sba+isda", "folds": 40}, None),
    "latent-ba": ({"method": "sba", "preset": "latent-ba", "folds": 40}, None),
    "ba": ({"views": 4}, None),
    "ba, chunked": ({"views": 4, "chunked": True}, None),
}
"""What is compared with a plain step: its parameters, and what it should cost at most."""
FOLDS = (1, 2, 4, 8, 16, 40, 80)
RESNET_LAYERS = ("conv1", "block1_4", "block2_1", "block2_4", "block3_1", "block3_4", "pool")
ALEXNET_LAYERS = ("conv1", "conv2", "conv3", "conv4", "flatten")
VGG_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1", "flatten", "fc2")
PREFETCHED = 4
"""Batches that two loader workers have ready before a round begins: they are used up outside the timed part."""


def plain_loop(images: RandomImages, network: str, workers: int = 2) -> Iterator[None]:
    """Train as most public code does: eager, contiguous tensors, default SGD, a DataLoader; one step at each ``next``."""
    model = build(network, 10, 3, 32)
    run = make_run("cifar10", network)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, run.momentum, weight_decay=run.weight_decay)
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True)
    while True:
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield


def matmul_gflops(side: int = 2048, repetitions: int = 5) -> float:
    """Return the arithmetic speed of a large matrix product in GFLOP/s: the ceiling that convolutions can be held against."""
    a = torch.randn(side, side)
    return 2 * side**3 / min(timed(lambda: a @ a, 1) for _ in range(repetitions + 1)) / 1e9


def step_gflop(step: Callable[[], Any]) -> float:
    """Count the floating-point operations of the matrix products and convolutions of one step, in GFLOP."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def against_loader(network: str, rounds: int, steps: int, amp: str = "none") -> Ratio:
    """Images per second of this project's loop over the plain loop's with two DataLoader workers.

    Everything that differs counts together: memory order, the optimiser's kernel, augmentation on tensors, no loader.
    """
    images = RandomImages(BATCH * 100)
    plain = plain_loop(images, network)
    ours = steps_of(Training(make_run("cifar10", network, batch_size=BATCH, amp=amp), on_device(images)))
    gflop = step_gflop(ours)
    slow, fast, ceiling = [], [], []
    for _ in range(rounds):
        ceiling.append(matmul_gflops())
        timed(lambda: next(plain), PREFETCHED)
        slow.append(timed(lambda: next(plain), steps))
        ours()
        fast.append(timed(ours, steps))
    details = {
        "plain images/s": BATCH / statistics.median(slow),
        "ours images/s": BATCH / statistics.median(fast),
        "plain GFLOP/s": gflop / statistics.median(slow),
        "ours GFLOP/s": gflop / statistics.median(fast),
        "matmul GFLOP/s": statistics.median(ceiling),
        "threads": float(torch.get_num_threads()),
    }
    name = f"{network} ({amp}): speed of our loop over a plain loop with 2 workers"
    return ratio(name, slow, fast, details, family="loop", network=network, method="erm", amp=amp)


def at_last_layer(
    network: str, folds: int, omega: float, pairs: int, limits: tuple[float | None, float | None] = (None, None)
) -> list[Ratio]:
    """Cost of a step of SBA and of its limit M → ∞ at the last fully connected layer; ``limits`` are for the one and the other."""
    last = build(network, 10, 3, 32).linear_inputs[-1]
    at = {"layer": last, "basis": SBA().basis}
    entrants: list[tuple[str, dict[str, Any], dict[str, Any], float | None]] = [
        (
            f"M={folds}, layer {last}",
            {"method": "sba", "folds": folds, "layers": (last,)},
            at,
            limits[0],
        ),
        ("M → ∞, second order", {"method": "implicit-sba", "expectation": "second_order"}, {}, limits[1]),
        ("M → ∞, bound", {"method": "implicit-sba", "expectation": "bound"}, {"variant": "bound"}, limits[1]),
    ]
    plain, augmented = step_costs(network, {name: ALWAYS | given for name, given, *_ in entrants}, pairs)
    found = []
    for name, given, about, limit in entrants:
        about |= {"family": "step", "network": network} | {k: given[k] for k in ("method", "folds") if k in given}
        found.append(expected_cost(f"{network}: SBA step ({name})", augmented[name], plain, omega, **about))
        found[-1] = dataclasses.replace(found[-1], limit=limit)
    return found


def against_folds(network: str, folds: Sequence[int], pairs: int) -> list[Ratio]:
    """Cost of an augmented step at the last fully connected layer against M."""
    last = build(network, 10, 3, 32).linear_inputs[-1]
    contestants = {str(m): ALWAYS | {"method": "sba", "folds": m, "layers": (last,)} for m in folds}
    plain, augmented = step_costs(network, contestants, pairs)
    about = {"family": "folds", "network": network, "method": "sba", "layer": last, "basis": SBA().basis}
    return [
        expected_cost(f"{network}: cost, M={m}, layer {last}", augmented[str(m)], plain, 0.0, **about, folds=m)
        for m in folds
    ]


def against_layers(network: str, layers: Sequence[str], folds: int, batch: int, pairs: int) -> list[Ratio]:
    """Cost of an augmented step against the layer, with the basis that fits every one of them."""
    found = []
    about = {"family": "layers", "network": network, "method": "sba", "folds": folds, "basis": "hadamard"}
    for layer in layers:
        given = ALWAYS | {"method": "sba", "folds": folds, "layers": (layer,), "basis": "hadamard"}
        plain, augmented = step_costs(network, {layer: given}, pairs, batch)
        name = f"{network}: cost, layer {layer}, M={folds}, B={batch}, Hadamard"
        found.append(expected_cost(name, augmented[layer], plain, 0.0, **about, layer=layer))
    return found


def of_relatives(network: str, pairs: int, limited: bool = False, **isda: Any) -> list[Ratio]:
    """Cost of a step of each relative with its defaults.

    Args:
        network: trained on random images of CIFAR's shape.
        pairs: steps of each, and of the plain one.
        limited: whether to hold the costs against their limits, which are for ResNet-44.
        isda: settings of the methods that keep covariances.
    """
    contestants = {name: given | (isda if "isda" in name else {}) for name, (given, _) in RELATIVES.items()}
    plain, times = step_costs(network, contestants, pairs)
    details = {"plain ms": 1e3 * statistics.median(plain)}
    found = []
    for name, (_, limit) in RELATIVES.items():
        method, _, variant = name.partition(", ")
        about = {"family": "relatives", "network": network, "method": method, "variant": variant}
        one = ratio(f"{network}: {name} step over a plain step", times[name], plain, details, **about)
        found.append(dataclasses.replace(one, limit=limit if limited else None))
    return found


def isda_table(rounds: int, batch: int = BATCH, classes: int = 100, features: int = 64) -> Ratio:
    """Time of ISDA's loss and gradient by the table of C×C numbers over that of the direct form, which builds B×C×C of them."""
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(shape, generator=generator) for shape in ((batch, features), (classes, features))]
    h, weight = (d.requires_grad_() for d in draws)
    roots = torch.randn(classes, features, features, generator=generator)
    covariance, labels = roots @ roots.mT / features, torch.randint(classes, (batch,), generator=generator)

    def table() -> None:
        logits = isda_logits(h @ weight.T, labels, quadratic_table(weight, covariance), 0.5)
        F.cross_entropy(logits, labels).backward()

    def direct() -> None:
        steps = weight.expand(batch, -1, -1) - weight[labels][:, None]
        products = torch.bmm(torch.bmm(steps, covariance[labels]), steps.mT)
        F.cross_entropy(h @ weight.T + 0.25 * products.diagonal(dim1=1, dim2=2), labels).backward()

    name = f"ISDA loss and gradient, N={batch}, C={classes}, A={features}: table over direct form"
    return in_turns(name, table, direct, rounds, 1 / 3, family="relatives", method="isda")


def k_mixup_pairing(rounds: int, batch: int = 512, k: int = 16, features: int = 3072) -> Ratio:
    """Time of k-mixup's pairing over that of a distance matrix for each block and one padded assignment for the batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, features, generator=generator)
    order = torch.arange(batch).roll(k)
    left, right = x.numpy(), x[order].numpy()

    def padded() -> Tensor:
        cost = np.full((batch, batch), 1000.0)
        for start in range(0, batch, k):
            block = slice(start, start + k)
            cost[block, block] = distance_matrix(left[block], right[block])
        return order[torch.from_numpy(linear_sum_assignment(cost)[1])]

    name = f"k-mixup's pairing, B={batch}, k={k}: blocks over one padded assignment"
    return in_turns(name, lambda: k_mixup_pairs(x, order, k), padded, rounds, 0.1, family="relatives", method="k-mixup")


def import_time(rounds: int) -> Ratio:
    """Compare the time that fresh processes take to import this package and to import torch."""

    def taken(name: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
        return time.perf_counter() - start

    pairs = [(taken("sba"), taken("torch")) for _ in range(rounds + 1)][1:]
    own, theirs = ([pair[i] for pair in pairs] for i in (0, 1))
    details = {"sba s": statistics.median(own), "torch s": statistics.median(theirs)}
    return dataclasses.replace(ratio("import sba over import torch", own, theirs, details, family="import"), limit=1.5)


def run_benchmarks(
    results: pathlib.Path | None, quick: bool, amp: str = "none", only: Sequence[str] = (), device: str = "cpu"
) -> None:
    """Run all comparisons, print each, and append it to a results file where one is given.

    Args:
        results: file of records; None for none.
        quick: one short round of each, to see that they run; never recorded.
        amp: precision of our loop in the comparisons with the plain one: "none" or "bf16".
        only: families of comparisons among ``FAMILIES``; by default those of the device.
        device: "epochs" is measured on a GPU, and the others on the processor.

    Raises:
        ConfigError: a family is not measured on the device.
    """
    where = Machine(device=device).prepare()
    families = [name for name in FAMILIES if (name == "epochs") == (where.type == "cuda")]
    if strangers := [name for name in only if name not in families]:
        raise ConfigError(
            f"only: {strangers[0]!r} is not measured on the device {device!r}; give one of {', '.join(families)}"
        )
    rounds, steps, pairs, few = (1, 1, 1, 1) if quick else (5, 8, 30, 5)
    fair = float(np.pi / 3)
    comparisons = {
        "loop": lambda: [
            against_loader("resnet44", rounds, steps, amp),
            against_loader("alexnet", rounds, 4 * steps, amp),
        ],
        "step": lambda: [
            *at_last_layer("resnet44", 40, fair, pairs, (1.03, 1.01)),
            *at_last_layer("alexnet", 32, fair, 4 * pairs),
            *at_last_layer("vgg16", 32, fair, few),
        ],
        "folds": lambda: [
            *against_folds("resnet44", FOLDS, pairs // 2 or 1),
            *against_folds("alexnet", FOLDS, 2 * pairs),
        ],
        "layers": lambda: [
            *against_layers("alexnet", ALEXNET_LAYERS, 4, 32, 4 * few),
            *against_layers("resnet44", RESNET_LAYERS, 4, 32, few),
            *against_layers("vgg16", VGG_LAYERS, 4, 32, few),
        ],
    }
    comparisons["relatives"] = lambda: [
        *of_relatives("resnet44", pairs // 2 or 1, limited=True),
        *of_relatives("alexnet", pairs),
        # the full covariances of 4096 features would fill the memory
        *of_relatives("vgg16", few, form="diagonal"),
        isda_table(4 * rounds),
        k_mixup_pairing(2 * rounds),
    ]
    comparisons["import"] = lambda: [import_time(3 * rounds)]
    comparisons["epochs"] = lambda: [found for n in WANTED for found in epochs(n, min(rounds, 2), where, amp)]
    for name in only or families:
        for found in comparisons[name]():
            click.echo(str(found))
            if results and not quick:
                about = found.about.model_dump(exclude_defaults=True)
                append(results, identified({"kind": "bench", **vars(found), "about": about, **provenance(where)}))
