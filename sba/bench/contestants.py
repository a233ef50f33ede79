"""The comparisons that ``make bench`` makes, and their records."""

import functools
import math
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.spatial import distance_matrix
from torch import Tensor

from sba.bench.attached import against_chain
from sba.bench.loop import WANTED, against_compiled, against_loader, epochs
from sba.bench.packed import against_packed
from sba.bench.threads import against_threads
from sba.bench.timing import BATCH, Ratio, expected_cost, in_turns, ratio, rounds_of, step_costs
from sba.core.errors import ConfigError
from sba.methods import METHODS, SBA
from sba.methods.isda import isda_logits, quadratic_table
from sba.methods.kmixup import pairs
from sba.records.comparison import FAMILIES
from sba.records.file import append
from sba.records.record import identified, provenance
from sba.studies.contenders import CONDITIONS, CONTENDERS, MAIN, Condition, parameters
from sba.training.machine import Machine

OF_A_GPU = ("epochs", "packed")
"""Those that are measured on a card; the others are on a processor."""
ALWAYS = {"omega": 0.0}
"""λ(t) = 1 at every step."""
RELATIVES: dict[str, tuple[dict[str, Any], float | None]] = {
    "cutout": ({"cutout": 16}, None),
    **{m.name: ({"method": m.name, **m.bench}, m.bench_limit) for m in METHODS.values() if m.bench is not None},
    "latent-ba": ({"method": "sba", "preset": "latent-ba", "folds": 40}, None),
    "ba": ({"views": 4}, None),
    "ba, chunked": ({"views": 4, "chunked": True}, None),
}
"""What is compared with a plain step: its parameters, and what it should cost at most on ResNet-44."""
TIMED = (MAIN.name, "ResNet-20")
"""Conditions of the study of little data whose steps are timed: one for each network."""
LIMITED = "resnet44"
"""The network that limits are for."""
LIMITS = {("step", "sba"): 1.03, ("step", "implicit-sba"): 1.01}
"""What a step of Table 1's SBA and of its limit should cost at most there, in plain ones."""
FOLDS = (1, 2, 4, 8, 16, 40, 80)
LAYERS = {
    "alexnet": ("conv1", "conv2", "conv3", "conv4", "flatten"),
    "resnet44": ("conv1", "block1_4", "block2_1", "block2_4", "block3_1", "block3_4", "pool"),
    "vgg16": ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1", "flatten", "fc2"),
}
"""Layers whose augmented steps are timed, from input to output."""


def augmented(
    network: str, family: str, entrants: dict[str, dict[str, Any]], pairs: int, omega: float = 0.0, batch: int = BATCH
) -> list[Ratio]:
    """Compare steps of entrants, name → parameters of the run, with plain ones, on random images of CIFAR's shape.

    Each is timed ``pairs`` times, always augmented, and its cost is the one expected at ω, held against :data:`LIMITS`.
    """
    plain, times = step_costs(network, {name: ALWAYS | given for name, given in entrants.items()}, pairs, batch)
    found = []
    for name, given in entrants.items():
        about: dict[str, Any] = {"family": family, "network": network, "method": given["method"]}
        about |= {"variant": "bound"} if given.get("expectation") == "bound" else {}
        if "folds" in given:
            about |= {"layer": given["layers"][0], "folds": given["folds"], "basis": given.get("basis", SBA().basis)}
        about["limit"] = LIMITS.get((family, given["method"])) if network == LIMITED else None
        found.append(expected_cost(f"{network}: {name}", times[name], plain, omega, **about))
    return found


def at_last_layer(network: str, folds: int, pairs: int) -> list[Ratio]:
    """Cost of a step of SBA and of its limit M → ∞ at the last fully connected layer, at ω = π/3."""
    last = LAYERS[network][-1]
    entrants: dict[str, dict[str, Any]] = {
        f"SBA step (M={folds}, layer {last})": {"method": "sba", "folds": folds, "layers": (last,)},
        "SBA step (M → ∞, second order)": {"method": "implicit-sba", "expectation": "second_order"},
        "SBA step (M → ∞, bound)": {"method": "implicit-sba", "expectation": "bound"},
    }
    return augmented(network, "step", entrants, pairs, math.pi / 3)


