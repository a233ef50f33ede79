"""Attacks: against a slow reference in float64, where the answer is known, and what must hold whatever the network."""

import math

import numpy as np
import oracles
import oracles_measure
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sba import evaluate, make_run, train
from sba.core.errors import ConfigError
from sba.measure import attacks
from sba.measure.attacks import (
    LOSSES,
    Attack,
    attacked,
    lengths,
    margin,
    misclassified,
    pgd,
    project,
    random_shift,
    seen,
    slope,
    steepest,
)

SHAPE = (2, 3, 2)
PIXELS = math.prod(SHAPE)


@pytest.fixture(scope="module")
def curved():
    """A smooth network of three classes in float64, twelve pixels, and the same as a function of lists."""
    generator = torch.Generator().manual_seed(5)
    first, second = (
        2 * torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((PIXELS, 8), (8, 3))
    )

    def predict(pixels):
        return torch.tanh((pixels.flatten(1) - 0.5) @ first) @ second

    rows, columns = first.T.tolist(), second.T.tolist()

    def by_hand(image):
        hidden = [math.tanh(sum(w * (x - 0.5) for w, x in zip(row, image, strict=True))) for row in rows]
        return [sum(w * h for w, h in zip(column, hidden, strict=True)) for column in columns]

    return predict, by_hand


def images(n, seed=0, dtype=torch.float64):
    """Some pixels are black or white, or nearly."""
    generator = torch.Generator().manual_seed(seed)
    return (1.3 * torch.rand(n, *SHAPE, generator=generator, dtype=dtype) - 0.15).clamp(0, 1)


LABELS = torch.tensor([0, 1, 2, 0])

# ------------------------------------------------------------------------------------------------ the slow reference


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize(("steps", "radius"), [(1, 0.1), (5, 0.1), (5, 0.6)])
def test_pgd_is_the_slow_reference(curved, norm, steps, radius, loss):
    predict, by_hand = curved
    x = images(4)
    shift = random_shift(x, radius, norm, torch.Generator().manual_seed(1))
    rate = 2.5 * radius / steps
    own = pgd(predict, x, LABELS, radius, norm, steps, shift, loss=loss)
    for i, label in enumerate(LABELS.tolist()):
        of = {
            "cross_entropy": lambda p, c=label: oracles.cross_entropy([by_hand(p)], [c]),
            "margin": lambda p, c=label: oracles_measure.best_margin(by_hand(p), c),
        }[loss]
        expected = oracles_measure.climb(
            of, x[i].flatten().tolist(), radius, norm, steps, rate, shift[i].flatten().tolist()
        )
        assert own[i].flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_fgsm_is_the_slow_reference(curved):
    predict, by_hand = curved
    x = images(4, seed=2)
    own = Attack(0.07, steps=0)(predict, x, LABELS, torch.Generator())
    for i, label in enumerate(LABELS.tolist()):

        def loss(p, c=label):
            return oracles.cross_entropy([by_hand(p)], [c])

        start = [0.0] * PIXELS
        expected = oracles_measure.climb(loss, x[i].flatten().tolist(), 0.07, "inf", 1, 0.07, start)
        assert own[i].flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [0.0, 1e-9, 2 / 255, 0.1, 0.7])
def test_fgsm_moves_each_pixel_by_the_radius_up_the_sign_of_the_slope(curved, dtype, radius):
    x = images(4, seed=3, dtype=dtype)

    def predict(pixels):
        return curved[0](pixels.double())

    expected = (x + radius * slope(predict, x, LABELS).sign()).clamp(0, 1)
    assert torch.equal(Attack(radius, steps=0)(predict, x, LABELS, torch.Generator()), expected)


