"""k-mixup's pairing against brute force over permutations, and its α_k against integrals."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sba.core.errors import ConfigError
from sba.methods.kmixup import KMixup, alpha_for, assign, mean_squared_step, pairs, shrinkage
from sba.methods.mixup import mix


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(rows=24, features=7, seed=0, dtype=torch.float64):
    x = torch.randn(rows, features, generator=generator(seed), dtype=torch.float64).to(dtype)
    return x, torch.randperm(rows, generator=generator(seed + 1000))


def cheapest(cost):
    """The permutation of least total cost, by trying all of them."""
    k = len(cost)
    return min(itertools.permutations(range(k)), key=lambda columns: sum(cost[i][columns[i]] for i in range(k)))


def matched_by_brute_force(x, order, k):
    x, order, partners = x.tolist(), order.tolist(), []
    for start in range(0, len(x), k):
        first, second = x[start : start + k], order[start : start + k]
        cost = [[sum((p - q) ** 2 for p, q in zip(a, x[j], strict=True)) for j in second] for a in first]
        partners += [second[column] for column in cheapest(cost)]
    return partners


# -------------------------------------------------------------------------------------------------------------- assignment


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_assignment_is_brute_forces(k):
    cost = torch.rand(8, k, k, generator=generator(k))
    columns = assign(cost)
    assert columns.dtype == torch.int64
    assert columns.tolist() == [list(cheapest(block)) for block in cost.tolist()]


def test_assignment_of_a_diverged_network_is_a_permutation():
    cost = torch.full((2, 3, 3), torch.nan)
    cost[1] = torch.inf
    assert assign(cost).sort().values.tolist() == [[0, 1, 2]] * 2


# ----------------------------------------------------------------------------------------------------------------- pairing


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("rows", [24, 23])
def test_pairs_are_brute_forces(k, rows):
    x, order = batch(rows, seed=k)
    assert pairs(x, order, k).tolist() == matched_by_brute_force(x, order, k)


def test_pairs_are_found_in_float32_under_autocast():
    """In bfloat16 these rows would all be equal."""
    x, order = batch(24)
    x = 1000 + x.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = pairs(x, order, 4)
    assert torch.equal(found, pairs(x.double(), order, 4))


def test_pairs_of_blocks_of_one_are_ordinary_mixups():
    x, order = batch()
    assert torch.equal(pairs(x, order, 1), order)
    assert torch.equal(mix(x, pairs(x, order, 1), 0.3), mix(x, order, 0.3))


@pytest.mark.parametrize(("rows", "k"), [(32, 8), (30, 8), (5, 8), (9, 8), (16, 16)])
def test_partners_are_a_permutation_within_blocks(rows, k):
    """However large the distances: one problem for the whole batch with 1000 off the blocks, the authors' way, leaks here."""
    x, order = batch(rows, 3)
    partners = pairs(1e6 * x, order, k)
    assert partners.sort().values.tolist() == list(range(rows))
    for start in range(0, rows, k):
        block = slice(start, start + k)
        assert sorted(partners[block].tolist()) == sorted(order[block].tolist())


def test_pairs_are_the_padded_problems_with_a_cost_that_is_large_enough():
    x, order = batch(96, 50, dtype=torch.float32)
    k, points = 16, x.double().numpy()
    cost = np.full((96, 96), 1e9)
    for start in range(0, 96, k):
        block = slice(start, start + k)
        cost[block, block] = cdist(points[block], points[order[block]], "sqeuclidean")
    assert pairs(x, order, k).tolist() == order.numpy()[linear_sum_assignment(cost)[1]].tolist()


def test_the_cost_is_squared():
    """0² + 1.5² > 1² + 1², although 0 + 1.5 < 1 + 1: the third point is the first, and the others are at distance 1 from it."""
    angle = 2 * math.asin(0.75)
    x = torch.tensor([[0, 0], [1, 0], [0, 0], [math.cos(angle), math.sin(angle)]])
    assert pairs(x, torch.tensor([2, 3, 0, 1]), 2).tolist() == [3, 2, 1, 0]
    assert cheapest(cdist(x[:2], x[2:]).tolist()) == (0, 1)  # plain distances would match 0 with 2


def test_pairs_far_from_the_origin_are_those_near_it():
    x, order = batch(64, 200, dtype=torch.float32)
    assert torch.equal(pairs(x + 1000, order, 16), pairs(x.double(), order, 16))


def test_pairs_of_images_are_those_of_their_pixels_and_leave_no_graph_behind():
    x, order = batch(16, 12)
    images, saved = x.view(16, 3, 2, 2).clone().requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda kept: kept):
        assert torch.equal(pairs(images, order, 4), pairs(x, order, 4))
    assert not saved


@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_low_precision_are_found_in_float32(seed):
    order = torch.randperm(256, generator=generator(seed))
    low = torch.randn(256, 20, generator=generator(seed)).exp().bfloat16()
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            partners = pairs(low, order, 64)
        assert torch.equal(partners, pairs(low.double(), order, 64))