def against_folds(network: str, pairs: int) -> list[Ratio]:
    """Cost of an augmented step at the last fully connected layer against M."""
    last = LAYERS[network][-1]
    entrants = {f"cost, M={m}, layer {last}": {"method": "sba", "folds": m, "layers": (last,)} for m in FOLDS}
    return augmented(network, "folds", entrants, pairs)


def against_layers(network: str, pairs: int) -> list[Ratio]:
    """Cost of an augmented step against the layer, with the basis that fits every one of them."""
    shared = {"method": "sba", "folds": 4, "basis": "hadamard"}
    entrants = ({f"cost, layer {k}, M=4, B=32, Hadamard": shared | {"layers": (k,)}} for k in LAYERS[network])
    return [one for entrant in entrants for one in augmented(network, "layers", entrant, pairs, batch=32)]


def of_relatives(network: str, pairs: int, **isda: Any) -> list[Ratio]:
    """Cost of a step of each relative with its defaults; ``isda`` are settings of the methods that keep covariances."""
    contestants = {name: given | (isda if "isda" in name else {}) for name, (given, _) in RELATIVES.items()}
    plain, times = step_costs(network, contestants, pairs)
    details = {"plain ms": 1e3 * statistics.median(plain)}
    found = []
    for name, (_, limit) in RELATIVES.items():
        method, _, variant = name.partition(", ")
        about = {"family": "relatives", "network": network, "method": method, "variant": variant}
        title = f"{network}: {name} step over a plain step"
        found.append(ratio(title, times[name], plain, details, limit if network == LIMITED else None, **about))
    return found


def of_contenders(condition: Condition, pairs: int) -> list[Ratio]:
    """Cost of a step of each contender of the study of little data, with the network and the batch of a condition; SBA's is the one
    expected at its ω. A contender that may choose its layer is timed at each."""
    network, batch = condition.base["network"], condition.base["batch_size"]
    entrants: dict[tuple[str, str], dict[str, Any]] = {}
    for contender in CONTENDERS[1:]:
        for number in range(len(contender.grid)):
            at = parameters(contender, number, condition)
            given = {name: value for name, value in at.items() if name not in condition.base}
            entrants.setdefault((contender.name, at.get("layers", ("",))[0]), given)
    augmented = {who: ALWAYS if "omega" in given else {} for who, given in entrants.items()}
    plain, times = step_costs(network, {who: given | augmented[who] for who, given in entrants.items()}, pairs, batch)
    found = []
    for (name, layer), given in entrants.items():
        about = {"family": "contenders", "network": network, "method": given["method"], "variant": name, "layer": layer}
        title = f"{network}, batch of {batch}: {name}{f' ({layer})' if layer else ''}"
        if omega := given.get("omega"):
            found.append(expected_cost(title, times[name, layer], plain, omega, **about))
        else:
            details = {"plain ms": 1e3 * statistics.median(plain)}
            found.append(ratio(f"{title}, over a plain step", times[name, layer], plain, details, **about))
    return found


def isda_table(rounds: int, batch: int = BATCH, classes: int = 100, features: int = 64) -> Ratio:
    """Time of ISDA's loss and gradient by the table of C×C numbers over that of the direct form, which builds B×C×C of them."""
    made: Any = {"generator": torch.Generator().manual_seed(0)}
    h, weight = (torch.randn(n, features, **made).requires_grad_() for n in (batch, classes))
    roots = torch.randn(classes, features, features, **made)
    covariance, labels = roots @ roots.mT / features, torch.randint(classes, (batch,), **made)

    def table() -> None:
        logits = isda_logits(h @ weight.T, labels, quadratic_table(weight, covariance), 0.5)
        F.cross_entropy(logits, labels).backward()

    def direct() -> None:
        steps = weight.expand(batch, -1, -1) - weight[labels][:, None]
        products = torch.bmm(torch.bmm(steps, covariance[labels]), steps.mT)
        F.cross_entropy(h @ weight.T + 0.25 * products.diagonal(dim1=1, dim2=2), labels).backward()

    name = f"ISDA loss and gradient, N={batch}, C={classes}, A={features}: table over direct form"
    return in_turns(name, table, direct, rounds, limit=1 / 3, family="relatives", method="isda")