# ------------------------------------------------------------------------------------------------- where it is known


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_on_two_classes_and_a_linear_network_the_worst_point_of_the_ball_is_found(norm, monkeypatch):
    """Far from black and white the margin grows by radius · dual norm of the difference of the weights."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, PIXELS, generator=generator, dtype=torch.float64)
    x = 0.5 + 0.1 * (images(6) - 0.5)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])

    def predict(pixels):
        return pixels.flatten(1) @ weight.T

    difference = weight[1] - weight[0]
    dual = difference.abs().sum() if norm == "inf" else difference.norm()
    start = random_shift(x, 0.2, norm, generator)
    monkeypatch.setattr(attacks, "STRIDE", 20.0)
    moved = pgd(predict, x, labels, 0.2, norm, 40, start)
    gained = margin(predict(moved), labels) - margin(predict(x), labels)
    assert gained.tolist() == pytest.approx([0.2 * dual.item()] * 6, rel=1e-6)
    if norm == "inf":
        sign = torch.where(labels == 0, 1.0, -1.0)[:, None] * difference.sign()
        expected = (x.flatten(1) + 0.2 * sign).view_as(x)
        own = Attack(0.2, steps=0)(predict, x, labels, generator)
        assert torch.allclose(own, expected, atol=1e-12)


def test_the_margin_is_above_zero_where_the_label_does_not_win():
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])
    assert margin(logits, torch.tensor([1, 2, 0])).tolist() == [-1.0, 1.0, 5.0]


def test_the_margin_has_a_slope_where_the_cross_entropy_has_none():
    """A very sure network: in float32 its probability of the label is exactly 1."""
    weight = 1e4 * torch.randn(3, PIXELS, generator=torch.Generator().manual_seed(0))

    def predict(pixels):
        return pixels.flatten(1) @ weight.T

    x = images(4, dtype=torch.float32)
    labels = predict(x).argmax(1)
    assert not slope(predict, x, labels).any()
    assert slope(predict, x, labels, "margin").abs().amax((1, 2, 3)).min() > 1


# ---------------------------------------------------------------------------------------------------- what must hold


@given(
    st.sampled_from(["inf", "2"]),
    st.floats(0, 3),
    st.integers(0, 4),
    st.sampled_from(list(LOSSES)),
    st.integers(0, 100),
)
def test_nothing_leaves_the_ball_or_the_range_of_pixels(curved, norm, radius, steps, loss, seed):
    predict, _ = curved
    x = images(4, seed)
    start = random_shift(x, 2 * radius, norm, torch.Generator().manual_seed(seed))
    moved = pgd(predict, x, LABELS, radius, norm, steps, start, loss)
    assert moved.min() >= 0 and moved.max() <= 1
    away = (moved - x).abs().amax((1, 2, 3)) if norm == "inf" else lengths(moved - x).flatten()
    assert away.max() <= radius + 1e-12


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_without_a_radius_or_without_steps_images_stay_as_they_are(curved, norm):
    predict, _ = curved
    x = images(4)
    start = random_shift(x, 0.0, norm, torch.Generator().manual_seed(0))
    assert torch.equal(pgd(predict, x, LABELS, 0.0, norm, 5, start), x)
    assert torch.equal(pgd(predict, x, LABELS, 0.3, norm, 0), x)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_where_there_is_no_slope_nothing_moves(norm):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 3))
    nn.init.zeros_(flat[1].weight)
    x = images(2, dtype=torch.float32)
    assert torch.equal(pgd(flat, x, LABELS[:2], 0.3, norm, 3), x)


def test_steps_are_of_length_one_also_where_the_slope_is_tiny():
    g = torch.tensor([1e-30, -3e-30, 0.0, 2e-30]).view(1, 1, 2, 2)
    assert lengths(steepest(g, "2")).item() == pytest.approx(1)
    assert steepest(g, "inf").flatten().tolist() == [1, -1, 0, 1]


@given(st.floats(0.01, 3), st.integers(0, 50))
def test_a_projection_is_the_nearest_point_of_the_ball(radius, seed):
    shift = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    inside = random_shift(shift, radius, "2", torch.Generator().manual_seed(seed + 1))
    nearest = project(shift, radius, "2")
    assert torch.all(lengths(shift - nearest) <= lengths(shift - inside) + 1e-12)
    assert torch.equal(project(nearest, 2 * radius, "2"), nearest)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_starts_are_uniform_in_the_ball(norm):
    """The share of the radius that a point is at, to the power of the dimension, is uniform."""
    like = torch.zeros(4000, 1, 1, 3, dtype=torch.float64)
    drawn = random_shift(like, 0.7, norm, torch.Generator().manual_seed(0))
    at = drawn.abs().amax((1, 2, 3)) if norm == "inf" else lengths(drawn).flatten()
    shares = np.sort((at / 0.7).numpy() ** 3)
    assert np.abs(shares - np.arange(0.5, 4000) / 4000).max() < 0.025  # Kolmogorov and Smirnov, 1 %
    assert drawn.mean((0, 1, 2)).abs().max() < 0.03


def test_a_longer_climb_ends_higher(curved):
    predict, _ = curved
    x = images(4)
    losses = [
        torch.nn.functional.cross_entropy(predict(pgd(predict, x, LABELS, 0.3, "2", n)), LABELS) for n in (0, 1, 20)
    ]
    assert losses[0] < losses[1] <= losses[2]


# --------------------------------------------------------------------------------------------------- whole splits


@pytest.fixture(scope="module")
def trained(digits):
    import dataclasses

    small = dataclasses.replace(digits, train=digits.train[:100], test=digits.test[:60], fingerprint="small")
    training = train(make_run(epochs=20, batch_size=16), small)
    list(training)
    return training.network, small


def test_a_radius_of_zero_gives_the_plain_error(trained):
    network, small = trained
    images = attacked(network, small, Attack(0.0, steps=2))
    wrong = misclassified(network, small, images)
    assert 100 * wrong.float().mean().item() == pytest.approx(evaluate(network, small).error)


@pytest.mark.parametrize("attack", [Attack(0.15, steps=0), Attack(0.15, steps=5), Attack(0.6, "2", steps=5)])
def test_attacks_do_harm_and_leave_the_network_as_it_was(trained, attack, monkeypatch):
    network, small = trained
    network.train()
    network.zero_grad()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    monkeypatch.setattr(attacks, "EVALUATION_BATCH", 25)
    moved = attacked(network, small, attack)
    wrong = misclassified(network, small, moved).float().mean()
    assert 100 * wrong > evaluate(network, small).error + 10
    assert network.training and all(p.grad is None for p in network.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_starts_come_from_the_seed_alone(trained):
    network, small = trained
    one, same, other = (attacked(network, small, Attack(0.1, steps=1), seed) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_the_network_is_seen_through_its_normalisation(trained):
    network, small = trained
    from sba.training.evaluation import logits

    with seen(network, small) as predict, torch.no_grad():
        own = predict(small.test.images / 255)
    assert torch.allclose(own, logits(network, small), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"radius": -0.1}, "radius: -0.1 is not allowed; give a number in \\[0, ∞\\)"),
        ({"radius": float("nan")}, "radius: nan is not allowed"),
        ({"radius": 0.1, "norm": "1"}, "norm: '1' is not allowed; give one of inf, 2"),
        ({"radius": 0.1, "steps": -1}, "steps: -1 is not allowed; give an integer in \\[0, ∞\\)"),
        ({"radius": 0.1, "loss": "hinge"}, "loss: 'hinge' is not allowed; give one of cross_entropy, margin"),
        ({"radius": 0.1, "norm": "2", "steps": 0}, "steps: 0 is FGSM, which has no norm '2'"),
    ],
)
def test_attacks_that_do_not_exist_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Attack(**wrong)
