"""Points uniform in an ℓ_p ball, the vicinity of Bamboo (Yang et al., 2019) as §3.3 describes it; its loss is the hard one, Eq. 9.

The functions return offsets; added to activations of shape (B, Q), those of shape (M, B, Q) are M virtual points of each.
"""

import math
from typing import Any

import torch
from torch import Tensor

from sba.errors import ConfigError

NORMS = (1, 2, math.inf)


def ball_offsets(directions: Tensor, uniform: Tensor, p: float, radius: float) -> Tensor:
    """Scale draws to points of the ball ‖x‖_p ≤ r: x = r u^{1/d} g/‖g‖_p, uniform by volume where u is uniform on [0, 1).

    The volume within a radius grows as its d-th power, hence u^{1/d}: in many dimensions nearly all points lie next to the
    surface. With u in its place they would crowd around the centre.

    Args:
        directions: g of shape (…, d), independent draws of density ∝ e^{−|g|^p} on any scale (Barthe et al., 2005): exponential
            of random sign for p = 1, normal for p = 2, uniform on [−1, 1] for p = ∞. Others fill the ball unevenly.
        uniform: u, one draw a point, of shape (…).
        p: 1, 2 or ``math.inf``.
        radius: r ≥ 0, in the units of the activations.

    Returns:
        Shape (…, d); inside the ball up to rounding.

    Raises:
        ConfigError: p is none of the three.
    """
    check_norm(p)
    norm = torch.linalg.vector_norm(directions, p, dim=-1, keepdim=True)
    reach = radius * uniform[..., None] ** (1 / directions.shape[-1])
    # in few dimensions all draws of a direction can be 0
    return directions / norm.clamp_min(torch.finfo(norm.dtype).tiny) * reach


def ball(shape: tuple[int, ...], p: float, radius: float, generator: torch.Generator) -> Tensor:
    """Draw points uniformly from the ball ‖x‖_p ≤ r in d dimensions.

    Args:
        shape: (…, d); an activation with positions is one point, so flatten it first.
        p: 1, 2 or ``math.inf``.
        radius: r ≥ 0.
        generator: its device is the result's.

    Returns:
        float32 of the given shape.

    Raises:
        ConfigError: p is none of the three.
    """
    check_norm(p)
    options: Any = {"generator": generator, "device": generator.device}
    if p == 2:
        directions = torch.randn(shape, **options)
    else:
        directions = 2 * torch.rand(shape, **options) - 1
        if p == 1:
            directions = directions.sign() * torch.empty_like(directions).exponential_(generator=generator)
    return ball_offsets(directions, torch.rand(shape[:-1], **options), p, radius)


def check_norm(p: float) -> None:
    """Refuse a norm whose ball :func:`ball` cannot fill.

    Raises:
        ConfigError: p is not 1, 2 or ∞.
    """
    if p not in NORMS:
        raise ConfigError(f"p: {p!r} is not a norm of the ball; give 1, 2 or inf")
