"""The vicinity distribution: M = p + q virtual points around each activation (Eqs. 5–8).

The functions are pure: every random draw is an argument. :class:`Vicinity` draws and calls them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sba.core.bases import KINDS, Basis, basis
from sba.core.errors import ConfigError


def bounded_noise(standard: Tensor, sigma: float, tau: float, bound: str = "clip") -> Tensor:
    """Turn standard draws into ε of Eq. 7, bounded to [−τ, τ].

    Args:
        standard: any shape; standard normal draws for "clip", uniform draws on [0, 1) for "truncate".
        sigma: standard deviation σ of the noise before it is bounded.
        tau: bound τ, in the same units as σ.
        bound: "clip" as §3.3 describes it (mass piles up at ±τ), or "truncate", the truncated Gaussian its citation names, by the
            inverse distribution function (open point 7).

    Raises:
        ConfigError: there is no such bound.
    """
    if bound not in ("clip", "truncate"):
        raise ConfigError(f"bound: {bound!r} is not known; give clip or truncate")
    if bound == "clip":
        return (sigma * standard).clamp(-tau, tau)
    if sigma == 0:
        return torch.zeros_like(standard)
    tail = 0.5 * math.erfc(tau / sigma / math.sqrt(2))
    return (sigma * torch.special.ndtri(tail + (1 - 2 * tail) * standard)).clamp(-tau, tau)


def gaussian_points(h: Tensor, sigma_basis: Basis, noise: Tensor, spread: Tensor | None = None) -> Tensor:
    """V_g of Eq. 7: x_kj = x_k + s ⊙ (Σ ε_kj).

    Args:
        h: activations, of shape (B, Q).
        sigma_basis: Σ, from :func:`sba.core.bases.basis`.
        noise: ε, bounded, of shape (p, B, Q).
        spread: s of shape (Q,), the spread of each feature where σ is relative to it; None for 1 (open point 6).

    Returns:
        Virtual points of shape (p, B, Q).
    """
    moved = sigma_basis(noise)
    return h + (moved if spread is None else spread * moved)


def dropout_points(h: Tensor, keep: Tensor, rate: float, rescale: bool) -> Tensor:
    """V_d of Eq. 8: x_ki = B_i ⊙ x_k.

    Args:
        h: activations, of shape (B, Q).
        keep: B_i, booleans of shape (q, B, Q), false with probability ``rate``.
        rate: probability of deleting a feature.
        rescale: divide by 1 − rate, so that the mean of the virtual points is the raw point; Eq. 8 does not (open point 11).

    Returns:
        Virtual points of shape (q, B, Q).
    """
    return h * (keep.to(h.dtype) / (1 - rate) if rescale else keep)


@dataclass(frozen=True)
class Vicinity:
    """The mixed vicinity distribution P′ of §3.3. The fields are those of :class:`sba.methods.SBA`, where they are described.

    >>> import torch
    >>> from sba import SBA
    >>> around = SBA(folds=8).vicinity
    >>> h = torch.ones(4, 16)
    >>> around.sample(h, torch.Generator().manual_seed(0), torch.ones(16)).shape
    torch.Size([32, 16])
    """

    folds: int
    gaussian_share: float
    sigma: float
    tau: float
    bound: str
    basis: str
    dropout_rate: float
    dropout_rescale: bool

    def __post_init__(self) -> None:
        allowed = {
            "folds": (self.folds >= 1, "an integer from 1"),
            "gaussian_share": (0 <= self.gaussian_share <= 1, "a number in [0, 1]"),
            "sigma (σ)": (self.sigma >= 0, "a number from 0"),
            "tau (τ/σ)": (self.tau > 0, "a number above 0"),
            "bound": (self.bound in ("clip", "truncate"), "clip or truncate"),
            "basis (Σ)": (self.basis in KINDS, f"one of {', '.join(KINDS)}"),
            "dropout_rate": (0 <= self.dropout_rate < 1, "a number in [0, 1)"),
        }
        for name, (fits, fix) in allowed.items():
            if not fits:
                raise ConfigError(f"{name}: {getattr(self, name.split()[0])!r} is not allowed; give {fix}")

    @property
    def gaussian(self) -> int:
        """p, the number of Gaussian points per raw point: the share of M, halves rounded up."""
        return math.floor(self.folds * self.gaussian_share + 0.5)

    @property
    def dropout(self) -> int:
        """q = M − p, the number of dropout points per raw point."""
        return self.folds - self.gaussian

    def sample(self, h: Tensor, generator: torch.Generator, spread: Tensor | None) -> Tensor:
        """Draw the virtual points of a batch: [V_g; V_d] of Eq. 6, without the raw rows (open point 4).

        Args:
            h: activations of shape (B, …); more than one feature dimension is flattened to Q and restored.
            generator: for Σ, ε and the masks. Its device must be that of ``h``.
            spread: unit of σ for each feature, of shape (Q,), from :mod:`sba.core.feature_std`; None where σ is absolute.

        Returns:
            Points of shape (M·B, …): first all of j = 1, then all of j = 2, … Gradients flow into ``h``.

        Raises:
            ConfigError: Σ does not fit (:func:`sba.core.bases.check_basis`).
        """
        flat = h.flatten(1)
        batch, width = flat.shape
        parts = []
        if self.gaussian:
            # One Σ for the whole batch (open point 10), drawn anew at each augmented iteration (open point 9).
            sigma_basis = basis(self.basis, h.shape[1:], generator)
            draw = torch.randn if self.bound == "clip" else torch.rand
            standard = draw(self.gaussian, batch, width, generator=generator, device=flat.device)
            noise = bounded_noise(standard, self.sigma, self.tau * self.sigma, self.bound).to(flat.dtype)
            unit = None if spread is None else spread.to(flat.dtype)
            parts.append(gaussian_points(flat, sigma_basis, noise, unit))
        if self.dropout:
            uniform = torch.rand(self.dropout, batch, width, generator=generator, device=flat.device)
            parts.append(dropout_points(flat, uniform >= self.dropout_rate, self.dropout_rate, self.dropout_rescale))
        return torch.cat(parts).reshape(self.folds * batch, *h.shape[1:])
