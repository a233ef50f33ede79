"""Several seeds of one network as one network: their convolutions are one dense convolution whose weight is block-diagonal.

Narrow convolutions leave most of a large GPU idle. Side by side they fill it, at the price of multiply-adds with zeros. Nothing
trains this way yet: a card has to show first whether it pays.
"""

import copy
import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.bench.loop import EPOCH_STEPS
from sba.bench.timing import BATCH, Ratio, ratio, rounds_of, timed
from sba.core.errors import ConfigError
from sba.core.staged import Staged
from sba.models.cifar import SubsampledIdentity
from sba.models.registry import build, to_device
from sba.training.run import make_run
from sba.training.setup import autotuned

SEEDS = (2, 4, 8)
"""How many networks are packed into one."""
WANTED = 0.4
"""Seconds that an epoch and seed of ResNet-44 on CIFAR should take at most on one H200."""


class PackedConv2d(nn.Conv2d):
    """The convolutions of several networks, each on its own channels. Its weight is that of a grouped convolution, of shape
    (S·out, in, k, k), so that the zeros of the dense one have no gradient, no momentum and no decay."""

    def __init__(self, one: nn.Conv2d, seeds: int, dense: bool):
        channels = seeds * one.in_channels, seeds * one.out_channels
        shape = one.kernel_size, one.stride, one.padding, one.dilation
        super().__init__(*channels, *shape, groups=seeds, bias=one.bias is not None)  # type: ignore[arg-type]
        self.dense = dense

    def forward(self, x: Tensor) -> Tensor:
        if not self.dense:
            return super().forward(x)
        own = torch.eye(self.groups, dtype=self.weight.dtype, device=self.weight.device)
        blocks = torch.einsum("soihw,st->sotihw", self.weight.unflatten(0, (self.groups, -1)), own)
        weight = blocks.flatten(2, 3).flatten(0, 1)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation)


class PackedLinear(nn.Linear):
    """The linear layers of several networks, each on its own features; the weight has the shape (S·out, in)."""

    def __init__(self, one: nn.Linear, seeds: int):
        super().__init__(one.in_features, seeds * one.out_features, one.bias is not None)
        self.seeds = seeds

    def forward(self, x: Tensor) -> Tensor:
        blocks = self.weight.unflatten(0, (self.seeds, -1))
        logits = torch.einsum("bsi,soi->bso", x.unflatten(1, (self.seeds, -1)), blocks).flatten(1)
        return logits if self.bias is None else logits + self.bias


class Each(nn.Module):
    """What mixes channels, without weights: done network by network."""

    def __init__(self, one: nn.Module, seeds: int):
        super().__init__()
        self.one, self.seeds = one, seeds

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(part) for part in x.chunk(self.seeds, 1)], 1)


def pack(networks: Sequence[Staged], dense: bool = True) -> Staged:
    """Pack networks of one architecture into one, which takes images of shape (B, S·C, H, W), those of each network on its own
    channels, and puts out logits of shape (B, S·classes). Its parameters are theirs, joined along the first axis. Raise
    :class:`ConfigError` if a layer cannot be packed.

    Args:
        networks: built alike, without dropout behind a convolution (its draws would be others).
        dense: multiply with the zeros between the blocks, too; if not, grouped convolutions do the same without.
    """
    seeds, packed = len(networks), copy.deepcopy(networks[0])
    for name, module in list(packed.named_modules()):
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            made: nn.Module = PackedConv2d(module, seeds, dense)
        elif isinstance(module, nn.Linear):
            made = PackedLinear(module, seeds)
        elif isinstance(module, nn.BatchNorm2d):
            made = nn.BatchNorm2d(seeds * module.num_features, module.eps, module.momentum)
        elif isinstance(module, SubsampledIdentity):
            made = Each(module, seeds)
        elif next(module.parameters(recurse=False), None) is not None:
            raise ConfigError(
                f"network: {name} ({type(module).__name__}) cannot be packed; give convolutional networks"
            )
        else:
            continue
        where, _, last = name.rpartition(".")
        setattr(packed.get_submodule(where), last, made)
    states = [network.state_dict() for network in networks]
    joined = {name: torch.cat([s[name] for s in states]) if one.dim() else one for name, one in states[0].items()}
    packed.to(next(networks[0].parameters())).load_state_dict(joined)
    return packed


def packed_loss(packed: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the mean cross-entropies of the networks of :func:`pack`, from images of every network, of shape
    (S, B, C, H, W), and their labels, of shape (S, B): each network gets the gradient that it would get alone."""
    seeds = len(images)
    logits = packed(images.transpose(0, 1).flatten(1, 2)).unflatten(1, (seeds, -1))
    return seeds * F.cross_entropy(logits.transpose(0, 1).flatten(0, 1), labels.flatten())


def training_step(network: str, seeds: int, device: torch.device, amp: str, dense: bool = True) -> Callable[[], None]:
    """Return a function that does a step of several seeds at once on one random batch of each; a captured graph on a GPU."""
    run = make_run("cifar10", network)
    networks = [build(network, 10, 3, 32) for _ in range(seeds)]
    model = to_device(pack(networks, dense) if seeds > 1 else networks[0], device, channels_last=True).train()
    images = torch.randn(seeds, BATCH, 3, 32, 32, device=device)
    labels = torch.randint(10, (seeds, BATCH), device=device)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, run.momentum, weight_decay=run.weight_decay, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=amp == "bf16", cache_enabled=False):
            loss = packed_loss(model, images, labels)
        loss.backward()
        optimizer.step()

    if device.type != "cuda":
        return step
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with autotuned(device):
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    return graph.replay


def against_packed(network: str, rounds: int, device: torch.device, amp: str, steps: int = 50) -> list[Ratio]:
    """Compare the time that a step of one seed takes, packed with others, with that of a step of it alone, so many steps at a time;
    both without augmentation. Seconds in the details are those of an epoch and seed."""
    kinds = {"alone": (1, True)} | {f"{n} {k}": (n, k == "dense") for n in SEEDS for k in ("dense", "grouped")}
    own = {name: training_step(network, n, device, amp, dense) for name, (n, dense) in kinds.items()}
    measured = {name: functools.partial(timed, step, steps, device) for name, step in own.items()}
    times = {name: [one / kinds[name][0] for one in taken] for name, taken in rounds_of(measured, rounds).items()}
    details = {f"{name} s": EPOCH_STEPS * statistics.median(taken) for name, taken in times.items()}
    details["wanted s"] = WANTED
    about: dict[str, Any] = {"family": "packed", "network": network, "method": "erm", "amp": amp}
    title = f"{network} ({amp}): a step and seed of "
    return [
        ratio(f"{title}{name} over one alone", times[name], times["alone"], details, **about, variant=name)
        for name in own
        if name != "alone"
    ]
