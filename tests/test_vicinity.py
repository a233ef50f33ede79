"""The vicinity distribution, Eqs. 5–8, against loops in float64 and against its own law."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sba.errors import ConfigError
from sba.methods import SBA
from sba.moment import Moment
from sba.vicinity import DENSE_LIMIT, Vicinity, basis, bounded_noise, dropout_points, gaussian_points

BATCH, WIDTH = 3, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def vicinity(**fields):
    return SBA(**fields).vicinity


def grid(n=20_001):
    """The midpoints of n equal parts of [0, 1]: what a uniform draw is, without chance."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


# ---------------------------------------------------------------------------------------------------------- the equations


@given(folds=st.integers(1, 60), share=st.floats(0, 1))
def test_eq5_p_gaussian_and_q_dropout_points(folds, share):
    v = vicinity(folds=folds, gaussian_share=share)
    assert v.gaussian + v.dropout == folds
    assert abs(v.gaussian - share * folds) <= 0.5


def test_eq5_v_g_surrounds_the_point_and_v_d_deletes_from_it():
    h = normal(BATCH, WIDTH) + 10
    v = vicinity(folds=5, gaussian_share=0.4, scale="absolute", dropout_rescale=False)
    points = v.sample(h, generator()).unflatten(0, (5, BATCH))
    gaussian, dropout = points[:2], points[2:]
    assert (gaussian != h).all() and (gaussian - h).abs().max() < 5
    assert ((dropout == h) | (dropout == 0)).all() and (dropout == 0).any() and (dropout == h).any()


@pytest.mark.parametrize("shape", [(BATCH, WIDTH), (BATCH, 2, 3, 4)])
def test_eq6_rows_are_grouped_by_fold_first_all_of_j_1(shape):
    """With no noise and nothing deleted every virtual point is its raw point: row j·B + i belongs to sample i."""
    h = normal(*shape)
    points = vicinity(folds=6, sigma=0, dropout_rate=0).sample(h, generator())
    assert torch.equal(points, torch.cat([h] * 6))


def test_eq6_leaves_the_raw_rows_out():
    assert len(vicinity(folds=7).sample(normal(BATCH, WIDTH), generator())) == 7 * BATCH


@pytest.mark.parametrize("relative", [False, True])
def test_eq7_gaussian_points(relative):
    h, matrix = normal(BATCH, WIDTH), normal(WIDTH, WIDTH, seed=1)
    noise = (0.3 * normal(5, BATCH, WIDTH, seed=2)).clamp(-0.4, 0.4)
    scale = normal(WIDTH, seed=3).abs() if relative else None
    expected = oracles.gaussian_points(h, matrix, noise, scale if relative else torch.ones(WIDTH))
    np.testing.assert_allclose(gaussian_points(h, matrix, noise, scale), expected, rtol=1e-13)
    expected = oracles.gaussian_points(h, torch.eye(WIDTH), noise, scale if relative else torch.ones(WIDTH))
    np.testing.assert_allclose(gaussian_points(h, None, noise, scale), expected, rtol=1e-13)


@pytest.mark.parametrize("rescale", [False, True])
def test_eq8_dropout_points(rescale):
    h = normal(BATCH, WIDTH)
    keep = torch.rand(5, BATCH, WIDTH, generator=generator()) >= 0.3
    expected = oracles.dropout_points(h, keep.numpy(), 0.3, rescale)
    np.testing.assert_allclose(dropout_points(h, keep, 0.3, rescale), expected, rtol=1e-15)