def k_mixup_pairing(rounds: int, batch: int = 512, k: int = 16, features: int = 3072) -> Ratio:
    """Time of k-mixup's pairing over that of a distance matrix for each block and one padded assignment for the batch."""
    x = torch.randn(batch, features, generator=torch.Generator().manual_seed(0))
    order = torch.arange(batch).roll(k)
    left, right = x.numpy(), x[order].numpy()

    def padded() -> Tensor:
        cost = np.full((batch, batch), 1000.0)
        for start in range(0, batch, k):
            block = slice(start, start + k)
            cost[block, block] = distance_matrix(left[block], right[block])
        return order[torch.from_numpy(linear_sum_assignment(cost)[1])]

    name, own = f"k-mixup's pairing, B={batch}, k={k}: blocks over one padded assignment", lambda: pairs(x, order, k)
    return in_turns(name, own, padded, rounds, limit=0.1, family="relatives", method="k-mixup")


def import_time(rounds: int) -> Ratio:
    """Compare the time that fresh processes take to import this package and to import torch."""

    def taken(name: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
        return time.perf_counter() - start

    own, theirs = rounds_of({name: functools.partial(taken, name) for name in ("sba", "torch")}, rounds).values()
    details = {"sba s": statistics.median(own), "torch s": statistics.median(theirs)}
    return ratio("import sba over import torch", own, theirs, details, 1.5, family="import")


def run_benchmarks(
    results: pathlib.Path | None, quick: bool, amp: str = "none", only: Sequence[str] = (), device: str = "cpu"
) -> None:
    """Run all comparisons, print each, and append it to a results file if one is given. Raise :class:`ConfigError` if a family is
    not measured on the device.

    Args:
        results: file of records; None for none.
        quick: one short round of each, to see that they run; never recorded.
        amp: precision of our loop in the comparisons with the plain one: "none" or "bf16".
        only: families of comparisons among ``FAMILIES``; by default those of the device.
        device: :data:`OF_A_GPU` are measured on a GPU, and the others on the processor.
    """
    where = Machine(device=device).prepare()
    families = [name for name in FAMILIES if (name in OF_A_GPU) == (where.type == "cuda")]
    if strangers := [name for name in only if name not in families]:
        raise ConfigError(
            f"only: {strangers[0]!r} is not measured on the device {device!r}; give one of {', '.join(families)}"
        )
    rounds, steps, pairs, few = (1, 1, 1, 1) if quick else (5, 8, 30, 5)
    comparisons: dict[str, Callable[[], list[Ratio]]] = {
        "loop": lambda: [against_loader(n, rounds, steps * k, amp) for n, k in (("resnet44", 1), ("alexnet", 4))],
        "step": lambda: [
            *at_last_layer("resnet44", 40, pairs),
            *at_last_layer("alexnet", 32, 4 * pairs),
            *at_last_layer("vgg16", 32, few),
        ],
        "folds": lambda: [*against_folds("resnet44", pairs // 2 or 1), *against_folds("alexnet", 2 * pairs)],
        "layers": lambda: [one for n in LAYERS for one in against_layers(n, few * (4 if n == "alexnet" else 1))],
        "relatives": lambda: [
            *of_relatives("resnet44", pairs // 2 or 1),
            *of_relatives("alexnet", pairs),
            # the full covariances of 4096 features would fill the memory
            *of_relatives("vgg16", few, form="diagonal"),
            isda_table(4 * rounds),
            k_mixup_pairing(2 * rounds),
        ],
        "attach": lambda: against_chain("resnet44", rounds),
        "import": lambda: [import_time(3 * rounds)],
        "threads": lambda: [against_threads("alexnet", 3 * rounds, kind) for kind in ("none", "bf16")],
        "contenders": lambda: [one for c in CONDITIONS if c.name in TIMED for one in of_contenders(c, 2 * pairs)],
        "compiled": lambda: [against_compiled(n, rounds, steps, amp) for n in ("resnet44", "alexnet")],
        "epochs": lambda: [found for n in WANTED for found in epochs(n, min(rounds, 2), where, amp)],
        "packed": lambda: against_packed("resnet44", min(rounds, 3), where, amp),
    }
    for name in only or families:
        for found in comparisons[name]():
            click.echo(str(found))
            if results and not quick:
                about = found.about.model_dump(exclude_defaults=True)
                append(results, identified({"kind": "bench", **vars(found), "about": about, **provenance(where)}))
