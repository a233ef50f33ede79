"""The limit M → ∞ of Eqs. 10–11 at the last linear layer, z = W h + bias: the expected divergence without a virtual point.

There the logits of a virtual point are z′ = z_μ + W u, where z_μ = E z′ and u has mean zero. D_KL(Y ‖ Y′) is exactly the Bregman
divergence of log-sum-exp, lse(z′) − lse(z) − Yᵀ(z′ − z). So a single expectation is left, the *spread* E lse(z′) − lse(z_μ). It has
no closed form; here are its second order in u and upper bounds of it, after ISDA (Wang et al., 2019). All divergences are in nats,
and gradients flow into every tensor that is given.

Activations h have shape (B, Q), logits (B, C), the weight W (C, Q), and variances v of the features (Q,), or (B, Q) if each row has
its own. The rate r is the probability of deleting a feature, 0 ≤ r < 1, ``rescale`` is that of
:func:`sba.core.vicinity.dropout_points` (open point 11). Spreads and divergences have shape (B,).

Everything is computed in float32 at least, also under autocast: in float32 rounding leaves a floor of about 1e-7 ‖W‖² v.
"""

import math

import torch
from torch import Tensor

from sba.core.divergence import full_precision, kl
from sba.core.vicinity import Bound, Vicinity


def noise_variance(sigma: float, tau: float, bound: Bound = "clip") -> float:
    """Return the variance of one component of the bounded noise ε of Eq. 7.

    With φ and Φ of the standard normal law it is, for "clip", σ² [2Φ(τ) − 1 − 2τφ(τ) + 2τ²(1 − Φ(τ))], and for "truncate"
    σ² [1 − 2τφ(τ)/(2Φ(τ) − 1)]. Both are computed without the differences. σ ≥ 0 is the standard deviation before the noise is
    bounded (:func:`sba.core.vicinity.bounded_noise`), and τ > 0 counts in multiples of it.
    """
    tau = min(tau, 40.0)  # nothing is left beyond, and τ² must not overflow
    Vicinity(sigma=sigma, tau=tau, bound=bound)  # its ranges are theirs
    inside = math.erf(tau / math.sqrt(2))
    # E ε² over |ε| ≤ τ is a regularised incomplete gamma function, the law of χ² with three degrees of freedom at τ²
    energy = torch.special.gammainc(*torch.tensor([1.5, tau * tau / 2], dtype=torch.float64)).item()
    if bound == "clip":
        return sigma**2 * (energy + tau * tau * math.erfc(tau / math.sqrt(2)))
    return sigma**2 * energy / inside


def dropout_variance(h: Tensor, rate: float, rescale: bool) -> Tensor:
    """Return the variance of each feature of the dropout points of Eq. 8: h² r/(1 − r), or h² r(1 − r) without rescaling."""
    Vicinity(dropout_rate=rate)  # its range is this one's
    return full_precision(h).square() * (rate / (1 - rate) if rescale else rate * (1 - rate))


def second_order(logits: Tensor, weight: Tensor, variance: Tensor) -> Tensor:
    """The spread to second order: ½ tr(F W diag(v) Wᵀ) = ½ Σ_q v_q Var_{c∼Y}(w_cq), with F = diag(Y) − Y Yᵀ.

    It holds for uncorrelated u_q of variance v_q, of whatever law, and so for every basis Σ: E[ΣΣᵀ] = I. Costs one
    product of B·C·Q, or two if each row has its own v. The logits are those at the mean of the vicinity. The error is of fourth
    order for a symmetric u, of third for another.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_y, weight, mean = _centred(logits, weight)
        variance = variance.to(weight.dtype)
        energy = (log_y.exp() * (variance @ weight.square().T)).sum(-1)
        return 0.5 * (energy - (variance * mean.square()).sum(-1))


def gaussian_bound(logits: Tensor, weight: Tensor, variance: Tensor) -> Tensor:
    """An upper bound of the spread for Gaussian u: lse_c(z_c + ½ ‖w_c − w̄‖²_v) − lse(z), where w̄ = Σ_c Y_c w_c.

    It is Jensen's inequality on the logarithm after w̄ᵀu, of mean zero, has been taken out of the exponents; unless the noise is
    large it lies far above without that. It holds for independent Gaussian u_q of variance v_q, and for clipped and truncated
    noise with the variance of :func:`noise_variance`, since E cosh(tε) ≤ e^{vt²/2} there too. An orthogonal basis changes nothing;
    under one of another kind u is not Gaussian with this v, and the bound may fall short. Costs one product more than
    :func:`second_order`, which it equals to first order in v; the logits are those at the mean of the vicinity.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_y, weight, mean = _centred(logits, weight)
        variance = variance.to(weight.dtype)
        # ‖w_c − w̄‖²_v of shape (B, C), by matrix products alone
        cross = (variance * mean) @ weight.T
        distance = variance @ weight.square().T - 2 * cross + (variance * mean.square()).sum(-1, keepdim=True)
        return (log_y + 0.5 * distance).logsumexp(-1)


def dropout_bound(logits: Tensor, h: Tensor, weight: Tensor, rate: float, rescale: bool) -> Tensor:
    """The same bound for the dropout points of Eq. 8: lse_c(z_c + Σ_q ψ_r(t_cq)) − lse(z), rigorous.

    ψ_r(t) = log[(1 − r) e^{rt} + r e^{−(1−r)t}] is the cumulant generating function of a centred Bernoulli variable, and t_cq is
    (w_cq − w̄_q) h_q, divided by 1 − r if the points are. Builds tensors of shape (B, C, Q). The logits are those at the mean of
    the vicinity: of h, or of (1 − r) h without rescaling.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_y, weight, mean = _centred(logits, weight)
        reach = full_precision(h) / (1 - rate if rescale else 1)
        exponents = (weight - mean[:, None]) * reach[:, None]
        return (log_y + bernoulli_cumulant(exponents, rate).sum(-1)).logsumexp(-1)


def bernoulli_cumulant(t: Tensor, rate: float) -> Tensor:
    """ψ_r(t) = log[(1 − r) e^{rt} + r e^{−(1−r)t}] = log E e^{t(b − (1−r))}, where b is 0 with probability r and 1 otherwise."""
    Vicinity(dropout_rate=rate)
    if rate == 0:
        return torch.zeros_like(t)
    # with the larger of the two exponentials taken out nothing overflows; the error is proportional to t, not constant
    # filled there: new_tensor() would send the number to a GPU and wait
    side = torch.where(t >= 0, t.new_full((), rate), t.new_full((), 1 - rate))
    return t.abs() * side + torch.log1p(side * torch.expm1(-t.abs()))


def expected_divergence(reference: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """E D_KL(Y ‖ Y′) = D_KL(Y ‖ softmax(z_μ)) + [E lse(z′) − lse(z_μ)], exact.

    The first part is the price of a vicinity that is not centred on its point (open point 11). It is 0 for Gaussian points and for
    rescaled dropout; for Eq. 8 as printed z_μ = (1 − r) z + r·bias. The second, the spread, is exact or one of the forms above.
    ``reference`` holds the logits z of the raw points, detached if the teacher is a constant, ``centre`` is z_μ.
    """
    return kl(reference, centre) + spread


def _centred(logits: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log Y of shape (B, C), W with its mean over classes removed, and w̄ = Σ_c Y_c w_c of shape (B, Q)."""
    log_y = full_precision(logits).log_softmax(-1)
    weight = full_precision(weight)
    # only differences of rows count, and smaller numbers leave smaller rounding errors
    weight = weight - weight.mean(0)
    return log_y, weight, log_y.exp().to(weight.dtype) @ weight