def test_eqs_5_to_8_together_in_the_published_order_of_draws():
    """Σ first, then ε, then the masks: a seed means the same virtual points in every version."""
    h = normal(BATCH, WIDTH)
    points = vicinity(folds=5, gaussian_share=0.6, sigma=0.3, tau=1.5).sample(h, generator(7))
    draws = generator(7)
    matrix = torch.randn(WIDTH, WIDTH, generator=draws).double()
    matrix = matrix / matrix.square().sum(0).sqrt()
    noise = (0.3 * torch.randn(3, BATCH, WIDTH, generator=draws).double()).clamp(-0.45, 0.45)
    keep = torch.rand(2, BATCH, WIDTH, generator=draws) >= 0.5
    gaussian = oracles.gaussian_points(h, matrix, noise, h.std(0, correction=0))
    expected = np.concatenate([gaussian, oracles.dropout_points(h, keep.numpy(), 0.5, True)])
    np.testing.assert_allclose(points, expected.reshape(-1, WIDTH), rtol=1e-6, atol=1e-7)  # the draws are float32


# -------------------------------------------------------------------------------------------------------------- the noise


def clipped_variance(tau):
    """Of a standard Gaussian clipped at ±τ, by quadrature."""
    return 2 * stats.norm.expect(lambda x: x**2, lb=0, ub=tau) + 2 * tau**2 * stats.norm.sf(tau)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 3.0])
def test_clipped_noise_has_the_clipped_gaussians_variance(tau):
    noise = bounded_noise(torch.special.ndtri(grid()), 0.5, 0.5 * tau)
    assert noise.var().item() / 0.25 == pytest.approx(clipped_variance(tau), rel=1e-3)
    assert noise.abs().max() == 0.5 * tau
    assert (noise.abs() == 0.5 * tau).double().mean().item() == pytest.approx(2 * stats.norm.sf(tau), abs=2e-4)


def test_clipping_at_sigma_leaves_0_516_of_the_variance():
    assert bounded_noise(torch.special.ndtri(grid()), 1.0, 1.0).var().item() == pytest.approx(0.516, abs=5e-4)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 3.0])
def test_truncated_noise_has_the_truncated_gaussians_law(tau):
    noise = bounded_noise(grid(), 0.5, 0.5 * tau, "truncate")
    law = stats.truncnorm(-tau, tau, scale=0.5)
    assert noise.var().item() == pytest.approx(law.var(), rel=1e-3)
    np.testing.assert_allclose(noise.numpy(), law.ppf(grid().numpy()), atol=1e-9)


@given(st.floats(1e-3, 10), st.floats(1e-2, 10), st.sampled_from(["clip", "truncate"]))
def test_noise_stays_within_its_bound(sigma, multiple, bound):
    extreme = torch.tensor([0.0, 1e-12, 1 - 1e-12]) if bound == "truncate" else torch.tensor([-9.0, 0.0, 9.0])
    noise = bounded_noise(extreme, sigma, multiple * sigma, bound)
    assert noise.isfinite().all()
    assert noise.abs().max().item() <= multiple * sigma * (1 + 1e-6)


@pytest.mark.parametrize("bound", ["clip", "truncate"])
def test_no_noise_at_sigma_0(bound):
    assert not bounded_noise(grid(11), 0.0, 0.0, bound).any()


# -------------------------------------------------------------------------------------------------------------- the basis


def test_columns_of_colnorm_have_norm_one():
    matrix = basis("colnorm", 50, generator(), torch.float64)
    assert matrix.norm(dim=0).numpy() == pytest.approx(np.ones(50), abs=1e-6)
    assert matrix.norm(dim=1).std() > 0.05  # columns, not rows
    assert not torch.allclose(matrix.T @ matrix, torch.eye(50, dtype=torch.float64), atol=0.1)


def test_orthogonal_basis_is_orthogonal_and_takes_both_orientations():
    matrices = [basis("orthogonal", 20, generator(seed)) for seed in range(10)]
    for matrix in matrices:
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(20), rtol=0, atol=1e-5)
    assert {round(torch.linalg.det(m).item()) for m in matrices} == {-1, 1}


