"""Label smoothing, against loops in float64 and torch's own."""

import oracles
import pytest
import torch
import torch.nn.functional as F

from sba.core.divergence import cross_entropy
from sba.core.errors import ConfigError
from sba.methods.label_smoothing import LabelSmoothing

LOGITS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.arange(7) % 5


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_it_is_the_cross_entropy_against_smoothed_labels(epsilon):
    expected = oracles.soft_cross_entropy(LOGITS.tolist(), oracles.smoothed(LABELS.tolist(), 5, epsilon))
    assert cross_entropy(LOGITS, LABELS, epsilon).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_is_prediction_minus_smoothed_label():
    logits = LOGITS.clone().requires_grad_()
    cross_entropy(logits, LABELS, 0.2).backward()
    targets = torch.tensor(oracles.smoothed(LABELS.tolist(), 5, 0.2), dtype=torch.float64)
    torch.testing.assert_close(logits.grad, (LOGITS.softmax(-1) - targets) / 7)


def test_it_works_in_float32_at_least():
    assert cross_entropy(LOGITS.bfloat16(), LABELS, 0.1).dtype == torch.float32
    assert torch.equal(cross_entropy(LOGITS, LABELS, 0.0), F.cross_entropy(LOGITS, LABELS))


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(epsilon):
    with pytest.raises(ConfigError, match=r"epsilon \(ε\): .* is not allowed; give a number in \[0, 1\)"):
        LabelSmoothing(epsilon=epsilon)
