"""mixup, manifold mixup and CutMix against loops, closed forms, and torchvision's transforms given their own draws."""

import math

import numpy as np
import oracles
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from sba.methods.mixup import beta, cutmix, cutmix_box, mix, mixed_binary_cross_entropy, mixed_cross_entropy

ROWS, CLASSES = 6, 5
LABELS, PARTNER_LABELS = torch.tensor([0, 1, 4, 2, 2, 3]), torch.tensor([1, 0, 4, 3, 2, 0])
LAMBDAS = [0.0, 0.3, 0.5, 0.8, 1.0]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(scale=3.0, dtype=torch.float64, rows=ROWS, classes=CLASSES):
    return (scale * torch.randn(rows, classes, generator=generator(), dtype=torch.float64)).to(dtype)


# ---------------------------------------------------------------------------------------------------------- the weight λ


def test_beta_is_the_inverse_distribution_function_in_closed_form():
    for u in np.linspace(0, 1, 41):
        assert beta(u, 1.0) == pytest.approx(u, abs=1e-15)
        assert beta(u, 0.5) == pytest.approx(math.sin(math.pi * u / 2) ** 2, abs=1e-12)  # the arcsine law
        assert beta(u, 2.0) ** 2 * (3 - 2 * beta(u, 2.0)) == pytest.approx(u, abs=1e-12)  # 6 x (1 − x), integrated


def test_beta_draws_have_the_law_of_numpys():
    ours = [beta(u, 0.2) for u in np.random.default_rng(0).random(4000)]
    theirs = np.random.default_rng(1).beta(0.2, 0.2, 4000)
    assert scipy.stats.ks_2samp(ours, theirs).pvalue > 0.01
    assert np.var(ours) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), rel=0.03)


@given(st.floats(0, 1), st.sampled_from([1e-300, 1e-8, 1e-3, 0.1, 1.0, 10.0, 1e6]))
def test_beta_is_symmetric_and_never_leaves_the_interval(u, alpha):
    lam = beta(u, alpha)
    assert 0 <= lam <= 1
    if 1 - (1 - u) == u:
        assert beta(1 - u, alpha) == pytest.approx(1 - lam, abs=1e-15)
    if 1e-6 < lam < 1 - 1e-6:
        assert scipy.special.betainc(alpha, alpha, lam) == pytest.approx(u, rel=1e-6)


def test_beta_of_tiny_alpha_mixes_nothing_on_either_side():
    for u in (0.0, 1e-300, 0.1, 0.4, 0.6, 0.9, 1 - 2**-53):
        lam = beta(u, 1e-9)
        assert lam == (u > 0.5) and 1 - lam == (u < 0.5)


def test_alpha_zero_is_plain_training():
    assert beta(0.0, 0.0) == beta(0.3, 0.0) == 1.0 and isinstance(beta(0.3, 0.0), float)
    assert isinstance(beta(0.3, 0.4), float)


# ------------------------------------------------------------------------------------------------------------------ mixup


@pytest.mark.parametrize("lam", LAMBDAS)
def test_mix_in_a_loop(lam):
    x, partners = torch.rand(4, 3, 2, 2, generator=generator(), dtype=torch.float64), torch.tensor([2, 0, 3, 3])
    mixed = mix(x, partners, lam)
    for i, j in enumerate([2, 0, 3, 3]):
        for place in np.ndindex(3, 2, 2):
            expected = lam * x[i][place].item() + (1 - lam) * x[j][place].item()
            assert mixed[i][place].item() == pytest.approx(expected, abs=1e-15)


def test_mix_at_one_is_the_batch_itself_even_beside_numbers_that_are_not_finite():
    x = torch.tensor([[1.0], [math.inf], [math.nan]])
    assert mix(x, torch.tensor([1, 2, 0]), 1.0) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_mix_keeps_type_and_memory_format_and_leaves_the_batch_alone(dtype):
    x = torch.rand(4, 3, 5, 5, generator=generator()).to(dtype).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    mixed = mix(x, torch.tensor([1, 2, 3, 0]), 0.3)
    assert mixed.dtype == dtype and mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


