"""What the functions of the core refuse: an unknown word is never taken for another setting."""

import re

import pytest
import torch

from sba import SBA, Vicinity, build
from sba.core.bases import basis
from sba.core.divergence import sba_objective
from sba.core.errors import ConfigError
from sba.core.feature_std import RunningFeatureStd
from sba.core.tail import Tail
from sba.core.vicinity import bounded_noise
from sba.methods.closed_form import noise_variance


def vicinity(**changed):
    fields = {name: getattr(SBA(), name) for name in Vicinity.__dataclass_fields__}
    return Vicinity(**fields | changed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounded_noise(torch.rand(3), 1.0, 1.0, "clamp"), "bound: 'clamp' is not known; give clip or truncate"),
        (lambda: vicinity(bound="Clip"), "bound: 'Clip' is not allowed; give clip or truncate"),
        (lambda: vicinity(tau=-1.0), "tau (τ/σ): -1.0 is not allowed; give a number above 0"),
        (lambda: vicinity(sigma=-0.1), "sigma (σ): -0.1 is not allowed; give a number from 0"),
        (lambda: vicinity(folds=0), "folds: 0 is not allowed; give an integer from 1"),
        (lambda: vicinity(gaussian_share=1.5), "gaussian_share: 1.5 is not allowed"),
        (lambda: vicinity(dropout_rate=1.0), "dropout_rate: 1.0 is not allowed; give a number in [0, 1)"),
        (lambda: vicinity(basis="qr"), "basis (Σ): 'qr' is not allowed; give one of colnorm"),
        (
            lambda: noise_variance(1.0, 1.0, "clamp"),
            "'clamp' are not allowed; give σ from 0, τ above 0, clip or truncate",
        ),
        (lambda: noise_variance(1.0, 0.0), "τ above 0"),
        (lambda: noise_variance(-1.0, 1.0), "give σ from 0"),
        (
            lambda: sba_objective(torch.zeros(2, 3), torch.tensor([0, 1]), None, 1.0, label="sfot"),
            "label: 'sfot' is not known; give soft or hard",
        ),
        (
            lambda: Tail(build("digits", 10, 1, 8), "conv1", True, "own"),
            "batch_norm: 'own' is not known; give one of raw, tracked, untracked, running",
        ),
        (
            lambda: Tail(build("digits", 10, 1, 8), "conv1", True, "raw").virtual(torch.randn(4, 16, 8, 8)),
            "batch_norm: 'raw' needs the raw batch's statistics; call raw() before virtual()",
        ),
        (lambda: basis("hadamard", 0, torch.Generator()), "an activation of shape (0,) has no features"),
        (
            lambda: RunningFeatureStd({"fc1": 3, "fc2": 4}).update("fc3", torch.ones(2, 3)),
            "layer: no running spread is kept for 'fc3'; give one of fc1, fc2",
        ),
    ],
)
def test_refused_with_field_value_and_fix(call, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        call()
