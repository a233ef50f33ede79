"""SBA without virtual points: the expected divergence at the last layer, against whole laws and SBA's own points."""

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from implicit_scene import ALWAYS, Scene, every_vicinity, normal

from sba import SBA, ImplicitSBA, Step, build
from sba.core.divergence import kl
from sba.core.feature_std import batch_variance
from sba.methods import closed_form

# ------------------------------------------------------------------------------------------------------- whole laws


@pytest.mark.parametrize("bound", ["clip", "truncate"])
@pytest.mark.parametrize("scale", ["batch", "running", "absolute"])
def test_gaussian_vicinity_against_quadrature_in_every_feature(scale, bound):
    scene, fields = Scene(), {"scale": scale, "bound": bound, "sigma": 0.3, "tau": 1.0, "gaussian_share": 1.0}
    memory = ImplicitSBA(**fields).memory(scene.network)
    unit = torch.ones(3)
    if scale == "batch":
        unit = scene.h.std(0, correction=0)
    if scale == "running":
        memory.update("last", 3 * scene.h)
        variances = [9 * batch_variance(scene.h), batch_variance(scene.h)]
        unit = ((0.9 * variances[0] + variances[1]) / 1.9).sqrt()
    expected = scene.expected(lambda h: oracles.gaussian_law(h, unit.tolist(), 0.3, 1.0, bound, nodes=8))
    np.testing.assert_allclose(scene.divergence(memory, **fields).detach(), expected, rtol=0.02)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_vicinity_against_all_masks(rate, rescale):
    scene, fields = Scene(6, 0.08), {"dropout_rate": rate, "dropout_rescale": rescale, "gaussian_share": 0.0}
    expected = scene.expected(lambda h: oracles.dropout_law(h, rate, rescale))
    np.testing.assert_allclose(scene.divergence(**fields).detach(), expected, rtol=0.04)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_bound_is_one(share):
    """With large weights, where the second order is poor: never below the exact expectation, and above it somewhere."""
    scene = Scene(3, 1.0)
    fields = {"gaussian_share": share, "scale": "absolute", "sigma": 0.8, "tau": 1.5, "expectation": "bound"}
    for rescale in (True, False):
        laws = {
            1.0: lambda h: oracles.gaussian_law(h, [1.0] * 3, 0.8, 1.5, "clip", nodes=10),
            0.0: lambda h, rescale=rescale: oracles.dropout_law(h, 0.5, rescale),
        }
        excess = scene.divergence(dropout_rescale=rescale, **fields).detach() - torch.tensor(
            scene.expected(laws[share])
        )
        assert (excess > -1e-7).all() and (excess > 1e-3).any()


@pytest.mark.parametrize("rescale", [True, False])
def test_the_bound_of_dropout_points_is_around_their_own_mean(rescale):
    scene = Scene(3, 1.0)
    weight, kept = scene.network[-1].weight, 1.0 if rescale else 0.7
    centre = scene.network(kept * scene.h, after="flatten")
    expected = closed_form.expected_divergence(
        scene.logits, centre, closed_form.dropout_bound(centre, scene.h, weight, 0.3, rescale)
    )
    fields = {"gaussian_share": 0.0, "expectation": "bound", "dropout_rate": 0.3, "dropout_rescale": rescale}
    torch.testing.assert_close(scene.divergence(**fields), expected)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("expectation", ["second_order", "bound"])
