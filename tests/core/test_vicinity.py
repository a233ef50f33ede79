"""The vicinity distribution, Eqs. 5–8, against loops in float64 and against its own law."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sba.core.bases import KINDS, Dense, Identity, basis
from sba.core.rng import Step
from sba.core.vicinity import Vicinity, bounded_noise, dropout_points, gaussian_points
from sba.methods import SBA

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
    v = vicinity(folds=5, gaussian_share=0.4, dropout_rescale=False)
    points = v.sample(h, generator(), None).unflatten(0, (5, BATCH))
    gaussian, dropout = points[:2], points[2:]
    assert (gaussian != h).all() and (gaussian - h).abs().max() < 5
    assert ((dropout == h) | (dropout == 0)).all() and (dropout == 0).any() and (dropout == h).any()


@pytest.mark.parametrize("shape", [(BATCH, WIDTH), (BATCH, 2, 3, 4)])
def test_eq6_rows_are_grouped_by_fold_first_all_of_j_1(shape):
    """With no noise and nothing deleted every virtual point is its raw point: row j·B + i belongs to sample i."""
    h = normal(*shape)
    points = vicinity(folds=6, sigma=0, dropout_rate=0).sample(h, generator(), None)
    assert torch.equal(points, torch.cat([h] * 6))


def test_eq6_leaves_the_raw_rows_out():
    assert len(vicinity(folds=7).sample(normal(BATCH, WIDTH), generator(), None)) == 7 * BATCH


@pytest.mark.parametrize("relative", [False, True])
def test_eq7_gaussian_points(relative):
    h, matrix = normal(BATCH, WIDTH), normal(WIDTH, WIDTH, seed=1)
    noise = (0.3 * normal(5, BATCH, WIDTH, seed=2)).clamp(-0.4, 0.4)
    scale = normal(WIDTH, seed=3).abs() if relative else None
    expected = oracles.gaussian_points(h, matrix, noise, scale if relative else torch.ones(WIDTH))
    np.testing.assert_allclose(gaussian_points(h, Dense(matrix), noise, scale), expected, rtol=1e-13)
    expected = oracles.gaussian_points(h, torch.eye(WIDTH), noise, scale if relative else torch.ones(WIDTH))
    np.testing.assert_allclose(gaussian_points(h, Identity(), noise, scale), expected, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_eq7_of_a_feature_map_with_every_basis(kind):
    """Σ acts on the feature map as a matrix acts on its flattened features."""
    h, spread = normal(BATCH, 3, 2, 2), normal(12, seed=3).abs()
    v = vicinity(folds=2, gaussian_share=1, basis=kind, sigma=0.3, tau=1.0)
    draws = generator(7)
    matrix = basis(kind, (3, 2, 2), draws).matrix(12)
    noise = (0.3 * torch.randn(2, BATCH, 12, generator=draws).double()).clamp(-0.3, 0.3)
    expected = oracles.gaussian_points(h.flatten(1), matrix, noise, spread).reshape(2 * BATCH, 3, 2, 2)
    np.testing.assert_allclose(v.sample(h, generator(7), spread), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rescale", [False, True])
def test_eq8_dropout_points(rescale):
    h = normal(BATCH, WIDTH)
    keep = torch.rand(5, BATCH, WIDTH, generator=generator()) >= 0.3
    expected = oracles.dropout_points(h, keep.numpy(), 0.3, rescale)
    np.testing.assert_allclose(dropout_points(h, keep, 0.3, rescale), expected, rtol=1e-15)


def test_eqs_5_to_8_together_in_the_published_order_of_draws():
    """Σ first, then ε, then the masks: a seed means the same virtual points in every version."""
    h, spread = normal(BATCH, WIDTH), normal(WIDTH, seed=1).abs()
    points = vicinity(folds=5, gaussian_share=0.6, sigma=0.3, tau=1.5).sample(h, generator(7), spread)
    draws = generator(7)
    matrix = torch.randn(WIDTH, WIDTH, generator=draws).double()
    matrix = matrix / matrix.square().sum(0).sqrt()
    noise = (0.3 * torch.randn(3, BATCH, WIDTH, generator=draws).double()).clamp(-0.45, 0.45)
    keep = torch.rand(2, BATCH, WIDTH, generator=draws) >= 0.5
    gaussian = oracles.gaussian_points(h, matrix, noise, spread)
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


# ---------------------------------------------------------------------------------------------------- the law of a sample


def test_one_basis_for_the_batch_drawn_anew_each_time(monkeypatch):
    drawn = []

    def counted(*args):
        drawn.append(basis(*args))
        return drawn[-1]

    monkeypatch.setattr("sba.core.vicinity.basis", counted)
    for step in (0, 1):
        vicinity(folds=8).sample(normal(BATCH, WIDTH), Step(0, step).generator("vicinity"), None)
    assert len(drawn) == 2 and not torch.equal(*(d.entries for d in drawn))


def test_each_process_has_a_basis_for_its_rows_at_a_layer_that_all_share(monkeypatch):
    """Two ranks of one step: λ(t) and the layer agree, Σ, ε and the masks do not (open point 10)."""
    drawn = []
    monkeypatch.setattr("sba.core.vicinity.basis", lambda *args: drawn.append(basis(*args)) or drawn[-1])
    steps = [Step(0, 5, rank=rank) for rank in range(2)]
    points = [vicinity(folds=8).sample(normal(BATCH, WIDTH), now.generator("vicinity"), None) for now in steps]
    assert len(drawn) == 2 and not torch.equal(*(d.entries for d in drawn)) and not torch.equal(*points)
    assert len({(now.uniform("scheduler"), now.index("layer", 50)) for now in steps}) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bound", ["clip", "truncate"])
def test_gaussian_points_lie_around_the_raw_point_with_the_bounded_noises_variance(kind, bound):
    """Their mean is the point and their variance s² Var(ε), for every basis, over many draws of it."""
    spread, tau = torch.tensor([1.0, 10.0, 0.0, 0.1], dtype=torch.float64), 1.0
    variance = {"clip": clipped_variance(tau), "truncate": stats.truncnorm(-tau, tau).var()}[bound]
    v = vicinity(folds=20, gaussian_share=1, sigma=0.5, tau=tau, basis=kind, bound=bound)
    h = normal(4, 4, 1, 1)
    moved = torch.stack([v.sample(h, generator(s), spread).unflatten(0, (20, 4)) - h for s in range(400)])
    moved = moved.flatten(3)
    count = 400 * 20 * 4
    assert (moved.mean((0, 1, 2)).abs() < 5 * 0.5 * spread * math.sqrt(variance / count) + 1e-12).all()
    # the draws of one Σ are not independent, so the tolerance is that of 400
    scaled = (moved[..., [0, 1, 3]] / (0.5 * spread[[0, 1, 3]])).square().mean((1, 2))
    assert ((scaled.mean(0) - variance).abs() < 5 * scaled.std(0) / math.sqrt(400)).all()
    assert not moved[..., 2].any()


def test_without_a_spread_the_noise_is_absolute():
    v = vicinity(folds=500, gaussian_share=1, sigma=0.5, tau=9.0, basis="identity")
    moved = v.sample(100 * normal(4, 3), generator(), None).unflatten(0, (500, 4)) - 100 * normal(4, 3)
    assert moved.std().item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize(("rescale", "mean"), [(True, 1.0), (False, 0.7)])
def test_rescaled_dropout_points_have_the_raw_points_as_their_mean(rescale, mean):
    h = normal(2, 3)
    v = vicinity(folds=20_000, gaussian_share=0, dropout_rate=0.3, dropout_rescale=rescale)
    average = v.sample(h, generator(), None).unflatten(0, (20_000, 2)).mean(0)
    np.testing.assert_allclose(average / h, torch.full((2, 3), mean), atol=4 * math.sqrt(0.3 / 0.7 / 20_000))


def test_gradients_flow_into_the_activation():
    h = normal(BATCH, WIDTH).requires_grad_()
    v = vicinity(folds=4, dropout_rate=0)
    (gradient,) = torch.autograd.grad(v.sample(h, generator(), torch.ones(WIDTH)).sum(), h)
    assert torch.equal(gradient, torch.full_like(h, 4))


def test_the_spread_of_the_batch_is_the_methods_unit_and_a_constant():
    h = normal(BATCH, WIDTH).requires_grad_()
    method = SBA(folds=4, dropout_rate=0, basis="identity", scale="batch")
    points = method.virtual_points(h, generator())
    expected = method.vicinity.sample(h, generator(), h.detach().std(0, correction=0))
    torch.testing.assert_close(points, expected)
    (gradient,) = torch.autograd.grad(points.sum(), h)
    assert torch.equal(gradient, torch.full_like(h, 4))
    absolute = SBA(folds=4, dropout_rate=0, basis="identity", scale="absolute").virtual_points(h, generator())
    assert torch.equal(absolute, method.vicinity.sample(h, generator(), None))


shapes = st.one_of(st.tuples(st.integers(1, 12)), st.tuples(*[st.integers(1, 4)] * 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(
    batch=st.integers(1, 5),
    shape=shapes,
    folds=st.integers(1, 7),
    share=st.sampled_from([0.0, 0.4, 0.5, 1.0]),
    sigma=st.floats(0, 10),
    tau=st.floats(1e-2, 10),
    rate=st.floats(0, 0.99),
    rescale=st.booleans(),
    bound=st.sampled_from(["clip", "truncate"]),
    relative=st.booleans(),
)
def test_every_vicinity_keeps_shape_type_groups_and_bounds(
    batch, shape, folds, share, sigma, tau, rate, rescale, kind, bound, relative, dtype
):
    v = vicinity(folds=folds, gaussian_share=share, sigma=sigma, tau=tau, bound=bound, basis=kind, dropout_rate=rate,
                 dropout_rescale=rescale)  # fmt: skip
    h, width = normal(batch, *shape).to(dtype), math.prod(shape)
    # rows 100 apart, so that a point in the wrong group would be far from its raw point; dropout leaves few of them
    h = h + 100 * torch.arange(batch, dtype=dtype).reshape(batch, *[1] * len(shape))
    # of low precision activations it is float32, too
    spread = normal(width, seed=1).abs().to(torch.promote_types(dtype, torch.float32)) if relative else None
    points = v.sample(h, generator(), spread)
    assert points.shape == (folds * batch, *shape) and points.dtype == dtype and points.isfinite().all()
    gaussian, dropout = points.double().unflatten(0, (folds, batch)).flatten(2).split([v.gaussian, v.dropout])
    raw = h.double().flatten(1)

    coarse = torch.finfo(dtype).eps * (raw.abs().max() + 1e-3)
    moved = (gaussian - raw).abs()
    if relative:
        assert not moved[..., spread == 0].any()
        moved = moved[..., spread > 0.01] / spread[spread > 0.01].double()
        coarse = 100 * coarse
    # Σ has norm 1 where it is orthogonal, and columns of norm 1 else
    reach = {"identity": 1, "hadamard": math.sqrt(width), "orthogonal": math.sqrt(width)}.get(kind, width)
    bfloat16_sums = 1.1 if dtype == torch.bfloat16 else 1 + 1e-4
    assert (moved <= reach * tau * sigma * bfloat16_sums + 2 * coarse).all()

    kept = raw / (1 - rate) if rescale else raw
    errors = torch.minimum(dropout.abs(), (dropout - kept).abs())
    assert (errors <= 2 * torch.finfo(dtype).eps * kept.abs()).all()
    if rate == 0:
        torch.testing.assert_close(dropout, raw.expand_as(dropout), rtol=0, atol=0)


def test_fields_are_the_methods():
    assert set(Vicinity.__dataclass_fields__) < set(SBA.__dataclass_fields__)
