"""The vicinity distribution: M = p + q virtual points around each activation (Eqs. 5–8).

The functions are pure: every random draw is an argument. :class:`Vicinity` draws and calls them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sba.errors import ConfigError

DENSE_LIMIT = 8192
"""Widest layer for which a dense Σ is drawn: 8192² numbers are 256 MiB in float32."""


def basis(kind: str, width: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor | None:
    """Draw Σ, the "random normalized basis matrix" of §3.3 (open point 8), of shape (Q, Q).

    Args:
        kind: "colnorm" (Gaussian entries, every column of norm 1), "orthogonal" (uniform over rotations and reflections), or
            "identity" (None is returned: there is nothing to multiply by).
        width: Q, the number of features.
        generator: where the draws come from; its device is the result's.
        dtype: of the result.

    Raises:
        ConfigError: there is no such kind, or a dense matrix of this width does not fit.
    """
    if kind not in ("colnorm", "orthogonal", "identity"):
        raise ConfigError(f"basis: {kind!r} is not known; give colnorm, orthogonal or identity")
    if kind == "identity":
        return None
    if width > DENSE_LIMIT:
        raise ConfigError(
            f"basis: a dense {kind!r} Σ for {width} features would hold {width**2 * 4 / 2**30:.1f} GiB; use basis='identity' "
            f"or a layer of at most {DENSE_LIMIT} features"
        )
    entries = torch.randn(width, width, generator=generator, device=generator.device)
    if kind == "colnorm":
        return (entries / entries.norm(dim=0, keepdim=True)).to(dtype)
    # QR alone is not uniform: its R must have a positive diagonal (Mezzadri, 2007).
    q, r = torch.linalg.qr(entries)
    return (q * r.diagonal().sign()).to(dtype)


def bounded_noise(standard: Tensor, sigma: float, tau: float, bound: str = "clip") -> Tensor:
    """Turn standard draws into ε of Eq. 7, bounded to [−τ, τ].

    Args:
        standard: any shape; standard normal draws for "clip", uniform draws on [0, 1) for "truncate".
        sigma: standard deviation σ of the noise before it is bounded.
        tau: bound τ, in the same units as σ.
        bound: "clip" as §3.3 describes it (mass piles up at ±τ), or "truncate", the truncated Gaussian its citation names, by the
            inverse distribution function (open point 7).
    """
    if bound == "clip":
        return (sigma * standard).clamp(-tau, tau)
    if sigma == 0:
        return torch.zeros_like(standard)
    tail = 0.5 * math.erfc(tau / sigma / math.sqrt(2))
    return (sigma * torch.special.ndtri(tail + (1 - 2 * tail) * standard)).clamp(-tau, tau)


def gaussian_points(h: Tensor, sigma_basis: Tensor | None, noise: Tensor, scale: Tensor | None = None) -> Tensor:
    """V_g of Eq. 7: x_kj = x_k + s ⊙ (Σ ε_kj).

    Args:
        h: activations, of shape (B, Q).
        sigma_basis: Σ of shape (Q, Q), or None for the identity.
        noise: ε, bounded, of shape (p, B, Q).
        scale: s of shape (Q,), the spread of each feature where σ is relative to it; None for 1 (open point 6).

    Returns:
        Virtual points of shape (p, B, Q).
    """
    moved = noise if sigma_basis is None else noise @ sigma_basis.T
    return h + (moved if scale is None else scale * moved)


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
    """The mixed vicinity distribution P′ of §3.3. The fields are those of :class:`sba.methods.SBA`, where they are described."""

    folds: int
    gaussian_share: float
    sigma: float
    scale: str
    tau: float
    bound: str
    basis: str
    dropout_rate: float
    dropout_rescale: bool

    @property
    def gaussian(self) -> int:
        """p, the number of Gaussian points per raw point: the share of M, halves rounded up."""
        return math.floor(self.folds * self.gaussian_share + 0.5)

    @property
    def dropout(self) -> int:
        """q = M − p, the number of dropout points per raw point."""
        return self.folds - self.gaussian

    def sample(self, h: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the virtual points of a batch: [V_g; V_d] of Eq. 6, without the raw rows (open point 4).

        Args:
            h: activations of shape (B, …); more than one feature dimension is flattened to Q and restored.
            generator: for Σ, ε and the masks. Its device must be that of ``h``.

        Returns:
            Points of shape (M·B, …): first all of j = 1, then all of j = 2, … Gradients flow into ``h``.
        """
        flat = h.flatten(1)
        batch, width = flat.shape
        parts = []
        if self.gaussian:
            # One Σ for the whole batch (open point 10), drawn anew at each augmented iteration (open point 9).
            matrix = basis(self.basis, width, generator, flat.dtype)
            draw = torch.randn if self.bound == "clip" else torch.rand
            standard = draw(self.gaussian, batch, width, generator=generator, device=flat.device)
            noise = bounded_noise(standard, self.sigma, self.tau * self.sigma, self.bound).to(flat.dtype)
            spread = flat.detach().float().std(0, correction=0).to(flat.dtype) if self.scale == "batch" else None
            parts.append(gaussian_points(flat, matrix, noise, spread))
        if self.dropout:
            uniform = torch.rand(self.dropout, batch, width, generator=generator, device=flat.device)
            parts.append(dropout_points(flat, uniform >= self.dropout_rate, self.dropout_rate, self.dropout_rescale))
        return torch.cat(parts).reshape(self.folds * batch, *h.shape[1:])
