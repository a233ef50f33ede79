"""R-Drop: two passes under dropout, against loops over pairs of logits, and on every kind of network that draws, or does not."""

import oracles
import pytest
import torch
from helpers import outcome, same, scene
from torch import nn
from torchvision.ops import StochasticDepth

from sba import ERM, Staged, attach, build, train
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.methods.r_drop import RDrop, parting, symmetric_divergence

NOW = Step(0, 3, 1, 0.5)


def terms(network, x, y, alpha=0.7, seed=0):
    torch.manual_seed(seed)
    return RDrop(alpha=alpha).terms(network, x, y, NOW, None)


def dropped(rate=0.5):
    torch.manual_seed(0)
    return build("mlp", 3, 2, 1, rate).double().train(), torch.randn(8, 2, 1, 1).double(), torch.arange(8) % 3


def test_the_divergence_is_the_mean_of_both_directions():
    first, second = torch.randn(2, 5, 4, dtype=torch.float64)
    expected = [
        (oracles.divergence(a, b) + oracles.divergence(b, a)) / 2
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert symmetric_divergence(first, second).tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(symmetric_divergence(first, second), symmetric_divergence(second, first))


@pytest.mark.parametrize("alpha", [0.1, 0.7, 5.0])
def test_the_loss_is_half_of_the_papers_by_hand(alpha):
    network, x, y = dropped()
    loss = sum(terms(network, x, y, alpha).values())
    torch.manual_seed(0)
    first, second = network(torch.cat([x, x])).chunk(2)
    assert (first - second).abs().min() > 0
    assert loss.item() == pytest.approx(oracles.r_drop(first.tolist(), second.tolist(), y.tolist(), alpha), rel=1e-12)


def test_gradients_flow_through_both_passes():
    network, x, y = dropped()
    divergence = terms(network, x, y)["divergence"]
    own = torch.autograd.grad(divergence, network.last_linear.weight)[0]
    torch.manual_seed(0)
    logits = network(torch.cat([x, x]))
    first, second = logits.chunk(2)
    pulled = 0.35 * (symmetric_divergence(first, second.detach()) + symmetric_divergence(first.detach(), second)).mean()
    torch.testing.assert_close(own, torch.autograd.grad(pulled, network.last_linear.weight)[0])


def test_its_cross_entropy_is_that_of_plain_training_on_two_copies():
    """α near 0 is no plain training, but a mean over two masks."""
    network, x, y = scene()
    found = terms(network, x, y)["cross_entropy"]
    torch.manual_seed(0)
    copies = ERM().terms(network, torch.cat([x, x]), torch.cat([y, y]), NOW, None)["cross_entropy"]
    torch.testing.assert_close(found, copies)


def test_equal_masks_leave_no_divergence():
    network, x, y = dropped()
    network.eval()
    assert terms(network, x, y)["divergence"].item() == pytest.approx(0, abs=1e-15)


def test_what_comes_before_the_first_draw_is_computed_once():
    """Batch normalisation there sees the batch once: its running averages are those of plain training, bit for bit."""
    states, rows = [], []
    for method in (RDrop(), ERM()):
        torch.manual_seed(0)
        network = build("digits", 10, 1, 8, 0.5).train()
        network[0].register_forward_pre_hook(lambda stage, inputs: rows.append(len(inputs[0])))
        method.terms(network, torch.randn(16, 1, 8, 8), torch.arange(16) % 10, NOW, None)
        states.append(dict(network.named_buffers()))
    assert same(*states) and rows == [16, 16]


def mixed(*middle):
    return Staged(
        [("fc1", nn.Linear(6, 8)), *((f"at{i}", m) for i, m in enumerate(middle)), ("fc2", nn.Linear(8, 4))], (6,)
    )


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (mixed(nn.ReLU(), nn.Dropout(0.1)), "at0"),
        (mixed(nn.Dropout(0.0), nn.Sequential(nn.ReLU(), nn.AlphaDropout(0.1)), nn.ReLU()), "at0"),
        (mixed(StochasticDepth(0.1, "row")), "fc1"),
        (mixed(nn.TransformerEncoderLayer(8, 2, dropout=0.1)), "fc1"),
        (Staged([("drop", nn.Dropout(0.2)), ("fc", nn.Linear(6, 4))], (6,)), "input"),
    ],
)
def test_the_passes_part_at_the_first_module_that_draws(network, layer):
    assert parting(network) == layer
    RDrop().check(network)


@pytest.mark.parametrize(
    "network",
    [build("resnet20", 10, 3, 32), build("mlp", 3, 2, 1), mixed(nn.Dropout(0.0), StochasticDepth(0.0, "row"))],
)
def test_a_network_without_dropout_is_refused(network):
    message = "method: 'r-drop' compares two passes under dropout, and this network has no module that does it"
    with pytest.raises(ConfigError, match=message):
        RDrop().check(network)
    x = torch.randn(4, *network.input_shape)
    with pytest.raises(ConfigError, match=message):
        RDrop().terms(network, x, torch.zeros(4).long(), NOW, None)
    with pytest.raises(ConfigError, match=message):
        attach(network, RDrop(), x, total_steps=5)
    RDrop(alpha=0.0).check(network)


def test_a_run_on_a_network_without_dropout_is_refused_before_the_first_step(run, small):
    with pytest.raises(ConfigError, match="this package's: feature_dropout, a rate above 0"):
        train(run(method="r-drop"), small)
    train(run(method="r-drop", network="digits_dropout"), small)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_an_attached_model_passes_twice_too(rate):
    """Where the pass can be cut, and from the input where it cannot: a model whose parts are called by one module of its own."""
    chain, x, y = dropped(rate)

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(*chain)

        def forward(self, x, unused=None):
            return self.inner(x)

    for model, given in ((nn.Sequential(*chain), x), (Whole(), x), (Whole(), (x, torch.zeros(8, 1)))):
        torch.manual_seed(0)
        criterion = attach(model.train(), RDrop(alpha=0.7), given, total_steps=5)
        torch.manual_seed(0)
        criterion(given, y)
        for name, term in terms(chain, x, y).items():
            torch.testing.assert_close(criterion.terms[name], term.detach())


def test_more_of_it_leaves_less_divergence(run, small):
    """Trained longer, with a larger α, the two passes agree more."""
    apart = []
    for alpha in (0.01, 10.0):
        records, _ = outcome(run(method="r-drop", alpha=alpha, feature_dropout=0.5, epochs=6), small)
        apart.append(records[-1][0]["divergence"] / alpha)
    assert apart[1] < 0.5 * apart[0]
