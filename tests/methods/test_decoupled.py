"""Decoupled mixup against brute force over classes."""

import math
import random

import pytest
import torch
import torch.nn.functional as F

from sba.methods.decoupled import (
    class_weight,
    decoupled_binary_cross_entropy,
    decoupled_loss,
    log_decoupled_softmax,
    weights,
)
from sba.methods.mixup import mixed_cross_entropy

MODES, POWERS = ("both", "more", "less"), (0.0, 0.5, 1.0)
A, B = torch.tensor([0, 3, 2, 4, 1]), torch.tensor([2, 1, 2, 0, 4])


def logits(scale=3.0, rows=5, classes=5, dtype=torch.float64):
    z = scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return z.to(dtype)


def phi(z, i, j):
    """e^{z_i} / Σ_{c≠j} e^{z_c}"""
    return math.exp(z[i]) / sum(math.exp(v) for c, v in enumerate(z) if c != j)


def brute_force(z, a, b, lam, mode, power):
    total = 0.0
    for row, i, j in zip(z, a, b, strict=True):
        if i == j or lam in (0.0, 1.0):
            continue
        for share, own, other in ((lam, i, j), (1 - lam, j, i)):
            if mode == "both" or (mode == "more" and share >= 0.5) or (mode == "less" and share <= 0.5):
                total -= share**power * math.log(phi(row, own, other))
    return total / len(z)


def test_decoupled_loss_is_brute_force_over_classes_in_500_cases():
    rng = random.Random(0)
    for case in range(500):
        rows, classes = rng.randint(1, 6), rng.randint(2, 7)
        z = [[rng.gauss(0, 4) for _ in range(classes)] for _ in range(rows)]
        a, b = ([rng.randrange(classes) for _ in range(rows)] for _ in range(2))
        lam = rng.choice([0.0, 0.5, 1.0, *(rng.random() for _ in range(5))])
        mode, power = rng.choice(MODES), rng.choice(POWERS)
        ours = decoupled_loss(torch.tensor(z).double(), torch.tensor(a), torch.tensor(b), lam, mode, power)
        exact = brute_force(torch.tensor(z).tolist(), a, b, lam, mode, power)
        assert ours.item() == pytest.approx(exact, rel=1e-11, abs=1e-13), (case, lam, mode, power)


