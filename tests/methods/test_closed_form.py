"""The limit M → ∞ at the last layer, against exact expectations: identity, laws, second order, gradients, precision."""

import math

import numpy as np
import oracles
import pytest
import torch
from closed_form_scene import BOUNDS, CLASSES, Scene, normal, slope
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import integrate, stats

from sba.core.divergence import kl
from sba.core.vicinity import bounded_noise
from sba.methods import SBA
from sba.methods.closed_form import (
    dropout_bound,
    dropout_variance,
    expected_divergence,
    gaussian_bound,
    noise_variance,
    second_order,
)

# ------------------------------------------------------------------------------------------------- the identity and laws


rows = arrays.arrays(float, CLASSES, elements=st.floats(-30, 30))


def integral(value, low, high):
    return integrate.quad(lambda x: value(x) * stats.norm.pdf(x), low, high, epsabs=0, epsrel=1e-11)[0]


@given(sigma=st.floats(0.01, 10), tau=st.floats(1e-3, 8))
def test_eq7_noise_variance(sigma, tau):
    energy = 2 * integral(np.square, 0, tau)
    clipped = sigma**2 * (energy + 2 * tau**2 * stats.norm.sf(tau))
    truncated = sigma**2 * energy / (2 * integral(np.ones_like, 0, tau))
    assert noise_variance(sigma, tau) == pytest.approx(clipped, rel=1e-9)
    assert noise_variance(sigma, tau, "truncate") == pytest.approx(truncated, rel=1e-9)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 3.0])
def test_eq7_noise_variance_is_that_of_scipy_and_the_formula_of_the_docstring(tau):
    inside, density = 2 * stats.norm.cdf(tau) - 1, stats.norm.pdf(tau)
    clipped = inside - 2 * tau * density + 2 * tau**2 * (1 - stats.norm.cdf(tau))
    assert noise_variance(1.5, tau) == pytest.approx(2.25 * clipped, rel=1e-12)
    assert noise_variance(1.5, tau, "truncate") == pytest.approx(2.25 * (1 - 2 * tau * density / inside), rel=1e-12)
    assert noise_variance(1.5, tau, "truncate") == pytest.approx(stats.truncnorm(-tau, tau, scale=1.5).var(), rel=1e-9)


@pytest.mark.parametrize("bound", BOUNDS)
def test_eq7_noise_variance_is_that_of_the_noise_that_is_drawn(bound):
    levels = (torch.arange(100_001, dtype=torch.float64) + 0.5) / 100_001
    standard = torch.special.ndtri(levels) if bound == "clip" else levels
    drawn = bounded_noise(standard, 0.7, 0.7 * 1.3, bound)
    assert noise_variance(0.7, 1.3, bound) == pytest.approx(drawn.square().mean().item(), rel=1e-4)


def test_eq7_noise_variance_at_the_ends():
    for tiny in (1e-8, 1e-60):
        assert noise_variance(3.0, tiny) == pytest.approx((3 * tiny) ** 2, rel=1e-6)
        assert noise_variance(3.0, tiny, "truncate") == pytest.approx((3 * tiny) ** 2 / 3, rel=1e-6)
    for bound in BOUNDS:
        assert all(noise_variance(3.0, huge, bound) == pytest.approx(9, rel=1e-14) for huge in (50, 1e300, math.inf))
        assert noise_variance(0.0, 2.0, bound) == 0


@pytest.mark.parametrize("rescale", [True, False])
def test_eq8_dropout_variance(rescale):
    h, rate = normal(1, 3), 0.3
    law = list(oracles.dropout_law(h[0].tolist(), rate, rescale))
    for q in range(3):
        mean = oracles.expectation(lambda point, q=q: point[q], law)
        square = oracles.expectation(lambda point, q=q: point[q] ** 2, law)
        assert dropout_variance(h, rate, rescale)[0, q].item() == pytest.approx(square - mean**2, rel=1e-12)


# --------------------------------------------------------------------------------------------------------- second order


