"""The vicinity distribution: M = p + q virtual points around each activation (Eqs. 5–8).

The functions are pure: every random draw is an argument. :class:`Vicinity` draws and calls them.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from sba.core.bases import Basis, Kind, basis
from sba.core.feature_std import batch_variance
from sba.core.hyper import check_choice, configuration, hyper

Bound = Literal["clip", "truncate"]


def bounded_noise(standard: Tensor, sigma: float, tau: float, bound: Bound = "clip") -> Tensor:
    """Turn standard draws into ε of Eq. 7, bounded to [−τ, τ].

    Args:
        standard: any shape; standard normal draws for "clip", uniform draws on [0, 1) for "truncate".
        sigma: standard deviation σ of the noise before it is bounded.
        tau: bound τ, in the same units as σ.
        bound: "clip" as §3.3 describes it (mass piles up at ±τ), or "truncate", the truncated Gaussian its citation names, by the
            inverse distribution function (open point 7). Any other is a :class:`sba.core.errors.ConfigError`.
    """
    check_choice("bound", bound, Bound)
    if bound == "clip":
        return (sigma * standard).clamp(-tau, tau)
    if sigma == 0:
        return torch.zeros_like(standard)
    tail = 0.5 * math.erfc(tau / sigma / math.sqrt(2))
    return (sigma * torch.special.ndtri(tail + (1 - 2 * tail) * standard)).clamp(-tau, tau)


def gaussian_points(h: Tensor, sigma_basis: Basis, noise: Tensor, feature_std: Tensor | None = None) -> Tensor:
    """V_g of Eq. 7: x_kj = x_k + s ⊙ (Σ ε_kj).

    Args:
        h: activations, of shape (B, Q).
        sigma_basis: Σ, from :func:`sba.core.bases.basis`.
        noise: ε, bounded, of shape (p, B, Q).
        feature_std: s of shape (Q,), the unit of σ for each feature; None for 1 (open point 6).

    Returns:
        Virtual points of shape (p, B, Q).
    """
    moved = sigma_basis(noise)
    return h + (moved if feature_std is None else feature_std * moved)


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


@configuration
class Vicinity:
    """The mixed vicinity distribution P′ of §3.3.

    >>> Vicinity(folds=8).sample(torch.randn(4, 16)).shape
    torch.Size([32, 16])
    """

    folds: int = hyper(
        32, "virtual points per raw point", symbol="M", source="Table 1: 40, 32, 8 or 4", ge=1, slider=(1, 80, 1)
    )
    gaussian_share: float = hyper(
        0.5, "share of Gaussian points, p/M; the rest are dropout points (p is rounded, halves up)",
        symbol="p/M", source="ours", ge=0, le=1, slider=(0, 1, 1 / 16),
    )  # fmt: skip
    sigma: float = hyper(
        0.25, "standard deviation of the noise", symbol="σ", source="Eq. 7; no value given", ge=0, slider=(0, 2, 0.05)
    )
    tau: float = hyper(
        2.0, "bound of the noise as a multiple of σ",
        symbol="τ/σ", source="§3.3; no value given", gt=0, slider=(0.25, 4, 0.25),
    )  # fmt: skip
    bound: Bound = hyper("clip", "how the noise is bounded", source="§3.3")
    basis: Kind = hyper("colnorm", "the random normalised basis matrix", symbol="Σ", source="§3.3, undefined there")
    dropout_rate: float = hyper(
        0.5, "probability of deleting a feature",
        symbol="r", source="Eq. 8; no value given", ge=0, lt=1, slider=(0, 0.95, 0.05),
    )  # fmt: skip
    dropout_rescale: bool = hyper(True, "divide what is kept by 1 − rate", source="Eq. 8 does not")

    @property
    def gaussian(self) -> int:
        """p, the number of Gaussian points per raw point: the share of M, halves rounded up."""
        return math.floor(self.folds * self.gaussian_share + 0.5)

    @property
    def dropout(self) -> int:
        """q = M − p, the number of dropout points per raw point."""
        return self.folds - self.gaussian

    def sample(
        self,
        h: Tensor,
        generator: torch.Generator | None = None,
        feature_std: Tensor | Literal["batch"] | None = "batch",
    ) -> Tensor:
        """Draw the virtual points of a batch: [V_g; V_d] of Eq. 6, without the raw rows (open point 4).

        All rows of ``h`` share one Σ (open point 10), drawn anew at each call (open point 9). Processes that share a batch have
        generators of their own, so each has a Σ for its rows.

        Args:
            h: activations of shape (B, …); more than one feature dimension is flattened to Q and restored.
            generator: for Σ, ε and the masks, in this order, on the device of ``h``; None for one that torch's global one seeds.
            feature_std: unit of σ for each feature, of shape (Q,), from :mod:`sba.core.feature_std`: by default that of the batch;
                None if σ is absolute.

        Returns:
            Points of shape (M·B, …): first all of j = 1, then all of j = 2, … Gradients flow into ``h``. A Σ that does not fit is a
            :class:`sba.core.errors.ConfigError` (:func:`sba.core.bases.check_basis`).
        """
        generator = generator or torch.Generator(h.device).manual_seed(int(torch.randint(2**62, ())))
        flat = h.flatten(1)
        batch, width = flat.shape
        parts = []
        if self.gaussian:
            sigma_basis = basis(self.basis, h.shape[1:], generator)
            draw = torch.randn if self.bound == "clip" else torch.rand
            standard = draw(self.gaussian, batch, width, generator=generator, device=flat.device)
            noise = bounded_noise(standard, self.sigma, self.tau * self.sigma, self.bound).to(flat.dtype)
            unit = batch_variance(h).sqrt() if isinstance(feature_std, str) else feature_std
            unit = None if unit is None else unit.to(flat.dtype)
            parts.append(gaussian_points(flat, sigma_basis, noise, unit))
        if self.dropout:
            uniform = torch.rand(self.dropout, batch, width, generator=generator, device=flat.device)
            parts.append(dropout_points(flat, uniform >= self.dropout_rate, self.dropout_rate, self.dropout_rescale))
        return torch.cat(parts).reshape(self.folds * batch, *h.shape[1:])
