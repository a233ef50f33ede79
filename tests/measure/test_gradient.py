"""Eqs. 12–15 against autograd, finite differences of plain loops, and scipy; and what is wrong with Eq. 14."""

import math

import numpy as np
import oracles
import oracles_measure
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sba.core.divergence import kl, soft_loss
from sba.measure.gradient import cross_entropy_gradient, divergence_gradient, half_chi_square, inconsistency, log_linear

BATCH, FOLDS, CLASSES = 4, 3, 10
SCALES = [2.0**-i for i in range(8, 14)]


def logits(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, CLASSES, generator=generator, dtype=torch.float64)


def power(values):
    """Exponent p of values ∝ scaleᵖ over SCALES."""
    return np.polyfit(np.log(SCALES), np.log(values), 1)[0]


@st.composite
def pairs(draw, limit=30):
    """Two tensors of logits of one random shape (…, C)."""
    shape = (*draw(st.lists(st.integers(1, 3), max_size=2)), draw(st.integers(2, 6)))
    values = arrays.arrays(float, shape, elements=st.floats(-limit, limit))
    return torch.from_numpy(draw(values)), torch.from_numpy(draw(values))


class ClosedForm(torch.autograd.Function):
    """The divergence with Eq. 12's closed form as its backward pass."""

    @staticmethod
    def forward(ctx, z, v):
        ctx.save_for_backward(z, v)
        return kl(z, v)

    @staticmethod
    def backward(ctx, upstream):
        d_reference, d_virtual = divergence_gradient(*ctx.saved_tensors)
        return upstream[..., None] * d_reference, upstream[..., None] * d_virtual


