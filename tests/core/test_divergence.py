"""The losses of virtual points, Eqs. 9–11, against loops in float64."""

import math

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sba.core.divergence import hard_loss, kl, sba_objective, soft_loss

BATCH, FOLDS, CLASSES = 4, 3, 10


def logits(rows, seed=0, **options):
    return 3 * torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **options)


def scene():
    return logits(BATCH), logits(FOLDS * BATCH, seed=1), torch.tensor([2, 0, 9, 2])


rows = arrays.arrays(float, CLASSES, elements=st.floats(-30, 30))


@given(rows, rows)
def test_kl_is_the_bregman_divergence_of_log_sum_exp(z, v):
    """KL(Y ‖ Y′) = lse(z′) − lse(z) − Yᵀ(z′ − z)."""
    z, v = torch.from_numpy(z), torch.from_numpy(v)
    identity = v.logsumexp(0) - z.logsumexp(0) - z.softmax(0) @ (v - z)
    assert kl(z, v).item() == pytest.approx(identity.item(), rel=0, abs=1e-12)
    assert kl(z, v).item() == pytest.approx(oracles.divergence(z.tolist(), v.tolist()), rel=1e-9, abs=1e-12)
    assert kl(z, v) >= -1e-13 and abs(kl(z, z + 5)) < 1e-13


def test_kl_is_of_second_order_and_half_the_chi_square():
    """The first-order term of Eqs. 13–14 vanishes: halving the step quarters the divergence."""
    z, direction = logits(1)[0], logits(1, seed=2)[0]
    steps = [2.0**-i for i in range(8, 14)]
    values = [kl(z, z + s * direction).item() for s in steps]
    assert np.polyfit(np.log(steps), np.log(values), 1)[0] == pytest.approx(2, abs=5e-3)
    y, moved = z.softmax(0), (z + steps[-1] * direction).softmax(0)
    assert values[-1] == pytest.approx(((moved - y) ** 2 / y).sum().item() / 2, rel=1e-2)


def test_kl_of_certain_predictions_is_finite():
    z = torch.tensor([1e4, 0.0, -1e4])
    assert kl(z, -z).item() == pytest.approx(2e4)
    assert kl(z, z) == 0


def test_eq9_hard_loss():
    _, virtual, labels = scene()
    assert hard_loss(virtual, labels).item() == pytest.approx(oracles.hard_loss(virtual.tolist(), labels.tolist()))


def test_eq10_soft_loss():
    reference, virtual, _ = scene()
    expected = oracles.soft_loss(reference.tolist(), virtual.tolist())
    assert soft_loss(reference, virtual).item() == pytest.approx(expected, rel=1e-13)


def test_eq10_pairs_each_virtual_point_with_its_own_raw_point():
    reference, _, _ = scene()
    assert soft_loss(reference, reference.repeat(FOLDS, 1)) == 0
    assert soft_loss(reference, reference.repeat_interleave(FOLDS, 0)) > 0.1


def test_eq11_objective():
    reference, virtual, labels = scene()
    terms = sba_objective(reference, labels, virtual, eta=0.3)
    assert list(terms) == ["cross_entropy", "virtual"]
    expected = oracles.objective(reference.tolist(), labels.tolist(), virtual.tolist(), 0.3)
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-13)


def test_eq11_with_a_teacher_of_its_own():
    """The divergence is from the reference's distribution, the cross-entropy that of the raw logits."""
    raw, virtual, labels = scene()
    reference = logits(BATCH, seed=5)
    terms = sba_objective(raw, labels, virtual, eta=0.3, reference=reference)
    assert terms["virtual"].item() == pytest.approx(0.3 * oracles.soft_loss(reference.tolist(), virtual.tolist()))
    assert terms["cross_entropy"].item() == pytest.approx(oracles.cross_entropy(raw.tolist(), labels.tolist()))
    hard = sba_objective(raw, labels, virtual, eta=0.3, label="hard", reference=reference)
    assert torch.equal(hard["virtual"], sba_objective(raw, labels, virtual, eta=0.3, label="hard")["virtual"])


