"""Upper bounds of the expected divergence, against exact expectations: all 2^Q dropout masks, and Gaussian quadrature."""

import math

import numpy as np
import oracles
import pytest
import torch
from closed_form_scene import BOUNDS, CLASSES, Scene, normal, seeds
from hypothesis import given
from hypothesis import strategies as st

from sba.methods.closed_form import (
    bernoulli_cumulant,
    dropout_bound,
    dropout_variance,
    gaussian_bound,
    noise_variance,
    second_order,
)


def gaussian_mgf(variance):
    return lambda q, a: variance[q] * a * a / 2


def test_gaussian_bound_is_jensens_with_the_mean_row_as_anchor():
    logits, weight, variance = 2 * normal(4, CLASSES), normal(CLASSES, 5, seed=1), normal(4, 5, seed=2).square()
    for shared in (False, True):
        found = gaussian_bound(logits, weight, variance[0] if shared else variance)
        for i, z in enumerate(logits.tolist()):
            mgf = gaussian_mgf(variance[0 if shared else i].tolist())
            anchor = oracles.mean_row(z, weight.tolist())
            expected = oracles.jensen_bound(z, weight.tolist(), mgf, anchor)
            assert found[i].item() == pytest.approx(expected, rel=1e-12)


@given(seed=seeds, sigma=st.floats(0.05, 1.5))
def test_gaussian_bound_is_above_the_exact_spread(seed, sigma):
    scene = Scene(width=1, seed=seed)
    exact = scene.gaussian(sigma, units=(1.0,))
    assert gaussian_bound(scene.logits, scene.weight, torch.full((1,), sigma**2)).item() >= exact - 1e-9


@pytest.mark.parametrize("bound", BOUNDS)
@given(seed=seeds, sigma=st.floats(0.05, 1.5), tau=st.floats(0.2, 4))
def test_gaussian_bound_holds_for_bounded_noise_with_its_own_variance(bound, seed, sigma, tau):
    scene = Scene(width=1, seed=seed)
    exact = scene.gaussian(sigma, tau, bound, units=(1.0,))
    variance = torch.full((1,), noise_variance(sigma, tau, bound), dtype=torch.float64)
    assert gaussian_bound(scene.logits, scene.weight, variance).item() >= exact - 1e-9


@pytest.mark.parametrize("bound", [*BOUNDS, "none"])
def test_gaussian_bound_of_two_features_with_units(bound):
    scene, units = Scene(seed=5), (0.5, 1.5)
    exact = scene.gaussian(0.5, 1.0, bound, units)
    variance = (
        noise_variance(0.5, *((math.inf, "clip") if bound == "none" else (1.0, bound))) * torch.tensor(units) ** 2
    )
    assert exact < gaussian_bound(scene.logits, scene.weight, variance).item() < 1.25 * exact


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_bounded_noise_has_no_heavier_exponential_moments_than_a_gaussian_of_its_variance(bound, tau):
    """E cosh(tε) ≤ e^{vt²/2}: what the bound for clipped and truncated noise rests on."""
    law = [(p, point[0]) for p, point in oracles.gaussian_law([0.0], [1.0], 1.0, tau, bound, nodes=80)]
    variance = noise_variance(1.0, tau, bound)
    for t in np.geomspace(0.1, 20, 12):
        moment = sum(p * math.cosh(t * x) for p, x in law)
        assert math.log(moment) <= variance * t * t / 2 + 1e-12


def test_the_mean_row_is_the_best_anchor_to_first_order():
    logits, weight, variance = normal(1, CLASSES), normal(CLASSES, 4, seed=1), [1e-4] * 4
    z, rows_ = logits[0].tolist(), weight.tolist()
    found = gaussian_bound(logits, weight, torch.tensor(variance, dtype=torch.float64)).item()
    anchors = [[0.0] * 4, *rows_, *normal(20, 4, seed=2).tolist()]
    assert found < min(oracles.jensen_bound(z, rows_, gaussian_mgf(variance), a) for a in anchors)


def test_the_mean_row_is_not_the_best_anchor_for_large_noise():
    logits, weight = torch.tensor([[0.9, 0.1]], dtype=torch.float64).log(), torch.tensor([[1.0], [-5.0]])
    without = oracles.jensen_bound(logits[0].tolist(), weight.tolist(), gaussian_mgf([1.0]), [0.0])
    assert gaussian_bound(logits, weight, torch.ones(1)).item() > without + 1


@pytest.mark.parametrize("rescale", [True, False])
def test_eq8_dropout_bound_is_jensens_with_the_exact_cumulants(rescale):
    scene, rate = Scene(width=4, seed=3), 0.3
    centre, _ = scene.dropout(rate, rescale)

    def mgf(q, a):
        kept = scene.h[0, q].item() / (1 - rate if rescale else 1)
        mean = (1 - rate) * kept
        return math.log((1 - rate) * math.exp(a * (kept - mean)) + rate * math.exp(-a * mean))

    z, rows_ = centre[0].tolist(), scene.weight.tolist()
    expected = oracles.jensen_bound(z, rows_, mgf, oracles.mean_row(z, rows_))
    assert dropout_bound(centre, scene.h, scene.weight, rate, rescale).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rescale", [True, False])
@given(seed=seeds, rate=st.floats(0, 0.95), width=st.integers(1, 6))
def test_eq8_dropout_bound_is_above_the_exact_spread(rescale, seed, rate, width):
    scene = Scene(width=width, seed=seed)
    centre, exact = scene.dropout(rate, rescale)
    assert dropout_bound(centre, scene.h, scene.weight, rate, rescale).item() >= exact - 1e-12


@pytest.mark.parametrize("rescale", [True, False])
def test_bounds_and_second_order_agree_for_small_steps(rescale):
    scene = Scene(width=4, size=0.01)
    centre, exact = scene.dropout(0.5, rescale)
    variance = dropout_variance(scene.h, 0.5, rescale)
    bound = dropout_bound(centre, scene.h, scene.weight, 0.5, rescale).item()
    assert bound == pytest.approx(exact, rel=1e-2)
    assert bound == pytest.approx(second_order(centre, scene.weight, variance).item(), rel=1e-2)
    assert bound == pytest.approx(gaussian_bound(centre, scene.weight, variance).item(), rel=1e-2)


@given(u=st.floats(-300, 300), rate=st.floats(0.01, 0.99))
def test_bernoulli_cumulant(u, rate):
    expected = np.logaddexp(math.log(1 - rate) + rate * u, math.log(rate) - (1 - rate) * u)
    assert bernoulli_cumulant(torch.tensor(u, dtype=torch.float64), rate).item() == pytest.approx(expected, abs=1e-12)


def test_bernoulli_cumulant_in_32_bits_is_finite_and_its_error_vanishes_with_its_argument():
    far = bernoulli_cumulant(torch.tensor([1e4, -1e4]), 0.3)
    torch.testing.assert_close(far, torch.tensor([3e3, 7e3]), rtol=1e-3, atol=0)
    near = torch.tensor([1e-3, -1e-3, 1e-5, 0.0])
    assert (bernoulli_cumulant(torch.tensor([200.0, -200.0]), 0.0) == 0).all()
    error = bernoulli_cumulant(near, 0.5).double() - bernoulli_cumulant(near.double(), 0.5)
    assert (error.abs() <= 1e-7 * near.abs()).all()
