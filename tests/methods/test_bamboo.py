"""Points uniform in an ℓ_p ball, against the laws of their norm and coordinates, and against rejection sampling."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sba.core.errors import ConfigError
from sba.methods.bamboo import ball, ball_offsets

NORMS = (1, 2, math.inf)
POINTS = 4000
# Fixed seeds: a right law fails none of these, and a wrong one is far beyond.
LEVEL = 1e-3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def norms(points, p):
    """‖x‖_p, written out."""
    sizes = np.abs(np.asarray(points, dtype=np.float64))
    return sizes.max(-1) if p == math.inf else (sizes**p).sum(-1) ** (1 / p)


def draws(p, width, seed=0):
    """Directions of the right law, in float64."""
    rng = np.random.default_rng(seed)
    size = (POINTS, width)
    return {1: rng.laplace, 2: rng.normal, math.inf: lambda size: rng.uniform(-1, 1, size)}[p](size=size)


def follows(sample, law, *shape):
    return stats.kstest(sample, law, args=shape).pvalue > LEVEL


def rejected(p, width, seed):
    """Points of the unit ball among points of the cube around it."""
    cube = np.random.default_rng(seed).uniform(-1, 1, (POINTS * 12, width))
    return cube[norms(cube, p) <= 1][:POINTS]


# --------------------------------------------------------------------------------------------------- the pure function


@pytest.mark.parametrize("p", NORMS)
def test_offsets_point_by_point(p):
    directions, uniform = draws(p, 3)[:20], np.random.default_rng(1).uniform(size=20)
    offsets = ball_offsets(torch.from_numpy(directions), torch.from_numpy(uniform), p, 2.5)
    for x, g, u in zip(offsets.tolist(), directions, uniform, strict=True):
        expected = [2.5 * u ** (1 / 3) * v / norms(g, p) for v in g]
        assert x == pytest.approx(expected, rel=1e-13)


def test_the_scale_of_the_directions_does_not_matter():
    directions, uniform = torch.from_numpy(draws(2, 4)), torch.linspace(0, 1, POINTS, dtype=torch.float64)
    torch.testing.assert_close(ball_offsets(7 * directions, uniform, 2, 1.0), ball_offsets(directions, uniform, 2, 1.0))


def test_a_direction_of_zeros_is_the_centre():
    assert ball_offsets(torch.zeros(2, 1), torch.rand(2), 2, 1.0).tolist() == [[0.0], [0.0]]


def test_offsets_of_several_points_a_sample():
    directions, uniform = torch.randn(3, 4, 5, generator=generator()), torch.rand(3, 4, generator=generator(1))
    offsets = ball_offsets(directions, uniform, 2, 1.0)
    assert offsets.shape == (3, 4, 5)
    torch.testing.assert_close(offsets[2, 1], ball_offsets(directions[2, 1], uniform[2, 1], 2, 1.0))


@pytest.mark.parametrize("p", [0, 3, "inf"])
def test_a_norm_that_is_not_known_is_refused(p):
    with pytest.raises(ConfigError, match=r"p: .* give 1, 2 or inf"):
        ball((2, 3), p, 1.0, generator())


# ------------------------------------------------------------------------------------------------------------ the laws


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("width", [1, 2, 7, 300])
def test_the_norm_follows_u_to_the_power_of_one_over_d(p, width):
    """Pr(‖x‖_p ≤ s r) = s^d, the share of the volume: Beta(d, 1)."""
    points = ball((POINTS, width), p, 1.5, generator(3))
    assert follows(norms(points, p) / 1.5, "beta", width, 1)


@pytest.mark.parametrize("p", NORMS)
def test_the_norm_and_the_direction_are_independent(p):
    points = ball((POINTS, 3), p, 1.0, generator(4)).double().numpy()
    sizes = norms(points, p)
    first = points[:, 0] / sizes
    inner, outer = first[sizes < np.median(sizes)], first[sizes >= np.median(sizes)]
    assert stats.ks_2samp(inner, outer).pvalue > LEVEL


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("statistic", [lambda x: x[:, 0], lambda x: x[:, 1] * x[:, 2], lambda x: np.abs(x).sum(1)])
def test_the_ball_is_filled_as_by_rejection(p, statistic):
    points = ball((POINTS, 3), p, 1.0, generator(5)).double().numpy()
    assert stats.ks_2samp(statistic(points), statistic(rejected(p, 3, seed=6))).pvalue > LEVEL


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("width", [1, 3, 500])
def test_every_point_is_inside(p, width):
    points = ball((500, width), p, 0.3, generator(7))
    assert norms(points, p).max() <= 0.3 * (1 + 1e-6)
    exact = ball_offsets(torch.from_numpy(draws(p, width)), torch.ones(POINTS, dtype=torch.float64), p, 0.3)
    np.testing.assert_allclose(norms(exact, p), 0.3, rtol=1e-13)


@pytest.mark.parametrize("p", NORMS)
def test_the_law_is_symmetric(p):
    points = ball((POINTS, 4), p, 1.0, generator(8)).double().numpy()
    assert stats.binomtest(int((points[:, 0] > 0).sum()), POINTS).pvalue > LEVEL
    assert stats.binomtest(int((points[:, 0] * points[:, 1] > 0).sum()), POINTS).pvalue > LEVEL
    assert stats.ks_2samp(points[:, 0], -points[:, 0]).pvalue > LEVEL
    assert stats.ks_2samp(points[:, 0], points[:, 3]).pvalue > LEVEL


@pytest.mark.parametrize("width", [2, 5, 40])
def test_marginals_of_the_l1_ball_are_those_of_a_dirichlet_law(width):
    """(|x_1|, …, |x_d|, r − ‖x‖_1)/r is uniform on the simplex: Dirichlet(1, …, 1)."""
    sizes = ball((POINTS, width), 1, 2.0, generator(9)).double().abs().numpy() / 2
    assert follows(sizes[:, 0], "beta", 1, width)
    assert follows(sizes[:, :2].sum(1), "beta", 2, width - 1)


@pytest.mark.parametrize("width", [2, 5, 40])
def test_marginals_of_the_l2_ball(width):
    """A sum of k squares is Beta(k/2, (d − k)/2 + 1) times r²."""
    squares = ball((POINTS, width), 2, 3.0, generator(10)).double().square().numpy() / 9
    assert follows(squares[:, 0], "beta", 1 / 2, (width - 1) / 2 + 1)
    assert follows(squares[:, :2].sum(1), "beta", 1, (width - 2) / 2 + 1)


def test_the_l2_ball_looks_the_same_from_all_sides():
    points = ball((POINTS, 5), 2, 1.0, generator(11)).double().numpy()
    side = np.array([1, -2, 3, 0.5, 1])
    seen = points @ (side / np.linalg.norm(side))
    assert follows(seen**2, "beta", 1 / 2, 3)


@pytest.mark.parametrize("width", [1, 2, 6])
def test_coordinates_of_the_cube_are_uniform_and_independent(width):
    points = ball((POINTS, width), math.inf, 0.7, generator(12)).double().numpy()
    assert follows(points[:, 0], "uniform", -0.7, 1.4)
    if width > 1:
        assert follows(((points[:, 0] + points[:, 1]) / 1.4 + 1) / 2, "triang", 0.5)


@pytest.mark.parametrize("p", NORMS)
def test_in_many_dimensions_the_ball_is_its_surface(p):
    """3072 features: half of the volume lies within 0.02 % of the surface."""
    share = norms(ball((200, 3072), p, 1.0, generator(13)), p)
    assert share.min() > 0.99
    assert 1 - np.median(share) == pytest.approx(math.log(2) / 3072, rel=0.3)


# --------------------------------------------------------------------------------------------------------- the sampler


@pytest.mark.parametrize("p", NORMS)
def test_the_same_seed_draws_the_same_points(p):
    a, b, c = (ball((2, 3, 4), p, 1.0, generator(seed)) for seed in (0, 0, 1))
    assert a.shape == (2, 3, 4) and a.dtype == torch.float32
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert len({tuple(point) for point in a.flatten(0, 1).tolist()}) == 6


@pytest.mark.parametrize("p", NORMS)
def test_a_ball_without_radius_is_its_centre(p):
    assert not ball((5, 3), p, 0.0, generator()).any()