def test_mix_sends_gradients_to_both_samples():
    x = torch.rand(3, 2, generator=generator(), dtype=torch.float64, requires_grad=True)
    partners = torch.tensor([1, 2, 1])
    assert torch.autograd.gradcheck(lambda h: mix(h, partners, 0.3), x)
    (gradient,) = torch.autograd.grad(mix(x, partners, 0.3).sum(), x)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([0.3, 0.3 + 0.7 + 0.7, 0.3 + 0.7], dtype=torch.float64))


@pytest.mark.parametrize("seed", range(3))
def test_mixup_is_torchvisions_given_its_draws(seed):
    """v2.MixUp mixes each row with the row before it, and mixes one-hot labels."""
    x, labels = torch.rand(ROWS, 3, 8, 8, generator=generator(seed)), LABELS
    transform = v2.MixUp(alpha=0.4, num_classes=CLASSES)
    torch.manual_seed(seed)
    lam = transform.make_params([x])["lam"]
    torch.manual_seed(seed)
    images, soft = transform(x, labels)
    partners = torch.arange(ROWS).roll(1)
    torch.testing.assert_close(mix(x, partners, lam), images, rtol=0, atol=1e-6)
    z = logits(dtype=torch.float32)
    torch.testing.assert_close(mixed_cross_entropy(z, labels, labels[partners], lam), F.cross_entropy(z, soft))


@pytest.mark.parametrize("lam", LAMBDAS)
def test_mixed_cross_entropy_in_a_loop(lam):
    z = logits()
    ours = mixed_cross_entropy(z, LABELS, PARTNER_LABELS, lam).item()
    first, second = (oracles.cross_entropy(z.tolist(), y.tolist()) for y in (LABELS, PARTNER_LABELS))
    assert ours == pytest.approx(lam * first + (1 - lam) * second, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_mixed_cross_entropy_at_one_is_plain_bit_for_bit(dtype):
    z = logits(dtype=dtype)
    plain = F.cross_entropy(z if dtype == torch.float64 else z.float(), LABELS)
    assert torch.equal(mixed_cross_entropy(z, LABELS, PARTNER_LABELS, 1.0), plain)


@pytest.mark.parametrize("loss", [mixed_cross_entropy, mixed_binary_cross_entropy])
def test_mixed_losses_are_symmetric_in_float32_at_least_and_have_a_gradient(loss):
    z = logits().requires_grad_()
    assert loss(z, LABELS, PARTNER_LABELS, 0.3).item() == pytest.approx(loss(z, PARTNER_LABELS, LABELS, 0.7).item())
    assert torch.autograd.gradcheck(lambda t: loss(t, LABELS, PARTNER_LABELS, 0.3), z)
    low = logits(dtype=torch.bfloat16)
    assert loss(low, LABELS, PARTNER_LABELS, 0.3).dtype == torch.float32
    exact = loss(low.double(), LABELS, PARTNER_LABELS, 0.3).item()
    assert loss(low, LABELS, PARTNER_LABELS, 0.3).item() == pytest.approx(exact, rel=1e-6)


# ---------------------------------------------------------------------------------------------------------- manifold mixup


@pytest.mark.parametrize("lam", LAMBDAS)
def test_mixed_binary_cross_entropy_is_the_authors_call(lam):
    """``BCELoss()(Softmax(dim=1)(output), reweighted_target)`` of their ``main.py``."""
    z = logits()
    first, second = (F.one_hot(y, CLASSES).double() for y in (LABELS, PARTNER_LABELS))
    theirs = F.binary_cross_entropy(z.softmax(1), lam * first + (1 - lam) * second)
    assert mixed_binary_cross_entropy(z, LABELS, PARTNER_LABELS, lam).item() == pytest.approx(theirs.item(), rel=1e-12)


def test_mixed_binary_cross_entropy_in_a_loop():
    z, lam, total = logits(), 0.3, 0.0
    for row, a, b in zip(z.tolist(), LABELS.tolist(), PARTNER_LABELS.tolist(), strict=True):
        for c, p in enumerate(oracles.softmax(row)):
            target = lam * (c == a) + (1 - lam) * (c == b)
            total -= target * math.log(p) + (1 - target) * math.log(1 - p)
    ours = mixed_binary_cross_entropy(z, LABELS, PARTNER_LABELS, lam)
    assert ours.item() == pytest.approx(total / (ROWS * CLASSES), rel=1e-12)


def test_mixed_binary_cross_entropy_keeps_the_digits_of_confident_predictions():
    """At a margin of 30 nats float32 has rounded 1 − p to 0; from there on ``BCELoss`` says −100 and has no gradient."""
    z = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=True)
    loss = mixed_binary_cross_entropy(z, torch.tensor([1]), torch.tensor([2]), 0.5)
    log_not_p = math.log(2) - math.log(math.exp(30) + 2)
    expected = (
        -(log_not_p + (-30) / 2 * 2) / 3
    )  # class 0: target 0; classes 1 and 2: target ½, log p = −30, log(1 − p) ≈ 0
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, z)
    assert gradient[0, 0].item() == pytest.approx((1 + 1) / 3, rel=1e-6)