def test_a_block_of_the_whole_batch_mixes_nothing_but_a_roll_leaves_no_row_in_its_block():
    x, order = batch(20)
    assert pairs(x, order, 20).tolist() == list(range(20))
    for k in range(2, 11):
        partners = pairs(x, torch.arange(20).roll(k), k)
        assert all(i // k != j // k for i, j in enumerate(partners.tolist()))


def test_over_permutations_of_the_batch_with_itself_the_best_is_the_identity():
    """So the card of the method names the blocks: each is matched with the block in its place of the second order."""
    x, _ = batch(8)
    rows, columns = linear_sum_assignment(cdist(x, x, "sqeuclidean"))
    assert (rows == columns).all()
    assert r"\colon B_j \to B'_j" in KMixup.formula


def test_blocks_of_one_row_are_mixup_and_smaller_ones_are_refused():
    x, order = batch()
    assert torch.equal(pairs(x, order, 1), order)
    with pytest.raises(ConfigError, match="k: blocks need at least 1 row, not 0; give 1"):
        pairs(x, order, 0)


# ------------------------------------------------------------------------------------------------------------------ α_k


def test_shrinkage_in_a_loop_falls_as_blocks_grow():
    x, order = batch(64, 5)
    ratios = []
    for k in (1, 4, 16, 64):
        partners = pairs(x, order, k)
        matched = sum(((x[i] - x[j]) ** 2).sum() for i, j in enumerate(partners.tolist()))
        plain = sum(((x[i] - x[j]) ** 2).sum() for i, j in enumerate(order.tolist()))
        ratios.append(shrinkage(x, order, partners))
        assert ratios[-1] == pytest.approx((matched / plain).item(), rel=1e-12)
    assert ratios[0] == 1.0 and ratios == sorted(ratios, reverse=True) and ratios[-1] == 0.0
    assert shrinkage(torch.ones(4, 2), torch.arange(4), torch.arange(4)) == 1.0


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0, 40.0])
def test_mean_squared_step_is_the_integral(alpha):
    density = scipy.stats.beta(alpha, alpha).pdf
    # x = y^(1/α) takes the singularity of small α out of the half that counts.
    value, _ = scipy.integrate.quad(
        lambda y: y ** (2 / alpha) * density(y ** (1 / alpha)) * y ** (1 / alpha - 1) / alpha, 0, 0.5**alpha
    )
    assert mean_squared_step(alpha) == pytest.approx(2 * value, rel=1e-6)


def test_mean_squared_step_in_closed_form_and_by_simulation():
    assert mean_squared_step(1.0) == pytest.approx(1 / 12, rel=1e-12)
    assert mean_squared_step(1e9) == pytest.approx(1 / 4, rel=1e-3)
    assert mean_squared_step(1e-9) == pytest.approx(0, abs=1e-8)
    lam = np.random.default_rng(0).beta(0.4, 0.4, 200_000)
    assert mean_squared_step(0.4) == pytest.approx((np.minimum(lam, 1 - lam) ** 2).mean(), rel=0.01)


@pytest.mark.parametrize(("alpha", "ratio"), [(1.0, 0.9), (1.0, 0.5), (0.2, 0.4), (5.0, 0.9)])
def test_alpha_k_moves_points_as_far_as_mixup_does(alpha, ratio):
    larger = alpha_for(alpha, ratio)
    assert alpha < larger < 100
    assert ratio * mean_squared_step(larger) == pytest.approx(mean_squared_step(alpha), rel=1e-9)


def test_alpha_k_by_simulation_on_points():
    """The mean squared distance of a mixed point from the nearer of its two ends, with and without matching."""
    x, order = batch(256, 6)
    partners = pairs(x, order, 8)
    alpha_k = alpha_for(0.3, shrinkage(x, order, partners))
    rng, moved = np.random.default_rng(0), []
    for other, alpha in ((order, 0.3), (partners, alpha_k), (partners, 0.3)):
        lam = torch.from_numpy(rng.beta(alpha, alpha, (200, 256, 1)))
        mixed = lam * x + (1 - lam) * x[other]
        moved.append(torch.minimum((mixed - x).norm(dim=2), (mixed - x[other]).norm(dim=2)).square().mean().item())
    assert moved[1] == pytest.approx(moved[0], rel=0.04)
    assert moved[2] < 0.7 * moved[0]


def test_alpha_k_has_a_bound_and_leaves_unmatched_pairs_alone():
    assert alpha_for(1.0, 1.0) == 1.0 and alpha_for(1.0, 1.0 + 1e-9) == 1.0
    assert alpha_for(0.0, 0.5) == 0.0
    assert alpha_for(1.0, 0.3) == alpha_for(1.0, 0.0) == 100.0
    assert alpha_for(200.0, 0.5) == 200.0
