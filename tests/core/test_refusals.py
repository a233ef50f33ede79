"""What the functions of the core refuse: an unknown word is never taken for another setting."""

import re

import pytest
import torch

from sba import Vicinity, build
from sba.core.bases import basis
from sba.core.divergence import sba_objective
from sba.core.errors import ConfigError, MissingExtraError, require
from sba.core.feature_std import RunningFeatureStd
from sba.core.tail import Tail
from sba.core.vicinity import bounded_noise
from sba.methods.closed_form import noise_variance


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bounded_noise(torch.rand(3), 1.0, 1.0, "clamp"),
            "bound: 'clamp' is not allowed; give one of clip, truncate",
        ),
        (lambda: Vicinity(bound="Clip"), "bound: 'Clip' is not allowed; give one of clip, truncate"),
        (lambda: Vicinity(tau=-1.0), "tau (τ/σ): -1.0 is not allowed; give a number in (0, ∞)"),
        (lambda: Vicinity(sigma=-0.1), "sigma (σ): -0.1 is not allowed; give a number in [0, ∞)"),
        (lambda: Vicinity(folds=0), "folds (M): 0 is not allowed; give an integer in [1, ∞)"),
        (lambda: Vicinity(gaussian_share=1.5), "gaussian_share (p/M): 1.5 is not allowed; give a number in [0, 1]"),
        (lambda: Vicinity(dropout_rate=1.0), "dropout_rate (r): 1.0 is not allowed; give a number in [0, 1)"),
        (lambda: Vicinity(basis="qr"), "basis (Σ): 'qr' is not allowed; give one of colnorm"),
        (
            lambda: noise_variance(1.0, 1.0, "clamp"),
            "bound: 'clamp' is not allowed; give one of clip, truncate",
        ),
        (lambda: noise_variance(1.0, 0.0), "tau (τ/σ): 0.0 is not allowed"),
        (lambda: noise_variance(-1.0, 1.0), "sigma (σ): -1.0 is not allowed"),
        (
            lambda: sba_objective(torch.zeros(2, 3), torch.tensor([0, 1]), None, 1.0, label="sfot"),
            "label: 'sfot' is not allowed; give one of soft, hard",
        ),
        (
            lambda: Tail(build("digits", 10, 1, 8), "conv1", True, "own"),
            "batch_norm: 'own' is not allowed; give one of raw, tracked, untracked, running",
        ),
        (
            lambda: Tail(build("digits", 10, 1, 8), "conv1", True, "raw").virtual(torch.randn(4, 16, 8, 8)),
            "batch_norm: 'raw' needs the raw batch's statistics; call raw() before virtual()",
        ),
        (lambda: basis("hadamard", 0, torch.Generator()), "an activation of shape (0,) has no features"),
        (
            lambda: RunningFeatureStd({"fc1": 3, "fc2": 4}).update("fc3", torch.ones(2, 3)),
            "layer: no average is kept for 'fc3'; give one of fc1, fc2",
        ),
    ],
)
def test_refused_with_field_value_and_fix(call, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        call()


def test_a_missing_package_is_named_with_its_extra():
    require("sba.data", "train", "torch", "json")
    with pytest.raises(
        MissingExtraError, match=re.escape("sba.data imports no_such, not installed: pip install 'sba-torch[train]'")
    ):
        require("sba.data", "train", "torch", "no_such")
    assert issubclass(MissingExtraError, ImportError)