@pytest.mark.parametrize("loss", [mixed_cross_entropy, mixed_binary_cross_entropy])
def test_mixed_losses_of_huge_logits_are_finite(loss):
    z = (1e4 * logits(1.0, torch.float32).sign()).requires_grad_()
    for lam in LAMBDAS:
        value = loss(z, LABELS, PARTNER_LABELS, lam)
        (gradient,) = torch.autograd.grad(value, z)
        assert value.isfinite() and gradient.isfinite().all()


# ------------------------------------------------------------------------------------------------------------------ CutMix


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_is_torchvisions_given_its_draws(seed):
    height, width = 9, 14
    x = torch.rand(ROWS, 3, height, width, generator=generator(seed))
    transform = v2.CutMix(alpha=1.0, num_classes=CLASSES)
    torch.manual_seed(seed)
    drawn = float(torch.distributions.Beta(torch.tensor([1.0]), torch.tensor([1.0])).sample())
    column, row = torch.randint(width, (1,)).item(), torch.randint(height, (1,)).item()
    torch.manual_seed(seed)
    parameters = transform.make_params([x])
    torch.manual_seed(seed)
    images, _ = transform(x, LABELS)
    box = cutmix_box(drawn, height, width, row, column)
    left, top, right, bottom = parameters["box"]
    assert box == (top, bottom, left, right)
    mixed, lam = cutmix(x, torch.arange(ROWS).roll(1), box)
    assert torch.equal(mixed, images) and lam == pytest.approx(parameters["lam_adjusted"], abs=1e-15)


def test_cutmix_weight_is_the_share_of_pixels_that_stayed():
    rng, clipped = np.random.default_rng(0), 0
    for _ in range(100):
        height, width = rng.integers(1, 12, 2).tolist()
        drawn, row, column = rng.random(), rng.integers(height), rng.integers(width)
        box = cutmix_box(drawn, height, width, row, column)
        images = torch.zeros(2, 1, height, width)
        images[1] = 1
        mixed, lam = cutmix(images, torch.tensor([1, 0]), box)
        assert (
            lam
            == pytest.approx(1 - mixed[0].mean().item(), abs=1e-6)
            == pytest.approx(mixed[1].mean().item(), abs=1e-6)
        )
        assert lam >= drawn - 1e-12  # rounding and borders only take pixels away
        assert (images[0] == 0).all()
        clipped += box[0] == 0 or box[2] == 0
    assert clipped > 10


def test_cutmix_of_the_middle_cuts_the_sides_by_the_root_of_the_share():
    assert cutmix_box(0.75, 32, 16, 16, 8) == (8, 24, 4, 12)
    assert cutmix_box(0.0, 32, 32, 16, 16) == (0, 32, 0, 32)
    assert cutmix_box(0.75, 32, 32, 0, 31) == (0, 8, 23, 32)


def test_cutmix_with_an_empty_box_is_plain():
    x = torch.rand(3, 1, 8, 8, generator=generator())
    for drawn in (1.0, 0.99):
        mixed, lam = cutmix(x, torch.tensor([1, 2, 0]), cutmix_box(drawn, 8, 8, 4, 4))
        assert mixed is x and lam == 1.0


def test_cutmix_with_a_full_box_is_the_partners():
    x, partners = torch.rand(3, 2, 8, 8, generator=generator()), torch.tensor([1, 2, 0])
    mixed, lam = cutmix(x, partners, cutmix_box(0.0, 8, 8, 4, 4))
    assert torch.equal(mixed, x[partners]) and lam == 0.0