def test_orthogonal_basis_is_uniform():
    """Under the uniform law every entry has mean 0; QR without its signs would give the first column one sign."""
    corners = torch.stack([basis("orthogonal", 3, generator(seed)).diagonal() for seed in range(400)])
    assert (corners.mean(0).abs() < 4 * math.sqrt(1 / 3 / 400)).all()
    assert (corners.var(0) - 1 / 3).abs().max() < 0.06


def test_identity_basis_needs_no_matrix():
    assert basis("identity", 10 * DENSE_LIMIT, generator()) is None


@pytest.mark.parametrize("kind", ["colnorm", "orthogonal"])
def test_a_basis_too_large_is_refused_with_its_size(kind):
    with pytest.raises(
        ConfigError, match=rf"a dense '{kind}' Σ for 65536 features would hold 16.0 GiB; use basis='identity'"
    ):
        basis(kind, 65_536, generator())


def test_unknown_basis():
    with pytest.raises(ConfigError, match="basis: 'qr' is not known; give colnorm, orthogonal or identity"):
        basis("qr", 4, generator())


def test_one_basis_for_the_batch_drawn_anew_each_time(monkeypatch):
    drawn = []

    def counted(*args):
        drawn.append(basis(*args))
        return drawn[-1]

    monkeypatch.setattr("sba.vicinity.basis", counted)
    for step in (0, 1):
        vicinity(folds=8).sample(normal(BATCH, WIDTH), Moment(0, step).generator("vicinity"))
    assert len(drawn) == 2 and not torch.equal(*drawn)


# ---------------------------------------------------------------------------------------------------- the law of a sample


def test_gaussian_points_spread_by_the_batch_around_the_raw_point():
    h = normal(4, 3) * torch.tensor([1.0, 10.0, 0.0])
    v = vicinity(folds=20_000, gaussian_share=1, sigma=0.5, tau=1.0, basis="identity")
    moved = v.sample(h, generator()).unflatten(0, (20_000, 4)) - h
    spread = 0.5 * h.std(0, correction=0)
    assert (moved.abs().amax((0, 1)) <= spread * (1 + 1e-6)).all()
    assert (moved.mean(0).abs() < 4 * spread / math.sqrt(20_000) + 1e-12).all()
    assert moved.square().mean((0, 1)).numpy() == pytest.approx((clipped_variance(1.0) * spread**2).numpy(), rel=0.02)


def test_absolute_noise_ignores_the_batch():
    v = vicinity(folds=500, gaussian_share=1, sigma=0.5, tau=9.0, basis="identity", scale="absolute")
    moved = v.sample(100 * normal(4, 3), generator()).unflatten(0, (500, 4)) - 100 * normal(4, 3)
    assert moved.std().item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize(("rescale", "mean"), [(True, 1.0), (False, 0.7)])
def test_rescaled_dropout_points_have_the_raw_points_as_their_mean(rescale, mean):
    h = normal(2, 3)
    v = vicinity(folds=20_000, gaussian_share=0, dropout_rate=0.3, dropout_rescale=rescale)
    average = v.sample(h, generator()).unflatten(0, (20_000, 2)).mean(0)
    np.testing.assert_allclose(average / h, torch.full((2, 3), mean), atol=4 * math.sqrt(0.3 / 0.7 / 20_000))


def test_gradients_flow_into_the_activation():
    h = normal(BATCH, WIDTH).requires_grad_()
    v = vicinity(folds=4, dropout_rate=0, scale="batch")
    (gradient,) = torch.autograd.grad(v.sample(h, generator()).sum(), h)
    assert torch.equal(gradient, torch.full_like(h, 4))  # the spread of the batch is a constant


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bound", ["clip", "truncate"])
def test_points_keep_the_activations_precision(dtype, bound):
    points = vicinity(folds=6, bound=bound).sample(normal(BATCH, WIDTH).to(dtype), generator())
    assert points.dtype == dtype and points.isfinite().all()


def test_fields_are_the_methods():
    assert set(Vicinity.__dataclass_fields__) < set(SBA.__dataclass_fields__)
