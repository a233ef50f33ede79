"""Where the forms of the limit M → ∞ stop to hold: what the book says of it, against exact expectations."""

import numpy as np
import oracles
import pytest
import torch
from scipy import stats

from sba.core.bases import basis
from sba.core.divergence import kl
from sba.methods.closed_form import dropout_bound, dropout_variance, gaussian_bound, second_order

NODES, SHARES = np.polynomial.hermite_e.hermegauss(80)
SHARES = SHARES / SHARES.sum()


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread(z, moves, shares):
    """E lse(z + move) − lse(z) over a law of moves of the logits."""
    moved = ([a + b for a, b in zip(z, move, strict=True)] for move in moves)
    return sum(p * oracles.log_sum_exp(one) for p, one in zip(shares, moved, strict=True)) - oracles.log_sum_exp(z)


def test_neither_form_of_dropout_tends_to_the_truth_as_the_rate_does_to_zero():
    """The variance vanishes, the step of a deleted feature does not: both ratios tend to those of a single deletion."""
    weight, h, logits = normal(3, 6, seed=10), 1.5 * normal(1, 6, seed=11), normal(1, 3, seed=1)
    bias = (logits - h @ weight.T)[0].tolist()
    ratios = []
    for rate in (1e-3, 1e-4):
        exact = oracles.expectation(
            lambda point: oracles.divergence(logits[0].tolist(), oracles.linear(weight.tolist(), bias, point)),
            oracles.dropout_law(h[0].tolist(), rate, True),
        )
        second = second_order(logits, weight, dropout_variance(h, rate, True)).item()
        ratios.append((second / exact, dropout_bound(logits, h, weight, rate, True).item() / exact))
    assert ratios[-1][0] > 1.4 and ratios[-1][1] > 1.9
    np.testing.assert_allclose(*ratios, rtol=0.02)


@pytest.mark.parametrize("size", [1e-2, 1e-3])
def test_for_gaussian_noise_the_bound_is_second_order_in_the_limit(size):
    weight, logits = 2 * normal(3, 6), normal(1, 3, seed=1)
    variance = size**2 * torch.ones(6, dtype=torch.float64)
    ratio = gaussian_bound(logits, weight, variance) / second_order(logits, weight, variance)
    assert ratio.item() == pytest.approx(1, abs=50 * size**2)


def test_the_bound_of_the_cross_entropy_needs_more_of_the_noise_than_mean_zero():
    """Noise that is +10 in one case of a hundred and −10/99 otherwise has mean 0 and variance 100/99; two classes, w = (1, 0)."""
    steps, shares = np.array([10.0, -10 / 99]), [0.01, 0.99]
    assert steps @ shares == pytest.approx(0)
    variance, gap = float(steps**2 @ shares), -5.0  # the logit of the class that is not the label
    exact = sum(p * np.logaddexp(0, gap + u) for p, u in zip(shares, steps, strict=True))
    claimed = np.logaddexp(0, gap + variance / 2)
    gaussian = float(SHARES @ np.logaddexp(0, gap + np.sqrt(variance) * NODES))
    assert gaussian < claimed < exact / 2


def test_a_certain_prediction_costs_nothing_to_second_order_only():
    """Two classes, a probability of 0.9997, and noise that can turn the decision."""
    z, weight, sigma = tensor([8.0, 0.0]), tensor([0.5, 0.0], [-0.5, 0.0]), 6.0
    exact = spread(z[0].tolist(), [(sigma * n / 2, -sigma * n / 2) for n in NODES], SHARES)
    second = second_order(z, weight, sigma**2 * torch.ones(2, dtype=torch.float64)).item()
    assert second < 0.01 and exact > 20 * second


def test_the_bound_may_fall_short_under_the_column_normalised_basis():
    """At Q = 4 the energy along one direction, aᵀΣΣᵀa, has mean 1 and scatters, and an exponential of it is what counts.

    It is a sum of Q squares of coordinates of random unit vectors, each of law Beta(½, (Q − 1)/2).
    """
    generator = torch.Generator().manual_seed(0)
    drawn = [basis("colnorm", 4, generator).matrix(4)[0].double().square().sum().item() for _ in range(2000)]
    energies = stats.beta(0.5, 1.5).rvs((4000, 4), random_state=0).sum(1)
    assert stats.ks_2samp(drawn, energies).pvalue > 0.01
    z, sigma, weight = [8.0, 0.0], 1.5, tensor([1.0, 0, 0, 0], [0, 0, 0, 0])
    parts = [float(SHARES @ np.logaddexp(z[0] + np.sqrt(e) * sigma * NODES, 0)) for e in energies]
    exact, error = np.mean(parts) - oracles.log_sum_exp(z), np.std(parts) / np.sqrt(len(parts))
    bound = gaussian_bound(tensor(z), weight, sigma**2 * torch.ones(4, dtype=torch.float64)).item()
    assert bound < 0.9 * exact and error < 0.02 * exact


def test_the_divergence_falls_with_flat_logits_and_with_saturated_ones():
    """Features move by the same noise. At fixed weights a uniform prediction costs most; smaller weights cost less everywhere."""
    weight, noise = normal(10, 64) / 8, 0.5 * normal(4000, 64, seed=2)

    def mean_divergence(certainty, size=1.0):
        z = torch.zeros(10, dtype=torch.float64)
        z[0] = np.log(9 * certainty / (1 - certainty))
        return kl(z, z + size * noise @ weight.T).mean().item()

    uniform, *sure = (mean_divergence(p) for p in (0.1, 0.5, 0.9, 0.99, 0.999))
    assert [uniform, *sure] == sorted([uniform, *sure], reverse=True) and uniform > 15 * sure[2]
    assert mean_divergence(0.1, 0.5) == pytest.approx(uniform / 4, rel=0.1)
    assert mean_divergence(0.1, 0.0) == 0


@pytest.mark.parametrize("rescale", [True, False])
def test_a_moving_teacher_becomes_less_certain_unless_the_vicinity_is_centred(rescale):
    """Decisions, point 15: the mean slope over all masks in the teacher's logits, at the last layer."""
    weight, h = 0.5 * normal(3, 5, seed=3), normal(1, 5, seed=4)
    teacher = (h @ weight.T).requires_grad_()
    law = [(p, tensor(point)) for p, point in oracles.dropout_law(h[0].tolist(), 0.5, rescale)]
    sum(p * kl(teacher, point @ weight.T).sum() for p, point in law).backward()

    def entropy(z):
        return -(z.softmax(-1) * z.log_softmax(-1)).sum().item()

    gained = entropy(teacher.detach() - 0.1 * teacher.grad) - entropy(teacher.detach())
    assert gained == pytest.approx(0, abs=1e-14) if rescale else gained > 1e-3
