"""Σ, the "random normalized basis matrix" of §3.3, in the readings it allows (open point 8), dense and structured.

A basis is a linear map on the last dimension. In every reading E[ΣΣᵀ] = I: Σ changes no mean and no marginal variance.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sba.core.errors import ConfigError
from sba.core.hyper import check_choice

DENSE_LIMIT = 8192
"""Most rows of a dense Σ: 8192² numbers are 256 MiB in float32."""
ORTHOGONAL_LIMIT = 2048
"""Most rows of a dense orthogonal Σ: its QR takes a time that grows as the cube, at every augmented step."""


class Basis(abc.ABC):
    """A square matrix Σ that need not be stored as one."""

    @abc.abstractmethod
    def __call__(self, noise: Tensor) -> Tensor:
        """Return Σε for every ε in ``noise`` of shape (…, Q), in its type."""

    def matrix(self, width: int) -> Tensor:
        """Return Σ itself, float64 of shape (Q, Q): for tests and pictures of small layers."""
        return self(torch.eye(width, dtype=torch.float64)).T


@dataclass(frozen=True)
class Identity(Basis):
    """No basis at all."""

    def __call__(self, noise: Tensor) -> Tensor:
        return noise


@dataclass(frozen=True)
class Dense(Basis):
    """A stored matrix, ``entries`` of shape (Q, Q)."""

    entries: Tensor

    def __call__(self, noise: Tensor) -> Tensor:
        return noise @ self.entries.to(noise).T


@dataclass(frozen=True)
class PerChannel(Basis):
    """One small matrix, ``entries`` of shape (C, C), mixes the channels at every position of a feature map: Σ = Σ_c ⊗ I."""

    entries: Tensor

    def __call__(self, noise: Tensor) -> Tensor:
        maps = noise.unflatten(-1, (len(self.entries), -1))
        return (self.entries.to(noise) @ maps).flatten(-2)


@dataclass(frozen=True)
class Hadamard(Basis):
    """A Walsh–Hadamard matrix whose rows have random signs: orthogonal, in O(Q log Q) operations and O(Q) memory.

    The signs stand on the left. On the right they would change nothing, since ε and −ε have one law. A width that is no power
    of two is cut, in random order, into blocks that are.

    ``signs`` are ±1, of shape (Q,); ``order`` permutes the features, and is None if one block suffices.
    """

    signs: Tensor
    order: Tensor | None

    def __call__(self, noise: Tensor) -> Tensor:
        blocks = noise.split(powers_of_two(len(self.signs)), -1)
        turned = torch.cat([walsh_hadamard(block) for block in blocks], -1)
        turned = turned if self.order is None else turned[..., self.order.to(noise.device)]
        return turned * self.signs.to(noise)


def powers_of_two(width: int) -> list[int]:
    """Return the powers of two whose sum is ``width``, the largest first."""
    return [1 << bit for bit in reversed(range(width.bit_length())) if width >> bit & 1]


def walsh_hadamard(x: Tensor) -> Tensor:
    """Multiply the last dimension, a power of two, by the normalised Walsh–Hadamard matrix in Sylvester's order.

    ``x`` has the shape (…, 2ᵃ), and so has the result; applied twice it gives ``x`` back.
    """
    width, half = x.shape[-1], 1
    while half < width:
        pairs = x.unflatten(-1, (-1, 2, half))
        x = torch.stack((pairs[..., 0, :] + pairs[..., 1, :], pairs[..., 0, :] - pairs[..., 1, :]), -2).flatten(-3)
        half *= 2
    return x / math.sqrt(width)


def colnorm(width: int, generator: torch.Generator) -> Tensor:
    """Draw a matrix of Gaussian entries and divide each column by its norm; shape (width, width)."""
    entries = torch.randn(width, width, generator=generator, device=generator.device)
    return entries / entries.norm(dim=0, keepdim=True)


def orthogonal(width: int, generator: torch.Generator) -> Tensor:
    """Draw a matrix uniformly from the rotations and reflections; shape (width, width)."""
    # in float32 alone QR would lose orthogonality beyond the seventh digit
    q, r = torch.linalg.qr(torch.randn(width, width, generator=generator, device=generator.device).double())
    # QR alone is not uniform: its R must have a positive diagonal (Mezzadri, 2007).
    return (q * r.diagonal().sign()).float()


def hadamard(width: int, generator: torch.Generator) -> Hadamard:
    """Draw a :class:`Hadamard` basis: its signs and, if the width is no power of two, its order."""
    signs = torch.randint(2, (width,), generator=generator, device=generator.device) * 2.0 - 1
    whole = width == powers_of_two(width)[0]
    order = None if whole else torch.randperm(width, generator=generator, device=generator.device)
    return Hadamard(signs, order)


Kind = Literal["colnorm", "orthogonal", "identity", "hadamard", "channel"]
KINDS = get_args(Kind)


def check_basis(kind: str, shape: Sequence[int], layer: str = "") -> None:
    """Raise :class:`ConfigError`, with the size of Σ and the alternatives, for a basis that does not exist or does not fit.

    Arguments as for :func:`basis`; ``layer`` is the name of the layer, for the message.
    """
    if not shape or min(shape) < 1:
        raise ConfigError(f"basis (Σ): an activation of shape {tuple(shape)} has no features; give another layer")
    check_choice("basis (Σ)", kind, Kind)
    rows = {"colnorm": math.prod(shape), "orthogonal": math.prod(shape), "channel": shape[0]}.get(kind, 0)
    limit = ORTHOGONAL_LIMIT if kind == "orthogonal" else DENSE_LIMIT
    if rows > limit:
        others = "'hadamard'" + (", 'channel'" if kind != "channel" and len(shape) > 1 else "") + " or 'identity'"
        work = ", and their QR at every augmented step" if kind == "orthogonal" else ""
        raise ConfigError(
            f"basis (Σ): {kind!r} needs {rows}×{rows} numbers, {rows**2 * 4 / 2**30:.1f} GiB{work}, for "
            f"{layer or 'an activation'} of shape {tuple(shape)}; give basis {others}, or a layer of at most {limit} features"
        )


def basis(kind: str, shape: int | Sequence[int], generator: torch.Generator) -> Basis:
    """Draw Σ for one layer.

    Args:
        kind: "colnorm" (Gaussian entries, every column of norm 1), "orthogonal" (uniform over rotations and reflections),
            "identity", "hadamard" (:class:`Hadamard`), or "channel" (:class:`PerChannel` with columns of norm 1; for an
            activation without positions it is "colnorm").
        shape: of one activation without the batch, (Q,) or (channels, height, width); a number Q means (Q,).
        generator: of the draws; its device is the result's.

    Raises:
        ConfigError: there is no such kind, or it does not fit.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    check_basis(kind, shape)
    width = math.prod(shape)
    draws = {
        "identity": Identity,
        "colnorm": lambda: Dense(colnorm(width, generator)),
        "orthogonal": lambda: Dense(orthogonal(width, generator)),
        "hadamard": lambda: hadamard(width, generator),
        "channel": lambda: PerChannel(colnorm(shape[0], generator)),
    }
    return draws[kind]()