@pytest.mark.parametrize("per_row", [False, True])
def test_second_order_is_half_the_trace_of_the_fisher_matrix_and_the_covariance_of_logits(per_row):
    logits, weight = 2 * normal(4, CLASSES), normal(CLASSES, 5, seed=1)
    variance = normal(*((4, 5) if per_row else (5,)), seed=2).square()
    for i, found in enumerate(second_order(logits, weight, variance)):
        covariance = torch.diag(variance[i] if per_row else variance).tolist()
        expected = oracles.fisher_trace(logits[i].tolist(), weight.tolist(), covariance)
        assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_divergence_has_slope_two_in_sigma_and_the_error_of_second_order_slope_four():
    scene = Scene()
    sigmas = [0.02, 0.04, 0.08]
    exact = [scene.gaussian(s) for s in sigmas]
    found = [second_order(scene.logits, scene.weight, torch.full((2,), s * s)).item() for s in sigmas]
    assert slope(sigmas, exact) == pytest.approx(2, abs=0.02)
    assert slope(sigmas, np.subtract(found, exact)) == pytest.approx(4, abs=0.05)
    assert found[0] == pytest.approx(exact[0], rel=1e-2)


@pytest.mark.parametrize("rescale", [True, False])
def test_second_order_of_small_dropout_steps_has_an_error_of_third_order(rescale):
    sizes, errors = [0.02, 0.04, 0.08], []
    for size in sizes:
        scene = Scene(width=4, size=size)
        centre, exact = scene.dropout(0.3, rescale)
        found = second_order(centre, scene.weight, dropout_variance(scene.h, 0.3, rescale)).item()
        errors.append(found - exact)
        assert found == pytest.approx(exact, rel=5 * size)
    assert slope(sizes, errors) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("basis", ["colnorm", "orthogonal", "hadamard", "identity"])
@pytest.mark.parametrize("bound", BOUNDS)
def test_second_order_is_the_mean_over_what_sba_draws_whatever_the_basis(basis, bound):
    """Within three standard errors; Σ is shared by the rows of a call, so the error is taken over calls."""
    method = SBA(folds=64, gaussian_share=1.0, sigma=0.05, tau=1.0, bound=bound, basis=basis, scale="absolute")
    weight, h = normal(5, 8), normal(4, 8, seed=1)
    logits, generator = h @ weight.T, torch.Generator().manual_seed(0)
    means = []
    for _ in range(400):
        virtual = method.vicinity.sample(h, generator, None) @ weight.T
        means.append(kl(logits, virtual.unflatten(0, (64, 4))).mean().item())
    expected = second_order(logits, weight, torch.full((8,), noise_variance(0.05, 1.0, bound))).mean().item()
    error = np.std(means, ddof=1) / math.sqrt(len(means))
    assert error < 0.03 * expected
    assert abs(np.mean(means) - expected) < 3 * error


# ------------------------------------------------------------------------------------- the expected divergence, and zeros


@pytest.mark.parametrize("rescale", [True, False])
def test_eq10_expected_divergence_over_all_masks(rescale):
    scene = Scene(width=5, seed=8)
    centre, exact = scene.dropout(0.4, rescale)
    found = expected_divergence(scene.logits, centre, torch.tensor([exact], dtype=torch.float64)).item()
    law = oracles.dropout_law(scene.h[0].tolist(), 0.4, rescale)
    assert found == pytest.approx(scene.divergence(law), rel=0, abs=1e-12)
    # without rescaling a part of it is the price of the shrunken centre (open point 11)
    assert (found - exact > 1e-3) == (not rescale)


def test_nothing_moves_nothing_costs():
    logits, weight, h = normal(4, CLASSES), normal(CLASSES, 5, seed=1), normal(4, 5, seed=2)
    forms = [
        second_order(logits, weight, torch.zeros(5)),
        gaussian_bound(logits, weight, torch.zeros(5)),
        *(dropout_bound(logits, h, weight, 0.0, rescale) for rescale in (True, False)),
        *(second_order(logits, weight, dropout_variance(h, 0.0, rescale)) for rescale in (True, False)),
    ]
    for spread in forms:
        assert expected_divergence(logits, logits, spread).abs().max() < 1e-15


def test_a_constant_added_to_logits_or_rows_changes_nothing():
    """In 32 bits, where the squares of the shifted rows would drown their differences."""
    logits, weight, h = normal(4, CLASSES).float(), normal(CLASSES, 5, seed=1).float(), normal(4, 5, seed=2).float()
    moved, shifted = logits + 7, weight + 100 * normal(5, seed=3).float()
    variance = normal(5, seed=4).square().float()
    close = {"rtol": 1e-3, "atol": 1e-5}
    for form in (second_order, gaussian_bound):
        torch.testing.assert_close(form(moved, shifted, variance), form(logits, weight, variance), **close)
    bounds = dropout_bound(moved, h, shifted, 0.4, True), dropout_bound(logits, h, weight, 0.4, True)
    torch.testing.assert_close(*bounds, **close)


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize(
    "form",
    [
        lambda z, w, v, h: second_order(z, w, v),
        lambda z, w, v, h: second_order(z, w, dropout_variance(h, 0.3, True)),
        lambda z, w, v, h: gaussian_bound(z, w, v),
        lambda z, w, v, h: dropout_bound(z, h, w, 0.3, True),
        lambda z, w, v, h: dropout_bound(z, h, w, 0.3, False),
        lambda z, w, v, h: expected_divergence(z, 0.5 * z, gaussian_bound(0.5 * z, w, v)),
    ],
)
def test_gradients_flow_into_everything(form):
    inputs = [normal(4, CLASSES), normal(CLASSES, 5, seed=1), normal(5, seed=2).square(), normal(4, 5, seed=3)]
    assert torch.autograd.gradcheck(form, [x.requires_grad_() for x in inputs])


