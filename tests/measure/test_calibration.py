"""Calibration: against torchmetrics, scikit-learn and a slow oracle, and where the answer is known."""

import numpy as np
import oracles
import oracles_measure
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import brier_score_loss

from sba.core.errors import ConfigError
from sba.measure.calibration import brier_score, reliability


def drawn(n, classes, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (n,), generator=generator)


@pytest.mark.xdist_group("torchmetrics")
@pytest.mark.parametrize(("n", "classes", "bins"), [(500, 10, 15), (40, 2, 10), (1, 3, 15), (200, 4, 1)])
def test_the_calibration_error_is_that_of_torchmetrics(n, classes, bins):
    # it takes seconds to load, and one process of the tests needs it
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = drawn(n, classes)
    expected = multiclass_calibration_error(logits.softmax(1), labels, num_classes=classes, n_bins=bins, norm="l1")
    assert reliability(logits, labels, bins).error == pytest.approx(expected.item(), abs=1e-6)  # it computes in float32


@pytest.mark.parametrize(("n", "classes"), [(500, 10), (40, 2), (3, 5)])
def test_the_brier_score_is_that_of_scikit_learn(n, classes):
    logits, labels = drawn(n, classes)
    expected = brier_score_loss(
        labels.numpy(), logits.softmax(1).numpy(), labels=list(range(classes)), scale_by_half=False
    )
    assert brier_score(logits, labels) == pytest.approx(expected, abs=1e-12)


problems = arrays.arrays(np.float64, (7, 3), elements=st.floats(-20, 20))


@given(problems, st.lists(st.integers(0, 2), min_size=7, max_size=7), st.integers(1, 20))
def test_bins_and_scores_are_those_of_plain_loops(logits, labels, bins):
    own = reliability(torch.tensor(logits), torch.tensor(labels), bins)
    counts, confidence, accuracy, error = oracles_measure.calibration(logits.tolist(), labels, bins)
    # rounding may put a confidence that lies on an edge into either bin
    if own.counts.tolist() == counts:
        assert own.confidence.tolist() == pytest.approx(confidence, abs=1e-12)
        assert own.accuracy.tolist() == pytest.approx(accuracy, abs=1e-12)
        assert own.error == pytest.approx(error, abs=1e-12)
    else:
        edges = [abs(max(oracles.softmax(row)) * bins - round(max(oracles.softmax(row)) * bins)) for row in logits]
        assert min(edges) < 1e-9
    assert own.counts.sum() == 7
    expected = np.mean([oracles_measure.brier(row, label) for row, label in zip(logits.tolist(), labels, strict=True)])
    assert brier_score(torch.tensor(logits), torch.tensor(labels)) == pytest.approx(expected, abs=1e-12)


def test_certainty_is_in_the_last_bin_and_costs_what_it_errs():
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0], [0.0, 200.0], [0.0, 200.0]])
    labels = torch.tensor([0, 0, 1, 0])
    own = reliability(logits, labels)
    assert own.counts.tolist() == [0] * 14 + [4]
    assert (own.confidence[-1], own.accuracy[-1]) == (1.0, 0.75)
    assert own.error == 0.25
    assert brier_score(logits, labels) == 0.5


def test_a_network_that_knows_nothing_and_says_so_is_calibrated():
    labels = torch.arange(4)
    own = reliability(torch.zeros(4, 4), labels)
    assert own.error == 0 and own.counts[3] == 4
    assert brier_score(torch.zeros(4, 4), labels) == 0.75


@pytest.mark.parametrize("logits", [torch.zeros(0, 3), torch.zeros(3)])
def test_nothing_to_average_over_is_refused(logits):
    with pytest.raises(ConfigError, match=r"logits: shape .* is not allowed; give \(N, C\) with N from 1"):
        reliability(logits, torch.zeros(len(logits), dtype=torch.long))
    with pytest.raises(ConfigError, match="logits: shape"):
        brier_score(logits, torch.zeros(len(logits), dtype=torch.long))


def test_no_bins_are_refused():
    with pytest.raises(ConfigError, match="bins: 0 is not allowed; give an integer from 1"):
        reliability(*drawn(3, 2), bins=0)