def test_log_decoupled_softmax_is_a_distribution_over_the_other_classes():
    z = logits(rows=5)
    other = torch.tensor([0, 1, 2, 3, 4])
    total = sum(log_decoupled_softmax(z, torch.full_like(other, c), other).exp() * (other != c) for c in range(5))
    torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("lam", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_order_of_the_classes_does_not_matter(mode, power, lam):
    """In the public code the weights follow the order of class indices in the first row."""
    z = logits()
    one, other = decoupled_loss(z, A, B, lam, mode, power), decoupled_loss(z, B, A, 1 - lam, mode, power)
    assert one.item() == pytest.approx(other.item(), rel=1e-12)
    # Renaming the classes changes which of two is the smaller index, and nothing else.
    names = torch.tensor([4, 2, 3, 0, 1])
    renamed = decoupled_loss(z[:, names.argsort()], names[A], names[B], lam, mode, power)
    assert one.item() == pytest.approx(renamed.item(), rel=1e-12)
    if mode != "both" and lam in (0.2, 0.9):
        swapped = decoupled_loss(z, A, B, 1 - lam, mode, power)
        assert abs(one.item() - swapped.item()) > 1e-3


def test_more_takes_the_class_with_the_larger_share():
    z = torch.tensor([[0.0, 5.0, 1.0]], dtype=torch.float64)
    a, b = torch.tensor([1]), torch.tensor([0])
    strong = -math.log(math.exp(5) / (math.exp(5) + math.exp(1)))
    weak = -math.log(1 / (1 + math.exp(1)))
    assert decoupled_loss(z, a, b, 0.8, "more").item() == pytest.approx(strong)
    assert decoupled_loss(z, a, b, 0.8, "less").item() == pytest.approx(weak)
    assert decoupled_loss(z, a, b, 0.2, "more").item() == pytest.approx(weak)
    assert decoupled_loss(z, a, b, 0.8, "both", 1.0).item() == pytest.approx(0.8 * strong + 0.2 * weak)


def test_weights_at_the_edges():
    assert [weights(0.5, mode) for mode in MODES] == [(1.0, 1.0)] * 3
    assert weights(0.5, "more", 1.0) == weights(0.5, "less", 1.0) == (0.5, 0.5)
    assert [weights(lam, mode, power) for lam in (0.0, 1.0) for mode in MODES for power in POWERS] == [(0.0, 0.0)] * 18
    assert weights(0.64, "both", 0.5) == pytest.approx((0.8, 0.6))


def test_a_classs_weight_is_the_power_of_its_share():
    assert [class_weight(s, 0.0) for s in (0.0, 1e-12, 0.3, 1.0)] == [0.0, 1.0, 1.0, 1.0]
    assert class_weight(0.3, 1.0) == 0.3 and class_weight(0.25, 0.5) == 0.5


def test_pairs_of_one_class_contribute_nothing_and_count():
    z = logits()
    same = torch.equal(A[2], B[2])
    assert same and (A == B).sum() == 1
    keep = torch.tensor([0, 1, 3, 4])
    alone = decoupled_loss(z[keep], A[keep], B[keep], 0.3)
    assert decoupled_loss(z, A, B, 0.3).item() == pytest.approx(alone.item() * 4 / 5, rel=1e-13)
    assert decoupled_loss(z, A, A, 0.3) == 0
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(decoupled_loss(z, A, B, 0.3), z)
    assert (gradient[2] == 0).all() and (gradient[keep].abs().amax(1) > 1e-4).all()


def test_two_classes_leave_nothing_to_decouple():
    z = logits(classes=2).requires_grad_()
    a, b = torch.tensor([0, 1, 1, 0, 0]), torch.tensor([1, 0, 1, 1, 0])
    loss = decoupled_loss(z, a, b, 0.3)
    assert loss == 0 and (torch.autograd.grad(loss, z)[0] == 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lam", [0.3, 0.5])
def test_decoupled_loss_has_the_gradient_of_its_value(mode, lam):
    z = logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: decoupled_loss(t, A, B, lam, mode, 0.5), z)
    (gradient,) = torch.autograd.grad(decoupled_loss(z, A, B, lam, mode, 0.5), z)
    assert gradient.sum(1).abs().max() < 1e-14  # only differences of logits matter
    if mode == "more" and lam == 0.3:
        assert (gradient[torch.arange(5), A] == 0).all()  # the class with the smaller share is no option


@pytest.mark.parametrize("mode", MODES)
def test_decoupled_losses_of_huge_logits_are_finite(mode):
    z = (1e4 * logits(1.0, dtype=torch.float32).sign()).requires_grad_()
    for loss in (decoupled_loss(z, A, B, 0.3, mode), decoupled_binary_cross_entropy(z, A, B, 0.3)):
        (gradient,) = torch.autograd.grad(loss, z)
        assert loss.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("loss", [decoupled_loss, decoupled_binary_cross_entropy])
def test_decoupled_losses_are_compared_in_float32_at_least(loss):
    low = logits(dtype=torch.bfloat16)
    ours = loss(low, A, B, 0.3)
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(loss(low.double(), A, B, 0.3).item(), rel=1e-6)
    assert loss(low.double(), A, B, 0.3).dtype == torch.float64


def test_decoupled_loss_does_not_pit_the_two_classes_against_each_other():
    """The point of the method: mixup's cross-entropy charges class a for the logit of class b, this does not."""
    z = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    a, b = torch.tensor([0]), torch.tensor([1])
    (decoupled,) = torch.autograd.grad(decoupled_loss(z, a, b, 0.5), z)
    (coupled,) = torch.autograd.grad(mixed_cross_entropy(z, a, b, 0.5), z)
    assert decoupled[0, 0] < 0 and decoupled[0, 1] < 0  # both are raised
    assert coupled[0, 0] > 0 > coupled[0, 1]


# --------------------------------------------------------------------------------------------------------------------- BCE


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 1.0])
def test_binary_form_of_power_one_is_mixups_binary_cross_entropy(lam):
    z = logits()
    target = lam * F.one_hot(A, 5).double() + (1 - lam) * F.one_hot(B, 5).double()
    plain = F.binary_cross_entropy_with_logits(z, target, reduction="sum") / 5
    assert decoupled_binary_cross_entropy(z, A, B, lam).item() == pytest.approx(plain.item(), rel=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_binary_form_in_a_loop(lam, power):
    z, total = logits(), 0.0
    for row, a, b in zip(z.tolist(), A.tolist(), B.tolist(), strict=True):
        for c, value in enumerate(row):
            target = 0.0
            for share, own in ((lam, a), (1 - lam, b)):
                if c == own and share > 0:
                    target = share**power
            if c == a == b:
                target = 1.0
            p = 1 / (1 + math.exp(-value))
            total -= target * math.log(p) + (1 - target) * math.log(1 - p)
    ours = decoupled_binary_cross_entropy(z, A, B, lam, power)
    assert ours.item() == pytest.approx(total / 5, rel=1e-10)


def test_binary_form_of_one_class_is_bounded_below():
    """The authors' code adds the two targets of a pair of one class: 2 with power 0, and no least value."""
    z = torch.tensor([[50.0, -50.0]], dtype=torch.float64)
    a = torch.tensor([0])
    assert decoupled_binary_cross_entropy(z, a, a, 0.3, power=0.0).item() == pytest.approx(0, abs=1e-12)


def test_binary_form_has_the_gradient_of_its_value_and_either_order():
    z = logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: decoupled_binary_cross_entropy(t, A, B, 0.3, 0.5), z)
    one, other = (decoupled_binary_cross_entropy(z, *ab, lam, 0.5) for ab, lam in (((A, B), 0.3), ((B, A), 0.7)))
    assert one.item() == pytest.approx(other.item(), rel=1e-12)