def linear_scene():
    """W, b and a small h, such that dropout moves the logits little."""
    weight, bias, h = normal(CLASSES, 6), normal(CLASSES, seed=2), 0.05 * normal(1, 6, seed=1)
    return weight.requires_grad_(), bias, h.requires_grad_()


def gradient(loss, *inputs):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, inputs)])


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("bound", [True, False])
def test_eq12_the_gradient_of_the_limit_is_the_mean_gradient_over_all_masks(detach, rescale, bound):
    (weight, bias, h), rate = linear_scene(), 0.4
    masks = torch.tensor([[m >> q & 1 for q in range(6)] for m in range(64)], dtype=torch.float64)
    shares = (1 - rate) ** masks.sum(1) * rate ** (6 - masks.sum(1))
    logits = h @ weight.T + bias
    reference = logits.detach() if detach else logits
    virtual = (masks / (1 - rate) if rescale else masks) * h @ weight.T + bias
    exact = gradient((shares * kl(reference, virtual)).sum(), weight, h)

    logits = h @ weight.T + bias
    reference = logits.detach() if detach else logits
    centre = logits if rescale else (1 - rate) * h @ weight.T + bias
    if bound:
        spread = dropout_bound(centre, h, weight, rate, rescale)
    else:
        spread = second_order(centre, weight, dropout_variance(h, rate, rescale))
    found = gradient(expected_divergence(reference, centre, spread).sum(), weight, h)
    assert (found - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("detach", [True, False])
def test_eq12_the_gradient_of_the_limit_is_the_mean_sampled_gradient(detach):
    """Gaussian points, within four standard errors in each of the numbers of W and h."""
    weight, bias, h = linear_scene()
    method = SBA(folds=2000, gaussian_share=1.0, sigma=0.03, basis="identity", scale="absolute")
    generator, sampled = torch.Generator().manual_seed(0), []
    for _ in range(50):
        logits = h @ weight.T + bias
        reference = logits.detach() if detach else logits
        virtual = method.vicinity.sample(h, generator, None) @ weight.T + bias
        sampled.append(gradient(kl(reference, virtual).mean(), weight, h))
    sampled = torch.stack(sampled)
    variance = torch.full((6,), noise_variance(0.03, 2.0))
    spread = second_order(h @ weight.T + bias, weight, variance)
    found = gradient(spread.sum(), weight, h)
    error = sampled.std(0) / math.sqrt(len(sampled))
    assert ((found - sampled.mean(0)).abs() < 4 * error).all()
    # a constant teacher leaves noise of first order in the gradient before the layer, a moving one takes it out
    assert error.norm() < (0.2 if detach else 0.02) * found.norm()


# ------------------------------------------------------------------------------------------------------------ precision


FORMS = {
    "second_order": lambda z, w, h: second_order(z, w, dropout_variance(h, 0.5, True)),
    "gaussian_bound": lambda z, w, h: gaussian_bound(z, w, dropout_variance(h, 0.5, True)),
    "dropout_bound": lambda z, w, h: dropout_bound(z, h, w, 0.5, True),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_low_precision_and_autocast_are_computed_in_32_bits(form):
    low = [x.bfloat16() for x in (normal(8, 10), normal(10, 64, seed=1) / 8, normal(8, 64, seed=2))]
    exact = form(*(x.double() for x in low))
    with torch.autocast("cpu", torch.bfloat16):
        found = form(*low)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_certain_predictions_are_finite_and_so_are_their_gradients(form):
    z, w, h = 1e4 * normal(8, 10).float(), 10 * normal(10, 64, seed=1).float(), normal(8, 64, seed=2).float()
    h[0] = 0
    inputs = [x.requires_grad_() for x in (z, w, h)]
    loss = form(*inputs)
    assert loss.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss.sum(), inputs))
