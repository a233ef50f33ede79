"""Noise at a layer: against a loop, in its unit, and where nothing may change."""

import oracles
import pytest
import torch
from torch import nn

from sba import Staged, evaluate, make_run, train
from sba.data.augment import normalise
from sba.measure import latent
from sba.measure.latent import shaken


@pytest.fixture
def network(small):
    training = train(make_run(epochs=3, batch_size=16), small)
    list(training)
    return training.network


def test_against_the_loop(small, network, monkeypatch):
    """Two batches, each with its own unit; errors and divergences image by image."""
    monkeypatch.setattr(latent, "EVALUATION_BATCH", 40)
    error, mean = shaken(network, small, "flatten", 0.7, seed=3)
    network.eval()
    generator = torch.Generator().manual_seed(3)
    wrong, divergence = 0, 0.0
    for images, labels in zip(small.test.images.split(40), small.test.labels.split(40), strict=True):
        h = network(normalise(images, small.mean, small.std), until="flatten").detach()
        normal = torch.randn(h.shape, generator=generator)
        spread = [v**0.5 for v in oracles.batch_variance(h.tolist())]
        moved = h + 0.7 * torch.tensor(spread) * normal
        raw, shifted = (network(rows, after="flatten").tolist() for rows in (h, moved))
        for z, z_moved, label in zip(raw, shifted, labels.tolist(), strict=True):
            wrong += z_moved.index(max(z_moved)) != label
            divergence += oracles.divergence(z, z_moved)
    assert error == pytest.approx(100 * wrong / 60)
    assert mean == pytest.approx(divergence / 60, rel=1e-4)
    assert mean > 0


@pytest.mark.parametrize("layer", ["input", "conv1", "conv2", "flatten", "fc1"])
def test_no_noise_is_the_plain_error_and_no_divergence(small, network, layer):
    network.train()
    error, divergence = shaken(network, small, layer, 0.0)
    assert error == pytest.approx(evaluate(network, small).error)
    assert divergence == 0 and network.training


def test_more_noise_moves_predictions_further(small, network):
    found = [shaken(network, small, "flatten", s)[1] for s in (0.1, 0.5, 2.0)]
    assert found[0] < found[1] < found[2]


def test_the_unit_is_the_features_own_spread(small):
    """A layer that is scaled feature by feature, and scaled back behind, is shaken alike."""
    torch.manual_seed(0)
    factors = torch.rand(64) + 0.5

    class Scaled(nn.Module):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def forward(self, x):
            return x * self.by

    last = nn.Linear(64, 10)
    one = Staged([("flatten", nn.Flatten()), ("fc", last)], (1, 8, 8))
    other = Staged(
        [
            ("flatten", nn.Sequential(nn.Flatten(), Scaled(factors))),
            ("fc", nn.Sequential(Scaled(1 / factors), last)),
        ],
        (1, 8, 8),
    )
    a, b = (shaken(n, small, "flatten", 0.5, seed=1) for n in (one, other))
    assert a == (b[0], pytest.approx(b[1], rel=1e-4))


def test_a_feature_that_never_moves_gets_no_noise(small):
    seen, still = [], torch.arange(64) % 2 == 0

    class Still(nn.Module):
        def forward(self, x):
            return x.flatten(1).masked_fill(still, 1.0)

    class Noted(nn.Module):
        def forward(self, h):
            seen.append(h)
            return h[:, :10]

    shaken(Staged([("still", Still()), ("noted", Noted())], (1, 8, 8)), small, "still", 0.5)
    raw, moved = seen
    assert torch.equal(moved[:, still], raw[:, still]) and not torch.equal(moved, raw)