def test_the_teacher_is_detached_unless_told_otherwise():
    reference, virtual, labels = scene()
    reference.requires_grad_()
    virtual.requires_grad_()
    for loss in (soft_loss(reference, virtual), sba_objective(reference, labels, virtual, eta=1.0)["virtual"]):
        assert torch.autograd.grad(loss, reference, allow_unused=True) == (None,)


@pytest.mark.parametrize("detach", [True, False])
def test_eq11_detaches_the_teacher_it_is_given(detach):
    raw, virtual, labels = scene()
    reference = logits(BATCH, seed=5).requires_grad_()
    virtual.requires_grad_()
    loss = sba_objective(raw, labels, virtual, eta=0.3, detach=detach, reference=reference)["virtual"]
    (gradient,) = torch.autograd.grad(loss, reference, allow_unused=True)
    assert (gradient is None) == detach


def test_eq11_with_the_hard_label():
    reference, virtual, labels = scene()
    terms = sba_objective(reference, labels, virtual, eta=0.3, label="hard")
    assert terms["virtual"].item() == pytest.approx(0.3 * oracles.hard_loss(virtual.tolist(), labels.tolist()))


def test_eq11_without_augmentation_is_the_cross_entropy_alone():
    reference, _, labels = scene()
    terms = sba_objective(reference, labels, None, eta=0.3)
    assert list(terms) == ["cross_entropy"]
    assert terms["cross_entropy"].item() == pytest.approx(oracles.cross_entropy(reference.tolist(), labels.tolist()))


def test_the_mean_is_over_folds_and_batch_not_over_classes():
    reference, virtual, _ = scene()
    targets = reference.log_softmax(1).repeat(FOLDS, 1)
    numbers = F.kl_div(virtual.log_softmax(1), targets, reduction="none", log_target=True)
    batchmean = F.kl_div(virtual.log_softmax(1), targets, reduction="batchmean", log_target=True)
    assert soft_loss(reference, virtual).item() == pytest.approx(batchmean.item(), rel=1e-13)
    assert soft_loss(reference, virtual).item() == pytest.approx(CLASSES * numbers.mean().item(), rel=1e-13)


def test_the_detached_teacher_gets_no_gradient():
    reference, virtual, _ = scene()
    reference.requires_grad_()
    virtual.requires_grad_()
    student, teacher = torch.autograd.grad(soft_loss(reference, virtual), (virtual, reference), allow_unused=True)
    assert teacher is None
    # ∂KL/∂z′ = Y′ − Y, over M·B rows.
    expected = (virtual.softmax(1) - reference.softmax(1).repeat(FOLDS, 1)) / (FOLDS * BATCH)
    torch.testing.assert_close(student, expected)


def test_the_teacher_that_is_not_detached_gets_its_gradient():
    reference, virtual, _ = scene()
    reference.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: soft_loss(z, virtual, detach=False), reference)
    (gradient,) = torch.autograd.grad(soft_loss(reference, virtual, detach=False), reference)
    assert gradient.abs().max() > 1e-3


def test_low_precision_logits_are_compared_in_float32():
    reference, virtual, labels = scene()
    low, low_virtual = reference.bfloat16(), virtual.bfloat16()
    terms = sba_objective(low, labels, low_virtual, eta=1.0)
    assert {t.dtype for t in terms.values()} == {torch.float32}
    exact = oracles.objective(low.tolist(), labels.tolist(), low_virtual.tolist(), 1.0)
    assert sum(terms.values()).item() == pytest.approx(exact, rel=1e-6)
    assert hard_loss(low_virtual, labels).dtype == torch.float32


def test_kl_is_measured_in_nats():
    z, v = torch.tensor([0.0, 0.0]), torch.tensor([0.0, math.log(3)])
    assert kl(z, v).item() == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