def test_the_expectation_chooses_the_form(share, expectation):
    scene = Scene(3, 1.0)
    got = scene.divergence(gaussian_share=share, expectation=expectation, scale="absolute", sigma=0.5)
    weight = scene.network[-1].weight
    noise = torch.full((3,), closed_form.noise_variance(0.5, 2.0, "clip"))
    forms = {
        ("second_order", 1.0): lambda: closed_form.second_order(scene.logits, weight, noise),
        ("bound", 1.0): lambda: closed_form.gaussian_bound(scene.logits, weight, noise),
        ("second_order", 0.0): lambda: closed_form.second_order(
            scene.logits, weight, closed_form.dropout_variance(scene.h, 0.5, True)
        ),
        ("bound", 0.0): lambda: closed_form.dropout_bound(scene.logits, scene.h, weight, 0.5, True),
    }
    torch.testing.assert_close(got, forms[expectation, share](), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("expectation", ["second_order", "bound"])
@pytest.mark.parametrize("rescale", [True, False])
def test_the_share_mixes_linearly(expectation, rescale):
    def at(share):
        return Scene().divergence(gaussian_share=share, expectation=expectation, dropout_rescale=rescale)

    for share in (0.25, 0.9):
        torch.testing.assert_close(at(share), share * at(1.0) + (1 - share) * at(0.0))
    assert not torch.allclose(at(0.0), at(1.0))


@pytest.mark.parametrize("fields", [{"sigma": 0.0, "gaussian_share": 1.0}, {"dropout_rate": 0.0, "gaussian_share": 0.0},
                                    {"sigma": 0.0, "dropout_rate": 0.0, "dropout_rescale": False}], ids=str)  # fmt: skip
@pytest.mark.parametrize("expectation", ["second_order", "bound"])
def test_a_vicinity_of_one_point_has_no_divergence(fields, expectation):
    assert Scene().divergence(expectation=expectation, **fields).abs().max() < 1e-12


# ------------------------------------------------------------------------------------------------------ SBA's own points


@every_vicinity
def test_it_is_sba_with_many_points(scale, bound, rescale):
    """The second term of a whole step on the digits network, both branches, within five standard errors and 3 % for the order."""
    torch.manual_seed(0)
    network = build("digits", 10, 1, 8).double()
    x, y = normal(6, 1, 8, 8), torch.arange(6)
    shared = {**ALWAYS, "scale": scale, "bound": bound, "dropout_rescale": rescale, "sigma": 0.5, "tau": 1.0,
              "dropout_rate": 0.4, "gaussian_share": 0.75}  # fmt: skip
    sampled, implicit = SBA(layers=("fc1",), basis="identity", folds=400, **shared), ImplicitSBA(**shared)
    limit = implicit.terms(network, x, y, Step(0), grown(implicit, network, "last"))["virtual"].item()
    draws = torch.tensor([
        sampled.terms(network, x, y, Step(0, step), grown(sampled, network, "fc1"))["virtual"].item() for step in range(12)
    ])  # fmt: skip
    error = draws.std().item() / math.sqrt(12)
    assert error < 0.02 * limit
    assert abs(draws.mean().item() - limit) < 5 * error + 0.03 * limit


def grown(method, network, layer):
    """A memory that has seen a wider batch."""
    memory = method.memory(network)
    if memory is not None:
        memory.double().update(layer, 2 * normal(20, 64))
    return memory


@pytest.mark.parametrize("kind", ["colnorm", "orthogonal", "hadamard"])
def test_the_basis_has_no_place_in_it(kind):
    """On average over Σ: SBA's points with any basis have the divergence of the points without one, to second order."""
    scene = Scene(6, 0.1)
    method = SBA(folds=100, basis=kind, gaussian_share=1.0, sigma=0.5)
    rows = []
    for step in range(300):
        points = method.virtual_points(scene.h, Step(0, step).generator("vicinity"))
        virtual = scene.network(points, after="flatten")
        rows.append(kl(scene.logits, virtual.unflatten(0, (100, 5))).mean(0))
    rows = torch.stack(rows).detach()
    limit = scene.divergence(gaussian_share=1.0, sigma=0.5).detach()
    assert ((rows.mean(0) - limit).abs() < 5 * rows.std(0) / math.sqrt(300) + 0.02 * limit).all()


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_its_gradient_is_that_of_the_expectation_over_all_masks(detach, rescale):
    """The teacher's part included or not: it matters where the vicinity is not centred on its point."""
    scene = Scene(6, 0.08)
    weight, h = scene.network[-1].weight, scene.h.requires_grad_()
    logits = scene.network(h, after="flatten")
    method = ImplicitSBA(gaussian_share=0.0, dropout_rate=0.3, detach=detach, dropout_rescale=rescale)
    ours = torch.autograd.grad(method.divergence(scene.network, h, logits).sum(), (weight, h), retain_graph=True)
    reference = logits.detach() if detach else logits
    exact = 0
    for mask in itertools.product((0.0, 1.0), repeat=6):
        kept = torch.tensor(mask, dtype=torch.float64)
        probability = 0.7 ** kept.sum() * 0.3 ** (6 - kept.sum())
        virtual = scene.network(h * kept / (0.7 if rescale else 1), after="flatten")
        log_y, log_v = reference.log_softmax(1), virtual.log_softmax(1)
        exact = exact + probability * (log_y.exp() * (log_y - log_v)).sum()
    for a, b in zip(ours, torch.autograd.grad(exact, (weight, h)), strict=True):
        assert (a - b).norm() < 0.06 * b.norm()


def test_the_teachers_gradient_makes_a_difference():
    """Without it the test above could not tell the two apart."""

    def slope(detach):
        scene = Scene(6, 0.08)
        values = scene.divergence(gaussian_share=0.0, dropout_rate=0.3, detach=detach, dropout_rescale=False)
        return torch.autograd.grad(values.sum(), scene.network[-1].weight)[0]

    assert (slope(True) - slope(False)).norm() > 0.3 * slope(True).norm()
