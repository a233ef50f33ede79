"""What the losses of the methods refuse: a share, an exponent or a mode that is none."""

import math
import re

import pytest
import torch

from sba.core.errors import ConfigError
from sba.methods.bamboo import ball
from sba.methods.closed_form import bernoulli_cumulant, dropout_bound, dropout_variance
from sba.methods.decoupled import class_weight, decoupled_binary_cross_entropy, decoupled_loss, weights
from sba.methods.isda import isda_logits
from sba.methods.kmixup import alpha_for, mean_squared_step
from sba.methods.mixup import beta, cutmix_box, mix, mixed_binary_cross_entropy, mixed_cross_entropy

Z, Y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
PAIR = (Z, Y, Y.roll(1))
SHARE = "lam (λ): {} is not allowed; give a number in [0, 1]"
ALPHA = "alpha (α): {} is not allowed; give a number in [0, ∞)"
MODE = "mode: 'most' is not allowed; give one of both, more, less"


@pytest.mark.parametrize("lam", [1.7, -0.2, math.nan])
@pytest.mark.parametrize(
    "call",
    [
        lambda lam: mix(Z, torch.arange(4), lam),
        lambda lam: mixed_cross_entropy(*PAIR, lam),
        lambda lam: mixed_binary_cross_entropy(*PAIR, lam),
        lambda lam: cutmix_box(lam, 8, 8, 3, 3),
        lambda lam: weights(lam),
        lambda lam: decoupled_loss(*PAIR, lam),
        lambda lam: decoupled_binary_cross_entropy(*PAIR, lam),
    ],
    ids=["mix", "ce", "bce", "box", "weights", "decoupled", "decoupled bce"],
)
def test_a_share_lies_between_0_and_1(call, lam):
    with pytest.raises(ConfigError, match=re.escape(SHARE.format(lam))):
        call(lam)


@pytest.mark.parametrize("alpha", [-0.5, math.inf, math.nan])
@pytest.mark.parametrize(
    "call",
    [lambda a: beta(0.3, a), mean_squared_step, lambda a: alpha_for(a, 0.5)],
    ids=["beta", "squared step", "k-mixup"],
)
def test_alpha_is_a_number_from_0(call, alpha):
    with pytest.raises(ConfigError, match=re.escape(ALPHA.format(alpha))):
        call(alpha)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: beta(1.2, 1.0), "u: 1.2 is not allowed; give a number in [0, 1]"),
        (lambda: weights(0.3, "most"), MODE),
        (lambda: weights(1.0, "most"), MODE),
        (lambda: decoupled_loss(*PAIR, 0.3, "most"), MODE),
        (lambda: class_weight(1.2, 1.0), "share (λ): 1.2 is not allowed; give a number in [0, 1]"),
        (lambda: class_weight(0.2, -1.0), "power: -1.0 is not allowed; give a number in [0, ∞)"),
        (
            lambda: isda_logits(Z, Y, torch.zeros(3, 3), -1.0),
            "strength (λ): -1.0 is not allowed; give a number in [0, ∞)",
        ),
        (
            lambda: ball((2, 3), 2, -1.0, torch.Generator()),
            "radius (r): -1.0 is not allowed; give a number in [0, ∞)",
        ),
        (lambda: dropout_variance(Z, 1.0, True), "dropout_rate (r): 1.0 is not allowed; give a number in [0, 1)"),
        (lambda: bernoulli_cumulant(Z, -0.1), "dropout_rate (r): -0.1 is not allowed; give a number in [0, 1)"),
        (lambda: dropout_bound(Z, Z, torch.eye(3), 1.5, True), "dropout_rate (r): 1.5 is not allowed"),
    ],
)
def test_refused_with_field_value_and_fix(call, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        call()