def test_eq12_closed_form_passes_gradcheck():
    z, v = logits(BATCH).requires_grad_(), logits(BATCH, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(ClosedForm.apply, (z, v))


def test_eq12_closed_form_is_the_slope_of_the_divergence_by_loops():
    z, v = logits(1)[0].tolist(), logits(1, seed=1)[0].tolist()
    d_reference, d_virtual = divergence_gradient(torch.tensor(z).double(), torch.tensor(v).double())
    by_loops = oracles.central_differences(lambda u: oracles.divergence(u, v), z)
    np.testing.assert_allclose(d_reference.numpy(), by_loops, rtol=0, atol=1e-6)
    by_loops = oracles.central_differences(lambda u: oracles.divergence(z, u), v)
    np.testing.assert_allclose(d_virtual.numpy(), by_loops, rtol=0, atol=1e-6)


@given(pairs())
def test_eq12_closed_form_equals_autograd(pair):
    z, v = (p.requires_grad_() for p in pair)
    expected = torch.autograd.grad(kl(z, v).sum(), (z, v))
    torch.testing.assert_close(divergence_gradient(z.detach(), v.detach()), expected, rtol=1e-9, atol=1e-11)


def test_eq12_averaged_over_folds_and_batch_is_the_gradient_of_the_soft_loss():
    z, v = logits(BATCH).requires_grad_(), logits(FOLDS, BATCH, seed=1).requires_grad_()
    expected = torch.autograd.grad(soft_loss(z, v.flatten(0, 1), detach=False), (z, v))
    d_reference, d_virtual = divergence_gradient(z.detach(), v.detach())
    assert d_reference.shape == d_virtual.shape == (FOLDS, BATCH, CLASSES)
    torch.testing.assert_close(d_reference.sum(0) / (FOLDS * BATCH), expected[0])
    torch.testing.assert_close(d_virtual / (FOLDS * BATCH), expected[1])


@given(pairs(limit=10))
def test_eq12_in_the_reference_is_exactly_linear_in_the_step_of_the_logits(pair):
    """−(diag Y − Y Yᵀ)(z′ − z): the two readings of the teacher differ by it, and it averages to nothing where z′ − z does."""
    z, step = pair
    y = z.softmax(-1)
    fisher = torch.diag_embed(y) - y[..., :, None] * y[..., None, :]
    there, back = (divergence_gradient(z, z + sign * step)[0] for sign in (1, -1))
    torch.testing.assert_close(there, -(fisher @ step[..., None])[..., 0], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(there + back, torch.zeros_like(z), rtol=0, atol=1e-11)


@given(pairs())
def test_eq12_does_not_push_along_a_common_shift_of_the_logits(pair):
    for derivative in divergence_gradient(*pair):
        assert derivative.sum(-1).abs().max() < 1e-11


@pytest.mark.parametrize("base", [math.e, 2])
def test_eq13_is_the_logarithm_up_to_second_order(base):
    z, direction = logits(1)[0], logits(1, seed=1)[0]
    errors = []
    for s in SCALES:
        y, moved = z.softmax(-1), (z + s * direction).softmax(-1)
        errors.append((log_linear(y, moved - y, base) - moved.log() / math.log(base)).abs().max())
    assert power(errors) == pytest.approx(2, abs=0.02)


def test_eq13_by_hand():
    y, delta = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([0.125, -0.125], dtype=torch.float64)
    assert log_linear(y, delta, base=2).tolist() == pytest.approx([-1 + 0.25 / math.log(2), -2 - 0.5 / math.log(2)])
    assert log_linear(y, delta).tolist() == pytest.approx([math.log(0.5) + 0.25, math.log(0.25) - 0.5])


@pytest.mark.parametrize("base", [math.e, 2])
def test_eq14_is_eq12_with_eq13_inserted(base):
    y, y_virtual = logits(BATCH).softmax(-1), logits(BATCH, seed=1).softmax(-1)
    inserted = y * (y.log() / math.log(base) - log_linear(y, y_virtual - y, base))
    torch.testing.assert_close(inconsistency(y, y_virtual, base), inserted)


@given(pairs())
def test_eq14_summed_over_classes_vanishes(pair):
    y, y_virtual = (p.softmax(-1) for p in pair)
    assert inconsistency(y, y_virtual).sum(-1).abs().max() <= 1e-15


def test_eq14_has_no_gradient_where_the_divergence_has_one():
    z, v = logits(BATCH).requires_grad_(), logits(FOLDS, BATCH, seed=1).requires_grad_()
    delta = inconsistency(z.softmax(-1), v.softmax(-1)).sum(-1).mean()
    for ours, true in zip(
        torch.autograd.grad(delta, (z, v)), torch.autograd.grad(kl(z, v).mean(), (z, v)), strict=True
    ):
        assert ours.abs().max() < 1e-16 and true.abs().max() > 1e-3


def test_eq14_read_for_one_class_is_signed_and_descending_it_raises_the_divergence():
    z = logits(1)[0]
    v = (z + 0.1 * logits(1, seed=1)[0]).requires_grad_()
    before = kl(z, v).item()
    summand = inconsistency(z.softmax(-1), v.softmax(-1))
    assert summand.min() < 0 < summand.max()
    for _ in range(20):
        (slope,) = torch.autograd.grad(inconsistency(z.softmax(-1), v.softmax(-1))[z.argmax()], v)
        v = (v - slope).detach().requires_grad_()
    assert inconsistency(z.softmax(-1), v.softmax(-1))[z.argmax()] < 0
    assert kl(z, v) > 2 * before


def test_eq14_read_for_one_class_raises_the_signed_difference_and_closes_a_negative_gap_first():
    z = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)
    v, deltas = z - torch.tensor([0.8, 0, 0], dtype=torch.float64), []
    for _ in range(200):
        v = v.detach().requires_grad_()
        summand = inconsistency(z.softmax(-1), v.softmax(-1))[0]
        deltas.append(-summand.item())
        v = v - 0.5 * torch.autograd.grad(summand, v)[0]
    assert deltas == sorted(deltas) and deltas[0] < 0 < deltas[-1]
    gaps = np.abs(deltas)
    assert gaps.argmin() > 0 and (np.diff(gaps)[: gaps.argmin() - 1] < 0).all() and gaps[-1] > gaps.min()


def test_the_divergence_rises_in_every_direction_of_the_simplex_and_is_flat_along_a_constant_shift_of_the_logits():
    z = logits(1)[0]
    fisher = torch.autograd.functional.hessian(lambda v: kl(z, v), z)
    curvatures = torch.linalg.eigvalsh(fisher)
    assert abs(curvatures[0]) < 1e-12 and curvatures[1] > 1e-4
    assert kl(z, z + 3.0).item() == pytest.approx(0, abs=1e-12)
    turned = z + 0.5 * logits(200, seed=3)
    away = (turned.softmax(-1) - z.softmax(-1)).norm(dim=-1)
    assert (kl(z, turned) >= 0.5 * away**2).all() and away.min() > 1e-3  # Pinsker


@given(pairs(limit=10))
def test_half_chi_square_equals_pearsons_statistic(pair):
    z, v = (p.reshape(-1, p.shape[-1])[0] for p in pair)
    ours = half_chi_square(z.softmax(-1), v.softmax(-1)).item()
    assert ours == pytest.approx(oracles_measure.half_chi_square(z.tolist(), v.tolist()), rel=1e-9, abs=1e-30)
    pearson = scipy.stats.chisquare(v.softmax(-1).numpy(), z.softmax(-1).numpy(), sum_check=False).statistic
    assert ours == pytest.approx(pearson / 2, rel=1e-9, abs=1e-30)


def relative_errors(scale):
    """Of value and gradient of ½ Σ δ²/Y against the divergence, for a step of the logits of the given size."""
    z = logits(BATCH).requires_grad_()
    v = (z.detach() + scale * logits(BATCH, seed=1)).requires_grad_()
    exact, leading = kl(z, v).sum(), half_chi_square(z.softmax(-1), v.softmax(-1)).sum()
    true, ours = (torch.cat(torch.autograd.grad(f, (z, v))) for f in (exact, leading))
    return abs(leading - exact).item() / exact.item(), ((ours - true).norm() / true.norm()).item()


def test_half_chi_square_is_the_leading_term_in_value_and_gradient():
    """eq-second-order: the relative errors fall in proportion to the step."""
    values, gradients = zip(*map(relative_errors, SCALES), strict=True)
    assert power(values) == pytest.approx(1, abs=0.02) and power(gradients) == pytest.approx(1, abs=0.02)
    assert values[-1] < 1e-3 and gradients[-1] < 1e-3


def test_eq15_is_the_slope_of_the_cross_entropy():
    z, labels = logits(BATCH).requires_grad_(), torch.tensor([2, 0, 9, 2])
    (expected,) = torch.autograd.grad(F.cross_entropy(z, labels), z)
    torch.testing.assert_close(cross_entropy_gradient(z.detach(), labels), expected)

    def by_loops(flat):
        rows = [flat[i * CLASSES : (i + 1) * CLASSES] for i in range(BATCH)]
        return oracles.cross_entropy(rows, labels.tolist())

    slopes = oracles.central_differences(by_loops, z.flatten().tolist())
    np.testing.assert_allclose(expected.flatten().numpy(), slopes, rtol=0, atol=1e-6)


@given(pairs(limit=5), st.data())
def test_eq15_descends_with_its_minus_sign_and_ascends_as_printed(pair, data):
    z = pair[0].reshape(-1, pair[0].shape[-1])
    labels = torch.tensor(data.draw(st.lists(st.integers(0, z.shape[1] - 1), min_size=len(z), max_size=len(z))))
    slope, before = cross_entropy_gradient(z, labels), F.cross_entropy(z, labels)
    assert F.cross_entropy(z - 1e-2 * slope, labels) < before
    # Algorithm 1 steps by −∂I₁/∂θ, and Eq. 15 prints −slope for ∂I₁/∂θ
    assert F.cross_entropy(z - 1e-2 * -slope, labels) > before


# of logits, and of probabilities
OF_LOGITS = {
    "divergence_gradient": divergence_gradient,
    "cross_entropy_gradient": lambda z, v: [cross_entropy_gradient(z, v.argmax(-1))],
}
OF_PROBABILITIES = {
    "log_linear": lambda y, v: [log_linear(y, v)],  # any numbers do for δ
    "inconsistency": lambda y, v: [inconsistency(y, v)],
    "half_chi_square": lambda y, v: [half_chi_square(y, v)],
}
FUNCTIONS = OF_LOGITS | OF_PROBABILITIES


def low_precision(name, dtype):
    """Arguments for a function: ordinary rows after a first one whose probabilities underflow."""
    z, v = logits(BATCH), logits(BATCH, seed=1)
    z[0], v[0] = torch.linspace(-200, 200, CLASSES), torch.linspace(200, -200, CLASSES)
    z, v = z.to(dtype), v.to(dtype)
    return (z, v) if name in OF_LOGITS else (z.softmax(-1), v.softmax(-1))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_is_raised_to_float32_and_stays_finite(name, dtype):
    inputs = low_precision(name, dtype)
    exact = FUNCTIONS[name](*(p.double() for p in inputs))
    for result, reference in zip(FUNCTIONS[name](*inputs), exact, strict=True):
        assert result.dtype == torch.float32 and result.isfinite().all()
        # the arguments are rounded, and nothing after that
        torch.testing.assert_close(result[1:].double(), reference[1:], rtol=1e-5, atol=1e-6)


@given(pairs(limit=1e4))
def test_certain_predictions_give_no_nan(pair):
    z, v = (p.float() for p in pair)
    z, v = (p.reshape(-1, p.shape[-1]) for p in (z, v))
    for name, function in FUNCTIONS.items():
        inputs = (z, v) if name in OF_LOGITS else (z.softmax(-1), v.softmax(-1))
        assert all(result.isfinite().all() for result in function(*inputs))


def test_classes_that_neither_prediction_sees_add_nothing():
    y, y_virtual = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.75, 0.0])
    assert half_chi_square(y, y_virtual).item() == pytest.approx(0.125)
    assert half_chi_square(y, y).item() == 0
